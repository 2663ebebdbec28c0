//! A cache of which broker coordinates each group and transactional id.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::call::CoordinatorKind;
use crate::error::{Error, ErrorClass};
use crate::wire::error_code::ErrorCode;

/// The coordinators found so far.
#[derive(Debug, Default)]
pub struct Coordinators {
    known: BTreeMap<CoordinatorKind, BTreeMap<Arc<str>, i32>>,
}

impl Coordinators {
    /// The broker that `FindCoordinator` named last, unless it has failed since.
    pub fn get(&self, key: &str, kind: CoordinatorKind) -> Option<i32> {
        self.known.get(&kind)?.get(key).copied()
    }

    /// Remembers the answer to a `FindCoordinator`.
    pub fn learn(&mut self, key: Arc<str>, kind: CoordinatorKind, broker_id: i32) {
        self.known.entry(kind).or_default().insert(key, broker_id);
    }

    /// Notes that a request to the coordinator failed. If the error may mean that the coordinator has moved, the entry
    /// is dropped and the next request looks it up again.
    pub fn handle_error(&mut self, key: &str, kind: CoordinatorKind, error: &Error) {
        let is_silent = matches!(error.class(), ErrorClass::Unreachable | ErrorClass::TimedOut);
        let may_have_moved = is_silent || error.code().is_some_and(ErrorCode::moves_coordinator);
        if may_have_moved && let Some(known) = self.known.get_mut(&kind) {
            known.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Phase};

    #[test]
    fn a_coordinator_is_remembered_until_an_error_says_that_it_may_have_moved() {
        let broker = |code| Error::from_code(code).unwrap();
        for (error, is_kept) in [
            (broker(ErrorCode::NOT_COORDINATOR), false),
            (broker(ErrorCode::COORDINATOR_NOT_AVAILABLE), false),
            (Error::new(ErrorKind::Disconnected, "gone"), false),
            (Error::new(ErrorKind::TimedOut(Phase::Request), "silent"), false),
            (broker(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), true),
            (broker(ErrorCode::GROUP_AUTHORIZATION_FAILED), true),
        ] {
            let mut coordinators = Coordinators::default();
            coordinators.learn("billing".into(), CoordinatorKind::Group, 3);
            assert_eq!(coordinators.get("billing", CoordinatorKind::Transaction), None);
            coordinators.handle_error("billing", CoordinatorKind::Transaction, &error);
            coordinators.handle_error("shipping", CoordinatorKind::Group, &error);
            assert_eq!(coordinators.get("billing", CoordinatorKind::Group), Some(3));
            coordinators.handle_error("billing", CoordinatorKind::Group, &error);
            assert_eq!(coordinators.get("billing", CoordinatorKind::Group).is_some(), is_kept, "{error}");
        }
    }
}

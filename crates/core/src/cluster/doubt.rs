//! When a broker is not believed that a topic does not exist.
//!
//! A broker that has just started does not know its topics until the controller has told it, and meanwhile answers
//! `UNKNOWN_TOPIC_OR_PARTITION`: to requests for metadata, and, as the leader, to those for records. With ZooKeeper the
//! controller may be elected only when the session of the killed broker is over, and a loaded machine takes longer
//! still. If such a topic counted as deleted, records that were accepted would be given up.
//!
//! So a topic that is known keeps its place in the snapshot while that may be the reason. For producers and consumers
//! a topic is deleted only if the snapshot says so, too; both then wait for some seconds of their own, in case that one
//! broker lags behind the others.

use std::time::Duration;

use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::MetadataResponse;

/// How long a broker that may have restarted is given to learn of its topics.
const CATCH_UP: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// When a broker was last lost or came back.
    restarted_at: Option<Instant>,
}

impl Doubt {
    /// A broker was lost or is back. Which one does not matter: any of them answers requests for metadata.
    pub(super) fn handle_possible_restart(&mut self, now: Instant) {
        self.restarted_at = Some(now);
    }

    /// Until when it does not count that this answer lacks a topic; `None` if it counts. `soon` is when to ask again if
    /// the broker knows nothing at all.
    pub(super) fn until(&self, now: Instant, answer: &MetadataResponse, soon: Instant) -> Option<Instant> {
        let caught_up_at = self.restarted_at.map(|at| at + CATCH_UP).filter(|at| *at > now);
        // A broker that answers without an error and names not even itself has heard nothing from its controller yet.
        let is_blank = answer.brokers.is_empty() && answer.error_code == ErrorCode::NONE;
        caught_up_at.or_else(|| is_blank.then_some(soon))
    }
}

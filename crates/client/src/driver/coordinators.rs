//! Which broker coordinates a group or a transactional id: the remembered one, or the answer to one `FindCoordinator`.

use std::sync::Arc;

use kavka_core::cluster::{self, Call, CoordinatorKind, Target};
use kavka_core::error::{Error, Result};
use kavka_core::wire::messages::FindCoordinatorRequest;
use kavka_core::wire::messages::find_coordinator::FIND_ONE_COORDINATOR;
use tokio::sync::watch;

use super::Driver;

/// A look-up under way; becomes `Some` when it has ended.
pub(super) type Finding = watch::Receiver<Option<Result<i32>>>;

impl Driver {
    /// The remembered coordinator, if it has not failed since.
    pub(crate) fn known_coordinator(&self, key: &str, kind: CoordinatorKind) -> Option<i32> {
        self.shared.lock().coordinators.get(key, kind)
    }

    /// Forgets the coordinator, if the error may mean that it has moved.
    pub(crate) fn handle_coordinator_error(&self, key: &str, kind: CoordinatorKind, error: &Error) {
        self.shared.lock().coordinators.handle_error(key, kind, error);
    }

    /// The coordinator. However many callers ask for it at once, one request is sent.
    pub(crate) async fn find_coordinator(&self, key: &Arc<str>, kind: CoordinatorKind) -> Result<i32> {
        if let Some(broker_id) = self.known_coordinator(key, kind) {
            return Ok(broker_id);
        }
        let mut finding = self.finding(key, kind);
        let found = finding.wait_for(Option::is_some).await;
        // Nothing is sent only if the engine has ended.
        found.ok().and_then(|found| found.clone()).unwrap_or_else(|| Err(super::closed()))
    }

    /// The look-up under way, or a new one. It has a task of its own, because a caller may give up while others wait.
    fn finding(&self, key: &Arc<str>, kind: CoordinatorKind) -> Finding {
        let mut state = self.shared.lock();
        let of = (kind, Arc::clone(key));
        if let Some(finding) = state.finding.get(&of) {
            return finding.clone();
        }
        let (found, finding) = watch::channel(None);
        state.finding.insert(of.clone(), finding.clone());
        drop(state);
        let driver = self.clone();
        self.spawn(async move {
            let outcome = driver.ask_for_coordinator(&of.1, kind).await;
            // The look-up is removed before its outcome is published. A caller that asks after this starts another one,
            // so nobody gets an answer that is older than the question.
            driver.shared.lock().finding.remove(&of);
            found.send_replace(Some(outcome));
        });
        finding
    }

    async fn ask_for_coordinator(&self, key: &Arc<str>, kind: CoordinatorKind) -> Result<i32> {
        let request = FindCoordinatorRequest { key: key.to_string(), key_type: kind.key_type(), ..Default::default() };
        let response = self.send(Call { max_version: FIND_ONE_COORDINATOR, ..Call::new(Target::Any, request) }).await?;
        if let Some(error) = Error::from_code(response.error_code) {
            return Err(error);
        }
        let broker_id = response.node_id;
        let broker = cluster::Broker::new(broker_id, &response.host, response.port, None);
        let mut state = self.shared.lock();
        state.coordinators.learn(Arc::clone(key), kind, broker_id);
        // The answer has the address, so a broker that the metadata does not name yet costs no other request.
        if broker.is_some_and(|broker| state.refresh.handle_broker(broker)) {
            let metadata = Arc::clone(state.refresh.metadata());
            drop(state);
            self.shared.metadata.publish(&metadata);
        }
        Ok(broker_id)
    }
}

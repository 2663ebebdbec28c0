//! The metadata task, which keeps the metadata fresh, and what others ask of it.
//!
//! [`MetadataRefresh`] has the rules. This file has two watch channels: the newest snapshot, for the machines, and the
//! outcome of the requests, for callers that wait for one.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use kavka_core::cluster::{Call, Metadata, Notice, Outdated, RefreshOutcomes, Target, Ticket};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::metadata::{CREATES_ON_REQUEST_SINCE, MetadataRequestTopic, MetadataResponseTopic};
use kavka_core::wire::messages::{MetadataRequest, MetadataResponse};
use tokio::sync::watch;

use super::{Driver, Switchboard};
use crate::role::{PendingResponse, Role, Turn, Wake};

/// The newest snapshot, published to the other tasks.
#[derive(Default)]
pub(super) struct Snapshots {
    newest: watch::Sender<Arc<Metadata>>,
    progress: watch::Sender<RefreshOutcomes>,
    pub(super) wake: Wake,
}

impl Snapshots {
    pub(super) fn publish(&self, metadata: &Arc<Metadata>) {
        // Several threads make snapshots under the lock and publish them outside it, so an older one may come last.
        self.newest.send_if_modified(|current| {
            let is_newer = metadata.version > current.version;
            if is_newer {
                *current = Arc::clone(metadata);
            }
            is_newer
        });
    }
}

/// The metadata task.
impl Role for Driver {
    type Request = MetadataRequest;
    type Response = MetadataResponse;

    fn driver(&self) -> &Driver {
        self
    }

    fn wake(&self) -> &Wake {
        &self.shared.metadata.wake
    }

    fn turn(&self, now: Instant, _: &Arc<Metadata>, calls: &mut Vec<Call<MetadataRequest>>) -> Turn {
        let mut state = self.shared.lock();
        let failures = state.refresh.failures();
        let call = |request| Call { failures, ..Call::new(Target::Any, request) };
        calls.extend(state.refresh.poll_request(now).map(call));
        Turn::Until(state.refresh.poll_timeout())
    }

    fn send(&self, call: Call<MetadataRequest>) -> PendingResponse<MetadataResponse> {
        if call.body.allow_auto_topic_creation {
            return Driver::send(self, call);
        }
        let driver = self.clone();
        let answer = Driver::send(self, Call { min_version: CREATES_ON_REQUEST_SINCE, ..call.clone() });
        Box::pin(async move {
            match answer.await {
                Err(error) if error.kind() == ErrorKind::Unsupported => driver.metadata_of_old_broker(call).await,
                answer => answer,
            }
        })
    }

    fn handle_response(&self, now: Instant, _: u64, response: Result<MetadataResponse>) {
        let mut state = self.shared.lock();
        state.refresh.handle_response(now, response);
        let (metadata, progress) = (Arc::clone(state.refresh.metadata()), state.refresh.outcomes().clone());
        drop(state);
        // Publish the snapshot first: a caller that learns of the response reads the snapshot at once.
        self.shared.metadata.publish(&metadata);
        self.shared.metadata.progress.send_replace(progress);
    }

    fn fail(&self, error: &Error) {
        self.shared.metadata.progress.send_modify(|progress| progress.fail_for_good(error.clone()));
    }
}

/// Keeps a topic in use until it is dropped.
pub(crate) struct TopicHold {
    shared: Arc<Switchboard>,
    name: Arc<str>,
}

impl std::fmt::Debug for TopicHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TopicHold").field(&self.name).finish()
    }
}

/// Keeps every topic of the cluster in use until it is dropped.
pub(crate) struct AllTopicsHold(Arc<Switchboard>);

impl Drop for AllTopicsHold {
    fn drop(&mut self) {
        self.0.lock().refresh.release_all_topics();
    }
}

impl Drop for TopicHold {
    fn drop(&mut self) {
        self.shared.lock().refresh.release_topic(&self.name);
    }
}

impl Driver {
    /// Asks a broker before Kafka 0.11, which creates every missing topic that a request names. So this request names
    /// none, and asks for all.
    async fn metadata_of_old_broker(&self, call: Call<MetadataRequest>) -> Result<MetadataResponse> {
        let (call, MetadataRequest { topics: asked, .. }) = call.take_body();
        let of_all = |topics| MetadataRequest { topics, ..MetadataRequest::default() };
        let null = Call { min_version: 1, max_version: CREATES_ON_REQUEST_SINCE - 1, ..call.clone() };
        let answer = match Driver::send(self, null.with_body(of_all(None))).await {
            // Version 0 has no null; there, an empty list means all.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Driver::send(self, Call { max_version: 0, ..call }.with_body(of_all(Some(Vec::new())))).await
            }
            answer => answer,
        };
        let mut response = answer?;
        let names = |topic: &MetadataRequestTopic| topic.name.clone();
        if let Some(mut missing) = asked.map(|topics| topics.iter().filter_map(names).collect::<BTreeSet<_>>()) {
            response.topics.retain(|topic| topic.name.as_ref().is_some_and(|name| missing.remove(name)));
            let (error_code, none) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, MetadataResponseTopic::default());
            let unknown = |name| MetadataResponseTopic { error_code, name: Some(name), ..none.clone() };
            response.topics.extend(missing.into_iter().map(unknown));
        }
        Ok(response)
    }

    /// The newest snapshot.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.shared.metadata.newest.borrow())
    }

    /// A watch on the snapshots, starting with the newest.
    pub(crate) fn watch_metadata(&self) -> watch::Receiver<Arc<Metadata>> {
        self.shared.metadata.newest.subscribe()
    }

    /// Why the last metadata request failed; `None` if it succeeded.
    pub(crate) fn metadata_error(&self) -> Option<Error> {
        self.shared.metadata.progress.borrow().error().cloned()
    }

    /// Keeps the metadata of a topic fresh while the result lives.
    pub(crate) fn hold_topic(&self, name: &Arc<str>) -> TopicHold {
        self.shared.lock().refresh.hold_topic(Arc::clone(name));
        self.shared.metadata.wake.wake();
        TopicHold { shared: Arc::clone(&self.shared), name: Arc::clone(name) }
    }

    /// Keeps the metadata of every topic of the cluster fresh while the result lives.
    pub(crate) fn hold_all_topics(&self) -> AllTopicsHold {
        self.shared.lock().refresh.hold_all_topics();
        self.shared.metadata.wake.wake();
        AllTopicsHold(Arc::clone(&self.shared))
    }

    /// Drops a topic that was deleted from the metadata.
    pub(crate) fn forget_topic(&self, name: &str) {
        let mut state = self.shared.lock();
        state.refresh.forget_topic(name);
        let metadata = Arc::clone(state.refresh.metadata());
        drop(state);
        self.shared.metadata.publish(&metadata);
        self.shared.metadata.wake.wake();
    }

    /// Asks for a refresh of the topics in use, as soon as the back-offs allow.
    pub(crate) fn refresh_metadata(&self) {
        self.shared.lock().refresh.request(Outdated::InUse);
        self.shared.metadata.wake.wake();
    }

    /// Refreshes a topic in use, with a request sent after this call, and waits for the response.
    pub(crate) fn refreshed_topic(&self, name: &Arc<str>) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let ticket = self.shared.lock().refresh.request_topic(name);
        self.progressed(ticket)
    }

    /// The same for a new topic, which the brokers may create.
    pub(crate) fn refreshed_new(&self, name: &Arc<str>) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let ticket = self.shared.lock().refresh.request_new(name);
        self.progressed(ticket)
    }

    /// The same for every topic of the cluster.
    pub(crate) fn refreshed_all(&self) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let ticket = self.shared.lock().refresh.request_all_topics();
        self.progressed(ticket)
    }

    fn progressed(&self, ticket: Ticket) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let mut progress = self.shared.metadata.progress.subscribe();
        self.shared.metadata.wake.wake();
        async move {
            let ended = progress.wait_for(|progress| progress.outcome(ticket).is_some()).await;
            // The sender lives as long as the engine, on which this runs.
            ended.map_or_else(|_| Err(super::closed()), |progress| progress.outcome(ticket).unwrap_or(Ok(())))
        }
    }

    /// Handles what a machine learnt about the cluster.
    pub(crate) fn take_notice(&self, notice: Notice) {
        match notice {
            Notice::RefreshMetadata(outdated) => {
                self.shared.lock().refresh.request(outdated);
                self.shared.metadata.wake.wake();
            }
            Notice::LeaderHints { hints, endpoints } => {
                let mut state = self.shared.lock();
                if state.refresh.handle_leader_hints(&hints, endpoints) {
                    let metadata = Arc::clone(state.refresh.metadata());
                    drop(state);
                    self.shared.metadata.publish(&metadata);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::role::tests::panicked;
    use crate::{Client, ClientConfig};

    const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

    #[test]
    fn an_older_snapshot_never_replaces_a_newer_one() {
        let snapshots = Snapshots::default();
        let older = Metadata::default().without_brokers();
        let newer = older.without_brokers();
        snapshots.publish(&Arc::new(newer));
        snapshots.publish(&Arc::new(older));
        assert_eq!(snapshots.newest.borrow().version, 2);
    }

    #[test]
    fn who_waits_for_metadata_is_told_when_its_task_panics() {
        let client = Client::new(ClientConfig::default()).unwrap();
        client.start(panicked(Arc::new(client.driver.clone()))).wait(LIMIT).unwrap();
        let asking = client.clone();
        let error = client.start(async move { asking.refresh_metadata().await }).wait(LIMIT).unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }
}

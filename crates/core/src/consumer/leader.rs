//! Which broker leads each partition, and what happens when the leader changes, is missing or fails.

use crate::cluster::{Call, Metadata, Outdated, Owner, Target};
use crate::error::{Error, ErrorKind, Hint};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use std::sync::Arc;

use super::brokers::Link;
use super::partition::{Partition, State};
use super::partitions::PartitionId;
use super::topic_errors::{TOLD_EVERY, may_heal};
use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight};

impl Consumer {
    /// Takes a new metadata snapshot. Looks only at partitions that it describes in another way than the one before.
    pub fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        if Arc::ptr_eq(&self.metadata, metadata) {
            return;
        }
        self.now = now;
        let before = std::mem::replace(&mut self.metadata, Arc::clone(metadata));
        let topic_in = |metadata: &'_ Metadata, name: &str| metadata.topic(name).map(Arc::clone);
        for name in metadata.changed_topics(&before) {
            let (old, new) = (topic_in(&before, &name), topic_in(metadata, &name));
            for id in self.partitions.changed(&name, old.as_deref(), new.as_deref()) {
                self.update_leader(id);
            }
        }
    }

    /// Applies the metadata to a partition.
    pub(super) fn update_leader(&mut self, id: PartitionId) {
        let partition = self.partitions.get(id);
        if partition.state() == State::Parked {
            return;
        }
        let key = partition.key().clone();
        let Some(topic) = self.metadata.topic(&key.topic).map(Arc::clone) else {
            // A response that lists all topics left this one out. If it was deleted, the leader will say so as well.
            if partition.leader().is_some() {
                self.note_topic_error(self.now, &key.topic, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, false);
            }
            return;
        };
        if may_heal(topic.error) {
            self.note_topic_error(self.now, &key.topic, topic.error, false);
            if topic.partitions.is_empty() {
                // The metadata does not name a leader. Keep asking the last known one: its answer decides.
                return;
            }
        } else if let Some(error) = Error::from_code(topic.error).filter(|error| !error.is_retriable()) {
            self.fail(id, error);
            return;
        }
        let stamp = self.new_stamp();
        if !self.change(id, |partition| partition.set_leader(&topic, stamp)) {
            let what = "the topic was deleted and created again: its offsets are those of other records";
            let error = Error::new(ErrorKind::Broker(ErrorCode::INCONSISTENT_TOPIC_ID), what);
            self.fail(id, error.with_hint(Hint::SeekInNewTopic));
        }
        self.partitions.name_topic(&key, topic.topic_id);
    }

    /// Asks for new metadata of every topic in use, because a broker may be lost.
    pub(super) fn refresh_metadata(&mut self, now: Instant) {
        self.refresh_at = now + self.backoff.max;
        self.outdated.add(Outdated::InUse);
    }

    /// Asks for new metadata of a partition's topic.
    pub(super) fn refresh_topic(&mut self, id: PartitionId) {
        self.outdated.add_topic(&self.partitions.get(id).key().topic);
    }

    /// Asks again for the topics that are stuck.
    fn refresh_stuck_topics(&mut self, now: Instant) {
        self.refresh_at = now + self.backoff.max;
        for topic in self.partitions.leaderless_topics().chain(self.topic_errors.topics()) {
            self.outdated.add_topic(topic);
        }
    }

    /// Whether something is stuck that new metadata may resolve.
    pub(super) fn waits_for_metadata(&self) -> bool {
        self.partitions.lacks_leader() || !self.topic_errors.is_empty()
    }

    pub(super) fn send(&mut self, target: Target, in_flight: InFlight, body: ConsumerRequest) -> Call<ConsumerRequest> {
        self.next_id += 1;
        self.in_flight.insert(self.next_id, in_flight);
        let owner = match body {
            // A broker may hold a fetch, so fetches have their own connection, and the versions must be those of that
            // connection.
            ConsumerRequest::Versions | ConsumerRequest::Fetch(_) => Owner::Fetch(self.number),
            ConsumerRequest::ListOffsets(_)
            | ConsumerRequest::OffsetForLeaderEpoch(_)
            | ConsumerRequest::OffsetCommit(_) => Owner::Control,
        };
        Call { id: self.next_id, owner, ..Call::new(target, body) }
    }

    /// Asks for a broker's negotiated versions, which must be known before anything is sent to it.
    pub(super) fn poll_versions(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        if self.refresh_at <= now && self.waits_for_metadata() {
            self.refresh_stuck_topics(now);
        }
        let broker_id = self.brokers.to_connect()?;
        self.brokers.change(broker_id, now, |broker| broker.link = Link::Connecting);
        Some(self.send(Target::Broker(broker_id), InFlight::Versions { broker_id }, ConsumerRequest::Versions))
    }

    /// A request got no response.
    pub(super) fn handle_failure(&mut self, now: Instant, in_flight: InFlight, error: Error) {
        match in_flight {
            InFlight::Versions { broker_id } => self.handle_broker_failure(now, broker_id, error),
            InFlight::Fetch { broker_id, .. } => {
                self.brokers.change(broker_id, now, |broker| {
                    broker.is_fetching = false;
                    broker.session.handle_failure(None);
                });
                self.handle_broker_failure(now, broker_id, error);
            }
            InFlight::Locate { broker_id, asked } => self.handle_unanswered(now, broker_id, &asked, error, false),
            InFlight::Validate { broker_id, asked } => self.handle_unanswered(now, broker_id, &asked, error, true),
            InFlight::Commit => self.handle_committed(now, Err(error)),
        }
    }

    /// A broker could not be reached, or did not answer a fetch.
    fn handle_broker_failure(&mut self, now: Instant, broker_id: i32, error: Error) {
        let (backoff, random) = (self.backoff, &mut self.random);
        self.brokers.change(broker_id, now, |broker| {
            // The broker may come back with other versions, for instance after a downgrade.
            broker.link = Link::Unknown;
            broker.failures = broker.failures.saturating_add(1);
            broker.retry_at = now + backoff.delay(broker.failures, random);
        });
        for id in self.brokers.followers(broker_id) {
            self.change(id, |partition| partition.leave_follower(broker_id));
        }
        self.refresh_metadata(now);
        self.report_failure(broker_id, error);
    }

    /// Reports an error that a retry does not cure. The broker is still asked, because somebody may mend the cause;
    /// until a fetch succeeds, the error is reported at intervals.
    pub(super) fn report_failure(&mut self, broker_id: i32, error: Error) {
        if error.is_retriable() {
            return;
        }
        let now = self.now;
        let is_due = self.brokers.change(broker_id, now, |broker| {
            let is_due = broker.reported_at.is_none_or(|at| now.since(at) >= TOLD_EVERY);
            broker.reported_at = if is_due { Some(now) } else { broker.reported_at };
            is_due
        });
        if is_due {
            self.events.push_back(ConsumerEvent::Failed(error));
        }
    }

    fn handle_unanswered(
        &mut self,
        now: Instant,
        broker_id: i32,
        asked: &[(PartitionId, u64)],
        error: Error,
        is_validation: bool,
    ) {
        for &(id, stamp) in asked {
            // What has changed since then does not wait for this answer.
            let state = self.unchanged(id, stamp).map(Partition::state);
            let is_unsupported = error.kind() == ErrorKind::Unsupported;
            match state {
                None => {}
                // The broker does not support `OffsetForLeaderEpoch`, so truncation cannot be detected: go on.
                Some(State::Validating { out_of_range }) if is_unsupported && is_validation => {
                    self.go_on(id, out_of_range);
                }
                Some(_) if is_unsupported => self.fail(id, error.clone()),
                Some(State::Validating { .. }) if is_planted(Bug::ResetsOnSilence) => self.reset(id),
                Some(_) => {
                    self.refresh_topic(id);
                    self.back_off(now, id);
                }
            }
        }
        if error.kind() != ErrorKind::Unsupported {
            self.report_failure(broker_id, error);
        }
    }
}

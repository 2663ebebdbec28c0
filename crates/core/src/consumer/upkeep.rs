//! What keeps a consumer going between requests: leaders, brokers that fail, partitions that begin, back off or park.

use std::sync::Arc;

use crate::cluster::{Call, Notice, Owner, Target};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;

use super::partition::{Content, Partition, State};
use super::{
    BrokerState, Consumer, ConsumerEvent, ConsumerRequest, EARLIEST_TIMESTAMP, InFlight, LATEST_TIMESTAMP,
    StartPosition, TopicPartition,
};

impl Consumer {
    pub(super) fn partition(&self, key: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&key.topic)?.get(&key.partition)
    }

    pub(super) fn partition_if_any(&mut self, key: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&key.topic)?.get_mut(&key.partition)
    }

    pub(super) fn partition_mut(&mut self, key: &TopicPartition) -> Result<&mut Partition> {
        self.partition_if_any(key).ok_or_else(|| not_consumed(key))
    }

    /// The partition, if it still is what it was when it was given this stamp.
    pub(super) fn unchanged(&mut self, key: &TopicPartition, stamp: u64) -> Option<&mut Partition> {
        self.partition_if_any(key).filter(|partition| partition.stamp == stamp)
    }

    pub(super) fn all_partitions(&self) -> impl Iterator<Item = &Partition> {
        self.topics.values().flat_map(|partitions| partitions.values())
    }

    fn new_stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Changes what a partition does, so that answers to what it asked before are ignored.
    pub(super) fn change_state(&mut self, key: &TopicPartition, state: State) {
        let stamp = self.new_stamp();
        if let Some(partition) = self.partition_if_any(key) {
            partition.stamp = stamp;
            partition.state = state;
            partition.is_asking = false;
        }
    }

    /// Begins at `start`, whatever was before.
    pub(super) fn start(&mut self, key: &TopicPartition, start: StartPosition) {
        let locate = |timestamp| State::Locating { timestamp, out_of_range: None };
        let (state, position) = match start {
            StartPosition::Offset(offset) => (State::Fetching, Some(offset)),
            StartPosition::Earliest => (locate(EARLIEST_TIMESTAMP), None),
            StartPosition::Latest => (locate(LATEST_TIMESTAMP), None),
            StartPosition::Timestamp(timestamp) => (locate(timestamp), None),
        };
        self.change_state(key, state);
        let max_bytes = self.config.max_partition_fetch_bytes as i32;
        if let Some(partition) = self.partition_if_any(key) {
            partition.replace_lease(position);
            let old = std::mem::replace(partition, Partition::new(max_bytes));
            let (stamp, state, lease) = (old.stamp, old.state, old.lease);
            let fetched = position.unwrap_or_default();
            let (is_paused, is_queued) = (old.is_paused, old.is_queued);
            *partition = Partition { stamp, state, is_paused, lease, fetched, is_queued, ..Partition::new(max_bytes) };
        }
        self.update_leader(key);
    }

    /// Takes over what the metadata says of a partition.
    pub(super) fn update_leader(&mut self, key: &TopicPartition) {
        let topic = self.metadata.topic(&key.topic).map(Arc::clone);
        let Some(partition) = self.partition_if_any(key).filter(|partition| partition.state != State::Parked) else {
            return;
        };
        let Some(topic) = topic else {
            partition.leader = None;
            return;
        };
        if let Some(error) = Error::from_code(topic.error).filter(|error| !error.is_retriable()) {
            self.fail(key, error);
            return;
        }
        if partition.topic_id.is_zero() {
            partition.topic_id = topic.topic_id;
        } else if !topic.topic_id.is_zero() && partition.topic_id != topic.topic_id {
            let what = "the topic was deleted and created again: its offsets are those of other records";
            let error = Error::new(ErrorKind::Broker(ErrorCode::INCONSISTENT_TOPIC_ID), what);
            self.fail(key, error.with_hint("seek to say where to begin in the new topic"));
            return;
        }
        let known = usize::try_from(key.partition).ok().and_then(|index| topic.partitions.get(index));
        let leader = known.and_then(|known| known.leader);
        let leader_epoch = known.and_then(|known| known.leader_epoch);
        let is_new_leader = leader != partition.leader;
        if is_new_leader {
            partition.leader = leader;
            partition.preferred_replica = None;
            partition.retry_at = Instant::default();
        }
        let is_new_epoch = leader_epoch > partition.leader_epoch;
        partition.leader_epoch = leader_epoch.or(partition.leader_epoch);
        let state = match partition.state {
            State::Fetching if is_new_epoch && partition.fetched_epoch.is_some() => {
                State::Validating { out_of_range: false }
            }
            state => state,
        };
        if is_new_leader || is_new_epoch {
            // What the old leader answers, if it ever does, says nothing about the new one's log.
            self.change_state(key, state);
        }
    }

    /// Parks a partition and reports why, once.
    pub(super) fn fail(&mut self, key: &TopicPartition, error: Error) {
        self.change_state(key, State::Parked);
        let Some(partition) = self.partition_if_any(key) else { return };
        partition.renew_lease();
        partition.drop_buffer();
        let offset = error.place().offset.or_else(|| partition.position());
        let error = error.at(Place { offset, ..Place::default() }).at_partition(&key.topic, key.partition);
        self.events.push_back(ConsumerEvent::PartitionError { topic_partition: key.clone(), error });
    }

    /// What stands at the front of a partition's buffer cannot be read.
    pub(super) fn report_bad_front(&mut self, key: &TopicPartition) {
        let front = self.partition_if_any(key).and_then(|partition| partition.buffer.pop_front());
        if let Some(Content::Bad(error)) = front.map(|front| front.content) {
            self.fail(key, error.with_hint("seek past it to go on with this partition"));
        }
    }

    /// Puts a partition with something to hand out at the end of the queue, unless it waits already.
    pub(super) fn enqueue(&mut self, key: &TopicPartition) {
        let Some(partition) = self.partition_if_any(key) else { return };
        if !partition.is_queued && !partition.buffer.is_empty() {
            partition.is_queued = true;
            self.queue.push_back(key.clone());
        }
    }

    /// Leaves a partition alone for a while.
    pub(super) fn back_off(&mut self, now: Instant, key: &TopicPartition) {
        let Some(partition) = self.topics.get_mut(&key.topic).and_then(|all| all.get_mut(&key.partition)) else {
            return;
        };
        partition.failures = partition.failures.saturating_add(1);
        partition.retry_at = now + self.backoff.delay(partition.failures, &mut self.random);
        partition.is_asking = false;
    }

    /// Asks for new metadata, and not again before a while has passed.
    pub(super) fn refresh_metadata(&mut self, now: Instant) {
        self.refresh_at = now + self.backoff.max;
        if !matches!(self.events.back(), Some(ConsumerEvent::Notice(Notice::RefreshMetadata))) {
            self.events.push_back(ConsumerEvent::Notice(Notice::RefreshMetadata));
        }
    }

    pub(super) fn lacks_leader(&self) -> bool {
        self.all_partitions().any(|partition| partition.leader.is_none() && partition.state != State::Parked)
    }

    pub(super) fn send(&mut self, broker_id: i32, in_flight: InFlight, body: ConsumerRequest) -> Call<ConsumerRequest> {
        self.next_id += 1;
        self.in_flight.insert(self.next_id, in_flight);
        let owner = match body {
            // A fetch waits at the broker, and its versions are those of the connection it takes.
            ConsumerRequest::Versions | ConsumerRequest::Fetch(_) => Owner::Fetch(self.number),
            ConsumerRequest::ListOffsets(_) | ConsumerRequest::OffsetForLeaderEpoch(_) => Owner::Control,
        };
        Call { id: self.next_id, owner, ..Call::new(Target::Broker(broker_id), body) }
    }

    /// A broker's versions must be known before anything is asked of it.
    pub(super) fn poll_versions(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        if self.refresh_at <= now && self.lacks_leader() {
            self.refresh_metadata(now);
        }
        let brokers = &self.brokers;
        let is_new = |broker_id: &i32| {
            brokers.get(broker_id).is_none_or(|broker| {
                broker.versions.is_none() && !broker.is_connecting && !broker.is_fetching && broker.retry_at <= now
            })
        };
        let needed = self.all_partitions().filter(|partition| partition.state != State::Parked);
        let broker_id =
            needed.flat_map(|partition| [partition.leader, partition.preferred_replica]).flatten().find(is_new)?;
        self.brokers.entry(broker_id).or_default().is_connecting = true;
        Some(self.send(broker_id, InFlight::Versions { broker_id }, ConsumerRequest::Versions))
    }

    /// Whether a broker can be asked something now.
    pub(super) fn ready_broker(&self, broker_id: i32, now: Instant) -> Option<&BrokerState> {
        self.brokers.get(&broker_id).filter(|broker| broker.versions.is_some() && broker.retry_at <= now)
    }

    /// Nothing is known of the fate of a request.
    pub(super) fn handle_failure(&mut self, now: Instant, in_flight: InFlight, error: Error) {
        match in_flight {
            InFlight::Versions { broker_id } => {
                self.brokers.entry(broker_id).or_default().is_connecting = false;
                self.handle_broker_failure(now, broker_id, error);
            }
            InFlight::Fetch { broker_id, .. } => {
                let broker = self.brokers.entry(broker_id).or_default();
                broker.is_fetching = false;
                broker.session.handle_failure(None);
                self.handle_broker_failure(now, broker_id, error);
            }
            InFlight::Locate { broker_id, asked } => self.handle_unanswered(now, broker_id, &asked, error, false),
            InFlight::Validate { broker_id, asked } => self.handle_unanswered(now, broker_id, &asked, error, true),
        }
    }

    /// A broker could not be reached, or did not answer a fetch.
    pub(super) fn handle_broker_failure(&mut self, now: Instant, broker_id: i32, error: Error) {
        let broker = self.brokers.entry(broker_id).or_default();
        // Another connection may speak other versions: the broker may come back as an older one.
        broker.versions = None;
        broker.failures = broker.failures.saturating_add(1);
        broker.retry_at = now + self.backoff.delay(broker.failures, &mut self.random);
        for partition in self.topics.values_mut().flat_map(|partitions| partitions.values_mut()) {
            if partition.preferred_replica == Some(broker_id) {
                partition.preferred_replica = None;
            }
        }
        self.refresh_metadata(now);
        self.report_failure(broker_id, error);
    }

    /// Reports what no retry can mend, once until the broker answers a fetch.
    pub(super) fn report_failure(&mut self, broker_id: i32, error: Error) {
        let broker = self.brokers.entry(broker_id).or_default();
        if !error.is_retriable() && !std::mem::replace(&mut broker.has_failed, true) {
            self.events.push_back(ConsumerEvent::Failed(error));
        }
    }

    fn handle_unanswered(
        &mut self,
        now: Instant,
        broker_id: i32,
        asked: &[(TopicPartition, u64)],
        error: Error,
        is_validation: bool,
    ) {
        for (key, stamp) in asked {
            let Some(partition) = self.unchanged(key, *stamp) else { continue };
            match (error.kind(), partition.state) {
                // A broker that cannot tell whether the log was truncated: there is nothing to find out.
                (ErrorKind::Unsupported, State::Validating { out_of_range }) if is_validation => {
                    self.go_on(now, key, out_of_range);
                }
                (ErrorKind::Unsupported, _) => self.fail(key, error.clone()),
                _ => self.back_off(now, key),
            }
        }
        self.refresh_metadata(now);
        if error.kind() != ErrorKind::Unsupported {
            self.report_failure(broker_id, error);
        }
    }
}

/// Refuses what cannot be a position.
pub(super) fn check_start(key: &TopicPartition, start: StartPosition) -> Result<()> {
    match start {
        StartPosition::Offset(number) | StartPosition::Timestamp(number) if number < 0 => {
            Err(misuse("an offset or timestamp to begin at must not be negative", key))
        }
        _ => Ok(()),
    }
}

pub(super) fn misuse(what: &str, key: &TopicPartition) -> Error {
    Error::new(ErrorKind::Misuse, what).at_partition(&key.topic, key.partition)
}

pub(super) fn not_consumed(key: &TopicPartition) -> Error {
    misuse("the partition is not consumed by this consumer", key)
}

//! Offsets that only a leader knows: those of timestamps (`ListOffsets`), and where a leader epoch ended
//! (`OffsetForLeaderEpoch`, KIP-320).
//!
//! A position beyond the end of its leader epoch means that records we read are gone, in an unclean leader election
//! for instance. That is reported and never passed over. Where only records that are still buffered are gone, they
//! are fetched again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::Call;
use crate::config::{AutoOffsetReset, IsolationLevel};
use crate::error::{Error, ErrorKind};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic};
use crate::wire::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic};
use crate::wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::partition::State;
use super::{Consumer, ConsumerEvent, ConsumerRequest, EARLIEST_TIMESTAMP, InFlight, LATEST_TIMESTAMP, TopicPartition};

/// The first version of `ListOffsets` that knows of transactions.
const ISOLATION_SINCE: i16 = 2;
/// The first version of `ListOffsets` that looks for records; before it tells segments that begin before a time.
const RECORDS_SINCE: i16 = 1;

impl Consumer {
    pub(super) fn poll_locate(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        let (broker_id, asked) = self.questions(now, |state| matches!(state, State::Locating { .. }))?;
        let versions = self.brokers.get(&broker_id)?.versions?;
        let topics = by_topic(&asked, |key| {
            let partition = self.partition(key)?;
            let State::Locating { timestamp, .. } = partition.state else { return None };
            Some(ListOffsetsPartition {
                partition_index: key.partition,
                current_leader_epoch: partition.leader_epoch,
                timestamp,
                max_num_offsets: 1,
            })
        });
        let request = ListOffsetsRequest {
            isolation_level: self.isolation_level(versions.list_offsets >= ISOLATION_SINCE),
            topics: topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect(),
            ..ListOffsetsRequest::default()
        };
        Some(self.send(broker_id, InFlight::Locate { broker_id, asked }, ConsumerRequest::ListOffsets(request)))
    }

    pub(super) fn poll_validate(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        let (broker_id, asked) = self.questions(now, |state| matches!(state, State::Validating { .. }))?;
        let topics = by_topic(&asked, |key| {
            let partition = self.partition(key)?;
            Some(OffsetForLeaderPartition {
                partition: key.partition,
                current_leader_epoch: partition.leader_epoch,
                leader_epoch: partition.fetched_epoch?,
            })
        });
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: topics.into_iter().map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions }).collect(),
        };
        Some(self.send(
            broker_id,
            InFlight::Validate { broker_id, asked },
            ConsumerRequest::OffsetForLeaderEpoch(request),
        ))
    }

    /// What goes on the wire for `isolation.level`.
    pub(super) fn isolation_level(&self, is_known_to_broker: bool) -> i8 {
        i8::from(is_known_to_broker && self.config.isolation_level == IsolationLevel::ReadCommitted)
    }

    /// Partitions of one leader that are in such a state; from now on they wait for an answer.
    fn questions(&mut self, now: Instant, is_it: fn(State) -> bool) -> Option<(i32, Vec<(TopicPartition, u64)>)> {
        let mut leader = None;
        let mut asked = Vec::new();
        for (topic, partitions) in &self.topics {
            for (&number, partition) in partitions {
                if !is_it(partition.state) || partition.is_asking || partition.retry_at > now {
                    continue;
                }
                let Some(broker_id) = partition.leader.filter(|id| self.ready_broker(*id, now).is_some()) else {
                    continue;
                };
                if *leader.get_or_insert(broker_id) == broker_id {
                    asked.push((TopicPartition { topic: Arc::clone(topic), partition: number }, partition.stamp));
                }
            }
        }
        for (key, _) in &asked {
            if let Some(partition) = self.partition_if_any(key) {
                partition.is_asking = true;
            }
        }
        leader.map(|leader| (leader, asked))
    }

    pub(super) fn handle_located(
        &mut self,
        now: Instant,
        broker_id: i32,
        asked: &[(TopicPartition, u64)],
        response: ListOffsetsResponse,
    ) {
        let version = self.brokers.get(&broker_id).and_then(|broker| broker.versions).map(|known| known.list_offsets);
        // No record is as new as that: what is written next will be. Or no segment is as old: all of them are newer.
        let is_old = version.is_some_and(|version| version < RECORDS_SINCE);
        let otherwise = if is_old { EARLIEST_TIMESTAMP } else { LATEST_TIMESTAMP };
        for topic in response.topics {
            let name: Arc<str> = topic.name.into();
            for located in topic.partitions {
                let key = TopicPartition { topic: Arc::clone(&name), partition: located.partition_index };
                let Some(stamp) = stamp_of(asked, &key) else { continue };
                if let Some(State::Locating { timestamp, out_of_range }) =
                    self.unchanged(&key, stamp).map(|partition| partition.state)
                {
                    let otherwise = (timestamp >= 0).then_some(State::Locating { timestamp: otherwise, out_of_range });
                    self.handle_offset(now, &key, otherwise, out_of_range, &located);
                }
            }
        }
        self.back_off_missing(now, asked);
    }

    fn handle_offset(
        &mut self,
        now: Instant,
        key: &TopicPartition,
        otherwise: Option<State>,
        out_of_range: Option<i64>,
        located: &ListOffsetsPartitionResponse,
    ) {
        let code = located.error_code;
        if code != ErrorCode::NONE {
            self.handle_refusal(now, key, code);
            return;
        }
        let offset = located.offset.or(located.old_style_offsets.first().copied()).filter(|offset| *offset >= 0);
        match (offset, otherwise) {
            (Some(offset), _) => self.handle_found(key, offset, located.leader_epoch, out_of_range),
            (None, Some(state)) => self.change_state(key, state),
            (None, None) => self.back_off(now, key),
        }
    }

    fn handle_found(
        &mut self,
        key: &TopicPartition,
        offset: i64,
        leader_epoch: Option<i32>,
        out_of_range: Option<i64>,
    ) {
        self.change_state(key, State::Fetching);
        let Some(partition) = self.partition_if_any(key) else { return };
        partition.replace_lease(Some(offset));
        partition.fetched = offset;
        partition.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
        partition.failures = 0;
        if let Some(from) = out_of_range {
            self.events.push_back(ConsumerEvent::Reset { topic_partition: key.clone(), from, to: offset });
        }
    }

    /// A leader did not answer a question about offsets.
    fn handle_refusal(&mut self, now: Instant, key: &TopicPartition, code: ErrorCode) {
        if code.refreshes_metadata() {
            self.refresh_metadata(now);
        }
        match Error::from_code(code) {
            Some(error) if !code.is_retriable() && code != ErrorCode::UNKNOWN_SERVER_ERROR => self.fail(key, error),
            _ => self.back_off(now, key),
        }
    }

    fn back_off_missing(&mut self, now: Instant, asked: &[(TopicPartition, u64)]) {
        for (key, stamp) in asked {
            if self.unchanged(key, *stamp).is_some_and(|partition| partition.is_asking) {
                self.back_off(now, key);
            }
        }
    }

    pub(super) fn handle_validated(
        &mut self,
        now: Instant,
        asked: &[(TopicPartition, u64)],
        response: OffsetForLeaderEpochResponse,
    ) {
        for topic in response.topics {
            let name: Arc<str> = topic.topic.into();
            for end in topic.partitions {
                let key = TopicPartition { topic: Arc::clone(&name), partition: end.partition };
                let Some(stamp) = stamp_of(asked, &key) else { continue };
                if let Some(State::Validating { out_of_range }) =
                    self.unchanged(&key, stamp).map(|partition| partition.state)
                {
                    self.handle_epoch_end(now, &key, out_of_range, &end);
                }
            }
        }
        self.back_off_missing(now, asked);
    }

    fn handle_epoch_end(&mut self, now: Instant, key: &TopicPartition, out_of_range: bool, end: &EpochEndOffset) {
        let code = end.error_code;
        if code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR {
            self.handle_refusal(now, key, code);
        } else if code == ErrorCode::NONE {
            let end_offset = end.end_offset.filter(|offset| *offset >= 0);
            if !self.handle_truncation(key, end_offset, end.leader_epoch) {
                self.go_on(now, key, out_of_range);
            }
        } else {
            // We may not ask, or the broker cannot tell; whether we may read, the next fetch will say.
            self.go_on(now, key, out_of_range);
        }
    }

    /// Whether what was fetched reaches beyond the end of its leader epoch; if so it was dealt with.
    ///
    /// No end means that the leader does not know an epoch as new as ours: its log is not the one we read.
    pub(super) fn handle_truncation(
        &mut self,
        key: &TopicPartition,
        end: Option<i64>,
        leader_epoch: Option<i32>,
    ) -> bool {
        let Some(partition) = self.partition_if_any(key) else { return true };
        if end.is_some_and(|end| end >= partition.fetched) {
            return false;
        }
        // Whoever holds a batch moves the position, until here.
        partition.renew_lease();
        let position = partition.position().unwrap_or(partition.fetched);
        if end.is_some_and(|end| end >= position) {
            partition.drop_buffer();
            partition.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
            self.change_state(key, State::Fetching);
        } else {
            let end = end.map_or("before it".into(), |end| format!("at offset {end}"));
            let what = format!("the log was truncated: it now ends {end} where it was already read further");
            let error = Error::new(ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE), what);
            self.fail(key, error.with_hint("records that were read are gone; seek to say where to go on"));
        }
        true
    }

    /// The log is still the one that was read.
    pub(super) fn go_on(&mut self, now: Instant, key: &TopicPartition, out_of_range: bool) {
        if out_of_range {
            self.reset(key);
        } else {
            self.change_state(key, State::Fetching);
            if let Some(partition) = self.partition_if_any(key) {
                partition.retry_at = now;
                partition.failures = 0;
            }
        }
    }

    /// The leader has no such offset: `auto.offset.reset` decides.
    pub(super) fn reset(&mut self, key: &TopicPartition) {
        let timestamp = match self.config.auto_offset_reset {
            AutoOffsetReset::Earliest => EARLIEST_TIMESTAMP,
            AutoOffsetReset::Latest => LATEST_TIMESTAMP,
            AutoOffsetReset::None => {
                let what = "the offset is out of range and auto.offset.reset is none";
                let error = Error::new(ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE), what);
                self.fail(key, error.with_hint("seek to say where to go on"));
                return;
            }
        };
        let out_of_range = self.partition(key).map(|partition| partition.fetched);
        self.change_state(key, State::Locating { timestamp, out_of_range });
    }
}

/// The stamp a partition had when it was asked for; `asked` is in order.
fn stamp_of(asked: &[(TopicPartition, u64)], key: &TopicPartition) -> Option<u64> {
    let index = asked.binary_search_by(|(asked, _)| asked.cmp(key)).ok()?;
    asked.get(index).map(|(_, stamp)| *stamp)
}

/// Groups what `make` makes of each partition by topic.
fn by_topic<T>(
    asked: &[(TopicPartition, u64)],
    make: impl Fn(&TopicPartition) -> Option<T>,
) -> BTreeMap<String, Vec<T>> {
    let mut topics: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (key, _) in asked {
        if let Some(made) = make(key) {
            topics.entry(key.topic.to_string()).or_default().push(made);
        }
    }
    topics
}

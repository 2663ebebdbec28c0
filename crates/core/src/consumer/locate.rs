//! Asks leaders about offsets: `ListOffsets` finds the offset of a timestamp, `OffsetForLeaderEpoch` finds where a
//! leader epoch ended (KIP-320).
//!
//! If the position lies beyond the end of its leader epoch, records that the application has read are gone from the
//! log, for instance after an unclean leader election. That is always reported. If only buffered records are gone, the
//! consumer fetches again from the position without an error.

use std::sync::Arc;

use crate::cluster::{Call, Target};
use crate::config::{AutoOffsetReset, IsolationLevel};
use crate::error::{Error, ErrorKind, Hint};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, ISOLATION_SINCE, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsTopic, RECORDS_SINCE,
};
use crate::wire::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic};
use crate::wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::brokers::{BrokerState, Question};
use super::partition::{Partition, State, Truncation};
use super::partitions::PartitionId;
use super::topic_errors::may_heal;
use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight};

/// How many times a leader that was named by old metadata may answer that it does not know a leader epoch. After that
/// the answer counts: the leader epochs of a topic that was deleted and created again start from 0.
const LAGGING_ANSWERS: u32 = 8;

impl Consumer {
    /// The next `ListOffsets` or `OffsetForLeaderEpoch` request, for all partitions of one broker that need it.
    pub(super) fn poll_question(&mut self) -> Option<Call<ConsumerRequest>> {
        let (broker_id, question, ids) = self.brokers.to_question()?;
        let versions = self.brokers.get(broker_id)?.versions()?;
        let mut partitions: Vec<&Partition> = ids.iter().map(|id| self.partitions.get(*id)).collect();
        if !partitions.iter().all(|partition| partition.has_question(question)) {
            self.poison("a partition is on the list for a question that it does not have");
            return None;
        }
        let asked = ids.iter().zip(&partitions).map(|(id, partition)| (*id, partition.stamp())).collect();
        partitions.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        let (in_flight, request) = match question {
            Question::Locate => {
                let isolation_level = self.isolation_level(versions.list_offsets >= ISOLATION_SINCE);
                let request = ConsumerRequest::ListOffsets(offsets_request(&partitions, isolation_level));
                (InFlight::Locate { broker_id, asked }, request)
            }
            Question::Validate => {
                let request = ConsumerRequest::OffsetForLeaderEpoch(epochs_request(&partitions));
                (InFlight::Validate { broker_id, asked }, request)
            }
        };
        for id in ids {
            self.change(id, Partition::set_asking);
        }
        Some(self.send(Target::Broker(broker_id), in_flight, request))
    }

    /// The `isolation_level` of a request.
    pub(super) fn isolation_level(&self, is_known_to_broker: bool) -> i8 {
        i8::from(is_known_to_broker && self.config.isolation_level == IsolationLevel::ReadCommitted)
    }

    pub(super) fn handle_located(
        &mut self,
        now: Instant,
        broker_id: i32,
        asked: &[(PartitionId, u64)],
        response: ListOffsetsResponse,
    ) {
        let version = self.brokers.get(broker_id).and_then(BrokerState::versions).map(|known| known.list_offsets);
        // No record is that new: start with the next one written. Or (old brokers) no segment is that old: start with
        // the first.
        let is_old = version.is_some_and(|version| version < RECORDS_SINCE);
        let otherwise = if is_old { EARLIEST_TIMESTAMP } else { LATEST_TIMESTAMP };
        for topic in response.topics {
            for located in topic.partitions {
                let id = self.asked(asked, &topic.name, located.partition_index);
                let state = id.map(|id| (id, self.partitions.get(id).state()));
                if let Some((id, State::Locating { timestamp, out_of_range })) = state {
                    let otherwise = (timestamp >= 0).then_some(State::Locating { timestamp: otherwise, out_of_range });
                    self.handle_offset(now, id, otherwise, out_of_range, &located);
                }
            }
        }
        self.back_off_missing(now, asked);
    }

    fn handle_offset(
        &mut self,
        now: Instant,
        id: PartitionId,
        otherwise: Option<State>,
        out_of_range: Option<i64>,
        located: &ListOffsetsPartitionResponse,
    ) {
        let code = located.error_code;
        if code != ErrorCode::NONE {
            self.handle_refusal(now, id, code);
            return;
        }
        match (located.found(), otherwise) {
            (Some(offset), _) => self.handle_found(id, offset, located.leader_epoch, out_of_range),
            (None, Some(state)) => self.set_state(id, state),
            (None, None) => self.back_off(now, id),
        }
    }

    fn handle_found(&mut self, id: PartitionId, offset: i64, leader_epoch: Option<i32>, out_of_range: Option<i64>) {
        let stamp = self.new_stamp();
        self.changed.insert(id);
        self.change(id, |partition| partition.begin_at(stamp, offset, leader_epoch));
        let topic_partition = self.partitions.get(id).key().clone();
        self.events.push_back(match out_of_range {
            Some(from) => ConsumerEvent::Reset { topic_partition, from, to: offset },
            None => ConsumerEvent::Located(topic_partition),
        });
    }

    /// Handles the error code that a broker gave for one partition of a `ListOffsets` or `OffsetForLeaderEpoch`.
    pub(super) fn handle_refusal(&mut self, now: Instant, id: PartitionId, code: ErrorCode) {
        if code.refreshes_metadata() {
            self.refresh_topic(id);
        }
        if may_heal(code) {
            let topic = Arc::clone(&self.partitions.get(id).key().topic);
            self.note_topic_error(now, &topic, code, true);
            self.back_off(now, id);
            return;
        }
        match Error::from_code(code) {
            Some(error) if !code.is_retriable_for_readers() => self.fail(id, error),
            Some(_) | None => self.back_off(now, id),
        }
    }

    /// The partition that a part of the response is about, if it was asked for and has not changed since. `asked` is
    /// sorted.
    fn asked(&self, asked: &[(PartitionId, u64)], topic: &str, partition: i32) -> Option<PartitionId> {
        let id = self.partitions.id_of(topic, partition)?;
        let index = asked.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, stamp) = asked.get(index)?;
        self.unchanged(id, *stamp).map(|_| id)
    }

    /// Asks again after a back-off for those that the response left out.
    fn back_off_missing(&mut self, now: Instant, asked: &[(PartitionId, u64)]) {
        for &(id, stamp) in asked {
            if self.unchanged(id, stamp).is_some_and(Partition::is_asking) {
                self.back_off(now, id);
            }
        }
    }

    pub(super) fn handle_validated(
        &mut self,
        now: Instant,
        asked: &[(PartitionId, u64)],
        response: OffsetForLeaderEpochResponse,
    ) {
        for topic in response.topics {
            for end in topic.partitions {
                let id = self.asked(asked, &topic.topic, end.partition);
                let state = id.map(|id| (id, self.partitions.get(id).state()));
                if let Some((id, State::Validating { out_of_range })) = state {
                    self.handle_epoch_end(now, id, out_of_range, &end);
                }
            }
        }
        self.back_off_missing(now, asked);
    }

    fn handle_epoch_end(&mut self, now: Instant, id: PartitionId, out_of_range: bool, end: &EpochEndOffset) {
        let code = end.error_code;
        if code.is_retriable_for_readers() {
            self.handle_refusal(now, id, code);
        } else if code == ErrorCode::NONE {
            let end_offset = end.end_offset.filter(|offset| *offset >= 0);
            let lags =
                |partition: &Partition| partition.is_led_from_the_past() && partition.failures() < LAGGING_ANSWERS;
            if end_offset.is_none() && lags(self.partitions.get(id)) {
                self.refresh_topic(id);
                self.back_off(now, id);
                return;
            }
            if !self.handle_truncation(id, end_offset, end.leader_epoch) {
                self.go_on(id, out_of_range);
            }
        } else {
            // We are not authorized to ask, or the broker cannot tell. If we may not read either, the next fetch says
            // so.
            self.go_on(id, out_of_range);
        }
    }

    /// Handles fetched offsets that lie beyond the end of their leader epoch. Returns whether there were any.
    ///
    /// `end` is `None` if the leader does not know an epoch as new as ours: its log is not the one we read.
    pub(super) fn handle_truncation(&mut self, id: PartitionId, end: Option<i64>, leader_epoch: Option<i32>) -> bool {
        match self.change(id, |partition| partition.truncate(end, leader_epoch)) {
            Truncation::None => return false,
            Truncation::OfBuffer => self.set_state(id, State::Fetching),
            Truncation::OfWhatWasRead => {
                let end = end.map_or("in an older epoch".into(), |end| format!("at offset {end}"));
                let what = format!("the log was truncated: it now ends {end}, which is before the position");
                let error = Error::new(ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE), what);
                self.fail(id, error.with_hint(Hint::SeekAfterTruncation));
            }
        }
        true
    }

    /// Goes on fetching: the log is still the one that was read.
    pub(super) fn go_on(&mut self, id: PartitionId, out_of_range: bool) {
        if out_of_range {
            self.reset(id);
        } else {
            self.set_state(id, State::Fetching);
            self.change(id, Partition::recover);
        }
    }

    /// The leader does not have the offset: applies `auto.offset.reset`.
    pub(super) fn reset(&mut self, id: PartitionId) {
        let timestamp = match self.config.auto_offset_reset {
            AutoOffsetReset::Earliest => EARLIEST_TIMESTAMP,
            AutoOffsetReset::Latest => LATEST_TIMESTAMP,
            AutoOffsetReset::None => {
                let what = "the offset is out of range and auto.offset.reset is none";
                let error = Error::new(ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE), what);
                self.fail(id, error.with_hint(Hint::SeekInRange));
                return;
            }
        };
        let out_of_range = Some(self.partitions.get(id).fetched());
        self.set_state(id, State::Locating { timestamp, out_of_range });
    }
}

/// The `ListOffsets` request for these partitions, which are sorted.
fn offsets_request(partitions: &[&Partition], isolation_level: i8) -> ListOffsetsRequest {
    let ask = |partition: &Partition| {
        let State::Locating { timestamp, .. } = partition.state() else { return None };
        Some(ListOffsetsPartition {
            partition_index: partition.key().partition,
            current_leader_epoch: partition.leader_epoch(),
            timestamp,
            max_num_offsets: 1,
        })
    };
    let topics = by_topic(partitions, ask);
    let topics = topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect();
    ListOffsetsRequest { isolation_level, topics, ..ListOffsetsRequest::default() }
}

/// The `OffsetForLeaderEpoch` request for these partitions, which are sorted.
fn epochs_request(partitions: &[&Partition]) -> OffsetForLeaderEpochRequest {
    let ask = |partition: &Partition| {
        Some(OffsetForLeaderPartition {
            partition: partition.key().partition,
            current_leader_epoch: partition.leader_epoch(),
            leader_epoch: partition.fetched_epoch()?,
        })
    };
    let topics = by_topic(partitions, ask);
    let topics = topics.map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions }).collect();
    OffsetForLeaderEpochRequest { replica_id: -1, topics }
}

/// Groups the result of `ask` for each partition by topic.
fn by_topic<'a, T>(
    partitions: &'a [&Partition],
    ask: impl Fn(&Partition) -> Option<T>,
) -> impl Iterator<Item = (String, Vec<T>)> {
    let topics = partitions.chunk_by(|one, other| one.key().topic == other.key().topic);
    topics.filter_map(move |partitions: &'a [&Partition]| {
        let asked = partitions.iter().filter_map(|partition| ask(partition)).collect();
        Some((partitions.first()?.key().topic.to_string(), asked))
    })
}

//! `ListOffsets` v0-11: the offset for a timestamp, or of the beginning or end of a partition.
//!
//! The special timestamps are -1 latest, -2 earliest, -3 the record with the largest timestamp (KIP-734), -4 earliest
//! local (the same as earliest), -5 latest tiered (none). Before Kafka 3, the last three are ordinary times.
//!
//! v0 returns the beginnings of segments that were last written to at the timestamp or before. Here a log is one
//! segment.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kavka_core::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Answer, Context, Handle};
use crate::KafkaVersion;
use crate::log::Found;
use crate::state::State;

const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

impl Handle for ListOffsetsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ListOffsetsResponse> {
        let is_read_committed = self.isolation_level == READ_COMMITTED;
        answered(&self, |topic, partition| answer(state, context, is_read_committed, topic, partition)).into()
    }

    fn refuse(&self, error_code: ErrorCode) -> ListOffsetsResponse {
        answered(self, |_, partition| failed(partition, error_code))
    }
}

fn answered(
    request: &ListOffsetsRequest,
    mut answer: impl FnMut(&str, &ListOffsetsPartition) -> ListOffsetsPartitionResponse,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| answer(&topic.name, partition)).collect();
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

fn failed(asked: &ListOffsetsPartition, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code,
        ..ListOffsetsPartitionResponse::default()
    }
}

fn answer(
    state: &mut State,
    context: &Context,
    is_read_committed: bool,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let version = context.version();
    if version == 0 {
        return match segments(state, context, topic, asked) {
            Err(error_code) => failed(asked, error_code),
            Ok(old_style_offsets) => {
                ListOffsetsPartitionResponse { old_style_offsets, ..failed(asked, ErrorCode::NONE) }
            }
        };
    }
    match look_up(state, context, is_read_committed, topic, asked) {
        Err(error_code) => failed(asked, error_code),
        Ok(found) => ListOffsetsPartitionResponse {
            timestamp: found.map(|found| found.timestamp).filter(|timestamp| *timestamp != -1),
            offset: found.map(|found| found.offset),
            leader_epoch: found.map(|found| found.leader_epoch).filter(|_| version >= 4),
            ..failed(asked, ErrorCode::NONE)
        },
    }
}

/// The offsets that v0 returns, the newest first: where the log begins, and where its next record goes.
fn segments(
    state: &mut State,
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Vec<i64>, ErrorCode> {
    let now_ms = state.wall_clock_ms(context.now);
    let log = &state.led_by(context.broker_id, topic, asked.partition_index, None)?.log;
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let end = (end > start).then_some((end, now_ms));
    let is_later = |(offset, written_ms): &(i64, i64)| match asked.timestamp {
        LATEST => false,
        EARLIEST => *offset > start,
        timestamp => *written_ms > timestamp,
    };
    let offsets = end.into_iter().chain([(start, log.last_write_ms())]).skip_while(is_later);
    let most = usize::try_from(asked.max_num_offsets).unwrap_or(0);
    Ok(offsets.take(most).map(|(offset, _)| offset).collect())
}

fn look_up(
    state: &mut State,
    context: &Context,
    is_read_committed: bool,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Option<Found>, ErrorCode> {
    let (broker_id, epoch) = (context.broker_id, asked.current_leader_epoch);
    state.led_by(broker_id, topic, asked.partition_index, epoch)?;
    // Splits the borrow: looking into a batch needs the partition and the decompressor.
    let State { topics, decompressor, config, .. } = state;
    let partition = topics.get(topic).and_then(|topic| topic.partition(asked.partition_index));
    let Some(partition) = partition else { return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) };
    let log = &partition.log;
    let at = |offset, leader_epoch| Some(Found { offset, timestamp: -1, leader_epoch });
    let start_epoch = || log.epoch_at(log.log_start_offset()).unwrap_or(partition.leader_epoch);
    Ok(match asked.timestamp {
        LATEST if is_read_committed => at(log.last_stable_offset(), partition.leader_epoch),
        LATEST => at(log.log_end_offset(), partition.leader_epoch),
        EARLIEST => at(log.log_start_offset(), start_epoch()),
        timestamp if timestamp >= 0 || config.kafka_version < KafkaVersion::V3_9 => {
            log.find_timestamp(timestamp, decompressor)
        }
        EARLIEST_LOCAL => at(log.log_start_offset(), start_epoch()),
        MAX_TIMESTAMP => log.find_max_timestamp(decompressor),
        LATEST_TIERED => None,
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    })
}

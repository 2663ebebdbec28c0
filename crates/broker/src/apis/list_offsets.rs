//! `ListOffsets` v0-11: the offset for a timestamp, or of the beginning or end of a partition.
//!
//! The special timestamps are -1 latest, -2 earliest, -3 the record with the largest timestamp (KIP-734), -4 earliest
//! local (the same as earliest), -5 latest tiered (none).

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kavka_core::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Answer, Context, Handle};
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
    match look_up(state, context, is_read_committed, topic, asked) {
        Err(error_code) => failed(asked, error_code),
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: ErrorCode::NONE,
            old_style_offsets: found.iter().filter(|_| version == 0).map(|found| found.offset).collect(),
            timestamp: found.map(|found| found.timestamp).filter(|timestamp| version >= 1 && *timestamp != -1),
            offset: found.map(|found| found.offset).filter(|_| version >= 1),
            leader_epoch: found.map(|found| found.leader_epoch).filter(|_| version >= 4),
        },
    }
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
    let State { topics, decompressor, .. } = state;
    let partition = topics.get(topic).and_then(|topic| topic.partition(asked.partition_index));
    let Some(partition) = partition else { return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) };
    let log = &partition.log;
    let at = |offset, leader_epoch| Some(Found { offset, timestamp: -1, leader_epoch });
    let start_epoch = || log.epoch_at(log.log_start_offset()).unwrap_or(partition.leader_epoch);
    Ok(match asked.timestamp {
        LATEST if is_read_committed => at(log.last_stable_offset(), partition.leader_epoch),
        LATEST => at(log.log_end_offset(), partition.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => at(log.log_start_offset(), start_epoch()),
        MAX_TIMESTAMP => log.find_max_timestamp(decompressor),
        LATEST_TIERED => None,
        timestamp if timestamp < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp => log.find_timestamp(timestamp, decompressor),
    })
}

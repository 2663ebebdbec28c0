//! `OffsetForLeaderEpoch` v0-4: where a leader epoch ended (KIP-101, KIP-320).

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use kavka_core::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Answer, Context, Handle};
use crate::state::State;

impl Handle for OffsetForLeaderEpochRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<OffsetForLeaderEpochResponse> {
        answered(&self, |topic, asked| {
            let epoch = asked.current_leader_epoch;
            match state.led_by(context.broker_id, topic, asked.partition, epoch) {
                Err(error_code) => failed(asked, error_code),
                Ok(partition) => {
                    let end = partition.log.epoch_end(asked.leader_epoch);
                    EpochEndOffset {
                        error_code: ErrorCode::NONE,
                        partition: asked.partition,
                        leader_epoch: end.map(|(epoch, _)| epoch),
                        end_offset: end.map(|(_, offset)| offset),
                    }
                }
            }
        })
        .into()
    }

    fn refuse(&self, error_code: ErrorCode) -> OffsetForLeaderEpochResponse {
        answered(self, |_, asked| failed(asked, error_code))
    }
}

fn failed(asked: &OffsetForLeaderPartition, error_code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset { error_code, partition: asked.partition, ..EpochEndOffset::default() }
}

fn answered(
    request: &OffsetForLeaderEpochRequest,
    mut answer: impl FnMut(&str, &OffsetForLeaderPartition) -> EpochEndOffset,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| answer(&topic.topic, partition)).collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}

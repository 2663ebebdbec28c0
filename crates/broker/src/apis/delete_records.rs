//! `DeleteRecords` v0-2: deletes the oldest records of a partition.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kavka_core::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Answer, Context, Handle};
use crate::state::State;

impl Handle for DeleteRecordsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<DeleteRecordsResponse> {
        answered(&self, |topic, asked| {
            let log = &mut state.led_by(context.broker_id, topic, asked.partition_index, None)?.log;
            let before_offset = asked.offset.unwrap_or(log.log_end_offset());
            if !(0..=log.log_end_offset()).contains(&before_offset) {
                return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
            }
            log.delete_records(before_offset);
            Ok(log.log_start_offset())
        })
        .into()
    }

    fn refuse(&self, error_code: ErrorCode) -> DeleteRecordsResponse {
        answered(self, |_, _| Err(error_code))
    }
}

fn answered(
    request: &DeleteRecordsRequest,
    mut delete: impl FnMut(&str, &DeleteRecordsPartition) -> Result<i64, ErrorCode>,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let answer = |asked: &DeleteRecordsPartition| {
            let deleted = delete(&topic.name, asked);
            DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.ok(),
                error_code: deleted.err().unwrap_or(ErrorCode::NONE),
            }
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
    }
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
}

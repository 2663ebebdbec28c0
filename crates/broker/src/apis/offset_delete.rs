//! `OffsetDelete` v0: deletes committed offsets of topics to which no member of the group is subscribed (KIP-496).

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::offset_delete::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kavka_core::wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::groups::check_group;
use super::{Answer, Context, Handle};
use crate::state::State;

impl Handle for OffsetDeleteRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<OffsetDeleteResponse> {
        let checked = check_group(state, context, &self.group_id);
        if let Err(error_code) = checked.and_then(|()| state.groups.check_offset_delete(&self.group_id)) {
            return self.refuse(error_code).into();
        }
        let State { groups, topics, .. } = state;
        let delete = |topic: &OffsetDeleteRequestTopic| {
            let known = topics.get(&*topic.name).map(|topic| topic.name.clone());
            let delete = |asked: &OffsetDeleteRequestPartition| OffsetDeleteResponsePartition {
                partition_index: asked.partition_index,
                error_code: match &known {
                    Some(name) => groups.delete_offset(&self.group_id, name, asked.partition_index, topics),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                }
                .err()
                .unwrap_or(ErrorCode::NONE),
            };
            let partitions = topic.partitions.iter().map(delete).collect();
            OffsetDeleteResponseTopic { name: topic.name.clone(), partitions }
        };
        let topics = self.topics.iter().map(delete).collect();
        OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> OffsetDeleteResponse {
        OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }
    }
}

//! Consumer groups (KIP-848): `ConsumerGroupHeartbeat` v0-1 and `ConsumerGroupDescribe` v0-1.
//!
//! From v1 on a member makes its own id (KIP-1082); in v0 it gets one from the coordinator if it has none.
//! `groups/consumer.rs` implements the groups, and says what is left out.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::consumer_group_describe::DescribedGroup;
use kavka_core::wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};

use super::groups::check_group;
use super::offsets::check_coordinator;
use super::{Answer, Context, Handle};
use crate::KafkaVersion;
use crate::groups::{Group, check_heartbeat};
use crate::state::State;

/// The first version in which a member makes its own id (KIP-1082).
const MEMBER_ID_IS_OF_CLIENT_SINCE: i16 = 1;

impl Handle for ConsumerGroupHeartbeatRequest {
    fn handle(mut self, state: &mut State, context: &Context) -> Answer<ConsumerGroupHeartbeatResponse> {
        if state.config.kafka_version < KafkaVersion::V4_4 {
            return refused(ErrorCode::UNSUPPORTED_VERSION, None).into();
        }
        let client_id = context.header.client_id.clone().unwrap_or_default();
        let is_new = self.member_epoch == 0 && self.member_id.is_empty();
        if is_new && context.version() < MEMBER_ID_IS_OF_CLIENT_SINCE {
            self.member_id = state.groups.new_member_id(&client_id);
        }
        if let Err((error_code, why)) = check_heartbeat(&self) {
            return refused(error_code, Some(why.to_owned())).into();
        }
        if let Err(error_code) = check_coordinator(state, context, &self.group_id) {
            return refused(error_code, None).into();
        }
        let State { groups, topics, wakes, .. } = state;
        match groups.heartbeat_consumer(context.now, &self, &client_id, topics, wakes) {
            Ok(response) => response.into(),
            Err(error_code) => refused(error_code, None).into(),
        }
    }

    fn refuse(&self, error_code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
        refused(error_code, None)
    }
}

fn refused(error_code: ErrorCode, error_message: Option<String>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse { error_code, error_message, ..ConsumerGroupHeartbeatResponse::default() }
}

impl Handle for ConsumerGroupDescribeRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ConsumerGroupDescribeResponse> {
        if state.config.kafka_version < KafkaVersion::V4_4 {
            return self.refuse(ErrorCode::UNSUPPORTED_VERSION).into();
        }
        let describe = |group_id: &String| {
            if let Err(error_code) = check_group(state, context, group_id) {
                return undescribed(group_id, error_code);
            }
            match state.groups.get(group_id).and_then(Group::as_consumer) {
                Some(group) => group.describe(group_id, &state.topics),
                None => undescribed(group_id, ErrorCode::GROUP_ID_NOT_FOUND),
            }
        };
        let groups = self.group_ids.iter().map(describe).collect();
        ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> ConsumerGroupDescribeResponse {
        let groups = self.group_ids.iter().map(|group_id| undescribed(group_id, error_code)).collect();
        ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }
    }
}

fn undescribed(group_id: &str, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup { error_code, group_id: group_id.to_owned(), ..DescribedGroup::default() }
}

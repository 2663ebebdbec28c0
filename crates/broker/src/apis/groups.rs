//! The classic group protocol: `JoinGroup` v0-9, `SyncGroup` v0-5, `Heartbeat` v0-4, `LeaveGroup` v0-5; and
//! `ListGroups` v0-5, `DescribeGroups` v0-6, `DeleteGroups` v0-3.
//!
//! From `JoinGroup` v4 on a new member joins twice: the first response only tells it its member id (KIP-394).
//! `groups/classic.rs` implements the groups, and says what is left out.
//!
//! Consumer groups (KIP-848) are in `consumer_groups.rs`.

use std::time::Duration;

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::delete_groups::DeletableGroupResult;
use kavka_core::wire::messages::describe_groups::DescribedGroup;
use kavka_core::wire::messages::leave_group::{MemberIdentity, MemberResponse};
use kavka_core::wire::messages::list_groups::ListedGroup;
use kavka_core::wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::offsets::check_coordinator;
use super::{Answer, Context, Handle};
use crate::groups::{Group, Join, Sync, refused_join, refused_sync};
use crate::state::State;
use crate::waits::Wait;

/// Whether this broker coordinates the group, and the group id may have members.
pub(super) fn check_group(state: &State, context: &Context, group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    check_coordinator(state, context, group_id)
}

/// Kafka's `group.min.session.timeout.ms`.
const MIN_SESSION_TIMEOUT_MS: i32 = 6_000;
/// The first version of `JoinGroup` in which a new member joins twice (KIP-394).
const MEMBER_ID_IS_REQUIRED_SINCE: i16 = 4;
/// The first version of `JoinGroup` that can tell the leader to keep the assignment (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// The first version of `SyncGroup` that names the assignor (KIP-559).
const PROTOCOL_IS_NAMED_SINCE: i16 = 5;

impl Handle for JoinGroupRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<JoinGroupResponse> {
        if let Err(error_code) = check_group(state, context, &self.group_id) {
            return self.refuse(error_code).into();
        }
        let max_session_timeout_ms = state.config.kafka_version.max_session_timeout_ms();
        if !(MIN_SESSION_TIMEOUT_MS..=max_session_timeout_ms).contains(&self.session_timeout_ms) {
            return self.refuse(ErrorCode::INVALID_SESSION_TIMEOUT).into();
        }
        let client_id = context.header.client_id.clone().unwrap_or_default();
        let mut member_id = self.member_id.clone();
        let is_new = member_id.is_empty();
        if is_new {
            let prefix = self.group_instance_id.as_deref().unwrap_or(&client_id);
            member_id = state.groups.new_member_id(prefix);
        }
        let join = Join {
            connection: context.connection,
            member_id: member_id.clone(),
            is_new,
            must_know_id: context.version() >= MEMBER_ID_IS_REQUIRED_SINCE,
            group_instance_id: self.group_instance_id,
            can_skip_assignment: context.version() >= SKIP_ASSIGNMENT_SINCE,
            client_id,
            session_timeout: millis(self.session_timeout_ms),
            rebalance_timeout: millis(self.rebalance_timeout_ms.unwrap_or(self.session_timeout_ms)),
            protocol_type: self.protocol_type,
            protocols: self.protocols.into_iter().map(|protocol| (protocol.name, protocol.metadata)).collect(),
        };
        let State { groups, topics, wakes, .. } = state;
        match groups.join(context.now, &self.group_id, join, topics, wakes) {
            Ok(()) => Answer::Wait(Wait::Join),
            Err(ErrorCode::MEMBER_ID_REQUIRED) => refused_join(ErrorCode::MEMBER_ID_REQUIRED, &member_id).into(),
            Err(error_code) => refused_join(error_code, if is_new { "" } else { &member_id }).into(),
        }
    }

    fn refuse(&self, error_code: ErrorCode) -> JoinGroupResponse {
        refused_join(error_code, &self.member_id)
    }
}

fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

impl Handle for SyncGroupRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<SyncGroupResponse> {
        if let Err(error_code) = check_group(state, context, &self.group_id) {
            return self.refuse(error_code).into();
        }
        if context.version() >= PROTOCOL_IS_NAMED_SINCE && self.protocol_name.is_none() {
            return self.refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL).into();
        }
        let assignments =
            self.assignments.into_iter().map(|assignment| (assignment.member_id, assignment.assignment)).collect();
        let sync = Sync {
            connection: context.connection,
            member_id: self.member_id,
            group_instance_id: self.group_instance_id,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type,
            protocol_name: self.protocol_name,
            assignments,
        };
        let State { groups, topics, wakes, .. } = state;
        match groups.sync(context.now, &self.group_id, sync, topics, wakes) {
            Ok(()) => Answer::Wait(Wait::Sync),
            Err(error_code) => refused_sync(error_code).into(),
        }
    }

    fn refuse(&self, error_code: ErrorCode) -> SyncGroupResponse {
        refused_sync(error_code)
    }
}

impl Handle for HeartbeatRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<HeartbeatResponse> {
        let checked = check_group(state, context, &self.group_id);
        let instance = self.group_instance_id.as_deref();
        let heard = checked.and_then(|()| {
            state.groups.heartbeat(context.now, &self.group_id, &self.member_id, instance, self.generation_id)
        });
        self.refuse(heard.err().unwrap_or(ErrorCode::NONE)).into()
    }

    fn refuse(&self, error_code: ErrorCode) -> HeartbeatResponse {
        HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
    }
}

impl Handle for LeaveGroupRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<LeaveGroupResponse> {
        if let Err(error_code) = check_group(state, context, &self.group_id) {
            return self.refuse(error_code).into();
        }
        let State { groups, wakes, .. } = state;
        let mut leave = |member_id: &str, instance: Option<&str>| {
            let left = groups.leave(context.now, &self.group_id, member_id, instance, wakes);
            left.err().unwrap_or(ErrorCode::NONE)
        };
        if context.version() < 3 {
            return self.refuse(leave(&self.member_id, None)).into();
        }
        let leave = |member: &MemberIdentity| MemberResponse {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error_code: leave(&member.member_id, member.group_instance_id.as_deref()),
        };
        LeaveGroupResponse { members: self.members.iter().map(leave).collect(), ..LeaveGroupResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> LeaveGroupResponse {
        LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
    }
}

impl Handle for ListGroupsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ListGroupsResponse> {
        let fits = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let is_asked = |(group_id, group): &(&str, &Group)| {
            check_coordinator(state, context, group_id).is_ok()
                && fits(&self.states_filter, group.state_name())
                && fits(&self.types_filter, group.type_name())
        };
        let describe = |(group_id, group): (&str, &Group)| ListedGroup {
            group_id: group_id.to_owned(),
            protocol_type: group.protocol_type().to_owned(),
            group_state: group.state_name().to_owned(),
            group_type: group.type_name().to_owned(),
        };
        let groups = state.groups.iter().filter(is_asked).map(describe).collect();
        ListGroupsResponse { groups, ..ListGroupsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> ListGroupsResponse {
        ListGroupsResponse { error_code, ..ListGroupsResponse::default() }
    }
}

impl Handle for DescribeGroupsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<DescribeGroupsResponse> {
        let describe = |group_id: &String| match check_coordinator(state, context, group_id) {
            Err(error_code) => undescribed(group_id, error_code),
            Ok(()) => match state.groups.get(group_id).and_then(|group| group.describe(group_id)) {
                Some(described) => described,
                None => DescribedGroup {
                    group_state: "Dead".to_owned(),
                    error_message: (context.version() >= 6).then(|| format!("there is no classic group {group_id}")),
                    ..undescribed(
                        group_id,
                        if context.version() >= 6 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
                    )
                },
            },
        };
        let groups = self.groups.iter().map(describe).collect();
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> DescribeGroupsResponse {
        let groups = self.groups.iter().map(|group_id| undescribed(group_id, error_code)).collect();
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
    }
}

fn undescribed(group_id: &str, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup { error_code, group_id: group_id.to_owned(), ..DescribedGroup::default() }
}

impl Handle for DeleteGroupsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<DeleteGroupsResponse> {
        let delete = |group_id: &String| {
            let checked = check_group(state, context, group_id);
            undeleted(group_id, checked.and_then(|()| state.groups.delete(group_id)).err().unwrap_or(ErrorCode::NONE))
        };
        let results = self.groups_names.iter().map(delete).collect();
        DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> DeleteGroupsResponse {
        let results = self.groups_names.iter().map(|group_id| undeleted(group_id, error_code)).collect();
        DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
    }
}

fn undeleted(group_id: &str, error_code: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult { group_id: group_id.to_owned(), error_code, ..DeletableGroupResult::default() }
}

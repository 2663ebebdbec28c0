//! `LeaveGroup`: members leave a classic group. The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Removes members from the group; a single one below version 3 (KIP-345).
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "LeaveGroup", response = LeaveGroupResponse, versions = "0-5", flexible = 4)]
pub struct LeaveGroupRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The member's id, below version 3.
    #[kafka(until = 2)]
    pub member_id: String,
    /// The members that leave, from version 3 on.
    #[kafka(since = 3)]
    pub members: Vec<MemberIdentity>,
}

/// One member that leaves.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberIdentity {
    /// The member id, as assigned by the coordinator.
    #[kafka(since = 3)]
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// The reason, for the broker's log (KIP-800).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub reason: Option<String>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 4)]
pub struct LeaveGroupResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// One entry per member, from version 3 on.
    #[kafka(since = 3)]
    pub members: Vec<MemberResponse>,
}

/// The outcome for one member.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberResponse {
    /// The member id, as assigned by the coordinator.
    #[kafka(since = 3)]
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// The error, or `NONE`.
    #[kafka(since = 3)]
    pub error_code: ErrorCode,
}

//! `Heartbeat`: keeps a member of a classic group alive. The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Keeps a member's session alive.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Heartbeat", response = HeartbeatResponse, versions = "0-4", flexible = 4)]
pub struct HeartbeatRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The generation that the member is in.
    pub generation_id: i32,
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
}

/// The group's answer; `REBALANCE_IN_PROGRESS` asks the member to join again.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct HeartbeatResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
}

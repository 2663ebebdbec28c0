//! `Heartbeat`: a member of a classic group is alive. The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Says that a member is alive.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Heartbeat", response = HeartbeatResponse, versions = "0-4", flexible = 4)]
pub struct HeartbeatRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The generation that the member is in.
    pub generation_id: i32,
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// The name of a static member (KIP-345); `group.instance.id`.
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
}

/// Whether the group is stable; `REBALANCE_IN_PROGRESS` asks the member to join again.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct HeartbeatResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
}

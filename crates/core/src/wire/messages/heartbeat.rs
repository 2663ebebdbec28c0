//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Heartbeat", response = HeartbeatResponse, versions = "0-4", flexible = 4)]
pub struct HeartbeatRequest {
    /// DOC
    pub group_id: String,
    /// DOC
    pub generation_id: i32,
    /// DOC
    pub member_id: String,
    /// DOC
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct HeartbeatResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
}

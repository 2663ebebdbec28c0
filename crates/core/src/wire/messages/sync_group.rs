//! DOC

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SyncGroup", response = SyncGroupResponse, versions = "0-5", flexible = 4)]
pub struct SyncGroupRequest {
    /// DOC
    pub group_id: String,
    /// DOC
    pub generation_id: i32,
    /// DOC
    pub member_id: String,
    /// DOC
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// DOC
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SyncGroupRequestAssignment {
    /// DOC
    pub member_id: String,
    /// DOC
    pub assignment: Bytes,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 4)]
pub struct SyncGroupResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// DOC
    pub assignment: Bytes,
}

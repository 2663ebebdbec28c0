//! DOC

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "JoinGroup", response = JoinGroupResponse, versions = "0-9", flexible = 6)]
pub struct JoinGroupRequest {
    /// DOC
    pub group_id: String,
    /// DOC
    pub session_timeout_ms: i32,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub rebalance_timeout_ms: Option<i32>,
    /// DOC
    pub member_id: String,
    /// DOC
    #[kafka(since = 5, nullable = 5)]
    pub group_instance_id: Option<String>,
    /// DOC
    pub protocol_type: String,
    /// DOC
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// DOC
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub reason: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupRequestProtocol {
    /// DOC
    pub name: String,
    /// DOC
    pub metadata: Bytes,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-9", flexible = 6)]
pub struct JoinGroupResponse {
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub generation_id: Option<i32>,
    /// DOC
    #[kafka(since = 7, nullable = 7, ignorable)]
    pub protocol_type: Option<String>,
    /// DOC
    #[kafka(nullable = 7)]
    pub protocol_name: Option<String>,
    /// DOC
    pub leader: String,
    /// DOC
    #[kafka(since = 9)]
    pub skip_assignment: bool,
    /// DOC
    pub member_id: String,
    /// DOC
    pub members: Vec<JoinGroupResponseMember>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupResponseMember {
    /// DOC
    pub member_id: String,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub group_instance_id: Option<String>,
    /// DOC
    pub metadata: Bytes,
}

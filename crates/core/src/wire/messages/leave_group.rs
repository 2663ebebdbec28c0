//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "LeaveGroup", response = LeaveGroupResponse, versions = "0-5", flexible = 4)]
pub struct LeaveGroupRequest {
    /// DOC
    pub group_id: String,
    /// DOC
    #[kafka(until = 2)]
    pub member_id: String,
    /// DOC
    #[kafka(since = 3)]
    pub members: Vec<MemberIdentity>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberIdentity {
    /// DOC
    #[kafka(since = 3)]
    pub member_id: String,
    /// DOC
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub reason: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 4)]
pub struct LeaveGroupResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 3)]
    pub members: Vec<MemberResponse>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberResponse {
    /// DOC
    #[kafka(since = 3)]
    pub member_id: String,
    /// DOC
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// DOC
    #[kafka(since = 3)]
    pub error_code: ErrorCode,
}

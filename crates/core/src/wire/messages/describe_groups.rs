//! DOC

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DescribeGroups", response = DescribeGroupsResponse, versions = "0-6", flexible = 5)]
pub struct DescribeGroupsRequest {
    /// DOC
    pub groups: Vec<String>,
    /// DOC
    #[kafka(since = 3)]
    pub include_authorized_operations: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 5)]
pub struct DescribeGroupsResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub groups: Vec<DescribedGroup>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 6, nullable = 6)]
    pub error_message: Option<String>,
    /// DOC
    pub group_id: String,
    /// DOC
    pub group_state: String,
    /// DOC
    pub protocol_type: String,
    /// DOC
    pub protocol_data: String,
    /// DOC
    pub members: Vec<DescribedGroupMember>,
    /// DOC
    #[kafka(since = 3, default = i32::MIN)]
    pub authorized_operations: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroupMember {
    /// DOC
    pub member_id: String,
    /// DOC
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub group_instance_id: Option<String>,
    /// DOC
    pub client_id: String,
    /// DOC
    pub client_host: String,
    /// DOC
    pub member_metadata: Bytes,
    /// DOC
    pub member_assignment: Bytes,
}

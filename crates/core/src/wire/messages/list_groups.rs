//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ListGroups", response = ListGroupsResponse, versions = "0-5", flexible = 3)]
pub struct ListGroupsRequest {
    /// DOC
    #[kafka(since = 4)]
    pub states_filter: Vec<String>,
    /// DOC
    #[kafka(since = 5)]
    pub types_filter: Vec<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 3)]
pub struct ListGroupsResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub groups: Vec<ListedGroup>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListedGroup {
    /// DOC
    pub group_id: String,
    /// DOC
    pub protocol_type: String,
    /// DOC
    #[kafka(since = 4, ignorable)]
    pub group_state: String,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub group_type: String,
}

//! `DeleteGroups`: deletes groups without members, and their committed offsets (KIP-229). The group's coordinator
//! answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Deletes groups.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DeleteGroups", response = DeleteGroupsResponse, versions = "0-3", flexible = 2)]
pub struct DeleteGroupsRequest {
    /// The groups' ids.
    pub groups_names: Vec<String>,
}

/// The outcome for each group.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = 2)]
pub struct DeleteGroupsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per group.
    pub results: Vec<DeletableGroupResult>,
}

/// The outcome for one group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableGroupResult {
    /// The group's id.
    pub group_id: String,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 3, nullable = 3, ignorable)]
    pub error_message: Option<String>,
}

//! `DeleteGroups`: removes groups without members, and their committed offsets (KIP-229). The group's coordinator
//! answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for groups to be removed.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DeleteGroups", response = DeleteGroupsResponse, versions = "0-3", flexible = 2)]
pub struct DeleteGroupsRequest {
    /// The groups' ids.
    pub groups_names: Vec<String>,
}

/// What became of each group.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = 2)]
pub struct DeleteGroupsResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per group.
    pub results: Vec<DeletableGroupResult>,
}

/// What became of one group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableGroupResult {
    /// The group's id.
    pub group_id: String,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The reason in the broker's words, if it gives one.
    #[kafka(since = 3, nullable = 3, ignorable)]
    pub error_message: Option<String>,
}

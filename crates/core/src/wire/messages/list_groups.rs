//! `ListGroups`: the groups that one broker coordinates.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for the groups that the broker coordinates.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ListGroups", response = ListGroupsResponse, versions = "0-5", flexible = 3)]
pub struct ListGroupsRequest {
    /// The states of groups to list; empty for all (KIP-518).
    #[kafka(since = 4)]
    pub states_filter: Vec<String>,
    /// The types of groups to list; empty for all (KIP-848).
    #[kafka(since = 5)]
    pub types_filter: Vec<String>,
}

/// The groups.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 3)]
pub struct ListGroupsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// One entry per group.
    pub groups: Vec<ListedGroup>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListedGroup {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The protocol type of the group: `consumer` for consumers.
    pub protocol_type: String,
    /// Its state, such as `Stable` or `PreparingRebalance`; empty if unknown.
    #[kafka(since = 4, ignorable)]
    pub group_state: String,
    /// `classic`, `consumer` or another type (KIP-848).
    #[kafka(since = 5, ignorable)]
    pub group_type: String,
}

//! `DescribeGroups`: state and members of classic groups. A group's coordinator answers it.

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for state and members of some groups.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DescribeGroups", response = DescribeGroupsResponse, versions = "0-6", flexible = 5)]
pub struct DescribeGroupsRequest {
    /// The groups' ids.
    pub groups: Vec<String>,
    /// Whether to tell what the client may do with each group (KIP-430).
    #[kafka(since = 3)]
    pub include_authorized_operations: bool,
}

/// The groups that were asked for.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 5)]
pub struct DescribeGroupsResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per group.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The reason in the broker's words, if it gives one.
    #[kafka(since = 6, nullable = 6)]
    pub error_message: Option<String>,
    /// The group's id; `group.id`.
    pub group_id: String,
    /// Its state, such as `Stable` or `PreparingRebalance`; empty if it could not be told.
    pub group_state: String,
    /// The kind of group: `consumer` for consumers.
    pub protocol_type: String,
    /// The protocol that was chosen: an assignor, for consumers.
    pub protocol_data: String,
    /// One entry per member.
    pub members: Vec<DescribedGroupMember>,
    /// What the client may do with it, one bit each; `i32::MIN` if that was not asked for (KIP-430).
    #[kafka(since = 3, default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroupMember {
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// The name of a static member (KIP-345); `group.instance.id`.
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub group_instance_id: Option<String>,
    /// The member's `client.id`.
    pub client_id: String,
    /// The address it is connected from.
    pub client_host: String,
    /// What it said when it joined; the protocol knows the format.
    pub member_metadata: Bytes,
    /// Its share; the protocol knows the format.
    pub member_assignment: Bytes,
}

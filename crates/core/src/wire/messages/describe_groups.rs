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
    /// Whether to return what the client is authorized to do with each group (KIP-430).
    #[kafka(since = 3)]
    pub include_authorized_operations: bool,
}

/// The groups that were asked for.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 5)]
pub struct DescribeGroupsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per group.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 6, nullable = 6)]
    pub error_message: Option<String>,
    /// The group's id; `group.id`.
    pub group_id: String,
    /// Its state, such as `Stable` or `PreparingRebalance`; empty if unknown.
    pub group_state: String,
    /// The protocol type of the group: `consumer` for consumers.
    pub protocol_type: String,
    /// The chosen protocol: for consumers, an assignor.
    pub protocol_data: String,
    /// One entry per member.
    pub members: Vec<DescribedGroupMember>,
    /// What the client is authorized to do with it, as a bit field (KIP-430); `i32::MIN` if not requested.
    #[kafka(since = 3, default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroupMember {
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub group_instance_id: Option<String>,
    /// The member's `client.id`.
    pub client_id: String,
    /// The address from which it is connected.
    pub client_host: String,
    /// What it sent when it joined, in the format of the protocol.
    pub member_metadata: Bytes,
    /// Its assignment, in the format of the protocol.
    pub member_assignment: Bytes,
}

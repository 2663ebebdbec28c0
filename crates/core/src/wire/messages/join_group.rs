//! `JoinGroup`: joins a classic group, or rejoins it in a rebalance. The group's coordinator answers it.

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// The first version with `group_instance_id`.
pub const STATIC_MEMBERS_SINCE: i16 = 5;

/// Asks to join the next generation. The broker answers when the other members have joined, too.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "JoinGroup", response = JoinGroupResponse, versions = "0-9", flexible = 6)]
pub struct JoinGroupRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// How long the member may send no heartbeat before it is removed, in milliseconds (`session.timeout.ms`).
    pub session_timeout_ms: i32,
    /// How long the member may take to join again, in milliseconds; `max.poll.interval.ms`, KIP-62.
    #[kafka(since = 1, ignorable)]
    pub rebalance_timeout_ms: Option<i32>,
    /// The member id; empty for a new member, until the coordinator assigns one (KIP-394).
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 5, nullable = 5)]
    pub group_instance_id: Option<String>,
    /// The protocol type of the group: `consumer` for consumers.
    pub protocol_type: String,
    /// The protocols that it supports, most preferred first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// The reason, for the broker's log (KIP-800).
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub reason: Option<String>,
}

/// A protocol that the member supports.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupRequestProtocol {
    /// The protocol's name: an assignor, for consumers.
    pub name: String,
    /// The member's data, in the protocol's format.
    pub metadata: Bytes,
}

/// The generation that the member is in.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-9", flexible = 6)]
pub struct JoinGroupResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The new generation; `None` if joining failed.
    pub generation_id: Option<i32>,
    /// The protocol type of the group: `consumer` for consumers.
    #[kafka(since = 7, nullable = 7, ignorable)]
    pub protocol_type: Option<String>,
    /// The chosen protocol, for consumers an assignor; `None` if joining failed.
    #[kafka(nullable = 7)]
    pub protocol_name: Option<String>,
    /// The member id of the group's leader.
    pub leader: String,
    /// Whether the leader need not assign anything (KIP-814).
    #[kafka(since = 9)]
    pub skip_assignment: bool,
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// All members, if this one is the group's leader; otherwise empty.
    pub members: Vec<JoinGroupResponseMember>,
}

/// A member, as the group's leader sees it.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupResponseMember {
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub group_instance_id: Option<String>,
    /// The member's data, in the chosen protocol's format.
    pub metadata: Bytes,
}

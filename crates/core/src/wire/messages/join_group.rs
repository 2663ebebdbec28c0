//! `JoinGroup`: enters a classic group, or stays in it across a rebalance. The group's coordinator answers it.

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks to be a member of the next generation. It waits at the broker until the others have joined too.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "JoinGroup", response = JoinGroupResponse, versions = "0-9", flexible = 6)]
pub struct JoinGroupRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// How long the member may be silent before it is removed, in milliseconds; `session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// How long the member may take to join again, in milliseconds; `max.poll.interval.ms`, KIP-62.
    #[kafka(since = 1, ignorable)]
    pub rebalance_timeout_ms: Option<i32>,
    /// The member's id; empty when it is new, until the coordinator gives it one (KIP-394).
    pub member_id: String,
    /// The name of a static member (KIP-345); `group.instance.id`.
    #[kafka(since = 5, nullable = 5)]
    pub group_instance_id: Option<String>,
    /// The kind of group: `consumer` for consumers.
    pub protocol_type: String,
    /// The protocols that it can take part in, most preferred first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Why, for the broker's log (KIP-800).
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub reason: Option<String>,
}

/// One protocol that the member can take part in, most preferred first.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupRequestProtocol {
    /// The protocol's name: an assignor, for consumers.
    pub name: String,
    /// What the member says about itself, in the protocol's format.
    pub metadata: Bytes,
}

/// The generation that the member is in.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-9", flexible = 6)]
pub struct JoinGroupResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The new generation; none if joining failed.
    pub generation_id: Option<i32>,
    /// The kind of group: `consumer` for consumers.
    #[kafka(since = 7, nullable = 7, ignorable)]
    pub protocol_type: Option<String>,
    /// The protocol that was chosen, an assignor for consumers; none if joining failed.
    #[kafka(nullable = 7)]
    pub protocol_name: Option<String>,
    /// The member id of the group's leader.
    pub leader: String,
    /// Whether the leader need not assign anything (KIP-814).
    #[kafka(since = 9)]
    pub skip_assignment: bool,
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// Every member, if this one is the leader of the group; otherwise empty.
    pub members: Vec<JoinGroupResponseMember>,
}

/// One member, told to the leader of the group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupResponseMember {
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// The name of a static member (KIP-345); `group.instance.id`.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub group_instance_id: Option<String>,
    /// What the member said about itself, in the chosen protocol's format.
    pub metadata: Bytes,
}

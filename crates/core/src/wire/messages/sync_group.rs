//! `SyncGroup`: the leader of a classic group sends the assignments, and every member gets its own.

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for the member's assignment; the leader's request carries those of all members.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SyncGroup", response = SyncGroupResponse, versions = "0-5", flexible = 4)]
pub struct SyncGroupRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The generation that the member is in.
    pub generation_id: i32,
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// The protocol type of the group: `consumer` for consumers.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// The chosen protocol: for consumers, an assignor (KIP-559).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// The assignments of all members, from the group's leader; empty from the others.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// The assignment of one member.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SyncGroupRequestAssignment {
    /// The member id, as assigned by the coordinator.
    pub member_id: String,
    /// The member's assignment, in the protocol's format.
    pub assignment: Bytes,
}

/// The member's assignment.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 4)]
pub struct SyncGroupResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The protocol type of the group: `consumer` for consumers.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// The chosen protocol: for consumers, an assignor (KIP-559).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// The member's assignment, in the protocol's format.
    pub assignment: Bytes,
}

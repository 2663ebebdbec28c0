//! `SyncGroup`: the leader of a classic group hands in what it assigned, every member gets its share.

use bytes::Bytes;
use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for the member's share; the leader's request brings everybody's.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "SyncGroup", response = SyncGroupResponse, versions = "0-5", flexible = 4)]
pub struct SyncGroupRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The generation that the member is in.
    pub generation_id: i32,
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// The name of a static member (KIP-345); `group.instance.id`.
    #[kafka(since = 3, nullable = 3)]
    pub group_instance_id: Option<String>,
    /// The kind of group: `consumer` for consumers.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// The protocol that was chosen: an assignor, for consumers (KIP-559).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// Everybody's share, from the group's leader; empty from the others.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// The share of one member.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SyncGroupRequestAssignment {
    /// The member's id, which the coordinator gave it.
    pub member_id: String,
    /// What the member shall do, in the protocol's format.
    pub assignment: Bytes,
}

/// The member's share.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 4)]
pub struct SyncGroupResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The kind of group: `consumer` for consumers.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_type: Option<String>,
    /// The protocol that was chosen: an assignor, for consumers (KIP-559).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub protocol_name: Option<String>,
    /// What the member shall do, in the protocol's format.
    pub assignment: Bytes,
}

//! `FindCoordinator`: the broker that coordinates a group or a transactional id. Any broker answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// The newest version that asks for one key.
pub const FIND_ONE_COORDINATOR: i16 = 3;

/// Asks for the coordinators of some groups or transactional ids; of one below version 4 (KIP-699).
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "FindCoordinator", response = FindCoordinatorResponse, versions = "0-6", flexible = 3)]
pub struct FindCoordinatorRequest {
    /// The group or transactional id, below version 4.
    #[kafka(until = 3)]
    pub key: String,
    /// 0 for groups, 1 for transactional ids, 2 for share groups.
    #[kafka(since = 1)]
    pub key_type: i8,
    /// The groups or transactional ids, from version 4 on (KIP-699).
    #[kafka(since = 4)]
    pub coordinator_keys: Vec<String>,
}

/// The coordinators; one, in the fields of the response itself, below version 4.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 3)]
pub struct FindCoordinatorResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    #[kafka(until = 3)]
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 1, until = 3, nullable = 1, ignorable)]
    pub error_message: Option<String>,
    /// The coordinator's broker id.
    #[kafka(until = 3)]
    pub node_id: i32,
    /// The broker's advertised host.
    #[kafka(until = 3)]
    pub host: String,
    /// The broker's advertised port.
    #[kafka(until = 3)]
    pub port: i32,
    /// One entry per key, from version 4 on.
    #[kafka(since = 4)]
    pub coordinators: Vec<Coordinator>,
}

/// The coordinator of one key.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Coordinator {
    /// The group or transactional id.
    #[kafka(since = 4)]
    pub key: String,
    /// The coordinator's broker id.
    #[kafka(since = 4)]
    pub node_id: i32,
    /// The broker's advertised host.
    #[kafka(since = 4)]
    pub host: String,
    /// The broker's advertised port.
    #[kafka(since = 4)]
    pub port: i32,
    /// The error, or `NONE`.
    #[kafka(since = 4)]
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub error_message: Option<String>,
}

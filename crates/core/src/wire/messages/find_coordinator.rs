//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "FindCoordinator", response = FindCoordinatorResponse, versions = "0-6", flexible = 3)]
pub struct FindCoordinatorRequest {
    /// DOC
    #[kafka(until = 3)]
    pub key: String,
    /// DOC
    #[kafka(since = 1)]
    pub key_type: i8,
    /// DOC
    #[kafka(since = 4)]
    pub coordinator_keys: Vec<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 3)]
pub struct FindCoordinatorResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    #[kafka(until = 3)]
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 1, until = 3, nullable = 1, ignorable)]
    pub error_message: Option<String>,
    /// DOC
    #[kafka(until = 3)]
    pub node_id: i32,
    /// DOC
    #[kafka(until = 3)]
    pub host: String,
    /// DOC
    #[kafka(until = 3)]
    pub port: i32,
    /// DOC
    #[kafka(since = 4)]
    pub coordinators: Vec<Coordinator>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Coordinator {
    /// DOC
    #[kafka(since = 4)]
    pub key: String,
    /// DOC
    #[kafka(since = 4)]
    pub node_id: i32,
    /// DOC
    #[kafka(since = 4)]
    pub host: String,
    /// DOC
    #[kafka(since = 4)]
    pub port: i32,
    /// DOC
    #[kafka(since = 4)]
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub error_message: Option<String>,
}

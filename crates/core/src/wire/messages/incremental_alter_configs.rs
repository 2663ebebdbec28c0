//! `IncrementalAlterConfigs`: changes single settings of topics and brokers (KIP-339). Any broker answers for topics,
//! a broker for itself.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for settings to be changed.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "IncrementalAlterConfigs", response = IncrementalAlterConfigsResponse, versions = "0-1", flexible = 1)]
pub struct IncrementalAlterConfigsRequest {
    /// Whose settings.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether to check the request and change nothing.
    pub validate_only: bool,
}

/// One topic, broker or other resource.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResource {
    /// 2 for a topic, 4 for a broker, 8 for a broker's loggers.
    pub resource_type: i8,
    /// A topic's name or a broker's id.
    pub resource_name: String,
    /// The changes.
    pub configs: Vec<AlterableConfig>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterableConfig {
    /// The setting's name.
    pub name: String,
    /// 0 sets it, 1 takes it back to its default, 2 appends to a list, 3 takes out of a list.
    pub config_operation: i8,
    /// The value; none to take it back to its default.
    #[kafka(nullable = 0)]
    pub value: Option<String>,
}

/// What became of each resource.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = 1)]
pub struct IncrementalAlterConfigsResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per resource.
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// What became of one resource: all its changes were made, or none.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResourceResponse {
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The reason in the broker's words, if it gives one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// 2 for a topic, 4 for a broker, 8 for a broker's loggers.
    pub resource_type: i8,
    /// A topic's name or a broker's id.
    pub resource_name: String,
}

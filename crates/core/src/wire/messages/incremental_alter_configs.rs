//! `IncrementalAlterConfigs`: changes single settings of topics and brokers (KIP-339). Any broker answers for topics,
//! a broker for itself.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Changes settings.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "IncrementalAlterConfigs", response = IncrementalAlterConfigsResponse, versions = "0-1", flexible = 1)]
pub struct IncrementalAlterConfigsRequest {
    /// Whose settings.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether only to check the request, without changing anything.
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
    /// 0: set; 1: reset to the default; 2: append to a list; 3: remove from a list.
    pub config_operation: i8,
    /// The value; `None` to reset it to the default.
    #[kafka(nullable = 0)]
    pub value: Option<String>,
}

/// The outcome for each resource.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = 1)]
pub struct IncrementalAlterConfigsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per resource.
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// The outcome for one resource: all its changes were made, or none.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResourceResponse {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// 2 for a topic, 4 for a broker, 8 for a broker's loggers.
    pub resource_type: i8,
    /// A topic's name or a broker's id.
    pub resource_name: String,
}

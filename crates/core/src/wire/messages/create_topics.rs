//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "CreateTopics", response = CreateTopicsResponse, versions = "0-7", flexible = 5)]
pub struct CreateTopicsRequest {
    /// DOC
    pub topics: Vec<CreatableTopic>,
    /// DOC
    #[kafka(default = 60_000)]
    pub timeout_ms: i32,
    /// DOC
    #[kafka(since = 1)]
    pub validate_only: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopic {
    /// DOC
    pub name: String,
    /// DOC
    pub num_partitions: i32,
    /// DOC
    pub replication_factor: i16,
    /// DOC
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// DOC
    pub configs: Vec<CreatableTopicConfig>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableReplicaAssignment {
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub broker_ids: Vec<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfig {
    /// DOC
    pub name: String,
    /// DOC
    #[kafka(nullable = 0)]
    pub value: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-7", flexible = 5)]
pub struct CreateTopicsResponse {
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub topics: Vec<CreatableTopicResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicResult {
    /// DOC
    pub name: String,
    /// DOC
    #[kafka(since = 7, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 1, nullable = 0, ignorable)]
    pub error_message: Option<String>,
    /// DOC
    #[kafka(since = 5, tag = 0, ignorable)]
    pub topic_config_error_code: i16,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub num_partitions: Option<i32>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub replication_factor: Option<i16>,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfigs {
    /// DOC
    #[kafka(since = 5)]
    pub name: String,
    /// DOC
    #[kafka(since = 5, nullable = 5)]
    pub value: Option<String>,
    /// DOC
    #[kafka(since = 5)]
    pub read_only: bool,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub config_source: Option<i8>,
    /// DOC
    #[kafka(since = 5)]
    pub is_sensitive: bool,
}

//! `CreateTopics`: new topics (KIP-4). The controller answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// Asks for new topics.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "CreateTopics", response = CreateTopicsResponse, versions = "0-7", flexible = 5)]
pub struct CreateTopicsRequest {
    /// One entry per topic.
    pub topics: Vec<CreatableTopic>,
    /// How long the controller may take before it answers, in milliseconds.
    #[kafka(default = 60_000)]
    pub timeout_ms: i32,
    /// Whether only to check the request, without changing anything.
    #[kafka(since = 1)]
    pub validate_only: bool,
}

/// One new topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopic {
    /// The topic's name.
    pub name: String,
    /// How many partitions; `None` for the broker's default (version 4, KIP-464) or with `assignments`.
    pub num_partitions: Option<i32>,
    /// How many replicas of each; `None` for the broker's default (version 4, KIP-464) or with `assignments`.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition; empty lets the controller choose.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// Settings that differ from the broker's defaults.
    pub configs: Vec<CreatableTopicConfig>,
}

/// The replicas of one partition, the preferred leader first.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableReplicaAssignment {
    /// The partition.
    pub partition_index: i32,
    /// The replicas' broker ids, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// One setting of the new topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfig {
    /// The setting's name.
    pub name: String,
    /// The value; `None` if unset or, in a response, sensitive.
    #[kafka(nullable = 0)]
    pub value: Option<String>,
}

/// The outcome for each topic.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-7", flexible = 5)]
pub struct CreateTopicsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<CreatableTopicResult>,
}

/// The outcome for one topic, from version 5 on with its properties (KIP-525).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicResult {
    /// The topic's name.
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 7, ignorable)]
    pub topic_id: Uuid,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 1, nullable = 0, ignorable)]
    pub error_message: Option<String>,
    /// The error code that explains why `configs` is missing; 0 if it is not.
    #[kafka(since = 5, tag = 0, ignorable)]
    pub topic_config_error_code: i16,
    /// The number of its partitions; `None` if the client is not authorized to know.
    #[kafka(since = 5, ignorable)]
    pub num_partitions: Option<i32>,
    /// The number of replicas; `None` if the client is not authorized to know.
    #[kafka(since = 5, ignorable)]
    pub replication_factor: Option<i16>,
    /// Its settings; `None` if the client is not authorized to know.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// A setting of the new topic (KIP-525).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfigs {
    /// The setting's name.
    #[kafka(since = 5)]
    pub name: String,
    /// The value; `None` if unset or, in a response, sensitive.
    #[kafka(since = 5, nullable = 5)]
    pub value: Option<String>,
    /// Whether it cannot be changed while the broker runs.
    #[kafka(since = 5)]
    pub read_only: bool,
    /// Where the value comes from: 1 topic, 2 one broker, 3 all brokers, 4 the broker's file, 5 the default (KIP-226).
    #[kafka(since = 5, ignorable)]
    pub config_source: Option<i8>,
    /// Whether it is a secret, whose value is never returned.
    #[kafka(since = 5)]
    pub is_sensitive: bool,
}

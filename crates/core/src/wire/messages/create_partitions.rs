//! `CreatePartitions`: more partitions for topics (KIP-195). The controller answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Adds partitions to topics.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "CreatePartitions", response = CreatePartitionsResponse, versions = "0-3", flexible = 2)]
pub struct CreatePartitionsRequest {
    /// One entry per topic.
    pub topics: Vec<CreatePartitionsTopic>,
    /// How long the controller may take before it answers, in milliseconds.
    pub timeout_ms: i32,
    /// Whether only to check the request, without changing anything.
    pub validate_only: bool,
}

/// The new number of partitions of a topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopic {
    /// The topic's name.
    pub name: String,
    /// The total number of partitions it should have.
    pub count: i32,
    /// The replicas of the new partitions, in order; `None` lets the controller choose.
    #[kafka(nullable = 0)]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// The replicas of one new partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsAssignment {
    /// The replicas' broker ids, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// The outcome for each topic.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = 2)]
pub struct CreatePartitionsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// The outcome for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopicResult {
    /// The topic's name.
    pub name: String,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
}

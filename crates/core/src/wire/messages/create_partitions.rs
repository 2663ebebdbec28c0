//! `CreatePartitions`: more partitions for topics (KIP-195). The controller answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for topics to have more partitions.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "CreatePartitions", response = CreatePartitionsResponse, versions = "0-3", flexible = 2)]
pub struct CreatePartitionsRequest {
    /// One entry per topic.
    pub topics: Vec<CreatePartitionsTopic>,
    /// How long the controller may work on it before it answers, in milliseconds.
    pub timeout_ms: i32,
    /// Checks the request and changes nothing.
    pub validate_only: bool,
}

/// How many partitions one topic shall have.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopic {
    /// The topic's name.
    pub name: String,
    /// How many partitions it shall have in all.
    pub count: i32,
    /// The replicas of the new partitions in order; none lets the controller choose.
    #[kafka(nullable = 0)]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// The replicas of one new partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsAssignment {
    /// The replicas' broker ids, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// What became of each topic.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = 2)]
pub struct CreatePartitionsResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopicResult {
    /// The topic's name.
    pub name: String,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The reason in the broker's words, if it gives one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
}

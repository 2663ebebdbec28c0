//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ListOffsets", response = ListOffsetsResponse, versions = "0-11", flexible = 6)]
pub struct ListOffsetsRequest {
    /// DOC
    pub replica_id: Option<i32>,
    /// DOC
    #[kafka(since = 2)]
    pub isolation_level: i8,
    /// DOC
    pub topics: Vec<ListOffsetsTopic>,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub timeout_ms: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopic {
    /// DOC
    pub name: String,
    /// DOC
    pub partitions: Vec<ListOffsetsPartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartition {
    /// DOC
    pub partition_index: i32,
    /// DOC
    #[kafka(since = 4, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// DOC
    pub timestamp: i64,
    /// DOC
    #[kafka(until = 0, default = 1)]
    pub max_num_offsets: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-11", flexible = 6)]
pub struct ListOffsetsResponse {
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopicResponse {
    /// DOC
    pub name: String,
    /// DOC
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartitionResponse {
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(until = 0)]
    pub old_style_offsets: Vec<i64>,
    /// DOC
    #[kafka(since = 1)]
    pub timestamp: Option<i64>,
    /// DOC
    #[kafka(since = 1)]
    pub offset: Option<i64>,
    /// DOC
    #[kafka(since = 4)]
    pub leader_epoch: Option<i32>,
}

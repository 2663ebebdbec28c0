//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetForLeaderEpoch", response = OffsetForLeaderEpochResponse, versions = "0-4", flexible = 4)]
pub struct OffsetForLeaderEpochRequest {
    /// DOC
    #[kafka(since = 3, default = -2, ignorable)]
    pub replica_id: i32,
    /// DOC
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopic {
    /// DOC
    pub topic: String,
    /// DOC
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderPartition {
    /// DOC
    pub partition: i32,
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// DOC
    pub leader_epoch: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct OffsetForLeaderEpochResponse {
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopicResult {
    /// DOC
    pub topic: String,
    /// DOC
    pub partitions: Vec<EpochEndOffset>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub partition: i32,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub leader_epoch: Option<i32>,
    /// DOC
    pub end_offset: Option<i64>,
}

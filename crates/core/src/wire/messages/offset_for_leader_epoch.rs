//! `OffsetForLeaderEpoch`: where a leader's epoch ends, to notice a truncated log (KIP-101, KIP-320).
//!
//! The leader answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks where epochs end.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetForLeaderEpoch", response = OffsetForLeaderEpochResponse, versions = "0-4", flexible = 4)]
pub struct OffsetForLeaderEpochRequest {
    /// The replica that asks; -1 for a consumer, -2 for a tool that is neither.
    #[kafka(since = 3, default = -2, ignorable)]
    pub replica_id: i32,
    /// One entry per topic.
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopic {
    /// The topic's name.
    pub topic: String,
    /// One entry per partition.
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// One partition and the epoch in question.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the client knows; a broker with another one refuses the request (KIP-320).
    #[kafka(since = 2, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// Where the epochs end.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct OffsetForLeaderEpochResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// Where the epochs of one topic end.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopicResult {
    /// The topic's name.
    pub topic: String,
    /// One entry per partition.
    pub partitions: Vec<EpochEndOffset>,
}

/// Where the epoch of one partition ends.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition: i32,
    /// The epoch that ends there: the one asked for, or the newest older one.
    #[kafka(since = 1, ignorable)]
    pub leader_epoch: Option<i32>,
    /// The offset after the epoch's last record; `None` if the leader does not know the epoch.
    pub end_offset: Option<i64>,
}

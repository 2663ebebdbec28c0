//! `OffsetDelete`: deletes committed offsets of topics to which no member is subscribed (KIP-496). The group's
//! coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Deletes committed offsets.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetDelete", response = OffsetDeleteResponse, versions = "0-0")]
pub struct OffsetDeleteRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// One entry per topic.
    pub topics: Vec<OffsetDeleteRequestTopic>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteRequestTopic {
    /// The topic's name.
    pub name: String,
    /// One entry per partition.
    pub partitions: Vec<OffsetDeleteRequestPartition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteRequestPartition {
    /// The partition.
    pub partition_index: i32,
}

/// The outcome for each offset.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-0")]
pub struct OffsetDeleteResponse {
    /// The error of the whole request, or `NONE`.
    pub error_code: ErrorCode,
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<OffsetDeleteResponseTopic>,
}

/// The outcome for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteResponseTopic {
    /// The topic's name.
    pub name: String,
    /// One entry per partition.
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

/// The outcome for one offset.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The error, or `NONE`; `GROUP_SUBSCRIBED_TO_TOPIC` while members are subscribed to the topic.
    pub error_code: ErrorCode,
}

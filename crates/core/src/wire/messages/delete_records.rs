//! `DeleteRecords`: deletes the oldest records of partitions (KIP-107). The partition's leader answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Deletes the records before given offsets.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DeleteRecords", response = DeleteRecordsResponse, versions = "0-2", flexible = 2)]
pub struct DeleteRecordsRequest {
    /// The topics.
    pub topics: Vec<DeleteRecordsTopic>,
    /// How long the leader may wait for its replicas, in milliseconds.
    pub timeout_ms: i32,
}

/// The partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteRecordsTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<DeleteRecordsPartition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteRecordsPartition {
    /// The partition's number.
    pub partition_index: i32,
    /// The first offset to keep; `None`: the high watermark, which deletes everything.
    pub offset: Option<i64>,
}

/// The outcome for each partition.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = 2)]
pub struct DeleteRecordsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<DeleteRecordsTopicResult>,
}

/// The outcome for one topic's partitions.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteRecordsTopicResult {
    /// The topic's name.
    pub name: String,
    /// One entry per partition.
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

/// The outcome for one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteRecordsPartitionResult {
    /// The partition's number.
    pub partition_index: i32,
    /// The lowest log start offset of all live replicas; `None` with an error.
    pub low_watermark: Option<i64>,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
}

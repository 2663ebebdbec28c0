//! `ListOffsets`: offsets by time, and the ends of a log (KIP-79). The leader answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// The timestamp that asks for the next offset to be written.
pub const LATEST_TIMESTAMP: i64 = -1;
/// The timestamp that asks for the oldest offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;

/// The first version that looks up records; earlier ones return segments that begin before a time.
pub const RECORDS_SINCE: i16 = 1;
/// The first version with an isolation level.
pub const ISOLATION_SINCE: i16 = 2;

/// Asks for offsets by timestamp.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ListOffsets", response = ListOffsetsResponse, versions = "0-11", flexible = 6)]
pub struct ListOffsetsRequest {
    /// The replica that asks; `None` for a consumer.
    pub replica_id: Option<i32>,
    /// 0: read everything; 1: read only committed records (`isolation.level`, KIP-98).
    #[kafka(since = 2)]
    pub isolation_level: i8,
    /// One entry per topic.
    pub topics: Vec<ListOffsetsTopic>,
    /// How long the broker may wait for tiered storage, in milliseconds (KIP-1075).
    #[kafka(since = 10, ignorable)]
    pub timeout_ms: i32,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopic {
    /// The topic's name.
    pub name: String,
    /// One entry per partition.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// One partition and the time in question.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartition {
    /// The partition.
    pub partition_index: i32,
    /// The leader epoch that the client knows; a broker with another one refuses the request (KIP-320).
    #[kafka(since = 4, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// Milliseconds since 1970; or [`LATEST_TIMESTAMP`], [`EARLIEST_TIMESTAMP`], -3 for the record with the highest
    /// timestamp (KIP-734), -4 and -5 for the ends of local and of tiered storage (KIP-405, KIP-1005), -6 for the first
    /// offset that is not in tiered storage yet (KIP-1023).
    pub timestamp: i64,
    /// How many offsets to return; version 0 only.
    #[kafka(until = 0, default = 1)]
    pub max_num_offsets: i32,
}

/// The offsets.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-11", flexible = 6)]
pub struct ListOffsetsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 2, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopicResponse {
    /// The topic's name.
    pub name: String,
    /// One entry per partition.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// Segment starts before the timestamp, newest first; version 0 only.
    #[kafka(until = 0)]
    pub old_style_offsets: Vec<i64>,
    /// The record's timestamp, in milliseconds since 1970; `None` if no record was looked up.
    #[kafka(since = 1)]
    pub timestamp: Option<i64>,
    /// The first offset at or after the timestamp; `None` if there is none.
    #[kafka(since = 1)]
    pub offset: Option<i64>,
    /// The leader's epoch of the record found (KIP-320).
    #[kafka(since = 4)]
    pub leader_epoch: Option<i32>,
}

impl ListOffsetsPartitionResponse {
    /// The offset, from whichever field the version uses; `None` if there is none.
    pub fn found(&self) -> Option<i64> {
        self.offset.or(self.old_style_offsets.first().copied()).filter(|offset| *offset >= 0)
    }
}

//! `OffsetFetch`: a group's committed offsets. The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// The newest version for one group.
pub const FETCH_ONE_GROUP: i16 = 7;
/// The last version in which a partition without a committed offset may be reported as unknown.
pub const NOTHING_IS_UNKNOWN_UNTIL: i16 = 1;
/// The first version that can ask for all partitions.
pub const ALL_PARTITIONS_SINCE: i16 = 2;
/// The first version that waits for transactions that commit offsets (KIP-447).
pub const REQUIRE_STABLE_SINCE: i16 = 7;
/// The first version that names topics by their ids (KIP-516).
pub const FETCH_BY_ID: i16 = 10;

/// Asks for committed offsets of groups; below version 8 of a single group, in the request itself (KIP-709).
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetFetch", response = OffsetFetchResponse, versions = "0-10", flexible = 6)]
pub struct OffsetFetchRequest {
    /// The group's id, below version 8; `group.id`.
    #[kafka(until = 7)]
    pub group_id: String,
    /// The topics, below version 8; `None`, from version 2 on, for all that have a committed offset.
    #[kafka(until = 7, nullable = 2)]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// The groups, from version 8 on.
    #[kafka(since = 8)]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Whether to refuse offsets that an open transaction is committing (KIP-447).
    #[kafka(since = 7)]
    pub require_stable: bool,
}

/// Partitions of one topic, below version 8.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopic {
    /// The topic's name.
    #[kafka(until = 7)]
    pub name: String,
    /// The partitions.
    #[kafka(until = 7)]
    pub partition_indexes: Vec<i32>,
}

/// One group and what is asked of it.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestGroup {
    /// The group's id; `group.id`.
    #[kafka(since = 8)]
    pub group_id: String,
    /// The member's id, in a group of the newer protocol (KIP-848); otherwise `None`.
    #[kafka(since = 9, nullable = 9, ignorable)]
    pub member_id: Option<String>,
    /// The member's epoch, in a group of the newer protocol (KIP-848); otherwise `None`.
    #[kafka(since = 9, ignorable)]
    pub member_epoch: Option<i32>,
    /// The topics; `None` for all that have a committed offset.
    #[kafka(since = 8, nullable = 8)]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// Partitions of one topic, from version 8 on.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopics {
    /// The topic's name.
    #[kafka(since = 8, until = 9, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    #[kafka(since = 8)]
    pub partition_indexes: Vec<i32>,
}

/// The committed offsets; below version 8 of a single group, in the response itself.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-10", flexible = 6)]
pub struct OffsetFetchResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// The topics, below version 8.
    #[kafka(until = 7)]
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// The error, or `NONE`.
    #[kafka(since = 2, until = 7, ignorable)]
    pub error_code: ErrorCode,
    /// The groups, from version 8 on.
    #[kafka(since = 8)]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// The offsets of one topic, below version 8.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopic {
    /// The topic's name.
    #[kafka(until = 7)]
    pub name: String,
    /// One entry per partition.
    #[kafka(until = 7)]
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// The offset of one partition, below version 8.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartition {
    /// The partition.
    #[kafka(until = 7)]
    pub partition_index: i32,
    /// The offset of the next record to consume; `None` if none is committed.
    #[kafka(until = 7)]
    pub committed_offset: Option<i64>,
    /// The leader's epoch of the last record consumed (KIP-320).
    #[kafka(since = 5, until = 7, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// The text that was stored with the offset.
    #[kafka(until = 7, nullable = 0)]
    pub metadata: Option<String>,
    /// The error, or `NONE`.
    #[kafka(until = 7)]
    pub error_code: ErrorCode,
}

/// The committed offsets of one group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseGroup {
    /// The group's id; `group.id`.
    #[kafka(since = 8)]
    pub group_id: String,
    /// One entry per topic.
    #[kafka(since = 8)]
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// The error, or `NONE`.
    #[kafka(since = 8)]
    pub error_code: ErrorCode,
}

/// The offsets of one topic, from version 8 on.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopics {
    /// The topic's name.
    #[kafka(since = 8, until = 9, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    #[kafka(since = 8)]
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// The offset of one partition, from version 8 on.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartitions {
    /// The partition.
    #[kafka(since = 8)]
    pub partition_index: i32,
    /// The offset of the next record to consume; `None` if none is committed.
    #[kafka(since = 8)]
    pub committed_offset: Option<i64>,
    /// The leader's epoch of the last record consumed (KIP-320).
    #[kafka(since = 8, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// The text that was stored with the offset.
    #[kafka(since = 8, nullable = 8)]
    pub metadata: Option<String>,
    /// The error, or `NONE`.
    #[kafka(since = 8)]
    pub error_code: ErrorCode,
}

//! `OffsetCommit`: commits a group's offsets. The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// The newest version that names topics.
pub const COMMIT_BY_NAME: i16 = 9;

/// Commits offsets of a group.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetCommit", response = OffsetCommitResponse, versions = "0-10", flexible = 8)]
pub struct OffsetCommitRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The member's generation, or its epoch in the newer protocol (KIP-848); `None` for a client that is not a member.
    #[kafka(since = 1, ignorable)]
    pub generation_id_or_member_epoch: Option<i32>,
    /// The member's id; empty for a client that is not a member.
    #[kafka(since = 1, ignorable)]
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345).
    #[kafka(since = 7, nullable = 7)]
    pub group_instance_id: Option<String>,
    /// How long to keep the offsets, in milliseconds; `None`: the broker's setting.
    #[kafka(since = 2, until = 4, ignorable)]
    pub retention_time_ms: Option<i64>,
    /// One entry per topic.
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestTopic {
    /// The topic's name.
    #[kafka(until = 9, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestPartition {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to consume.
    pub committed_offset: i64,
    /// The leader's epoch of the last record consumed (KIP-320).
    #[kafka(since = 6, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// The time of the commit, in milliseconds since 1970; `None`: the broker's time. Version 1 only.
    #[kafka(since = 1, until = 1)]
    pub commit_timestamp: Option<i64>,
    /// Text to store with the offset.
    #[kafka(nullable = 0)]
    pub committed_metadata: Option<String>,
}

/// The outcome for each offset.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-10", flexible = 8)]
pub struct OffsetCommitResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// The outcome for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponseTopic {
    /// The topic's name.
    #[kafka(until = 9, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// The outcome for one offset.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
}

//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetCommit", response = OffsetCommitResponse, versions = "0-10", flexible = 8)]
pub struct OffsetCommitRequest {
    /// DOC
    pub group_id: String,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub generation_id_or_member_epoch: Option<i32>,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub member_id: String,
    /// DOC
    #[kafka(since = 7, nullable = 7)]
    pub group_instance_id: Option<String>,
    /// DOC
    #[kafka(since = 2, until = 4, ignorable)]
    pub retention_time_ms: Option<i64>,
    /// DOC
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestTopic {
    /// DOC
    #[kafka(until = 9, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestPartition {
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub committed_offset: i64,
    /// DOC
    #[kafka(since = 6, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// DOC
    #[kafka(since = 1, until = 1)]
    pub commit_timestamp: Option<i64>,
    /// DOC
    #[kafka(nullable = 0)]
    pub committed_metadata: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-10", flexible = 8)]
pub struct OffsetCommitResponse {
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponseTopic {
    /// DOC
    #[kafka(until = 9, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponsePartition {
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub error_code: ErrorCode,
}

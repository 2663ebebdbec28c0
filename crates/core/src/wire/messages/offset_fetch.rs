//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "OffsetFetch", response = OffsetFetchResponse, versions = "0-10", flexible = 6)]
pub struct OffsetFetchRequest {
    /// DOC
    #[kafka(until = 7)]
    pub group_id: String,
    /// DOC
    #[kafka(until = 7, nullable = 2)]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// DOC
    #[kafka(since = 8)]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// DOC
    #[kafka(since = 7)]
    pub require_stable: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopic {
    /// DOC
    #[kafka(until = 7)]
    pub name: String,
    /// DOC
    #[kafka(until = 7)]
    pub partition_indexes: Vec<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestGroup {
    /// DOC
    #[kafka(since = 8)]
    pub group_id: String,
    /// DOC
    #[kafka(since = 9, nullable = 9, ignorable)]
    pub member_id: Option<String>,
    /// DOC
    #[kafka(since = 9, ignorable)]
    pub member_epoch: Option<i32>,
    /// DOC
    #[kafka(since = 8, nullable = 8)]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopics {
    /// DOC
    #[kafka(since = 8, until = 9, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    #[kafka(since = 8)]
    pub partition_indexes: Vec<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-10", flexible = 6)]
pub struct OffsetFetchResponse {
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    #[kafka(until = 7)]
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// DOC
    #[kafka(since = 2, until = 7, ignorable)]
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 8)]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopic {
    /// DOC
    #[kafka(until = 7)]
    pub name: String,
    /// DOC
    #[kafka(until = 7)]
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartition {
    /// DOC
    #[kafka(until = 7)]
    pub partition_index: i32,
    /// DOC
    #[kafka(until = 7)]
    pub committed_offset: Option<i64>,
    /// DOC
    #[kafka(since = 5, until = 7, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// DOC
    #[kafka(until = 7, nullable = 0)]
    pub metadata: Option<String>,
    /// DOC
    #[kafka(until = 7)]
    pub error_code: ErrorCode,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseGroup {
    /// DOC
    #[kafka(since = 8)]
    pub group_id: String,
    /// DOC
    #[kafka(since = 8)]
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// DOC
    #[kafka(since = 8)]
    pub error_code: ErrorCode,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopics {
    /// DOC
    #[kafka(since = 8, until = 9, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    #[kafka(since = 8)]
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartitions {
    /// DOC
    #[kafka(since = 8)]
    pub partition_index: i32,
    /// DOC
    #[kafka(since = 8)]
    pub committed_offset: Option<i64>,
    /// DOC
    #[kafka(since = 8, ignorable)]
    pub committed_leader_epoch: Option<i32>,
    /// DOC
    #[kafka(since = 8, nullable = 8)]
    pub metadata: Option<String>,
    /// DOC
    #[kafka(since = 8)]
    pub error_code: ErrorCode,
}

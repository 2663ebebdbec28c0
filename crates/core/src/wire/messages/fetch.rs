//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::Records;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Fetch", response = FetchResponse, versions = "0-18", flexible = 12)]
pub struct FetchRequest {
    /// DOC
    #[kafka(since = 12, tag = 0, nullable = 12, ignorable)]
    pub cluster_id: Option<String>,
    /// DOC
    #[kafka(until = 14)]
    pub replica_id: Option<i32>,
    /// DOC
    #[kafka(since = 15, tag = 1)]
    pub replica_state: ReplicaState,
    /// DOC
    pub max_wait_ms: i32,
    /// DOC
    pub min_bytes: i32,
    /// DOC
    #[kafka(since = 3, default = i32::MAX, ignorable)]
    pub max_bytes: i32,
    /// DOC
    #[kafka(since = 4, ignorable)]
    pub isolation_level: i8,
    /// DOC
    #[kafka(since = 7, ignorable)]
    pub session_id: i32,
    /// DOC
    #[kafka(since = 7, ignorable)]
    pub session_epoch: Option<i32>,
    /// DOC
    pub topics: Vec<FetchTopic>,
    /// DOC
    #[kafka(since = 7)]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// DOC
    #[kafka(since = 11, ignorable)]
    pub rack_id: String,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaState {
    /// DOC
    #[kafka(since = 15)]
    pub replica_id: Option<i32>,
    /// DOC
    #[kafka(since = 15)]
    pub replica_epoch: Option<i64>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchTopic {
    /// DOC
    #[kafka(until = 12, ignorable)]
    pub topic: String,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partitions: Vec<FetchPartition>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchPartition {
    /// DOC
    pub partition: i32,
    /// DOC
    #[kafka(since = 9, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// DOC
    pub fetch_offset: i64,
    /// DOC
    #[kafka(since = 12)]
    pub last_fetched_epoch: Option<i32>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// DOC
    pub partition_max_bytes: i32,
    /// DOC
    #[kafka(since = 17, tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
    /// DOC
    #[kafka(since = 18, tag = 1, default = i64::MAX, ignorable)]
    pub high_watermark: i64,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ForgottenTopic {
    /// DOC
    #[kafka(since = 7, until = 12, ignorable)]
    pub topic: String,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    #[kafka(since = 7)]
    pub partitions: Vec<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-18", flexible = 12)]
pub struct FetchResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    #[kafka(since = 7, ignorable)]
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 7)]
    pub session_id: i32,
    /// DOC
    pub responses: Vec<FetchableTopicResponse>,
    /// DOC
    #[kafka(since = 16, tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchableTopicResponse {
    /// DOC
    #[kafka(until = 12, ignorable)]
    pub topic: String,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partitions: Vec<PartitionData>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub high_watermark: i64,
    /// DOC
    #[kafka(since = 4, ignorable)]
    pub last_stable_offset: Option<i64>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// DOC
    #[kafka(since = 12, tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// DOC
    #[kafka(since = 12, tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// DOC
    #[kafka(since = 12, tag = 2)]
    pub snapshot_id: SnapshotId,
    /// DOC
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// DOC
    #[kafka(since = 11)]
    pub preferred_read_replica: Option<i32>,
    /// DOC
    #[kafka(nullable = 0)]
    pub records: Option<Records>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    /// DOC
    #[kafka(since = 12)]
    pub epoch: Option<i32>,
    /// DOC
    #[kafka(since = 12)]
    pub end_offset: Option<i64>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// DOC
    #[kafka(since = 12)]
    pub leader_id: Option<i32>,
    /// DOC
    #[kafka(since = 12)]
    pub leader_epoch: Option<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SnapshotId {
    /// DOC
    pub end_offset: Option<i64>,
    /// DOC
    pub epoch: Option<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AbortedTransaction {
    /// DOC
    #[kafka(since = 4)]
    pub producer_id: i64,
    /// DOC
    #[kafka(since = 4)]
    pub first_offset: i64,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    /// DOC
    #[kafka(since = 16)]
    pub node_id: i32,
    /// DOC
    #[kafka(since = 16)]
    pub host: String,
    /// DOC
    #[kafka(since = 16)]
    pub port: i32,
    /// DOC
    #[kafka(since = 16, nullable = 16)]
    pub rack: Option<String>,
}

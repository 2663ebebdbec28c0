//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::Records;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Produce", response = ProduceResponse, versions = "0-13", flexible = 9)]
pub struct ProduceRequest {
    /// DOC
    #[kafka(since = 3, nullable = 3)]
    pub transactional_id: Option<String>,
    /// DOC
    pub acks: i16,
    /// DOC
    pub timeout_ms: i32,
    /// DOC
    pub topic_data: Vec<TopicProduceData>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceData {
    /// DOC
    #[kafka(until = 12, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partition_data: Vec<PartitionProduceData>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceData {
    /// DOC
    pub index: i32,
    /// DOC
    #[kafka(nullable = 0)]
    pub records: Option<Records>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct ProduceResponse {
    /// DOC
    pub responses: Vec<TopicProduceResponse>,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    #[kafka(since = 10, tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceResponse {
    /// DOC
    #[kafka(until = 12, ignorable)]
    pub name: String,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceResponse {
    /// DOC
    pub index: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub base_offset: i64,
    /// DOC
    #[kafka(since = 2, ignorable)]
    pub log_append_time_ms: Option<i64>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// DOC
    #[kafka(since = 8, ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// DOC
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub error_message: Option<String>,
    /// DOC
    #[kafka(since = 10, tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct BatchIndexAndErrorMessage {
    /// DOC
    #[kafka(since = 8)]
    pub batch_index: i32,
    /// DOC
    #[kafka(since = 8, nullable = 8)]
    pub batch_index_error_message: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// DOC
    #[kafka(since = 10)]
    pub leader_id: Option<i32>,
    /// DOC
    #[kafka(since = 10)]
    pub leader_epoch: Option<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    /// DOC
    #[kafka(since = 10)]
    pub node_id: i32,
    /// DOC
    #[kafka(since = 10)]
    pub host: String,
    /// DOC
    #[kafka(since = 10)]
    pub port: i32,
    /// DOC
    #[kafka(since = 10, nullable = 10)]
    pub rack: Option<String>,
}

//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Metadata", response = MetadataResponse, versions = "0-13", flexible = 9)]
pub struct MetadataRequest {
    /// DOC
    #[kafka(nullable = 1)]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// DOC
    #[kafka(since = 4, default = true)]
    pub allow_auto_topic_creation: bool,
    /// DOC
    #[kafka(since = 8, until = 10)]
    pub include_cluster_authorized_operations: bool,
    /// DOC
    #[kafka(since = 8)]
    pub include_topic_authorized_operations: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataRequestTopic {
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    #[kafka(nullable = 10)]
    pub name: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct MetadataResponse {
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub brokers: Vec<MetadataResponseBroker>,
    /// DOC
    #[kafka(since = 2, nullable = 2, ignorable)]
    pub cluster_id: Option<String>,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub controller_id: Option<i32>,
    /// DOC
    pub topics: Vec<MetadataResponseTopic>,
    /// DOC
    #[kafka(since = 8, until = 10, default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// DOC
    #[kafka(since = 13, ignorable)]
    pub error_code: ErrorCode,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseBroker {
    /// DOC
    pub node_id: i32,
    /// DOC
    pub host: String,
    /// DOC
    pub port: i32,
    /// DOC
    #[kafka(since = 1, nullable = 1, ignorable)]
    pub rack: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseTopic {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(nullable = 12)]
    pub name: Option<String>,
    /// DOC
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub is_internal: bool,
    /// DOC
    pub partitions: Vec<MetadataResponsePartition>,
    /// DOC
    #[kafka(since = 8, default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponsePartition {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub partition_index: i32,
    /// DOC
    pub leader_id: Option<i32>,
    /// DOC
    #[kafka(since = 7, ignorable)]
    pub leader_epoch: Option<i32>,
    /// DOC
    pub replica_nodes: Vec<i32>,
    /// DOC
    pub isr_nodes: Vec<i32>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub offline_replicas: Vec<i32>,
}

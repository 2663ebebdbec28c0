//! `Metadata`: brokers, topics, partitions and their leaders. Any broker answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// The first version that says whether missing topics may be created; in earlier ones they always may.
pub const CREATES_ON_REQUEST_SINCE: i16 = 4;

/// Asks for brokers and topics.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Metadata", response = MetadataResponse, versions = "0-13", flexible = 9)]
pub struct MetadataRequest {
    /// The topics; `None`: all. Version 0 has no null; there, an empty list means all.
    #[kafka(nullable = 1)]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether the broker may create the topics; `allow.auto.create.topics`.
    #[kafka(since = 4, default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to return what the client is authorized to do with the cluster (KIP-430).
    #[kafka(since = 8, until = 10)]
    pub include_cluster_authorized_operations: bool,
    /// Whether to return what the client is authorized to do with each topic (KIP-430).
    #[kafka(since = 8)]
    pub include_topic_authorized_operations: bool,
}

/// One topic, by name or, from version 10 on, by id (KIP-516).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataRequestTopic {
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// The topic's name; `None`, from version 10 on, if it is named by id.
    #[kafka(nullable = 10)]
    pub name: Option<String>,
}

/// The broker's view of the cluster.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct MetadataResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// Every broker that is alive.
    pub brokers: Vec<MetadataResponseBroker>,
    /// The cluster's id.
    #[kafka(since = 2, nullable = 2, ignorable)]
    pub cluster_id: Option<String>,
    /// The controller's broker id; `None` if there is none.
    #[kafka(since = 1, ignorable)]
    pub controller_id: Option<i32>,
    /// One entry per topic.
    pub topics: Vec<MetadataResponseTopic>,
    /// What the client is authorized to do with the cluster, as a bit field (KIP-430); `i32::MIN` if not requested.
    #[kafka(since = 8, until = 10, default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// The error of the whole request: `REBOOTSTRAP_REQUIRED` (KIP-1102).
    #[kafka(since = 13, ignorable)]
    pub error_code: ErrorCode,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseBroker {
    /// The broker's id.
    pub node_id: i32,
    /// The broker's advertised host.
    pub host: String,
    /// The broker's advertised port.
    pub port: i32,
    /// The broker's `broker.rack`.
    #[kafka(since = 1, nullable = 1, ignorable)]
    pub rack: Option<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseTopic {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The topic's name; `None`, from version 12 on, if it was asked for by an id that is unknown.
    #[kafka(nullable = 12)]
    pub name: Option<String>,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// Whether it is an internal topic.
    #[kafka(since = 1, ignorable)]
    pub is_internal: bool,
    /// One entry per partition.
    pub partitions: Vec<MetadataResponsePartition>,
    /// What the client is authorized to do with it, as a bit field (KIP-430); `i32::MIN` if not requested.
    #[kafka(since = 8, default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponsePartition {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition_index: i32,
    /// The leader's broker id; `None` if there is no leader.
    pub leader_id: Option<i32>,
    /// The leader's epoch (KIP-320).
    #[kafka(since = 7, ignorable)]
    pub leader_epoch: Option<i32>,
    /// The broker ids of all replicas.
    pub replica_nodes: Vec<i32>,
    /// The broker ids of the in-sync replicas.
    pub isr_nodes: Vec<i32>,
    /// The broker ids of the offline replicas.
    #[kafka(since = 5, ignorable)]
    pub offline_replicas: Vec<i32>,
}

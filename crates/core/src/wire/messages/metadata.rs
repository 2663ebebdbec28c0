//! `Metadata`: brokers, topics, partitions and their leaders. Any broker answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// Asks for brokers and topics.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Metadata", response = MetadataResponse, versions = "0-13", flexible = 9)]
pub struct MetadataRequest {
    /// The topics; none for all of them. Version 0 has no null: there, an empty list means all.
    #[kafka(nullable = 1)]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether the broker may create the topics; `allow.auto.create.topics`.
    #[kafka(since = 4, default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to tell what the client may do with the cluster (KIP-430).
    #[kafka(since = 8, until = 10)]
    pub include_cluster_authorized_operations: bool,
    /// Whether to tell what the client may do with each topic (KIP-430).
    #[kafka(since = 8)]
    pub include_topic_authorized_operations: bool,
}

/// One topic, by name or, from version 10 on, by id (KIP-516).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataRequestTopic {
    /// The topic's id; zero if it is named otherwise (KIP-516).
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// The topic's name; none, from version 10 on, if it is named by id.
    #[kafka(nullable = 10)]
    pub name: Option<String>,
}

/// What the broker knows of the cluster.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct MetadataResponse {
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 3, ignorable)]
    pub throttle_time_ms: i32,
    /// Every broker that is alive.
    pub brokers: Vec<MetadataResponseBroker>,
    /// The cluster's id.
    #[kafka(since = 2, nullable = 2, ignorable)]
    pub cluster_id: Option<String>,
    /// The controller's broker id; none if there is none.
    #[kafka(since = 1, ignorable)]
    pub controller_id: Option<i32>,
    /// One entry per topic.
    pub topics: Vec<MetadataResponseTopic>,
    /// What the client may do with the cluster, one bit each; `i32::MIN` if that was not asked for (KIP-430).
    #[kafka(since = 8, until = 10, default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// What is wrong with the whole request: `REBOOTSTRAP_REQUIRED` (KIP-1102).
    #[kafka(since = 13, ignorable)]
    pub error_code: ErrorCode,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseBroker {
    /// The broker's id.
    pub node_id: i32,
    /// The host name it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: i32,
    /// Its rack; `broker.rack`.
    #[kafka(since = 1, nullable = 1, ignorable)]
    pub rack: Option<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponseTopic {
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The topic's name; none, from version 12 on, if it was asked for by an id that is unknown.
    #[kafka(nullable = 12)]
    pub name: Option<String>,
    /// The topic's id; zero if it is named otherwise (KIP-516).
    #[kafka(since = 10, ignorable)]
    pub topic_id: Uuid,
    /// Whether the topic is the brokers' own.
    #[kafka(since = 1, ignorable)]
    pub is_internal: bool,
    /// One entry per partition.
    pub partitions: Vec<MetadataResponsePartition>,
    /// What the client may do with it, one bit each; `i32::MIN` if that was not asked for (KIP-430).
    #[kafka(since = 8, default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MetadataResponsePartition {
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition_index: i32,
    /// The leader's broker id; none if there is no leader.
    pub leader_id: Option<i32>,
    /// The leader's epoch (KIP-320).
    #[kafka(since = 7, ignorable)]
    pub leader_epoch: Option<i32>,
    /// The broker ids of all replicas.
    pub replica_nodes: Vec<i32>,
    /// The broker ids of the in-sync replicas.
    pub isr_nodes: Vec<i32>,
    /// The broker ids of the replicas that are down.
    #[kafka(since = 5, ignorable)]
    pub offline_replicas: Vec<i32>,
}

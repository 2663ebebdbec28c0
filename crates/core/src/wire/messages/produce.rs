//! `Produce`: appends record batches. The leader of each partition answers it.
//!
//! Records are sent as they are, in separate segments.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::Records;

/// The first version for record batches of magic 2 (KIP-98).
pub const BATCHES_SINCE: i16 = 3;
/// The first version for message sets of magic 1 (KIP-32).
pub const TIMESTAMPS_SINCE: i16 = 2;
/// The first version for batches that are compressed with zstd (KIP-110).
pub const ZSTD_SINCE: i16 = 7;
/// The newest version that names topics; later ones have ids alone (KIP-516).
pub const PRODUCE_BY_NAME: i16 = 12;

/// Asks the leaders of some partitions to append record batches.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Produce", response = ProduceResponse, versions = "0-13", flexible = 9)]
pub struct ProduceRequest {
    /// `transactional.id`, when the records belong to a transaction (KIP-98).
    #[kafka(since = 3, nullable = 3)]
    pub transactional_id: Option<String>,
    /// Which replicas must have the records before the leader answers: 0 none, 1 the leader, -1 all in-sync replicas.
    pub acks: i16,
    /// How long the leader may wait for its replicas, in milliseconds; `request.timeout.ms`.
    pub timeout_ms: i32,
    /// One entry per topic.
    pub topic_data: Vec<TopicProduceData>,
}

/// Records for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceData {
    /// The topic's name.
    #[kafka(until = 12, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partition_data: Vec<PartitionProduceData>,
}

/// Records for one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceData {
    /// The partition.
    pub index: i32,
    /// The batches.
    #[kafka(nullable = 0)]
    pub records: Option<Records>,
}

/// The outcome for each partition's records. There is no response at all when `acks` is 0.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct ProduceResponse {
    /// One entry per topic.
    pub responses: Vec<TopicProduceResponse>,
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The addresses of the new leaders that partitions name (KIP-951).
    #[kafka(since = 10, tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The outcome for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceResponse {
    /// The topic's name.
    #[kafka(until = 12, ignorable)]
    pub name: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// The outcome for one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceResponse {
    /// The partition.
    pub index: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The offset of the first record.
    pub base_offset: i64,
    /// The broker's timestamp for all records, in milliseconds since 1970; `None` if they keep their own (KIP-32).
    #[kafka(since = 2, ignorable)]
    pub log_append_time_ms: Option<i64>,
    /// The log start offset (KIP-107).
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// The records that are invalid; empty if the whole batch is (KIP-467).
    #[kafka(since = 8, ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// The broker's error message, if it sends one (KIP-467).
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub error_message: Option<String>,
    /// The current leader, if this broker is not the leader (KIP-951).
    #[kafka(since = 10, tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
}

/// A record because of which its batch was rejected (KIP-467).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct BatchIndexAndErrorMessage {
    /// The record's place in its batch, counted from 0.
    #[kafka(since = 8)]
    pub batch_index: i32,
    /// What is wrong with it.
    #[kafka(since = 8, nullable = 8)]
    pub batch_index_error_message: Option<String>,
}

/// The leader, as the answering broker knows it (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// The leader's broker id; `None` if there is no leader.
    #[kafka(since = 10)]
    pub leader_id: Option<i32>,
    /// The leader's epoch (KIP-320).
    #[kafka(since = 10)]
    pub leader_epoch: Option<i32>,
}

/// The address of a new leader (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    /// The broker's id.
    #[kafka(since = 10)]
    pub node_id: i32,
    /// The broker's advertised host.
    #[kafka(since = 10)]
    pub host: String,
    /// The broker's advertised port.
    #[kafka(since = 10)]
    pub port: i32,
    /// The broker's `broker.rack`.
    #[kafka(since = 10, nullable = 10)]
    pub rack: Option<String>,
}

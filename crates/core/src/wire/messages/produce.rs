//! `Produce`: appends record batches. The leader of each partition answers it.
//!
//! Record bytes go out as they are, in segments of their own.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::Records;

/// The newest version that names topics; later ones have ids alone (KIP-516).
pub const PRODUCE_BY_NAME: i16 = 12;

/// Asks the leaders of some partitions to append record batches.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Produce", response = ProduceResponse, versions = "0-13", flexible = 9)]
pub struct ProduceRequest {
    /// `transactional.id`, when the records belong to a transaction (KIP-98).
    #[kafka(since = 3, nullable = 3)]
    pub transactional_id: Option<String>,
    /// Who must have it before the leader answers: 0 nobody, 1 the leader, -1 every in-sync replica.
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
    /// The topic's id; zero if it is named otherwise (KIP-516).
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

/// What became of each partition's records. There is no response at all when `acks` is 0.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = 9)]
pub struct ProduceResponse {
    /// One entry per topic.
    pub responses: Vec<TopicProduceResponse>,
    /// How long the client shall send nothing on this connection, because of a quota (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// Where the new leaders named in the partitions listen (KIP-951).
    #[kafka(since = 10, tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of the records for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceResponse {
    /// The topic's name.
    #[kafka(until = 12, ignorable)]
    pub name: String,
    /// The topic's id; zero if it is named otherwise (KIP-516).
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// What became of the records for one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceResponse {
    /// The partition.
    pub index: i32,
    /// Why it did not work, or `NONE`.
    pub error_code: ErrorCode,
    /// The offset of the first record.
    pub base_offset: i64,
    /// The broker's timestamp for every record, in milliseconds since 1970; none if they keep their own (KIP-32).
    #[kafka(since = 2, ignorable)]
    pub log_append_time_ms: Option<i64>,
    /// The oldest offset that is left (KIP-107).
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// The records at fault; empty if it is the whole batch (KIP-467).
    #[kafka(since = 8, ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// The reason in the broker's words, if it gives one (KIP-467).
    #[kafka(since = 8, nullable = 8, ignorable)]
    pub error_message: Option<String>,
    /// Who leads now, when this broker does not (KIP-951).
    #[kafka(since = 10, tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
}

/// A record that made its batch be refused (KIP-467).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct BatchIndexAndErrorMessage {
    /// The record's place in its batch, counted from 0.
    #[kafka(since = 8)]
    pub batch_index: i32,
    /// What is wrong with it.
    #[kafka(since = 8, nullable = 8)]
    pub batch_index_error_message: Option<String>,
}

/// The leader that the answering broker knows of (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// The leader's broker id; none if there is no leader.
    #[kafka(since = 10)]
    pub leader_id: Option<i32>,
    /// The leader's epoch (KIP-320).
    #[kafka(since = 10)]
    pub leader_epoch: Option<i32>,
}

/// Where a new leader listens (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    /// The broker's id.
    #[kafka(since = 10)]
    pub node_id: i32,
    /// The host name it listens on.
    #[kafka(since = 10)]
    pub host: String,
    /// The port it listens on.
    #[kafka(since = 10)]
    pub port: i32,
    /// Its rack; `broker.rack`.
    #[kafka(since = 10, nullable = 10)]
    pub rack: Option<String>,
}

//! `Fetch`: record batches from given offsets on. The leader, or a replica it names (KIP-392), answers it.
//!
//! Records stay encoded; `wire::records` decodes them.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::Records;

/// The first version with a limit for the whole response.
pub const RESPONSE_LIMIT_SINCE: i16 = 3;
/// The first version with sessions (KIP-227).
pub const SESSIONS_SINCE: i16 = 7;
/// The last version that names topics.
pub const TOPIC_NAMES_UNTIL: i16 = TOPIC_IDS_SINCE - 1;
/// The first version in which a topic is its id alone (KIP-516).
pub const TOPIC_IDS_SINCE: i16 = 13;

/// Asks for records. Within a fetch session (KIP-227) it names only the partitions that changed.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "Fetch", response = FetchResponse, versions = "0-18", flexible = 12)]
pub struct FetchRequest {
    /// The cluster the fetcher believes to be in; for KRaft's replicas only.
    #[kafka(since = 12, tag = 0, nullable = 12, ignorable)]
    pub cluster_id: Option<String>,
    /// The replica that fetches, below version 15; `None` for a consumer.
    #[kafka(until = 14)]
    pub replica_id: Option<i32>,
    /// The replica that fetches, from version 15 on.
    #[kafka(since = 15, tag = 1)]
    pub replica_state: ReplicaState,
    /// How long the broker may wait for `min_bytes`, in milliseconds; `fetch.max.wait.ms`.
    pub max_wait_ms: i32,
    /// How many bytes the broker waits for (`fetch.min.bytes`).
    pub min_bytes: i32,
    /// The largest response, in bytes; the first batch may exceed it (`fetch.max.bytes`, KIP-74).
    #[kafka(since = 3, default = i32::MAX, ignorable)]
    pub max_bytes: i32,
    /// 0: read everything; 1: read only committed records (`isolation.level`, KIP-98).
    #[kafka(since = 4, ignorable)]
    pub isolation_level: i8,
    /// The fetch session; 0 for none or a new one (KIP-227).
    #[kafka(since = 7, ignorable)]
    pub session_id: i32,
    /// Counts the session's requests; 0 asks for a new session, none is a fetch without one (KIP-227).
    #[kafka(since = 7, ignorable)]
    pub session_epoch: Option<i32>,
    /// Where to fetch from; in a session, what changed.
    pub topics: Vec<FetchTopic>,
    /// Partitions that leave the session.
    #[kafka(since = 7)]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// The consumer's rack, so that the broker can name a replica near it (`client.rack`, KIP-392).
    #[kafka(since = 11, ignorable)]
    pub rack_id: String,
}

/// Which replica fetches; a consumer is none (KIP-903).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaState {
    /// The replica's broker id; `None` for a consumer.
    #[kafka(since = 15)]
    pub replica_id: Option<i32>,
    /// The replica's epoch.
    #[kafka(since = 15)]
    pub replica_epoch: Option<i64>,
}

/// Partitions of one topic to fetch from.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchTopic {
    /// The topic's name.
    #[kafka(until = 12, ignorable)]
    pub topic: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<FetchPartition>,
}

/// One partition to fetch from.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the client knows; a broker with another one refuses the request (KIP-320).
    #[kafka(since = 9, ignorable)]
    pub current_leader_epoch: Option<i32>,
    /// The first offset to fetch.
    pub fetch_offset: i64,
    /// The leader's epoch of the last batch fetched, which lets the broker notice a truncated log (KIP-595).
    #[kafka(since = 12)]
    pub last_fetched_epoch: Option<i32>,
    /// Where the follower's log starts; `None` for a consumer.
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// The largest number of bytes to return for it (`max.partition.fetch.bytes`).
    pub partition_max_bytes: i32,
    /// The follower's log directory; for KRaft's replicas (KIP-853).
    #[kafka(since = 17, tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
    /// The high watermark a follower knows; `i64::MAX` for none (KIP-1166).
    #[kafka(since = 18, tag = 1, default = i64::MAX, ignorable)]
    pub high_watermark: i64,
}

/// Partitions of one topic that leave the fetch session (KIP-227).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ForgottenTopic {
    /// The topic's name.
    #[kafka(since = 7, until = 12, ignorable)]
    pub topic: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    #[kafka(since = 7)]
    pub partitions: Vec<i32>,
}

/// Returns records. Within a fetch session it names only partitions that have changed.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-18", flexible = 12)]
pub struct FetchResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// The error of the whole request or its session; partitions have their own.
    #[kafka(since = 7, ignorable)]
    pub error_code: ErrorCode,
    /// The fetch session; 0 if the broker keeps none (KIP-227).
    #[kafka(since = 7)]
    pub session_id: i32,
    /// One entry per topic.
    pub responses: Vec<FetchableTopicResponse>,
    /// The addresses of the new leaders that partitions name (KIP-951).
    #[kafka(since = 16, tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The data of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchableTopicResponse {
    /// The topic's name.
    #[kafka(until = 12, ignorable)]
    pub topic: String,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 13, ignorable)]
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<PartitionData>,
}

/// The data of one partition.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The high watermark: the end of what all in-sync replicas have.
    pub high_watermark: i64,
    /// The last stable offset: all transactions before it have ended (KIP-98).
    #[kafka(since = 4, ignorable)]
    pub last_stable_offset: Option<i64>,
    /// The log start offset (KIP-107).
    #[kafka(since = 5, ignorable)]
    pub log_start_offset: Option<i64>,
    /// Set when the consumer's log was truncated (KIP-595).
    #[kafka(since = 12, tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// The current leader, if this broker is not the leader (KIP-951).
    #[kafka(since = 12, tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// Set when a replica must fetch a snapshot (KIP-630).
    #[kafka(since = 12, tag = 2)]
    pub snapshot_id: SnapshotId,
    /// The aborted transactions among the records, if only committed ones were asked for.
    #[kafka(since = 4, nullable = 4, ignorable)]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The broker to fetch from instead (KIP-392).
    #[kafka(since = 11)]
    pub preferred_read_replica: Option<i32>,
    /// The batches, as in the log: the first may begin before the requested offset, the last may be cut off.
    #[kafka(nullable = 0)]
    pub records: Option<Records>,
}

/// Where the consumer's log diverges from the leader's.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    /// The last epoch that both logs have.
    #[kafka(since = 12)]
    pub epoch: Option<i32>,
    /// Where that epoch ends in the leader's log.
    #[kafka(since = 12)]
    pub end_offset: Option<i64>,
}

/// The leader, as the answering broker knows it (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// The leader's broker id; `None` if there is no leader.
    #[kafka(since = 12)]
    pub leader_id: Option<i32>,
    /// The leader's epoch (KIP-320).
    #[kafka(since = 12)]
    pub leader_epoch: Option<i32>,
}

/// The snapshot to fetch instead; for KRaft's replicas (KIP-630).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SnapshotId {
    /// The offset after the last record in it.
    pub end_offset: Option<i64>,
    /// The epoch of the last record in it.
    pub epoch: Option<i32>,
}

/// An aborted transaction, whose records a `read_committed` consumer must skip (KIP-98).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AbortedTransaction {
    /// The producer.
    #[kafka(since = 4)]
    pub producer_id: i64,
    /// The transaction's first record in this partition.
    #[kafka(since = 4)]
    pub first_offset: i64,
}

/// The address of a new leader (KIP-951).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    /// The broker's id.
    #[kafka(since = 16)]
    pub node_id: i32,
    /// The broker's advertised host.
    #[kafka(since = 16)]
    pub host: String,
    /// The broker's advertised port.
    #[kafka(since = 16)]
    pub port: i32,
    /// The broker's `broker.rack`.
    #[kafka(since = 16, nullable = 16)]
    pub rack: Option<String>,
}

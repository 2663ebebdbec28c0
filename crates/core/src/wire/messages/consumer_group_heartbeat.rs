//! `ConsumerGroupHeartbeat`: with it a member of a consumer group joins, stays alive, reports changes and gets its
//! assignment (KIP-848). The group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// Keeps a member's session alive; fields that are `None` have not changed since the last heartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ConsumerGroupHeartbeat", response = ConsumerGroupHeartbeatResponse, versions = "0-1", flexible = 0)]
pub struct ConsumerGroupHeartbeatRequest {
    /// The group's id; `group.id`.
    pub group_id: String,
    /// The member's id, which it makes itself (KIP-1082); in version 0 it may be empty when it joins.
    pub member_id: String,
    /// The member's epoch; 0 to join, -1 to leave, -2 for a static member that leaves for a while.
    pub member_epoch: i32,
    /// The `group.instance.id` of a static member.
    #[kafka(nullable = 0)]
    pub instance_id: Option<String>,
    /// The member's rack: its `client.rack`.
    #[kafka(nullable = 0)]
    pub rack_id: Option<String>,
    /// How long the member may take to give up partitions, in milliseconds; `max.poll.interval.ms`.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics it subscribes to.
    #[kafka(nullable = 0)]
    pub subscribed_topic_names: Option<Vec<String>>,
    /// A pattern of topics it subscribes to, in RE2 syntax; empty: none.
    #[kafka(since = 1, nullable = 1)]
    pub subscribed_topic_regex: Option<String>,
    /// The coordinator's assignor that it asks for; `group.remote.assignor`.
    #[kafka(nullable = 0)]
    pub server_assignor: Option<String>,
    /// The partitions it owns.
    #[kafka(nullable = 0)]
    pub topic_partitions: Option<Vec<TopicPartitions>>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// What the coordinator tells the member.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = 0)]
pub struct ConsumerGroupHeartbeatResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// The member's id.
    #[kafka(nullable = 0)]
    pub member_id: Option<String>,
    /// The member's epoch from now on.
    pub member_epoch: i32,
    /// When the next heartbeat is due, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// All partitions that it may read now; `None` if they did not change.
    #[kafka(nullable = 0)]
    pub assignment: Option<Assignment>,
}

/// The partitions of a member.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    /// One entry per topic.
    pub topic_partitions: Vec<TopicPartitions>,
}

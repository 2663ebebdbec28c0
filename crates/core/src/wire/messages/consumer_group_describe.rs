//! `ConsumerGroupDescribe`: state and members of consumer groups (KIP-848). A group's coordinator answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// Asks for state and members of some groups.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ConsumerGroupDescribe", response = ConsumerGroupDescribeResponse, versions = "0-1", flexible = 0)]
pub struct ConsumerGroupDescribeRequest {
    /// The groups' ids.
    pub group_ids: Vec<String>,
    /// Whether to return what the client is authorized to do with each group (KIP-430).
    pub include_authorized_operations: bool,
}

/// The groups that were asked for.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = 0)]
pub struct ConsumerGroupDescribeResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per group.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// The group's id; `group.id`.
    pub group_id: String,
    /// Its state, such as `Stable` or `Reconciling`; empty if unknown.
    pub group_state: String,
    /// Counts the changes of members and subscriptions.
    pub group_epoch: i32,
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// The assignor that was chosen.
    pub assignor_name: String,
    /// One entry per member.
    pub members: Vec<Member>,
    /// What the client is authorized to do with it, as a bit field (KIP-430); `i32::MIN` if not requested.
    #[kafka(default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Member {
    /// The member's id.
    pub member_id: String,
    /// The `group.instance.id` of a static member.
    #[kafka(nullable = 0)]
    pub instance_id: Option<String>,
    /// The member's rack: its `client.rack`.
    #[kafka(nullable = 0)]
    pub rack_id: Option<String>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// The member's `client.id`.
    pub client_id: String,
    /// The address from which it is connected.
    pub client_host: String,
    /// The topics it subscribes to.
    pub subscribed_topic_names: Vec<String>,
    /// A pattern of topics it subscribes to.
    #[kafka(nullable = 0)]
    pub subscribed_topic_regex: Option<String>,
    /// The partitions it has.
    pub assignment: Assignment,
    /// The partitions that it should have.
    pub target_assignment: Assignment,
    /// 0 for a member of the classic protocol, 1 for one of the newer; `None` if it cannot be told (KIP-1099).
    #[kafka(since = 1, ignorable)]
    pub member_type: Option<i8>,
}

/// The partitions of a member.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    /// One entry per topic.
    pub topic_partitions: Vec<TopicPartitions>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic_name: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

//! What the members of a classic consumer group send each other inside `JoinGroup` and `SyncGroup`. A two-byte version
//! precedes each.

use bytes::Bytes;
use kavka_derive::Message;

/// What a member sends when it joins.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3")]
pub struct ConsumerProtocolSubscription {
    /// The topics it subscribes to.
    pub topics: Vec<String>,
    /// Data for the leader's assignor.
    #[kafka(nullable = 0)]
    pub user_data: Option<Bytes>,
    /// The partitions it owns (KIP-429).
    #[kafka(since = 1, ignorable)]
    pub owned_partitions: Vec<ConsumerProtocolTopic>,
    /// The generation in which it got them (KIP-792).
    #[kafka(since = 2, ignorable)]
    pub generation_id: Option<i32>,
    /// The member's rack (KIP-881).
    #[kafka(since = 3, nullable = 3, ignorable)]
    pub rack_id: Option<String>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ConsumerProtocolTopic {
    /// The topic's name.
    pub topic: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// What the leader assigns to a member.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3")]
pub struct ConsumerProtocolAssignment {
    /// The member's assignment.
    pub assigned_partitions: Vec<ConsumerProtocolTopic>,
    /// Data from the leader's assignor.
    #[kafka(nullable = 0)]
    pub user_data: Option<Bytes>,
}

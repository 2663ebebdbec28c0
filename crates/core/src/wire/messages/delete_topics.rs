//! `DeleteTopics`: deletes topics by name or id (KIP-4, KIP-516). The controller answers it.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// The newest version that names topics in a plain list; later ones can name them by id, too.
pub const DELETE_BY_NAME: i16 = 5;

/// Deletes topics.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DeleteTopics", response = DeleteTopicsResponse, versions = "0-6", flexible = 4)]
pub struct DeleteTopicsRequest {
    /// The topics, from version 6 on.
    #[kafka(since = 6)]
    pub topics: Vec<DeleteTopicState>,
    /// The topics, below version 6.
    #[kafka(until = 5, ignorable)]
    pub topic_names: Vec<String>,
    /// How long the controller may take before it answers, in milliseconds.
    pub timeout_ms: i32,
}

/// One topic, by name or by id.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteTopicState {
    /// The topic's name; `None` if it is named by id.
    #[kafka(since = 6, nullable = 6)]
    pub name: Option<String>,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 6)]
    pub topic_id: Uuid,
}

/// The outcome for each topic.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 4)]
pub struct DeleteTopicsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// One entry per topic.
    pub responses: Vec<DeletableTopicResult>,
}

/// The outcome for one topic.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableTopicResult {
    /// The topic's name; `None` if it was named by an id that is unknown.
    #[kafka(nullable = 6)]
    pub name: Option<String>,
    /// The topic's id (KIP-516); zero if the topic is given by name.
    #[kafka(since = 6, ignorable)]
    pub topic_id: Uuid,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub error_message: Option<String>,
}

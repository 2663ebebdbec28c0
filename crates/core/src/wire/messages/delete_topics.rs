//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DeleteTopics", response = DeleteTopicsResponse, versions = "0-6", flexible = 4)]
pub struct DeleteTopicsRequest {
    /// DOC
    #[kafka(since = 6)]
    pub topics: Vec<DeleteTopicState>,
    /// DOC
    #[kafka(until = 5, ignorable)]
    pub topic_names: Vec<String>,
    /// DOC
    pub timeout_ms: i32,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteTopicState {
    /// DOC
    #[kafka(since = 6, nullable = 6)]
    pub name: Option<String>,
    /// DOC
    #[kafka(since = 6)]
    pub topic_id: Uuid,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = 4)]
pub struct DeleteTopicsResponse {
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub responses: Vec<DeletableTopicResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableTopicResult {
    /// DOC
    #[kafka(nullable = 6)]
    pub name: Option<String>,
    /// DOC
    #[kafka(since = 6, ignorable)]
    pub topic_id: Uuid,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub error_message: Option<String>,
}

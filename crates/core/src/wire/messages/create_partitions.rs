//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "CreatePartitions", response = CreatePartitionsResponse, versions = "0-3", flexible = 2)]
pub struct CreatePartitionsRequest {
    /// DOC
    pub topics: Vec<CreatePartitionsTopic>,
    /// DOC
    pub timeout_ms: i32,
    /// DOC
    pub validate_only: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopic {
    /// DOC
    pub name: String,
    /// DOC
    pub count: i32,
    /// DOC
    #[kafka(nullable = 0)]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsAssignment {
    /// DOC
    pub broker_ids: Vec<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = 2)]
pub struct CreatePartitionsResponse {
    /// DOC
    pub throttle_time_ms: i32,
    /// DOC
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatePartitionsTopicResult {
    /// DOC
    pub name: String,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
}

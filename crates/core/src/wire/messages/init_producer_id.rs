//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "InitProducerId", response = InitProducerIdResponse, versions = "0-5", flexible = 2)]
pub struct InitProducerIdRequest {
    /// DOC
    #[kafka(nullable = 0)]
    pub transactional_id: Option<String>,
    /// DOC
    pub transaction_timeout_ms: i32,
    /// DOC
    #[kafka(since = 3)]
    pub producer_id: Option<i64>,
    /// DOC
    #[kafka(since = 3)]
    pub producer_epoch: Option<i16>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 2)]
pub struct InitProducerIdResponse {
    /// DOC
    #[kafka(ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub producer_id: Option<i64>,
    /// DOC
    pub producer_epoch: i16,
}

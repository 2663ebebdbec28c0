//! `InitProducerId`: identity of an idempotent or transactional producer (KIP-98, KIP-360).
//!
//! Any broker answers it for an idempotent producer, the transaction coordinator for a transactional one. Version 6
//! is not stable in 4.4, and not supported.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for a producer id, or for the next epoch of one.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "InitProducerId", response = InitProducerIdResponse, versions = "0-5", flexible = 2)]
pub struct InitProducerIdRequest {
    /// `transactional.id`; `None` for an idempotent producer.
    #[kafka(nullable = 0)]
    pub transactional_id: Option<String>,
    /// How long a transaction may stay open, in milliseconds; `transaction.timeout.ms`.
    pub transaction_timeout_ms: i32,
    /// The producer id so far, to get its next epoch; `None` for a new one (KIP-360).
    #[kafka(since = 3)]
    pub producer_id: Option<i64>,
    /// The epoch so far; `None` for a new producer id (KIP-360).
    #[kafka(since = 3)]
    pub producer_epoch: Option<i16>,
}

/// The identity for what is produced from now on.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 2)]
pub struct InitProducerIdResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The producer id; `None` with an error.
    pub producer_id: Option<i64>,
    /// The epoch for what is produced from now on.
    pub producer_epoch: i16,
}

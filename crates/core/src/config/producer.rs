//! The settings of a producer: batching, acknowledgement and when to give up.

use std::time::Duration;

use super::refuse;
use crate::error::Result;
use crate::wire::records::Compression;

/// Who must have stored a record before it counts as written. Kafka: `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nobody: the broker does not answer, and a lost record is never noticed. Not idempotent.
    None,
    /// The leader alone: a record can be lost when the leader fails. Not idempotent.
    Leader,
    /// Every in-sync replica. The only choice that keeps the guarantees.
    #[default]
    All,
}

impl Acks {
    /// The number on the wire: 0, 1 or -1.
    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer batches, sends and gives up.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerConfig {
    /// Kafka: `acks` (default all).
    pub acks: Acks,
    /// Lets the broker drop what arrives twice. Kafka: `enable.idempotence` (default: on exactly when `acks` is all).
    pub idempotence: Option<bool>,
    /// How long a batch waits for more records; a lone record does not wait. Kafka: `linger.ms` (default 5).
    pub linger: Duration,
    /// The size at which a batch is full, in bytes: a ceiling, not an allocation. Kafka: `batch.size` (default here 1,000,000).
    pub batch_size: usize,
    /// The size above which a record is refused and a request is not filled further, in bytes.
    /// Kafka: `max.request.size` (default 1,048,576).
    pub max_request_size: usize,
    /// Kafka: `compression.type` with its level (default none).
    pub compression: Compression,
    /// The limit from accepting a record to its report. Kafka: `delivery.timeout.ms` (default 120 s). Where it is shorter
    /// than `request.timeout.ms`, an answer is not waited for longer either, but for 5 s at least.
    pub delivery_timeout: Duration,
    /// Unresolved batches of one partition, 1 to 5. Kafka: `max.in.flight.requests.per.connection` (default 5).
    pub max_in_flight: usize,
    /// How long the leader may wait for its replicas. Kafka: `request.timeout.ms` as a producer sends it (default 30 s).
    pub ack_timeout: Duration,
    /// How often a batch is tried again within `delivery_timeout`. Kafka: `retries` (default no limit).
    pub retries: u32,
    /// How many records may wait for their report, besides the bound in bytes. Not a Kafka setting (default no limit).
    pub max_queued_records: Option<usize>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: None,
            linger: Duration::from_millis(5),
            batch_size: 1_000_000,
            max_request_size: 1_048_576,
            compression: Compression::default(),
            delivery_timeout: Duration::from_secs(120),
            max_in_flight: 5,
            ack_timeout: Duration::from_secs(30),
            retries: u32::MAX,
            max_queued_records: None,
        }
    }
}

impl ProducerConfig {
    /// Whether batches carry a producer id and sequence numbers.
    pub fn is_idempotent(&self) -> bool {
        self.idempotence.unwrap_or(self.acks == Acks::All)
    }

    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<()> {
        if self.idempotence == Some(true) && self.acks != Acks::All {
            return Err(refuse("acks", self.acks, "all when enable.idempotence is on"));
        }
        if self.max_in_flight == 0 || self.is_idempotent() && self.max_in_flight > 5 {
            return Err(refuse("max.in.flight.requests.per.connection", self.max_in_flight, "1 to 5"));
        }
        if self.batch_size == 0 || self.batch_size > i32::MAX as usize {
            return Err(refuse("batch.size", self.batch_size, "1 to 2,147,483,647 bytes"));
        }
        if self.max_request_size == 0 || self.max_request_size > i32::MAX as usize {
            return Err(refuse("max.request.size", self.max_request_size, "1 to 2,147,483,647 bytes"));
        }
        if self.delivery_timeout <= self.linger {
            return Err(refuse("delivery.timeout.ms", self.delivery_timeout, "more than linger.ms"));
        }
        Ok(())
    }
}

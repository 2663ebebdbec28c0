//! The settings: what they are called, what they may be and what they are when nothing is said.
//!
//! Kafka's dotted name is the name; the doc comment of a field gives it. A setting that is out of
//! range or in conflict with another one is refused by `validate`, before anything is sent.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::records::Compression;

/// What a client needs before it can talk to a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// Where to begin: `(host, port)` pairs. Kafka: `bootstrap.servers` (default `127.0.0.1:9092`).
    pub bootstrap_servers: Vec<(String, u16)>,
    /// What the broker's log calls us. Kafka: `client.id` (default `kavka`).
    pub client_id: String,
    /// The limit of one request, its wait at the broker included. Kafka: `request.timeout.ms` (default 30 s).
    pub request_timeout: Duration,
    /// The limit of DNS, TCP and handshakes together. Kafka: `socket.connection.setup.timeout.ms` (default 10 s).
    pub connection_setup_timeout: Duration,
    /// The first back-off before trying again. Kafka: `retry.backoff.ms` (default 100 ms).
    pub retry_backoff: Duration,
    /// The longest back-off before trying again. Kafka: `retry.backoff.max.ms` (default 1 s).
    pub retry_backoff_max: Duration,
    /// The first wait before dialling a broker again. Kafka: `reconnect.backoff.ms` (default 100 ms).
    pub reconnect_backoff: Duration,
    /// The longest wait before dialling a broker again. Kafka: `reconnect.backoff.max.ms` (default 10 s).
    pub reconnect_backoff_max: Duration,
    /// How old metadata may become without being asked for anew. Kafka: `metadata.max.age.ms` (default 5 min).
    pub metadata_max_age: Duration,
    /// An answer longer than this is refused before it is read. Not a Kafka setting (default 100 MB).
    pub max_response_bytes: usize,
    /// What all producers of the client may buffer together, in bytes. Kafka: `buffer.memory` (default 32 MiB).
    pub buffer_memory: usize,
    /// How long a call waits for metadata or buffer memory. Kafka: `max.block.ms` (default 60 s).
    pub max_block: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec![("127.0.0.1".into(), 9092)],
            client_id: "kavka".into(),
            request_timeout: Duration::from_secs(30),
            connection_setup_timeout: Duration::from_secs(10),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(100),
            reconnect_backoff_max: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(300),
            max_response_bytes: 100_000_000,
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
        }
    }
}

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

/// What to do when there is no position to start from. Kafka: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// Begin with the oldest record there is.
    #[default]
    Earliest,
    /// Begin with the next record that will be written.
    Latest,
    /// Report an error and stay where we are.
    None,
}

/// Whether records of open and aborted transactions are returned. Kafka: `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Everything up to the high watermark.
    ReadUncommitted,
    /// Only committed records, up to the last stable offset.
    #[default]
    ReadCommitted,
}

/// How a consumer fetches.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerConfig {
    /// How long a broker may hold a fetch that has nothing to return. Kafka: `fetch.max.wait.ms` (default here 100 ms).
    pub fetch_max_wait: Duration,
    /// Below this a broker waits for more, in bytes. Kafka: `fetch.min.bytes` (default 1).
    pub fetch_min_bytes: u32,
    /// What one fetch may return, in bytes. Kafka: `fetch.max.bytes` (default 50 MiB).
    pub fetch_max_bytes: u32,
    /// What one partition may return in one fetch, in bytes. Kafka: `max.partition.fetch.bytes` (default 1 MiB).
    pub max_partition_fetch_bytes: u32,
    /// What may be prefetched and not yet handed out, requests in flight included, in bytes. Not a Kafka setting (default 64 MiB).
    pub fetch_buffer: usize,
    /// What one batch may decompress to, in bytes. Not a Kafka setting (default 64 MiB).
    pub max_decompressed_batch: usize,
    /// Kafka: `isolation.level` (default here `read_committed`).
    pub isolation_level: IsolationLevel,
    /// Kafka: `auto.offset.reset` (default here earliest).
    pub auto_offset_reset: AutoOffsetReset,
    /// Lets a broker in the same rack serve us (KIP-392). Kafka: `client.rack` (default none).
    pub client_rack: Option<String>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            fetch_max_wait: Duration::from_millis(100),
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            fetch_buffer: 64 << 20,
            max_decompressed_batch: 64 << 20,
            isolation_level: IsolationLevel::ReadCommitted,
            auto_offset_reset: AutoOffsetReset::Earliest,
            client_rack: None,
        }
    }
}

fn refuse(setting: &str, value: impl std::fmt::Debug, allowed: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{setting} must be {allowed}, not {value:?}"))
}

impl ClientConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<()> {
        if self.bootstrap_servers.is_empty() {
            return Err(refuse("bootstrap.servers", "", "at least one host:port"));
        }
        if self.client_id.len() > i16::MAX as usize || self.client_id.contains(char::is_control) {
            return Err(refuse("client.id", &self.client_id, "at most 32,767 bytes without control characters"));
        }
        let limits = [
            ("request.timeout.ms", self.request_timeout),
            ("socket.connection.setup.timeout.ms", self.connection_setup_timeout),
            ("retry.backoff.ms", self.retry_backoff),
            ("reconnect.backoff.ms", self.reconnect_backoff),
        ];
        for (setting, limit) in limits {
            if limit.is_zero() {
                return Err(refuse(setting, limit, "more than 0"));
            }
        }
        if self.retry_backoff > self.retry_backoff_max {
            return Err(refuse("retry.backoff.ms", self.retry_backoff, "at most retry.backoff.max.ms"));
        }
        if self.reconnect_backoff > self.reconnect_backoff_max {
            return Err(refuse("reconnect.backoff.ms", self.reconnect_backoff, "at most reconnect.backoff.max.ms"));
        }
        if self.buffer_memory < 64 << 10 {
            return Err(refuse("buffer.memory", self.buffer_memory, "at least 65,536 bytes"));
        }
        Ok(())
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

impl ConsumerConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<()> {
        let sizes =
            [("fetch.max.bytes", self.fetch_max_bytes), ("max.partition.fetch.bytes", self.max_partition_fetch_bytes)];
        for (setting, size) in sizes {
            if size == 0 || size > i32::MAX as u32 {
                return Err(refuse(setting, size, "1 to 2,147,483,647 bytes"));
            }
        }
        for (setting, size) in
            [("fetch_buffer", self.fetch_buffer), ("max_decompressed_batch", self.max_decompressed_batch)]
        {
            if size == 0 {
                return Err(refuse(setting, size, "at least 1 byte"));
            }
        }
        if self.fetch_min_bytes > self.fetch_max_bytes {
            return Err(refuse("fetch.min.bytes", self.fetch_min_bytes, "at most fetch.max.bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        ClientConfig::default().validate().unwrap();
        ProducerConfig::default().validate().unwrap();
        ConsumerConfig::default().validate().unwrap();
    }

    #[test]
    fn idempotence_asked_for_by_name_refuses_weaker_acks() {
        let config = ProducerConfig { acks: Acks::Leader, idempotence: Some(true), ..ProducerConfig::default() };
        assert_eq!(config.validate().unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn weaker_acks_turn_idempotence_off_by_themselves() {
        let config = ProducerConfig { acks: Acks::None, ..ProducerConfig::default() };
        config.validate().unwrap();
        assert!(!config.is_idempotent());
    }

    #[test]
    fn buffers_that_can_hold_nothing_are_refused() {
        for config in [
            ConsumerConfig { fetch_buffer: 0, ..ConsumerConfig::default() },
            ConsumerConfig { max_decompressed_batch: 0, ..ConsumerConfig::default() },
        ] {
            assert_eq!(config.validate().unwrap_err().kind(), ErrorKind::Config);
        }
    }
}

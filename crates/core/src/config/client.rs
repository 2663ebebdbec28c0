//! The settings of a client: where its cluster is, and the limits of one request.

use std::time::Duration;

use super::refuse;
use crate::error::Result;

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

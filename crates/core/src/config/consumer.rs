//! The settings of a consumer: how much it fetches and where it begins.

use std::time::Duration;

use super::refuse;
use crate::error::Result;

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

//! The settings of a consumer: how much it fetches, and where it starts.

use std::time::Duration;

use super::setting::{INT, LONG, refuse, settings};
use crate::error::Result;

/// Where to start without a valid offset. Kafka: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// At the oldest record.
    #[default]
    Earliest,
    /// At the end: the next record to be written is the first.
    Latest,
    /// Nowhere: report an error, and stop reading the partition.
    None,
}

/// Whether to return records of open and aborted transactions. Kafka: `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All records up to the high watermark.
    ReadUncommitted,
    /// Only committed records, up to the last stable offset.
    #[default]
    ReadCommitted,
}

settings! {
    /// The settings of a consumer.
    ConsumerConfig {
        /// How long a broker may wait for `fetch.min.bytes`. Kafka's default is 500.
        #[setting(kafka = "fetch.max.wait.ms", pykafka = "fetch_wait_max_ms", range = 0..=INT)]
        fetch_max_wait: Duration = 100;

        /// How many bytes a broker waits for, up to `fetch.max.wait.ms`.
        #[setting(kafka = "fetch.min.bytes", pykafka = "fetch_min_bytes", range = 0..=INT)]
        fetch_min_bytes: u32 = 1;

        /// How many bytes one fetch may return. Kafka's default is 50 MiB, but responses of more than a few MiB do not
        /// fit into the processor's caches, and cost half as much again per record.
        #[setting(kafka = "fetch.max.bytes", pykafka = "fetch_max_bytes", pykafka_default = "52428800", range = 1..=INT)]
        fetch_max_bytes: u32 = 4_194_304;

        /// How many bytes of one partition one fetch may return.
        #[setting(kafka = "max.partition.fetch.bytes", pykafka = "fetch_message_max_bytes", range = 1..=INT)]
        max_partition_fetch_bytes: u32 = 1_048_576;

        /// How many bytes may be fetched ahead, including requests in flight.
        #[setting(ours = "fetch.buffer", pykafka = "fetch_buffer", range = 1..=LONG)]
        fetch_buffer: usize = 67_108_864;

        /// How many bytes one batch may have when it is decompressed.
        #[setting(ours = "max.decompressed.batch", range = 1..=LONG)]
        max_decompressed_batch: usize = 67_108_864;

        /// Whether to return records of open and aborted transactions. Kafka's default is `read_uncommitted`.
        #[setting(kafka = "isolation.level")]
        isolation_level: IsolationLevel = IsolationLevel::ReadCommitted;

        /// Where to continue if an offset is out of range. Kafka's default is `latest`.
        #[setting(kafka = "auto.offset.reset", pykafka = "auto_offset_reset", pykafka_default = "-2")]
        auto_offset_reset: AutoOffsetReset = AutoOffsetReset::Earliest;

        /// The group to commit offsets for. A plain consumer does not join the group, so the coordinator accepts its
        /// commits only while the group has no members.
        #[setting(kafka = "group.id", pykafka = "consumer_group")]
        group_id: Option<String> = None;

        /// The rack of this client: it may read from a replica in the same rack instead of the leader (KIP-392).
        #[setting(kafka = "client.rack")]
        client_rack: Option<String> = None;
    }
}

impl ConsumerConfig {
    fn check_conflicts(&self) -> Result<()> {
        if self.fetch_min_bytes > self.fetch_max_bytes {
            let allowed = format!("at most fetch.max.bytes ({})", self.fetch_max_bytes);
            return Err(refuse("fetch.min.bytes", self.fetch_min_bytes, allowed));
        }
        Ok(())
    }
}

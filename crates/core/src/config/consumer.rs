//! The settings of a consumer: how much it fetches and where it begins.

use std::time::Duration;

use super::setting::{INT, LONG, refuse, settings};
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

settings! {
    /// How a consumer fetches.
    ConsumerConfig {
        /// How long a broker may hold a fetch that has nothing to return. Kafka's default is 500.
        #[setting(kafka = "fetch.max.wait.ms", pykafka = "fetch_wait_max_ms", range = 0..=INT)]
        fetch_max_wait: Duration = 100;

        /// How many bytes a broker waits for, as long as `fetch.max.wait.ms` lasts.
        #[setting(kafka = "fetch.min.bytes", pykafka = "fetch_min_bytes", range = 0..=INT)]
        fetch_min_bytes: u32 = 1;

        /// How many bytes one fetch may return. Kafka's default is 50 MiB; answers of more than a few MiB outgrow the
        /// caches of the processor and cost half as much again per record.
        #[setting(kafka = "fetch.max.bytes", pykafka = "fetch_max_bytes", range = 1..=INT)]
        fetch_max_bytes: u32 = 4_194_304;

        /// How many bytes one partition may return in one fetch.
        #[setting(kafka = "max.partition.fetch.bytes", pykafka = "fetch_message_max_bytes", range = 1..=INT)]
        max_partition_fetch_bytes: u32 = 1_048_576;

        /// How many bytes may be fetched ahead and not handed out yet, requests in flight included.
        #[setting(ours = "fetch.buffer", pykafka = "fetch_buffer", range = 1..=LONG)]
        fetch_buffer: usize = 67_108_864;

        /// How many bytes one batch may decompress to.
        #[setting(ours = "max.decompressed.batch", range = 1..=LONG)]
        max_decompressed_batch: usize = 67_108_864;

        /// Whether records of open and aborted transactions are returned. Kafka's default is `read_uncommitted`.
        #[setting(kafka = "isolation.level")]
        isolation_level: IsolationLevel = IsolationLevel::ReadCommitted;

        /// Where to go on when an offset is out of range. Kafka's default is `latest`.
        #[setting(kafka = "auto.offset.reset", pykafka = "auto_offset_reset")]
        auto_offset_reset: AutoOffsetReset = AutoOffsetReset::Earliest;

        /// The group that offsets are committed for. The consumer does not join it: a coordinator takes such commits only
        /// while the group has no members.
        #[setting(kafka = "group.id", pykafka = "consumer_group")]
        group_id: Option<String> = None;

        /// The rack we are in: a replica in the same rack may serve us instead of the leader (KIP-392).
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

//! The settings of a producer: batching, acknowledgement, and when to give up.

use std::time::Duration;

use super::setting::{INT, LONG, refuse, settings};
use crate::error::Result;
use crate::wire::records::{Compression, CompressionType};

/// Which replicas must have stored a record before it counts as written. Kafka: `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acks {
    /// None: the broker does not respond, and a lost record goes unnoticed. Not idempotent.
    None,
    /// The leader only: a record can be lost if the leader fails. Not idempotent.
    Leader,
    /// All in-sync replicas. The only choice that keeps the guarantees.
    #[default]
    All,
}

impl Acks {
    /// The value in a request: 0, 1 or -1.
    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

settings! {
    /// The settings of a producer.
    ProducerConfig {
        /// Which replicas must have stored a record before it counts as written.
        #[setting(kafka = "acks", pykafka = "required_acks", pykafka_default = "-1")]
        acks: Acks = Acks::All;

        /// Whether brokers detect and drop duplicates. By default they do if `acks` is `all`.
        #[setting(kafka = "enable.idempotence")]
        idempotence: Option<bool> = None;

        /// How long a batch waits for more records. A lone record does not wait.
        #[setting(kafka = "linger.ms", pykafka = "linger_ms", range = 0..=LONG)]
        linger: Duration = 5;

        /// How many bytes make a batch full: a limit, not an allocation. Kafka's default is 16,384.
        #[setting(kafka = "batch.size", range = 1..=INT)]
        batch_size: usize = 1_000_000;

        /// How many bytes a record may have; a request of that size gets no more batches.
        #[setting(kafka = "max.request.size", pykafka = "max_request_size", range = 1..=INT)]
        max_request_size: usize = 1_048_576;

        /// How batches are compressed, optionally with a level after a colon: `zstd:9`.
        #[setting(kafka = "compression.type", pykafka = "compression", pykafka_default = "0")]
        compression: Compression = CompressionType::None;

        /// How long a record may take from acceptance to its report. If that is less than `request.timeout.ms`, it also
        /// limits the wait for a response, but to no less than 5 s, and only while no other request waits on the
        /// connection.
        #[setting(kafka = "delivery.timeout.ms", pykafka = "delivery_timeout_ms", range = 1..=LONG)]
        delivery_timeout: Duration = 120_000;

        /// How many batches of one partition may be in flight; at most 5 for an idempotent producer. Without
        /// idempotence it is 1 per partition unless `retries` is 0: otherwise a batch that is sent again would be
        /// stored after the next one.
        #[setting(kafka = "max.in.flight.requests.per.connection", range = 1..=INT)]
        max_in_flight: usize = 5;

        /// How long the leader of a partition may wait for its replicas; at most four fifths of the time in which the
        /// request must be answered (`request.timeout.ms`, or `delivery.timeout.ms` if that is less), so that its
        /// answer comes in time.
        #[setting(kafka = "request.timeout.ms", pykafka = "ack_timeout_ms", pykafka_default = "10000", range = 0..=INT)]
        ack_timeout: Duration = 30_000;

        /// How often a batch is retried within `delivery.timeout.ms`.
        #[setting(kafka = "retries", pykafka = "max_retries", pykafka_default = "none", range = 0..=u32::MAX as u64)]
        retries: u32 = u32::MAX;

        /// How many records may wait for their report, in addition to the limit in bytes. By default there is no limit.
        #[setting(ours = "max.queued.records", pykafka = "max_queued_messages", range = 1..=LONG)]
        max_queued_records: Option<usize> = None;
    }
}

impl ProducerConfig {
    /// Whether batches carry a producer id and sequence numbers.
    pub fn is_idempotent(&self) -> bool {
        self.idempotence.unwrap_or(self.acks == Acks::All)
    }

    fn check_conflicts(&self) -> Result<()> {
        if self.idempotence == Some(true) && self.acks != Acks::All {
            return Err(refuse("acks", self.acks.to_wire(), "all when enable.idempotence is true"));
        }
        if self.is_idempotent() && self.max_in_flight > 5 {
            let allowed = "1 to 5 for an idempotent producer";
            return Err(refuse("max.in.flight.requests.per.connection", self.max_in_flight, allowed));
        }
        if self.delivery_timeout <= self.linger {
            let (limit, linger) = (self.delivery_timeout, self.linger);
            return Err(refuse(
                "delivery.timeout.ms",
                format!("{limit:?}"),
                format!("more than linger.ms ({linger:?})"),
            ));
        }
        Ok(())
    }
}

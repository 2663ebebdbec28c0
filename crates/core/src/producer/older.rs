//! Brokers and topics that cannot store what the producer would like to send.
//!
//! The producer takes every leader for one that stores batches of magic 2. If a broker is older than Kafka 0.11, its
//! connection refuses the first request, and nothing of that is sent. The producer then asks for the version of
//! `Produce` that both sides have, and sends message sets to this broker from then on, without sequence numbers. When
//! the broker is lost, or takes a partition over, what is known of it is forgotten: it may have another version now.
//!
//! Without sequence numbers the broker cannot recognise duplicates, so a batch that is sent again may be stored twice.
//! One batch of a partition at a time is in flight, so the order is kept. The same holds where the broker is new but no
//! broker assigns producer ids yet, or where the topic is kept in an older format (`message.format.version`).
//!
//! If `enable.idempotence` is set to true, all that is an error instead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::partition::{Partition, Rules};
use super::sender::ProducerRequest;
use super::{LaneId, PartitionId, Producer};
use crate::cluster::{Call, Owner, Target};
use crate::error::{Error, ErrorKind, Written};
use crate::time::Instant;
use crate::wire::messages::produce::{BATCHES_SINCE, TIMESTAMPS_SINCE, ZSTD_SINCE};
use crate::wire::records::{CompressionType, Format};

/// How long after a broker could not assign a producer id the next one is asked: brokers may be upgraded meanwhile.
const ASK_FOR_ID_AGAIN: Duration = Duration::from_secs(30);

/// What is known of brokers that are not new.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// The formats that they store; others store magic 2.
    formats: BTreeMap<i32, Format>,
    /// The brokers to ask for their versions, and why: what they refused.
    to_ask: BTreeMap<i32, Refused>,
    /// The brokers that were asked, by the id of the request.
    asked: BTreeMap<u64, (i32, Refused)>,
}

/// A format that a broker refused, and its error.
#[derive(Debug)]
struct Refused {
    format: Format,
    error: Error,
}

impl Older {
    /// Forgets a broker that was lost or has become a leader.
    pub(super) fn forget(&mut self, broker_id: i32) {
        self.formats.remove(&broker_id);
    }
}

impl Producer {
    /// The format in which a partition's leader is sent records.
    pub(super) fn format_for(&self, partition: &Partition) -> Format {
        partition.leader().map_or(Format::V2, |broker_id| self.format_of(broker_id))
    }

    /// The format in which a broker is sent records.
    pub(super) fn format_of(&self, broker_id: i32) -> Format {
        self.older.formats.get(&broker_id).copied().unwrap_or(Format::V2)
    }

    /// The rules for a partition, with its current leader.
    pub(super) fn rules_for(&self, partition: &Partition) -> Rules {
        let is_weak = self.rules.idempotent
            && !self.rules.needs_idempotence
            && (partition.is_without_sequences()
                || self.lanes.get(partition.lane()).is_weak()
                || self.format_for(partition) < Format::V2);
        if is_weak { self.rules.without_idempotence() } else { self.rules }
    }

    /// The versions of `Produce` that can carry this format: the oldest and the newest.
    pub(super) fn versions_for(&self, format: Format) -> (i16, i16) {
        match format {
            Format::V0 => (0, TIMESTAMPS_SINCE - 1),
            Format::V1 => (TIMESTAMPS_SINCE, BATCHES_SINCE - 1),
            Format::V2 if self.config.compression.compression_type() == CompressionType::Zstd => (ZSTD_SINCE, i16::MAX),
            Format::V2 => (BATCHES_SINCE, i16::MAX),
        }
    }

    /// Notes that the connection to a broker refused a request with this format.
    pub(super) fn handle_refused(&mut self, broker_id: i32, format: Format, error: Error) {
        self.older.to_ask.entry(broker_id).or_insert(Refused { format, error });
    }

    /// Asks for the version of `Produce` that a broker and this client have.
    pub(super) fn poll_versions(&mut self) -> Option<Call<ProducerRequest>> {
        let (broker_id, refused) = self.older.to_ask.pop_first()?;
        self.next_request_id += 1;
        self.older.asked.insert(self.next_request_id, (broker_id, refused));
        let call = Call::new(Target::Broker(broker_id), ProducerRequest::Versions);
        Some(Call { id: self.next_request_id, owner: Owner::Produce(self.number), ..call })
    }

    /// Takes the version of `Produce` that a broker has; `None` if it could not be asked. Returns false if the request
    /// with this id did not ask for it.
    pub(super) fn handle_versions(&mut self, now: Instant, id: u64, produce: Option<i16>) -> bool {
        let Some((broker_id, refused)) = self.older.asked.remove(&id) else { return false };
        // If the broker was lost meanwhile, the next request shows what it can do.
        let Some(version) = produce else { return true };
        let format = match version {
            BATCHES_SINCE.. => Format::V2,
            TIMESTAMPS_SINCE.. => Format::V1,
            _ => Format::V0,
        };
        let hopeless = self.why_hopeless(&refused, format, version);
        if hopeless.is_none() {
            self.older.formats.insert(broker_id, format);
        }
        for id in self.led_by(broker_id) {
            if let Some(error) = &hopeless {
                self.give_up(now, id, error);
            } else {
                self.partitions.get_mut(id).end_back_off(Instant::FAR);
                self.advance(now, id);
            }
        }
        true
    }

    /// Why nothing can be sent to a broker that has this version of `Produce`; `None` if it can.
    fn why_hopeless(&self, refused: &Refused, format: Format, version: i16) -> Option<Error> {
        let needs = |what, hint| {
            let error = Error::new(ErrorKind::Unsupported, what).with_source(refused.error.clone());
            Some(error.with_hint(hint).with_written(Written::No))
        };
        if self.config.compression.compression_type() == CompressionType::Zstd && version < ZSTD_SINCE {
            return needs(
                "zstd compression needs a broker of Kafka 2.1 or newer, and this one is older",
                "set compression.type to lz4, snappy, gzip or none",
            );
        }
        if format < Format::V2 && self.rules.needs_idempotence {
            return needs(
                "an idempotent producer needs a broker of Kafka 0.11 or newer, and this one is older",
                "leave out enable.idempotence, to get what the broker can do, or set it to false",
            );
        }
        (format == refused.format).then(|| refused.error.clone())
    }

    /// The partitions with unreported records that a broker leads.
    fn led_by(&self, broker_id: i32) -> BTreeSet<PartitionId> {
        let is_led = |id: &PartitionId| self.partitions.get(*id).leader() == Some(broker_id);
        self.ledger.partitions().into_iter().filter(is_led).collect()
    }

    /// Lets the partitions of a lane go on without a producer id, because a broker cannot assign one. Asks again later.
    pub(super) fn weaken(&mut self, now: Instant, lane: LaneId) {
        for id in self.lanes.update(lane, |lane| lane.weaken(now + ASK_FOR_ID_AGAIN)) {
            self.go_on_with_identity(now, lane, id);
        }
    }
}

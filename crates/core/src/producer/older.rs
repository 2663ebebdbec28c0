//! Brokers and topics that cannot store what the producer would like to send.
//!
//! The producer takes every leader for one that stores batches of magic 2. If a broker is older than Kafka 0.11, its
//! connection refuses the first request, and nothing of that is sent. The producer then asks for the version of
//! `Produce` that both sides have, and sends message sets to this broker from then on, without sequence numbers. When
//! the broker is lost, or takes a partition over, what is known of it is forgotten: it may have another version now. An
//! idle connection may end unnoticed, so a broker that is still used is asked again every 30 seconds.
//!
//! In a cluster of several versions, `InitProducerId` may reach a broker that does not have it. Every broker that
//! stores sequence numbers does, so then the leaders of the waiting partitions are asked, one after the other.
//!
//! Without sequence numbers the broker cannot recognise duplicates, so a batch that is sent again may be stored twice.
//! One batch of a partition at a time is in flight, so the order is kept. The same holds where the leader is new but
//! assigns no producer ids, or where the topic is kept in an older format (`message.format.version`). Both may be
//! changed while the cluster runs, so sequence numbers are tried again after 30 seconds.
//!
//! If `enable.idempotence` is set to true, all that is an error instead, for the partitions of that leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::partition::{Partition, Rules};
use super::sender::ProducerRequest;
use super::{LaneId, PartitionId, Producer, ProducerEvent};
use crate::cluster::{Call, Owner, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Instant;
use crate::wire::messages::produce::{BATCHES_SINCE, TIMESTAMPS_SINCE, ZSTD_SINCE};
use crate::wire::records::{CompressionType, Format};

/// How long it is believed of a broker that it stores an older format, or assigns no producer ids, and of a topic that
/// it is kept in an older format.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// How long a leader may leave a request for a producer id unanswered before another one is asked.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of brokers that are not new.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// The brokers that store an older format than magic 2, and when to ask whether they still do.
    formats: BTreeMap<i32, (Format, Instant)>,
    /// The leaders that assign no producer ids, until when that is believed, and what they answered.
    without_ids: BTreeMap<i32, (Instant, Error)>,
    /// The partitions whose topic is kept in an older format, and until when that is believed.
    without_sequences: BTreeSet<(Instant, PartitionId)>,
    /// The brokers to ask for their versions, and what they refused; `None` if they may be newer by now.
    to_ask: BTreeMap<i32, Option<Refused>>,
    /// The brokers that were asked, by the id of the request.
    asked: BTreeMap<u64, (i32, Option<Refused>)>,
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
        self.without_ids.remove(&broker_id);
    }
}

impl Producer {
    /// Forgets which leaders assigned no producer ids a while ago, and which topics were kept in an older format.
    pub(super) fn forget_in_time(&mut self, now: Instant) {
        self.older.without_ids.retain(|_, (until, _)| *until > now);
        while let Some((_, id)) = self.older.without_sequences.first().copied().filter(|(until, _)| *until <= now) {
            self.older.without_sequences.pop_first();
            // Another partition that has its number by now merely tries sooner.
            if self.partitions.find(id).is_some() {
                self.partitions.get_mut(id).try_sequences();
            }
        }
    }

    /// Notes that the leader of a partition keeps the topic in an older format, and tells the application.
    pub(super) fn handle_old_format(&mut self, now: Instant, id: PartitionId) {
        if !self.rules.needs_idempotence {
            self.older.without_sequences.insert((now + BELIEVED_FOR, id));
            let topic = Arc::clone(self.partitions.get(id).topic_name());
            self.events.push_back(ProducerEvent::OldFormat(topic));
        }
    }

    /// The format in which a partition's leader is sent records.
    pub(super) fn format_for(&self, partition: &Partition) -> Format {
        partition.leader().map_or(Format::V2, |broker_id| self.format_of(broker_id))
    }

    /// The format in which a broker is sent records.
    pub(super) fn format_of(&self, broker_id: i32) -> Format {
        self.older.formats.get(&broker_id).map_or(Format::V2, |(format, _)| *format)
    }

    /// The rules for a partition, with its current leader.
    pub(super) fn rules_for(&self, partition: &Partition) -> Rules {
        let is_weak = self.rules.idempotent
            && !self.rules.needs_idempotence
            && (partition.is_without_sequences()
                || self.format_for(partition) < Format::V2
                || self.lacks_identity(partition) && self.is_led_without_ids(partition));
        if is_weak { self.rules.without_idempotence() } else { self.rules }
    }

    /// Whether a partition needs a producer id for its sequence numbers, and there is none yet.
    pub(super) fn lacks_identity(&self, partition: &Partition) -> bool {
        partition.needs_identity() && self.lanes.get(partition.lane()).lacks_identity()
    }

    fn is_led_without_ids(&self, partition: &Partition) -> bool {
        partition.leader().is_some_and(|leader| self.older.without_ids.contains_key(&leader))
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
        // If it is being asked already, that answer also tells what to do with this request.
        let asked = self.older.asked.values_mut().find(|(asked, _)| *asked == broker_id);
        let refused = asked.map_or_else(|| self.older.to_ask.entry(broker_id).or_default(), |(_, refused)| refused);
        refused.get_or_insert(Refused { format, error });
    }

    /// Asks a broker that is sent an older format whether it still needs that, if it was last asked a while ago.
    pub(super) fn look_again(&mut self, now: Instant, broker_id: i32) {
        if let Some((_, ask_at)) = self.older.formats.get_mut(&broker_id).filter(|(_, ask_at)| *ask_at <= now) {
            *ask_at = now + BELIEVED_FOR;
            self.older.to_ask.entry(broker_id).or_default();
        }
    }

    /// Asks for the version of `Produce` that a broker and this client have.
    pub(super) fn poll_versions(&mut self) -> Option<Call<ProducerRequest>> {
        let (broker_id, refused) = self.older.to_ask.pop_first()?;
        self.next_request_id += 1;
        self.older.asked.insert(self.next_request_id, (broker_id, refused));
        let call = Call::new(Target::Broker(broker_id), ProducerRequest::Versions);
        Some(Call { id: self.next_request_id, owner: Owner::Produce(self.number), ..call })
    }

    /// Takes the version of `Produce` that a broker has, or why it could not be asked. Returns false if the request
    /// with this id did not ask for it.
    pub(super) fn handle_versions(&mut self, now: Instant, id: u64, produce: Result<i16>) -> bool {
        let Some((broker_id, refused)) = self.older.asked.remove(&id) else { return false };
        let version = match (produce, refused.is_some()) {
            (Ok(version), _) => version,
            (Err(error), true) if error.kind() == ErrorKind::Unsupported => {
                self.give_up_led_by(now, broker_id, &error);
                return true;
            }
            // If the broker was lost meanwhile, the next request shows what it can do.
            (Err(_), _) => return true,
        };
        let format = match version {
            BATCHES_SINCE.. => Format::V2,
            TIMESTAMPS_SINCE.. => Format::V1,
            _ => Format::V0,
        };
        if let Some(error) = refused.as_ref().and_then(|refused| self.why_hopeless(refused, format, version)) {
            self.give_up_led_by(now, broker_id, &error);
            return true;
        }
        if format < Format::V2 {
            self.older.formats.insert(broker_id, (format, now + BELIEVED_FOR));
        } else {
            self.older.formats.remove(&broker_id);
        }
        // If it was upgraded or downgraded since it refused the request, that is sent again after its back-off.
        if refused.is_some_and(|refused| refused.format != format) {
            for id in self.led_by(broker_id) {
                self.partitions.get_mut(id).handle_format_known();
                self.advance(now, id);
            }
        }
        true
    }

    fn give_up_led_by(&mut self, now: Instant, broker_id: i32, error: &Error) {
        for id in self.led_by(broker_id) {
            self.give_up(now, id, error);
        }
    }

    /// Why nothing can be sent to a broker that has this version of `Produce`; `None` if it can.
    fn why_hopeless(&self, refused: &Refused, format: Format, version: i16) -> Option<Error> {
        let needs = |what, hint| {
            let error = Error::new(ErrorKind::Unsupported, what).with_source(refused.error.clone());
            Some(error.with_hint(hint))
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
        None
    }

    /// The partitions with unreported records that a broker leads.
    fn led_by(&self, broker_id: i32) -> BTreeSet<PartitionId> {
        let is_led = |id: &PartitionId| self.partitions.get(*id).leader() == Some(broker_id);
        self.ledger.partitions().into_iter().filter(is_led).collect()
    }

    /// The leader to ask for the producer id of a lane, and how long, if another broker has refused: each time another
    /// one of those whose partitions wait. `None` if any broker will do.
    pub(super) fn leader_to_ask(&self, lane: LaneId) -> Option<(i32, Duration)> {
        let lane = self.lanes.get(lane);
        if !lane.asks_leaders() {
            return None;
        }
        let waiting = lane.waiting().iter().filter_map(|id| self.partitions.find(*id));
        let leaders: BTreeSet<i32> = waiting.filter_map(Partition::leader).collect();
        let turn = (lane.failures() as usize).checked_rem(leaders.len())?;
        leaders.into_iter().nth(turn).map(|leader| (leader, LEADER_PATIENCE))
    }

    /// Takes it that a leader assigns no producer ids: the partitions that it leads go on without, or fail with this
    /// error if they may not.
    pub(super) fn handle_no_ids(&mut self, now: Instant, lane: LaneId, leader: i32, error: &Error) {
        let is_news = self.older.without_ids.insert(leader, (now + BELIEVED_FOR, error.clone())).is_none();
        if is_news && !self.rules.needs_idempotence {
            self.events.push_back(ProducerEvent::NoProducerIds(leader));
        }
        self.go_on_without_id(now, lane, leader, error);
    }

    /// Gives up records of a lane that must have a producer id, if their leader refused to assign one a while ago.
    /// Returns whether it did.
    pub(super) fn give_up_without_id(&mut self, now: Instant, lane: LaneId) -> bool {
        if !self.rules.needs_idempotence || self.older.without_ids.is_empty() {
            return false;
        }
        let waiting = self.lanes.get(lane).waiting().iter().filter_map(|id| self.partitions.find(*id));
        let refused = |leader| self.older.without_ids.get(&leader).map(|(_, error)| (leader, error.clone()));
        let Some((leader, error)) = waiting.filter_map(Partition::leader).find_map(refused) else { return false };
        self.go_on_without_id(now, lane, leader, &error);
        true
    }

    fn go_on_without_id(&mut self, now: Instant, lane: LaneId, leader: i32, error: &Error) {
        // One that was removed meanwhile does not wait any more, and its number may be that of another lane's.
        let partitions = &self.partitions;
        let waits = |id: PartitionId| partitions.find(id).filter(|partition| partition.lane() == lane);
        let is_led = |id: PartitionId| waits(id).is_none_or(|partition| partition.leader() == Some(leader));
        for id in self.lanes.update(lane, |lane| lane.release(now, is_led)) {
            if self.rules.needs_idempotence && self.partitions.find(id).is_some_and(|found| found.lane() == lane) {
                self.partitions.get_mut(id).handle_identity();
                self.give_up(now, id, error);
            } else {
                self.go_on_with_identity(now, lane, id);
            }
        }
    }
}

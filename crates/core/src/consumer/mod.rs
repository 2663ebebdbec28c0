//! A consumer of given partitions: which offsets to ask which broker for, and what to hand out next.
//!
//! [`Consumer`] is a machine. Its role task tells it of metadata and answers and asks what to send
//! ([`Consumer::poll_request`]), what happened ([`Consumer::poll_event`]) and when to come back
//! ([`Consumer::poll_timeout`]); the caller's thread takes batches ([`Consumer::take_batch`]) and opens and iterates
//! them without the machine. It does no I/O, and opens no batch: batches stay as they came, compressed.
//!
//! Rules:
//!
//! - partitions are added and removed one by one, never replaced as a set; every change of position changes the
//!   partition's stamp, and an answer to a question asked under another stamp is ignored;
//! - the position moves with each record handed out, and otherwise only because somebody asked or the leader itself
//!   says that the offset is out of range (guarantee R15);
//! - what is wrong with one partition is reported once and parks that partition until it is sought (R16);
//! - buffered responses and requests in flight together stay below `fetch_buffer` (R8).
//!
//! KIP-98 (`read_committed`), KIP-227 (fetch sessions), KIP-320 (truncation), KIP-392 (follower fetching), KIP-516
//! (topic ids), KIP-951 (new leaders in answers).

mod fetch;
mod handout;
mod isolation;
mod lease;
mod locate;
mod partition;
mod session;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::{Call, Metadata, Notice};
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

pub use handout::{BadBatch, FetchedBatch, RecordCursor};

use partition::{Front, Partition};
use session::Session;
use upkeep::{check_start, misuse, not_consumed};

/// The timestamp that asks `ListOffsets` for the next offset to be written.
pub const LATEST_TIMESTAMP: i64 = -1;
/// The timestamp that asks `ListOffsets` for the oldest offset there is.
pub const EARLIEST_TIMESTAMP: i64 = -2;

/// The shortest time between two fetches of which the first brought something that should not be (guarantee R16).
const ODD_ANSWER_BACKOFF: Duration = Duration::from_millis(200);

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition of this number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// At this offset; `auto.offset.reset` decides if there is no such offset.
    Offset(i64),
    /// At the oldest record there is.
    Earliest,
    /// At the next record that will be written (with `read_committed`: that can be read).
    Latest,
    /// At the first record that is not older than this, in milliseconds since 1970; at the end if there is none.
    Timestamp(i64),
}

/// What to ask a broker.
#[derive(Debug)]
pub enum ConsumerRequest {
    /// Connect, if need be, and say which versions were negotiated; no message by itself.
    Versions,
    /// Asks for records.
    Fetch(Box<FetchRequest>),
    /// Asks for the offsets of timestamps.
    ListOffsets(ListOffsetsRequest),
    /// Asks where leader epochs ended.
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
}

/// The versions in which a broker's connection will send some requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerVersions {
    /// Of Fetch.
    pub fetch: i16,
    /// Of `ListOffsets`.
    pub list_offsets: i16,
}

/// What a broker answered.
#[derive(Debug)]
pub enum ConsumerResponse {
    /// To [`ConsumerRequest::Versions`].
    Versions(BrokerVersions),
    /// To [`ConsumerRequest::Fetch`].
    Fetch(Box<FetchResponse>),
    /// To [`ConsumerRequest::ListOffsets`].
    ListOffsets(ListOffsetsResponse),
    /// To [`ConsumerRequest::OffsetForLeaderEpoch`].
    OffsetForLeaderEpoch(OffsetForLeaderEpochResponse),
}

/// Something the application or the driver must know.
#[derive(Debug, Clone)]
pub enum ConsumerEvent {
    /// This partition stands still until it is sought; the error says where and why. Reported once.
    PartitionError {
        /// The partition.
        topic_partition: TopicPartition,
        /// What is wrong.
        error: Error,
    },
    /// A broker cannot be used before this is mended (credentials, versions, answers that cannot be read). Reported
    /// once for each broker until a fetch from it succeeds.
    Failed(Error),
    /// The leader said that `from` is out of range, and `auto.offset.reset` moved the position: to be logged as a warning.
    Reset {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset that was asked for.
        from: i64,
        /// The offset that is read next.
        to: i64,
    },
    /// For whoever keeps the metadata.
    Notice(Notice),
}

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own: any of them goes with any other")]
struct BrokerState {
    versions: Option<BrokerVersions>,
    session: Session,
    is_fetching: bool,
    /// The number of the last request before its last fetch: the lower, the longer ago.
    last_fetch: u64,
    is_connecting: bool,
    retry_at: Instant,
    failures: u32,
    /// Whether its next fetch leaves out a partition for want of room.
    leaves_out: bool,
    /// How many fetches in a row brought nothing.
    in_vain: u32,
    /// Whether it was reported that it cannot be used.
    has_failed: bool,
}

#[derive(Debug)]
enum InFlight {
    Versions { broker_id: i32 },
    Fetch { broker_id: i32, sent_at: Instant, wait: Duration, reserved: usize },
    Locate { broker_id: i32, asked: Vec<(TopicPartition, u64)> },
    Validate { broker_id: i32, asked: Vec<(TopicPartition, u64)> },
}

/// The machine behind one consumer. See the module's documentation.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    number: u64,
    backoff: Backoff,
    random: Random,
    metadata: Arc<Metadata>,
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Partition>>,
    brokers: BTreeMap<i32, BrokerState>,
    in_flight: BTreeMap<u64, InFlight>,
    next_id: u64,
    next_stamp: u64,
    /// What the requests in flight may bring, in bytes.
    reserved: usize,
    /// What is kept of the responses that came, in bytes.
    pinned: Arc<AtomicUsize>,
    /// Partitions with something to hand out; they take turns.
    queue: VecDeque<TopicPartition>,
    events: VecDeque<ConsumerEvent>,
    refresh_at: Instant,
    /// When requests were last asked for.
    polled_at: Instant,
    /// Whether something was left out of the last round of requests that taking a batch makes room for.
    is_full: bool,
}

impl Consumer {
    /// A consumer without partitions, the owner of fetch connection `number`. `backoff` is between tries
    /// (`retry.backoff.ms`), `seed` for its jitter.
    pub fn new(config: ConsumerConfig, backoff: Backoff, number: u64, seed: u64) -> Self {
        Self {
            config,
            number,
            backoff,
            random: Random::new(seed),
            metadata: Arc::default(),
            topics: BTreeMap::new(),
            brokers: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next_id: 0,
            next_stamp: 0,
            reserved: 0,
            pinned: Arc::default(),
            queue: VecDeque::new(),
            events: VecDeque::new(),
            refresh_at: Instant::default(),
            polled_at: Instant::default(),
            is_full: false,
        }
    }

    /// Begins to consume a partition.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is consumed already, or if the offset or timestamp is negative.
    pub fn add(&mut self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        check_start(key, start)?;
        let max_bytes = self.config.max_partition_fetch_bytes as i32;
        let partitions = self.topics.entry(Arc::clone(&key.topic)).or_default();
        if partitions.contains_key(&key.partition) {
            return Err(misuse("the partition is consumed already", key));
        }
        partitions.insert(key.partition, Partition::new(max_bytes));
        self.start(key, start);
        Ok(())
    }

    /// Ends consuming a partition: no record of it is handed out after this. Returns its position, if it had one.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not consumed.
    pub fn remove(&mut self, key: &TopicPartition) -> Result<Option<i64>> {
        let partitions = self.topics.get_mut(&key.topic);
        let Some(partition) = partitions.and_then(|partitions| partitions.remove(&key.partition)) else {
            return Err(not_consumed(key));
        };
        if self.topics.get(&key.topic).is_some_and(BTreeMap::is_empty) {
            self.topics.remove(&key.topic);
        }
        if partition.is_queued {
            // If it is added again it must not stand there twice.
            self.queue.retain(|queued| queued != key);
        }
        Ok(partition.lease.map(|lease| lease.end()))
    }

    /// Goes on from somewhere else. An answer that is on its way is ignored; a parked partition works again.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed, or if the offset or timestamp is negative.
    pub fn seek(&mut self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        check_start(key, start)?;
        self.partition_mut(key)?;
        self.start(key, start);
        Ok(())
    }

    /// Hands out nothing more of a partition until [`Consumer::resume`]; what is buffered stays, if there is room.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn pause(&mut self, key: &TopicPartition) -> Result<()> {
        let partition = self.partition_mut(key)?;
        partition.is_paused = true;
        partition.renew_lease();
        Ok(())
    }

    /// Goes on at the position.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn resume(&mut self, key: &TopicPartition) -> Result<()> {
        self.partition_mut(key)?.is_paused = false;
        self.enqueue(key);
        Ok(())
    }

    /// Whether a partition is paused.
    pub fn is_paused(&self, key: &TopicPartition) -> bool {
        self.partition(key).is_some_and(|partition| partition.is_paused)
    }

    /// The partitions that are consumed, in order.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| TopicPartition { topic: Arc::clone(topic), partition: *partition })
        })
    }

    /// The offset of the next record to be handed out: what to commit. `None` until the start is found.
    pub fn position(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.position()
    }

    /// The leader epoch to commit together with the position, as far as it is known (KIP-320).
    pub fn position_epoch(&self, key: &TopicPartition) -> Option<i32> {
        let partition = self.partition(key)?;
        partition.fetched_epoch.filter(|_| partition.position() == Some(partition.fetched))
    }

    /// The offset behind the last record that is on every in-sync replica, as last heard of.
    pub fn high_watermark(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.high_watermark
    }

    /// The oldest offset there is, as last heard of (Kafka 1.0 on).
    pub fn log_start_offset(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.log_start_offset
    }

    /// How many offsets lie between the position and the end of what can be read, as last heard of.
    pub fn lag(&self, key: &TopicPartition) -> Option<u64> {
        let partition = self.partition(key)?;
        let end = match self.config.isolation_level {
            IsolationLevel::ReadUncommitted => partition.high_watermark,
            IsolationLevel::ReadCommitted => partition.last_stable_offset.or(partition.high_watermark),
        }?;
        Some(u64::try_from(end.saturating_sub(partition.position()?)).unwrap_or(0))
    }

    /// What is buffered and what the requests in flight may bring, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.reserved.saturating_add(self.pinned.load(Ordering::Acquire))
    }

    /// Whether taking batches has made room for another [`Consumer::poll_request`].
    pub fn wants_poll(&self) -> bool {
        self.is_full || !self.events.is_empty()
    }

    /// Learns of a new snapshot of the cluster.
    pub fn handle_metadata(&mut self, _now: Instant, metadata: &Arc<Metadata>) {
        self.metadata = Arc::clone(metadata);
        let keys: Vec<TopicPartition> = self.partitions().collect();
        for key in &keys {
            self.update_leader(key);
        }
    }

    /// What to send next; to be asked until there is nothing.
    pub fn poll_request(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        self.polled_at = now;
        self.poll_versions(now)
            .or_else(|| self.poll_locate(now))
            .or_else(|| self.poll_validate(now))
            .or_else(|| self.poll_fetch(now))
    }

    /// Learns of the answer to a request, or why there is none.
    pub fn handle_response(&mut self, now: Instant, id: u64, response: Result<ConsumerResponse>) {
        let Some(in_flight) = self.in_flight.remove(&id) else { return };
        if let InFlight::Fetch { reserved, .. } = in_flight {
            self.reserved = self.reserved.saturating_sub(reserved);
        }
        match (in_flight, response) {
            (InFlight::Versions { broker_id }, Ok(ConsumerResponse::Versions(versions))) => {
                let broker = self.brokers.entry(broker_id).or_default();
                broker.is_connecting = false;
                broker.versions = Some(versions);
            }
            (InFlight::Fetch { broker_id, sent_at, wait, .. }, Ok(ConsumerResponse::Fetch(response))) => {
                self.handle_fetch(now, broker_id, (sent_at, wait), *response);
            }
            (InFlight::Locate { broker_id, asked }, Ok(ConsumerResponse::ListOffsets(response))) => {
                self.handle_located(now, broker_id, &asked, response);
            }
            (InFlight::Validate { asked, .. }, Ok(ConsumerResponse::OffsetForLeaderEpoch(response))) => {
                self.handle_validated(now, &asked, response);
            }
            (in_flight, Err(error)) => self.handle_failure(now, in_flight, error),
            (in_flight, Ok(_)) => {
                let error = Error::new(ErrorKind::Malformed, "the answer belongs to another request");
                self.handle_failure(now, in_flight, error);
            }
        }
    }

    /// What happened; to be asked until there is nothing.
    pub fn poll_event(&mut self) -> Option<ConsumerEvent> {
        self.events.pop_front()
    }

    /// When to ask [`Consumer::poll_request`] again if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let brokers = self.brokers.values().map(|broker| broker.retry_at);
        let partitions = self.all_partitions().map(|partition| partition.retry_at);
        let refresh = self.lacks_leader().then_some(self.refresh_at);
        // A time that has passed needs no timer: it was acted upon in the last round, or waits for something else.
        brokers.chain(partitions).chain(refresh).filter(|at| *at > self.polled_at).min()
    }

    /// Whether [`Consumer::take_batch`] may have something to give, or to report.
    pub fn has_batch(&self) -> bool {
        !self.events.is_empty() || self.queue.iter().any(|key| self.partition(key).is_some_and(Partition::is_waiting))
    }

    /// The next batch to hand out, taking turns among partitions; none if nothing is buffered.
    ///
    /// As long as a batch is out, no other one of its partition is given.
    pub fn take_batch(&mut self) -> Option<FetchedBatch> {
        for _ in 0..self.queue.len() {
            let key = self.queue.pop_front()?;
            let Some(partition) = self.topics.get_mut(&key.topic).and_then(|all| all.get_mut(&key.partition)) else {
                continue;
            };
            if partition.is_paused {
                partition.is_queued = false;
                continue;
            }
            match partition.settle() {
                Front::Nothing => partition.is_queued = false,
                Front::Bad => {
                    partition.is_queued = false;
                    self.report_bad_front(&key);
                }
                Front::Taken => self.queue.push_back(key),
                Front::Batch => {
                    self.queue.push_back(key.clone());
                    if let Some(batch) = partition.take(key) {
                        return Some(batch);
                    }
                }
            }
        }
        None
    }

    /// Takes back a batch that could not be opened: its partition is parked, with one error event.
    ///
    /// Ignored if the partition was sought, paused or removed in the meantime.
    pub fn handle_bad_batch(&mut self, bad: BadBatch) {
        let Some(partition) = self.partition(&bad.key) else { return };
        if partition.lease.as_ref().is_some_and(|lease| bad.lease.is(lease)) {
            let BadBatch { key, error, lease } = bad;
            drop(lease);
            self.fail(&key, error.with_hint("seek past it to go on with this partition"));
        }
    }
}

//! The producer: from records to acknowledged batches, without I/O.
//!
//! Owns every record from [`Producer::append`] until its one report, and with it what idempotence needs: sequence
//! numbers and epochs. Knows no sockets and no clock. The caller sends what [`Producer::poll_request`] returns and
//! brings back the answers.
//!
//! Rules that hold, whatever brokers and connections do:
//!
//! - Every accepted record gets exactly one report, and the reports of a partition come in the order of the
//!   records.
//! - Only an answer that names exactly our partition counts as success. Everything that is not a definite answer
//!   leaves a batch *maybe written*, and such a batch is only ever sent again with the same bytes.
//! - When a record fails, everything buffered behind it in its partition fails too; only a record that the broker
//!   refuses for its own sake (too large, invalid) fails alone.
//! - At most five batches of a partition are unanswered, all of them at the same broker. When one has to be sent
//!   again, or the leader moves, nothing is sent until all are answered; then they go again in order.
//! - Sequence numbers are spent once. When some were spent in vain, the partition goes to its next epoch as soon as
//!   nothing of it is in flight (KIP-360).
//!
//! KIPs: 98 (idempotence), 360 (recovery by epoch), 480 (sticky partitions), 516 (topic ids), 951 (leader hints).

mod accumulator;
mod completion;
mod identity;
mod ledger;
mod partitioner;
mod response;
mod retry;
mod sender;
mod split;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use accumulator::AppendError;
pub use completion::{Acknowledged, Completed, Completion, RecordMetadata};
pub use partitioner::{murmur2, partition_for_key};
pub use sender::{ProduceToSend, ProducerRequest, ProducerResponse};

use crate::backoff::Backoff;
use crate::cluster::{Metadata, Notice};
use crate::config::ProducerConfig;
use crate::error::{Error, ErrorKind, Written};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::primitives::Uuid;
use crate::wire::records::BufferPool;
use accumulator::{Partition, TopicState};
use identity::Identity;
use ledger::Ledger;
use sender::{Ready, Sent};

/// A topic as one producer numbers it; from [`Producer::topic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(u32);

impl TopicIndex {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A partition as one producer numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PartitionId(u32);

impl PartitionId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// An accepted record: its place in its batch.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The outcome cell of its batch.
    pub completion: Arc<Completion>,
    /// Its index there.
    pub index: u32,
    /// Whether the sending task must look: something can be sent now, or its alarm is set too late.
    pub wake: bool,
}

/// Everything appended before a [`Producer::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushMark(u64);

/// What a producer wants done besides sending requests.
#[derive(Debug)]
pub enum ProducerEvent {
    /// Records have their outcome: to be carried out outside the lock, in this order.
    Completed(Completed),
    /// For whoever keeps the metadata.
    Notice(Notice),
}

/// The producer machine; see the module's text.
#[derive(Debug)]
pub struct Producer {
    config: ProducerConfig,
    backoff: Backoff,
    pool: BufferPool,
    random: Random,
    identity: Identity,
    identity_failures: u32,
    metadata_version: Option<u64>,
    names: BTreeMap<Arc<str>, TopicIndex>,
    topics: Vec<TopicState>,
    partitions: Vec<Partition>,
    /// Per leader: partitions with something to send. Partitions that have nothing, or must wait, are not here.
    ready: BTreeMap<i32, Ready>,
    /// When open batches have lingered long enough. In order, because all linger equally long; entries of batches that
    /// went earlier stay behind.
    lingering: VecDeque<(Instant, PartitionId, u64)>,
    ledger: Ledger,
    /// When partitions may try again.
    retries: BTreeSet<(Instant, PartitionId)>,
    requests: BTreeMap<u64, Sent>,
    next_request_id: u64,
    next_batch_id: u64,
    queued_records: usize,
    events: VecDeque<ProducerEvent>,
    refresh_metadata: bool,
    /// Set once the producer accepts no more: closed, or failed for good.
    refusal: Option<Error>,
}

impl Producer {
    /// A producer with these settings, which must be valid, that buffers in `pool`.
    ///
    /// `backoff` is `retry.backoff.ms` and `retry.backoff.max.ms`; `seed` decides about jitter and about which
    /// partition records without a key go to first.
    pub fn new(config: ProducerConfig, backoff: Backoff, pool: BufferPool, seed: u64) -> Self {
        let identity = if config.is_idempotent() { Identity::Wanted(Instant::default()) } else { Identity::Off };
        Self {
            config,
            backoff,
            pool,
            random: Random::new(seed),
            identity,
            identity_failures: 0,
            metadata_version: None,
            names: BTreeMap::new(),
            topics: Vec::new(),
            partitions: Vec::new(),
            ready: BTreeMap::new(),
            lingering: VecDeque::new(),
            ledger: Ledger::default(),
            retries: BTreeSet::new(),
            requests: BTreeMap::new(),
            next_request_id: 0,
            next_batch_id: 0,
            queued_records: 0,
            events: VecDeque::new(),
            refresh_metadata: false,
            refusal: None,
        }
    }

    /// The index of a topic, to append with; the same for the same name. `metadata` is the snapshot of the moment:
    /// if it has the topic, records can be appended at once.
    pub fn topic(&mut self, now: Instant, name: &str, metadata: &Metadata) -> TopicIndex {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let name: Arc<str> = name.into();
        let index = TopicIndex(self.topics.len() as u32);
        self.names.insert(Arc::clone(&name), index);
        self.topics.push(TopicState {
            name,
            topic_id: Uuid::ZERO,
            partitions: Vec::new(),
            partition_count: 0,
            sticky: None,
            next_sticky: self.random.next_u64() as u32 & 0xffff,
        });
        self.update_topic(now, index, metadata);
        index
    }

    /// How many partitions a topic has, as far as is known; 0 while nothing is.
    pub fn partition_count(&self, topic: TopicIndex) -> u32 {
        self.topics.get(topic.index()).map_or(0, |topic| topic.partition_count)
    }

    /// Takes notice of a new snapshot: new partitions, leaders that moved, topics that were made anew.
    pub fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        if self.metadata_version.replace(metadata.version) == Some(metadata.version) {
            return;
        }
        for index in 0..self.topics.len() as u32 {
            self.update_topic(now, TopicIndex(index), metadata);
        }
    }

    fn update_topic(&mut self, now: Instant, index: TopicIndex, metadata: &Metadata) {
        let Some(state) = self.topics.get_mut(index.index()) else { return };
        // A topic that is not in the answer for a moment keeps its partitions and sequences.
        let Some(topic) = metadata.topic(&state.name).filter(|topic| !topic.partitions.is_empty()) else { return };
        let made_anew =
            state.topic_id != Uuid::ZERO && topic.topic_id != Uuid::ZERO && state.topic_id != topic.topic_id;
        if topic.topic_id != Uuid::ZERO {
            state.topic_id = topic.topic_id;
        }
        state.partition_count = topic.partitions.len() as u32;
        while state.partitions.len() < topic.partitions.len() {
            let id = PartitionId(self.partitions.len() as u32);
            self.partitions.push(Partition::new(index, state.partitions.len() as i32));
            state.partitions.push(id);
        }
        for (at, id) in state.partitions.clone().into_iter().enumerate() {
            let leader = topic.partitions.get(at).and_then(|partition| partition.leader);
            let Some(partition) = self.partitions.get_mut(id.index()) else { continue };
            if made_anew {
                partition.sequences.broken = true;
                partition.draining = true;
            }
            if partition.leader != leader {
                partition.leader = leader;
                partition.retry_at = None;
            }
            self.advance(now, id);
        }
    }

    /// The next thing to do besides sending; ask until there is none.
    pub fn poll_event(&mut self) -> Option<ProducerEvent> {
        if std::mem::take(&mut self.refresh_metadata) {
            return Some(ProducerEvent::Notice(Notice::RefreshMetadata));
        }
        self.events.pop_front()
    }

    /// When [`poll_request`](Self::poll_request) must be asked again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let identity = match self.identity {
            Identity::Wanted(at) if !self.ledger.is_empty() => Some(at),
            _ => None,
        };
        let linger = self.lingering.front().map(|(due, ..)| *due);
        let delivery = self.ledger.front().map(|(.., deadline)| deadline);
        let retry = self.retries.first().map(|(at, _)| *at);
        [identity, linger, delivery, retry].into_iter().flatten().min()
    }

    /// Lets everything appended so far go at once, without linger. The mark tells when all of it is reported.
    pub fn flush(&mut self, now: Instant) -> FlushMark {
        self.ripen_all(now);
        FlushMark(self.ledger.next_number())
    }

    /// Whether everything before the mark has been decided; the reports are those of the events polled by then.
    pub fn is_flushed(&self, mark: FlushMark) -> bool {
        self.settled() >= mark
    }

    /// The mark up to which everything has been decided, if the events polled so far are carried out.
    pub fn settled(&self) -> FlushMark {
        FlushMark(self.ledger.settled())
    }

    /// Whether it accepts no more records: it was closed, or failed for good.
    pub fn is_closed(&self) -> bool {
        self.refusal.is_some()
    }

    /// Refuses further records and lets everything buffered go at once.
    pub fn close(&mut self, now: Instant) {
        if self.refusal.is_none() {
            self.refusal = Some(Error::new(ErrorKind::Closed, "the producer is closed"));
        }
        self.ripen_all(now);
    }

    /// Gives up what is not acknowledged: each record is reported as failed, because of `cause`.
    pub fn abandon(&mut self, now: Instant, cause: &Error) {
        self.close(now);
        self.fail_everything(now, cause);
    }

    /// Whether any record that has no report yet may be in the log.
    pub fn written(&self) -> Written {
        let mut batches = self.partitions.iter().flat_map(|partition| &partition.queue);
        if batches.any(|batch| batch.written() == Written::Maybe) { Written::Maybe } else { Written::No }
    }

    /// Whether every record has been reported and nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.ledger.is_empty() && self.events.is_empty()
    }

    /// Records accepted and not yet reported.
    pub fn queued_records(&self) -> usize {
        self.queued_records
    }

    /// Requests handed out and not yet answered.
    pub fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }
}

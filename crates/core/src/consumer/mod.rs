//! A consumer of given partitions: decides which offsets to request from which broker, and what to hand out next.
//!
//! [`Consumer`] is a machine without I/O. Its role task passes in metadata and responses, and asks for requests
//! ([`Consumer::poll_request`]), events ([`Consumer::poll_event`]) and the next wake-up ([`Consumer::poll_timeout`]).
//! The caller's thread takes batches ([`Consumer::take_batch`]), still compressed as they came, and opens and iterates
//! them without the machine.
//!
//! Rules:
//!
//! - Partitions are added and removed one by one. Every change of position changes the partition's stamp; a response to
//!   a request sent under an older stamp is ignored.
//! - The position moves with each record handed out. Otherwise it moves only by a seek, or because the leader says that
//!   the offset is out of range (guarantee R15).
//! - An error of one partition is reported once and parks that partition until it is sought (R16).
//! - Buffered responses and requests in flight together stay below `fetch_buffer` (R8).
//!
//! KIP-98 (`read_committed`), KIP-227 (fetch sessions), KIP-320 (truncation), KIP-392 (follower fetching), KIP-516
//! (topic ids), KIP-951 (new leaders in answers).

mod automatic;
mod brokers;
mod buffer;
mod change;
mod commit;
mod fetch;
mod handout;
mod isolation;
mod leader;
mod lease;
mod locate;
mod partition;
mod partitions;
mod returned;
mod session;
mod topic_errors;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::{Call, Metadata, Notice, Outdated};
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{Bug, is_planted};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use crate::wire::primitives::Uuid;

pub use automatic::{AutomaticCommits, Done};
pub use commit::{
    CommittedOffset, Offsets, commit_request, is_of_lost_topic, newest_version, not_committed, refused_commit,
};
pub use handout::{BadBatch, FetchedBatch, FetchedResponse, RecordCursor};

use brokers::{Brokers, Link};
use buffer::Front;
use change::misuse;
pub(crate) use commit::{Commits, Ended, Membership};
use partition::{IndexKeys, Partition};
use partitions::Partitions;
pub use partitions::{PartitionId, TopicPartition};
use returned::Returned;
use topic_errors::TopicErrors;

/// The shortest time between two fetches after a response that a correct broker would not send (guarantee R16).
const ODD_ANSWER_BACKOFF: Duration = Duration::from_millis(200);

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// At this offset; if the leader does not have it, `auto.offset.reset` applies.
    Offset(i64),
    /// At an offset that a group committed together with a leader epoch. Before anything is read, the leader is asked
    /// whether its log still contains what was read up to there (KIP-320).
    Committed {
        /// The offset of the next record to read.
        offset: i64,
        /// The leader epoch of the record before it, or a later one. Without it the log cannot be checked.
        leader_epoch: Option<i32>,
        /// The id of the topic, or [`Uuid::ZERO`]. If another topic has the name by now, that is an error.
        topic_id: Uuid,
    },
    /// At the oldest record.
    Earliest,
    /// At the end: the next record to be written (with `read_committed`: to become readable) is the first.
    Latest,
    /// At the first record whose timestamp is not older than this, in milliseconds since 1970; at the end if there is
    /// none.
    Timestamp(i64),
}

/// A request to a broker.
#[derive(Debug)]
pub enum ConsumerRequest {
    /// Not a message: connect if necessary, and report the negotiated versions.
    Versions,
    /// Fetches records.
    Fetch(Box<FetchRequest>),
    /// Finds the offsets of timestamps.
    ListOffsets(ListOffsetsRequest),
    /// Finds where leader epochs ended.
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    /// Commits offsets for the group.
    OffsetCommit(OffsetCommitRequest),
}

/// The versions that a broker's connection negotiated for some requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerVersions {
    /// Of Fetch.
    pub fetch: i16,
    /// Of `ListOffsets`.
    pub list_offsets: i16,
}

/// A response to a [`ConsumerRequest`].
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
    /// To [`ConsumerRequest::OffsetCommit`].
    OffsetCommit(OffsetCommitResponse),
}

/// Something that the application or the driver must know.
#[derive(Debug, Clone)]
pub enum ConsumerEvent {
    /// Reading this partition has stopped until it is sought; the error says why. Reported once.
    PartitionError {
        /// The partition.
        topic_partition: TopicPartition,
        /// What is wrong.
        error: Error,
    },
    /// A topic cannot be read at the moment: it was deleted, or we are not authorized. Repeated at intervals while it
    /// lasts; reading resumes by itself afterwards.
    TopicError {
        /// The topic.
        topic: Arc<str>,
        /// What is wrong.
        error: Error,
    },
    /// A broker cannot be used until a user mends this (credentials, versions, responses that cannot be decoded).
    /// Reported once for each broker until a fetch from it succeeds. If a bug has stopped the machine, every
    /// [`Consumer::take_batch`] reports that.
    Failed(Error),
    /// The leader said that offset `from` is out of range, and `auto.offset.reset` moved the position. Log it as a
    /// warning.
    Reset {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset that is out of range.
        from: i64,
        /// The offset to be read next.
        to: i64,
    },
    /// The position of a partition is known, and was not before: its start was found, or the application sought it.
    Located(TopicPartition),
    /// A commit has ended.
    Committed {
        /// The number that [`Consumer::commit`] returned.
        number: u64,
        /// The outcome.
        outcome: Result<()>,
    },
    /// For the owner of the metadata.
    Notice(Notice),
}

#[derive(Debug)]
enum InFlight {
    Versions { broker_id: i32 },
    Fetch { broker_id: i32, sent_at: Instant, wait: Duration, reserved: usize },
    Locate { broker_id: i32, asked: Vec<(PartitionId, u64)> },
    Validate { broker_id: i32, asked: Vec<(PartitionId, u64)> },
    Commit,
}

/// The machine behind one consumer. See the module's documentation.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    number: u64,
    backoff: Backoff,
    random: Random,
    metadata: Arc<Metadata>,
    partitions: Partitions,
    brokers: Brokers,
    topic_errors: TopicErrors,
    in_flight: BTreeMap<u64, InFlight>,
    next_id: u64,
    next_stamp: u64,
    /// How many bytes the requests in flight may bring.
    reserved: usize,
    /// How many bytes of received responses are kept.
    pinned: Arc<AtomicUsize>,
    /// Partitions that have something to hand out, in the order of their turns. Not those of which the application
    /// holds a batch.
    queue: VecDeque<PartitionId>,
    /// Partitions of which the application holds a batch, or held one when `returned` was last read.
    out: BTreeSet<PartitionId>,
    /// The batches that the application gave back.
    returned: Returned,
    /// Partitions whose position may have changed since [`Consumer::take_changed`] was last called.
    changed: BTreeSet<PartitionId>,
    events: VecDeque<ConsumerEvent>,
    /// `None` without a group.
    commits: Option<Commits>,
    refresh_at: Instant,
    /// Topics to ask for metadata of.
    outdated: Outdated,
    /// The time that was last passed in.
    now: Instant,
    /// Whether the last call of `poll_request` lacked room in the fetch buffer.
    lacks_room: bool,
    /// Why the machine has stopped itself, if it has: only a bug makes it do so.
    failure: Option<Error>,
}

impl Consumer {
    /// A consumer without partitions. `number` is that of its fetch connection, `backoff` the time between attempts
    /// (`retry.backoff.ms`), `seed` the seed of its jitter.
    pub fn new(config: ConsumerConfig, backoff: Backoff, number: u64, seed: u64) -> Self {
        let commits = config.group_id.as_deref().map(|group_id| Commits::new(group_id.into(), backoff));
        Self {
            commits,
            config,
            number,
            backoff,
            random: Random::new(seed),
            metadata: Arc::default(),
            partitions: Partitions::default(),
            brokers: Brokers::default(),
            topic_errors: TopicErrors::default(),
            in_flight: BTreeMap::new(),
            next_id: 0,
            next_stamp: 0,
            reserved: 0,
            pinned: Arc::default(),
            queue: VecDeque::new(),
            out: BTreeSet::new(),
            returned: Returned::default(),
            changed: BTreeSet::new(),
            events: VecDeque::new(),
            refresh_at: Instant::default(),
            outdated: Outdated::default(),
            now: Instant::default(),
            lacks_room: false,
            failure: None,
        }
    }

    /// Starts consuming a partition.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is consumed already, or if the offset or timestamp is negative. `Internal` if a bug has stopped
    /// the machine.
    pub fn add(&mut self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        self.check_start(key, start)?;
        let partition = Partition::new(key.clone(), self.config.max_partition_fetch_bytes as i32);
        let added = self.partitions.insert(partition);
        let id = added.ok_or_else(|| misuse("the partition is consumed already", key))?;
        self.start(id, start);
        Ok(())
    }

    /// Stops consuming a partition: no record of it is handed out from now on. Returns its position, if known.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not consumed.
    pub fn remove(&mut self, key: &TopicPartition) -> Result<Option<i64>> {
        let id = self.consumed(key)?;
        let keys = self.partitions.unindex(id);
        self.brokers.reindex(id, &keys, &IndexKeys::default(), self.now);
        self.out.remove(&id);
        self.changed.remove(&id);
        Ok(self.partitions.remove(id).and_then(Partition::end))
    }

    /// Moves the position. A response to an earlier request is ignored; a parked partition works again.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed, or if the offset or timestamp is negative. `Internal` if a bug has
    /// stopped the machine.
    pub fn seek(&mut self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        self.check_start(key, start)?;
        let id = self.consumed(key)?;
        let had_position = self.position(key).is_some();
        self.start(id, start);
        if !had_position && self.position(key).is_some() {
            self.events.push_back(ConsumerEvent::Located(key.clone()));
        }
        Ok(())
    }

    /// Hands out no records of a partition until [`Consumer::resume`]. What is buffered is kept while there is room.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn pause(&mut self, key: &TopicPartition) -> Result<()> {
        let id = self.consumed(key)?;
        self.change(id, Partition::pause);
        Ok(())
    }

    /// Ends a [`Consumer::pause`]: goes on at the position.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn resume(&mut self, key: &TopicPartition) -> Result<()> {
        let id = self.consumed(key)?;
        self.change(id, Partition::resume);
        self.enqueue(id);
        Ok(())
    }

    /// Hands out no records of a partition until [`Consumer::release`], independently of [`Consumer::pause`]. The group
    /// uses it while a rebalance gives or takes the partition.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn withhold(&mut self, key: &TopicPartition) -> Result<()> {
        let id = self.consumed(key)?;
        self.change(id, Partition::withhold);
        Ok(())
    }

    /// Ends [`Consumer::withhold`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn release(&mut self, key: &TopicPartition) -> Result<()> {
        let id = self.consumed(key)?;
        self.change(id, Partition::release);
        self.enqueue(id);
        Ok(())
    }

    /// Whether a partition is withheld.
    pub fn is_withheld(&self, key: &TopicPartition) -> bool {
        self.partition(key).is_some_and(Partition::is_withheld)
    }

    /// Whether a partition is paused.
    pub fn is_paused(&self, key: &TopicPartition) -> bool {
        self.partition(key).is_some_and(Partition::is_paused)
    }

    /// The partitions that are consumed, sorted.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions.iter().map(|partition| partition.key().clone())
    }

    /// Whether any partition of this topic is consumed.
    pub fn consumes(&self, topic: &str) -> bool {
        self.partitions.own_name(topic).is_some()
    }

    /// The id of a partition that is consumed.
    pub fn partition_id(&self, key: &TopicPartition) -> Option<PartitionId> {
        self.find(key)
    }

    /// The offset of the next record to hand out, which is the offset to commit. `None` until the start offset is
    /// known.
    pub fn position(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.offset()
    }

    /// The positions of all partitions whose start offset is known, ready to be committed: with the leader epoch, if
    /// known (KIP-320), and the topic id. Without those in a topic that was deleted and created again.
    pub fn positions(&self) -> BTreeMap<TopicPartition, CommittedOffset> {
        let all = self.partitions.iter();
        all.filter_map(|partition| Some((partition.key().clone(), partition.position()?))).collect()
    }

    /// The position up to which the application is done. While it holds a batch of the partition, that is the position
    /// before that batch.
    pub fn done_position(&self, key: &TopicPartition) -> Option<CommittedOffset> {
        let partition = self.partition(key)?;
        if is_planted(Bug::CommitsAtHand) { partition.position() } else { partition.done() }
    }

    /// The partitions whose position, or whose [`Consumer::done_position`], may have changed since the last call. They
    /// include those of which the application holds a batch, because it moves their positions without a call.
    pub fn take_changed(&mut self) -> BTreeSet<TopicPartition> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.extend(&self.out);
        changed.into_iter().map(|id| self.partitions.get(id).key().clone()).collect()
    }

    /// A number that changes whenever the application reads a record of a batch that it holds.
    pub fn progress(&self) -> u64 {
        let held = self.out.iter().filter_map(|id| self.partitions.get(*id).offset());
        held.fold(0, |sum, offset| sum.wrapping_add(offset.unsigned_abs()))
    }

    /// The high watermark in the last response: the offset behind the last record that all in-sync replicas have.
    pub fn high_watermark(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.high_watermark()
    }

    /// The log start offset in the last response: the oldest offset of the log (Kafka 1.0 and newer).
    pub fn log_start_offset(&self, key: &TopicPartition) -> Option<i64> {
        self.partition(key)?.log_start_offset()
    }

    /// How many offsets lie between the position and the end of what can be read, by the last response.
    pub fn lag(&self, key: &TopicPartition) -> Option<u64> {
        let partition = self.partition(key)?;
        let end = match self.config.isolation_level {
            IsolationLevel::ReadUncommitted => partition.high_watermark(),
            IsolationLevel::ReadCommitted => partition.last_stable_offset().or(partition.high_watermark()),
        }?;
        Some(u64::try_from(end.saturating_sub(partition.offset()?)).unwrap_or(0))
    }

    /// How many bytes are buffered or may come with the requests in flight.
    pub fn buffered_bytes(&self) -> usize {
        self.reserved.saturating_add(self.pinned.load(Ordering::Acquire))
    }

    /// Whether taking batches may have made room, so that [`Consumer::poll_request`] has something to send.
    pub fn wants_poll(&self) -> bool {
        // `settle` may just have found a batch fully read, so that its partition can be fetched again.
        let has_to_fetch = self.brokers.to_fetch().is_some();
        has_to_fetch || self.lacks_room || self.brokers.any_with_full() || !self.events.is_empty()
    }

    /// The next request to send; call it until it returns `None`.
    pub fn poll_request(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        self.now = now;
        while let Some(id) = self.partitions.due(now) {
            self.reindex(id);
        }
        self.brokers.handle_time(now);
        self.check_topic_errors(now);
        let commit = self.poll_commit(now);
        let call = commit.or_else(|| self.poll_versions(now)).or_else(|| self.poll_question());
        let call = call.or_else(|| self.poll_fetch(now));
        self.check();
        call.filter(|_| self.failure.is_none())
    }

    /// Takes the response to a request, or why there is none. An unknown `id` is ignored: the request was answered
    /// before.
    pub fn handle_response(&mut self, now: Instant, id: u64, response: Result<ConsumerResponse>) {
        self.now = now;
        if let Some(in_flight) = self.in_flight.remove(&id) {
            self.handle_answered(now, in_flight, response);
        }
        self.check();
    }

    fn handle_answered(&mut self, now: Instant, in_flight: InFlight, response: Result<ConsumerResponse>) {
        if let InFlight::Fetch { reserved, .. } = in_flight {
            self.reserved = self.reserved.saturating_sub(reserved);
        }
        match (in_flight, response) {
            (InFlight::Versions { broker_id }, Ok(ConsumerResponse::Versions(versions))) => {
                self.brokers.change(broker_id, now, |broker| broker.link = Link::Ready(versions));
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
            (InFlight::Commit, Ok(ConsumerResponse::OffsetCommit(response))) => {
                self.handle_committed(now, Ok(response));
            }
            (in_flight, Err(error)) => self.handle_failure(now, in_flight, error),
            (in_flight, Ok(_)) => {
                let error = Error::new(ErrorKind::Malformed, "the response is of another type than the request");
                self.handle_failure(now, in_flight, error);
            }
        }
    }

    /// The next event; call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<ConsumerEvent> {
        let outdated = || self.outdated.take().map(|outdated| ConsumerEvent::Notice(Notice::RefreshMetadata(outdated)));
        self.events.pop_front().or_else(outdated)
    }

    /// When to call [`Consumer::poll_request`] again if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let refresh = Some(self.refresh_at).filter(|at| self.waits_for_metadata() && *at > self.now);
        let commit = self.commits.as_ref().and_then(Commits::poll_timeout);
        let topic_error = self.topic_errors.next_due();
        let dues = [refresh, commit, topic_error, self.partitions.next_due(), self.brokers.next_due()];
        dues.into_iter().flatten().min()
    }

    /// Whether [`Consumer::take_batch`] may return a batch or report an error.
    pub fn has_batch(&mut self) -> bool {
        self.handle_returned();
        if !self.events.is_empty() || self.failure.is_some() {
            return true;
        }
        while let Some(&id) = self.queue.front() {
            if self.partitions.find(id).is_some_and(Partition::is_waiting) {
                return true;
            }
            // `enqueue` brings it back as soon as it has something to hand out, unless it was removed.
            self.queue.pop_front();
            if self.partitions.find(id).is_some() {
                self.change(id, Partition::leave_queue);
            }
        }
        false
    }

    /// The next batch to hand out; partitions take turns. `None` if nothing is buffered.
    ///
    /// While the application holds a batch, no other batch of that partition is handed out.
    pub fn take_batch(&mut self) -> Option<FetchedBatch> {
        self.handle_returned();
        while let Some(id) = self.queue.pop_front() {
            if self.partitions.find(id).is_none() {
                // It was removed while it was in the queue.
                continue;
            }
            // `enqueue` brings it back: behind the others, once its batch is given back, or it has more to hand out.
            let front = self.change(id, |partition| {
                partition.leave_queue();
                if partition.stands_still() { Front::Nothing } else { partition.settle() }
            });
            self.changed.insert(id);
            match front {
                Front::Nothing | Front::Held => {}
                Front::Bad => self.fail_at_bad_front(id),
                Front::Batch => {
                    let batch = self.partitions.get(id).take(id, &self.returned);
                    if batch.is_some() {
                        self.out.insert(id);
                        return batch;
                    }
                    self.poison("it lost a batch that was to be handed out");
                }
            }
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| self.events.is_empty()) {
            self.events.push_back(ConsumerEvent::Failed(failure.clone()));
        }
        None
    }

    /// Takes back a batch that could not be opened: parks its partition and reports one error event.
    ///
    /// Ignored if the partition was sought, paused or removed in the meantime.
    pub fn handle_bad_batch(&mut self, bad: BadBatch) {
        let Some(BadBatch { lease: open, error }) = bad.unless_skipped() else { return };
        let (id, lease) = (open.partition_id(), Arc::clone(open.lease()));
        drop(open);
        self.fail_at_batch(id, &lease, error);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cluster::LeaderHint;
    use crate::wire::messages::MetadataResponse;
    use crate::wire::messages::fetch::{FetchableTopicResponse, PartitionData};
    use crate::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
    use crate::wire::records::{BatchBuilder, BufferPool, CompressionType, Compressor, Decompressor, Stamp};

    const BROKERS: i32 = 3;

    fn topic(name: &str, id: u8, partitions: i32) -> MetadataResponseTopic {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: Some(partition_index % BROKERS),
            leader_epoch: Some(0),
            ..Default::default()
        };
        let partitions = (0..partitions).map(partition).collect();
        MetadataResponseTopic { name: Some(name.into()), topic_id: Uuid([id; 16]), partitions, ..Default::default() }
    }

    fn snapshot(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        let broker = |node_id| MetadataResponseBroker { node_id, host: "kafka".into(), port: 9092, rack: None };
        MetadataResponse { brokers: (0..BROKERS).map(broker).collect(), topics, ..Default::default() }
    }

    /// Everything that one wake-up does. Returns the requests, and how many partitions were looked at.
    fn wake_up(consumer: &mut Consumer, now: Instant) -> (Vec<Call<ConsumerRequest>>, usize) {
        let before = consumer.partitions.visits.get();
        let metadata = Arc::clone(&consumer.metadata);
        consumer.handle_metadata(now, &metadata);
        let requests = std::iter::from_fn(|| consumer.poll_request(now)).collect();
        while consumer.poll_event().is_some() {}
        drop(consumer.take_batch());
        consumer.has_batch();
        consumer.poll_timeout();
        (requests, consumer.partitions.visits.get() - before)
    }

    fn consumer() -> Consumer {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        Consumer::new(ConsumerConfig::default(), backoff, 1, 1)
    }

    fn key(partition: i32) -> TopicPartition {
        TopicPartition::new("many", partition)
    }

    /// A consumer that has fetched this batch from each of its partitions.
    fn with_buffered(partitions: i32, batch: &Bytes) -> Consumer {
        let mut consumer = consumer();
        let metadata = Metadata::default().merged(snapshot(vec![topic("many", 1, partitions)]), false);
        consumer.handle_metadata(Instant(0), &Arc::new(metadata));
        for partition in 0..partitions {
            consumer.add(&key(partition), StartPosition::Offset(0)).unwrap();
        }
        while let Some(call) = consumer.poll_request(Instant(0)) {
            let response = match call.body {
                ConsumerRequest::Fetch(fetch) => {
                    let asked = fetch.topics.iter().flat_map(|topic| &topic.partitions);
                    let data = |partition| PartitionData {
                        partition_index: partition,
                        records: Some(batch.clone().into()),
                        ..Default::default()
                    };
                    let partitions = asked.filter(|asked| asked.fetch_offset == 0).map(|asked| data(asked.partition));
                    let partitions: Vec<_> = partitions.collect();
                    if partitions.is_empty() {
                        continue;
                    }
                    let responses =
                        vec![FetchableTopicResponse { topic_id: Uuid([1; 16]), partitions, ..Default::default() }];
                    let response = FetchResponse { session_id: 7, responses, ..Default::default() };
                    ConsumerResponse::Fetch(Box::new(response))
                }
                _ => ConsumerResponse::Versions(BrokerVersions { fetch: 17, list_offsets: 8 }),
            };
            consumer.handle_response(Instant(0), call.id, Ok(response));
        }
        consumer
    }

    /// A batch of one record at offset 0.
    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(&BufferPool::new(1 << 20, Arc::new(|| {})), 1 << 20);
        builder.append(0, None, Some(b"value"), &[]).unwrap();
        let mut compressor = Compressor::new(CompressionType::None.into()).unwrap();
        builder.seal(Stamp::default(), &mut compressor).unwrap().into_bytes().to_vec()
    }

    #[test]
    fn a_batch_that_cannot_be_read_although_it_passed_the_check_parks_its_partition() {
        let mut broken = batch();
        // The last byte of a record says how many headers it has.
        *broken.last_mut().unwrap() = 2;
        let crc = crc32c::crc32c(&broken[21..]);
        broken[17..21].copy_from_slice(&crc.to_be_bytes());
        let mut consumer = with_buffered(1, &broken.into());
        let fetched = consumer.take_batch().unwrap();
        // As if the check had not found it.
        let records = fetched.batch.open(&mut Decompressor::new(), 1 << 20).unwrap();
        let mut cursor = fetched.cursor(Vec::new(), records);
        assert_eq!(cursor.next_record(), None);
        drop(cursor);
        assert!(consumer.has_batch(), "there is an error to report");
        assert!(consumer.take_batch().is_none(), "it must not be handed out again and again");
        let event = consumer.poll_event();
        let Some(ConsumerEvent::PartitionError { topic_partition, error }) = event else { panic!("{event:?}") };
        assert_eq!((topic_partition, error.place().offset, error.kind()), (key(0), Some(0), ErrorKind::Malformed));
        assert_eq!(consumer.position(&key(0)), Some(0));
    }

    #[test]
    fn batches_that_the_application_holds_are_looked_at_only_when_they_come_back() {
        let mut consumer = with_buffered(1_000, &batch().into());
        let mut held: Vec<_> = std::iter::from_fn(|| consumer.take_batch()).collect();
        assert_eq!(held.len(), 1_000);
        let before = consumer.partitions.visits.get();
        assert!(!consumer.has_batch() && consumer.take_batch().is_none());
        assert!(consumer.poll_request(Instant(0)).is_none());
        assert_eq!(consumer.partitions.visits.get(), before);
        let returned = held.swap_remove(500).topic_partition().clone();
        assert!(consumer.has_batch());
        assert_eq!(consumer.take_batch().unwrap().topic_partition(), &returned);
        assert!(consumer.partitions.visits.get() - before < 20);
    }

    #[test]
    fn an_automatic_commit_looks_at_what_changed_and_not_at_every_partition() {
        let mut consumer = with_buffered(10_000, &batch().into());
        let mut commits = AutomaticCommits::new(Duration::from_secs(5), Duration::from_secs(30));
        let mut number = 0;
        let mut commit = |consumer: &mut Consumer| {
            let before = consumer.partitions.visits.get();
            commits.owe(consumer.take_changed());
            let offsets = commits.uncommitted(|key| consumer.done_position(key).map_or(Done::Nothing, Done::Until));
            number += 1;
            commits.begin(number, &offsets);
            commits.end(number, Ok(()), &BTreeSet::new());
            let offsets = offsets.into_iter().map(|(key, committed)| (key.partition, committed.offset));
            (offsets.collect::<Vec<_>>(), consumer.partitions.visits.get() - before)
        };
        assert_eq!(commit(&mut consumer).0.len(), 10_000, "where each of them starts");
        commit(&mut consumer);
        assert_eq!(commit(&mut consumer), (vec![], 0));
        let held: Vec<_> = (0..3).map(|_| consumer.take_batch().unwrap()).collect();
        let (offsets, visits) = commit(&mut consumer);
        assert!(offsets.is_empty() && visits < 20, "{visits} looks at partitions although three are being read");
        let read: Vec<_> = held.iter().map(|batch| (batch.topic_partition().partition, 1)).collect();
        for batch in held {
            let mut cursor = batch.open(&mut Decompressor::new(), 1 << 20).unwrap();
            while cursor.next_record().is_some() {}
        }
        let (offsets, visits) = commit(&mut consumer);
        assert!(
            offsets == read && visits < 20,
            "{visits} looks at partitions although three have changed: {offsets:?}"
        );
        consumer.has_batch();
        commit(&mut consumer);
        assert_eq!(commit(&mut consumer), (vec![], 0));
    }

    #[test]
    fn a_mistake_of_ours_stops_the_machine_and_is_reported_for_every_partition_and_commit_and_every_call() {
        let mistakes: [fn(&mut Consumer); 4] = [
            |consumer| assert_eq!(consumer.partitions.get(PartitionId::numbered(99)).offset(), None),
            |consumer| assert_eq!(consumer.change(PartitionId::numbered(99), |partition| partition.offset()), None),
            |consumer| consumer.fail_at_bad_front(PartitionId::numbered(0)),
            |consumer| consumer.handle_committed(Instant(0), Err(Error::new(ErrorKind::Disconnected, "planted"))),
        ];
        for mistake in mistakes {
            let mut consumer = with_buffered(3, &batch().into());
            consumer.commits = Some(Commits::new("billing".into(), consumer.backoff));
            let number = consumer.commit(Instant(0), consumer.positions(), Duration::from_secs(5)).unwrap();
            mistake(&mut consumer);
            drop(consumer.take_batch());
            assert!(consumer.poll_request(Instant(0)).is_none() && consumer.take_batch().is_none());
            let events: Vec<_> = std::iter::from_fn(|| consumer.poll_event()).collect();
            let errors = events.iter().filter_map(|event| match event {
                ConsumerEvent::PartitionError { error, .. } => Some((error.kind(), None)),
                ConsumerEvent::Committed { number, outcome: Err(error) } => Some((error.kind(), Some(*number))),
                _ => None,
            });
            let internal = ErrorKind::Internal;
            let expected = [(internal, None), (internal, None), (internal, None), (internal, Some(number))];
            assert_eq!(errors.collect::<Vec<_>>(), expected);
            while consumer.poll_event().is_some() {}
            for _ in 0..3 {
                assert!(consumer.has_batch() && consumer.take_batch().is_none());
                let event = consumer.poll_event();
                assert!(matches!(event, Some(ConsumerEvent::Failed(_))), "{event:?}");
            }
            for refused in [
                consumer.seek(&key(0), StartPosition::Earliest),
                consumer.add(&key(9), StartPosition::Earliest),
                consumer.commit(Instant(0), Offsets::new(), Duration::ZERO).map(drop),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Internal);
            }
        }
    }

    #[test]
    fn the_position_of_a_partition_may_change_as_long_as_the_application_holds_a_batch_of_it() {
        let mut consumer = with_buffered(1, &batch().into());
        let open =
            |consumer: &mut Consumer| consumer.take_batch().unwrap().open(&mut Decompressor::new(), 1 << 20).unwrap();
        let older = open(&mut consumer);
        consumer.pause(&key(0)).unwrap();
        consumer.resume(&key(0)).unwrap();
        drop(open(&mut consumer));
        assert!(!consumer.has_batch() || consumer.partition(&key(0)).is_some());
        consumer.take_changed();
        assert_eq!(consumer.take_changed(), BTreeSet::from([key(0)]), "the older one is still held");
        drop(older);
        assert_eq!(consumer.take_changed(), BTreeSet::from([key(0)]));
        consumer.has_batch();
        consumer.take_changed();
        assert!(consumer.take_changed().is_empty());
    }

    #[test]
    fn a_wake_up_looks_at_what_changed_and_not_at_every_partition() {
        const PARTITIONS: i32 = 10_000;
        let mut consumer = consumer();
        let first = Metadata::default().merged(snapshot(vec![topic("many", 1, PARTITIONS)]), false);
        consumer.handle_metadata(Instant(0), &Arc::new(first.clone()));
        for partition in 0..PARTITIONS {
            consumer.add(&key(partition), StartPosition::Offset(0)).unwrap();
        }
        let (versions, looked_at) = wake_up(&mut consumer, Instant(0));
        assert_eq!((versions.len(), looked_at), (3, 0));
        for call in versions {
            let versions = BrokerVersions { fetch: 17, list_offsets: 8 };
            consumer.handle_response(Instant(0), call.id, Ok(ConsumerResponse::Versions(versions)));
        }
        let (mut fetches, looked_at) = wake_up(&mut consumer, Instant(0));
        assert_eq!((fetches.len(), looked_at), (3, PARTITIONS as usize), "the first fetches name every partition");

        // Ten times, every broker answers, and one of the responses concerns one partition.
        for turn in 1..=10 {
            let now = Instant(turn * 500);
            for (index, call) in std::mem::take(&mut fetches).into_iter().enumerate() {
                let refusal = PartitionData { error_code: crate::wire::ErrorCode::NONE, ..Default::default() };
                let partitions = if index == 0 { vec![refusal] } else { vec![] };
                let responses =
                    vec![FetchableTopicResponse { topic_id: Uuid([1; 16]), partitions, ..Default::default() }];
                let response = FetchResponse { session_id: 7, responses, ..Default::default() };
                let before = consumer.partitions.visits.get();
                consumer.handle_response(now, call.id, Ok(ConsumerResponse::Fetch(Box::new(response))));
                assert!(consumer.partitions.visits.get() - before < 10);
                let (again, looked_at) = wake_up(&mut consumer, now);
                assert!(looked_at < 10, "{looked_at} partitions were looked at");
                fetches.extend(again);
            }
            assert_eq!(fetches.len(), 3);
        }

        let other = first.merged(snapshot(vec![topic("other", 2, 1)]), false);
        let before = consumer.partitions.visits.get();
        consumer.handle_metadata(Instant(10_000), &Arc::new(other.clone()));
        assert_eq!(consumer.partitions.visits.get(), before, "nothing new is said of our topic");

        let hint = LeaderHint { topic: "many".into(), partition: 7_777, leader: 2, leader_epoch: Some(1) };
        let moved = other.with_leaders(&[hint], vec![]).unwrap();
        consumer.handle_metadata(Instant(10_000), &Arc::new(moved));
        assert!(consumer.partitions.visits.get() - before < 10, "one partition has moved");
        assert_eq!(consumer.partition(&key(7_777)).unwrap().leader(), Some(2));

        let lost = Error::new(ErrorKind::Disconnected, "planted");
        consumer.handle_response(Instant(10_000), fetches.remove(0).id, Err(lost));
        assert!(wake_up(&mut consumer, Instant(10_000)).1 < 10, "a broker that failed backs off as one");
    }
}

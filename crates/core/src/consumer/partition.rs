//! One partition of a consumer: its position, its buffer, and what it needs next.
//!
//! It has two offsets: `fetched` is the next one to request from the broker; the position in the [`Lease`] is the next
//! one to hand out, and the only one that is shown and committed. Changing `stamp` makes the responses to all earlier
//! requests stale.
//!
//! The machine keeps lists and counts of its partitions, so that it need not walk over all of them.
//! [`Partition::index_keys`] says in which of them the partition belongs. Every change goes through
//! [`Consumer::change`](super::Consumer::change), which then updates them.
//!
//! Invariant: while fetching, position <= offsets in the buffer < `fetched`, in increasing order.

mod epoch;

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster;
use crate::error::{Error, ErrorKind, Place};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::messages::fetch::PartitionData;
use crate::wire::primitives::Uuid;
use crate::wire::records::{CompressionType, RawBatch, batches};

use super::TopicPartition;
use super::brokers::Question;
use super::buffer::{Buffer, Content, Front};
use super::handout::{FetchedBatch, Pinned};
use super::isolation::AbortedTransactions;
use super::lease::{Lease, OpenLease};
use super::partitions::PartitionId;
use super::returned::Returned;
use super::session::Wanted;

pub(super) use epoch::Truncation;

/// What a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// It needs an offset from its leader: that of a timestamp, or of `EARLIEST` or `LATEST`.
    Locating { timestamp: i64, out_of_range: Option<i64> },
    /// The leader changed, or says that the offset is out of range: it asks whether the log was truncated (KIP-320).
    Validating { out_of_range: bool },
    /// It is fetched whenever there is room.
    Fetching,
    /// The leader has no record at the fetched offset. What is buffered is handed out before that is looked into.
    Draining,
    /// It has an error that only a seek can cure; the error was reported.
    Parked,
}

/// What a partition needs next, and from which broker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum NextStep {
    /// Nothing until a response, new metadata or a seek arrives.
    #[default]
    Nothing,
    /// Nothing until this time.
    Later(Instant),
    /// To ask this leader for an offset.
    Locate(i32),
    /// To ask this leader where a leader epoch ended.
    Validate(i32),
    /// To be part of the fetches from this broker.
    Fetch(i32, Wanted),
    /// To be left out of the fetches from this broker until the application has taken some of its buffered records.
    Full(i32),
}

/// The keys under which a partition is found in the machine's lists and counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct IndexKeys {
    pub(super) next_step: NextStep,
    /// The leader, unless the partition is parked.
    pub(super) leader: Option<i32>,
    /// The follower it reads from, unless the partition is parked.
    pub(super) follows: Option<i32>,
    pub(super) class: Class,
    /// Whether it is paused and has records buffered, which may be dropped to make room.
    pub(super) is_paused_with_buffer: bool,
}

/// What a partition is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Class {
    /// It is parked, or does not know its position.
    #[default]
    Other,
    /// It has no leader.
    Leaderless,
    /// It has a position and a leader.
    Fetching,
}

/// Why no records of a partition are handed out.
#[derive(Debug, Clone, Copy, Default)]
struct Stops {
    /// The application paused it.
    is_paused: bool,
    /// A rebalance is giving or taking the partition.
    is_withheld: bool,
}

#[derive(Debug)]
pub(super) struct Partition {
    key: TopicPartition,
    stamp: u64,
    topic_id: Uuid,
    /// Whether a topic with another id has the name by now.
    is_replaced: bool,
    state: State,
    stops: Stops,
    /// `None` until the position is known.
    lease: Option<Arc<Lease>>,
    fetched: i64,
    /// The leader epoch of the last batch before `fetched`, or a newer one that was already fetched.
    fetched_epoch: Option<i32>,
    leader: Option<i32>,
    leader_epoch: Option<i32>,
    /// The follower that the leader told us to read from (KIP-392).
    preferred_replica: Option<i32>,
    buffer: Buffer,
    /// `max_bytes` of its next fetch; raised while the next batch is larger than that.
    max_bytes: i32,
    retry_at: Instant,
    failures: u32,
    /// Whether a `ListOffsets` or `OffsetForLeaderEpoch` for it is in flight.
    is_asking: bool,
    /// Whether it is in the queue of partitions that have something to hand out.
    is_queued: bool,
    high_watermark: Option<i64>,
    last_stable_offset: Option<i64>,
    log_start_offset: Option<i64>,
}

impl Partition {
    /// A partition that does nothing until [`Partition::start`].
    pub(super) fn new(key: TopicPartition, max_bytes: i32) -> Self {
        Self {
            key,
            stamp: 0,
            topic_id: Uuid::ZERO,
            is_replaced: false,
            state: State::Parked,
            stops: Stops::default(),
            lease: None,
            fetched: 0,
            fetched_epoch: None,
            leader: None,
            leader_epoch: None,
            preferred_replica: None,
            buffer: Buffer::default(),
            max_bytes,
            retry_at: Instant::default(),
            failures: 0,
            is_asking: false,
            is_queued: false,
            high_watermark: None,
            last_stable_offset: None,
            log_start_offset: None,
        }
    }

    /// Starts in `state`, at `position` if known. Resets everything except whether it is paused or withheld.
    pub(super) fn start(&mut self, stamp: u64, state: State, position: Option<i64>, max_bytes: i32) {
        self.replace_lease(position);
        *self = Self {
            stamp,
            state,
            stops: self.stops,
            is_queued: self.is_queued,
            lease: self.lease.take(),
            fetched: position.unwrap_or_default(),
            ..Self::new(self.key.clone(), max_bytes)
        };
    }

    /// In which lists and counts it belongs. `enough`: it is fetched while less than this many bytes of it are
    /// buffered.
    pub(super) fn index_keys(&self, now: Instant, enough: usize) -> IndexKeys {
        if self.state == State::Parked {
            return IndexKeys { is_paused_with_buffer: self.is_paused_with_buffer(), ..IndexKeys::default() };
        }
        let class = match self.state {
            _ if self.leader.is_none() => Class::Leaderless,
            State::Fetching | State::Draining => Class::Fetching,
            State::Locating { .. } | State::Validating { .. } | State::Parked => Class::Other,
        };
        IndexKeys {
            next_step: self.next_step(now, enough),
            leader: self.leader,
            follows: self.preferred_replica,
            class,
            is_paused_with_buffer: self.is_paused_with_buffer(),
        }
    }

    fn next_step(&self, now: Instant, enough: usize) -> NextStep {
        let leader = self.leader.filter(|_| !self.is_asking);
        let source = self.preferred_replica.or(self.leader).filter(|_| !self.stands_still() && !self.buffer.ends_bad());
        match self.state {
            State::Parked => NextStep::Nothing,
            _ if self.retry_at > now => NextStep::Later(self.retry_at),
            State::Locating { .. } => leader.map_or(NextStep::Nothing, NextStep::Locate),
            State::Validating { .. } => leader.map_or(NextStep::Nothing, NextStep::Validate),
            State::Draining => source.map_or(NextStep::Nothing, NextStep::Full),
            State::Fetching if !self.buffer.is_empty() && self.buffer.bytes() >= enough.max(1) => {
                source.map_or(NextStep::Nothing, NextStep::Full)
            }
            State::Fetching => source.map_or(NextStep::Nothing, |source| NextStep::Fetch(source, self.wanted())),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            topic_id: self.topic_id,
            offset: self.fetched,
            max_bytes: self.max_bytes,
            // A follower may not know the newest leader epoch yet, so a fetch from one names none.
            leader_epoch: self.leader_epoch.filter(|_| self.preferred_replica.is_none()),
            stamp: self.stamp,
        }
    }

    pub(super) fn key(&self) -> &TopicPartition {
        &self.key
    }

    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    pub(super) fn fetched(&self) -> i64 {
        self.fetched
    }

    pub(super) fn fetched_epoch(&self) -> Option<i32> {
        self.fetched_epoch
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn is_withheld(&self) -> bool {
        self.stops.is_withheld
    }

    pub(super) fn is_paused(&self) -> bool {
        self.stops.is_paused
    }

    /// Whether no records of it are handed out at the moment.
    pub(super) fn stands_still(&self) -> bool {
        self.stops.is_paused && !is_planted(Bug::GivesWhilePaused) || self.stops.is_withheld
    }

    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether it has this question to its leader.
    pub(super) fn has_question(&self, question: Question) -> bool {
        match question {
            Question::Locate => matches!(self.state, State::Locating { .. }),
            Question::Validate => matches!(self.state, State::Validating { .. }) && self.fetched_epoch.is_some(),
        }
    }

    pub(super) fn leader(&self) -> Option<i32> {
        self.leader
    }

    pub(super) fn high_watermark(&self) -> Option<i64> {
        self.high_watermark
    }

    pub(super) fn last_stable_offset(&self) -> Option<i64> {
        self.last_stable_offset
    }

    pub(super) fn log_start_offset(&self) -> Option<i64> {
        self.log_start_offset
    }

    /// The offset of the next record to hand out, if known.
    pub(super) fn offset(&self) -> Option<i64> {
        self.lease.as_ref().and_then(|lease| lease.position())
    }

    /// Whether the batch that was handed out under `lease` is still the current one.
    pub(super) fn has_lease(&self, lease: &Arc<Lease>) -> bool {
        self.lease.as_ref().is_some_and(|own| Arc::ptr_eq(own, lease))
    }

    /// Whether the application holds a batch of it, under the current lease or an earlier one.
    pub(super) fn is_held(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.opened_at().is_some())
    }

    /// Whether the application holds a batch of it under the current lease.
    pub(super) fn is_out(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_open())
    }

    fn is_paused_with_buffer(&self) -> bool {
        self.stands_still() && !self.buffer.is_empty()
    }

    /// Whether it has records buffered that may be handed out now.
    pub(super) fn is_waiting(&self) -> bool {
        !self.stands_still() && !self.is_out() && !self.buffer.is_empty()
    }
}

// Changes of state.
impl Partition {
    /// Changes its state; responses to what it asked before are ignored.
    pub(super) fn set_state(&mut self, stamp: u64, state: State) {
        self.stamp = stamp;
        self.state = state;
        self.is_asking = false;
    }

    pub(super) fn set_asking(&mut self) {
        self.is_asking = true;
    }

    /// Ends the lease, so that no more records of the current batch are handed out.
    pub(super) fn pause(&mut self) {
        self.stops.is_paused = true;
        self.renew_lease();
    }

    pub(super) fn resume(&mut self) {
        self.stops.is_paused = false;
    }

    pub(super) fn withhold(&mut self) {
        self.stops.is_withheld = true;
        self.renew_lease();
    }

    pub(super) fn release(&mut self) {
        self.stops.is_withheld = false;
    }

    /// Sends nothing for it until `retry_at`, and counts a failure.
    pub(super) fn back_off(&mut self, retry_at: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = retry_at;
        self.is_asking = false;
    }

    /// Sends nothing for it until `retry_at`, without counting a failure.
    pub(super) fn slow_down(&mut self, retry_at: Instant) {
        self.retry_at = retry_at;
    }

    /// A request succeeded: resets the failures and the back-off.
    pub(super) fn recover(&mut self) {
        self.failures = 0;
        self.retry_at = Instant::default();
    }

    /// Stops reading from the follower `broker_id`. Returns whether it was reading from it.
    pub(super) fn leave_follower(&mut self, broker_id: i32) -> bool {
        self.preferred_replica.take().is_some_and(|replica| replica == broker_id)
    }

    /// Starts at this offset, which the leader named.
    pub(super) fn begin_at(&mut self, stamp: u64, offset: i64, leader_epoch: Option<i32>) {
        self.set_state(stamp, State::Fetching);
        self.replace_lease(Some(offset));
        self.fetched = offset;
        self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
        self.failures = 0;
    }

    /// Applies the metadata. Returns false if the topic id has changed: the topic was deleted and created again.
    pub(super) fn set_leader(&mut self, topic: &cluster::Topic, stamp: u64) -> bool {
        let is_another = !self.topic_id.is_zero() && !topic.topic_id.is_zero() && self.topic_id != topic.topic_id;
        if is_another && !is_planted(Bug::TakesNewTopicForOld) {
            self.is_replaced = true;
            return false;
        }
        if is_another || self.topic_id.is_zero() {
            self.topic_id = topic.topic_id;
        }
        let known = usize::try_from(self.key.partition).ok().and_then(|index| topic.partitions.get(index));
        let leader = known.and_then(|known| known.leader);
        let leader_epoch = known.and_then(|known| known.leader_epoch);
        let is_new_leader = leader != self.leader;
        if is_new_leader {
            self.leader = leader;
            self.preferred_replica = None;
            self.retry_at = Instant::default();
        }
        let is_new_epoch = leader_epoch > self.leader_epoch;
        self.leader_epoch = leader_epoch.or(self.leader_epoch);
        if !is_new_leader && !is_new_epoch {
            return true;
        }
        let state = match self.state {
            State::Fetching | State::Draining if is_new_epoch && self.fetched_epoch.is_some() => {
                State::Validating { out_of_range: false }
            }
            state => state,
        };
        // A late response of the old leader says nothing about the new leader's log.
        self.set_state(stamp, state);
        true
    }

    /// Ends the lease and starts a new one at the same position.
    fn renew_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            *lease = lease.renew();
        }
    }

    /// Ends the lease and starts a new one at `position`, or none if that is unknown.
    fn replace_lease(&mut self, position: Option<i64>) {
        if let Some(lease) = std::mem::replace(&mut self.lease, position.map(Lease::new)) {
            lease.end();
        }
    }

    /// Ends it for good; returns the position.
    pub(super) fn end(self) -> Option<i64> {
        self.lease.map(|lease| lease.end())
    }

    /// Parks it: drops what is buffered; only a seek makes it work again.
    pub(super) fn park(&mut self, stamp: u64) {
        self.set_state(stamp, State::Parked);
        self.renew_lease();
        self.drop_buffer();
    }

    /// Drops what is buffered; it will be fetched again.
    pub(super) fn drop_buffer(&mut self) {
        self.buffer = Buffer::default();
        if self.state == State::Draining {
            self.state = State::Fetching;
        }
        if let Some(position) = self.offset() {
            // `fetched_epoch` stays, and may be newer than that of the record before: see `committed_at`.
            self.fetched = position;
        }
    }
}

// The buffer and the queue.
impl Partition {
    /// Marks it as queued. Returns false if it is queued already or has nothing to hand out now.
    pub(super) fn enqueue(&mut self) -> bool {
        self.is_waiting() && !std::mem::replace(&mut self.is_queued, true)
    }

    /// Marks it as no longer queued.
    pub(super) fn leave_queue(&mut self) {
        self.is_queued = false;
    }

    /// Drops what the position has passed, moves the position past skipped batches, and says what is in front now.
    pub(super) fn settle(&mut self) -> Front {
        let front = self.lease.as_ref().map_or(Front::Nothing, |lease| self.buffer.settle(lease));
        if front == Front::Nothing && self.state == State::Draining {
            self.state = State::Fetching;
        }
        front
    }

    /// The batch at the front of the buffer, if [`Partition::settle`] found one. `id` is this partition's.
    pub(super) fn take(&self, id: PartitionId, returned: &Returned) -> Option<FetchedBatch> {
        let lease = Arc::clone(self.lease.as_ref()?);
        let position = lease.position()?;
        let (batch, pinned) = self.buffer.batch()?;
        let lease = OpenLease::new(lease, id, returned.clone());
        let (key, topic_id, stamp) = (self.key.clone(), self.topic_id, self.stamp);
        Some(FetchedBatch { key, topic_id, stamp, batch, lease, pinned, position })
    }

    /// The error at the front of the buffer, if the front cannot be read.
    pub(super) fn take_bad_front(&mut self) -> Option<Error> {
        self.buffer.take_bad_front()
    }

    /// Starts draining: hands out what is buffered before it asks why there is nothing further on. Returns the front.
    pub(super) fn drain(&mut self) -> Front {
        self.state = State::Draining;
        self.settle()
    }

    /// Takes the offsets of the log's ends from a fetch response.
    pub(super) fn handle_answer(&mut self, data: &PartitionData) {
        self.failures = 0;
        self.high_watermark = Some(data.high_watermark).filter(|offset| *offset >= 0);
        self.last_stable_offset = data.last_stable_offset.filter(|offset| *offset >= 0);
        self.log_start_offset = data.log_start_offset.filter(|offset| *offset >= 0).or(self.log_start_offset);
    }

    /// From now on reads from the follower that the leader named. A follower may not name another one.
    pub(super) fn follow(&mut self, replica: Option<i32>) -> bool {
        let is_other = |replica: &i32| *replica >= 0 && self.leader != Some(*replica);
        let new = replica.filter(is_other).filter(|_| self.preferred_replica.is_none());
        self.preferred_replica = self.preferred_replica.or(new);
        new.is_some()
    }

    /// Puts the new batches of a fetch response into the buffer. Returns whether there were any.
    pub(super) fn accept(
        &mut self,
        bytes: Bytes,
        hidden: &mut AbortedTransactions,
        pinned: &Arc<Pinned>,
        limit: usize,
    ) -> bool {
        let mut found = batches(bytes);
        let mut any = false;
        for batch in found.by_ref() {
            let accepted = batch.and_then(|batch| self.accept_batch(batch, hidden, pinned));
            match accepted {
                Ok(is_new) => any |= is_new,
                Err(error) => {
                    self.buffer.push(self.fetched, Content::Bad(at_offset(error, self.fetched)));
                    return true;
                }
            }
        }
        if let Some(needed) = found.first_batch_bytes() {
            self.ask_for_more(needed, limit);
        }
        any
    }

    fn accept_batch(
        &mut self,
        batch: RawBatch,
        hidden: &mut AbortedTransactions,
        pinned: &Arc<Pinned>,
    ) -> Result<bool, Error> {
        let header = *batch.header();
        let producer_id = header.producer.map_or(-1, |producer| producer.producer_id);
        let is_hidden = hidden.hides(header.last_offset, producer_id, header.is_transactional, header.is_control);
        let is_compressed = header.compression_type != CompressionType::None;
        let is_hidden = is_hidden && !(is_planted(Bug::GivesAborted) && is_compressed);
        if header.last_offset < self.fetched {
            // A damaged header must not make an unread batch look like one that was already read.
            batch.check_crc()?;
            return Ok(false);
        }
        let Some(next) = header.last_offset.checked_add(1) else {
            return Err(Error::new(ErrorKind::Malformed, "a record batch ends beyond the largest possible offset"));
        };
        if is_hidden {
            // Nobody opens a skipped batch, so a damaged header could hide records: check it here.
            batch.check_crc()?;
            self.buffer.push(header.last_offset, Content::Hidden);
        } else {
            self.buffer.push(header.last_offset, Content::Batch(batch, Arc::clone(pinned)));
        }
        self.fetched = next;
        self.fetched_epoch = header.partition_leader_epoch;
        Ok(true)
    }

    /// Raises `max_bytes`: the first batch did not fit (only brokers before 0.10.1 cut a batch off).
    fn ask_for_more(&mut self, needed_bytes: usize, limit_bytes: usize) {
        let more = needed_bytes.max((self.max_bytes as usize).saturating_mul(2)).min(limit_bytes);
        if needed_bytes > limit_bytes || more <= self.max_bytes as usize {
            let what =
                format!("a record batch of {needed_bytes} bytes is larger than the fetch buffer of {limit_bytes}");
            let error = Error::new(ErrorKind::Unsupported, what).with_hint("raise fetch_buffer");
            self.buffer.push(self.fetched, Content::Bad(at_offset(error, self.fetched)));
        }
        self.max_bytes = i32::try_from(more).unwrap_or(i32::MAX);
    }
}

fn at_offset(error: Error, offset: i64) -> Error {
    error.at(Place { offset: Some(offset), ..Place::default() })
}

//! One partition of a consumer: where it stands, what is buffered of it, and what it needs next.
//!
//! Two offsets: `fetched`, the next to ask the broker for, and the position in the [`Lease`], the next to hand out,
//! which alone is shown and committed. A change of `stamp` makes every answer that is on its way stale.
//!
//! [`Partition::standing`] says what the partition needs next and which counts it belongs to. Whoever changes a
//! partition does so through [`Consumer::change`](super::Consumer::change), which brings the lists of the machine in
//! line with the new standing.
//!
//! Invariant: while fetching, position <= offsets of the buffer < `fetched`, in order.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster;
use crate::error::{Error, ErrorKind, Place};
use crate::time::Instant;
use crate::wire::messages::fetch::PartitionData;
use crate::wire::primitives::Uuid;
use crate::wire::records::{RawBatch, batches};

use super::buffer::{Buffer, Content, Front};
use super::handout::{FetchedBatch, Pinned};
use super::isolation::AbortedTransactions;
use super::lease::{Lease, OpenLease};
use super::session::Wanted;
use super::{CommittedOffset, TopicPartition};

/// What a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// It needs an offset from its leader: that of a timestamp, or of one of the two special ones.
    Locating { timestamp: i64, out_of_range: Option<i64> },
    /// The leader changed, or says that the offset is out of range: is the log still the one we read (KIP-320)?
    Validating { out_of_range: bool },
    /// Fetching whenever there is room.
    Fetching,
    /// The leader has nothing at the fetched offset; what is buffered is handed out before that is looked into.
    Draining,
    /// Something is wrong that only a seek can mend; it was reported.
    Parked,
}

/// What a partition needs next, and from which broker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Turn {
    /// Nothing before something happens: an answer, new metadata, a seek.
    #[default]
    Nothing,
    /// Nothing before this time.
    Later(Instant),
    /// To ask the leader for an offset.
    Locate(i32),
    /// To ask the leader where a leader epoch ended.
    Validate(i32),
    /// To be part of the fetches from this broker.
    Fetch(i32, Wanted),
    /// To be left out of the fetches from this broker until the application has taken some of what is buffered.
    Full(i32),
}

/// What the lists and counts of the machine say of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Standing {
    pub(super) turn: Turn,
    /// The leader, unless the partition is parked.
    pub(super) leader: Option<i32>,
    /// The follower it reads from, unless the partition is parked.
    pub(super) follows: Option<i32>,
    pub(super) class: Class,
    /// Whether it is paused with something buffered, which may be dropped to make room.
    pub(super) is_paused_with_buffer: bool,
}

/// What a partition is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Class {
    /// Parked, or looking for its position.
    #[default]
    Other,
    /// It has no leader, and waits for one.
    Leaderless,
    /// It has its position and a leader.
    Fetching,
}

#[derive(Debug)]
pub(super) struct Partition {
    key: TopicPartition,
    stamp: u64,
    topic_id: Uuid,
    state: State,
    is_paused: bool,
    /// None as long as no position is known.
    lease: Option<Arc<Lease>>,
    fetched: i64,
    /// The leader epoch of the last batch before `fetched`, or a later one that was fetched already.
    fetched_epoch: Option<i32>,
    leader: Option<i32>,
    leader_epoch: Option<i32>,
    /// The broker that the leader told us to read from instead (KIP-392).
    preferred_replica: Option<i32>,
    buffer: Buffer,
    /// What the next fetch asks for; more than usual while a batch is larger than that.
    max_bytes: i32,
    retry_at: Instant,
    failures: u32,
    /// Whether a question about its offset is on its way.
    is_asking: bool,
    /// Whether it waits in the queue of those with something to hand out.
    is_queued: bool,
    high_watermark: Option<i64>,
    last_stable_offset: Option<i64>,
    log_start_offset: Option<i64>,
}

impl Partition {
    /// A partition that does nothing yet: see [`Partition::start`].
    pub(super) fn new(key: TopicPartition, max_bytes: i32) -> Self {
        Self {
            key,
            stamp: 0,
            topic_id: Uuid::ZERO,
            state: State::Parked,
            is_paused: false,
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

    /// Begins in `state`, at `position` if it is known; forgets everything else but whether it is paused.
    pub(super) fn start(&mut self, stamp: u64, state: State, position: Option<i64>, max_bytes: i32) {
        self.replace_lease(position);
        *self = Self {
            stamp,
            state,
            is_paused: self.is_paused,
            is_queued: self.is_queued,
            lease: self.lease.take(),
            fetched: position.unwrap_or_default(),
            ..Self::new(self.key.clone(), max_bytes)
        };
    }

    /// What it needs next; `enough` is how many bytes it may have buffered and still be fetched.
    pub(super) fn standing(&self, now: Instant, enough: usize) -> Standing {
        if self.state == State::Parked {
            return Standing { is_paused_with_buffer: self.is_paused_with_buffer(), ..Standing::default() };
        }
        let class = match self.state {
            _ if self.leader.is_none() => Class::Leaderless,
            State::Fetching | State::Draining => Class::Fetching,
            State::Locating { .. } | State::Validating { .. } | State::Parked => Class::Other,
        };
        Standing {
            turn: self.turn(now, enough),
            leader: self.leader,
            follows: self.preferred_replica,
            class,
            is_paused_with_buffer: self.is_paused_with_buffer(),
        }
    }

    fn turn(&self, now: Instant, enough: usize) -> Turn {
        let leader = self.leader.filter(|_| !self.is_asking);
        let source = self.preferred_replica.or(self.leader).filter(|_| !self.is_paused && !self.buffer.ends_bad());
        match self.state {
            State::Parked => Turn::Nothing,
            _ if self.retry_at > now => Turn::Later(self.retry_at),
            State::Locating { .. } => leader.map_or(Turn::Nothing, Turn::Locate),
            State::Validating { .. } => leader.map_or(Turn::Nothing, Turn::Validate),
            State::Draining => source.map_or(Turn::Nothing, Turn::Full),
            State::Fetching if !self.buffer.is_empty() && self.buffer.bytes() >= enough.max(1) => {
                source.map_or(Turn::Nothing, Turn::Full)
            }
            State::Fetching => source.map_or(Turn::Nothing, |source| Turn::Fetch(source, self.wanted())),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            topic_id: self.topic_id,
            offset: self.fetched,
            max_bytes: self.max_bytes,
            // A follower's epoch lags behind: only the leader is asked to be the one we mean.
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

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
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

    /// The offset of the next record to hand out, with the leader epoch to commit with it as far as it is known.
    pub(super) fn position(&self) -> Option<CommittedOffset> {
        let offset = self.offset()?;
        let leader_epoch = self.fetched_epoch.filter(|_| offset == self.fetched);
        Some(CommittedOffset { leader_epoch, ..CommittedOffset::new(offset) })
    }

    /// The offset of the next record to hand out, if it is known.
    pub(super) fn offset(&self) -> Option<i64> {
        self.lease.as_ref().and_then(|lease| lease.position())
    }

    /// Whether the batch that was given under `lease` is still the one that is out.
    pub(super) fn has_lease(&self, lease: &OpenLease) -> bool {
        self.lease.as_ref().is_some_and(|own| lease.is(own))
    }

    /// Whether somebody holds a batch of it.
    pub(super) fn is_out(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_open())
    }

    fn is_paused_with_buffer(&self) -> bool {
        self.is_paused && !self.buffer.is_empty()
    }

    /// Whether it has something buffered that may be handed out now.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_paused && !self.is_out() && !self.buffer.is_empty()
    }
}

// What changes what it does.
impl Partition {
    /// Changes what it does, so that answers to what it asked before are ignored.
    pub(super) fn set_state(&mut self, stamp: u64, state: State) {
        self.stamp = stamp;
        self.state = state;
        self.is_asking = false;
    }

    pub(super) fn set_asking(&mut self) {
        self.is_asking = true;
    }

    /// Ends the hand-out of what is out now.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
        self.renew_lease();
    }

    pub(super) fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Leaves it alone until `retry_at`.
    pub(super) fn back_off(&mut self, retry_at: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = retry_at;
        self.is_asking = false;
    }

    /// Slows it down without counting a failure.
    pub(super) fn slow_down(&mut self, retry_at: Instant) {
        self.retry_at = retry_at;
    }

    /// Something worked: there is nothing to wait for.
    pub(super) fn recover(&mut self) {
        self.failures = 0;
        self.retry_at = Instant::default();
    }

    /// Stops reading from the follower; says whether it was this one.
    pub(super) fn leave_follower(&mut self, broker_id: i32) -> bool {
        self.preferred_replica.take().is_some_and(|replica| replica == broker_id)
    }

    /// Begins at this offset, which the leader named.
    pub(super) fn begin_at(&mut self, stamp: u64, offset: i64, leader_epoch: Option<i32>) {
        self.set_state(stamp, State::Fetching);
        self.replace_lease(Some(offset));
        self.fetched = offset;
        self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
        self.failures = 0;
    }

    /// Takes over what the metadata says of it. Says whether it is the same topic: one that was deleted and created again
    /// has another id.
    pub(super) fn set_leader(&mut self, topic: &cluster::Topic, stamp: u64) -> bool {
        if self.topic_id.is_zero() {
            self.topic_id = topic.topic_id;
        } else if !topic.topic_id.is_zero() && self.topic_id != topic.topic_id {
            return false;
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
        // What the old leader answers, if it ever does, says nothing about the new one's log.
        self.set_state(stamp, state);
        true
    }

    /// Ends the hand-out of what is out now; the position stays.
    fn renew_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            *lease = Lease::new(lease.end());
        }
    }

    /// Ends the hand-out of what is out now; the position is this one, or unknown.
    fn replace_lease(&mut self, position: Option<i64>) {
        if let Some(lease) = std::mem::replace(&mut self.lease, position.map(Lease::new)) {
            lease.end();
        }
    }

    /// It is no longer consumed; the answer is the position.
    pub(super) fn end(self) -> Option<i64> {
        self.lease.map(|lease| lease.end())
    }

    /// Parks it: what is buffered is forgotten, and only a seek makes it work again.
    pub(super) fn park(&mut self, stamp: u64) {
        self.set_state(stamp, State::Parked);
        self.renew_lease();
        self.drop_buffer();
    }

    /// Forgets what is buffered; it will be fetched again.
    pub(super) fn drop_buffer(&mut self) {
        self.buffer = Buffer::default();
        if self.state == State::Draining {
            self.state = State::Fetching;
        }
        if let Some(position) = self.offset() {
            // The epoch may be newer than that of the record before the position, which does no harm: asked where that
            // epoch ends, or an older one, the leader shows what is missing before the position too.
            self.fetched = position;
        }
    }

    /// The log ends at `end` for our epoch, or at an older one; `None`: the leader does not know our epoch.
    pub(super) fn truncate(&mut self, end: Option<i64>, leader_epoch: Option<i32>) -> Truncation {
        if end.is_some_and(|end| end >= self.fetched) {
            return Truncation::None;
        }
        // Whoever holds a batch moves the position until the lease ends.
        self.renew_lease();
        let position = self.offset().unwrap_or(self.fetched);
        if end.is_none_or(|end| end < position) {
            return Truncation::OfWhatWasRead;
        }
        self.drop_buffer();
        self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
        Truncation::OfBuffer
    }
}

/// What the end of a leader epoch means for what was fetched.
#[derive(Debug, PartialEq)]
pub(super) enum Truncation {
    None,
    /// Records that were only buffered are gone; the buffer was dropped.
    OfBuffer,
    /// Records that were handed out are gone.
    OfWhatWasRead,
}

// The buffer.
impl Partition {
    /// Whether it has something to hand out and does not stand in the queue yet; from now on it does.
    pub(super) fn enqueue(&mut self) -> bool {
        !self.buffer.is_empty() && !std::mem::replace(&mut self.is_queued, true)
    }

    /// It was taken out of the queue.
    pub(super) fn leave_queue(&mut self) {
        self.is_queued = false;
    }

    /// Lets go of what is behind the position, and moves the position over what is hidden.
    pub(super) fn settle(&mut self) -> Front {
        let front = self.lease.as_ref().map_or(Front::Nothing, |lease| self.buffer.settle(lease));
        if front == Front::Nothing && self.state == State::Draining {
            self.state = State::Fetching;
        }
        front
    }

    /// The batch at the front of the buffer, if that is what [`Partition::settle`] found.
    pub(super) fn take(&self) -> Option<FetchedBatch> {
        let lease = Arc::clone(self.lease.as_ref()?);
        let position = lease.position()?;
        let (batch, pinned) = self.buffer.batch()?;
        Some(FetchedBatch { key: self.key.clone(), batch, lease: OpenLease::new(lease), pinned, position })
    }

    /// Why the front of the buffer cannot be read, if it cannot.
    pub(super) fn take_bad_front(&mut self) -> Option<Error> {
        self.buffer.take_bad_front()
    }

    /// Hands out what is buffered before it is asked why there is nothing behind it; says what is buffered.
    pub(super) fn drain(&mut self) -> Front {
        self.state = State::Draining;
        self.settle()
    }

    /// A fetch was answered: takes over what the broker says of the log.
    pub(super) fn handle_answer(&mut self, data: &PartitionData) {
        self.failures = 0;
        self.high_watermark = Some(data.high_watermark).filter(|offset| *offset >= 0);
        self.last_stable_offset = data.last_stable_offset.filter(|offset| *offset >= 0);
        self.log_start_offset = data.log_start_offset.filter(|offset| *offset >= 0).or(self.log_start_offset);
    }

    /// Reads from this follower from now on, if the leader said so: a follower may not send us on.
    pub(super) fn follow(&mut self, replica: Option<i32>) -> bool {
        let is_other = |replica: &i32| *replica >= 0 && self.leader != Some(*replica);
        let Some(replica) = replica.filter(is_other).filter(|_| self.preferred_replica.is_none()) else { return false };
        self.preferred_replica = Some(replica);
        true
    }

    /// Buffers what is new in `bytes`; says whether there was anything.
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
        if header.last_offset < self.fetched {
            // A damaged header must not make a batch one that was read already.
            batch.check_crc()?;
            return Ok(false);
        }
        let Some(next) = header.last_offset.checked_add(1) else {
            return Err(Error::new(ErrorKind::Malformed, "a record batch ends behind the last offset there can be"));
        };
        if is_hidden {
            // Nobody will open it, and a damaged header must not hide records.
            batch.check_crc()?;
            self.buffer.push(header.last_offset, Content::Hidden);
        } else {
            self.buffer.push(header.last_offset, Content::Batch(batch, Arc::clone(pinned)));
        }
        self.fetched = next;
        self.fetched_epoch = header.partition_leader_epoch;
        Ok(true)
    }

    /// The first batch did not fit into what was asked for (brokers before 0.10.1 cut it off).
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

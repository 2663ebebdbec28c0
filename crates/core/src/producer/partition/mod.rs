//! One partition of a producer: its batches in the order of their records, and what may happen to them.
//!
//! All state of a partition is private to this folder, so its rules are in one place: batches are sent, sent again and
//! reported in order; a batch that may be in the log never changes; sequence numbers are used once. The machine asks
//! what a partition can send, and tells it what was answered.
//!
//! - here: records in, batches out;
//! - `answer`: what a response means for a batch;
//! - `failure`: draining, restarting, giving up, reporting.

mod answer;
mod batch;
mod failure;

use std::collections::VecDeque;
use std::sync::Arc;

use super::completion::Completion;
use super::identity::{ProducerId, Sequences, sequence_after};
use super::{HandleId, LaneId, TopicIndex};
use crate::config::{Acks, ProducerConfig};
use crate::error::{Error, Written};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::records::{self, BatchBuilder, Format, ProducerStamp};
pub(super) use answer::BatchResponse;
use batch::{Batch, Open, Stage};
pub(super) use batch::{Payload, Unsealed};

/// What the settings say about retries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) idempotent: bool,
    /// Whether the application has asked for idempotence, so that nothing may be sent without it.
    pub(super) needs_idempotence: bool,
    acks: Acks,
    retries: u32,
    /// How many batches of a partition may be in flight.
    pub(super) max_in_flight: usize,
}

impl Rules {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        let idempotent = config.is_idempotent();
        let needs_idempotence = config.idempotence == Some(true);
        let (acks, retries, max_in_flight) = (config.acks, config.retries, config.max_in_flight);
        let rules = Self { idempotent, needs_idempotence, acks, retries, max_in_flight };
        if idempotent { rules } else { rules.without_idempotence() }
    }

    /// The same rules without sequence numbers.
    pub(super) fn without_idempotence(self) -> Self {
        // A broker then stores whatever arrives. A batch that is sent again would come after the one that was sent
        // behind it, so only one may be in flight.
        let is_one_by_one = self.retries > 0 && !is_planted(Bug::RetriesOvertake);
        let max_in_flight = if is_one_by_one { 1 } else { self.max_in_flight };
        Self { idempotent: false, max_in_flight, ..self }
    }
}

/// A batch that goes into a request.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) batch: u64,
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) payload: Arc<Payload>,
}

/// A partition with all its unreported batches, in the order of their records.
#[derive(Debug)]
pub(super) struct Partition {
    topic: TopicIndex,
    topic_name: Arc<str>,
    index: i32,
    handle: HandleId,
    lane: LaneId,
    leader: Option<i32>,
    /// The leader whose list of ready partitions it is on.
    listed: Option<i32>,
    /// The batch that takes records; it comes after everything in `queue`.
    open: Option<Open>,
    queue: VecDeque<Batch>,
    next_batch: u64,
    sequences: Sequences,
    /// Its leader when it last told that it waits for a producer id; `None` if it does not.
    awaits_identity: Option<i32>,
    /// How many of its batches are in flight, including those that expired and were reported meanwhile.
    in_flight: usize,
    /// The broker that they were sent to.
    in_flight_to: Option<i32>,
    /// Nothing may be sent until `in_flight` is 0; then the partition restarts.
    draining: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the last attempt failed: the cause to name when the delivery time is up.
    last_error: Option<Error>,
    /// Whether it looked for a batch that must be in `queue` and is not, which is a bug.
    is_broken: bool,
}

impl Partition {
    pub(super) fn new(topic: TopicIndex, topic_name: Arc<str>, index: i32, handle: HandleId, lane: LaneId) -> Self {
        Self {
            topic,
            topic_name,
            index,
            handle,
            lane,
            leader: None,
            listed: None,
            open: None,
            queue: VecDeque::new(),
            next_batch: 0,
            sequences: Sequences::default(),
            awaits_identity: None,
            in_flight: 0,
            in_flight_to: None,
            draining: false,
            failures: 0,
            retry_at: None,
            last_error: None,
            is_broken: false,
        }
    }

    /// Whether it has lost track of its batches: the machine must stop itself.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    #[cfg(test)]
    pub(super) fn lose_batch(&mut self) {
        self.update(99, |_| ());
    }

    /// Changes the batch at this index of `queue`, which must exist.
    fn update<T>(&mut self, at: usize, change: impl FnOnce(&mut Batch) -> T) -> Option<T> {
        let changed = self.queue.get_mut(at).map(change);
        self.is_broken |= changed.is_none();
        changed
    }

    pub(super) fn topic(&self) -> TopicIndex {
        self.topic
    }

    pub(super) fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    pub(super) fn index(&self) -> i32 {
        self.index
    }

    pub(super) fn handle(&self) -> HandleId {
        self.handle
    }

    pub(super) fn lane(&self) -> LaneId {
        self.lane
    }

    pub(super) fn leader(&self) -> Option<i32> {
        self.leader
    }

    /// Sets the leader; returns whether it is new. A new leader is tried without waiting for the back-off.
    pub(super) fn handle_leader(&mut self, leader: Option<i32>) -> bool {
        let is_new = self.leader != leader;
        if is_new {
            self.leader = leader;
            self.retry_at = None;
            self.try_sequences();
        }
        is_new
    }

    /// Notes that its topic was deleted and created again, so that brokers no longer know its sequence.
    pub(super) fn handle_made_anew(&mut self) {
        if !is_planted(Bug::SendsToNewTopic) {
            self.sequences.broken = true;
            self.draining = true;
        }
    }

    /// For [`Bug::SequencesStartOver`].
    pub(super) fn start_sequences_over(&mut self) {
        self.sequences.go_back_to(0);
    }

    /// Appends a record to the open batch with `append`; `None` if no batch is open.
    #[inline]
    pub(super) fn append(
        &mut self,
        append: impl FnOnce(&mut BatchBuilder) -> Result<u32, records::AppendError>,
    ) -> Option<Result<(&Arc<Completion>, u32), records::AppendError>> {
        let open = self.open.as_mut()?;
        Some(append(&mut open.builder).map(|index| (&open.completion, index)))
    }

    /// Opens a batch, which takes records from now on. No batch may be open.
    pub(super) fn open(&mut self, number: u64, builder: BatchBuilder, may_be_sent: bool) -> Arc<Completion> {
        let completion = Arc::new(Completion::new(Arc::clone(&self.topic_name), self.index));
        if self.queue.is_empty() {
            // The last error belongs to records that are all reported.
            self.last_error = None;
        }
        self.open = Some(Open { number, builder, completion: Arc::clone(&completion), may_be_sent });
        completion
    }

    /// Closes the open batch, which takes no more records. Returns its number, if one was open.
    pub(super) fn close_open(&mut self) -> Option<u64> {
        let open = self.open.take()?;
        let number = open.number;
        let id = self.next_batch_id();
        self.queue.push_back(Batch::new(id, open));
        Some(number)
    }

    fn next_batch_id(&mut self) -> u64 {
        self.next_batch += 1;
        self.next_batch
    }

    /// At least the number of batches closed so far; it grows with every closed batch.
    #[inline]
    pub(super) fn closed_batches(&self) -> u64 {
        self.next_batch
    }

    /// Ends the linger of the open batch, if it has this number.
    pub(super) fn end_linger(&mut self, number: u64) {
        if let Some(open) = self.open.as_mut().filter(|open| open.number == number) {
            open.may_be_sent = true;
        }
    }

    /// The index in `queue` of the next batch to send.
    fn next_waiting(&self) -> Option<usize> {
        self.queue.iter().position(Batch::is_waiting)
    }

    /// The closed batches that are to be sent, in order, with their sizes.
    pub(super) fn next_batches(&self) -> impl Iterator<Item = (usize, &Arc<Payload>)> {
        self.queue.iter().filter(|batch| batch.is_waiting()).map(|batch| (batch.bytes, &batch.payload))
    }

    /// The size of the next batch to send, if there is one.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        match self.queue.iter().find(|batch| batch.is_waiting()) {
            Some(batch) => Some(batch.bytes),
            None => self.open.as_ref().filter(|open| open.may_be_sent).map(|open| open.builder.encoded_bytes()),
        }
    }

    /// The oldest format that carries the next batch to send.
    pub(super) fn needs(&self) -> Format {
        match self.queue.iter().find(|batch| batch.is_waiting()) {
            Some(batch) => batch.payload.needs().most(),
            None => self.open.as_ref().map_or(Format::V0, |open| open.builder.needs().most()),
        }
    }

    /// Whether the next batch to send is the open one, which must be closed first.
    pub(super) fn sends_open_batch(&self) -> bool {
        self.next_waiting().is_none()
    }

    /// Notes that it waits for a producer id with this leader. Returns the leader with which it did before, if it did.
    pub(super) fn wait_for_identity(&mut self, leader: i32) -> Option<i32> {
        self.awaits_identity.replace(leader)
    }

    /// Notes that the producer id is known now.
    pub(super) fn handle_identity(&mut self) {
        self.awaits_identity = None;
    }

    /// Whether it has no producer id yet.
    pub(super) fn needs_identity(&self) -> bool {
        self.sequences.needs_identity()
    }

    /// Whether its leader keeps the topic in a format without sequence numbers.
    pub(super) fn is_without_sequences(&self) -> bool {
        self.sequences.unsupported
    }

    /// Sends sequence numbers again, to find out whether the topic is still kept in a format without them.
    pub(super) fn try_sequences(&mut self) {
        self.sequences.unsupported = false;
    }

    /// Whether sequence numbers were used in vain while it sent without them.
    pub(super) fn must_restart(&self) -> bool {
        self.sequences.broken && !self.draining
    }

    /// Sends nothing until nothing is in flight; then it restarts.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether its next batch may be sent now.
    pub(super) fn can_send(&self, now: Instant, rules: Rules) -> bool {
        let is_first = rules.idempotent && !self.sequences.acknowledged && !is_planted(Bug::SecondBeforeFirst);
        let limit = if is_first { 1 } else { rules.max_in_flight };
        // A broker remembers the last five batches that it stored. A batch that is stored but waits for the report of
        // an earlier one counts too: otherwise the broker could forget the earlier one while it is being sent again.
        let unresolved = self.next_waiting().unwrap_or(self.queue.len());
        // A batch without sequence numbers that must be sent again would come after the one with them.
        let is_first_without = |batch: &Batch| batch.stamp.is_none() && matches!(batch.stage, Stage::InFlight);
        let mixes = rules.idempotent && self.queue.front().is_some_and(is_first_without);
        !self.draining
            && !mixes
            && self.in_flight.max(unresolved) < limit
            && (self.in_flight == 0 || self.in_flight_to == self.leader)
            && self.retry_at.is_none_or(|at| at <= now)
            && !self.next_batches().next().is_some_and(|(_, payload)| payload.is_compressing())
    }

    /// Notes that it is on the list of `leader`.
    pub(super) fn list(&mut self, leader: i32) {
        self.listed = Some(leader);
    }

    pub(super) fn is_listed(&self, leader: i32) -> bool {
        self.listed == Some(leader)
    }

    /// Notes that it is on no list any more.
    pub(super) fn unlist(&mut self) {
        self.listed = None;
    }

    /// Takes the next batch, which must be waiting, for a request to `broker_id`. At its first attempt the batch gets
    /// its sequence numbers, with the producer id that `identity` gives.
    ///
    /// # Errors
    ///
    /// If no batch waits, or if it would not directly follow the one before it. Such a batch must never be sent.
    pub(super) fn take_next(
        &mut self,
        broker_id: i32,
        identity: Option<ProducerId>,
        rules: Rules,
    ) -> Result<Taken, &'static str> {
        if let Some(identity) = identity {
            self.sequences.adopt(identity);
        }
        let at = self.next_waiting();
        let before = at.and_then(|at| self.queue.get(at.checked_sub(1)?));
        let expected = before.and_then(successor);
        let Some(batch) = at.and_then(|at| self.queue.get_mut(at)) else { return Err("it has no batch to send") };
        if !rules.idempotent && batch.stamp.is_some() {
            self.sequences.broken = true;
            batch.renumber();
        }
        if rules.idempotent {
            if batch.stamp.is_none() {
                batch.renumber();
                batch.stamp = self.sequences.stamp(batch.count);
            }
            let Some(stamp) = batch.stamp else { return Err("a batch would be sent without a sequence number") };
            let follows = expected.is_none_or(|expected| !is_same_epoch(expected, stamp) || expected == stamp);
            if !follows {
                return Err("two batches of a partition would be sent with sequence numbers that do not follow each \
                            other");
            }
        }
        batch.attempts = batch.attempts.saturating_add(1);
        batch.stage = Stage::InFlight;
        self.in_flight += 1;
        self.in_flight_to = Some(broker_id);
        self.retry_at = None;
        Ok(Taken { batch: batch.id, stamp: batch.stamp, payload: Arc::clone(&batch.payload) })
    }

    /// Whether none of its batches is in flight.
    pub(super) fn is_landed(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether any of its unreported records may be in the log.
    pub(super) fn written(&self) -> Written {
        let maybe = self.queue.iter().any(|batch| batch.written() == Written::Maybe);
        if maybe { Written::Maybe } else { Written::No }
    }

    /// The producer id and epoch of its next batch.
    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        self.sequences.producer_id()
    }
}

/// The sequence number that the next batch of the same epoch must have.
fn successor(batch: &Batch) -> Option<ProducerStamp> {
    let stamp = batch.stamp.filter(|_| !batch.has_failed())?;
    Some(ProducerStamp { base_sequence: sequence_after(stamp.base_sequence, batch.count), ..stamp })
}

fn is_same_epoch(a: ProducerStamp, b: ProducerStamp) -> bool {
    (a.producer_id, a.producer_epoch) == (b.producer_id, b.producer_epoch)
}

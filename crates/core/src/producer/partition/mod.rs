//! One partition of a producer: its batches in the order of their records, and what may happen to them.
//!
//! Everything of a partition is private to this folder, so that its rules are kept in one place: batches are sent, sent
//! again and reported in order; what may be in the log is never changed; sequence numbers are spent once. The
//! machine asks what a partition could send and tells it what was answered.
//!
//! - here: records in, batches out;
//! - `answer`: what a broker's answer means for a batch;
//! - `failure`: draining, starting again, giving up, reporting.

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
use crate::time::Instant;
use crate::wire::records::{self, BatchBuilder, ProducerStamp};
pub(super) use answer::Answer;
pub(super) use batch::Payload;
use batch::{Batch, Open, Stage};

/// What the settings say about sending again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) idempotent: bool,
    acks: Acks,
    retries: u32,
    /// The most batches of a partition that may be unanswered.
    pub(super) max_in_flight: usize,
}

impl Rules {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        let idempotent = config.is_idempotent();
        // Without sequence numbers a broker stores whatever comes, so a batch that goes again would stand behind the
        // one that was sent after it.
        let reorders = !idempotent && config.retries > 0;
        let max_in_flight = if reorders { 1 } else { config.max_in_flight };
        Self { idempotent, acks: config.acks, retries: config.retries, max_in_flight }
    }
}

/// A batch on its way into a request.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) batch: u64,
    pub(super) bytes: usize,
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) payload: Arc<Payload>,
}

/// A partition and everything of it that is not yet reported, in the order it was appended.
#[derive(Debug)]
pub(super) struct Partition {
    topic: TopicIndex,
    topic_name: Arc<str>,
    index: i32,
    handle: HandleId,
    lane: LaneId,
    leader: Option<i32>,
    /// The leader whose list of ready partitions has it.
    listed: Option<i32>,
    /// Takes records; it comes after everything in `queue`.
    open: Option<Open>,
    queue: VecDeque<Batch>,
    next_batch: u64,
    sequences: Sequences,
    /// Whether its lane knows that it waits for a producer id.
    awaits_identity: bool,
    /// Batches in requests that are not answered, those included that were reported in the meantime.
    in_flight: usize,
    /// The broker that has them.
    in_flight_to: Option<i32>,
    /// Nothing may be sent until `in_flight` is 0: then what must go again goes again, in order.
    draining: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the last attempt did not succeed: the cause to name when time runs out.
    last_error: Option<Error>,
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
            awaits_identity: false,
            in_flight: 0,
            in_flight_to: None,
            draining: false,
            failures: 0,
            retry_at: None,
            last_error: None,
        }
    }

    pub(super) fn topic(&self) -> TopicIndex {
        self.topic
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

    /// Takes notice of who leads it; true if that is new. A new leader is tried without waiting for the back-off.
    pub(super) fn handle_leader(&mut self, leader: Option<i32>) -> bool {
        let is_new = self.leader != leader;
        if is_new {
            self.leader = leader;
            self.retry_at = None;
        }
        is_new
    }

    /// Takes notice that its topic was deleted and made anew: brokers know nothing of its sequence any more.
    pub(super) fn handle_made_anew(&mut self) {
        self.sequences.broken = true;
        self.draining = true;
    }

    /// Appends a record to the open batch with `append`; none if no batch is open.
    #[inline]
    pub(super) fn append(
        &mut self,
        append: impl FnOnce(&mut BatchBuilder) -> Result<u32, records::AppendError>,
    ) -> Option<Result<(&Arc<Completion>, u32), records::AppendError>> {
        let open = self.open.as_mut()?;
        Some(append(&mut open.builder).map(|index| (&open.completion, index)))
    }

    /// Opens a batch, which takes records from now on; none is open.
    pub(super) fn open(&mut self, number: u64, builder: BatchBuilder, ripe: bool) -> Arc<Completion> {
        let completion = Arc::new(Completion::new(Arc::clone(&self.topic_name), self.index));
        if self.queue.is_empty() {
            // It was the cause of the trouble of records that are all reported.
            self.last_error = None;
        }
        self.open = Some(Open { number, builder, completion: Arc::clone(&completion), ripe });
        completion
    }

    /// Ends the open batch, which takes no more records. Returns its number, if one was open.
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

    /// How many batches were closed so far, or a larger number: it grows when one is.
    #[inline]
    pub(super) fn closed_batches(&self) -> u64 {
        self.next_batch
    }

    /// Lets the open batch go, if it is that one.
    pub(super) fn ripen(&mut self, number: u64) {
        if let Some(open) = self.open.as_mut().filter(|open| open.number == number) {
            open.ripe = true;
        }
    }

    /// Where in `queue` the next batch to send is.
    fn next_waiting(&self) -> Option<usize> {
        self.queue.iter().position(Batch::is_waiting)
    }

    /// The size of what would be sent next, if there is anything.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        match self.queue.iter().find(|batch| batch.is_waiting()) {
            Some(batch) => Some(batch.bytes),
            None => self.open.as_ref().filter(|open| open.ripe).map(|open| open.builder.encoded_bytes()),
        }
    }

    /// Whether what would go next is the open batch, which must be closed first.
    pub(super) fn sends_open_batch(&self) -> bool {
        self.next_waiting().is_none()
    }

    /// Notes that it waits for a producer id; false if it does already.
    pub(super) fn wait_for_identity(&mut self) -> bool {
        !std::mem::replace(&mut self.awaits_identity, true)
    }

    /// Notes that there is a producer id now.
    pub(super) fn handle_identity(&mut self) {
        self.awaits_identity = false;
    }

    /// Whether it has no producer id yet to number its batches with.
    pub(super) fn needs_identity(&self) -> bool {
        self.sequences.needs_identity()
    }

    /// Whether its next batch may be sent now.
    pub(super) fn can_send(&self, now: Instant, rules: Rules) -> bool {
        let is_first = rules.idempotent && !self.sequences.acknowledged;
        let limit = if is_first { 1 } else { rules.max_in_flight };
        // A broker knows the last five batches it stored. What is stored but waits for the report of one before it
        // counts too, or that one could fall out of the broker's memory while it is sent again.
        let unresolved = self.next_waiting().unwrap_or(self.queue.len());
        !self.draining
            && self.in_flight.max(unresolved) < limit
            && (self.in_flight == 0 || self.in_flight_to == self.leader)
            && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Notes that the list of `leader` has it.
    pub(super) fn list(&mut self, leader: i32) {
        self.listed = Some(leader);
    }

    pub(super) fn is_listed(&self, leader: i32) -> bool {
        self.listed == Some(leader)
    }

    /// Notes that it was taken off the list that had it.
    pub(super) fn unlist(&mut self) {
        self.listed = None;
    }

    /// Takes the next batch into a request to `broker_id`, numbered with what `identity` gives if it is the first
    /// attempt. None if nothing waits.
    ///
    /// # Errors
    ///
    /// If the batch would not follow the one before it: that must never be sent.
    pub(super) fn take_next(
        &mut self,
        broker_id: i32,
        identity: Option<ProducerId>,
        rules: Rules,
    ) -> Result<Option<Taken>, &'static str> {
        if let Some(identity) = identity {
            self.sequences.adopt(identity);
        }
        let Some(at) = self.next_waiting() else { return Ok(None) };
        let before = at.checked_sub(1).and_then(|at| self.queue.get(at));
        let expected = before.and_then(successor);
        let Some(batch) = self.queue.get_mut(at) else { return Ok(None) };
        if rules.idempotent {
            if batch.stamp.is_none() {
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
        let (batch, bytes, stamp, payload) = (batch.id, batch.bytes, batch.stamp, Arc::clone(&batch.payload));
        Ok(Some(Taken { batch, bytes, stamp, payload }))
    }

    /// Whether none of its batches is in a request that is not answered.
    pub(super) fn is_landed(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether any record of it that has no report yet may be in the log.
    pub(super) fn written(&self) -> Written {
        let maybe = self.queue.iter().any(|batch| batch.written() == Written::Maybe);
        if maybe { Written::Maybe } else { Written::No }
    }

    /// What its batches are numbered with at present.
    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        self.sequences.producer_id()
    }
}

/// The stamp that a batch sent right after this one must have, if they are of one epoch.
fn successor(batch: &Batch) -> Option<ProducerStamp> {
    let stamp = batch.stamp.filter(|_| !batch.has_failed())?;
    Some(ProducerStamp { base_sequence: sequence_after(stamp.base_sequence, batch.count), ..stamp })
}

fn is_same_epoch(a: ProducerStamp, b: ProducerStamp) -> bool {
    (a.producer_id, a.producer_epoch) == (b.producer_id, b.producer_epoch)
}

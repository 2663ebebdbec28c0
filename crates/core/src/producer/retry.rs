//! What happens to batches that did not get through: waiting, going again in order, or being given up.
//!
//! Going again is the same for every reason. The partition *drains*: nothing more is sent until everything in flight
//! is answered. Then it *restarts*: what is left goes again from the front. If sequence numbers were spent in vain it
//! restarts in the next epoch, and then a batch that may be in the log cannot go again: it fails, and what is behind
//! it with it.

use std::sync::Arc;

use super::accumulator::{Batch, Payload};
use super::completion::Completed;
use super::identity::Identity;
use super::split::rebuild;
use super::{PartitionId, Producer, ProducerEvent};
use crate::error::{Error, ErrorKind, Phase, Place, Written};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;

impl Producer {
    /// Carries on after something changed in a partition: restarts it if it drained, reports what can be reported and
    /// lists it if it can send. True if the sending task must look.
    pub(super) fn advance(&mut self, now: Instant, id: PartitionId) -> bool {
        self.report(id);
        // A report can break the sequence once more, by failing what is behind it.
        while self.partitions.get(id.index()).is_some_and(|state| state.draining && state.in_flight == 0) {
            self.restart(now, id);
            self.report(id);
        }
        self.consider(now, id)
    }

    fn restart(&mut self, now: Instant, id: PartitionId) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        state.in_flight_to = None;
        state.draining = false;
        if matches!(self.identity, Identity::Off) || !state.sequences.broken {
            return;
        }
        let unknown = state.queue.iter().position(|batch| batch.outcome.is_none() && batch.maybe_written);
        if let Some(at) = unknown {
            let cause =
                Error::new(ErrorKind::NotDelivered, "the sequence of the partition was broken by an earlier record");
            let cause = match state.last_error.clone() {
                Some(last) => cause.with_source(last),
                None => cause,
            };
            self.fail_from(id, at, cause.with_written(Written::Maybe));
        }
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        state.draining = false;
        for batch in state.queue.iter_mut().filter(|batch| batch.stamp.is_some() && batch.outcome.is_none()) {
            renumber(batch);
        }
        if !state.sequences.start_next_epoch() && matches!(self.identity, Identity::Known(_)) {
            self.identity = Identity::Wanted(now);
        }
    }

    /// Lets a batch go again once its partition has drained, after a back-off.
    pub(super) fn retry(&mut self, now: Instant, id: PartitionId, at: usize, cause: Error) {
        let limit = self.config.retries;
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        if state.queue.get(at).is_some_and(|batch| batch.attempts > limit) {
            let what = "the record was not acknowledged within the allowed number of retries";
            let error = Error::new(ErrorKind::NotDelivered, what).with_source(cause);
            return self.fail_at(id, at, error);
        }
        state.draining = true;
        state.failures = state.failures.saturating_add(1);
        state.last_error = Some(cause);
        let retry_at = now + self.backoff.delay(state.failures, &mut self.random);
        state.retry_at = Some(retry_at);
        self.retries.insert((retry_at, id));
    }

    /// Lets the partitions go on whose back-off is over.
    pub(super) fn retry_due(&mut self, now: Instant) {
        while let Some((_, id)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.pop_first();
            self.consider(now, id);
        }
    }

    /// Gives up batches that were not acknowledged in time.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((number, id, _)) = self.ledger.front().filter(|(.., deadline)| *deadline <= now) {
            let state = self.partitions.get(id.index());
            if state.and_then(|state| state.open.as_ref()).is_some_and(|open| open.number == number) {
                self.close_open(id);
            }
            let state = self.partitions.get(id.index());
            let at = state.and_then(|state| {
                state.queue.iter().position(|batch| batch.number == number && batch.outcome.is_none())
            });
            let Some(at) = at else {
                self.poison("a record that was not reported cannot be found");
                self.ledger.settle(number);
                continue;
            };
            let what = "the record was not acknowledged within delivery.timeout.ms";
            let error = Error::new(ErrorKind::TimedOut(Phase::Delivery), what);
            let error = match self.hindrance(id, at) {
                Some(cause) => error.with_source(cause),
                None => error,
            };
            self.fail_at(id, at, error);
            self.advance(now, id);
        }
    }

    /// What kept a batch from being acknowledged: why its last attempt failed, or what it waits for.
    fn hindrance(&self, id: PartitionId, at: usize) -> Option<Error> {
        let state = self.partitions.get(id.index())?;
        if let Some(error) = &state.last_error {
            return Some(error.clone());
        }
        let (kind, what) = if state.queue.get(at)?.in_flight {
            (ErrorKind::TimedOut(Phase::Request), "the broker has not answered yet")
        } else if state.leader.is_none() {
            (ErrorKind::Broker(ErrorCode::LEADER_NOT_AVAILABLE), "the partition has no leader")
        } else if state.sequences.needs_identity() && matches!(self.identity, Identity::Asked(_)) {
            (ErrorKind::TimedOut(Phase::Request), "no broker has given a producer id yet")
        } else {
            return None;
        };
        Some(Error::new(kind, what))
    }

    /// [`fail_from`](Self::fail_from) with an error that is yet to say where, and whether it was written.
    pub(super) fn fail_at(&mut self, id: PartitionId, at: usize, error: Error) {
        let Some(state) = self.partitions.get(id.index()) else { return };
        let Some(batch) = state.queue.get(at) else { return };
        let broker_id = state.in_flight_to.or(state.leader);
        let attempts = (batch.attempts > 0).then_some(batch.attempts);
        let place = Place { broker_id: broker_id.filter(|_| attempts.is_some()), attempts, ..Place::default() };
        let error = error.at(place).with_written(batch.written());
        self.fail_from(id, at, error);
    }

    /// Fails a batch, and everything buffered behind it in its partition with a cause that names it.
    pub(super) fn fail_from(&mut self, id: PartitionId, at: usize, error: Error) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        let Some(topic) = self.topics.get(state.topic.index()) else { return };
        let error = error.at_partition(&topic.name, state.index);
        if let Some(batch) = state.queue.get_mut(at).filter(|batch| batch.outcome.is_none()) {
            batch.outcome = Some(Err(error.clone()));
            state.sequences.broken |= batch.stamp.is_some();
            state.draining |= batch.stamp.is_some();
        }
        self.fail_behind(id, at + 1, &error);
    }

    /// Fails everything buffered from `first` on, because of a record before it.
    fn fail_behind(&mut self, id: PartitionId, first: usize, cause: &Error) {
        self.close_open(id);
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        let Some(topic) = self.topics.get(state.topic.index()) else { return };
        let error = Error::new(ErrorKind::NotDelivered, "an earlier record of the partition was not delivered");
        let error = error.at_partition(&topic.name, state.index).with_source(cause.clone());
        for batch in state.queue.iter_mut().skip(first) {
            // One that is stored, but not yet reported because of the one that fails here, fails with it: to send
            // the failed record again and not this one would change their order.
            if matches!(batch.outcome, Some(Err(_))) {
                continue;
            }
            batch.maybe_written |= batch.outcome.is_some();
            batch.outcome = Some(Err(error.clone().with_written(batch.written())));
            state.sequences.broken |= batch.stamp.is_some();
            state.draining |= batch.stamp.is_some();
        }
    }

    /// Reports the decided batches at the front of a partition.
    pub(super) fn report(&mut self, id: PartitionId) {
        while let Some(state) = self.partitions.get_mut(id.index()) {
            let Some(outcome) = state.queue.front_mut().and_then(|batch| batch.outcome.take()) else { return };
            let Some(batch) = state.queue.pop_front() else { return };
            if let Err(error) = &outcome
                && !batch.fails_alone
            {
                // Also what came in while this report had to wait for those before it.
                self.fail_behind(id, 0, error);
            }
            let end = batch.first_index.saturating_add(batch.count);
            self.queued_records = self.queued_records.saturating_sub(batch.count as usize);
            if batch.last_piece {
                self.ledger.settle(batch.number);
            }
            let completed = Completed { completion: batch.completion, end, count: batch.count, outcome };
            self.events.push_back(ProducerEvent::Completed(completed));
        }
    }

    /// Fails every record that has no outcome yet.
    pub(super) fn fail_everything(&mut self, now: Instant, cause: &Error) {
        for id in (0..self.partitions.len() as u32).map(PartitionId) {
            self.close_open(id);
            let queue = self.partitions.get(id.index()).map(|state| &state.queue);
            if let Some(at) = queue.and_then(|queue| queue.iter().position(|batch| batch.outcome.is_none())) {
                let error = Error::new(cause.kind(), "the record was given up").with_source(cause.clone());
                self.fail_at(id, at, error);
            }
            self.advance(now, id);
        }
    }

    /// Fails every record, and refuses further ones.
    pub(super) fn fail_for_good(&mut self, now: Instant, error: &Error) {
        self.refusal = Some(error.clone());
        self.fail_everything(now, error);
    }

    /// One of our own rules was found broken: nothing more is sent, and every record is reported.
    #[cold]
    pub(super) fn poison(&mut self, what: &str) {
        let error = Error::new(ErrorKind::Closed, format!("the producer stopped itself, because {what}"))
            .with_hint("this is a bug in kavka: please report it");
        self.refusal = Some(error.clone());
        for id in (0..self.partitions.len() as u32).map(PartitionId) {
            self.close_open(id);
            self.fail_at(id, 0, error.clone());
            self.report(id);
        }
    }
}

/// Makes a batch ready for new sequence numbers. Only for one that is definitely not in the log.
fn renumber(batch: &mut Batch) {
    batch.stamp = None;
    let Some(records) = batch.payload.records() else { return };
    match rebuild(&records, std::slice::from_ref(&(0..batch.count))).map(|mut builders| builders.pop()) {
        Ok(Some(builder)) => batch.payload = Payload::new(builder),
        Ok(None) => {}
        Err(error) => batch.outcome = Some(Err(error.with_written(Written::No))),
    }
}

/// Replaces a batch by pieces of it: records that go again, and records that fail alone.
pub(super) struct Piece {
    pub(super) range: std::ops::Range<u32>,
    pub(super) failure: Option<Error>,
}

impl Producer {
    /// Takes a definitely refused batch apart, in its place in the order. Pieces keep their sequence numbers; if one
    /// fails, the numbers behind it are broken and the partition restarts in the next epoch.
    pub(super) fn replace_by_pieces(&mut self, id: PartitionId, at: usize, pieces: Vec<Piece>) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        let Some(batch) = state.queue.get(at) else { return };
        let ranges: Vec<_> =
            pieces.iter().filter(|piece| piece.failure.is_none()).map(|piece| piece.range.clone()).collect();
        let nothing = || Error::new(ErrorKind::Misuse, "a batch was refused that was never sealed");
        let rebuilt = batch.payload.records().ok_or_else(nothing).and_then(|records| rebuild(&records, &ranges));
        let mut builders = match rebuilt {
            Ok(builders) => builders.into_iter(),
            Err(error) => return self.fail_at(id, at, error),
        };
        let Some(whole) = state.queue.remove(at) else { return };
        state.draining = true;
        for (offset, piece) in pieces.into_iter().enumerate() {
            self.next_batch_id += 1;
            let stamp = whole.stamp.map(|mut stamp| {
                stamp.base_sequence = super::identity::sequence_after(stamp.base_sequence, piece.range.start);
                stamp
            });
            let builder = if piece.failure.is_none() { builders.next() } else { None };
            state.sequences.broken |= piece.failure.is_some() && stamp.is_some();
            let new = Batch {
                id: self.next_batch_id,
                number: whole.number,
                completion: Arc::clone(&whole.completion),
                first_index: whole.first_index.saturating_add(piece.range.start),
                count: piece.range.len() as u32,
                last_piece: whole.last_piece && piece.range.end == whole.count,
                bytes: builder.as_ref().map_or(0, crate::wire::records::BatchBuilder::encoded_bytes),
                payload: builder
                    .map_or_else(|| Payload::sealed(crate::wire::records::Records::default()), Payload::new),
                stamp,
                attempts: whole.attempts,
                maybe_written: false,
                in_flight: false,
                fails_alone: piece.failure.is_some(),
                outcome: piece.failure.map(Err),
            };
            state.queue.insert(at + offset, new);
        }
    }
}

//! Restarting, giving up, and reporting in order.
//!
//! After any error a partition first *drains*: it sends nothing until all its batches in flight are answered. Then it
//! *restarts*: it sends what is left, from the front. If sequence numbers were used in vain, it restarts in the next
//! epoch. A batch that may be in the log cannot change its epoch, so it fails, and everything behind it.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Payload;
use super::{Batch, Partition, Rules, Stage};
use crate::error::{Error, ErrorKind, Phase, Place, Written};
use crate::planted::{Bug, is_planted};
use crate::producer::completion::Completed;
use crate::producer::identity::sequence_after;
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{Format, Records, not_carried};

/// A part of a batch that was split: records to send again, or records that fail alone.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u32>,
    pub(super) failure: Option<Error>,
}

impl Partition {
    /// Whether it has drained, so that it must [restart](Self::restart).
    pub(in crate::producer) fn is_drained(&self) -> bool {
        self.draining && (self.in_flight == 0 || is_planted(Bug::RestartsInFlight))
    }

    /// Ends the draining, so that what is left is sent again. Returns whether the epochs of its producer id are used
    /// up.
    pub(in crate::producer) fn restart(&mut self, rules: Rules) -> bool {
        self.in_flight_to = None;
        self.draining = false;
        if !rules.idempotent || !self.sequences.broken {
            return false;
        }
        let unknown =
            self.queue.iter().position(|batch| !batch.is_decided() && batch.maybe_written && batch.stamp.is_some());
        if let Some(at) = unknown {
            let what = "the sequence of the partition was broken by an earlier record";
            let cause = with_source(Error::new(ErrorKind::NotDelivered, what), self.last_error.clone());
            self.fail_from(at, cause.with_written(Written::Maybe));
        }
        self.draining = false;
        for batch in self.queue.iter_mut().filter(|batch| batch.stamp.is_some() && !batch.is_decided()) {
            batch.renumber();
        }
        !self.sequences.start_next_epoch()
    }

    /// Whether its leader said that it does not know the topic, or it has no leader to ask.
    pub(in crate::producer) fn is_unknown_to_leader(&self) -> bool {
        let code = self.last_error.as_ref().and_then(Error::code);
        let unknown = code.is_some_and(ErrorCode::is_unknown_topic);
        !self.queue.is_empty() && (unknown || self.leader.is_none())
    }

    /// How many attempts in a row have failed.
    pub(in crate::producer) fn failures(&self) -> u32 {
        self.failures
    }

    /// Sends nothing before `until`.
    pub(in crate::producer) fn back_off(&mut self, until: Instant) {
        self.retry_at = Some(until);
    }

    /// Clears the back-off if it has ended. After this, nobody compares it with a clock again: `append` passes in a
    /// time that lags behind, which would make the partition wait for an alarm that has already gone off.
    pub(in crate::producer) fn end_back_off(&mut self, now: Instant) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
    }

    /// Ends the back-off after its leader refused a format, because it is known now which one it takes. What went wrong
    /// is no longer why its records are not acknowledged.
    pub(in crate::producer) fn handle_format_known(&mut self) {
        self.retry_at = None;
        if self.last_error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Unsupported) {
            self.last_error = None;
            self.failures = 0;
        }
    }

    /// Fails the batch with this ledger number, because its delivery time is up, and everything behind it.
    /// `no_identity` says why there is no producer id, if it waits for one. Returns false if there is no such batch.
    pub(in crate::producer) fn expire(&mut self, number: u64, no_identity: Option<&Error>) -> bool {
        if self.open.as_ref().is_some_and(|open| open.number == number) {
            self.close_open();
        }
        let batch = self.queue.iter().position(|batch| batch.number == number && !batch.is_decided());
        if let Some(at) = batch {
            let what = "the record was not acknowledged within delivery.timeout.ms";
            let hindrance = self.hindrance(at, no_identity);
            self.fail_at(at, with_source(Error::new(ErrorKind::TimedOut(Phase::Delivery), what), hindrance));
        }
        batch.is_some()
    }

    /// Why a batch was not acknowledged in time: the error of its last attempt, or what it waits for.
    fn hindrance(&self, at: usize, no_identity: Option<&Error>) -> Option<Error> {
        if let Some(error) = &self.last_error {
            return Some(error.clone());
        }
        let is_in_flight = self.queue.get(at).is_some_and(|batch| matches!(batch.stage, Stage::InFlight));
        let (kind, what) = if is_in_flight {
            (ErrorKind::TimedOut(Phase::Request), "the broker has not answered yet")
        } else if self.leader.is_none() {
            (ErrorKind::Broker(ErrorCode::LEADER_NOT_AVAILABLE), "the partition has no leader")
        } else {
            return no_identity.filter(|_| self.needs_identity()).cloned();
        };
        Some(Error::new(kind, what))
    }

    /// Fails everything undecided with `error`.
    pub(in crate::producer) fn fail_all(&mut self, error: Error) {
        self.close_open();
        if let Some(at) = self.queue.iter().position(|batch| !batch.is_decided()) {
            self.fail_at(at, error);
        }
    }

    /// Like [`fail_from`](Self::fail_from), for an error that lacks the place and whether the batch was written.
    pub(super) fn fail_at(&mut self, at: usize, error: Error) {
        let broker_id = self.in_flight_to.or(self.leader);
        let described = self.update(at, |batch| {
            let attempts = (batch.attempts > 0).then_some(batch.attempts);
            let place = Place { broker_id: broker_id.filter(|_| attempts.is_some()), attempts, ..Place::default() };
            error.at(place).with_written(batch.written())
        });
        if let Some(error) = described {
            self.fail_from(at, error);
        }
    }

    /// Fails a batch with `error`, and everything behind it with an error that names this one as its cause.
    fn fail_from(&mut self, at: usize, error: Error) {
        let error = error.at_partition(&self.topic_name, self.index);
        if let Some(batch) = self.queue.get_mut(at).filter(|batch| !batch.is_decided()) {
            batch.stage = Stage::Decided(Err(error.clone()));
            if is_planted(Bug::SequenceOfExpired)
                && let Some(stamp) = batch.stamp
            {
                self.sequences.go_back_to(stamp.base_sequence);
            } else {
                self.sequences.broken |= batch.stamp.is_some();
            }
            self.draining |= batch.stamp.is_some();
        }
        self.fail_behind(at + 1, &error);
    }

    /// Fails everything from `first` on because an earlier record failed.
    fn fail_behind(&mut self, first: usize, cause: &Error) {
        if is_planted(Bug::Gaps) {
            return;
        }
        self.close_open();
        let error = Error::new(ErrorKind::NotDelivered, "an earlier record of the partition was not delivered");
        let error = error.at_partition(&self.topic_name, self.index).with_source(cause.clone());
        // This includes a batch that is stored but not reported yet because it is behind the failed one. If the
        // application sends the failed record again, it would otherwise come after this one.
        for batch in self.queue.iter_mut().skip(first).filter(|batch| !batch.has_failed()) {
            let written = batch.written();
            batch.stage = Stage::Decided(Err(error.clone().with_written(written)));
            self.sequences.broken |= batch.stamp.is_some();
            self.draining |= batch.stamp.is_some();
        }
    }

    /// Takes the first batch out if it has its outcome, to report it. Also returns its ledger number, if this was the
    /// last piece of it.
    pub(in crate::producer) fn take_report(&mut self) -> Option<(Completed, Option<u64>)> {
        let Stage::Decided(outcome) = self.queue.front()?.stage.clone() else { return None };
        let batch = self.queue.pop_front()?;
        if let Err(error) = &outcome
            && !batch.fails_alone
        {
            // This also fails what was appended while the report waited for those before it.
            self.fail_behind(0, error);
        }
        let end = batch.first_index.saturating_add(batch.count);
        let completed = Completed { completion: batch.completion, end, count: batch.count, outcome };
        Some((completed, batch.last_piece.then_some(batch.number)))
    }

    /// Fails those records of the next batch to send, which must be closed, that this format does not carry. The others
    /// are sent without them. If the batch may be in the log, it must not change, so it fails, and everything behind
    /// it.
    pub(in crate::producer) fn fail_not_carried(&mut self, format: Format) {
        let next = self.queue.iter().enumerate().find(|(_, batch)| batch.is_waiting());
        let Some((at, batch)) = next else { return };
        if batch.maybe_written {
            let error = not_carried(batch.payload.needs().most());
            return self.fail_at(at, error);
        }
        if let Err(error) = batch.payload.seal_plain(batch.stamp) {
            return self.fail_at(at, error);
        }
        let attempts = (batch.attempts > 0).then_some(batch.attempts);
        let mut pieces: Vec<Piece> = Vec::new();
        for (range, needs) in batch.payload.needs().runs(batch.count) {
            let failure = (needs > format).then(|| {
                let error = not_carried(needs).with_written(Written::No);
                error.at_partition(&self.topic_name, self.index).at(Place { attempts, ..Place::default() })
            });
            match pieces.last_mut() {
                Some(last) if last.failure.is_none() && failure.is_none() => last.range.end = range.end,
                _ => pieces.push(Piece { range, failure }),
            }
        }
        self.replace_by_pieces(at, pieces);
    }

    /// Replaces a batch that is definitely not in the log by pieces, in its place. Pieces keep their sequence numbers.
    /// If one fails, the numbers behind it have a gap, and the partition restarts in the next epoch.
    pub(super) fn replace_by_pieces(&mut self, at: usize, pieces: Vec<Piece>) {
        let Some(records) = self.update(at, |batch| batch.payload.records()).flatten() else {
            let nothing = Error::new(ErrorKind::Internal, "a batch was refused that was never sealed");
            return self.fail_at(at, nothing);
        };
        let Some(whole) = self.queue.remove(at) else { return self.is_broken = true };
        self.draining = true;
        for (offset, piece) in pieces.into_iter().enumerate() {
            self.sequences.broken |= piece.failure.is_some() && whole.stamp.is_some();
            let id = self.next_batch_id();
            self.queue.insert(at + offset, piece_of(&whole, &records, id, piece));
        }
    }
}

/// A piece of a batch with these sealed records.
fn piece_of(whole: &Batch, records: &Records, id: u64, piece: Piece) -> Batch {
    let payload = match &piece.failure {
        None => Payload::part(records.clone(), piece.range.clone(), whole.payload.needs().of(&piece.range)),
        Some(_) => Payload::sealed(Records::default()),
    };
    let stamp = whole.stamp.map(|mut stamp| {
        stamp.base_sequence = sequence_after(stamp.base_sequence, piece.range.start);
        stamp
    });
    Batch {
        id,
        number: whole.number,
        completion: Arc::clone(&whole.completion),
        first_index: whole.first_index.saturating_add(piece.range.start),
        count: piece.range.len() as u32,
        last_piece: whole.last_piece && piece.range.end == whole.count,
        // At most: how many it has shows only when its records are read, and the sender does that.
        bytes: whole.bytes,
        payload,
        stamp,
        attempts: whole.attempts,
        maybe_written: false,
        fails_alone: piece.failure.is_some(),
        stage: piece.failure.map_or(Stage::Waiting, |error| Stage::Decided(Err(error))),
    }
}

fn with_source(error: Error, source: Option<Error>) -> Error {
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}

//! What a response, or the lack of one, means for a batch.
//!
//! Afterwards a batch is in one of four states: stored; definitely rejected, so that nothing of it is in the log; maybe
//! in the log; or never sent. Whatever is not clearly stored or rejected counts as maybe in the log.
//! `NOT_LEADER_OR_FOLLOWER` does, too: the old leader may have stored the batch before it stepped down.

use std::ops::Range;

use super::failure::Piece;
use super::{Batch, Partition, Rules, Stage};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Place, Written, printable_reason};
use crate::planted::{Bug, is_planted};
use crate::producer::completion::Acknowledged;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::produce::PartitionProduceResponse;

/// What a response says about one batch.
#[derive(Debug)]
pub(in crate::producer) enum BatchResponse {
    Partition(PartitionProduceResponse),
    /// With `acks=0` there is no response: the batch was written to the socket.
    NotExpected,
    /// The broker has none of the versions that the request needs, as this error says. Nothing was sent.
    NotSent(Error),
    /// There is none, because of this error.
    Missing(Error),
}

impl BatchResponse {
    /// Whether it says that the topic is kept in a format without sequence numbers.
    pub(in crate::producer) fn is_about_format(&self) -> bool {
        matches!(self, Self::Partition(answer) if answer.error_code == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT)
    }
}

/// If a broker names more bad records than this, the batch is halved instead of removing each of them.
const MOST_BAD_RECORDS: usize = 16;

impl Partition {
    /// Takes the batch out of flight and decides what happens to it. Returns whether the partition must back off.
    pub(in crate::producer) fn handle_answer(&mut self, id: u64, answer: BatchResponse, rules: Rules) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        // A batch that expired while it was in flight is reported or decided already.
        let Some(at) = self.queue.iter().position(|batch| batch.id == id && !batch.is_decided()) else { return false };
        self.update(at, |batch| batch.stage = Stage::Waiting);
        match answer {
            BatchResponse::NotExpected => self.acknowledge(at, None, None),
            BatchResponse::NotSent(error) => self.wait_for_other_format(at, error),
            BatchResponse::Missing(error) => self.handle_no_answer(at, error, rules),
            BatchResponse::Partition(answer) => {
                // Only a batch that was sent before can be a duplicate of itself. Otherwise another producer uses our
                // sequence numbers.
                let was_sent = self.queue.get(at).is_some_and(|batch| batch.maybe_written);
                match answer.error_code {
                    ErrorCode::NONE => self.acknowledge(at, Some(answer.base_offset), answer.log_append_time_ms),
                    ErrorCode::DUPLICATE_SEQUENCE_NUMBER if was_sent => {
                        self.acknowledge(at, Some(answer.base_offset), answer.log_append_time_ms)
                    }
                    _ => self.handle_error(at, &answer, rules),
                }
            }
        }
    }

    fn acknowledge(&mut self, at: usize, base_offset: Option<i64>, log_append_time_ms: Option<i64>) -> bool {
        self.failures = 0;
        self.last_error = None;
        // A renumbered batch is never in flight, so this response belongs to the current epoch. One without sequence
        // numbers tells nothing of it.
        self.sequences.acknowledged |= self.queue.get(at).is_some_and(|batch| batch.stamp.is_some());
        let acknowledged = Acknowledged {
            base_offset: base_offset.filter(|offset| *offset >= 0),
            log_append_time_ms: log_append_time_ms.filter(|time| *time >= 0),
        };
        self.update(at, |batch| batch.stage = Stage::Decided(Ok(acknowledged)));
        false
    }

    fn handle_no_answer(&mut self, at: usize, error: Error, rules: Rules) -> bool {
        let left = error.written() == Written::Maybe && !is_planted(Bug::LostAnswerIsNotWritten);
        self.update(at, |batch| batch.maybe_written |= left);
        let is_harmless = if error.kind() == ErrorKind::Malformed {
            rules.idempotent
        } else {
            error.is_retriable() && !(left && rules.acks == Acks::None)
        };
        if is_harmless {
            // The broker may have been restarted with another message.format.version.
            self.try_sequences();
            return self.retry(at, error, rules);
        }
        self.fail_at(at, Error::new(error.kind(), "the record was not delivered").with_source(error));
        false
    }

    fn handle_error(&mut self, at: usize, answer: &PartitionProduceResponse, rules: Rules) -> bool {
        let code = answer.error_code;
        let is_head = self.queue.iter().take(at).all(Batch::is_decided);
        let later_stored = self.queue.iter().skip(at).any(Batch::is_stored);
        let refused = code.appends_nothing()
            || is_planted(Bug::TimedOutIsNotWritten) && code == ErrorCode::REQUEST_TIMED_OUT
            || is_planted(Bug::NotLeaderIsNotWritten) && code == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        self.update(at, |batch| batch.maybe_written |= !refused);
        let maybe_written = self.queue.get(at).is_some_and(|batch| batch.maybe_written);
        let error = broker_error(answer, rules);
        if rules.idempotent && refused && later_stored && !maybe_written {
            // Sent again, the batch would come after a later record.
            self.fail_at(at, error);
            return false;
        }
        if rules.idempotent && !rules.needs_idempotence && code == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT {
            // A new leader may keep the topic in another format.
            self.sequences.unsupported = self.in_flight_to == self.leader;
            return self.wait_for_other_format(at, error);
        }
        if code.is_about_records() && !maybe_written {
            self.take_apart(at, answer, rules);
            return false;
        }
        if rules.idempotent && code.breaks_sequence() {
            if is_head && maybe_written {
                self.fail_at(at, error);
                return false;
            }
            if !is_head || self.sequences.broken {
                // The broker rejected it only because of what happened to a batch before it.
                self.draining = true;
                return false;
            }
            self.sequences.broken = true;
            return self.retry(at, error, rules);
        }
        if code.is_retriable() {
            self.sequences.broken |=
                is_planted(Bug::NotLeaderIsNotWritten) && code == ErrorCode::NOT_LEADER_OR_FOLLOWER;
            return self.retry(at, error, rules);
        }
        self.fail_at(at, error);
        false
    }

    /// Sends a batch again once its partition has drained, after a back-off.
    fn retry(&mut self, at: usize, cause: Error, rules: Rules) -> bool {
        if self.queue.get(at).is_some_and(|batch| batch.attempts > rules.retries) {
            let what = "the record was not acknowledged within the attempts that retries allows";
            self.fail_at(at, Error::new(ErrorKind::NotDelivered, what).with_source(cause));
            return false;
        }
        if is_planted(Bug::RetriesInHalves)
            && let Some(count @ 2..) = self.queue.get(at).map(|batch| batch.count)
        {
            let halves = [0..count / 2, count / 2..count].map(|range| Piece { range, failure: None });
            self.replace_by_pieces(at, halves.into());
        }
        self.wait_to_retry(cause)
    }

    /// Like [`retry`](Self::retry), for a batch that has to go in another format: this attempt does not count.
    fn wait_for_other_format(&mut self, at: usize, cause: Error) -> bool {
        self.update(at, |batch| batch.attempts = batch.attempts.saturating_sub(1));
        self.wait_to_retry(cause)
    }

    fn wait_to_retry(&mut self, cause: Error) -> bool {
        self.draining = true;
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(cause);
        true
    }

    /// Separates the rejected records from the others of their batch.
    fn take_apart(&mut self, at: usize, answer: &PartitionProduceResponse, rules: Rules) {
        let (count, attempts) = self.update(at, |batch| (batch.count, batch.attempts)).unwrap_or_default();
        let place = Place { attempts: Some(attempts), ..Place::default() };
        let error = broker_error(answer, rules).with_written(Written::No);
        let error = error.at_partition(&self.topic_name, self.index).at(place);
        let pieces = match bad_records(count, answer) {
            _ if count <= 1 => vec![Piece { range: 0..count, failure: Some(error) }],
            Some(bad) => pieces_around(count, &bad, &error),
            None => {
                let middle = count / 2;
                let piece = |range: Range<u32>| Piece { range, failure: None };
                vec![piece(0..middle), piece(middle..count)]
            }
        };
        self.replace_by_pieces(at, pieces);
    }
}

fn broker_error(answer: &PartitionProduceResponse, rules: Rules) -> Error {
    const LONGEST_MESSAGE: usize = 500;
    let code = answer.error_code;
    let message = answer.error_message.as_deref().filter(|message| !message.is_empty());
    let error = match message {
        Some(message) => {
            let message: String = message.chars().take(LONGEST_MESSAGE).collect();
            Error::new(ErrorKind::Broker(code), format!("the broker answered {code} ({})", printable_reason(&message)))
        }
        None => Error::new(ErrorKind::Broker(code), format!("the broker answered {code}")),
    };
    if code == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT {
        return error.with_hint(if rules.needs_idempotence {
            "the topic is kept in a format from before Kafka 0.11: leave out enable.idempotence, or set \
             message.format.version to 0.11.0 or newer"
        } else {
            "the topic is kept in a format from before Kafka 0.11: send the records without headers, or set \
             message.format.version to 0.11.0 or newer"
        });
    }
    error
}

/// The indices of the bad records, if the broker names them and they are few.
fn bad_records(count: u32, answer: &PartitionProduceResponse) -> Option<Vec<u32>> {
    if answer.error_code.is_about_size() || answer.record_errors.len() > MOST_BAD_RECORDS {
        return None;
    }
    let indices = answer.record_errors.iter().filter_map(|error| u32::try_from(error.batch_index).ok());
    let mut bad: Vec<u32> = indices.filter(|index| *index < count).collect();
    bad.sort_unstable();
    bad.dedup();
    (!bad.is_empty()).then_some(bad)
}

fn pieces_around(count: u32, bad: &[u32], error: &Error) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut next = 0;
    for index in bad {
        if next < *index {
            pieces.push(Piece { range: next..*index, failure: None });
        }
        pieces.push(Piece { range: *index..index + 1, failure: Some(error.clone()) });
        next = index + 1;
    }
    if next < count {
        pieces.push(Piece { range: next..count, failure: None });
    }
    pieces
}

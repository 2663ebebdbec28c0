//! What an answer, or the lack of one, means for each batch of a request.
//!
//! Four things can be true of a batch afterwards: it is stored; it was definitely refused, so that nothing of it is
//! in the log; it may be in the log; or it never left. Whatever is not clearly one of the first two counts as the
//! third. In particular *not leader* does: the old leader may have stored the batch before it stepped down.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::accumulator::Batch;
use super::completion::Acknowledged;
use super::identity::Identity;
use super::retry::Piece;
use super::sender::{ProducerResponse, Sent, SentBatch};
use super::{PartitionId, Producer, ProducerEvent};
use crate::cluster::{Broker, LeaderHint, Notice};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result, Written, printable};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::ProduceResponse;
use crate::wire::messages::produce::PartitionProduceResponse;
use crate::wire::primitives::Uuid;

/// What is known of one batch of an answered request.
enum Answer {
    Broker(PartitionProduceResponse),
    /// With `acks=0`: it was written to the socket.
    Unconfirmed,
    None(Error),
}

/// More bad records than this are not picked out one by one; the batch is halved instead.
const MOST_BAD_RECORDS: usize = 16;

/// Whether the code says that nothing was appended.
fn is_definite_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::CORRUPT_MESSAGE
            | ErrorCode::INVALID_RECORD
            | ErrorCode::INVALID_TIMESTAMP
            | ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_REQUIRED_ACKS
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
            | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
            | ErrorCode::POLICY_VIOLATION
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::PRODUCER_FENCED
    )
}

/// Whether the code says that the broker and we disagree about the sequence of the partition.
fn is_broken_sequence(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
    )
}

/// Whether the code is about single records, not about the partition or us.
fn is_about_records(code: ErrorCode) -> bool {
    is_about_size(code) || matches!(code, ErrorCode::INVALID_RECORD | ErrorCode::INVALID_TIMESTAMP)
}

fn is_about_size(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE)
}

fn other_request() -> Error {
    Error::new(ErrorKind::Malformed, "the answer belongs to another request")
}

impl Producer {
    /// Takes notice of how a request ended: with a response, or without one.
    ///
    /// An error's `written()` says whether a byte of the request may have reached the broker. With `acks=0` an empty
    /// response means that the request was written. An `id` that is not, or no longer, in flight is ignored.
    pub fn handle_response(&mut self, now: Instant, id: u64, result: Result<ProducerResponse>) {
        if self.identity.is_asked_by(id) {
            let result = result.and_then(|response| match response {
                ProducerResponse::InitProducerId(response) => Ok(response),
                ProducerResponse::Produce(_) => Err(other_request()),
            });
            return self.handle_init_producer_id(now, result);
        }
        let Some(sent) = self.requests.remove(&id) else { return };
        let result = result.and_then(|response| match response {
            ProducerResponse::Produce(response) => Ok(response),
            ProducerResponse::InitProducerId(_) => Err(other_request().with_written(Written::Maybe)),
        });
        if let Some(ready) = self.ready.get_mut(&sent.broker_id) {
            ready.in_flight = ready.in_flight.saturating_sub(1);
        }
        let answers = match result {
            Ok(_) if self.config.acks == Acks::None => sent.batches.iter().map(|_| Answer::Unconfirmed).collect(),
            Ok(response) => self.match_answers(&sent, response),
            Err(error) => {
                self.refresh_metadata |= matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut(_));
                sent.batches.iter().map(|_| Answer::None(error.clone())).collect()
            }
        };
        for (batch, answer) in sent.batches.iter().zip(answers) {
            self.settle(now, batch, answer);
        }
        for batch in &sent.batches {
            self.advance(now, batch.partition);
        }
    }

    /// The answer to each batch of the request; an answer that is missing or not unique is none.
    fn match_answers(&mut self, sent: &Sent, response: ProduceResponse) -> Vec<Answer> {
        let mut places = BTreeMap::new();
        let mut topic_ids = BTreeMap::new();
        for (place, batch) in sent.batches.iter().enumerate() {
            places.insert((batch.topic, batch.index), place);
            topic_ids.insert(batch.topic_id.0, batch.topic);
        }
        let mut answers: Vec<(u32, Option<PartitionProduceResponse>)> =
            sent.batches.iter().map(|_| (0, None)).collect();
        let mut hints = Vec::new();
        for topic in response.responses {
            let index = match topic.topic_id {
                Uuid::ZERO => self.names.get(topic.name.as_str()).copied(),
                topic_id => topic_ids.get(&topic_id.0).copied(),
            };
            let Some(index) = index else { continue };
            for partition in topic.partition_responses {
                let Some(place) = places.get(&(index, partition.index)) else { continue };
                hints.extend(self.leader_hint(index, &partition));
                if let Some((times, answer)) = answers.get_mut(*place) {
                    *times += 1;
                    *answer = Some(partition);
                }
            }
        }
        if !hints.is_empty() {
            let endpoints = response.node_endpoints.into_iter();
            let endpoints = endpoints.filter_map(|node| Broker::new(node.node_id, &node.host, node.port, node.rack));
            self.events.push_back(ProducerEvent::Notice(Notice::LeaderHints { hints, endpoints: endpoints.collect() }));
        }
        let answers = answers.into_iter().map(|answer| match answer {
            (1, Some(partition)) => Answer::Broker(partition),
            (times, _) => {
                let what = format!("the broker answered {times} times for the partition instead of once");
                Answer::None(Error::new(ErrorKind::Malformed, what).with_written(Written::Maybe))
            }
        });
        answers.collect()
    }

    fn leader_hint(&self, topic: super::TopicIndex, partition: &PartitionProduceResponse) -> Option<LeaderHint> {
        if !partition.error_code.refreshes_metadata() {
            return None;
        }
        let leader = partition.current_leader.leader_id.filter(|id| *id >= 0)?;
        let topic = Arc::clone(&self.topics.get(topic.index())?.name);
        let leader_epoch = partition.current_leader.leader_epoch;
        Some(LeaderHint { topic, partition: partition.index, leader, leader_epoch })
    }

    /// Notes that a batch is no longer in flight and decides what follows.
    fn settle(&mut self, now: Instant, sent: &SentBatch, answer: Answer) {
        let id = sent.partition;
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        let Some(at) = state.queue.iter().position(|batch| batch.id == sent.batch) else { return };
        let Some(batch) = state.queue.get_mut(at) else { return };
        batch.in_flight = false;
        if batch.outcome.is_some() {
            return;
        }
        match answer {
            Answer::Unconfirmed => self.acknowledge(id, at, None, None),
            Answer::None(error) => self.handle_no_answer(now, id, at, error),
            Answer::Broker(partition) => match partition.error_code {
                ErrorCode::NONE => {
                    self.acknowledge(id, at, Some(partition.base_offset), partition.log_append_time_ms);
                }
                // Only what was sent before can be a duplicate of ours; else somebody has our numbers.
                ErrorCode::DUPLICATE_SEQUENCE_NUMBER if batch.maybe_written => {
                    self.acknowledge(id, at, Some(partition.base_offset), partition.log_append_time_ms);
                }
                _ => self.handle_error(now, id, at, &partition),
            },
        }
    }

    fn acknowledge(&mut self, id: PartitionId, at: usize, base_offset: Option<i64>, log_append_time_ms: Option<i64>) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        state.failures = 0;
        state.last_error = None;
        let Some(batch) = state.queue.get_mut(at) else { return };
        // A batch that was renumbered since cannot be in flight, so this is about the present epoch.
        state.sequences.acknowledged = true;
        batch.outcome = Some(Ok(Acknowledged {
            base_offset: base_offset.filter(|offset| *offset >= 0),
            log_append_time_ms: log_append_time_ms.filter(|time| *time >= 0),
        }));
    }

    fn handle_no_answer(&mut self, now: Instant, id: PartitionId, at: usize, error: Error) {
        let idempotent = !matches!(self.identity, Identity::Off);
        let Some(batch) = self.batch_mut(id, at) else { return };
        let left = error.written() == Written::Maybe;
        batch.maybe_written |= left;
        let again = match error.kind() {
            ErrorKind::Malformed => idempotent,
            _ => error.is_retriable() && !(left && self.config.acks == Acks::None),
        };
        if again {
            return self.retry(now, id, at, error);
        }
        let error = Error::new(error.kind(), "the record was not delivered").with_source(error);
        self.fail_at(id, at, error);
    }

    fn handle_error(&mut self, now: Instant, id: PartitionId, at: usize, answer: &PartitionProduceResponse) {
        let idempotent = !matches!(self.identity, Identity::Off);
        let code = answer.error_code;
        self.refresh_metadata |= code.refreshes_metadata();
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        let is_head = !state.queue.iter().take(at).any(|batch| batch.outcome.is_none());
        let later_stored = state.queue.iter().skip(at).any(|batch| matches!(batch.outcome, Some(Ok(_))));
        let Some(batch) = state.queue.get_mut(at) else { return };
        let refused = is_definite_refusal(code);
        batch.maybe_written |= !refused;
        let error = broker_error(answer);
        if idempotent && refused && later_stored && !batch.maybe_written {
            // Sent again it would stand behind a later record.
            return self.fail_at(id, at, error);
        }
        if is_about_records(code) && !batch.maybe_written {
            return self.take_apart(id, at, answer);
        }
        if idempotent && is_broken_sequence(code) {
            if is_head && batch.maybe_written {
                return self.fail_at(id, at, error);
            }
            if !is_head || state.sequences.broken {
                // Only a consequence of what became of a batch before it.
                state.draining = true;
                return;
            }
            state.sequences.broken = true;
            return self.retry(now, id, at, error);
        }
        if code.is_retriable() {
            return self.retry(now, id, at, error);
        }
        self.fail_at(id, at, error);
    }

    /// Separates the records that were refused for their own sake from their neighbours.
    fn take_apart(&mut self, id: PartitionId, at: usize, answer: &PartitionProduceResponse) {
        let Some(batch) = self.batch_mut(id, at) else { return };
        let (count, attempts) = (batch.count, batch.attempts);
        let error = broker_error(answer).with_written(Written::No);
        let place = crate::error::Place { attempts: Some(attempts), ..Default::default() };
        let error = error.at_partition(batch.completion.topic(), batch.completion.partition()).at(place);
        let pieces = match bad_records(count, answer) {
            _ if count <= 1 => vec![Piece { range: 0..count, failure: Some(error) }],
            Some(bad) => pieces_around(count, &bad, &error),
            None => {
                let middle = count / 2;
                let piece = |range: Range<u32>| Piece { range, failure: None };
                vec![piece(0..middle), piece(middle..count)]
            }
        };
        self.replace_by_pieces(id, at, pieces);
    }

    fn batch_mut(&mut self, id: PartitionId, at: usize) -> Option<&mut Batch> {
        self.partitions.get_mut(id.index())?.queue.get_mut(at)
    }
}

fn broker_error(answer: &PartitionProduceResponse) -> Error {
    const LONGEST_MESSAGE: usize = 500;
    let code = answer.error_code;
    let message = answer.error_message.as_deref().filter(|message| !message.is_empty());
    match message {
        Some(message) => {
            let message: String = message.chars().take(LONGEST_MESSAGE).collect();
            Error::new(ErrorKind::Broker(code), format!("the broker answered {code} ({})", printable(&message)))
        }
        None => Error::new(ErrorKind::Broker(code), format!("the broker answered {code}")),
    }
}

/// The indices the broker names as bad, if it names a usable and small number of them.
fn bad_records(count: u32, answer: &PartitionProduceResponse) -> Option<Vec<u32>> {
    if is_about_size(answer.error_code) || answer.record_errors.len() > MOST_BAD_RECORDS {
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

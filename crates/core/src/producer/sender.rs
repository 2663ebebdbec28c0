//! What goes out: producer ids to ask for, and produce requests.
//!
//! A request carries one batch of every partition of its leader that has something to send, up to
//! `max.request.size`. Here batches get their sequence numbers; sealing them (compression, CRC) is left to
//! [`ProduceToSend::seal`], which runs without the producer's lock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::accumulator::{Batch, Partition, Payload};
use super::identity::{Identity, ProducerId, sequence_after};
use super::{PartitionId, Producer, TopicIndex};
use crate::cluster::{Call, Owner, Target};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse};
use crate::wire::primitives::Uuid;
use crate::wire::records::{Compressor, ProducerStamp};

/// The newest version of Produce that names topics; later ones have ids alone (KIP-516).
const PRODUCE_BY_NAME: i16 = 12;

/// The partitions of one leader that have something to send, and how much it is busy with.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) partitions: VecDeque<PartitionId>,
    pub(super) in_flight: usize,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) broker_id: i32,
    pub(super) batches: Vec<SentBatch>,
}

/// Which batch of which partition a request carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentBatch {
    pub(super) partition: PartitionId,
    pub(super) batch: u64,
    pub(super) topic: TopicIndex,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
}

/// Something for the driver to send.
#[derive(Debug)]
pub enum ProducerRequest {
    /// Asks for a producer id.
    InitProducerId(InitProducerIdRequest),
    /// Asks the leader of some partitions to append batches to them.
    Produce(ProduceToSend),
}

/// What a broker answered.
#[derive(Debug)]
pub enum ProducerResponse {
    /// To [`ProducerRequest::InitProducerId`].
    InitProducerId(InitProducerIdResponse),
    /// To [`ProducerRequest::Produce`].
    Produce(ProduceResponse),
}

/// A produce request that is complete but for sealing its batches.
///
/// Requests to one broker must reach its connection in the order they were polled.
#[derive(Debug)]
pub struct ProduceToSend {
    acks: i16,
    timeout_ms: i32,
    batches: Vec<BatchToSend>,
}

#[derive(Debug)]
struct BatchToSend {
    topic: Arc<str>,
    topic_id: Uuid,
    partition: i32,
    bytes: usize,
    stamp: Option<ProducerStamp>,
    payload: Arc<Payload>,
}

impl ProduceToSend {
    /// The bytes of the batches that are not sealed yet, before compression: how much work [`seal`](Self::seal) is.
    pub fn unsealed_bytes(&self) -> usize {
        self.batches.iter().filter(|batch| batch.payload.is_unsealed()).map(|batch| batch.bytes).sum()
    }

    /// Seals what is not sealed yet and makes the request of it.
    ///
    /// # Errors
    ///
    /// Those of the codec; no byte was sent, so they go to [`Producer::handle_response`] as they are.
    pub fn seal(self, compressor: &mut Compressor) -> Result<ProduceRequest> {
        let mut topic_data: Vec<TopicProduceData> = Vec::new();
        let mut of_topic: Option<Arc<str>> = None;
        for batch in self.batches {
            let records = Some(batch.payload.seal(batch.stamp, compressor)?);
            let data = PartitionProduceData { index: batch.partition, records };
            match topic_data.last_mut() {
                Some(topic) if of_topic.as_ref() == Some(&batch.topic) => topic.partition_data.push(data),
                _ => topic_data.push(TopicProduceData {
                    name: batch.topic.as_ref().into(),
                    topic_id: batch.topic_id,
                    partition_data: vec![data],
                }),
            }
            of_topic = Some(batch.topic);
        }
        let (acks, timeout_ms) = (self.acks, self.timeout_ms);
        Ok(ProduceRequest { transactional_id: None, acks, timeout_ms, topic_data })
    }
}

impl Producer {
    /// The next request to send; ask until there is none.
    ///
    /// With `acks=0` a produce request is not answered: an empty response is handed in once it is written.
    pub fn poll_request(&mut self, now: Instant) -> Option<Call<ProducerRequest>> {
        self.expire(now);
        self.ripen_due(now);
        self.retry_due(now);
        if let Some(request) = self.poll_init_producer_id(now) {
            return Some(request);
        }
        let limit = self.config.max_in_flight;
        loop {
            let (broker_id, _) =
                self.ready.iter().find(|(_, ready)| ready.in_flight < limit && !ready.partitions.is_empty())?;
            let broker_id = *broker_id;
            if let Some(request) = self.fill_request(now, broker_id) {
                return Some(request);
            }
        }
    }

    fn poll_init_producer_id(&mut self, now: Instant) -> Option<Call<ProducerRequest>> {
        if self.ledger.is_empty() || !matches!(self.identity, Identity::Wanted(at) if at <= now) {
            return None;
        }
        self.next_request_id += 1;
        let id = self.next_request_id;
        self.identity = Identity::Asked(id);
        let request = InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..Default::default() };
        let failures = self.identity_failures;
        Some(Call { id, failures, ..Call::new(Target::Any, ProducerRequest::InitProducerId(request)) })
    }

    /// Takes notice of a producer id, or of why there is none yet.
    pub(super) fn handle_init_producer_id(&mut self, now: Instant, result: Result<InitProducerIdResponse>) {
        let response = result.and_then(|response| match Error::from_code(response.error_code) {
            None => Ok(response),
            Some(error) => Err(error),
        });
        let error = match response {
            Ok(response) => match response.producer_id.filter(|id| *id >= 0 && response.producer_epoch >= 0) {
                Some(producer_id) => return self.adopt_identity(now, producer_id, response.producer_epoch),
                None => Error::new(ErrorKind::Malformed, "the broker gave no producer id"),
            },
            Err(error) => error,
        };
        let refused =
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Broker(ErrorCode::UNSUPPORTED_VERSION));
        if refused || matches!(error.code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)) {
            let what = "the cluster gives no producer id, which an idempotent producer needs";
            let hint = "set enable.idempotence to false to produce without";
            return self.fail_for_good(now, &Error::new(error.kind(), what).with_source(error).with_hint(hint));
        }
        if matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Closed) {
            self.fail_everything(now, &error);
        }
        self.identity_failures = self.identity_failures.saturating_add(1);
        let delay = self.backoff.delay(self.identity_failures, &mut self.random);
        self.identity = Identity::Wanted(now + delay);
        // What times out meanwhile names this as its cause.
        for state in &mut self.partitions {
            if state.sequences.needs_identity() {
                state.last_error = Some(error.clone());
            }
        }
    }

    fn adopt_identity(&mut self, now: Instant, producer_id: i64, producer_epoch: i16) {
        self.identity_failures = 0;
        self.identity = Identity::Known(ProducerId { producer_id, producer_epoch });
        for id in 0..self.partitions.len() as u32 {
            self.consider(now, PartitionId(id));
        }
    }

    /// Lists a partition at its leader if it has something that can go now. True if the sending task must look.
    pub(super) fn consider(&mut self, now: Instant, id: PartitionId) -> bool {
        let Some(state) = self.partitions.get(id.index()) else { return false };
        if state.next_bytes().is_none() {
            return false;
        }
        let Some(leader) = state.leader else {
            self.refresh_metadata = true;
            return true;
        };
        if state.sequences.needs_identity() && matches!(self.identity, Identity::Wanted(_)) {
            return true;
        }
        if state.listed == Some(leader) || !self.can_send(now, state) {
            return false;
        }
        if let Some(state) = self.partitions.get_mut(id.index()) {
            state.listed = Some(leader);
        }
        let ready = self.ready.entry(leader).or_default();
        ready.partitions.push_back(id);
        ready.in_flight < self.config.max_in_flight
    }

    fn can_send(&self, now: Instant, state: &Partition) -> bool {
        let limit = match &self.identity {
            Identity::Off => self.config.max_in_flight,
            Identity::Wanted(_) | Identity::Asked(_) if state.sequences.needs_identity() => return false,
            _ if state.sequences.acknowledged => self.config.max_in_flight,
            _ => 1,
        };
        // A broker knows the last five batches it stored. What is stored but waits for the report of one before it counts
        // too, or that one could fall out of the broker's memory while it is sent again.
        let unresolved = state.next_waiting().unwrap_or(state.queue.len());
        !state.draining
            && state.in_flight.max(unresolved) < limit
            && (state.in_flight == 0 || state.in_flight_to == state.leader)
            && state.retry_at.is_none_or(|at| at <= now)
    }

    fn fill_request(&mut self, now: Instant, broker_id: i32) -> Option<Call<ProducerRequest>> {
        let mut batches: Vec<(SentBatch, BatchToSend)> = Vec::new();
        let mut taken_bytes = 0usize;
        let mut again = Vec::new();
        while let Some(id) = self.ready.get_mut(&broker_id).and_then(|ready| ready.partitions.pop_front()) {
            let Some(state) = self.partitions.get_mut(id.index()) else { continue };
            if state.listed != Some(broker_id) {
                continue;
            }
            state.listed = None;
            let bytes = state.next_bytes().unwrap_or_default();
            let stays = state.leader == Some(broker_id);
            if !stays || !self.partitions.get(id.index()).is_some_and(|state| self.can_send(now, state)) {
                again.push(id);
                continue;
            }
            if !batches.is_empty() && taken_bytes.saturating_add(bytes) > self.config.max_request_size {
                again.push(id);
                break;
            }
            if let Some(batch) = self.take_batch(id, broker_id) {
                taken_bytes = taken_bytes.saturating_add(bytes);
                batches.push(batch);
                again.push(id);
            }
        }
        for id in again {
            self.consider(now, id);
        }
        if batches.is_empty() {
            return None;
        }
        batches.sort_by_key(|(sent, _)| (sent.topic, sent.index));
        Some(self.send(broker_id, batches))
    }

    fn send(&mut self, broker_id: i32, batches: Vec<(SentBatch, BatchToSend)>) -> Call<ProducerRequest> {
        self.next_request_id += 1;
        let id = self.next_request_id;
        let (sent, batches): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        self.requests.insert(id, Sent { broker_id, batches: sent });
        self.ready.entry(broker_id).or_default().in_flight += 1;
        let every_id_known = batches.iter().all(|batch| batch.topic_id != Uuid::ZERO);
        let request = ProduceToSend {
            acks: self.config.acks.to_wire(),
            timeout_ms: i32::try_from(self.config.ack_timeout.as_millis()).unwrap_or(i32::MAX),
            batches,
        };
        Call {
            id,
            owner: Owner::Produce,
            max_version: if every_id_known { i16::MAX } else { PRODUCE_BY_NAME },
            is_answered: self.config.acks != Acks::None,
            ..Call::new(Target::Broker(broker_id), ProducerRequest::Produce(request))
        }
    }

    /// Takes the next batch of a partition into a request.
    fn take_batch(&mut self, id: PartitionId, broker_id: i32) -> Option<(SentBatch, BatchToSend)> {
        let open_goes = self.partitions.get(id.index())?.next_waiting().is_none();
        if open_goes {
            self.close_open(id);
        }
        let idempotent = !matches!(self.identity, Identity::Off);
        let state = self.partitions.get_mut(id.index())?;
        if let Identity::Known(identity) = self.identity {
            state.sequences.adopt(identity);
        }
        let at = state.next_waiting()?;
        let count = state.queue.get(at)?.count;
        if idempotent && state.queue.get(at)?.stamp.is_none() {
            let stamp = state.sequences.stamp(count);
            state.queue.get_mut(at)?.stamp = stamp;
        }
        if idempotent && !follows_its_predecessor(&state.queue, at) {
            self.poison("two batches of a partition would be sent with sequence numbers that do not follow each other");
            return None;
        }
        let topic = self.topics.get(state.topic.index())?;
        let batch = state.queue.get_mut(at)?;
        batch.attempts = batch.attempts.saturating_add(1);
        batch.in_flight = true;
        state.in_flight += 1;
        state.in_flight_to = Some(broker_id);
        state.retry_at = None;
        let (topic_id, index) = (topic.topic_id, state.index);
        let sent = SentBatch { partition: id, batch: batch.id, topic: state.topic, topic_id, index };
        let to_send = BatchToSend {
            topic: Arc::clone(&topic.name),
            topic_id,
            partition: index,
            bytes: batch.bytes,
            stamp: batch.stamp,
            payload: Arc::clone(&batch.payload),
        };
        Some((sent, to_send))
    }
}

/// Whether a batch has the numbers right after those of the batch before it, if both are of one epoch.
fn follows_its_predecessor(queue: &VecDeque<Batch>, at: usize) -> bool {
    let Some(stamp) = queue.get(at).and_then(|batch| batch.stamp) else { return false };
    let Some(before) = at.checked_sub(1).and_then(|at| queue.get(at)) else { return true };
    let Some(stamp_before) = before.stamp else { return true };
    let same_epoch =
        (stamp.producer_id, stamp.producer_epoch) == (stamp_before.producer_id, stamp_before.producer_epoch);
    !same_epoch
        || before.outcome.as_ref().is_some_and(Result::is_err)
        || stamp.base_sequence == sequence_after(stamp_before.base_sequence, before.count)
}

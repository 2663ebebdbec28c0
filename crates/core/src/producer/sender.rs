//! Builds the requests: `InitProducerId` and `Produce`.
//!
//! A produce request carries one batch of each ready partition of its leader, up to `max.request.size`. Batches get
//! their sequence numbers here. Sealing them (CRC, and compressing what is small) is left to [`ProduceToSend::seal`],
//! which runs without the producer's lock.

use std::sync::Arc;

use super::compression::Allowance;
use super::identity::ProducerId;
use super::lane::Lane;
use super::leaders::Destination;
use super::partition::{Partition, Payload, Rules, Taken};
use super::{LaneId, PartitionId, Producer, TopicIndex};
use crate::cluster::{Call, Owner, Target};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::produce::{PRODUCE_BY_NAME, PartitionProduceData, TopicProduceData};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse};
use crate::wire::primitives::Uuid;
use crate::wire::records::{Compressor, Format, ProducerStamp};

/// A produce request in flight.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) to: Destination,
    pub(super) format: Format,
    pub(super) batches: Vec<SentBatch>,
}

/// A batch in a request, and its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentBatch {
    pub(super) partition: PartitionId,
    /// The rules that it was sent by.
    pub(super) rules: Rules,
    pub(super) batch: u64,
    pub(super) topic: TopicIndex,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
}

/// A request for the driver to send.
#[derive(Debug)]
pub enum ProducerRequest {
    /// Asks for the newest version of `Produce` that both sides support.
    Versions,
    /// Asks for a producer id and epoch.
    InitProducerId(InitProducerIdRequest),
    /// Asks a leader to append batches to some of its partitions.
    Produce(ProduceToSend),
}

/// A response to a [`ProducerRequest`].
#[derive(Debug)]
pub enum ProducerResponse {
    /// To [`ProducerRequest::Versions`].
    Versions {
        /// The newest common version of `Produce`.
        produce: i16,
    },
    /// To [`ProducerRequest::InitProducerId`].
    InitProducerId(InitProducerIdResponse),
    /// To [`ProducerRequest::Produce`].
    Produce(ProduceResponse),
}

/// A produce request whose batches may not be sealed yet.
///
/// Requests to one broker must be written in the order in which they were polled.
#[derive(Debug)]
pub struct ProduceToSend {
    acks: i16,
    timeout_ms: i32,
    format: Format,
    batches: Vec<BatchToSend>,
}

#[derive(Debug)]
struct BatchToSend {
    topic: Arc<str>,
    topic_id: Uuid,
    partition: i32,
    stamp: Option<ProducerStamp>,
    payload: Arc<Payload>,
}

impl ProduceToSend {
    /// Seals the batches that are not sealed yet, and builds the request. Call it outside locks. Large batches are
    /// compressed already; what is left takes about a millisecond, more for pieces of a batch that was too large.
    ///
    /// # Errors
    ///
    /// Those of the codec. Nothing was sent; pass the error to [`Producer::handle_response`].
    pub fn seal(self, compressor: &mut Compressor) -> Result<ProduceRequest> {
        let mut topic_data: Vec<TopicProduceData> = Vec::new();
        let mut of_topic: Option<Arc<str>> = None;
        for batch in self.batches {
            let records = Some(batch.payload.seal(self.format, batch.stamp, compressor)?);
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
    /// The next request to send; call it until it returns `None`.
    ///
    /// With `acks=0` a produce request gets no response: pass in an empty one once the request is written.
    pub fn poll_request(&mut self, now: Instant) -> Option<Call<ProducerRequest>> {
        self.forget_in_time(now);
        self.expire(now);
        self.end_due_lingers(now);
        self.retry_due(now);
        self.ask_for_leaders(now);
        self.give_up_deleted(now);
        let request = match self.poll_versions() {
            Some(request) => Some(request),
            None => self.poll_init_producer_id(now).or_else(|| self.poll_produce(now)),
        };
        self.check();
        request.filter(|_| !self.has_failed())
    }

    fn poll_init_producer_id(&mut self, now: Instant) -> Option<Call<ProducerRequest>> {
        if self.ledger.is_empty() {
            return None;
        }
        let leads = |leader, lane: &Lane| {
            let mut waiting = lane.waiting().iter().filter_map(|id| self.partitions.find(*id));
            waiting.any(|partition| partition.leader() == Some(leader))
        };
        self.lanes.ask_instead_of_moved(now, leads);
        let (_, lane) = self.lanes.next_wanting().filter(|(at, _)| *at <= now)?;
        if self.give_up_without_id(now, lane) {
            return self.poll_init_producer_id(now);
        }
        let leader = self.leader_to_ask(lane);
        self.next_request_id += 1;
        let id = self.next_request_id;
        let failures = self.lanes.ask(lane, id, leader.map(|(broker_id, _)| broker_id));
        let target = leader.map_or(Target::Any, |(broker_id, _)| Target::Broker(broker_id));
        let request = InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..Default::default() };
        let call = Call::new(target, ProducerRequest::InitProducerId(request));
        Some(Call { id, failures, timeout: leader.map(|(_, patience)| patience), ..call })
    }

    /// Takes a producer id, or the reason why there is none yet. `leader` was asked; `None` if any broker was.
    pub(super) fn handle_init_producer_id(
        &mut self,
        now: Instant,
        lane: LaneId,
        leader: Option<i32>,
        result: Result<InitProducerIdResponse>,
    ) {
        let response = result.and_then(|response| match Error::from_code(response.error_code) {
            None => Ok(response),
            Some(error) => Err(error),
        });
        let error = match response {
            Ok(response) => match response.producer_id.filter(|id| *id >= 0 && response.producer_epoch >= 0) {
                Some(producer_id) => {
                    let identity = ProducerId { producer_id, producer_epoch: response.producer_epoch };
                    return self.adopt_identity(now, lane, identity);
                }
                None => Error::new(ErrorKind::Malformed, "the broker gave no producer id"),
            },
            Err(error) => error,
        };
        let refused =
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Broker(ErrorCode::UNSUPPORTED_VERSION));
        let hint = "set enable.idempotence to false to produce without one";
        if refused && leader.is_none() && !self.lanes.get(lane).asks_leaders() {
            return self.lanes.update(lane, |lane| lane.ask_leaders(now));
        }
        if let Some(leader) = leader.filter(|_| refused) {
            let what = "an idempotent producer needs a leader that assigns producer ids (Kafka 0.11 or newer does)";
            let error = Error::new(error.kind(), what).with_source(error).with_hint(hint);
            return self.handle_no_ids(now, lane, leader, &error);
        }
        if matches!(error.code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)) {
            let what = "the cluster does not allow this client a producer id, which an idempotent producer needs";
            return self.fail_for_good(now, &Error::new(error.kind(), what).with_source(error).with_hint(hint));
        }
        if matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Closed) {
            self.fail_everything(now, &error);
        }
        // A record that expires meanwhile names this error as its cause.
        let failures = self.lanes.update(lane, |lane| lane.handle_failure(error));
        let delay = self.backoff.delay(failures, &mut self.random);
        self.lanes.update(lane, |lane| lane.ask_again_at(now + delay));
    }

    fn adopt_identity(&mut self, now: Instant, lane: LaneId, identity: ProducerId) {
        for id in self.lanes.update(lane, |lane| lane.adopt(identity)) {
            self.go_on_with_identity(now, lane, id);
        }
    }

    /// Lets a partition go on that waited for the producer id of its lane. One that was removed meanwhile has nothing
    /// to send, and its number may be that of another lane's.
    pub(super) fn go_on_with_identity(&mut self, now: Instant, lane: LaneId, id: PartitionId) {
        if self.partitions.find(id).is_some_and(|partition| partition.lane() == lane) {
            self.partitions.get_mut(id).handle_identity();
            self.consider(now, id);
        }
    }

    fn poll_produce(&mut self, now: Instant) -> Option<Call<ProducerRequest>> {
        while let Some(to) = self.leaders.next() {
            let request = self.fill_request(now, to);
            if request.is_some() || self.has_failed() {
                return request;
            }
        }
        None
    }

    fn fill_request(&mut self, now: Instant, to: Destination) -> Option<Call<ProducerRequest>> {
        let mut batches: Vec<(SentBatch, BatchToSend)> = Vec::new();
        let mut taken_bytes = 0usize;
        let mut again = Vec::new();
        let mut allowance = Allowance::default();
        let format = self.format_of(to.broker_id);
        while let Some(id) = self.leaders.pop(to) {
            // The list may name a partition that was removed or has moved to another list. Keys are reused, so it may
            // even name a different partition now, with another producer id.
            let is_here = |partition: &Partition| partition.is_listed(to.broker_id) && partition.lane() == to.lane;
            if !self.partitions.find(id).is_some_and(is_here) {
                continue;
            }
            self.partitions.get_mut(id).unlist();
            again.push(id);
            let partition = self.partitions.get(id);
            let rules = self.rules_for(partition);
            // Since it was put on the list, its records may have expired, its leader may have changed, or the leader
            // may have been upgraded, so that its batches need sequence numbers now.
            let lacks_sequence = rules.idempotent && (partition.must_restart() || self.lacks_identity(partition));
            let may_send =
                partition.leader() == Some(to.broker_id) && partition.can_send(now, rules) && !lacks_sequence;
            let Some(bytes) = partition.next_bytes().filter(|_| may_send) else { continue };
            if !batches.is_empty() && taken_bytes.saturating_add(bytes) > self.config.max_request_size {
                break;
            }
            if format < partition.needs() {
                if partition.sends_open_batch() {
                    self.close_open(id);
                }
                self.partitions.get_mut(id).fail_not_carried(format);
                continue;
            }
            if self.compress_first(id, bytes, &mut allowance) {
                continue;
            }
            if let Some(batch) = self.take_batch(id, to, rules) {
                taken_bytes = taken_bytes.saturating_add(bytes);
                batches.push(batch);
            }
        }
        for id in again {
            self.advance(now, id);
        }
        if batches.is_empty() {
            return None;
        }
        batches.sort_by_key(|(sent, _)| (sent.topic, sent.index));
        self.look_again(now, to.broker_id);
        Some(self.send(to, batches))
    }

    fn send(&mut self, to: Destination, batches: Vec<(SentBatch, BatchToSend)>) -> Call<ProducerRequest> {
        self.next_request_id += 1;
        let id = self.next_request_id;
        let (sent, batches): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let format = self.format_of(to.broker_id);
        let (min_version, max_version) = self.versions_for(format);
        self.requests.insert(id, Sent { to, format, batches: sent });
        self.leaders.handle_sent(to);
        // Without sequence numbers, what a frozen broker has in its buffers would be stored when it thaws, and what was
        // sent again as well.
        let may_fail_early = batches.iter().all(|batch| batch.stamp.is_some());
        let every_id_known = batches.iter().all(|batch| batch.topic_id != Uuid::ZERO);
        let request = ProduceToSend {
            acks: self.config.acks.to_wire(),
            timeout_ms: i32::try_from(self.config.ack_timeout.as_millis()).unwrap_or(i32::MAX),
            format,
            batches,
        };
        Call {
            id,
            owner: Owner::Produce(self.number),
            min_version,
            max_version: if every_id_known { max_version } else { max_version.min(PRODUCE_BY_NAME) },
            is_answered: self.config.acks != Acks::None,
            may_fail_early,
            ..Call::new(Target::Broker(to.broker_id), ProducerRequest::Produce(request))
        }
    }

    /// Takes the next batch of a partition into a request.
    fn take_batch(&mut self, id: PartitionId, to: Destination, rules: Rules) -> Option<(SentBatch, BatchToSend)> {
        if self.partitions.get(id).sends_open_batch() {
            self.close_open(id);
        }
        let identity = self.lanes.get(to.lane).producer_id();
        let partition = self.partitions.get_mut(id);
        let Taken { batch, stamp, payload } = match partition.take_next(to.broker_id, identity, rules) {
            Ok(taken) => taken,
            Err(what) => {
                self.poison(what);
                return None;
            }
        };
        let (topic, index) = (partition.topic(), partition.index());
        let (name, topic_id) = {
            let topic = self.topics.get(topic);
            (Arc::clone(&topic.name), topic.id)
        };
        let sent = SentBatch { partition: id, rules, batch, topic, topic_id, index };
        Some((sent, BatchToSend { topic: name, topic_id, partition: index, stamp, payload }))
    }
}

//! Adapts the engine's machines to the form that [`client`](crate::client) drives.
//!
//! When the requests or events of a machine change, only this file of the simulator changes.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Call, Metadata, MetadataRefresh, Notice, Owner, Target};
use kavka_core::config::{ConsumerConfig, ProducerConfig};
use kavka_core::consumer::{
    BrokerVersions, Consumer, ConsumerEvent, ConsumerRequest, ConsumerResponse, RecordCursor, StartPosition,
    TopicPartition,
};
use kavka_core::error::{Error, Result, Written};
use kavka_core::link::Answer;
use kavka_core::producer::{
    Appended, BatchesToCompress, Completed, HandleId, Producer, ProducerEvent, ProducerRequest, ProducerResponse,
    TopicIndex,
};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::message::{Message, Request};
use kavka_core::wire::messages::{
    FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    ProduceRequest,
};
use kavka_core::wire::records::{BufferPool, Compressor, Decompressor};
use kavka_core::wire::{AnyRequest, ApiKey};

use crate::plan::PARTITIONS;
use crate::tap::Tap;

/// The topic that the producer writes.
pub(crate) const TOPIC: &str = "orders";
/// The topic that was written before the run.
pub(crate) const LEDGER: &str = "ledger";
/// The topic whose history changes, and how many of its partitions are read.
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const JOURNALS: i32 = 2;
/// The number of partitions that are read, of all topics together.
pub(crate) const READ: i32 = 2 * PARTITIONS + JOURNALS;
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a broker may leave a request unanswered that any other broker can answer.
const PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
pub(crate) const MOST_DECOMPRESSED: usize = 1 << 20;

/// The machine that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    Metadata,
    Producer,
    Consumer,
    /// A member of a group.
    Member,
    /// The look-up of a group's coordinator.
    Lookup,
}

/// Which of the connections to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Control,
    Produce,
    Fetch,
    Coordinator,
}

#[derive(Debug)]
pub(crate) enum Question {
    Request(Box<dyn AnyRequest>),
    /// The negotiated versions of the connection.
    Versions,
}

/// A request of a machine.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) asker: Asker,
    pub(crate) id: u64,
    pub(crate) target: Target,
    pub(crate) lane: Lane,
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    pub(crate) timeout: Duration,
    pub(crate) question: Question,
}

/// The response.
#[derive(Debug)]
pub(crate) enum Reply {
    Message(Answer),
    Versions { produce: i16, fetch: i16, list_offsets: i16 },
}

/// An event of a machine.
#[derive(Debug)]
pub(crate) enum MachineEvent {
    Notice(Notice),
    Completed(Completed),
    PartitionError(TopicPartition, Error),
    TopicError(Arc<str>, Error),
    Failed(Error),
    Reset(TopicPartition, i64, i64),
}

pub(crate) fn decode<R: Request>(reply: Reply) -> Result<R::Response> {
    match reply {
        Reply::Message(answer) => R::Response::decode_exact(answer.version, answer.body).map_err(|error| {
            // As in the real driver: the broker may well have executed the request.
            let error = Error::from(error);
            if R::KEY == ApiKey::Produce { error.with_written(Written::Maybe) } else { error }
        }),
        Reply::Versions { .. } => unreachable!("versions answer no message"),
    }
}

pub(crate) fn ask_metadata(refresh: &mut MetadataRefresh, now: Instant) -> Option<Ask> {
    let request = refresh.poll_request(now)?;
    Some(any(Asker::Metadata, 0, request))
}

pub(crate) fn answer_metadata(refresh: &mut MetadataRefresh, now: Instant, reply: Result<Reply>) {
    refresh.handle_response(now, reply.and_then(decode::<MetadataRequest>));
}

pub(crate) fn any(asker: Asker, id: u64, request: impl Request + 'static) -> Ask {
    let call = Call { id, ..Call::new(Target::Any, ()) };
    ask(asker, call, PATIENCE, Question::Request(Box::new(request)))
}

pub(crate) fn ask(asker: Asker, call: Call<()>, timeout: Duration, question: Question) -> Ask {
    let Call { id, target, owner, min_version, max_version, .. } = call;
    let lane = match owner {
        Owner::Control | Owner::Check => Lane::Control,
        Owner::Produce(_) => Lane::Produce,
        Owner::Fetch(_) => Lane::Fetch,
        Owner::Coordinator(_) => Lane::Coordinator,
    };
    Ask { asker, id, target, lane, min_version, max_version, timeout, question }
}

/// The producer machine, its handles, and the state of its role task.
#[derive(Debug)]
pub(crate) struct ProducerMachine {
    machine: Producer,
    compressor: Compressor,
    /// What the threads of a real client would compress now, and when they are done.
    compressing: Vec<(Instant, BatchesToCompress)>,
    random: Random,
    handles: Vec<(HandleId, TopicIndex)>,
    tap: Tap,
}

impl ProducerMachine {
    pub(crate) fn new(config: ProducerConfig, seed: u64) -> Self {
        let compressor = Compressor::new(config.compression).expect("the codec is known");
        let pool = BufferPool::new(4 << 20, Arc::new(|| ()));
        let machine = Producer::new(config, BACKOFF, pool, seed);
        Self {
            machine,
            compressor,
            compressing: Vec::new(),
            random: Random::new(seed),
            handles: Vec::new(),
            tap: Tap::default(),
        }
    }

    /// Opens one more handle, with the next number.
    pub(crate) fn open(&mut self, now: Instant, metadata: &Metadata) {
        let handle = self.machine.open(None);
        self.handles.push((handle, self.machine.topic(now, handle, TOPIC, metadata)));
    }

    /// Releases a handle; its records are still delivered.
    pub(crate) fn release(&mut self, now: Instant, handle: usize) {
        self.machine.release(now, self.handles[handle].0);
    }

    pub(crate) fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        self.machine.handle_metadata(now, metadata);
    }

    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        self.end_compressing(now);
        loop {
            let Some(call) = self.machine.poll_request(now) else {
                self.start_compressing(now);
                return None;
            };
            let (call, request) = call.take_body();
            match request {
                ProducerRequest::InitProducerId(request) => return Some(any(Asker::Producer, call.id, request)),
                ProducerRequest::Versions => {
                    return Some(ask(Asker::Producer, call, REQUEST_TIMEOUT, Question::Versions));
                }
                ProducerRequest::Produce(request) => match request.seal(&mut self.compressor) {
                    Err(error) => self.machine.handle_response(now, call.id, Err(error)),
                    Ok(request) => {
                        self.tap.handle_request(call.id, &request);
                        return Some(ask(Asker::Producer, call, REQUEST_TIMEOUT, Question::Request(Box::new(request))));
                    }
                },
            }
        }
    }

    fn start_compressing(&mut self, now: Instant) {
        while let Some(batches) = self.machine.poll_compression() {
            let done_at = now + Duration::from_millis(1 + self.random.below(40) as u64);
            self.compressing.push((done_at, batches));
        }
    }

    fn end_compressing(&mut self, now: Instant) {
        for (_, mut batches) in self.compressing.extract_if(.., |(done_at, _)| *done_at <= now) {
            batches.compress(&mut self.compressor);
            self.machine.handle_compressed(now, batches);
        }
    }

    pub(crate) fn answer(&mut self, now: Instant, id: u64, reply: Result<Reply>) {
        let response = reply.and_then(|reply| match &reply {
            Reply::Message(answer) if answer.key == ApiKey::InitProducerId => {
                decode::<InitProducerIdRequest>(reply).map(ProducerResponse::InitProducerId)
            }
            Reply::Versions { produce, .. } => Ok(ProducerResponse::Versions { produce: *produce }),
            Reply::Message(_) => decode::<ProduceRequest>(reply).map(ProducerResponse::Produce),
        });
        let produced = response.as_ref().ok().and_then(|response| match response {
            ProducerResponse::Produce(response) => Some(response),
            _ => None,
        });
        self.tap.handle_response(id, produced);
        self.machine.handle_response(now, id, response);
    }

    pub(crate) fn poll_event(&mut self) -> Option<MachineEvent> {
        Some(match self.machine.poll_event()? {
            ProducerEvent::Completed(completed) => MachineEvent::Completed(completed),
            ProducerEvent::Notice(notice) => MachineEvent::Notice(notice),
            ProducerEvent::OldFormat(topic) => panic!("no topic is kept in an old format, and yet {topic} is said to"),
            ProducerEvent::NoProducerIds(leader) => panic!("every broker assigns producer ids, and yet not {leader}"),
        })
    }

    /// Appends a record. `None` if there is no room, or the topic's metadata is not known yet.
    pub(crate) fn append(&mut self, now: Instant, handle: usize, partition: i32, value: &[u8]) -> Option<Appended> {
        self.machine.append(now, self.handles[handle].1, Some(partition), 0, None, Some(value), &[]).ok()
    }

    pub(crate) fn flush(&mut self, now: Instant, handle: usize) {
        self.machine.flush(now, self.handles[handle].0);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let compressed = self.compressing.iter().map(|(done_at, _)| *done_at);
        compressed.chain(self.machine.poll_timeout()).min()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }
}

/// A record that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) offset: i64,
    pub(crate) value: Vec<u8>,
}

/// The consumer machine, and the state of the thread that reads from it.
#[derive(Debug)]
pub(crate) struct ConsumerMachine {
    machine: Consumer,
    decompressor: Decompressor,
}

/// The topic and partition that the consumer reads under this number: first those of [`TOPIC`], then those of
/// [`LEDGER`], then those of [`JOURNAL`].
pub(crate) fn place(number: i32) -> (&'static str, i32) {
    [TOPIC, LEDGER, JOURNAL]
        .get((number / PARTITIONS) as usize)
        .map_or((JOURNAL, number), |topic| (*topic, number % PARTITIONS))
}

pub(crate) fn number(key: &TopicPartition) -> i32 {
    let topic = [TOPIC, LEDGER, JOURNAL].iter().position(|topic| **topic == *key.topic);
    key.partition + topic.map_or(0, |topic| topic as i32 * PARTITIONS)
}

fn key(number: i32) -> TopicPartition {
    let (topic, partition) = place(number);
    TopicPartition::new(topic, partition)
}

impl ConsumerMachine {
    pub(crate) fn new(config: ConsumerConfig, partitions: i32, seed: u64) -> Self {
        let mut machine = Consumer::new(config, BACKOFF, 1, seed);
        for partition in 0..partitions {
            machine.add(&key(partition), StartPosition::Earliest).expect("it is added once");
        }
        Self { machine, decompressor: Decompressor::new() }
    }

    pub(crate) fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        self.machine.handle_metadata(now, metadata);
    }

    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        Some(ask_for_consumer(self.machine.poll_request(now)?))
    }

    pub(crate) fn answer(&mut self, now: Instant, id: u64, reply: Result<Reply>) {
        self.machine.handle_response(now, id, reply.and_then(decode_for_consumer));
    }

    pub(crate) fn poll_event(&mut self) -> Option<MachineEvent> {
        next_event(&mut self.machine)
    }

    /// Takes the next batch, and hands out up to `limit` of its records, with their partition.
    pub(crate) fn take(&mut self, limit: usize) -> Option<(i32, Vec<Given>)> {
        let batch = self.machine.take_batch()?;
        let partition = number(batch.topic_partition());
        let mut given = Vec::new();
        match batch.open(&mut self.decompressor, MOST_DECOMPRESSED) {
            Ok(mut cursor) => given = hand_out(&mut cursor, limit),
            Err(bad) => self.machine.handle_bad_batch(*bad),
        }
        Some((partition, given))
    }

    pub(crate) fn seek(&mut self, partition: i32, offset: i64) {
        self.machine.seek(&key(partition), StartPosition::Offset(offset)).expect("it is consumed");
    }

    pub(crate) fn set_paused(&mut self, partition: i32, is_paused: bool) {
        let key = key(partition);
        let done = if is_paused { self.machine.pause(&key) } else { self.machine.resume(&key) };
        done.expect("it is consumed");
    }

    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.machine.position(&key(partition))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }
}

/// Hands out up to `limit` records.
pub(crate) fn hand_out(cursor: &mut RecordCursor, limit: usize) -> Vec<Given> {
    let mut given = Vec::new();
    while given.len() < limit
        && let Some(record) = cursor.next_record()
    {
        let value = record.value.map(|value| value.of(cursor.data()).to_vec()).unwrap_or_default();
        given.push(Given { offset: record.offset, value });
    }
    given
}

/// The next event of a consumer machine that concerns the client or the application. Commits are not its business here.
pub(crate) fn next_event(consumer: &mut Consumer) -> Option<MachineEvent> {
    loop {
        return Some(match consumer.poll_event()? {
            ConsumerEvent::Located(_) => continue,
            ConsumerEvent::PartitionError { topic_partition, error } => {
                MachineEvent::PartitionError(topic_partition, error)
            }
            ConsumerEvent::TopicError { topic, error } => MachineEvent::TopicError(topic, error),
            ConsumerEvent::Failed(error) => MachineEvent::Failed(error),
            ConsumerEvent::Committed { .. } => unreachable!("nobody commits with it"),
            ConsumerEvent::Reset { topic_partition, from, to } => MachineEvent::Reset(topic_partition, from, to),
            ConsumerEvent::Notice(notice) => MachineEvent::Notice(notice),
        });
    }
}

/// Converts a request of a consumer machine.
pub(crate) fn ask_for_consumer(call: Call<ConsumerRequest>) -> Ask {
    let (call, request) = call.take_body();
    let (timeout, question) = match request {
        ConsumerRequest::Versions => (REQUEST_TIMEOUT, Question::Versions),
        ConsumerRequest::Fetch(request) => {
            let held = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
            (REQUEST_TIMEOUT + held, Question::Request(request))
        }
        ConsumerRequest::ListOffsets(request) => (REQUEST_TIMEOUT, Question::Request(Box::new(request))),
        ConsumerRequest::OffsetForLeaderEpoch(request) => (REQUEST_TIMEOUT, Question::Request(Box::new(request))),
        ConsumerRequest::OffsetCommit(request) => (REQUEST_TIMEOUT, Question::Request(Box::new(request))),
    };
    ask(Asker::Consumer, call, timeout, question)
}

/// Converts the response for a consumer machine.
pub(crate) fn decode_for_consumer(reply: Reply) -> Result<ConsumerResponse> {
    let key = match &reply {
        Reply::Versions { fetch, list_offsets, .. } => {
            let (fetch, list_offsets) = (*fetch, *list_offsets);
            return Ok(ConsumerResponse::Versions(BrokerVersions { fetch, list_offsets }));
        }
        Reply::Message(answer) => answer.key,
    };
    match key {
        ApiKey::Fetch => decode::<FetchRequest>(reply).map(Box::new).map(ConsumerResponse::Fetch),
        ApiKey::ListOffsets => decode::<ListOffsetsRequest>(reply).map(ConsumerResponse::ListOffsets),
        ApiKey::OffsetForLeaderEpoch => {
            decode::<OffsetForLeaderEpochRequest>(reply).map(ConsumerResponse::OffsetForLeaderEpoch)
        }
        other => unreachable!("a consumer does not ask {other:?}"),
    }
}

//! Helpers for tests of the producer machine: metadata, and the contents of requests.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Metadata, Notice, Outdated};
use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Written};
use kavka_core::producer::{
    Appended, HandleId, Producer, ProducerEvent, ProducerRequest, ProducerResponse, TopicIndex,
};
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use kavka_core::wire::messages::{InitProducerIdResponse, MetadataResponse, ProduceRequest, ProduceResponse};
use kavka_core::wire::primitives::Uuid;
use kavka_core::wire::records::{BufferPool, Compression, Compressor, Decompressor, ProducerStamp, Records, batches};

pub const TOPIC: &str = "orders";
pub const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };

pub fn pool(bytes: usize) -> BufferPool {
    BufferPool::new(bytes, Arc::new(|| ()))
}

pub fn config() -> ProducerConfig {
    ProducerConfig::default()
}

pub fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection broke").with_written(Written::Maybe)
}

pub fn failure(appended: &Appended) -> Error {
    appended.completion.outcome(appended.index).expect("it is reported").unwrap_err()
}

pub fn offset(appended: &Appended) -> Option<i64> {
    appended.completion.outcome(appended.index).expect("it is reported").expect("it is stored").offset
}

pub fn is_open(appended: &Appended) -> bool {
    appended.completion.outcome(appended.index).is_none()
}

pub fn small_batches(bytes: usize) -> ProducerConfig {
    let mut config = config();
    config.batch_size = bytes;
    config
}

/// A snapshot of one topic whose partitions have these leaders.
pub fn metadata(before: &Metadata, id: u8, leaders: &[(i32, i32)]) -> Metadata {
    before.merged(description(id, leaders), true)
}

/// A broker's description of one topic whose partitions have these leaders.
pub fn description(id: u8, leaders: &[(i32, i32)]) -> MetadataResponse {
    MetadataResponse { brokers: brokers(), topics: vec![topic(TOPIC, id, leaders)], ..Default::default() }
}

/// A snapshot in which the topic is unknown.
pub fn metadata_without_topic(before: &Metadata) -> Metadata {
    before.merged(description_without_topic(), false)
}

/// What a broker says that does not know the topic.
pub fn description_without_topic() -> MetadataResponse {
    let topic = MetadataResponseTopic {
        error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        name: Some(TOPIC.into()),
        ..Default::default()
    };
    MetadataResponse { brokers: brokers(), topics: vec![topic], ..Default::default() }
}

/// A snapshot of topics that have one partition each, led by broker 1.
pub fn metadata_of(before: &Metadata, names: impl IntoIterator<Item = String>) -> Metadata {
    let topics = names.into_iter().map(|name| {
        let topic = topic(&name, 1, &[(1, 1)]);
        // As from brokers without topic ids: topics have only names.
        MetadataResponseTopic { topic_id: Uuid::ZERO, ..topic }
    });
    before.merged(MetadataResponse { brokers: brokers(), topics: topics.collect(), ..Default::default() }, true)
}

fn brokers() -> Vec<MetadataResponseBroker> {
    let broker = |node_id| MetadataResponseBroker { node_id, host: "h".into(), port: 9092, ..Default::default() };
    (1..=3).map(broker).collect()
}

fn topic(name: &str, id: u8, leaders: &[(i32, i32)]) -> MetadataResponseTopic {
    let partitions = leaders.iter().enumerate().map(|(index, (leader, epoch))| MetadataResponsePartition {
        partition_index: index as i32,
        leader_id: (*leader >= 0).then_some(*leader),
        leader_epoch: Some(*epoch),
        ..Default::default()
    });
    MetadataResponseTopic {
        name: Some(name.into()),
        topic_id: Uuid([id; 16]),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// One batch of a request, as a broker sees it.
#[derive(Debug, Clone)]
pub struct SeenBatch {
    pub partition: i32,
    pub stamp: Option<ProducerStamp>,
    pub values: Vec<Vec<u8>>,
    pub records: Records,
}

pub fn seen(request: &ProduceRequest) -> Vec<SeenBatch> {
    let mut all = Vec::new();
    for topic in &request.topic_data {
        for partition in &topic.partition_data {
            let records = partition.records.clone().unwrap();
            let raw = batches(records.clone().into_bytes()).next().unwrap().unwrap();
            let mut batch = raw.open(&mut Decompressor::new(), 64 << 20).unwrap();
            let data = batch.data().clone();
            let mut values = Vec::new();
            while let Some(record) = batch.next_record() {
                values.push(record.unwrap().value.unwrap().of(&data).to_vec());
            }
            all.push(SeenBatch { partition: partition.index, stamp: raw.header().producer, values, records });
        }
    }
    all
}

/// A response with one entry per `(partition, code, base_offset)`.
pub fn response(topic_id: u8, entries: &[(i32, ErrorCode, i64)]) -> ProduceResponse {
    let partition_responses = entries.iter().map(|(index, error_code, base_offset)| PartitionProduceResponse {
        index: *index,
        error_code: *error_code,
        base_offset: *base_offset,
        ..Default::default()
    });
    let topic = TopicProduceResponse {
        topic_id: Uuid([topic_id; 16]),
        partition_responses: partition_responses.collect(),
        ..Default::default()
    };
    ProduceResponse { responses: vec![topic], ..Default::default() }
}

/// A produce request that was polled and sealed.
#[derive(Debug)]
pub struct Sent {
    pub id: u64,
    pub broker_id: i32,
    pub may_fail_early: bool,
    pub batches: Vec<SeenBatch>,
}

impl Sent {
    /// The values of its only batch, as text.
    pub fn values(&self) -> Vec<String> {
        assert_eq!(self.batches.len(), 1);
        self.batches[0].values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn stamp(&self) -> ProducerStamp {
        self.batches[0].stamp.unwrap()
    }
}

/// A producer with one topic, and the clock of its test.
pub struct Rig {
    pub producer: Producer,
    pub handle: HandleId,
    pub topic: TopicIndex,
    pub now: Instant,
    pub metadata: Metadata,
    pub reports: Vec<(i32, u32, Option<ErrorKind>)>,
    pub refreshes: Vec<Outdated>,
    pub hints: usize,
    /// The newest version of `Produce` that every broker has.
    pub produce_version: i16,
    /// Whether brokers assign producer ids.
    pub assigns_ids: bool,
    /// Brokers with another newest version of `Produce`. They assign producer ids if they have version 3.
    pub others: BTreeMap<i32, i16>,
    /// The broker that a request reaches which any broker can answer.
    pub any: i32,
    /// The topics that the application was told of, because they are kept in an old format.
    pub old_formats: Vec<String>,
    /// The leaders of which the application was told that they assign no producer ids.
    pub without_ids: Vec<i32>,
}

impl Rig {
    /// Every partition is led by broker 1.
    pub fn new(config: ProducerConfig, partitions: usize) -> Self {
        let max_queued_records = config.max_queued_records;
        let mut producer = Producer::new(config, BACKOFF, pool(32 << 20), 7);
        let handle = producer.open(max_queued_records);
        let metadata = metadata(&Metadata::default(), 1, &vec![(1, 1); partitions]);
        let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
        Self {
            producer,
            handle,
            topic,
            now: Instant(0),
            metadata,
            reports: Vec::new(),
            refreshes: Vec::new(),
            hints: 0,
            produce_version: 13,
            assigns_ids: true,
            others: BTreeMap::new(),
            any: 1,
            old_formats: Vec::new(),
            without_ids: Vec::new(),
        }
    }

    /// The same, with a producer id and the first acknowledgement of partition 0, so that several requests may be in
    /// flight.
    pub fn warm(config: ProducerConfig) -> Self {
        let mut rig = Self::new(config, 1);
        let first = rig.append(0, "warm");
        let sent = rig.sent();
        rig.answer(&sent, ErrorCode::NONE, 0);
        assert_eq!(first.completion.offset(0), Some(0));
        rig.reports.clear();
        rig
    }

    pub fn append(&mut self, partition: i32, value: &str) -> Appended {
        self.producer.append(self.now, self.topic, Some(partition), 5, None, Some(value.as_bytes()), &[]).unwrap()
    }

    /// Appends a record, and ends the linger of its batch.
    pub fn append_alone(&mut self, partition: i32, value: &str) -> Appended {
        let appended = self.append(partition, value);
        self.producer.flush(self.now, self.handle);
        appended
    }

    pub fn leaders(&mut self, topic_id: u8, leaders: &[(i32, i32)]) {
        self.metadata = metadata(&self.metadata, topic_id, leaders);
        self.producer.handle_metadata(self.now, &Arc::new(self.metadata.clone()));
    }

    pub fn see_no_topic(&mut self) {
        self.metadata = metadata_without_topic(&self.metadata);
        self.producer.handle_metadata(self.now, &Arc::new(self.metadata.clone()));
    }

    pub fn after(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// The next request that a broker takes, after answering others if necessary; `None` if there is nothing to send.
    pub fn poll(&mut self) -> Option<Sent> {
        loop {
            let call = self.producer.poll_request(self.now)?;
            let (id, broker_id, may_fail_early) = (call.id, call.broker_id(), call.may_fail_early);
            let other = self.others.get(&broker_id.unwrap_or(self.any)).copied();
            let produce = other.unwrap_or(self.produce_version);
            match call.body {
                ProducerRequest::Versions => {
                    let response = ProducerResponse::Versions { produce };
                    self.producer.handle_response(self.now, id, Ok(response));
                }
                ProducerRequest::Produce(_) if call.min_version > produce => self.refuse(id),
                ProducerRequest::InitProducerId(_) if other.map_or(!self.assigns_ids, |other| other < 3) => {
                    self.refuse(id);
                }
                ProducerRequest::InitProducerId(_) => {
                    let response = InitProducerIdResponse { producer_id: Some(40), ..Default::default() };
                    let response = ProducerResponse::InitProducerId(response);
                    self.producer.handle_response(self.now, id, Ok(response));
                }
                ProducerRequest::Produce(request) => {
                    let broker_id = broker_id.expect("produce requests go to a leader");
                    let mut compressor = Compressor::new(Compression::default()).unwrap();
                    let request = request.seal(&mut compressor).unwrap();
                    return Some(Sent { id, broker_id, may_fail_early, batches: seen(&request) });
                }
            }
        }
    }

    /// As a connection does with a request that its broker is too old for.
    pub fn refuse(&mut self, id: u64) {
        let error = Error::new(ErrorKind::Unsupported, "the broker is too old");
        self.producer.handle_response(self.now, id, Err(error));
        self.events();
    }

    pub fn sent(&mut self) -> Sent {
        self.poll().expect("a request is sent")
    }

    pub fn events(&mut self) {
        while let Some(event) = self.producer.poll_event() {
            match event {
                ProducerEvent::Completed(completed) => {
                    let kind = completed.error().map(kavka_core::error::Error::kind);
                    self.reports.push((completed.completion().partition(), completed.count(), kind));
                    completed.carry_out();
                }
                ProducerEvent::Notice(Notice::RefreshMetadata(outdated)) => self.refreshes.push(outdated),
                ProducerEvent::Notice(Notice::LeaderHints { hints, .. }) => self.hints += hints.len(),
                ProducerEvent::OldFormat(topic) => self.old_formats.push(topic.to_string()),
                ProducerEvent::NoProducerIds(leader) => self.without_ids.push(leader),
            }
        }
    }

    /// Answers every batch of the request with `code`.
    pub fn answer(&mut self, sent: &Sent, code: ErrorCode, base_offset: i64) {
        let entries: Vec<_> = sent.batches.iter().map(|batch| (batch.partition, code, base_offset)).collect();
        self.answer_with(sent, Ok(response(1, &entries)));
    }

    pub fn answer_with(&mut self, sent: &Sent, result: kavka_core::error::Result<ProduceResponse>) {
        self.producer.handle_response(self.now, sent.id, result.map(ProducerResponse::Produce));
        self.events();
    }
}

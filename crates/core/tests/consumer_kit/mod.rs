//! Helpers for tests of the consumer machine: a machine with its clock, batches, and responses.
#![allow(dead_code, reason = "each test program uses another part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Call, Metadata, Notice};
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::{
    BrokerVersions, Consumer, ConsumerEvent, ConsumerRequest, ConsumerResponse, StartPosition, TopicPartition,
};
use kavka_core::time::Instant;
use kavka_core::wire::messages::fetch::{FetchTopic, FetchableTopicResponse, PartitionData};
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kavka_core::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopicResult};
use kavka_core::wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsResponse, MetadataResponse, OffsetForLeaderEpochResponse,
};
use kavka_core::wire::records::{
    CompressionType, Decompressor, ProducerStamp, Stamp, assign_offset, end_transaction_marker,
};
use kavka_core::wire::{ErrorCode, Uuid};
use kavka_test_support::batches::Batch;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const TOPIC_ID: Uuid = Uuid([7; 16]);

/// A record that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: Vec<u8>,
}

pub(crate) fn config() -> ConsumerConfig {
    ConsumerConfig::default()
}

/// A machine with default settings that reads this many partitions from their start.
pub(crate) fn kit(partitions: i32) -> Kit {
    Kit::of_partitions(config(), partitions)
}

/// The partitions of a fetch request, with their offsets.
pub(crate) fn asked(topics: &[FetchTopic]) -> Vec<(i32, i64)> {
    topics.iter().flat_map(|topic| &topic.partitions).map(|one| (one.partition, one.fetch_offset)).collect()
}

pub(crate) fn key(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// A batch with one record per value, as in the log.
pub(crate) fn batch(base_offset: i64, values: &[&[u8]]) -> Bytes {
    build(base_offset, 0, values, Stamp::default(), CompressionType::None)
}

/// A batch of a transaction.
pub(crate) fn transactional(base_offset: i64, producer_id: i64, values: &[&[u8]]) -> Bytes {
    let producer = Some(ProducerStamp { producer_id, producer_epoch: 0, base_sequence: 0 });
    let stamp = Stamp { producer, transactional: true, control: false };
    build(base_offset, 0, values, stamp, CompressionType::Lz4)
}

/// The marker that ends a transaction.
pub(crate) fn marker(offset: i64, producer_id: i64) -> Bytes {
    let producer = Some(ProducerStamp { producer_id, producer_epoch: 0, base_sequence: -1 });
    let stamp = Stamp { producer, transactional: true, control: true };
    build(offset, 0, &[&end_transaction_marker(0)], stamp, CompressionType::None)
}

pub(crate) fn build(
    base_offset: i64,
    leader_epoch: i32,
    values: &[&[u8]],
    stamp: Stamp,
    codec: CompressionType,
) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (0, value)).collect();
    let mut bytes = Batch::at(&records).stamped(stamp).compressed(codec).build().into_bytes().to_vec();
    assign_offset(&mut bytes, base_offset, leader_epoch);
    bytes.into()
}

/// A batch without a leader epoch.
pub(crate) fn epochless(base_offset: i64, values: &[&[u8]]) -> Bytes {
    build(base_offset, -1, values, Stamp::default(), CompressionType::None)
}

/// A snapshot in which the partitions of [`TOPIC`] have these leaders and epochs; broker ids start at 1.
pub(crate) fn metadata(leaders: &[(Option<i32>, i32)], topic_id: Uuid) -> Arc<Metadata> {
    Arc::new(Metadata::default().merged(description(leaders, topic_id), true))
}

/// A broker's description of such a cluster.
pub(crate) fn description(leaders: &[(Option<i32>, i32)], topic_id: Uuid) -> MetadataResponse {
    let partition = |(index, (leader, epoch)): (usize, &(Option<i32>, i32))| MetadataResponsePartition {
        partition_index: index as i32,
        leader_id: *leader,
        leader_epoch: Some(*epoch),
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(TOPIC.into()),
        topic_id,
        partitions: leaders.iter().enumerate().map(partition).collect(),
        ..Default::default()
    };
    let broker = |node_id| MetadataResponseBroker { node_id, host: "kafka".into(), port: 9092, ..Default::default() };
    MetadataResponse { brokers: (1..=3).map(broker).collect(), topics: vec![topic], ..Default::default() }
}

/// A leader's response for a partition with these records, without an error.
pub(crate) fn data(partition: i32, records: impl Into<Bytes>) -> PartitionData {
    PartitionData {
        partition_index: partition,
        high_watermark: 1_000_000,
        last_stable_offset: Some(1_000_000),
        log_start_offset: Some(0),
        records: Some(records.into().into()),
        ..Default::default()
    }
}

pub(crate) fn refusal(partition: i32, code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code, ..data(partition, Bytes::new()) }
}

pub(crate) fn answer(session_id: i32, partitions: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse { topic_id: TOPIC_ID, partitions, ..Default::default() };
    FetchResponse { session_id, responses: vec![topic], ..Default::default() }
}

/// A machine, its clock, and its brokers' versions.
pub(crate) struct Kit {
    pub(crate) consumer: Consumer,
    pub(crate) now: Instant,
    pub(crate) versions: BrokerVersions,
    decompressor: Decompressor,
}

impl Kit {
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        Self {
            consumer: Consumer::new(config, backoff, 1, 1),
            now: Instant(0),
            versions: BrokerVersions { fetch: 18, list_offsets: 11 },
            decompressor: Decompressor::new(),
        }
    }

    /// A consumer of partitions 0, 1, ... from offset 0, each led by broker 1.
    pub(crate) fn of_partitions(config: ConsumerConfig, count: i32) -> Self {
        let mut kit = Self::new(config);
        kit.leaders(&vec![(Some(1), 0); count as usize]);
        for partition in 0..count {
            kit.consumer.add(&key(partition), StartPosition::Offset(0)).unwrap();
        }
        kit
    }

    pub(crate) fn leaders(&mut self, leaders: &[(Option<i32>, i32)]) {
        self.consumer.handle_metadata(self.now, &metadata(leaders, TOPIC_ID));
    }

    /// From now on the metadata says that the topic does not exist.
    pub(crate) fn unknown_topic(&mut self, before: &Metadata) {
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..Default::default()
        };
        let response = MetadataResponse { topics: vec![topic], ..Default::default() };
        self.consumer.handle_metadata(self.now, &Arc::new(before.merged(response, false)));
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now.0 += millis;
    }

    /// The next request; answers requests for versions first.
    pub(crate) fn request(&mut self) -> Option<Call<ConsumerRequest>> {
        loop {
            let request = self.consumer.poll_request(self.now)?;
            match request.body {
                ConsumerRequest::Versions => {
                    self.consumer.handle_response(self.now, request.id, Ok(ConsumerResponse::Versions(self.versions)));
                }
                _ => return Some(request),
            }
        }
    }

    /// The next request, which must be a fetch.
    pub(crate) fn fetch(&mut self) -> (u64, FetchRequest) {
        let request = self.request().expect("a fetch is due");
        let ConsumerRequest::Fetch(fetch) = request.body else { panic!("not a fetch: {request:?}") };
        (request.id, *fetch)
    }

    pub(crate) fn answer_fetch(&mut self, id: u64, response: FetchResponse) {
        self.consumer.handle_response(self.now, id, Ok(ConsumerResponse::Fetch(Box::new(response))));
    }

    /// Answers the next fetch with these partitions.
    pub(crate) fn feed(&mut self, partitions: Vec<PartitionData>) {
        let (id, _) = self.fetch();
        self.answer_fetch(id, answer(9, partitions));
    }

    /// Answers the next `ListOffsets`.
    pub(crate) fn answer_offset(&mut self, partition: i32, offset: i64) {
        let request = self.request().expect("a question is due");
        let ConsumerRequest::ListOffsets(_) = request.body else { panic!("not ListOffsets: {request:?}") };
        let found =
            ListOffsetsPartitionResponse { partition_index: partition, offset: Some(offset), ..Default::default() };
        let topics = vec![ListOffsetsTopicResponse { name: TOPIC.into(), partitions: vec![found] }];
        let response = ListOffsetsResponse { topics, ..Default::default() };
        self.consumer.handle_response(self.now, request.id, Ok(ConsumerResponse::ListOffsets(response)));
    }

    /// Answers the next `OffsetForLeaderEpoch`.
    pub(crate) fn answer_epoch_end(&mut self, partition: i32, end_offset: Option<i64>) {
        let request = self.request().expect("a question is due");
        let ConsumerRequest::OffsetForLeaderEpoch(_) = request.body else { panic!("not about epochs: {request:?}") };
        let end = EpochEndOffset { partition, end_offset, leader_epoch: Some(0), ..Default::default() };
        let topics = vec![OffsetForLeaderTopicResult { topic: TOPIC.into(), partitions: vec![end] }];
        let response = OffsetForLeaderEpochResponse { topics, ..Default::default() };
        self.consumer.handle_response(self.now, request.id, Ok(ConsumerResponse::OffsetForLeaderEpoch(response)));
    }

    /// Takes and hands out everything that is buffered; passes back batches that cannot be opened.
    pub(crate) fn take_all(&mut self) -> Vec<Given> {
        let mut given = Vec::new();
        while let Some(some) = self.take_some(usize::MAX) {
            given.extend(some);
        }
        given
    }

    /// Takes a batch, and hands out up to `limit` of its records; `None` if nothing is buffered.
    pub(crate) fn take_some(&mut self, limit: usize) -> Option<Vec<Given>> {
        let mut given = Vec::new();
        let batch = self.consumer.take_batch()?;
        match batch.open(&mut self.decompressor, 1 << 20) {
            Ok(mut cursor) => {
                let partition = cursor.topic_partition().partition;
                while given.len() < limit
                    && let Some(record) = cursor.next_record()
                {
                    let value = record.value.map(|value| value.of(cursor.data()).to_vec()).unwrap_or_default();
                    given.push(Given { partition, offset: record.offset, value });
                }
            }
            Err(bad) => self.consumer.handle_bad_batch(*bad),
        }
        Some(given)
    }

    pub(crate) fn offsets(&mut self) -> Vec<i64> {
        self.take_all().into_iter().map(|given| given.offset).collect()
    }

    /// Opens the next batch.
    pub(crate) fn cursor(&mut self) -> kavka_core::consumer::RecordCursor {
        self.consumer.take_batch().expect("something is buffered").open(&mut self.decompressor, 1 << 20).unwrap()
    }

    /// The events for the application, in order.
    pub(crate) fn events(&mut self) -> Vec<ConsumerEvent> {
        let all = std::iter::from_fn(|| self.consumer.poll_event());
        let is_for_application = |event: &ConsumerEvent| {
            !matches!(event, ConsumerEvent::Notice(Notice::RefreshMetadata(_)) | ConsumerEvent::Located(_))
        };
        all.filter(is_for_application).collect()
    }

    /// The reported errors of partitions, as text.
    pub(crate) fn errors(&mut self) -> Vec<String> {
        let errors = self.events().into_iter().map(|event| match event {
            ConsumerEvent::PartitionError { error, .. } | ConsumerEvent::TopicError { error, .. } => error.to_string(),
            other => panic!("not an error: {other:?}"),
        });
        errors.collect()
    }

    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.consumer.position(&key(partition))
    }
}

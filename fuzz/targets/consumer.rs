//! A consumer whose brokers answer anything: records that go back, wrong sessions, any error code, moving leaders.
//!
//! Between two changes of position, the offsets of a partition increase (C1); a position moves back only with a reset
//! that is reported (R15); and no answer makes the consumer ask without an end.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::Metadata;
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::{
    BrokerVersions, Consumer, ConsumerEvent, ConsumerRequest, ConsumerResponse, StartPosition, TopicPartition,
};
use kavka_core::error::{ErrorKind, Result};
use kavka_core::time::Instant;
use kavka_core::wire::messages::fetch::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kavka_core::wire::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopicResult};
use kavka_core::wire::messages::{FetchResponse, ListOffsetsResponse, OffsetForLeaderEpochResponse};
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compressor, Decompressor, ProducerStamp, Stamp, assign_offset,
};
use kavka_core::wire::{Message, Uuid};
use kavka_fuzz::records::{repair, some_codec};
use kavka_fuzz::{TOPIC, Unstructured, arbitrary, below, lost, metadata, some_code, some_metadata};
use libfuzzer_sys::fuzz_target;

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
const PARTITIONS: i32 = 3;

fn key(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// An offset near the beginning, or any one.
fn some_offset(input: &mut Unstructured<'_>) -> arbitrary::Result<i64> {
    Ok(if input.ratio(1, 16)? { input.arbitrary()? } else { i64::from(input.arbitrary::<u8>()? / 8) })
}

fn some_start(input: &mut Unstructured<'_>) -> arbitrary::Result<StartPosition> {
    Ok(match input.int_in_range(0..=7_u8)? {
        0 => StartPosition::Earliest,
        1 => StartPosition::Latest,
        2 => StartPosition::Timestamp(some_offset(input)?),
        3 => StartPosition::Committed {
            offset: some_offset(input)?,
            leader_epoch: Some(below(input, 9)? as i32),
            topic_id: Uuid([below(input, 3)? as u8; 16]),
        },
        _ => StartPosition::Offset(some_offset(input)?),
    })
}

/// A batch with a few records; some of its bytes may be others than they should be.
fn some_batch(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let pool = BufferPool::new(1 << 20, Arc::new(|| ()));
    let mut builder = BatchBuilder::new(&pool, 1 << 16);
    for _ in 0..=below(input, 4)? {
        builder.append(0, None, Some(b"value"), &[]).expect("there is room");
    }
    let producer = Some(ProducerStamp { producer_id: below(input, 3)? as i64, producer_epoch: 0, base_sequence: 0 });
    let transactional = input.ratio(1, 4)?;
    let control = transactional && input.ratio(1, 2)?;
    let codec = some_codec(input)?;
    let mut compressor = Compressor::new(codec.into()).expect("it has a default level");
    let batch = builder.seal(Stamp { producer, transactional, control }, &mut compressor).expect("it is small");
    let mut bytes = batch.into_bytes().to_vec();
    assign_offset(&mut bytes, some_offset(input)?, below(input, 6)? as i32 - 1);
    if input.ratio(1, 4)? {
        let at = below(input, bytes.len())?;
        bytes[at] ^= input.arbitrary::<u8>()?;
        if input.ratio(3, 4)? {
            repair(&mut bytes);
        }
    }
    Ok(bytes)
}

struct Scene {
    consumer: Consumer,
    now: Instant,
    metadata: Metadata,
    waiting: Vec<(u64, ConsumerRequest)>,
    /// The offset that was handed out last, since the position was changed.
    last: BTreeMap<i32, i64>,
    /// The position that was seen last, since the position was changed.
    positions: BTreeMap<i32, i64>,
    /// Partitions that no record may be handed out of.
    paused: BTreeSet<i32>,
}

impl Scene {
    fn poll(&mut self) {
        let mut sent = 0;
        while let Some(call) = self.consumer.poll_request(self.now) {
            sent += 1;
            assert!(sent < 50, "it asks without an end");
            match call.body {
                ConsumerRequest::Versions => {
                    let versions = BrokerVersions { fetch: 18, list_offsets: 11 };
                    self.consumer.handle_response(self.now, call.id, Ok(ConsumerResponse::Versions(versions)));
                }
                body => self.waiting.push((call.id, body)),
            }
        }
        while let Some(event) = self.consumer.poll_event() {
            match event {
                ConsumerEvent::Reset { topic_partition, .. } => self.forget(topic_partition.partition),
                ConsumerEvent::PartitionError { error, .. } | ConsumerEvent::Failed(error) => {
                    assert!(error.kind() != ErrorKind::Internal, "{error}");
                }
                _ => {}
            }
        }
        for (key, position) in self.consumer.positions() {
            let before = self.positions.insert(key.partition, position.offset);
            assert!(before.is_none_or(|before| before <= position.offset), "{key} goes back from {before:?}");
        }
    }

    /// The position of a partition is changed.
    fn forget(&mut self, partition: i32) {
        self.last.remove(&partition);
        self.positions.remove(&partition);
    }

    /// Hands out up to `limit` records of the next batch.
    fn take(&mut self, limit: usize) {
        let Some(batch) = self.consumer.take_batch() else { return };
        let partition = batch.topic_partition().partition;
        match batch.open(&mut Decompressor::new(), 1 << 20) {
            Ok(mut cursor) => {
                for _ in 0..limit {
                    let Some(record) = cursor.next_record() else { break };
                    assert!(!self.paused.contains(&partition), "a record of a paused partition");
                    let last = self.last.insert(partition, record.offset);
                    assert!(last.is_none_or(|last| last < record.offset), "{partition}: {last:?}, {}", record.offset);
                    assert_eq!(self.consumer.position(&key(partition)), Some(record.offset + 1));
                }
            }
            Err(bad) => self.consumer.handle_bad_batch(*bad),
        }
    }

    fn answer(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (id, request) = self.waiting.remove(below(input, self.waiting.len())?);
        let result = if input.ratio(1, 12)? { Err(lost()) } else { some_response(input, request)? };
        self.consumer.handle_response(self.now, id, result);
        Ok(())
    }
}

fn some_partition(input: &mut Unstructured<'_>) -> arbitrary::Result<PartitionData> {
    let mut records = Vec::new();
    for _ in 0..below(input, 4)? {
        records.extend(some_batch(input)?);
    }
    let mut aborted = Vec::new();
    for _ in 0..below(input, 3)? {
        let first_offset = some_offset(input)?;
        aborted.push(AbortedTransaction { producer_id: below(input, 3)? as i64, first_offset });
    }
    if input.ratio(1, 8)? {
        records.truncate(below(input, records.len().max(1))?);
    }
    let mut data = PartitionData {
        partition_index: below(input, PARTITIONS as usize + 1)? as i32,
        error_code: some_code(input)?,
        high_watermark: some_offset(input)?,
        last_stable_offset: Some(some_offset(input)?),
        log_start_offset: Some(some_offset(input)?),
        aborted_transactions: Some(aborted),
        records: Some(Bytes::from(records).into()),
        ..Default::default()
    };
    if input.ratio(1, 8)? {
        data.diverging_epoch.epoch = Some(below(input, 9)? as i32);
        data.diverging_epoch.end_offset = Some(some_offset(input)?);
        data.preferred_read_replica = Some(below(input, 4)? as i32);
        data.current_leader.leader_id = Some(below(input, 4)? as i32);
        data.current_leader.leader_epoch = Some(below(input, 9)? as i32);
    }
    Ok(data)
}

fn some_response(
    input: &mut Unstructured<'_>,
    request: ConsumerRequest,
) -> arbitrary::Result<Result<ConsumerResponse>> {
    let topic_id = if input.ratio(1, 32)? { Uuid([9; 16]) } else { Uuid([1; 16]) };
    let response = match request {
        ConsumerRequest::Fetch(_) if input.ratio(1, 16)? => {
            let body = Bytes::copy_from_slice(kavka_fuzz::some_bytes(input, 400)?);
            let decoded = FetchResponse::decode_exact(18 - below(input, 15)? as i16, body);
            return Ok(decoded.map(|response| ConsumerResponse::Fetch(Box::new(response))).map_err(Into::into));
        }
        ConsumerRequest::Fetch(_) => {
            let mut partitions = Vec::new();
            for _ in 0..below(input, 4)? {
                partitions.push(some_partition(input)?);
            }
            let topic = FetchableTopicResponse { topic_id, partitions, ..Default::default() };
            let error_code = if input.ratio(1, 12)? { some_code(input)? } else { Default::default() };
            let session_id = if input.ratio(1, 8)? { input.arbitrary()? } else { 9 };
            ConsumerResponse::Fetch(Box::new(FetchResponse {
                error_code,
                session_id,
                responses: vec![topic],
                ..Default::default()
            }))
        }
        ConsumerRequest::ListOffsets(_) => {
            let mut partitions = Vec::new();
            for _ in 0..below(input, 4)? {
                partitions.push(ListOffsetsPartitionResponse {
                    partition_index: below(input, PARTITIONS as usize)? as i32,
                    error_code: some_code(input)?,
                    offset: if input.ratio(1, 16)? { None } else { Some(some_offset(input)?) },
                    ..Default::default()
                });
            }
            let topics = vec![ListOffsetsTopicResponse { name: TOPIC.into(), partitions }];
            ConsumerResponse::ListOffsets(ListOffsetsResponse { topics, ..Default::default() })
        }
        ConsumerRequest::OffsetForLeaderEpoch(_) => {
            let mut partitions = Vec::new();
            for _ in 0..below(input, 4)? {
                partitions.push(EpochEndOffset {
                    partition: below(input, PARTITIONS as usize)? as i32,
                    error_code: some_code(input)?,
                    end_offset: if input.ratio(1, 8)? { None } else { Some(some_offset(input)?) },
                    leader_epoch: Some(below(input, 9)? as i32),
                });
            }
            let topics = vec![OffsetForLeaderTopicResult { topic: TOPIC.into(), partitions }];
            ConsumerResponse::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse { topics, ..Default::default() })
        }
        ConsumerRequest::Versions | ConsumerRequest::OffsetCommit(_) => return Ok(Err(lost())),
    };
    Ok(Ok(response))
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut scene = Scene {
        consumer: Consumer::new(ConsumerConfig::default(), BACKOFF, 1, 1),
        now: Instant(0),
        metadata: metadata(PARTITIONS),
        waiting: Vec::new(),
        last: BTreeMap::new(),
        positions: BTreeMap::new(),
        paused: BTreeSet::new(),
    };
    scene.consumer.handle_metadata(scene.now, &Arc::new(scene.metadata.clone()));
    for partition in 0..PARTITIONS {
        scene.consumer.add(&key(partition), StartPosition::Offset(0)).expect("it is new");
    }
    while !input.is_empty() {
        let partition = below(input, PARTITIONS as usize)? as i32;
        match input.int_in_range(0..=15_u8)? {
            0 => {
                if scene.consumer.seek(&key(partition), some_start(input)?).is_ok() {
                    scene.forget(partition);
                }
            }
            1 => {
                drop(scene.consumer.pause(&key(partition)));
                scene.paused.insert(partition);
            }
            2 => {
                drop(scene.consumer.resume(&key(partition)));
                scene.paused.remove(&partition);
            }
            3 => {
                drop(scene.consumer.remove(&key(partition)));
                scene.paused.remove(&partition);
                if scene.consumer.add(&key(partition), some_start(input)?).is_ok() {
                    scene.forget(partition);
                }
            }
            4 => {
                scene.metadata = some_metadata(input, &scene.metadata)?;
                scene.consumer.handle_metadata(scene.now, &Arc::new(scene.metadata.clone()));
            }
            5 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=40_000)?),
            6 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=600)?),
            7..=9 => scene.take(below(input, 5)?),
            _ => scene.answer(input)?,
        }
        scene.poll();
        scene.consumer.poll_timeout();
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

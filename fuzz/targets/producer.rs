//! A producer whose brokers answer anything: lost, doubled and foreign answers, any error code, moving leaders.
//!
//! Every record gets one report, and those of a partition come in order (R5). A record whose answers leave a doubt is
//! never reported as not written (R6), and only goes again in the same bytes; nor are its sequence numbers used for
//! anything else (R2). The numbers of the batches of an epoch leave no gap.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::Metadata;
use kavka_core::config::ProducerConfig;
use kavka_core::error::{ErrorKind, Written};
use kavka_core::producer::{
    Appended, HandleId, Producer, ProducerEvent, ProducerRequest, ProducerResponse, TopicIndex,
};
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceData, TopicProduceResponse,
};
use kavka_core::wire::messages::{InitProducerIdResponse, ProduceRequest, ProduceResponse};
use kavka_core::wire::records::{BufferPool, Compression, Compressor, Decompressor, batches};
use kavka_fuzz::{TOPIC, Unstructured, arbitrary, below, lost, metadata, some_code, some_metadata};
use libfuzzer_sys::fuzz_target;

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
const PARTITIONS: i32 = 4;

/// Sequence numbers of one epoch: producer id, epoch, partition, first number, number behind the last.
type Numbers = (i64, i16, i32, i32, i32);

/// A batch as a broker sees it.
#[derive(Clone)]
struct Seen {
    partition: i32,
    numbers: Option<Numbers>,
    /// The records in it, by their numbers.
    records: Vec<usize>,
    bytes: Bytes,
}

enum Waiting {
    Other,
    InitProducerId,
    Produce(Box<ProduceRequest>, Vec<Seen>),
}

struct Scene {
    producer: Producer,
    handle: HandleId,
    topic: TopicIndex,
    now: Instant,
    metadata: Metadata,
    appended: Vec<Appended>,
    waiting: Vec<(u64, Waiting)>,
    /// Batches that may be in the log.
    doubtful: Vec<Seen>,
    /// The number behind the last one that was sent, by producer id, epoch and partition.
    ends: BTreeMap<(i64, i16, i32), i32>,
    producer_ids: i64,
}

impl Scene {
    fn new(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let mut config = ProducerConfig::default().batch_size([1_000_000, 150][below(input, 2)?]);
        config.retries = [u32::MAX, 1][below(input, 2)?];
        let mut producer = Producer::new(config, BACKOFF, BufferPool::new(1 << 20, Arc::new(|| ())), 7);
        let handle = producer.open(None);
        let metadata = metadata(PARTITIONS);
        let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
        let (appended, waiting, doubtful, ends) = Default::default();
        let (now, producer_ids) = (Instant(0), 0);
        Ok(Self { producer, handle, topic, now, metadata, appended, waiting, doubtful, ends, producer_ids })
    }

    fn append(&mut self, partition: i32) {
        let value = self.appended.len().to_be_bytes();
        let record = self.producer.append(self.now, self.topic, Some(partition), 5, None, Some(&value), &[]);
        self.appended.extend(record);
    }

    /// Sends all that the machine wants to send.
    fn poll(&mut self) {
        let mut sent = 0;
        while let Some(call) = self.producer.poll_request(self.now) {
            sent += 1;
            assert!(sent < 50, "it sends without an end");
            let waiting = match call.body {
                ProducerRequest::Versions => Waiting::Other,
                ProducerRequest::InitProducerId(_) => Waiting::InitProducerId,
                ProducerRequest::Produce(request) => {
                    let mut compressor = Compressor::new(Compression::default()).expect("there is one");
                    let request = request.seal(&mut compressor).expect("it needs no codec");
                    let seen = request.topic_data.iter().flat_map(seen).collect::<Vec<_>>();
                    seen.iter().for_each(|batch| self.check(batch));
                    Waiting::Produce(Box::new(request), seen)
                }
            };
            self.waiting.push((call.id, waiting));
        }
        for partition in 0..PARTITIONS {
            let of_one = |seen: &Vec<Seen>| seen.iter().filter(|batch| batch.partition == partition).count();
            let in_flight: usize = self
                .waiting
                .iter()
                .map(|(_, waiting)| match waiting {
                    Waiting::Produce(_, seen) => of_one(seen),
                    _ => 0,
                })
                .sum();
            assert!(in_flight <= 5, "{in_flight} batches of one partition are in flight");
        }
    }

    /// Checks a batch against those that were sent before, and those that may be in the log.
    fn check(&mut self, batch: &Seen) {
        let Some((id, epoch, partition, first, end)) = batch.numbers else { return };
        let next = self.ends.entry((id, epoch, partition)).or_default();
        assert!(first <= *next, "after number {next} comes {first}");
        *next = end.max(*next);
        for old in &self.doubtful {
            let is_same = old.bytes == batch.bytes;
            let shares = old.records.iter().any(|record| batch.records.contains(record));
            assert!(is_same || !shares, "records that may be in the log go again in another batch");
            let overlaps = old.numbers.is_some_and(|(old_id, old_epoch, at, from, to)| {
                (old_id, old_epoch, at) == (id, epoch, partition) && first < to && from < end
            });
            assert!(is_same || !overlaps, "sequence numbers that may be in the log are used again");
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.producer.poll_event() {
            if let ProducerEvent::Completed(completed) = event {
                completed.carry_out();
            }
        }
        while self.producer.poll_progress(self.now).is_some() {}
        let mut open = BTreeMap::new();
        for (number, record) in self.appended.iter().enumerate() {
            let partition = record.completion.partition();
            let Some(outcome) = record.completion.outcome(record.index) else {
                open.entry(partition).or_insert(number);
                continue;
            };
            assert!(!open.contains_key(&partition), "record {number} is reported before {}", open[&partition]);
            let Err(error) = outcome else { continue };
            assert!(error.kind() != ErrorKind::Internal, "{error}");
            let is_doubtful = self.doubtful.iter().any(|batch| batch.records.contains(&number));
            assert!(error.written() == Written::Maybe || !is_doubtful, "{error}: reported as not written");
        }
    }

    /// Answers one of the open requests, or loses its answer.
    fn answer(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (id, waiting) = self.waiting.remove(below(input, self.waiting.len())?);
        let is_lost = input.ratio(1, 6)?;
        let written = if input.arbitrary()? { Written::Maybe } else { Written::No };
        let result = match waiting {
            Waiting::Produce(_, seen) if is_lost => {
                if written == Written::Maybe {
                    self.doubtful.extend(seen);
                }
                Err(lost().with_written(written))
            }
            _ if is_lost => Err(lost().with_written(written)),
            Waiting::Other => Ok(ProducerResponse::Versions { produce: input.int_in_range(0..=13)? }),
            Waiting::InitProducerId => {
                self.producer_ids += 1;
                let error_code = if input.ratio(1, 8)? { some_code(input)? } else { ErrorCode::NONE };
                let producer_id = if input.ratio(1, 16)? { None } else { Some(self.producer_ids) };
                let response = InitProducerIdResponse { producer_id, error_code, ..Default::default() };
                Ok(ProducerResponse::InitProducerId(response))
            }
            Waiting::Produce(request, seen) => {
                let response = some_response(input, &request)?;
                self.doubtful.extend(seen.into_iter().filter(|batch| !is_rejected(batch, &response)));
                Ok(ProducerResponse::Produce(response))
            }
        };
        self.producer.handle_response(self.now, id, result);
        Ok(())
    }

    /// Loses every answer until the time of all records is over: then all are reported.
    fn end(&mut self) {
        self.producer.close(self.now, self.handle);
        for _ in 0..3 {
            self.poll();
            for (id, waiting) in std::mem::take(&mut self.waiting) {
                if let Waiting::Produce(_, seen) = waiting {
                    self.doubtful.extend(seen);
                }
                self.producer.handle_response(self.now, id, Err(lost().with_written(Written::Maybe)));
            }
            self.events();
            self.now = self.now + Duration::from_secs(121);
        }
        let open = self.appended.iter().filter(|record| record.completion.outcome(record.index).is_none()).count();
        assert_eq!(open, 0, "records without a report");
        assert!(self.producer.is_idle());
    }
}

fn seen(topic: &TopicProduceData) -> impl Iterator<Item = Seen> {
    topic.partition_data.iter().flat_map(|partition| {
        let all = partition.records.clone().unwrap_or_default().into_bytes();
        batches(all).map(|batch| {
            let batch = batch.expect("we wrote it");
            let mut open = batch.open(&mut Decompressor::new(), 1 << 20).expect("we wrote it");
            let (data, mut records) = (open.data().clone(), Vec::new());
            while let Some(record) = open.next_record() {
                let value = record.expect("we wrote it").value.expect("every record has a value");
                records.push(usize::from_be_bytes(value.of(&data).try_into().expect("it is a number")));
            }
            let numbers = batch.header().producer.map(|stamp| {
                let first = stamp.base_sequence;
                (stamp.producer_id, stamp.producer_epoch, partition.index, first, first + records.len() as i32)
            });
            Seen { partition: partition.index, numbers, records, bytes: batch.bytes().clone() }
        })
    })
}

/// Whether the response says for certain that nothing of the batch was appended.
fn is_rejected(batch: &Seen, response: &ProduceResponse) -> bool {
    let all = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let answers: Vec<_> = all.filter(|answer| answer.index == batch.partition).collect();
    matches!(answers.as_slice(), [answer] if answer.error_code.appends_nothing())
}

fn some_response(input: &mut Unstructured<'_>, request: &ProduceRequest) -> arbitrary::Result<ProduceResponse> {
    let mut responses = Vec::new();
    for topic in &request.topic_data {
        let mut partition_responses = Vec::new();
        for partition in &topic.partition_data {
            for _ in 0..if input.ratio(1, 16)? { below(input, 3)? } else { 1 } {
                let mut record_errors = Vec::new();
                for _ in 0..if input.ratio(1, 4)? { below(input, 4)? } else { 0 } {
                    let batch_index = if input.ratio(1, 8)? { input.arbitrary()? } else { below(input, 4)? as i32 };
                    record_errors.push(BatchIndexAndErrorMessage { batch_index, ..Default::default() });
                }
                partition_responses.push(PartitionProduceResponse {
                    index: if input.ratio(1, 32)? { input.arbitrary()? } else { partition.index },
                    error_code: some_code(input)?,
                    base_offset: i64::from(input.arbitrary::<i8>()?),
                    record_errors,
                    ..Default::default()
                });
            }
        }
        let (name, topic_id) = (topic.name.clone(), topic.topic_id);
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    Ok(ProduceResponse { responses, ..Default::default() })
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut scene = Scene::new(input)?;
    while !input.is_empty() {
        match input.int_in_range(0..=9_u8)? {
            0..=2 if scene.appended.len() < 100 => scene.append(below(input, PARTITIONS as usize)? as i32),
            3 => drop(scene.producer.flush(scene.now, scene.handle)),
            4 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=3_000)?),
            5 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=70_000)?),
            6 => {
                scene.metadata = some_metadata(input, &scene.metadata)?;
                scene.producer.handle_metadata(scene.now, &scene.metadata);
            }
            _ => scene.answer(input)?,
        }
        scene.poll();
        scene.events();
    }
    scene.end();
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

//! The producer machine against brokers that remember what they stored and a network that loses things.
//!
//! Every run is decided by its seed: requests and answers are delayed, connections break before or after a request
//! was carried out, a request of a dead connection arrives late, leaders move, brokers refuse, answer wrongly or for
//! the wrong partition. In the end the logs are compared with what the producer reported.
//!
//! `SEED=n cargo test -p kavka-core --test producer_simulation` runs one seed, `SEEDS=n` that many.

mod producer_support;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Metadata, Notice};
use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Written};
use kavka_core::producer::{
    AppendError, Completed, Completion, HandleId, Producer, ProducerEvent, ProducerRequest, ProducerResponse,
    TopicIndex,
};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
};
use kavka_core::wire::messages::{InitProducerIdResponse, ProduceResponse};
use kavka_core::wire::primitives::Uuid;
use kavka_core::wire::records::{Compression, CompressionType, Compressor, ProducerStamp};
use producer_support::{BACKOFF, SeenBatch, TOPIC, metadata, pool, seen};

const PARTITIONS: usize = 3;
const RECORDS: u64 = 250;
const APPEND_UNTIL: u64 = 6_000;
const HEAL_AT: u64 = 8_000;
const END: u64 = 60_000;
const FAT: u8 = 1;
const BAD: u8 = 2;
const MOST_RECORDS: usize = 9;

/// The first and last sequence number of a batch, and where it is.
type Remembered = (i32, i32, i64);

/// A partition's log and what its leaders know of producers.
#[derive(Default)]
struct Log {
    /// Whether it refuses batches of many records.
    small: bool,
    records: Vec<u64>,
    producers: BTreeMap<i64, (i16, VecDeque<Remembered>)>,
}

enum Stored {
    At(i64),
    Refused(ErrorCode),
}

impl Log {
    fn append(&mut self, batch: &SeenBatch) -> Stored {
        let ids = batch.values.iter().map(|value| u64::from_be_bytes(value[..8].try_into().unwrap()));
        let kinds: Vec<u8> = batch.values.iter().map(|value| value[8]).collect();
        if kinds.contains(&FAT) || self.small && kinds.len() > MOST_RECORDS {
            return Stored::Refused(ErrorCode::MESSAGE_TOO_LARGE);
        }
        let ProducerStamp { producer_id, producer_epoch, base_sequence } = batch.stamp.expect("batches are stamped");
        let last = (i64::from(base_sequence) + kinds.len() as i64 - 1) as i32;
        let offset = self.records.len() as i64;
        if let Some((epoch, recent)) = self.producers.get_mut(&producer_id) {
            if producer_epoch < *epoch {
                return Stored::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if producer_epoch > *epoch {
                if base_sequence != 0 {
                    return Stored::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
                (*epoch, *recent) = (producer_epoch, VecDeque::new());
            } else if let Some((.., at)) = recent.iter().find(|(first, end, _)| (*first, *end) == (base_sequence, last))
            {
                return Stored::At(*at);
            } else if recent.back().is_some_and(|(_, end, _)| end + 1 != base_sequence) {
                return Stored::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        if kinds.contains(&BAD) {
            return Stored::Refused(ErrorCode::INVALID_RECORD);
        }
        let entry = self.producers.entry(producer_id).or_insert((producer_epoch, VecDeque::new()));
        entry.1.push_back((base_sequence, last, offset));
        if entry.1.len() > 5 {
            entry.1.pop_front();
        }
        self.records.extend(ids);
        Stored::At(offset)
    }
}

enum Event {
    Append,
    Alarm,
    Identity { id: u64, ok: bool },
    Arrive { id: u64, broker: i32, connection: u64, batches: Vec<SeenBatch> },
    Answer { id: u64, response: ProduceResponse },
    Break { broker: i32 },
    Lost { id: u64, written: Written },
    MoveLeader,
    NewMetadata,
}

struct Accepted {
    partition: i32,
    kind: u8,
    called_at: u64,
    outcome: Option<Result<Option<i64>, (Written, String)>>,
    reported_at: u64,
}

struct Simulation {
    seed: u64,
    now: u64,
    random: Random,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    producer: Producer,
    compressor: Compressor,
    handle: HandleId,
    topic: TopicIndex,
    metadata: Metadata,
    leaders: Vec<(i32, i32)>,
    logs: Vec<Log>,
    /// Per broker: the number of its connection, when the last request on it arrives, and what is unanswered on it.
    connections: BTreeMap<i32, (u64, u64, Vec<u64>)>,
    accepted: Vec<Accepted>,
    /// Per batch: the records not yet reported, and how many were.
    cells: BTreeMap<usize, (VecDeque<u64>, u32)>,
    kept: Vec<Arc<Completion>>,
    last_report: Vec<Option<u64>>,
    last_accepted: Vec<Option<u64>>,
    doomed_up_to: Vec<Option<u64>>,
    alarm: Option<u64>,
    sent_bytes: BTreeMap<(i32, i64, i16, i32), Vec<u8>>,
    delivery_timeout: u64,
    /// Nothing goes wrong that trying again does not cure, and there is time to: every record must be stored.
    curable: bool,
    /// How many of the partitions get records.
    partitions: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let curable = seed.is_multiple_of(3);
        let delivery_timeout = if curable { 40_000 } else { [1_500, 5_000, 20_000][random.below(3)] };
        let config = ProducerConfig {
            delivery_timeout: Duration::from_millis(delivery_timeout),
            batch_size: [120, 200, 400][random.below(3)],
            linger: Duration::from_millis([0, 5, 30][random.below(3)]),
            compression: if random.below(3) == 0 { CompressionType::Lz4.into() } else { Compression::default() },
            ..ProducerConfig::default()
        };
        let leaders: Vec<_> = (0..PARTITIONS).map(|partition| (partition as i32 % 3 + 1, 1)).collect();
        let metadata = metadata(&Metadata::default(), 1, &leaders);
        let compressor = Compressor::new(config.compression).unwrap();
        let mut producer = Producer::new(config, BACKOFF, pool(4 << 20), seed);
        let handle = producer.open(None);
        let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
        let mut simulation = Self {
            seed,
            now: 0,
            random,
            events: BTreeMap::new(),
            next_event: 0,
            producer,
            compressor,
            handle,
            topic,
            metadata,
            leaders,
            logs: (0..PARTITIONS).map(|_| Log { small: !curable, ..Log::default() }).collect(),
            connections: BTreeMap::new(),
            accepted: Vec::new(),
            cells: BTreeMap::new(),
            kept: Vec::new(),
            last_report: vec![None; PARTITIONS],
            last_accepted: vec![None; PARTITIONS],
            doomed_up_to: vec![None; PARTITIONS],
            alarm: None,
            sent_bytes: BTreeMap::new(),
            delivery_timeout,
            curable,
            partitions: if seed.is_multiple_of(2) { 1 } else { PARTITIONS },
        };
        // Some seeds crowd everything into a moment, or into one partition, so that batches queue up.
        let append_until = [APPEND_UNTIL as usize, 1_500, 400][simulation.random.below(3)];
        for _ in 0..RECORDS {
            let at = simulation.random.below(append_until) as u64;
            // Some come in a burst, so that batches hold several.
            simulation.schedule(at - at % 40, Event::Append);
        }
        for late in 0..20 {
            simulation.schedule(HEAL_AT + 22_000 + late * 100, Event::Append);
        }
        for _ in 0..simulation.random.below(12) {
            let at = simulation.random.below(HEAL_AT as usize) as u64;
            let broker = simulation.random.below(3) as i32 + 1;
            let fault = if simulation.random.below(2) == 0 { Event::Break { broker } } else { Event::MoveLeader };
            simulation.schedule(at, fault);
        }
        simulation
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.now < HEAL_AT && self.random.below(100) < percent
    }

    fn run(mut self) {
        self.run_events();
        self.check();
    }

    fn run_events(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > END {
                break;
            }
            self.now = at;
            self.handle(event);
            self.drive();
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant(self.now);
        match event {
            Event::Append => self.append(),
            Event::Alarm => self.alarm = None,
            Event::Identity { id, ok } => {
                let response = InitProducerIdResponse { producer_id: Some(40), ..Default::default() };
                let lost = Error::new(ErrorKind::Disconnected, "lost");
                let response = if ok { Ok(ProducerResponse::InitProducerId(response)) } else { Err(lost) };
                self.producer.handle_response(now, id, response);
            }
            Event::Arrive { id, broker, connection, batches } => self.arrive(id, broker, connection, &batches),
            Event::Answer { id, response } => {
                for (_, _, unanswered) in self.connections.values_mut() {
                    unanswered.retain(|other| *other != id);
                }
                self.producer.handle_response(now, id, Ok(ProducerResponse::Produce(response)));
            }
            Event::Break { broker } => {
                let entry = self.connections.entry(broker).or_default();
                entry.0 += 1;
                for id in std::mem::take(&mut entry.2) {
                    let lost = Error::new(ErrorKind::Disconnected, "the connection broke").with_written(Written::Maybe);
                    self.producer.handle_response(now, id, Err(lost));
                }
            }
            Event::Lost { id, written } => {
                let kind =
                    if written == Written::No { ErrorKind::Disconnected } else { ErrorKind::TimedOut(Phase::Request) };
                self.producer.handle_response(now, id, Err(Error::new(kind, "lost").with_written(written)));
            }
            Event::MoveLeader => {
                let partition = self.random.below(PARTITIONS);
                let (leader, epoch) = &mut self.leaders[partition];
                (*leader, *epoch) = (*leader % 3 + 1, *epoch + 1);
                let delay = self.random.below(300) as u64;
                self.schedule(self.now + delay, Event::NewMetadata);
            }
            Event::NewMetadata => {
                self.metadata = metadata(&self.metadata, 1, &self.leaders);
                self.producer.handle_metadata(now, &Arc::new(self.metadata.clone()));
            }
        }
    }

    fn append(&mut self) {
        let partition = self.random.below(self.partitions) as i32;
        let kind = match self.random.below(200) {
            0 if !self.curable => FAT,
            1 if !self.curable => BAD,
            _ => 0,
        };
        let id = self.accepted.len() as u64;
        let mut value = id.to_be_bytes().to_vec();
        value.push(kind);
        value.resize(9 + self.random.below(12), b'x');
        let now = Instant(self.now);
        match self.producer.append(now, self.topic, Some(partition), 0, None, Some(&value), &[]) {
            Ok(appended) => {
                let address = Arc::as_ptr(&appended.completion) as usize;
                self.cells.entry(address).or_default().0.push_back(id);
                // Kept alive, so that no other batch gets its address.
                self.kept.push(appended.completion);
                self.last_accepted[partition as usize] = Some(id);
                let called_at = self.now;
                self.accepted.push(Accepted { partition, kind, called_at, outcome: None, reported_at: 0 });
            }
            Err(AppendError::BufferFull | AppendError::TooManyRecords(_) | AppendError::NoMetadata) => {}
            Err(AppendError::Refused(error) | AppendError::NoSuchPartition(error)) => {
                panic!("seed {}: {error}", self.seed)
            }
        }
        if self.random.below(20) == 0 {
            self.producer.flush(now, self.handle);
        }
    }

    fn drive(&mut self) {
        let now = Instant(self.now);
        while let Some(call) = self.producer.poll_request(now) {
            let (id, broker) = (call.id, call.broker_id());
            match call.body {
                ProducerRequest::InitProducerId(_) => {
                    let ok = !self.chance(30);
                    self.schedule(self.now + 3, Event::Identity { id, ok });
                }
                ProducerRequest::Produce(request) => {
                    let request = request.seal(&mut self.compressor).unwrap();
                    self.transmit(id, broker.unwrap(), seen(&request));
                }
            }
        }
        while let Some(event) = self.producer.poll_event() {
            match event {
                ProducerEvent::Completed(completed) => self.report(completed),
                ProducerEvent::Notice(Notice::RefreshMetadata) => {
                    let delay = 20 + self.random.below(100) as u64;
                    self.schedule(self.now + delay, Event::NewMetadata);
                }
                ProducerEvent::Notice(Notice::LeaderHints { hints, endpoints }) => {
                    if let Some(next) = self.metadata.with_leaders(&hints, endpoints) {
                        self.metadata = next;
                        self.producer.handle_metadata(now, &Arc::new(self.metadata.clone()));
                    }
                }
            }
        }
        if let Some(Instant(at)) = self.producer.poll_timeout() {
            let at = at.max(self.now + 1);
            if self.alarm.is_none_or(|alarm| at < alarm) {
                self.alarm = Some(at);
                self.schedule(at, Event::Alarm);
            }
        }
    }

    fn transmit(&mut self, id: u64, broker: i32, batches: Vec<SeenBatch>) {
        for batch in &batches {
            let stamp = batch.stamp.unwrap();
            let key = (batch.partition, stamp.producer_id, stamp.producer_epoch, stamp.base_sequence);
            let bytes = batch.records.clone().into_bytes().to_vec();
            let ids = || batch.values.iter().map(|value| &value[..8]);
            if let Some(before) = self.sent_bytes.insert(key, bytes.clone()) {
                // Only a batch that was refused as too large comes back shorter under the same number.
                let shorter = bytes.len() < before.len();
                assert!(before == bytes || shorter, "seed {}: a resent batch differs: {:?}", self.seed, ids().count());
            }
        }
        if self.chance(3) {
            return self.schedule(self.now + 1, Event::Lost { id, written: Written::No });
        }
        let delay = 1 + self.random.below(40) as u64;
        let late = self.chance(4);
        let now = self.now;
        let entry = self.connections.entry(broker).or_default();
        let at = (now + delay).max(entry.1);
        entry.1 = at;
        let connection = entry.0;
        entry.2.push(id);
        if late {
            // The connection dies at once, and the request arrives all the same, much later.
            let much_later = at + 400 + self.random.below(3_000) as u64;
            self.schedule(now + 1, Event::Break { broker });
            return self.schedule(much_later, Event::Arrive { id, broker, connection, batches });
        }
        self.schedule(at, Event::Arrive { id, broker, connection, batches });
    }

    fn arrive(&mut self, id: u64, broker: i32, connection: u64, batches: &[SeenBatch]) {
        let mut entries = Vec::new();
        for batch in batches {
            let entry = self.store(broker, batch);
            if self.chance(2) {
                continue;
            }
            if self.chance(2) {
                entries.push(entry.clone());
            }
            entries.push(entry);
        }
        if self.chance(3) {
            entries.push(PartitionProduceResponse { index: 77, base_offset: 1, ..Default::default() });
        }
        let topic =
            TopicProduceResponse { topic_id: Uuid([1; 16]), partition_responses: entries, ..Default::default() };
        let response = ProduceResponse { responses: vec![topic], ..Default::default() };
        let current = self.connections.get(&broker).is_some_and(|entry| entry.0 == connection);
        if !current {
            return;
        }
        if self.chance(4) {
            return self.schedule(self.now + 1, Event::Break { broker });
        }
        let delay = 1 + self.random.below(20) as u64;
        self.schedule(self.now + delay, Event::Answer { id, response });
    }

    fn store(&mut self, broker: i32, batch: &SeenBatch) -> PartitionProduceResponse {
        let index = batch.partition;
        let answer =
            |error_code, base_offset| PartitionProduceResponse { index, error_code, base_offset, ..Default::default() };
        let (leader, leader_epoch) = self.leaders[index as usize];
        if leader != broker {
            let mut answer = answer(ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
            if self.random.below(2) == 0 {
                answer.current_leader = LeaderIdAndEpoch { leader_id: Some(leader), leader_epoch: Some(leader_epoch) };
            }
            return answer;
        }
        if self.chance(3) {
            return answer(ErrorCode::NOT_ENOUGH_REPLICAS, -1);
        }
        let log = &mut self.logs[index as usize];
        let before = log.records.len() as i64;
        match log.append(batch) {
            Stored::Refused(code) => {
                let mut answer = answer(code, -1);
                if code == ErrorCode::INVALID_RECORD && self.random.below(2) == 0 {
                    let bad = batch.values.iter().enumerate().filter(|(_, value)| value[8] == BAD);
                    let error = |at: usize| BatchIndexAndErrorMessage { batch_index: at as i32, ..Default::default() };
                    answer.record_errors = bad.map(|(at, _)| error(at)).collect();
                }
                answer
            }
            Stored::At(offset) if offset < before && self.random.below(3) == 0 => {
                answer(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1)
            }
            Stored::At(_) if self.chance(3) => {
                // Stored, and the answer says something else.
                let codes = [
                    ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    ErrorCode::REQUEST_TIMED_OUT,
                    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                    ErrorCode::KAFKA_STORAGE_ERROR,
                    ErrorCode(999),
                ];
                let curable = codes.len() - usize::from(self.curable);
                answer(codes[self.random.below(curable)], -1)
            }
            Stored::At(offset) => answer(ErrorCode::NONE, offset),
        }
    }

    fn report(&mut self, completed: Completed) {
        let completion = Arc::clone(completed.completion());
        let count = completed.count();
        let (ids, reported) = self.cells.get_mut(&(Arc::as_ptr(&completion) as usize)).unwrap();
        let first = *reported;
        *reported += count;
        let ids: Vec<u64> = ids.drain(..count as usize).collect();
        completed.carry_out();
        for (index, id) in (first..).zip(ids) {
            let record = &mut self.accepted[id as usize];
            assert!(record.outcome.is_none(), "seed {}: record {id} was reported twice", self.seed);
            let outcome = completion.outcome(index).expect("what was carried out is there");
            record.outcome =
                Some(outcome.map(|record| record.offset).map_err(|error| (error.written(), error.to_string())));
            record.reported_at = self.now;
            let own_sake = record.kind != 0 && matches!(&record.outcome, Some(Err((Written::No, _))));
            let (partition, failed) = (record.partition, matches!(record.outcome, Some(Err(_))));
            assert!(
                self.last_report[partition as usize] < Some(id),
                "seed {}: reports out of order at {id}",
                self.seed
            );
            self.last_report[partition as usize] = Some(id);
            if failed && !own_sake {
                // Everything buffered behind it fails too.
                let doomed = &mut self.doomed_up_to[partition as usize];
                *doomed = (*doomed).max(self.last_accepted[partition as usize]);
            } else if !failed && Some(id) <= self.doomed_up_to[partition as usize] {
                let failed: Vec<_> = self
                    .accepted
                    .iter()
                    .enumerate()
                    .filter(|(_, other)| other.partition == partition && matches!(other.outcome, Some(Err(_))))
                    .map(|(id, other)| (id, other.kind, other.outcome.clone()))
                    .collect();
                panic!("seed {}: record {id} was delivered although one before it was not: {failed:?}", self.seed);
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        assert!(self.producer.is_idle(), "seed {seed}: it is not idle in the end");
        assert_eq!(self.producer.queued_records(self.handle), 0, "seed {seed}");
        for (id, record) in (0..).zip(&self.accepted) {
            let log = &self.logs[record.partition as usize].records;
            let found: Vec<i64> = (0..).zip(log).filter(|(_, other)| **other == id).map(|(offset, _)| offset).collect();
            assert!(found.len() <= 1, "seed {seed}: record {id} is in the log {} times", found.len());
            for (partition, other) in self.logs.iter().enumerate() {
                let strays = partition as i32 != record.partition && other.records.contains(&id);
                assert!(!strays, "seed {seed}: record {id} is in a foreign partition");
            }
            match record.outcome.as_ref().unwrap_or_else(|| panic!("seed {seed}: record {id} was never reported")) {
                Ok(Some(offset)) => {
                    assert_eq!(found, [*offset], "seed {seed}: record {id} is not where it was reported");
                }
                Ok(None) => assert_eq!(found.len(), 1, "seed {seed}: record {id} was reported but is not there"),
                Err((Written::No, why)) => assert!(found.is_empty(), "seed {seed}: record {id} is there: {why}"),
                Err((Written::Maybe, _)) => {}
            }
            let failed = matches!(record.outcome, Some(Err(_)));
            assert!(!self.curable || !failed, "seed {seed}: record {id} was not stored: {:?}", record.outcome);
            let took = record.reported_at - record.called_at;
            assert!(took <= self.delivery_timeout + 1, "seed {seed}: record {id} took {took} ms");
        }
        for log in &self.logs {
            assert!(log.records.is_sorted(), "seed {seed}: the log is not in the order of the calls");
        }
        let late = self.accepted.iter().filter(|record| record.called_at > HEAL_AT && record.kind == 0);
        for record in late {
            assert!(matches!(record.outcome, Some(Ok(_))), "seed {seed}: it did not recover: {:?}", record.outcome);
        }
    }
}

#[test]
fn whatever_the_network_does_nothing_is_lost_doubled_or_out_of_order() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return Simulation::new(seed).run();
    }
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    let (mut stored, mut failed) = (0, 0);
    for seed in 0..seeds {
        let mut simulation = Simulation::new(seed);
        simulation.run_events();
        simulation.check();
        stored += simulation.accepted.iter().filter(|record| matches!(record.outcome, Some(Ok(_)))).count();
        failed += simulation.accepted.iter().filter(|record| matches!(record.outcome, Some(Err(_)))).count();
    }
    println!("{seeds} seeds: {stored} records stored, {failed} failed");
    assert!(failed > 0 && stored > failed, "the faults are neither absent nor overwhelming: {stored} to {failed}");
}

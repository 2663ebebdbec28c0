//! The consumer machine against a small model of logs, leaders and fetch sessions, over a network that loses requests
//! and answers. Every seed is one run; a failure names its seed, and `KAVKA_SEED=n` runs that one alone.
//!
//! The model's truth is naive on purpose: it knows for each offset whether it is visible, because it decided the fate
//! of each transaction itself. What is handed out must be exactly the visible offsets from the position on (C1, C7),
//! and after the last fault everything must come (C12).

mod consumer_kit;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use consumer_kit::{Given, Kit, TOPIC, TOPIC_ID, batch, data, key, marker, refusal, transactional};
use kavka_core::cluster::Call;
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::{ConsumerEvent, ConsumerRequest, ConsumerResponse, StartPosition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::fetch::{AbortedTransaction, FetchTopic, FetchableTopicResponse, PartitionData};
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kavka_core::wire::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopicResult};
use kavka_core::wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use kavka_core::wire::records::Records;

const PARTITIONS: i32 = 4;
const BROKERS: i32 = 3;
const SEEDS: u64 = 60;

/// One batch of a log.
struct Stored {
    base_offset: i64,
    last_offset: i64,
    bytes: Bytes,
}

/// A partition's log, and what a reader with `read_committed` must see of it.
#[derive(Default)]
struct Log {
    batches: Vec<Stored>,
    visible: BTreeSet<i64>,
    /// Producer, first offset, offset of the marker.
    aborted: Vec<(i64, i64, i64)>,
    last_stable_offset: i64,
}

impl Log {
    fn written_by(random: &mut Random) -> Self {
        let mut log = Self::default();
        let mut end = 0;
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for _ in 0..60 {
            // Compaction leaves gaps.
            end += if random.below(8) == 0 { random.below(5) as i64 } else { 0 };
            let count = 1 + random.below(4) as i64;
            let values = vec![&b"v"[..]; count as usize];
            let producer_id = random.below(3) as i64;
            match random.below(6) {
                0 | 1 => {
                    log.push(end, count, batch(end, &values));
                    log.visible.extend(end..end + count);
                }
                2..=4 => {
                    log.push(end, count, transactional(end, producer_id, &values));
                    open.entry(producer_id).or_default().extend(end..end + count);
                }
                _ => {
                    // A marker may stand alone: its transaction had no records here, or they are gone.
                    log.push(end, 1, marker(end, producer_id));
                    let offsets = open.remove(&producer_id).unwrap_or_default();
                    match offsets.first() {
                        Some(&first) if random.below(2) == 0 => log.aborted.push((producer_id, first, end)),
                        _ => log.visible.extend(offsets),
                    }
                    end += 1;
                    continue;
                }
            }
            end += count;
        }
        log.last_stable_offset = open.values().filter_map(|offsets| offsets.first().copied()).min().unwrap_or(end);
        let last_stable_offset = log.last_stable_offset;
        log.visible.retain(|offset| *offset < last_stable_offset);
        log
    }

    fn push(&mut self, base_offset: i64, count: i64, bytes: Bytes) {
        self.batches.push(Stored { base_offset, last_offset: base_offset + count - 1, bytes });
    }

    /// What a leader returns from `offset` on: whole batches below the last stable offset, one at least.
    fn read(&self, partition: i32, offset: i64, max_bytes: usize, random: &mut Random) -> PartitionData {
        let mut bytes = Vec::new();
        let mut end = offset;
        for stored in self.batches.iter().filter(|stored| stored.last_offset >= offset) {
            if stored.base_offset >= self.last_stable_offset || !bytes.is_empty() && bytes.len() > max_bytes {
                break;
            }
            bytes.extend_from_slice(&stored.bytes);
            end = stored.last_offset + 1;
        }
        let overlap = self.aborted.iter().filter(|(_, first, marker)| *first < end && *marker >= offset);
        let mut aborted: Vec<AbortedTransaction> =
            overlap.map(|&(producer_id, first_offset, _)| AbortedTransaction { producer_id, first_offset }).collect();
        let turn = random.below(aborted.len());
        aborted.rotate_left(turn);
        PartitionData {
            last_stable_offset: Some(self.last_stable_offset),
            aborted_transactions: Some(aborted),
            ..data(partition, bytes)
        }
    }
}

#[derive(Default)]
struct BrokerModel {
    session_id: i32,
    session_epoch: i32,
    partitions: BTreeMap<i32, i64>,
}

impl BrokerModel {
    fn remember(&mut self, topics: &[FetchTopic]) {
        for asked in topics.iter().flat_map(|topic| &topic.partitions) {
            self.partitions.insert(asked.partition, asked.fetch_offset);
        }
    }

    /// KIP-227, from the broker's side. Answers whether it is a delta.
    fn enter_session(&mut self, request: &FetchRequest, random: &mut Random) -> Result<bool, ErrorCode> {
        let epoch = request.session_epoch.unwrap_or(-1);
        if epoch <= 0 {
            self.session_id = 1 + random.below(1_000) as i32;
            self.session_epoch = 1;
            self.partitions.clear();
            self.remember(&request.topics);
            return Ok(false);
        }
        if request.session_id != self.session_id {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        if epoch != self.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        self.session_epoch += 1;
        for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            self.partitions.remove(partition);
        }
        self.remember(&request.topics);
        Ok(true)
    }
}

struct World {
    random: Random,
    logs: Vec<Log>,
    leaders: Vec<(Option<i32>, i32)>,
    brokers: BTreeMap<i32, BrokerModel>,
    /// Answers on their way, by the time they arrive.
    answers: BTreeMap<(u64, u64), Result<ConsumerResponse, Error>>,
    is_faulty: bool,
    kit: Kit,
    /// Where each partition must go on.
    next: Vec<i64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let logs: Vec<Log> = (0..PARTITIONS).map(|_| Log::written_by(&mut random)).collect();
        let leaders: Vec<_> = (0..PARTITIONS).map(|index| (Some(1 + index % BROKERS), 0)).collect();
        let config = ConsumerConfig {
            max_partition_fetch_bytes: 100 + random.below(2_000) as u32,
            fetch_buffer: 4_000 + random.below(20_000),
            ..ConsumerConfig::default()
        };
        let mut kit = Kit::new(config);
        kit.versions.fetch = if random.below(4) == 0 { 6 } else { 18 };
        kit.leaders(&leaders);
        for partition in 0..PARTITIONS {
            let start = if random.below(2) == 0 { StartPosition::Earliest } else { StartPosition::Offset(0) };
            kit.consumer.add(&key(partition), start).unwrap();
        }
        let next = vec![0; PARTITIONS as usize];
        Self { random, logs, leaders, brokers: BTreeMap::new(), answers: BTreeMap::new(), is_faulty: true, kit, next }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.is_faulty && self.random.below(100) < percent
    }

    fn leads(&self, broker_id: i32, partition: i32) -> bool {
        self.leaders[partition as usize].0 == Some(broker_id)
    }

    fn fetch(&mut self, broker_id: i32, request: &FetchRequest) -> FetchResponse {
        let has_sessions = self.kit.versions.fetch >= 7;
        let mut broker = self.brokers.remove(&broker_id).unwrap_or_default();
        if !has_sessions {
            broker.partitions.clear();
            broker.remember(&request.topics);
        }
        let entered = if has_sessions { broker.enter_session(request, &mut self.random) } else { Ok(false) };
        let mut response = FetchResponse { session_id: broker.session_id, ..FetchResponse::default() };
        match entered {
            Err(code) => response.error_code = code,
            Ok(is_delta) => {
                let mut partitions = Vec::new();
                let share = request.max_bytes as usize / broker.partitions.len().max(1);
                for (&partition, &offset) in &broker.partitions {
                    let data = if self.leads(broker_id, partition) {
                        self.logs[partition as usize].read(partition, offset, share, &mut self.random)
                    } else {
                        refusal(partition, ErrorCode::NOT_LEADER_OR_FOLLOWER)
                    };
                    let has_news =
                        data.error_code != ErrorCode::NONE || data.records.as_ref().is_some_and(|r| !r.is_empty());
                    if has_news || !is_delta {
                        partitions.push(data);
                    }
                }
                let mut topic = FetchableTopicResponse { topic_id: TOPIC_ID, partitions, ..Default::default() };
                topic.topic = if has_sessions { String::new() } else { TOPIC.into() };
                response.responses = vec![topic];
            }
        }
        // A broker may drop a session whenever it needs the room.
        if !self.chance(5) {
            self.brokers.insert(broker_id, broker);
        }
        response
    }

    fn list_offsets(&self, broker_id: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let partitions = asked.map(|asked| ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            offset: Some(0),
            error_code: self.check_leader(broker_id, asked.partition_index),
            ..Default::default()
        });
        let topic = ListOffsetsTopicResponse { name: TOPIC.into(), partitions: partitions.collect() };
        ListOffsetsResponse { topics: vec![topic], ..Default::default() }
    }

    fn epoch_ends(&self, broker_id: i32, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let partitions = asked.map(|asked| EpochEndOffset {
            partition: asked.partition,
            leader_epoch: Some(0),
            end_offset: Some(i64::MAX),
            error_code: self.check_leader(broker_id, asked.partition),
        });
        let topic = OffsetForLeaderTopicResult { topic: TOPIC.into(), partitions: partitions.collect() };
        OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }
    }

    fn check_leader(&self, broker_id: i32, partition: i32) -> ErrorCode {
        if self.leads(broker_id, partition) { ErrorCode::NONE } else { ErrorCode::NOT_LEADER_OR_FOLLOWER }
    }

    /// Sends a request over the network; it, or its answer, may be lost.
    fn send(&mut self, request: &Call<ConsumerRequest>) {
        let lost = Err(Error::new(ErrorKind::Disconnected, "lost"));
        let answer = if self.chance(5) {
            lost
        } else {
            let answer = match &request.body {
                ConsumerRequest::Versions => ConsumerResponse::Versions(self.kit.versions),
                ConsumerRequest::Fetch(fetch) => {
                    ConsumerResponse::Fetch(Box::new(self.fetch(request.broker_id().unwrap(), fetch)))
                }
                ConsumerRequest::ListOffsets(asked) => {
                    ConsumerResponse::ListOffsets(self.list_offsets(request.broker_id().unwrap(), asked))
                }
                ConsumerRequest::OffsetForLeaderEpoch(asked) => {
                    ConsumerResponse::OffsetForLeaderEpoch(self.epoch_ends(request.broker_id().unwrap(), asked))
                }
            };
            if self.chance(5) { Err(Error::new(ErrorKind::Disconnected, "answer lost")) } else { Ok(answer) }
        };
        let is_empty = matches!(&answer, Ok(ConsumerResponse::Fetch(fetch))
            if fetch.error_code == ErrorCode::NONE && fetch.responses.iter().flat_map(|topic| &topic.partitions)
                .all(|data| data.error_code == ErrorCode::NONE && data.records.as_ref().is_none_or(Records::is_empty)));
        let delay = if is_empty { 100 } else { 1 + self.random.below(30) as u64 };
        self.answers.insert((self.kit.now.0 + delay, request.id), answer);
    }

    fn step(&mut self) {
        if self.chance(3) {
            let partition = self.random.below(PARTITIONS as usize);
            let epoch = self.leaders[partition].1 + 1;
            self.leaders[partition] = (Some(1 + self.random.below(BROKERS as usize) as i32), epoch);
        }
        while let Some(request) = self.kit.consumer.poll_request(self.kit.now) {
            self.send(&request);
        }
        while let Some(event) = self.kit.consumer.poll_event() {
            match event {
                ConsumerEvent::Notice(_) => {
                    self.kit.leaders(&self.leaders.clone());
                }
                other => panic!("nothing is wrong, and yet: {other:?}"),
            }
        }
        self.use_records();
        let next_answer = self.answers.keys().next().map(|(at, _)| Instant(*at));
        let next_timer = self.kit.consumer.poll_timeout();
        let next = next_answer.into_iter().chain(next_timer).min().unwrap_or(Instant(self.kit.now.0 + 100));
        self.kit.now = next.max(Instant(self.kit.now.0 + 1));
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= self.kit.now.0) {
            let ((_, id), answer) = entry.remove_entry();
            self.kit.consumer.handle_response(self.kit.now, id, answer);
        }
    }

    /// What an application does: reads a batch or a part of one, seeks, pauses.
    fn use_records(&mut self) {
        let partition = self.random.below(PARTITIONS as usize);
        if self.chance(2) {
            let offset = self.random.below(100) as i64;
            self.kit.consumer.seek(&key(partition as i32), StartPosition::Offset(offset)).unwrap();
            self.next[partition] = offset;
        }
        if self.chance(3) {
            self.kit.consumer.pause(&key(partition as i32)).unwrap();
        } else if self.random.below(3) == 0 {
            self.kit.consumer.resume(&key(partition as i32)).unwrap();
        }
        if self.chance(30) {
            return;
        }
        let limit = if self.chance(30) { 1 } else { usize::MAX };
        for given in self.kit.take_some(limit).unwrap_or_default() {
            self.check(&given);
        }
    }

    fn check(&mut self, given: &Given) {
        let index = given.partition as usize;
        let expected = self.logs[index].visible.range(self.next[index]..).next().copied();
        assert_eq!(Some(given.offset), expected, "partition {index} from {}", self.next[index]);
        assert!(!self.kit.consumer.is_paused(&key(given.partition)), "a paused partition hands out nothing");
        self.next[index] = given.offset + 1;
    }

    fn is_read(&self) -> bool {
        (0..PARTITIONS as usize).all(|index| self.logs[index].visible.range(self.next[index]..).next().is_none())
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..400 {
        world.step();
    }
    world.is_faulty = false;
    let healed_at = world.kit.now;
    while !world.is_read() {
        world.step();
        assert!(world.kit.now < Instant(healed_at.0 + 60_000), "not everything came: {:?}", world.next);
    }
}

#[test]
fn whatever_the_network_does_visible_records_come_once_and_in_order_and_all_of_them() {
    let one = std::env::var("KAVKA_SEED").ok().map(|seed| seed.parse::<u64>().expect("KAVKA_SEED is a number"));
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "KAVKA_SEED={seed} cargo test -p kavka-core --test consumer_simulation");
    }
}

//! Steps about topics, producers and records.

use std::collections::BTreeMap;

use kavka_core::wire::messages::create_partitions::CreatePartitionsTopic;
use kavka_core::wire::messages::create_topics::CreatableTopic;
use kavka_core::wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use kavka_core::wire::messages::delete_topics::DeleteTopicState;
use kavka_core::wire::messages::fetch::{FetchPartition, FetchTopic};
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kavka_core::wire::messages::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kavka_core::wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use kavka_core::wire::records::Records;
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};
use kavka_test_support::batches::{damaged, stored};

use super::Script;
use crate::cluster::{Batch, Topic, batch, metadata_of, offset_at, produce_request, producer_id, sequenced, until};

/// A topic's name; the topic may exist or not.
pub(super) struct Slot {
    pub(super) topic: Topic,
    pub(super) exists: bool,
    /// How often it was created.
    generation: u32,
    /// Whether records of it were deleted.
    has_deleted: bool,
}

impl Slot {
    pub(super) fn new(name: String) -> Self {
        Self {
            topic: Topic { name, id: Uuid::ZERO, leaders: vec![1] },
            exists: false,
            generation: 0,
            has_deleted: false,
        }
    }

    pub(super) fn was_never_deleted(&self) -> bool {
        self.exists && self.generation == 1
    }
}

/// Epoch, first sequence and number of records.
type StoredBatch = (i16, i32, i32);

pub(super) struct Producer {
    id: i64,
    epoch: i16,
    /// The batches that a partition has stored, oldest first, by slot, generation and partition.
    stored: BTreeMap<(usize, u32, i32), Vec<StoredBatch>>,
}

impl Script<'_> {
    /// A topic, and a partition that it may have.
    fn place(&mut self) -> (usize, i32) {
        let slot = self.random.below(self.topics.len());
        let partitions = self.topics[slot].topic.leaders.len() as i32;
        let partition = self.one_of(&[0, 0, 0, 1, 1, partitions, -1]);
        (slot, partition)
    }

    fn leader(&self, (slot, partition): (usize, i32)) -> i32 {
        *self.topics[slot].topic.leaders.get(partition as usize).unwrap_or(&1)
    }

    /// The end of a partition's log, once all of it can be read.
    fn end(&mut self, place: (usize, i32)) -> i64 {
        let (topic, leader) = (self.topics[place.0].topic.clone(), self.leader(place));
        if !self.topics[place.0].exists || !(0..topic.leaders.len() as i32).contains(&place.1) {
            return 0;
        }
        offset_at(self.connection(leader), &topic, place.1, -1).1.unwrap_or(0)
    }

    pub(super) fn change_topics(&mut self) {
        let slot = self.random.below(self.topics.len());
        match self.random.below(8) {
            0..4 if !self.topics[slot].exists => {
                let (partitions, replicas) = (self.one_of(&[1, 2, 2, 3, 0, -2]), self.one_of(&[1, 1, 2, 3, 0]));
                self.create_topic(slot, partitions, replicas);
            }
            0 => self.create_topic(slot, 1, 1),
            1 => self.create_badly(),
            2..4 => self.create_partitions(slot),
            _ => self.delete_topic(slot),
        }
    }

    pub(super) fn create_topic(&mut self, slot: usize, partitions: i32, replication_factor: i16) {
        let name = self.topics[slot].topic.name.clone();
        let code = self.create(&name, partitions, replication_factor);
        self.note(format!("create topic {slot} with {partitions} partitions, {replication_factor} replicas: {code}"));
        if code == ErrorCode::NONE {
            let topic = self.cluster.await_topic(&name, partitions);
            let generation = self.topics[slot].generation + 1;
            self.topics[slot] = Slot { topic, exists: true, generation, has_deleted: false };
        }
    }

    fn create_badly(&mut self) {
        let long = "long".repeat(63);
        let name = self.one_of(&["", ".", "a/b", "with space", &long]);
        let code = self.create(name, 1, 1);
        self.note(format!("create topic {name:.10}: {code}"));
    }

    fn create(&mut self, name: &str, partitions: i32, replication_factor: i16) -> ErrorCode {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: Some(partitions),
            replication_factor: Some(replication_factor),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
        let version = self.version(ApiKey::CreateTopics, 2, 99);
        self.connection(1).call_version(version, &request).topics[0].error_code
    }

    fn create_partitions(&mut self, slot: usize) {
        let before = self.topics[slot].topic.leaders.len() as i32;
        let count = before + self.one_of(&[-1, 0, 1, 2]);
        let name = self.topics[slot].topic.name.clone();
        let topic = CreatePartitionsTopic { name: name.clone(), count, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
        let version = self.version(ApiKey::CreatePartitions, 0, 99);
        let code = self.connection(1).call_version(version, &request).results[0].error_code;
        self.note(format!("topic {slot} to have {count} partitions after {before}: {code}"));
        if code == ErrorCode::NONE {
            self.topics[slot].topic = self.cluster.await_topic(&name, count);
        }
    }

    fn delete_topic(&mut self, slot: usize) {
        let name = self.topics[slot].topic.name.clone();
        let version = self.version(ApiKey::DeleteTopics, 1, 99);
        let state = DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
        let request = DeleteTopicsRequest { topics: vec![state], topic_names: vec![name.clone()], timeout_ms: 15_000 };
        let request = match version {
            6.. => DeleteTopicsRequest { topic_names: Vec::new(), ..request },
            _ => DeleteTopicsRequest { topics: Vec::new(), ..request },
        };
        let code = self.connection(1).call_version(version, &request).responses[0].error_code;
        self.note(format!("delete topic {slot}: {code}"));
        if code == ErrorCode::NONE {
            self.topics[slot].exists = false;
            for broker_id in [1, 2] {
                until("the topic to be gone", || {
                    let known = metadata_of(self.connection(broker_id), &name);
                    (known.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).then_some(())
                });
            }
        }
    }

    pub(super) fn init_producer(&mut self) {
        let given = self.random.below(4);
        let (producer_id, producer_epoch) = match (given, self.producers.first()) {
            (0, _) => (None, Some(3)),
            (1, Some(producer)) => (Some(producer.id), None),
            _ => (None, None),
        };
        let version = self.version(ApiKey::InitProducerId, if given < 2 { 3 } else { 0 }, 99);
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id,
            producer_epoch,
        };
        let answer = self.connection(1).call_version(version, &request);
        let told = (answer.error_code, answer.producer_id.is_some(), answer.producer_epoch);
        self.note(format!("init producer id, case {given}: {told:?}"));
    }

    /// The number of a producer. At most three; the first are made when they are needed.
    fn producer(&mut self) -> usize {
        let number = self.random.below(3).min(self.producers.len());
        if number == self.producers.len() {
            let id = producer_id(self.connection(1));
            self.producers.push(Producer { id, epoch: 0, stored: BTreeMap::new() });
        }
        number
    }

    pub(super) fn produce(&mut self) {
        let place = self.place();
        if self.random.below(6) == 0 {
            let (what, count, records) = match self.random.below(4) {
                0 => ("damaged", 2, damaged(batch(&["a", "b"]), 70)),
                1 => ("two", 2, two(batch(&["a"]), batch(&["b"]))),
                _ => ("plain", 3, Batch::at(&[(5_000, "a"), (3_000, "b"), (4_000, "c")]).build()),
            };
            let acks = self.one_of(&[-1, -1, 1, 2]);
            self.send(place, acks, records, count, what);
            return;
        }
        let number = self.producer();
        let count = self.one_of(&[1, 1, 2, 3]);
        let key = (place.0, self.topics[place.0].generation, place.1);
        let (epoch, before) = {
            let producer = &self.producers[number];
            (producer.epoch, producer.stored.get(&key).cloned().unwrap_or_default())
        };
        let next = before.last().map_or(0, |(last, base, count)| if *last == epoch { base + count } else { 0 });
        let older = self.random.below(before.len().max(1));
        let (epoch, base, count) = match self.random.below(12) {
            0 => (epoch, next + 1, count),
            1 if next > 0 => (epoch, next - 1, count),
            2..4 if !before.is_empty() => before[older],
            4 => before.last().map_or((epoch, next, count), |last| *last),
            5 => (epoch + 1, self.one_of(&[0, 0, 1, next]), count),
            6 if epoch > 0 => (epoch - 1, self.one_of(&[0, next]), count),
            _ => (epoch, next, count),
        };
        let values: Vec<String> = (0..count).map(|at| format!("{number}.{epoch}.{}", base + at)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let records = sequenced(self.producers[number].id, epoch, base, &values);
        let what = format!("producer {number} epoch {epoch} sequence {base} count {count}");
        if self.send(place, -1, records, count, &what) == ErrorCode::NONE {
            let producer = &mut self.producers[number];
            producer.epoch = producer.epoch.max(epoch);
            let kept = producer.stored.entry(key).or_default();
            if !kept.contains(&(epoch, base, count)) {
                kept.push((epoch, base, count));
            }
        }
    }

    fn send(&mut self, place: (usize, i32), acks: i16, records: Records, count: i32, what: &str) -> ErrorCode {
        let request = produce_request(&self.topics[place.0].topic, place.1, acks, records);
        let version = self.version(ApiKey::Produce, 3, 99);
        let leader = self.leader(place);
        let answer = self.connection(leader).call_version(version, &request);
        let told = &answer.responses[0].partition_responses[0];
        let code = told.error_code;
        let told = (code, told.base_offset, told.log_start_offset);
        self.note(format!("produce v{version} to {place:?} acks {acks} {what}: {told:?}"));
        if code == ErrorCode::NONE {
            // The high watermark follows the end of the log with a short delay.
            let end = until("the records to be readable", || {
                let end = self.end(place);
                (end >= told.1 + i64::from(count)).then_some(end)
            });
            self.note(format!("  ends at {end}"));
        }
        code
    }

    pub(super) fn fetch(&mut self) {
        let place = self.place();
        let end = self.end(place);
        let fetch_offset = self.one_of(&[0, end / 2, end - 1, end, end + 1, -1]);
        let (epoch, isolation_level) = (self.one_of(&[None, None, Some(0), Some(7)]), self.one_of(&[0, 1]));
        let version = self.version(ApiKey::Fetch, 4, 99);
        let partition = FetchPartition {
            partition: place.1,
            fetch_offset,
            current_leader_epoch: epoch,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let topic = &self.topics[place.0].topic;
        let topics = vec![FetchTopic { topic: topic.name.clone(), topic_id: topic.id, partitions: vec![partition] }];
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 1 << 20,
            isolation_level: isolation_level as i8,
            session_id: 0,
            session_epoch: None,
            topics,
            ..FetchRequest::default()
        };
        let leader = self.leader(place);
        let mut answer = self.connection(leader).call_version(version, &request);
        let mut line =
            format!("fetch v{version} {place:?} from {fetch_offset}, epoch {epoch:?}: {}", answer.error_code);
        if let Some(mut topic) = answer.responses.pop() {
            let data = topic.partitions.remove(0);
            let told = (data.error_code, data.high_watermark, data.last_stable_offset, data.log_start_offset);
            let records = stored(data.records.map(Records::into_bytes));
            let records: Vec<_> =
                records.into_iter().map(|(offset, value)| (offset, String::from_utf8(value).unwrap())).collect();
            line = format!("{line} {told:?} {records:?}");
        }
        self.note(line);
    }

    pub(super) fn list_offsets(&mut self) {
        let place = self.place();
        // After records were deleted, -3 finds the newest in the files, which may be deleted.
        let newest = if self.topics[place.0].has_deleted { -1 } else { -3 };
        let timestamp = self.one_of(&[-1, -2, newest, 0, 1_000, 1_002, 3_500, 9_000]);
        let epoch = self.one_of(&[None, None, Some(0), Some(7)]);
        let version = self.version(ApiKey::ListOffsets, if timestamp == -3 { 7 } else { 1 }, 99);
        let partition = ListOffsetsPartition {
            partition_index: place.1,
            timestamp,
            current_leader_epoch: epoch,
            ..ListOffsetsPartition::default()
        };
        let name = self.topics[place.0].topic.name.clone();
        let topics = vec![ListOffsetsTopic { name, partitions: vec![partition] }];
        let request = ListOffsetsRequest { replica_id: None, topics, ..ListOffsetsRequest::default() };
        let leader = self.leader(place);
        let told = self.connection(leader).call_version(version, &request).topics.remove(0).partitions.remove(0);
        let told = (told.error_code, told.offset, told.timestamp, told.leader_epoch);
        self.note(format!("list offsets v{version} {place:?} at {timestamp}, epoch {epoch:?}: {told:?}"));
    }

    pub(super) fn delete_records(&mut self) {
        let place = self.place();
        let end = self.end(place);
        let offset = self.one_of(&[Some(0), Some(end / 2), Some(end), Some(end + 1), None]);
        let partitions = vec![DeleteRecordsPartition { partition_index: place.1, offset }];
        let name = self.topics[place.0].topic.name.clone();
        let topics = vec![DeleteRecordsTopic { name, partitions }];
        let version = self.version(ApiKey::DeleteRecords, 0, 99);
        let leader = self.leader(place);
        let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
        let answer = self.connection(leader).call_version(version, &request);
        let told = &answer.topics[0].partitions[0];
        let told = (told.error_code, told.low_watermark);
        self.topics[place.0].has_deleted |= told.0 == ErrorCode::NONE;
        self.note(format!("delete records v{version} {place:?} before {offset:?}: {told:?}"));
    }

    pub(super) fn look_up_epoch(&mut self) {
        let place = self.place();
        let (leader_epoch, current) = (self.one_of(&[0, 0, 1, 5]), self.one_of(&[None, Some(0), Some(7)]));
        let partition = OffsetForLeaderPartition { partition: place.1, current_leader_epoch: current, leader_epoch };
        let topic = self.topics[place.0].topic.name.clone();
        let topics = vec![OffsetForLeaderTopic { topic, partitions: vec![partition] }];
        let version = self.version(ApiKey::OffsetForLeaderEpoch, 2, 99);
        let leader = self.leader(place);
        let request = OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() };
        let told = self.connection(leader).call_version(version, &request).topics.remove(0).partitions.remove(0);
        let told = (told.error_code, told.leader_epoch, told.end_offset);
        self.note(format!("end of epoch {leader_epoch} of {place:?} v{version}, current {current:?}: {told:?}"));
    }
}

/// Two batches, one behind the other.
fn two(first: Records, second: Records) -> Records {
    bytes::Bytes::from([first.into_bytes(), second.into_bytes()].concat()).into()
}

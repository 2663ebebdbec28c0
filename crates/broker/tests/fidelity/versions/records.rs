//! How records are stored and read in each format.

use std::sync::Arc;

use bytes::Bytes;
use kavka_broker::KafkaVersion;
use kavka_core::wire::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use kavka_core::wire::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use kavka_core::wire::messages::{FetchRequest, ProduceRequest};
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compression, CompressionType, Compressor, Decompressor, Format, Header,
    MessageSetBuilder, Records, Stamp, TimestampType, batches,
};
use kavka_core::wire::{ApiKey, ErrorCode};
use kavka_test_support::batches::{Batch, batch, sequenced};

use super::served::{Served, TOPIC};

/// Long enough to become smaller by compression.
fn long(letter: &str) -> Vec<u8> {
    letter.repeat(100).into_bytes()
}

/// A message set as an old producer writes it: offsets from 0, timestamps from 1000.
pub(super) fn set(format: Format, codec: CompressionType, values: &[&[u8]]) -> Records {
    let mut set = MessageSetBuilder::new(format, TimestampType::CreateTime, codec);
    for (value, number) in values.iter().zip(0..) {
        set.append(number, 1000 + number, Some(b"key"), Some(value));
    }
    set.build().unwrap().into()
}

fn produce_request(partition: i32, records: Records) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records) }];
    let topic = TopicProduceData { name: TOPIC.into(), partition_data, ..TopicProduceData::default() };
    ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 10_000, topic_data: vec![topic] }
}

impl Served {
    pub(super) fn newest(&self, key: ApiKey) -> i16 {
        self.version.versions(key).unwrap().1
    }

    pub(super) fn produce(&self, version: i16, partition: i32, records: Records) -> PartitionProduceResponse {
        let request = produce_request(partition, records);
        self.connect().call_version(version, &request).responses.remove(0).partition_responses.remove(0)
    }

    /// Produces with success; returns the offset.
    fn append(&self, version: i16, partition: i32, records: Records) -> i64 {
        let answer = self.produce(version, partition, records);
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        answer.base_offset
    }

    fn fetch(&self, version: i16, partition: i32, fetch_offset: i64, max_bytes: i32) -> PartitionData {
        let partition =
            FetchPartition { partition, fetch_offset, partition_max_bytes: max_bytes, ..FetchPartition::default() };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() };
        let request =
            FetchRequest { max_wait_ms: 10_000, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
        self.connect().call_version(version, &request).responses.remove(0).partitions.remove(0)
    }

    fn fetched(&self, version: i16, partition: i32, fetch_offset: i64) -> Bytes {
        let data = self.fetch(version, partition, fetch_offset, 1 << 20);
        assert_eq!(data.error_code, ErrorCode::NONE, "{data:?}");
        data.records.unwrap().into_bytes()
    }
}

/// A message or batch as it lies in a log: its offset, its magic, its codec.
#[derive(Debug, PartialEq)]
struct Unit(i64, u8, u8);

/// What lies one after the other, without looking inside.
fn units(mut bytes: Bytes) -> Vec<Unit> {
    let mut units = Vec::new();
    while bytes.len() > 12 {
        let offset = i64::from_be_bytes(*bytes.first_chunk().unwrap());
        let size = i32::from_be_bytes(*bytes[8..].first_chunk().unwrap()) as usize + 12;
        if size > bytes.len() {
            break;
        }
        let codec = if bytes[16] == 2 { bytes[22] } else { bytes[17] } & 7;
        units.push(Unit(offset, bytes[16], codec));
        bytes = bytes.split_off(size);
    }
    units
}

/// The offset, timestamp and value of each record.
fn records_in(bytes: Bytes) -> Vec<(i64, i64, Vec<u8>)> {
    let mut records = Vec::new();
    for batch in batches(bytes) {
        let mut batch = batch.unwrap().open(&mut Decompressor::new(), 64 << 20).unwrap();
        let data = batch.data().clone();
        while let Some(record) = batch.next_record() {
            let record = record.unwrap();
            let value = record.value.map(|value| value.of(&data).to_vec());
            records.push((record.offset, record.timestamp_ms, value.unwrap_or_default()));
        }
    }
    records
}

/// The first version of `Fetch`.
const OLDEST_FETCH: i16 = 0;

pub(super) fn plain_messages_keep_their_place(served: &Served) {
    let partition = served.partition();
    let values = [b"a".as_slice(), b"b", b"c"];
    for first in [0, 3] {
        assert_eq!(served.append(0, partition, set(Format::V0, CompressionType::None, &values)), first);
    }
    let read = records_in(served.fetched(OLDEST_FETCH, partition, 0));
    let expected: Vec<_> =
        (0..).zip(values.iter().cycle()).take(6).map(|(at, value)| (at, -1, value.to_vec())).collect();
    assert_eq!(read, expected);
    // A message is found by its offset, also in the middle of what was sent together.
    assert_eq!(records_in(served.fetched(OLDEST_FETCH, partition, 4)), expected[4..]);
}

pub(super) fn compressed_messages_of_magic_0_have_absolute_offsets(served: &Served) {
    for codec in [CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4] {
        let partition = served.partition();
        let values = [long("a"), long("b")];
        let values = [values[0].as_slice(), &values[1]];
        served.append(0, partition, set(Format::V0, CompressionType::None, &[b"first"]));
        assert_eq!(served.append(0, partition, set(Format::V0, codec, &values)), 1, "{codec}");
        let stored = served.fetched(OLDEST_FETCH, partition, 1);
        assert_eq!(units(stored.clone()), [Unit(2, 0, codec.id())]);
        let read = records_in(stored);
        assert_eq!(read, [(1, -1, values[0].to_vec()), (2, -1, values[1].to_vec())], "{codec}");
    }
}

pub(super) fn messages_of_magic_1_keep_their_times(served: &Served) {
    let (plain, packed) = (served.partition(), served.partition());
    for (partition, codec) in [(plain, CompressionType::None), (packed, CompressionType::Gzip)] {
        let values = [long("a"), long("b")];
        let sent = set(Format::V1, codec, &[&values[0], &values[1]]);
        served.append(2, partition, sent.clone());
        served.append(2, partition, sent);
        let read = records_in(served.fetched(2, partition, 2));
        assert_eq!(read, [(2, 1000, values[0].clone()), (3, 1001, values[1].clone())], "{codec}");
    }
    assert_eq!(units(served.fetched(2, packed, 0)), [Unit(1, 1, 1), Unit(3, 1, 1)]);
}

pub(super) fn messages_of_magic_0_get_no_times_when_they_become_magic_1(served: &Served) {
    for codec in [CompressionType::None, CompressionType::Gzip] {
        let partition = served.partition();
        let value = long("a");
        served.append(0, partition, set(Format::V0, codec, &[&value, &value]));
        let read = served.fetched(2, partition, 0);
        assert!(units(read.clone()).iter().all(|unit| unit.1 == 1), "{read:?}");
        assert_eq!(records_in(read), [(0, -1, value.clone()), (1, -1, value)], "{codec}");
    }
}

pub(super) fn compressed_messages_in_one_request_become_one(served: &Served) {
    let partition = served.partition();
    let value = long("a");
    let format = if served.version < KafkaVersion::V0_10_0 { Format::V0 } else { Format::V1 };
    let plain = set(format, CompressionType::None, &[b"plain"]).into_bytes();
    let packed = set(format, CompressionType::Gzip, &[&value, &value]).into_bytes();
    let answer = served.produce(0, partition, Records::from_segments(vec![plain, packed]));
    if served.version >= KafkaVersion::V2_8 {
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::INVALID_RECORD, -1));
        return;
    }
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let read = served.fetched(OLDEST_FETCH, partition, 0);
    assert_eq!(units(read.clone()), [Unit(2, 0, 1)]);
    assert_eq!(records_in(read).iter().map(|record| record.0).collect::<Vec<_>>(), [0, 1, 2]);
}

pub(super) fn a_record_batch_is_corrupt(served: &Served) {
    let answer = served.produce(0, served.partition(), batch(&["value"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::CORRUPT_MESSAGE, -1));
}

pub(super) fn a_message_with_a_wrong_crc_is_corrupt(served: &Served) {
    let mut bytes = set(Format::V0, CompressionType::None, &[b"value"]).into_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let answer = served.produce(0, served.partition(), Bytes::from(bytes).into());
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::CORRUPT_MESSAGE, -1));
}

pub(super) fn a_last_message_that_is_cut_off_is_left_out(served: &Served) {
    let partition = served.partition();
    let sent = set(Format::V0, CompressionType::None, &[b"whole", b"cut off"]).into_bytes();
    served.append(0, partition, sent.slice(..sent.len() - 1).into());
    let read = records_in(served.fetched(OLDEST_FETCH, partition, 0));
    assert_eq!(read, [(0, -1, b"whole".to_vec())]);
}

pub(super) fn old_messages_become_a_batch(served: &Served) {
    for (produce, format) in [(0, Format::V0), (2, Format::V1)] {
        for codec in [CompressionType::None, CompressionType::Gzip] {
            let partition = served.partition();
            let value = long("a");
            served.append(produce, partition, set(format, codec, &[&value, &value]));
            let read = served.fetched(4, partition, 0);
            assert_eq!(units(read.clone()), [Unit(0, 2, codec.id())]);
            let times = if format == Format::V0 { [-1, -1] } else { [1000, 1001] };
            assert_eq!(records_in(read), [(0, times[0], value.clone()), (1, times[1], value)], "{codec}");
        }
    }
}

pub(super) fn an_old_consumer_gets_messages_with_the_same_offsets(served: &Served) {
    let (partition, value) = (served.partition(), long("a"));
    let values = [value.as_slice(), &value];
    served.append(3, partition, Batch::of(&values).build());
    served.append(3, partition, Batch::of(&values).compressed(CompressionType::Gzip).build());
    for (fetch, magic) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let read = served.fetched(fetch, partition, 1);
        assert_eq!(units(read.clone()), [Unit(1, magic, 0), Unit(3, magic, 1)], "Fetch v{fetch}");
        let times: Vec<_> = records_in(whole(&read)).iter().map(|(offset, time, _)| (*offset, *time)).collect();
        let expected = [(1, 1001), (2, 1000), (3, 1001)].map(|(at, time)| (at, if magic == 0 { -1 } else { time }));
        assert_eq!(times, expected, "Fetch v{fetch}");
    }
}

/// Without the filler that Kafka 2 and 3 append to reach the size that they announced.
fn whole(bytes: &Bytes) -> Bytes {
    let mut end = 0;
    while let Some(size) = bytes.get(end + 8..end + 12) {
        let next = end + 12 + i32::from_be_bytes(size.try_into().unwrap()) as usize;
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    bytes.slice(..end)
}

pub(super) fn an_old_consumer_gets_no_headers(served: &Served) {
    let partition = served.partition();
    served.append(3, partition, with_header());
    let data = served.fetch(OLDEST_FETCH, partition, 0, 1 << 20);
    if served.version == KafkaVersion::V0_11 {
        assert_eq!(data.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
        return;
    }
    assert_eq!(data.error_code, ErrorCode::NONE);
    let read = whole(&data.records.unwrap().into_bytes());
    assert_eq!(records_in(read), [(0, -1, b"value".to_vec())]);
}

fn with_header() -> Records {
    let pool = BufferPool::new(1 << 20, Arc::new(|| ()));
    let mut batch = BatchBuilder::new(&pool, 1 << 20);
    batch.append(1000, None, Some(b"value"), &[Header { key: b"name", value: None }]).unwrap();
    batch.seal(Stamp::default(), &mut Compressor::new(Compression::default()).unwrap()).unwrap()
}

pub(super) fn messages_in_a_new_request_are_refused(served: &Served) {
    let request = produce_request(served.partition(), set(Format::V1, CompressionType::None, &[b"value"]));
    let mut connection = served.connect();
    connection.send(3, &request);
    if served.version < KafkaVersion::V2_1 {
        assert!(connection.is_closed_by_the_broker());
        return;
    }
    let answer = connection.receive::<ProduceRequest>(3).responses.remove(0).partition_responses.remove(0);
    let is_old = served.version < KafkaVersion::V2_8;
    assert_eq!(answer.error_code, if is_old { ErrorCode::CORRUPT_MESSAGE } else { ErrorCode::INVALID_RECORD });
}

pub(super) fn zstd_needs_a_version_that_has_it(served: &Served) {
    let sent = || Batch::of(&[long("a")]).compressed(CompressionType::Zstd).build();
    let refused = served.produce(3, served.partition(), sent());
    let is_old = served.version < KafkaVersion::V2_1;
    let code = if is_old { ErrorCode::UNKNOWN_SERVER_ERROR } else { ErrorCode::UNSUPPORTED_COMPRESSION_TYPE };
    assert_eq!((refused.error_code, refused.base_offset), (code, -1));
    if is_old {
        return;
    }
    let partition = served.partition();
    served.append(7, partition, sent());
    assert_eq!(records_in(served.fetched(10, partition, 0)), [(0, 1000, long("a"))]);
    assert_eq!(served.fetch(0, partition, 0, 1 << 20).error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

pub(super) fn an_unknown_producer_begins_where_the_version_lets_it(served: &Served) {
    let newest = served.newest(ApiKey::Produce).min(7);
    let answer = served.produce(newest, served.partition(), sequenced(777, 0, 7, &["value"]));
    let expected = match served.version {
        KafkaVersion::V0_11 => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaVersion::V1_1 | KafkaVersion::V2_1 => ErrorCode::UNKNOWN_PRODUCER_ID,
        _ => ErrorCode::NONE,
    };
    assert_eq!(answer.error_code, expected);
}

pub(super) fn an_old_fetch_cuts_off_what_does_not_fit(served: &Served) {
    let partition = served.partition();
    served.append(0, partition, set(Format::V0, CompressionType::None, &[&long("a")]));
    for version in 0..=served.newest(ApiKey::Fetch).min(2) {
        let data = served.fetch(version, partition, 0, 50);
        let kept = if served.version < KafkaVersion::V3_9 { 50 } else { 0 };
        assert_eq!((data.error_code, data.records.unwrap().len()), (ErrorCode::NONE, kept), "Fetch v{version}");
    }
}

pub(super) fn a_newer_fetch_returns_the_first_batch_whatever_the_limit(served: &Served) {
    let partition = served.partition();
    served.append(0, partition, set(Format::V0, CompressionType::None, &[&long("a")]));
    let read = served.fetch(3, partition, 0, 50).records.unwrap().into_bytes();
    assert_eq!(records_in(whole(&read)), [(0, -1, long("a"))]);
}

//! Fetched record batches that violate the protocol (guarantee R16).

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bytes::Bytes;
use kavka::blocking::Consumer;
use kavka::{ConsumerConfig, Error, StartPosition, TopicPartition};
use kavka_core::wire::messages::fetch::{FetchableTopicResponse, PartitionData};
use kavka_core::wire::messages::{FetchRequest, FetchResponse};
use kavka_core::wire::records::{CompressionType, assign_offset};
use kavka_core::wire::{ApiKey, Message, Uuid};
use kavka_test_support::batches::Batch;

use crate::server::{LIMIT, Reply, Request, Server, TOPIC, TOPIC_ID};

/// A batch of three records.
fn good(codec: CompressionType) -> Vec<u8> {
    let values = [&b"compressible ".repeat(20)[..], b"two", b"three"];
    let mut bytes = Batch::of(&values).compressed(codec).build().into_bytes().to_vec();
    assign_offset(&mut bytes, 0, 0);
    bytes
}

/// Positions of fields in a batch.
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const RECORD_COUNT: usize = 57;
const RECORDS: usize = 61;

fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

/// The batch with a correct CRC, so that what is behind it is looked at.
fn sealed(batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[ATTRIBUTES..]);
    with(batch, CRC, &crc.to_be_bytes())
}

/// CRC-32C computed bit by bit, independently of the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// Answers every fetch at once: partition 0 with `bytes`, partition 1 with a valid batch, once.
fn fetched(request: &Request, bytes: &[u8]) -> Reply {
    let asked = FetchRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    let mut partitions = Vec::new();
    for partition in asked.topics.iter().flat_map(|topic| &topic.partitions) {
        let records = match partition.partition {
            0 => Bytes::copy_from_slice(bytes),
            _ if partition.fetch_offset == 0 => good(CompressionType::None).into(),
            _ => Bytes::new(),
        };
        partitions.push(PartitionData {
            partition_index: partition.partition,
            high_watermark: 1000,
            last_stable_offset: Some(1000),
            log_start_offset: Some(0),
            records: Some(records.into()),
            ..PartitionData::default()
        });
    }
    let topic = FetchableTopicResponse { topic: TOPIC.into(), topic_id: TOPIC_ID, partitions };
    let responses = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
    Reply::message(request, &FetchResponse { responses, ..FetchResponse::default() })
}

/// What a consumer of both partitions sees.
struct Seen {
    errors: Vec<Error>,
    /// The number of records of each partition.
    records: [usize; 2],
    /// How many fetches there were in each second, on average.
    fetches_a_second: f64,
}

/// Consumes for a second at least, and until `is_done` says that everything has come.
fn consume(bytes: Vec<u8>, start: i64, is_done: impl Fn(&[Error], [usize; 2]) -> bool) -> Seen {
    consume_from(move |request| fetched(request, &bytes), start, is_done)
}

/// As [`consume`], with these answers to fetches.
fn consume_from(
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    start: i64,
    is_done: impl Fn(&[Error], [usize; 2]) -> bool,
) -> Seen {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Fetch => answer(request),
        _ => Reply::Behave,
    });
    let client = server.client();
    let consumer = Consumer::from(client.consumer(ConsumerConfig::default()).unwrap());
    consumer.add(&TopicPartition::new(TOPIC, 0), StartPosition::Offset(start)).unwrap();
    consumer.add(&TopicPartition::new(TOPIC, 1), StartPosition::Offset(0)).unwrap();
    let (mut errors, mut records) = (Vec::new(), [0; 2]);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || !is_done(&errors, records) && begin.elapsed() < LIMIT {
        match consumer.next_records(100, Duration::from_millis(100)) {
            Ok(found) => {
                for record in found {
                    records[record.topic_partition.partition as usize] += 1;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    let fetches_a_second =
        f64::from(u32::try_from(server.requests(ApiKey::Fetch)).unwrap()) / begin.elapsed().as_secs_f64();
    Seen { errors, records, fetches_a_second }
}

/// Each of these contents of partition 0 parks it. They are consumed at the same time, because each takes a second.
fn are_parked(contents: impl IntoIterator<Item = (&'static str, Vec<u8>)>) {
    thread::scope(|scope| {
        for (what, bytes) in contents {
            scope.spawn(move || is_parked(what, bytes));
        }
    });
}

fn is_parked(what: &str, bytes: Vec<u8>) {
    let Seen { errors, records, .. } = consume(bytes, 0, |errors, records| !errors.is_empty() && records[1] == 3);
    assert_eq!(errors.len(), 1, "{what}: {errors:?}");
    assert_eq!(records, [0, 3], "{what}: nothing of the bad partition, everything of the other");
    let (text, place) = (errors[0].to_string(), errors[0].place().clone());
    assert!(place.topic.as_deref() == Some(TOPIC) && place.partition == Some(0), "{what}: {text}");
}

#[test]
fn a_good_batch_is_read_with_every_codec() {
    for codec in [
        CompressionType::None,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ] {
        let bytes = good(codec);
        assert_eq!(sealed(bytes.clone()), bytes, "the CRC of this test is right");
        // The same batch again and again: once below the position, it is skipped.
        let Seen { errors, records, .. } = consume(bytes, 0, |_, records| records == [3, 3]);
        assert_eq!((errors.len(), records), (0, [3, 3]), "{}: {errors:?}", codec.name());
    }
}

#[test]
fn a_wrong_crc_parks_the_partition() {
    are_parked([CompressionType::None, CompressionType::Gzip].map(|codec| {
        let batch = good(codec);
        let last = batch.len() - 1;
        let flipped = batch[last] ^ 1;
        ("a flipped bit", with(batch, last, &[flipped]))
    }));
}

#[test]
fn lengths_and_counts_that_lie_park_the_partition() {
    let plain = || good(CompressionType::None);
    are_parked([i32::MAX, -5, 4, 2].map(|count: i32| {
        let batch = sealed(with(plain(), RECORD_COUNT, &count.to_be_bytes()));
        ("record count", batch)
    }));
    are_parked([
        ("record length", sealed(with(plain(), RECORDS, &[0xfe, 0xff, 0xff, 0xff, 0x0f]))),
        ("record length below 0", sealed(with(plain(), RECORDS, &[0x0d, 0]))),
    ]);
    are_parked([0, i32::MIN, 40].map(|length: i32| {
        let batch = with(plain(), LENGTH, &length.to_be_bytes());
        ("batch length", batch)
    }));
}

#[test]
fn an_unknown_magic_or_codec_parks_the_partition() {
    are_parked([
        ("magic 9", with(good(CompressionType::None), MAGIC, &[9])),
        ("codec 7", sealed(with(good(CompressionType::None), ATTRIBUTES, &[0, 7]))),
    ]);
}

#[test]
fn compressed_nonsense_parks_the_partition() {
    are_parked((1..).zip(["gzip", "snappy", "lz4", "zstd"]).flat_map(|(number, codec)| {
        let named = with(good(CompressionType::None), ATTRIBUTES, &[0, number]);
        // Bytes that a decoder could take for a declared size of gigabytes.
        let vast = with(named.clone(), RECORDS, &[0xff; 30]);
        [(codec, sealed(named)), (codec, sealed(vast))]
    }));
}

/// A batch whose records become half a GiB of zeros.
fn bomb(codec: CompressionType) -> Vec<u8> {
    const PIECE_BYTES: usize = 16 << 20;
    let piece = Batch::of(&[vec![0; PIECE_BYTES]]).compressed(codec).build().into_bytes();
    let (header, stream) = piece.split_at(RECORDS);
    // Snappy's stream begins once, before its blocks; those of the others may follow each other.
    let (begin, blocks) = stream.split_at(if codec == CompressionType::Snappy { 16 } else { 0 });
    let bomb = [header, begin, &blocks.repeat((512 << 20) / PIECE_BYTES)].concat();
    let length = i32::try_from(bomb.len() - MAGIC + 4).unwrap();
    sealed(with(bomb, LENGTH, &length.to_be_bytes()))
}

/// The most memory that this process has had.
fn peak_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_bomb_parks_its_partition_within_the_memory_that_is_promised() {
    const CODEC: &str = "KAVKA_TEST_BOMB";
    let Ok(name) = env::var(CODEC) else {
        // Each in a process of its own, because it measures the memory of all of it.
        let test = thread::current().name().unwrap().to_owned();
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            let mut alone = Command::new(env::current_exe().unwrap());
            let done = alone.args(["--exact", &test]).env(CODEC, codec).output().unwrap();
            assert!(done.status.success(), "{codec}: {}", String::from_utf8_lossy(&done.stdout));
        }
        return;
    };
    let bomb = bomb(CompressionType::from_name(&name).unwrap());
    let seen = consume(bomb, 0, |errors, records| !errors.is_empty() && records[1] == 3);
    assert_eq!((seen.errors.len(), seen.records), (1, [0, 3]), "{:?}", seen.errors);
    let text = seen.errors[0].to_string();
    assert!(text.contains("becomes longer than 67108864 bytes") && text.contains("topic-0"), "{text}");
    assert!(peak_mib() < 200, "{} MiB", peak_mib());
}

#[test]
fn batches_below_the_position_are_dropped_without_a_hot_loop() {
    let seen = consume(good(CompressionType::None), 100, |_, records| records[1] == 3);
    assert_eq!((seen.errors.len(), seen.records), (0, [0, 3]), "{:?}", seen.errors);
    assert!(seen.fetches_a_second <= 12.0, "{} fetches in a second", seen.fetches_a_second);
}

#[test]
fn a_batch_that_is_always_cut_off_is_no_hot_loop() {
    let batch = good(CompressionType::None);
    let seen = consume(batch[..batch.len() - 10].to_vec(), 0, |_, records| records[1] == 3);
    assert_eq!(seen.records, [0, 3]);
    assert!(seen.errors.len() <= 1, "{:?}", seen.errors);
    assert!(seen.fetches_a_second <= 12.0, "{} fetches in a second", seen.fetches_a_second);
}

/// What an answer holds beside, or in place of, what was asked for.
fn altered(request: &Request, alter: impl Fn(&mut FetchResponse)) -> Reply {
    let asked = FetchRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    // A correct broker would wait, too.
    thread::sleep(Duration::from_millis(20));
    let data = |number: i32| PartitionData {
        partition_index: number,
        high_watermark: 3,
        last_stable_offset: Some(3),
        log_start_offset: Some(0),
        records: Some(Bytes::from(good(CompressionType::None)).into()),
        ..PartitionData::default()
    };
    let partitions = asked.topics.iter().flat_map(|topic| &topic.partitions);
    let partitions = partitions.filter(|asked| asked.fetch_offset == 0).map(|asked| data(asked.partition)).collect();
    let topic = FetchableTopicResponse { topic: TOPIC.into(), topic_id: TOPIC_ID, partitions };
    let mut response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    alter(&mut response);
    Reply::message(request, &response)
}

/// A consumer of both partitions reads them to the end, once, whatever else is in the answers.
fn are_read_once(what: &str, alter: impl Fn(&mut FetchResponse) + Send + Sync + 'static) {
    let is_done = |_: &[Error], records: [usize; 2]| records == [3, 3];
    let seen = consume_from(move |request| altered(request, &alter), 0, is_done);
    assert_eq!((seen.errors.len(), seen.records), (0, [3, 3]), "{what}: {:?}", seen.errors);
    assert!(seen.fetches_a_second <= 60.0, "{what}: {} fetches in a second", seen.fetches_a_second);
}

#[test]
fn what_nobody_asked_for_is_not_read() {
    are_read_once("a topic that was not asked for", |response| {
        let mut other = FetchableTopicResponse { topic: "other".into(), topic_id: Uuid([9; 16]), ..topic_of(response) };
        other.partitions = vec![partition_of(response, 0)];
        response.responses.push(other);
    });
    are_read_once("partitions that were not asked for", |response| {
        for number in [7, -1, i32::MAX] {
            let foreign = partition_of(response, number);
            response.responses[0].partitions.push(foreign);
        }
    });
}

#[test]
fn what_is_answered_twice_is_read_once() {
    are_read_once("a partition twice", |response| {
        let again = response.responses[0].partitions.clone();
        response.responses[0].partitions.extend(again);
    });
    are_read_once("a topic twice", |response| {
        let again = topic_of(response);
        response.responses.push(again);
    });
}

fn topic_of(response: &FetchResponse) -> FetchableTopicResponse {
    response.responses[0].clone()
}

/// The data of some partition, under this number.
fn partition_of(response: &FetchResponse, partition_index: i32) -> PartitionData {
    let records = Some(Bytes::from(good(CompressionType::None)).into());
    let some = response.responses[0].partitions.first().cloned().unwrap_or_default();
    PartitionData { partition_index, records, ..some }
}

#[test]
fn a_partition_that_is_never_answered_is_no_hot_loop_and_holds_up_no_other() {
    let is_done = |_: &[Error], records: [usize; 2]| records[1] == 3;
    let leave_out = |response: &mut FetchResponse| {
        response.responses[0].partitions.retain(|partition| partition.partition_index == 1);
    };
    let seen = consume_from(move |request| altered(request, leave_out), 0, is_done);
    assert_eq!((seen.errors.len(), seen.records), (0, [0, 3]), "{:?}", seen.errors);
    assert!(seen.fetches_a_second <= 60.0, "{} fetches in a second", seen.fetches_a_second);
}

#[test]
fn nonsense_instead_of_an_answer_is_no_hot_loop() {
    for body in [vec![], vec![0xff; 60], vec![0x7f; 60]] {
        let server = Server::scripted(move |request| match request.header.key {
            ApiKey::Fetch => Reply::Body(body.clone()),
            _ => Reply::Behave,
        });
        let consumer = Consumer::from(server.client().consumer(ConsumerConfig::default()).unwrap());
        consumer.add(&TopicPartition::new(TOPIC, 0), StartPosition::Offset(0)).unwrap();
        let (begin, mut errors) = (Instant::now(), Vec::new());
        while begin.elapsed() < Duration::from_secs(2) {
            match consumer.next_records(1, Duration::from_millis(100)) {
                Ok(records) => assert_eq!(records, []),
                Err(error) => errors.push(error.to_string()),
            }
        }
        let most = (6.0 * begin.elapsed().as_secs_f64()) as usize;
        assert!(server.connections() <= most, "{} connections, at most {most}", server.connections());
        assert!(errors.len() <= most && errors.iter().all(|error| error.contains("Fetch")), "{errors:?}");
        assert!(errors.iter().all(|error| !error.contains("written")), "a fetch writes nothing: {errors:?}");
    }
}

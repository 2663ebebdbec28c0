//! Fetched record batches that are not what the protocol says (guarantee R16).

use std::time::{Duration, Instant};

use bytes::Bytes;
use kavka::{ConsumerConfig, Error, StartPosition, TopicPartition};
use kavka_core::wire::messages::fetch::{FetchableTopicResponse, PartitionData};
use kavka_core::wire::messages::{FetchRequest, FetchResponse};
use kavka_core::wire::records::{CompressionType, assign_offset};
use kavka_core::wire::{ApiKey, Message};
use kavka_test_support::batches::Batch;

use crate::server::{Reply, Request, Server, TOPIC, TOPIC_ID};

/// A batch of three records.
fn good(codec: CompressionType) -> Vec<u8> {
    let values = [&b"compressible ".repeat(20)[..], b"two", b"three"];
    let mut bytes = Batch::of(&values).compressed(codec).build().into_bytes().to_vec();
    assign_offset(&mut bytes, 0, 0);
    bytes
}

/// Where things are in a batch.
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

/// The same with a CRC that is right, so that what lies behind it is looked at.
fn sealed(batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[ATTRIBUTES..]);
    with(batch, CRC, &crc.to_be_bytes())
}

/// CRC-32C bit by bit, so that it is not the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// Answers every fetch at once: partition 0 with `bytes`, partition 1 with a good batch that is read once.
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

/// What a consumer of both partitions sees in a second: the errors, and how many records of each partition.
fn consume(bytes: Vec<u8>, start: i64) -> (Server, Vec<Error>, [usize; 2]) {
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::Fetch => fetched(request, &bytes),
        _ => Reply::Behave,
    });
    let client = server.client();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.add(&TopicPartition::new(TOPIC, 0), StartPosition::Offset(start)).unwrap();
    consumer.add(&TopicPartition::new(TOPIC, 1), StartPosition::Offset(0)).unwrap();
    let (mut errors, mut records) = (Vec::new(), [0; 2]);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || records[1] == 0 && begin.elapsed() < Duration::from_secs(30) {
        match consumer.wait_records(100, Duration::from_millis(100)) {
            Ok(found) => {
                for record in found {
                    records[record.topic_partition.partition as usize] += 1;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    (server, errors, records)
}

fn is_parked(what: &str, bytes: Vec<u8>) {
    let (_, errors, records) = consume(bytes, 0);
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
        // The same batch again and again: below the position it is no news.
        let (_, errors, records) = consume(bytes, 0);
        assert_eq!((errors.len(), records), (0, [3, 3]), "{}: {errors:?}", codec.name());
    }
}

#[test]
fn a_wrong_crc_parks_the_partition() {
    for codec in [CompressionType::None, CompressionType::Gzip] {
        let batch = good(codec);
        let last = batch.len() - 1;
        let flipped = batch[last] ^ 1;
        is_parked("a flipped bit", with(batch, last, &[flipped]));
    }
}

#[test]
fn lengths_and_counts_that_lie_park_the_partition() {
    let plain = || good(CompressionType::None);
    for count in [i32::MAX, -5, 4, 2] {
        is_parked("record count", sealed(with(plain(), RECORD_COUNT, &count.to_be_bytes())));
    }
    is_parked("record length", sealed(with(plain(), RECORDS, &[0xfe, 0xff, 0xff, 0xff, 0x0f])));
    is_parked("record length below 0", sealed(with(plain(), RECORDS, &[0x0d, 0])));
    for length in [0, i32::MIN, 40] {
        is_parked("batch length", with(plain(), LENGTH, &length.to_be_bytes()));
    }
}

#[test]
fn an_unknown_magic_or_codec_parks_the_partition() {
    is_parked("magic 9", with(good(CompressionType::None), MAGIC, &[9]));
    is_parked("codec 7", sealed(with(good(CompressionType::None), ATTRIBUTES, &[0, 7])));
}

#[test]
fn compressed_nonsense_parks_the_partition() {
    for (number, codec) in (1..).zip(["gzip", "snappy", "lz4", "zstd"]) {
        let named = with(good(CompressionType::None), ATTRIBUTES, &[0, number]);
        is_parked(codec, sealed(named.clone()));
        // What a decoder could take for a declared size of gigabytes.
        is_parked(codec, sealed(with(named, RECORDS, &[0xff; 30])));
    }
}

#[test]
fn batches_below_the_position_are_dropped_without_a_hot_loop() {
    let (server, errors, records) = consume(good(CompressionType::None), 100);
    assert_eq!((errors.len(), records), (0, [0, 3]), "{errors:?}");
    assert!(server.requests(ApiKey::Fetch) <= 12, "{} fetches in a second", server.requests(ApiKey::Fetch));
}

#[test]
fn a_batch_that_is_always_cut_off_is_no_hot_loop() {
    let batch = good(CompressionType::None);
    let (server, errors, records) = consume(batch[..batch.len() - 10].to_vec(), 0);
    assert_eq!(records, [0, 3]);
    assert!(errors.len() <= 1, "{errors:?}");
    assert!(server.requests(ApiKey::Fetch) <= 12, "{} fetches in a second", server.requests(ApiKey::Fetch));
}

#[test]
fn nonsense_instead_of_an_answer_is_no_hot_loop() {
    for body in [vec![], vec![0xff; 60], vec![0x7f; 60]] {
        let server = Server::scripted(move |request| match request.header.key {
            ApiKey::Fetch => Reply::Body(body.clone()),
            _ => Reply::Behave,
        });
        let consumer = server.client().consumer(ConsumerConfig::default()).unwrap();
        consumer.add(&TopicPartition::new(TOPIC, 0), StartPosition::Offset(0)).unwrap();
        let (begin, mut errors) = (Instant::now(), Vec::new());
        while begin.elapsed() < Duration::from_secs(2) {
            match consumer.wait_records(1, Duration::from_millis(100)) {
                Ok(records) => assert_eq!(records, []),
                Err(error) => errors.push(error.to_string()),
            }
        }
        assert!(server.connections() <= 12, "{} connections in two seconds", server.connections());
        assert!(errors.len() <= 12 && errors.iter().all(|error| error.contains("Fetch")), "{errors:?}");
        assert!(errors.iter().all(|error| !error.contains("written")), "a fetch writes nothing: {errors:?}");
    }
}

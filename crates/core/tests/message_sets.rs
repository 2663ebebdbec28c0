//! Message sets, the formats before Kafka 0.11: reading what brokers of that time stored, round trips of our own, and
//! hostile bytes, which must cause nothing but an error.

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::error::{ErrorKind, Result};
use kavka_core::wire::messages::FetchResponse;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, CompressionType, Compressor, Decompressor, Format, Header, RawBatch, Stamp,
    TimestampType, batches, to_message_set,
};
use kavka_core::wire::{ErrorCode, Message};
use proptest::prelude::*;

const OLD_CODECS: [CompressionType; 4] =
    [CompressionType::None, CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4];
const MOST: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn read(batch: &RawBatch) -> Result<Vec<Owned>> {
    let mut open = batch.open(&mut Decompressor::new(), MOST)?;
    let data = open.data().clone();
    let mut records = Vec::new();
    while let Some(record) = open.next_record() {
        let record = record?;
        assert_eq!(record.headers(&data).count(), 0);
        records.push(Owned {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(|key| key.of(&data).to_vec()),
            value: record.value.map(|value| value.of(&data).to_vec()),
        });
    }
    Ok(records)
}

fn read_all(bytes: impl Into<Bytes>) -> Result<Vec<Owned>> {
    let mut records = Vec::new();
    for batch in batches(bytes.into()) {
        records.extend(read(&batch?)?);
    }
    Ok(records)
}

/// One message, with the CRC that it should have.
fn message(magic: u8, attributes: u8, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend_from_slice(&(1_000 + offset).to_be_bytes());
    }
    for field in [key, value] {
        body.extend_from_slice(&field.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
        body.extend_from_slice(field.unwrap_or_default());
    }
    with_crc(offset, &body)
}

fn with_crc(offset: i64, body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(body);
    [&offset.to_be_bytes()[..], &(body.len() as i32 + 4).to_be_bytes(), &crc.sum().to_be_bytes(), body].concat()
}

fn plain(magic: u8, offset: i64) -> Vec<u8> {
    message(magic, 0, offset, Some(b"k"), Some(format!("value {offset}").as_bytes()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    Compressor::new(CompressionType::Gzip.into()).unwrap().compress(&[bytes], 0).unwrap()
}

/// A gzip wrapper around `inner`.
fn wrapper(magic: u8, offset: i64, inner: &[u8]) -> Vec<u8> {
    message(magic, 1, offset, None, Some(&gzip(inner)))
}

fn offsets(records: &[Owned]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

fn refused(bytes: impl Into<Bytes>) -> String {
    let error = read_all(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    error.to_string()
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/message_sets/");

fn golden(name: &str) -> Bytes {
    std::fs::read(format!("{GOLDEN}{name}.log")).unwrap().into()
}

#[test]
fn logs_of_old_brokers_are_read() {
    for (version, magic) in [("0.8.2.2", 0), ("0.9.0.1", 0), ("0.10.0.1", 1)] {
        for codec in OLD_CODECS {
            let bytes = golden(&format!("{version}-{codec}"));
            let formats: Vec<_> = batches(bytes.clone()).map(|batch| batch.unwrap().header().format.magic()).collect();
            assert!(formats.iter().all(|found| *found == magic), "{version}: {formats:?}");
            let first = batches(bytes.clone()).next().unwrap().unwrap();
            assert_eq!(first.header().compression_type, codec);
            let records = read_all(bytes).unwrap();
            assert_eq!(offsets(&records), [0, 1, 2, 3, 4, 5], "{version} {codec}");
            for (i, record) in records.iter().take(5).enumerate() {
                assert_eq!(record.key, Some(format!("key-{i}").into_bytes()));
                let value = format!("value {i} of a log that compresses well well well");
                assert_eq!(record.value, Some(value.into_bytes()));
            }
            assert_eq!((&records[5].key, &records[5].value), (&Some(b"k".to_vec()), &Some(b"second batch".to_vec())));
            let with_timestamp = records.iter().filter(|record| record.timestamp_ms > 1_700_000_000_000).count();
            assert_eq!(with_timestamp, if magic == 1 { 6 } else { 0 });
            assert!(magic == 1 || records.iter().all(|record| record.timestamp_ms == -1));
        }
    }
}

/// The value of the record with this offset in a compacted log, where the keys 1 and 3 came again.
fn compacted(offset: i64) -> Vec<u8> {
    let text = match offset {
        0 | 2 | 4 => format!("first value of key {offset}, well well well"),
        5 => "second value of key 1".into(),
        _ => "second value of key 3".into(),
    };
    text.into_bytes()
}

#[test]
fn logs_that_old_brokers_have_compacted_are_read_with_their_gaps() {
    for version in ["0.8.2.2", "0.9.0.1", "0.10.0.1"] {
        for codec in [CompressionType::None, CompressionType::Gzip] {
            let bytes = golden(&format!("{version}-compacted-{codec}"));
            let records = read_all(bytes.clone()).unwrap();
            let (known, filler) = records.split_at(5);
            assert_eq!(offsets(known), [0, 2, 4, 5, 6], "{version} {codec}");
            for record in known {
                assert_eq!(record.value, Some(compacted(record.offset)), "{version} {codec}");
            }
            assert!(filler.iter().all(|record| record.key.as_ref().is_some_and(|key| key.starts_with(b"filler-"))));
            // The cleaner of 0.8 stores what it keeps uncompressed.
            if codec == CompressionType::Gzip && version != "0.8.2.2" {
                let first = batches(bytes).next().unwrap().unwrap();
                assert_eq!(first.header().compression_type, codec);
                assert_eq!(offsets(&read(&first).unwrap()), [0, 2, 4], "the gaps are inside one compressed message");
            }
        }
    }
}

/// What a broker answered to a fetch of one partition, in this version of `Fetch`.
fn fetched(version: &str, fetch_version: i16, case: &str) -> Bytes {
    let answer = std::fs::read(format!("{GOLDEN}{version}-fetch-{case}.answer")).unwrap();
    let mut response = FetchResponse::decode_exact(fetch_version, answer.into()).unwrap();
    let partition = response.responses.pop().unwrap().partitions.pop().unwrap();
    assert_eq!((partition.error_code, partition.high_watermark), (ErrorCode::NONE, 5), "{version} {case}");
    partition.records.unwrap().into_bytes()
}

#[test]
fn answers_of_old_brokers_to_fetches_are_read_up_to_the_message_that_was_cut_off() {
    for (version, fetch_version) in [("0.8.2.2", 0), ("0.9.0.1", 1), ("0.10.0.1", 2)] {
        let whole = fetched(version, fetch_version, "whole");
        assert_eq!(offsets(&read_all(whole.clone()).unwrap()), [0, 1, 2, 3, 4], "{version}");
        let first_bytes = usize::try_from(i32::from_be_bytes(whole[8..12].try_into().unwrap())).unwrap() + 12;

        let partial = fetched(version, fetch_version, "partial");
        assert_eq!((partial.len(), &partial), (200, &whole.slice(..200)), "{version}");
        assert_eq!(offsets(&read_all(partial.clone()).unwrap()), [0, 1], "{version}");
        let mut found = batches(partial);
        assert_eq!(found.by_ref().flatten().count(), 1);
        assert!(found.truncated());
        assert_eq!(found.first_batch_bytes(), None, "the next fetch gets on");

        let oversized = fetched(version, fetch_version, "oversized");
        assert_eq!((oversized.len(), &oversized), (50, &whole.slice(..50)), "{version}");
        let mut found = batches(oversized);
        assert!(found.by_ref().next().is_none());
        assert_eq!(found.first_batch_bytes(), Some(first_bytes), "{version}: the next fetch must ask for that");
    }
}

#[test]
fn with_log_append_time_the_time_of_the_wrapper_counts() {
    for name in ["0.10.0.1-append-none", "0.10.0.1-append-gzip"] {
        let mut last = 0;
        for batch in batches(golden(name)) {
            let batch = batch.unwrap();
            assert_eq!(batch.header().timestamp_type, TimestampType::LogAppendTime);
            let records = read(&batch).unwrap();
            assert!(
                records.iter().all(|record| record.timestamp_ms >= last && record.timestamp_ms > 1_700_000_000_000)
            );
            if batch.header().compression_type != CompressionType::None {
                assert!(records.iter().all(|record| record.timestamp_ms == batch.header().max_timestamp));
            }
            last = records.last().unwrap().timestamp_ms;
        }
    }
}

#[test]
fn plain_messages_that_follow_each_other_are_one_batch() {
    let bytes: Vec<u8> = [plain(1, 7), plain(1, 8), plain(1, 12), plain(0, 13), wrapper(1, 15, &plain(1, 0))].concat();
    let found: Vec<_> = batches(bytes.into()).map(|batch| *batch.unwrap().header()).collect();
    let shape: Vec<_> = found.iter().map(|h| (h.format, h.base_offset, h.last_offset, h.record_count)).collect();
    assert_eq!(shape, [(Format::V1, 7, 12, 3), (Format::V0, 13, 13, 1), (Format::V1, 0, 15, 1)]);
    assert_eq!((found[0].base_timestamp, found[0].max_timestamp), (1_007, 1_012));
}

#[test]
fn offsets_inside_a_wrapper_are_absolute_in_magic_0_and_relative_in_magic_1() {
    let absolute = wrapper(0, 12, &[plain(0, 10), plain(0, 12)].concat());
    assert_eq!(offsets(&read_all(absolute).unwrap()), [10, 12], "compaction left a gap");
    let relative = wrapper(1, 12, &[plain(1, 0), plain(1, 2)].concat());
    let opened = batches(relative.clone().into()).next().unwrap().unwrap();
    let header = *opened.open(&mut Decompressor::new(), MOST).unwrap().header();
    assert_eq!((header.base_offset, header.last_offset, header.record_count), (10, 12, 2));
    assert_eq!(offsets(&read_all(relative).unwrap()), [10, 12]);
    let without = wrapper(1, 0, &[plain(1, 0), plain(1, 1)].concat());
    let error = refused(without);
    assert!(error.contains("its offset is behind the compressed message"), "{error}");
}

#[test]
fn nested_wrappers_are_read_up_to_a_depth() {
    let mut nested = [plain(0, 3), plain(0, 4)].concat();
    for _ in 0..8 {
        nested = wrapper(0, 4, &nested);
    }
    assert_eq!(offsets(&read_all(nested.clone()).unwrap()), [3, 4]);
    assert!(refused(wrapper(0, 4, &nested)).contains("nested more than 8 deep"));

    let inner = wrapper(1, 1, &[plain(1, 0), plain(1, 1)].concat());
    let outer = wrapper(1, 12, &[inner, plain(1, 2)].concat());
    assert_eq!(offsets(&read_all(outer).unwrap()), [10, 11, 12]);
    for _ in 0..1_000 {
        nested = wrapper(0, 4, &nested);
    }
    refused(nested);
}

#[test]
fn the_limit_counts_everything_that_a_wrapper_decompresses_to() {
    let value = vec![0; 1_000_000];
    let inner: Vec<u8> = (0..4).flat_map(|i| wrapper(0, i, &message(0, 0, i, None, Some(&value)))).collect();
    let bytes: Bytes = wrapper(0, 3, &inner).into();
    let batch = batches(bytes).next().unwrap().unwrap();
    assert!(batch.open(&mut Decompressor::new(), 5_000_000).is_ok());
    let error = batch.open(&mut Decompressor::new(), 3_500_000).unwrap_err();
    assert!(error.to_string().contains("becomes longer than"), "{error}");
}

#[test]
fn a_message_that_was_cut_off_is_left_for_the_next_fetch() {
    let whole = [plain(1, 0), plain(1, 1)].concat();
    let first_bytes = plain(1, 0).len();
    for length in 0..whole.len() {
        let mut found = batches(Bytes::copy_from_slice(&whole[..length]));
        let read: Vec<_> = found.by_ref().map(|batch| batch.unwrap().header().last_offset).collect();
        let complete = length / first_bytes;
        assert_eq!(read.len(), complete, "{length} bytes");
        assert_eq!(found.truncated(), !length.is_multiple_of(first_bytes));
        match found.first_batch_bytes() {
            Some(needed) if length > 16 => assert_eq!(needed, first_bytes),
            Some(_) => assert!(complete == 0),
            None => assert!(length == 0 || complete == 1),
        }
    }
}

#[test]
fn damage_is_found_by_the_crc_of_every_message() {
    let mut bytes = [plain(1, 0), plain(1, 1)].concat();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let error = refused(bytes.clone());
    assert!(error.contains("the message with offset 1 is corrupt"), "{error}");
    let error = refused(wrapper(1, 1, &bytes));
    assert!(error.contains("the message with offset 1 is corrupt"), "{error}");
    let mut bytes = wrapper(1, 1, &plain(1, 1));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(refused(bytes).contains("is corrupt"));
}

#[test]
fn hostile_messages_are_refused() {
    assert!(refused(wrapper(1, 1, &[])).contains("holds no messages"));
    assert!(refused(message(0, 1, 1, None, None)).contains("has no value"));
    assert!(refused(wrapper(1, 1, &plain(0, 1))).contains("its magic differs"));
    assert!(refused(wrapper(1, 1, &[plain(1, 0), plain(1, 5)].concat())).contains("behind the compressed message"));
    assert!(refused(wrapper(0, 1, &[plain(0, 5)].concat())).contains("behind its batch"));
    assert!(refused(wrapper(0, 1, &[&plain(0, 1)[..], &[0; 7]].concat())).contains("cut off"));
    assert!(refused(message(0, 7, 1, None, Some(b"x"))).contains("unknown codec 7"));
    for length in [-2, i32::MIN, i32::MAX, 100] {
        let body = [&[0, 0][..], &i32::to_be_bytes(length), &(-1_i32).to_be_bytes()].concat();
        assert!(refused(with_crc(0, &body)).contains("its key cannot be read"), "{length}");
    }
    let long = [&[0, 0][..], &[0xff; 8], b"behind"].concat();
    assert!(refused(with_crc(0, &long)).contains("shorter than its size"));
}

/// A batch as a producer fills it.
fn filled(records: &[Owned], headers: &[Header<'_>]) -> Bytes {
    let mut builder = BatchBuilder::new(&BufferPool::new(32 << 20, Arc::new(|| {})), 16 << 20);
    for record in records {
        builder.append(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers).unwrap();
    }
    let none = CompressionType::None.into();
    builder.seal(Stamp::default(), &mut Compressor::new(none).unwrap()).unwrap().into_bytes()
}

fn convert(batch: Bytes, format: Format, codec: CompressionType) -> Result<Bytes> {
    let batch = batches(batch).next().unwrap().unwrap().open(&mut Decompressor::new(), MOST).unwrap();
    to_message_set(batch, format, &mut Compressor::new(codec.into()).unwrap())
}

#[test]
fn what_message_sets_cannot_carry_is_an_error_that_names_the_version() {
    let record = Owned { offset: 0, timestamp_ms: 5, key: None, value: Some(vec![0; 100]) };
    let with_headers = filled(std::slice::from_ref(&record), &[Header { key: b"h", value: None }]);
    let error = convert(with_headers, Format::V1, CompressionType::None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("record headers need a broker of Kafka 0.11"), "{error}");
    let error = convert(filled(&[record], &[]), Format::V1, CompressionType::Zstd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("zstd compression needs a broker of Kafka 2.1"), "{error}");
}

#[test]
fn lz4_for_kafka_0_9_has_the_header_checksum_that_it_expects() {
    let record = Owned { offset: 0, timestamp_ms: 5, key: None, value: Some(vec![7; 1_000]) };
    let records = filled(&[record], &[]);
    let frame = |format| {
        let bytes = convert(records.clone(), format, CompressionType::Lz4).unwrap();
        let at = bytes.windows(4).position(|bytes| bytes == [0x04, 0x22, 0x4d, 0x18]).unwrap();
        bytes.slice(at..at + 7)
    };
    let at = |bytes: &Bytes| bytes.windows(4).position(|bytes| bytes == [0x04, 0x22, 0x4d, 0x18]).unwrap();
    let written_by_kafka = golden("0.9.0.1-lz4");
    let of_kafka = written_by_kafka.slice(at(&written_by_kafka)..at(&written_by_kafka) + 7);
    assert_eq!(of_kafka[4..6], frame(Format::V0)[4..6], "the same flags");
    assert_eq!(of_kafka, frame(Format::V0));
    let written_by_kafka = golden("0.10.0.1-lz4");
    assert_eq!(written_by_kafka.slice(at(&written_by_kafka)..at(&written_by_kafka) + 7), frame(Format::V1));
}

prop_compose! {
    fn any_record()(
        timestamp_ms in 0_i64..2_000_000_000_000,
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        value in prop::option::of(prop::collection::vec(0..4_u8, 0..300)),
    ) -> Owned {
        Owned { offset: 0, timestamp_ms, key, value }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        records in prop::collection::vec(any_record(), 1..40),
        codec in prop::sample::select(OLD_CODECS.to_vec()),
        format in prop::sample::select(vec![Format::V0, Format::V1]),
    ) {
        let written = convert(filled(&records, &[]), format, codec).unwrap();
        let expected: Vec<_> = records.iter().zip(0..).map(|(record, offset)| Owned {
            offset,
            timestamp_ms: if format == Format::V0 { -1 } else { record.timestamp_ms },
            ..record.clone()
        }).collect();
        // A wrapper that a broker has not numbered yet has the offset of its last message.
        prop_assert_eq!(read_all(written).unwrap(), expected);
    }

    #[test]
    fn changed_bytes_cause_no_panic(
        codec in prop::sample::select(vec![0_u8, 1]),
        magic in 0..2_u8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let inner = [plain(magic, 0), plain(magic, 1), plain(magic, 2)].concat();
        let mut bytes = if codec == 0 { inner } else { wrapper(magic, 2, &wrapper(magic, 2, &inner)) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Repair the first CRC, so that deeper code is reached.
        let size = i32::from_be_bytes(bytes[8..12].try_into().unwrap());
        if let Some(body) = usize::try_from(size).ok().and_then(|size| bytes.get(16..size.saturating_add(12))) {
            let mut crc = flate2::Crc::new();
            crc.update(body);
            let sum = crc.sum();
            bytes[12..16].copy_from_slice(&sum.to_be_bytes());
        }
        let _ = read_all(bytes);
    }
}

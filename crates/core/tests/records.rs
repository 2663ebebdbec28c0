//! Record batches from the outside: reading what Kafka's Java client wrote, round trips of our own, and hostile bytes,
//! which must cause nothing but an error.

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::error::{ErrorKind, Result};
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, CHUNK_BYTES, Compression, CompressionType, Compressor, ControlType, Decompressor,
    HEADER_BYTES, Header, ProducerStamp, RawBatch, Stamp, TimestampType, assign_offset, batches,
    end_transaction_marker, set_log_append_time,
};
use proptest::prelude::*;

const CODECS: [CompressionType; 5] = [
    CompressionType::None,
    CompressionType::Gzip,
    CompressionType::Snappy,
    CompressionType::Lz4,
    CompressionType::Zstd,
];
const MOST: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Default)]
struct Owned {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn pool() -> BufferPool {
    BufferPool::new(32 << 20, Arc::new(|| {}))
}

fn sealed(records: &[Owned], compression: Compression, stamp: Stamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&pool(), 16 << 20);
    for record in records {
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.append(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    let encoded_bytes = builder.encoded_bytes();
    let records = builder.seal(stamp, &mut Compressor::new(compression).unwrap()).unwrap();
    let uncompressed = compression.compression_type() == CompressionType::None;
    assert!(records.len() == encoded_bytes || (!uncompressed && records.len() < encoded_bytes));
    records.segments().concat()
}

fn only_batch(bytes: impl Into<Bytes>) -> RawBatch {
    let mut found = batches(bytes.into());
    let batch = found.next().unwrap().unwrap();
    assert!(found.next().is_none() && !found.truncated());
    batch
}

fn read(batch: &RawBatch) -> Result<Vec<(i64, Owned)>> {
    let mut open = batch.open(&mut Decompressor::new(), MOST)?;
    let data = open.data().clone();
    let mut records = Vec::new();
    while let Some(record) = open.next_record() {
        let record = record?;
        let owned = Owned {
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(|key| key.of(&data).to_vec()),
            value: record.value.map(|value| value.of(&data).to_vec()),
            headers: record.headers(&data).map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        };
        assert_eq!(owned.headers.len(), record.header_count());
        records.push((record.offset, owned));
    }
    Ok(records)
}

fn read_all(bytes: &[u8]) -> Result<Vec<Owned>> {
    let mut records = Vec::new();
    for batch in batches(Bytes::copy_from_slice(bytes)) {
        records.extend(read(&batch?)?.into_iter().map(|(_, record)| record));
    }
    Ok(records)
}

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/records/{name}.batch", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn golden_records() -> Vec<Owned> {
    let start = 1_700_000_000_000;
    let headers = vec![(text("h"), Some(text("1"))), (text("h"), None), (text(""), Some(text("")))];
    let mut records = vec![
        Owned { timestamp_ms: start, ..Owned::default() },
        Owned { timestamp_ms: start + 1, key: Some(text("")), value: Some(text("")), ..Owned::default() },
        Owned { timestamp_ms: start - 5, key: Some(text("key")), value: Some(text("value")), headers },
    ];
    records.extend((3..200).map(|i| Owned {
        timestamp_ms: start + i * 1_000,
        key: Some(text(&format!("k{i}"))),
        value: Some(text(&format!("{{\"id\":{i},\"level\":\"info\"}}"))),
        ..Owned::default()
    }));
    let big = (0..70_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    records.push(Owned { timestamp_ms: start + 7, value: Some(big), ..Owned::default() });
    records
}

const GOLDEN_STAMP: Stamp = Stamp {
    producer: Some(ProducerStamp { producer_id: 77, producer_epoch: 3, base_sequence: 41 }),
    transactional: true,
    control: false,
};

#[test]
fn what_the_java_client_wrote_is_read_with_every_codec() {
    for codec in CODECS {
        let batch = only_batch(golden(codec.name()));
        let header = batch.header();
        assert_eq!((header.base_offset, header.last_offset), (1_234_567_890_123, 1_234_567_890_323));
        assert_eq!((header.partition_leader_epoch, header.compression_type), (Some(9), codec));
        assert_eq!((header.is_transactional, header.is_control, header.record_count), (true, false, 201));
        assert_eq!(header.timestamp_type, TimestampType::CreateTime);
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_199_000));
        assert_eq!(header.producer, GOLDEN_STAMP.producer);
        let (offsets, records): (Vec<_>, Vec<_>) = read(&batch).unwrap().into_iter().unzip();
        assert_eq!(records, golden_records(), "{codec}");
        assert!(offsets.into_iter().eq(1_234_567_890_123..=1_234_567_890_323));
    }
}

#[test]
fn an_uncompressed_batch_is_the_java_clients_byte_for_byte() {
    let mut batch = sealed(&golden_records(), Compression::default(), GOLDEN_STAMP);
    assign_offset(&mut batch, 1_234_567_890_123, 9);
    assert!(batch == golden("none"));
}

#[test]
fn a_snappy_batch_is_framed_and_cut_like_the_java_clients() {
    let ours = sealed(&golden_records(), CompressionType::Snappy.into(), GOLDEN_STAMP);
    let java = golden("snappy");
    assert_eq!(ours[HEADER_BYTES..HEADER_BYTES + 16], java[HEADER_BYTES..HEADER_BYTES + 16]);
}

#[test]
fn with_log_append_time_every_record_has_the_time_of_the_batch() {
    let batch = only_batch(golden("log-append-time"));
    assert_eq!(batch.header().timestamp_type, TimestampType::LogAppendTime);
    let times: Vec<_> = read(&batch).unwrap().into_iter().map(|(offset, r)| (offset, r.timestamp_ms)).collect();
    assert_eq!(times, [(5, 1_700_000_099_999), (6, 1_700_000_099_999)]);
}

#[test]
fn a_log_append_time_set_by_the_broker_is_what_the_java_broker_writes() {
    let records = [
        Owned { timestamp_ms: 1, key: Some(text("a")), value: Some(text("b")), ..Owned::default() },
        Owned { timestamp_ms: 2, key: Some(text("c")), ..Owned::default() },
    ];
    let mut batch = sealed(&records, Compression::default(), Stamp::default());
    assign_offset(&mut batch, 5, 2);
    set_log_append_time(&mut batch, 1_700_000_099_999);
    assert_eq!(read(&only_batch(batch)).unwrap(), read(&only_batch(golden("log-append-time"))).unwrap());
}

#[test]
fn the_markers_of_transactions_are_control_records() {
    for (name, control) in [("commit", ControlType::Commit), ("abort", ControlType::Abort)] {
        let batch = only_batch(golden(name));
        assert!(batch.header().is_control && batch.header().is_transactional);
        let (_, record) = read(&batch).unwrap().remove(0);
        assert_eq!(ControlType::parse(record.key.as_deref()).unwrap(), control);
        let value = end_transaction_marker(6).to_vec();
        assert_eq!((record.key, record.value), (Some(control.key().to_vec()), Some(value)));
    }
}

#[test]
fn a_batch_whose_records_were_all_compacted_away_still_takes_its_offsets() {
    let batch = only_batch(golden("compacted-away"));
    assert_eq!((batch.header().last_offset, batch.header().record_count), (104, 0));
    assert_eq!(read(&batch).unwrap(), []);
}

#[test]
fn a_batch_cut_off_at_any_byte_ends_the_iteration_quietly() {
    let one = sealed(&golden_records()[..20], CompressionType::Lz4.into(), Stamp::default());
    let two = [one.clone(), one.clone()].concat();
    for cut in 0..two.len() {
        let mut found = batches(Bytes::copy_from_slice(&two[..cut]));
        let whole = found.by_ref().map(|batch| read(&batch.unwrap()).unwrap().len()).collect::<Vec<_>>();
        assert_eq!(whole, vec![20; cut / one.len()], "cut at {cut}");
        assert_eq!(found.truncated(), cut % one.len() != 0, "cut at {cut}");
        let needed = found.first_batch_bytes();
        match cut {
            0 => assert_eq!(needed, None),
            1..12 => assert_eq!(needed, Some(HEADER_BYTES), "not even its length is there"),
            cut if cut < one.len() => assert_eq!(needed, Some(one.len())),
            _ => assert_eq!(needed, None, "the first batch is whole"),
        }
    }
}

#[test]
fn a_changed_byte_is_an_error_or_changes_no_record() {
    let records = &golden_records()[..20];
    for codec in CODECS {
        let batch = sealed(records, codec.into(), Stamp::default());
        for at in 0..batch.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = batch.clone();
                changed[at] ^= change;
                if let Ok(read) = read_all(&changed) {
                    assert!(read == records || read.is_empty(), "{codec}, byte {at} ^ {change:#x}");
                    assert!(!read.is_empty() || (8..12).contains(&at), "only a longer length may hide a batch");
                }
            }
        }
    }
}

/// Writes the correct CRC for the rest of a batch.
fn mend_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn a_changed_byte_under_a_right_crc_never_panics() {
    for codec in CODECS {
        let batch = sealed(&golden_records()[..20], codec.into(), Stamp::default());
        for at in 21..batch.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = batch.clone();
                changed[at] ^= change;
                mend_crc(&mut changed);
                let _ = read_all(&changed);
            }
        }
    }
}

/// A batch with `count` in its header and `body` as its records.
fn crafted(codec: CompressionType, count: i32, body: &[u8]) -> Vec<u8> {
    let mut batch = sealed(&[Owned::default()], Compression::default(), Stamp::default());
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(body);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec.id();
    batch[23..27].copy_from_slice(&(count.wrapping_sub(1)).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    mend_crc(&mut batch);
    batch
}

fn refused(batch: &[u8]) -> String {
    let error = read_all(batch).map(|records| records.len()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    error.to_string()
}

#[test]
fn hostile_counts_and_lengths_are_refused_in_words() {
    let record = [14, 0, 0, 0, 1, 1, 0, 0];
    let good = &[12, 0, 0, 0, 1, 1, 0][..];
    assert_eq!(read_all(&crafted(CompressionType::None, 1, good)).unwrap(), [Owned::default()]);
    for (count, body, why) in [
        (i32::MAX, good, "holds 2147483647 records, in 7 bytes"),
        (-1, good, "ends before it begins"),
        (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1][..], "holds 2 records, in 13 bytes"),
        (1, &[good, good].concat()[..], "behind the last record"),
        (1, &record[..], "shorter than its length"),
        (1, &[1, 0, 0, 0, 1, 1, 0][..], "its length is negative"),
        (1, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0][..], "longer than its batch"),
        (1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..], "its length cannot be read"),
        (1, &[12, 0, 0, 2, 1, 1, 0][..], "its offset is behind its batch"),
        (1, &[12, 0, 0, 1, 1, 1, 0][..], "its offset is before its batch"),
        (1, &[12, 0, 0, 0, 3, 1, 0][..], "its key cannot be read"),
        (1, &[12, 0, 0, 0, 1, 0x7e, 0][..], "its value cannot be read"),
        (1, &[12, 0, 0, 0, 1, 1, 1][..], "its number of headers is negative"),
        (1, &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f][..], "the key of a header"),
        (1, &[14, 0, 0, 0, 1, 1, 2, 1][..], "the key of a header is null"),
        (1, &[14, 0, 0, 0, 1, 1, 2, 0][..], "the value of a header"),
    ] {
        let said = refused(&crafted(CompressionType::None, count, body));
        assert!(said.contains(why), "{said:?} should say {why:?}");
    }
}

#[test]
fn hostile_batch_headers_are_refused_in_words() {
    let good = crafted(CompressionType::None, 1, &[12, 0, 0, 0, 1, 1, 0]);
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        mend_crc(&mut batch);
        batch
    };
    assert!(refused(&with(8, &[0xff; 4])).contains("negative length"));
    assert!(refused(&with(8, &[0, 0, 0, 4])).contains("length of 4"));
    assert!(refused(&with(8, &[0, 0, 0, 48])).contains("length of 48"));
    assert!(refused(&with(16, &[3])).contains("unknown magic 3"));
    assert!(refused(&with(22, &[7])).contains("unknown codec 7"));
    assert!(refused(&with(57, &[0x80, 0, 0, 0])).contains("negative number"));
    let mut at_the_end_of_offsets = with(0, &i64::MAX.to_be_bytes());
    at_the_end_of_offsets[26] = 1;
    assert!(refused(&at_the_end_of_offsets).contains("ends before it begins"));
}

#[test]
fn compressed_batches_that_are_cut_are_refused() {
    for codec in CODECS.into_iter().skip(1) {
        let batch = sealed(&golden_records(), codec.into(), Stamp::default());
        let body = &batch[HEADER_BYTES..];
        for cut in (0..body.len()).step_by(7) {
            let said = refused(&crafted(codec, 201, &body[..cut]));
            assert!(said.contains(codec.name()) || said.contains("holds 201 records"), "{said}");
        }
    }
}

#[test]
fn the_bound_of_decompression_is_exact() {
    let records = golden_records();
    let bytes = sealed(&records, Compression::default(), Stamp::default()).len() - HEADER_BYTES;
    for codec in CODECS.into_iter().skip(1) {
        let batch = only_batch(sealed(&records, codec.into(), Stamp::default()));
        let mut decompressor = Decompressor::new();
        for _ in 0..2 {
            assert!(batch.open(&mut decompressor, bytes).is_ok(), "{codec}: exactly as many bytes as allowed");
            let error = batch.open(&mut decompressor, bytes - 1).unwrap_err();
            assert!(error.to_string().contains("becomes longer than"), "{error}");
        }
    }
}

#[test]
fn several_gzip_members_and_zstd_and_lz4_frames_are_one_stream() {
    let record = [12, 0, 0, 0, 1, 1, 0];
    let parts = [&record[..3], &record[3..]];
    for codec in [CompressionType::Gzip, CompressionType::Lz4, CompressionType::Zstd] {
        let stream: Vec<u8> = parts.iter().flat_map(|part| compressed(codec, part)).collect();
        assert_eq!(read_all(&crafted(codec, 1, &stream)).unwrap(), [Owned::default()], "{codec}");
    }
}

#[test]
fn a_gzip_header_with_a_wrong_checksum_or_reserved_flags_is_refused() {
    let plain = compressed(CompressionType::Gzip, &[12, 0, 0, 0, 1, 1, 0]);
    let with = |flags: u8, checksum: &[u8]| {
        let mut member = plain.clone();
        member[3] |= flags;
        member.splice(10..10, checksum.iter().copied());
        crafted(CompressionType::Gzip, 1, &member)
    };
    let mut crc = flate2::Crc::new();
    crc.update(&[&plain[..3], &[plain[3] | 2], &plain[4..10]].concat());
    let checksum = (crc.sum() as u16).to_le_bytes();
    assert_eq!(read_all(&with(2, &checksum)).unwrap(), [Owned::default()]);
    refused(&with(2, &[checksum[0] ^ 1, checksum[1]]));
    for reserved in [0x20, 0x40, 0x80] {
        refused(&with(reserved, &[]));
    }
}

#[test]
fn snappy_without_a_frame_is_read_too() {
    let raw = snap::raw::Encoder::new().compress_vec(&[12, 0, 0, 0, 1, 1, 0]).unwrap();
    assert_eq!(read_all(&crafted(CompressionType::Snappy, 1, &raw)).unwrap(), [Owned::default()]);
}

#[test]
fn an_lz4_frame_may_have_checksums_a_size_and_blocks_that_refer_to_the_one_before() {
    let records = golden_records();
    let plain = sealed(&records, Compression::default(), Stamp::default());
    let body = &plain[HEADER_BYTES..];
    for linked in [false, true] {
        let frame = lz4_frame(body, linked);
        assert_eq!(read_all(&crafted(CompressionType::Lz4, 201, &frame)).unwrap().len(), 201);
        for at in 0..64.min(frame.len()) {
            let mut changed = frame.clone();
            changed[at] ^= 0x10;
            refused(&crafted(CompressionType::Lz4, 201, &changed));
        }
    }
}

#[test]
fn an_lz4_frame_with_reserved_bits_is_refused_although_the_checksum_of_its_header_is_right() {
    for (at, bits) in [(4, 0x02), (5, 0x80), (5, 0x08), (5, 0x01)] {
        let mut frame = lz4_frame(&[12, 0, 0, 0, 1, 1, 0], false);
        frame[at] |= bits;
        frame[14] = (twox_hash::XxHash32::oneshot(0, &frame[4..14]) >> 8) as u8;
        refused(&crafted(CompressionType::Lz4, 1, &frame));
    }
}

/// A frame with everything that ours do not have: size, checksums and, if `linked`, blocks that refer to the previous
/// one.
fn lz4_frame(body: &[u8], linked: bool) -> Vec<u8> {
    let xxh32 = |bytes: &[u8]| twox_hash::XxHash32::oneshot(0, bytes);
    let mut descriptor = vec![if linked { 0x5c } else { 0x7c }, 0x40];
    descriptor.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let mut frame = 0x184d_2204_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&descriptor);
    frame.push((xxh32(&descriptor) >> 8) as u8);
    for start in (0..body.len()).step_by(30_000) {
        let block = &body[start..body.len().min(start + 30_000)];
        let window = if linked { &body[..start] } else { &[] };
        let window = &window[window.len().saturating_sub(65_536)..];
        let block = lz4_flex::block::compress_with_dict(block, window);
        frame.extend_from_slice(&(block.len() as u32).to_le_bytes());
        frame.extend_from_slice(&block);
        frame.extend_from_slice(&xxh32(&block).to_le_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&xxh32(body).to_le_bytes());
    frame
}

/// `bytes` as one stream of a codec, made without our code.
fn compressed(codec: CompressionType, bytes: &[u8]) -> Vec<u8> {
    match codec {
        CompressionType::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        }
        CompressionType::Lz4 => lz4_frame(bytes, false),
        CompressionType::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        CompressionType::None | CompressionType::Snappy => unreachable!("not needed"),
    }
}

#[test]
fn a_batch_is_split_by_reading_it_and_appending_its_records_again() {
    let records = golden_records();
    let batch = sealed(&records, CompressionType::Zstd.into(), GOLDEN_STAMP);
    let mut open = only_batch(batch).open(&mut Decompressor::new(), MOST).unwrap();
    let data = open.data().clone();
    let mut halves: Vec<Vec<u8>> = Vec::new();
    while open.remaining() > 0 {
        let mut builder = BatchBuilder::new(&pool(), 1_000_000);
        for _ in 0..open.remaining().min(101) {
            let record = open.next_record().unwrap().unwrap();
            let headers: Vec<Header<'_>> = record.headers(&data).collect();
            let (key, value) = (record.key.map(|key| key.of(&data)), record.value.map(|value| value.of(&data)));
            builder.append(record.timestamp_ms, key, value, &headers).unwrap();
        }
        let records = builder.seal(GOLDEN_STAMP, &mut Compressor::new(Compression::default()).unwrap()).unwrap();
        halves.push(records.segments().concat());
    }
    assert_eq!(halves.len(), 2);
    assert_eq!(read_all(&halves.concat()).unwrap(), records);
}

#[test]
fn a_level_out_of_range_is_refused_before_anything_is_compressed() {
    for (codec, good, bad) in [
        (CompressionType::Gzip, [-1, 1, 9], [0, 10, -2]),
        (CompressionType::Lz4, [1, 9, 17], [0, 18, -1]),
        (CompressionType::Zstd, [-131_072, -1, 22], [23, -131_073, i32::MAX]),
    ] {
        for level in good {
            assert!(Compressor::new(Compression::new(codec, Some(level)).unwrap()).is_ok(), "{codec} {level}");
        }
        for level in bad {
            assert_eq!(Compression::new(codec, Some(level)).unwrap_err().kind(), ErrorKind::Config, "{codec} {level}");
        }
    }
    assert!(Compression::new(CompressionType::Snappy, Some(1)).is_err());
    assert!(Compression::new(CompressionType::None, None).is_ok());
}

fn some_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=most.min(300)),
        (any::<u8>(), 0..=most).prop_map(|(byte, bytes)| vec![byte; bytes]),
    ]
}

prop_compose! {
    fn some_record()(
        timestamp_ms in prop_oneof![any::<i64>(), 1_700_000_000_000_i64..1_700_000_100_000],
        key in prop::option::of(some_bytes(100)),
        value in prop::option::of(prop_oneof![9 => some_bytes(2_000), 1 => some_bytes(3 * CHUNK_BYTES)]),
        headers in prop::collection::vec((some_bytes(20), prop::option::of(some_bytes(50))), 0..4),
    ) -> Owned {
        Owned { timestamp_ms, key, value, headers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_appended_comes_back_with_every_codec(records in prop::collection::vec(some_record(), 1..60)) {
        for codec in CODECS {
            let batch = only_batch(sealed(&records, codec.into(), Stamp::default()));
            let max_timestamp = records.iter().map(|record| record.timestamp_ms).max();
            prop_assert_eq!(Some(batch.header().max_timestamp), max_timestamp);
            let read: Vec<_> = read(&batch).unwrap().into_iter().map(|(_, record)| record).collect();
            prop_assert_eq!(&read, &records, "{}", codec);
        }
    }

    #[test]
    fn records_of_every_length_around_the_end_of_a_chunk_survive(first in CHUNK_BYTES - 200..CHUNK_BYTES, second in 0_usize..300) {
        let records: Vec<_> = [first, second, second, 1].iter().map(|&bytes| Owned {
            key: Some(vec![b'k'; bytes / 3]),
            value: Some(vec![b'v'; bytes]),
            ..Owned::default()
        }).collect();
        prop_assert_eq!(read_all(&sealed(&records, Compression::default(), Stamp::default())).unwrap(), records);
    }

    #[test]
    fn arbitrary_bytes_never_panic(count in any::<i32>(), codec in 0_usize..5, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_all(&body);
        let _ = read_all(&crafted(CODECS[codec], count, &body));
        let _ = read_all(&crafted(CODECS[codec], (body.len() / 7) as i32, &body));
    }
}

//! How often memory is allocated for the records of a batch, from append to hand-out.
//!
//! The counts are exact, so a limit that is passed means that the code has changed. To see where memory is allocated,
//! set a breakpoint on `malloc`, or run the test under `valgrind --tool=dhat`.

mod consumer_kit;
mod producer_support;

use std::hint::black_box;

use allocation_counter::measure;
use kavka_core::config::ConsumerConfig;
use kavka_core::wire::records::{BatchBuilder, CHUNK_BYTES, CompressionType, Compressor, Decompressor, Stamp, batches};

use consumer_kit::{Kit, batch, data};
use producer_support::{Rig, config, pool};

/// Enough for several chunks, and less than `batch.size`.
const RECORDS: u64 = 5_000;
const VALUE: &str =
    "a value of a hundred bytes, as in the benchmarks: it is long enough that records are not all overhead..";

/// The most allocations for all of the records. None of them is for a single record.
struct Limits;

impl Limits {
    /// The chunks of the batch, the list of them, and what a batch is.
    const APPEND: u64 = 52;
    /// The list of the segments, and one owner for each chunk.
    const SEAL: u64 = 34;
    /// One for the batch, because its records are ranges of it.
    const DECODE: u64 = 1;
    /// The list of records that are read ahead.
    const OPEN: u64 = 4;
    const HAND_OUT: u64 = 0;
}

fn check(what: &str, limit: u64, act: impl FnOnce()) {
    let counted = measure(act).count_total;
    assert!(counted <= limit, "{what}: {counted} allocations for {RECORDS} records, {} too many", counted - limit);
}

#[test]
fn appending_to_the_open_batch_allocates_only_its_chunks() {
    let mut rig = Rig::warm(config());
    check("append", Limits::APPEND, || {
        for _ in 0..RECORDS {
            drop(black_box(rig.append(0, VALUE)));
        }
    });
}

#[test]
fn sealing_allocates_for_chunks_and_not_for_records() {
    let pool = pool(32 << 20);
    let mut builder = BatchBuilder::new(&pool, 1_000_000);
    for _ in 0..RECORDS {
        builder.append(5, None, Some(VALUE.as_bytes()), &[]).unwrap();
    }
    assert!(builder.encoded_bytes() > 10 * CHUNK_BYTES);
    let mut compressor = Compressor::new(CompressionType::None.into()).unwrap();
    check("seal", Limits::SEAL, || drop(black_box(builder.seal(Stamp::default(), &mut compressor))));
}

#[test]
fn decoding_an_uncompressed_batch_allocates_once() {
    let bytes = batch(0, &vec![VALUE.as_bytes(); RECORDS as usize]);
    let mut decompressor = Decompressor::new();
    check("decode", Limits::DECODE, || {
        let raw = batches(bytes).next().unwrap().unwrap();
        let mut open = raw.open(&mut decompressor, 64 << 20).unwrap();
        let mut count = 0;
        while let Some(record) = open.next_record() {
            black_box(record.unwrap());
            count += 1;
        }
        assert_eq!(count, RECORDS);
    });
}

#[test]
fn opening_allocates_the_records_at_once_and_handing_out_allocates_nothing() {
    let mut kit = Kit::of_partitions(ConsumerConfig::default(), 1);
    kit.feed(vec![data(0, batch(0, &vec![VALUE.as_bytes(); RECORDS as usize]))]);
    let mut cursor = None;
    check("open", Limits::OPEN, || cursor = Some(kit.cursor()));
    let mut cursor = cursor.unwrap();
    check("hand-out", Limits::HAND_OUT, || {
        let mut count = 0;
        while let Some(record) = cursor.next_record() {
            black_box(record);
            count += 1;
        }
        assert_eq!(count, RECORDS);
    });
}

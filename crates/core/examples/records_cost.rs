//! The cost of a record: nanoseconds to append and seal it, and to open its batch and read it.
//!
//! `cargo run --release -p kavka-core --example records_cost`. The figures are the minima over many batches of about 1
//! MB, on one thread, with everything in the cache; `bench/` compares whole clients.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compression, CompressionType, Compressor, Decompressor, Records, Stamp, batches,
};

const BATCH_BYTES: usize = 1_000_000;
const ROUNDS: usize = 300;

fn main() {
    println!("{:>8} {:>8} {:>10} {:>10} {:>10}", "codec", "bytes", "append", "seal", "open+read");
    for bytes in [10, 100, 1024] {
        measure(CompressionType::None, bytes);
    }
    for compression_type in
        [CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4, CompressionType::Zstd]
    {
        measure(compression_type, 100);
    }
}

fn measure(compression_type: CompressionType, value_bytes: usize) {
    let pool = BufferPool::new(32 << 20, Arc::new(|| {}));
    let mut compressor = Compressor::new(Compression::from(compression_type)).expect("the default level is allowed");
    let mut decompressor = Decompressor::new();
    let line: Vec<u8> =
        (0..).flat_map(|i| format!("{{\"id\":{i},\"level\":\"info\"}} ").into_bytes()).take(1 << 20).collect();
    let mut best = [Duration::MAX; 3];
    let mut count = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut builder = BatchBuilder::new(&pool, BATCH_BYTES);
        let mut values = line.chunks_exact(value_bytes).cycle();
        let mut timestamp = 1_700_000_000_000;
        while let Some(value) = values.next()
            && builder.append(timestamp, None, Some(black_box(value)), &[]).is_ok()
        {
            timestamp += i64::from(builder.record_count().is_multiple_of(64));
        }
        count = builder.record_count();
        let appended = start.elapsed();
        let start = Instant::now();
        let records = builder.seal(Stamp::default(), &mut compressor).expect("there are records");
        let sealed = start.elapsed();
        let bytes = Bytes::from(records.segments().concat());
        drop::<Records>(records);
        let start = Instant::now();
        black_box(read(bytes, &mut decompressor));
        let read = start.elapsed();
        for (best, took) in best.iter_mut().zip([appended, sealed, read]) {
            *best = took.min(*best);
        }
    }
    let [append, seal, read] = best.map(|took| took.as_secs_f64() * 1e9 / f64::from(count));
    println!("{compression_type:>8} {value_bytes:>8} {append:>10.1} {seal:>10.1} {read:>10.1}");
}

fn read(bytes: Bytes, decompressor: &mut Decompressor) -> (i64, usize) {
    let mut sum = (0, 0);
    for batch in batches(bytes) {
        let batch = batch.expect("it is our own");
        let mut open = batch.open(decompressor, 64 << 20).expect("it is our own");
        while let Some(record) = open.next_record() {
            let record = record.expect("it is our own");
            sum.0 ^= record.timestamp_ms;
            sum.1 ^= record.value.map_or(0, |value| value.range().len());
        }
    }
    sum
}

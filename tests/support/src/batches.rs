//! Record batches to send, and the records of batches that a broker has stored.

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compression, CompressionType, Compressor, Decompressor, ProducerStamp, Records, Stamp,
};

/// The timestamp of a batch's first record, unless it sets its own, in milliseconds; the others count up from it.
pub const FIRST_TIMESTAMP_MS: i64 = 1_000;

/// A batch of records with these values.
pub fn batch<V: AsRef<[u8]>>(values: &[V]) -> Records {
    Batch::of(values).build()
}

/// A batch of an idempotent producer.
pub fn sequenced(producer_id: i64, producer_epoch: i16, base_sequence: i32, values: &[&str]) -> Records {
    Batch::of(values).from_producer(producer_id, producer_epoch, base_sequence).build()
}

/// A batch being built.
#[derive(Debug, Clone)]
pub struct Batch {
    records: Vec<(i64, Vec<u8>)>,
    stamp: Stamp,
    codec: CompressionType,
}

impl Batch {
    /// Records with these values; their timestamps are 1000, 1001, ...
    pub fn of<V: AsRef<[u8]>>(values: &[V]) -> Self {
        let timed: Vec<_> = (FIRST_TIMESTAMP_MS..).zip(values).collect();
        Self::at(&timed)
    }

    /// Records with these timestamps, in milliseconds, and values.
    pub fn at<V: AsRef<[u8]>>(records: &[(i64, V)]) -> Self {
        let records = records.iter().map(|(time, value)| (*time, value.as_ref().to_vec())).collect();
        Self { records, stamp: Stamp::default(), codec: CompressionType::None }
    }

    /// Sets the fields of an idempotent producer.
    #[must_use]
    pub fn from_producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.stamp.producer = Some(ProducerStamp { producer_id, producer_epoch, base_sequence });
        self
    }

    /// Sets the header fields in `stamp`.
    #[must_use]
    pub fn stamped(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// Sets the codec, at its default level.
    #[must_use]
    pub fn compressed(mut self, codec: CompressionType) -> Self {
        self.codec = codec;
        self
    }

    /// Builds the batch.
    pub fn build(self) -> Records {
        let pool = BufferPool::new(64 << 20, Arc::new(|| ()));
        let mut builder = BatchBuilder::new(&pool, 1 << 30);
        for (timestamp_ms, value) in &self.records {
            builder.append(*timestamp_ms, None, Some(value), &[]).unwrap();
        }
        let mut compressor = Compressor::new(Compression::from(self.codec)).unwrap();
        builder.seal(self.stamp, &mut compressor).unwrap().into_bytes().into()
    }
}

/// The batch with the byte at `place` changed.
pub fn damaged(records: Records, place: usize) -> Records {
    let mut bytes = records.into_bytes().to_vec();
    bytes[place] ^= 1;
    Bytes::from(bytes).into()
}

/// The offset and value of each record in these stored batches.
pub fn stored(batches: impl IntoIterator<Item = Bytes>) -> Vec<(i64, Vec<u8>)> {
    let mut records = Vec::new();
    for batch in batches.into_iter().flat_map(kavka_core::wire::records::batches) {
        let mut batch = batch.unwrap().open(&mut Decompressor::new(), 64 << 20).unwrap();
        while let Some(record) = batch.next_record() {
            let record = record.unwrap();
            records.push((record.offset, record.value.unwrap().of(batch.data()).to_vec()));
        }
    }
    records
}

//! Builds a record batch of magic 2: records are encoded in place as they arrive, and the batch is sealed once.
//!
//! [`BatchBuilder::append`] makes the only copy of a record's bytes on their way to the socket. It allocates nothing
//! but chunks from the pool, each twice as large as the one before, up to 32 KiB. A failed append changes nothing. The
//! result of [`BatchBuilder::seal`] is immutable: a retry sends the same bytes.
//!
//! The first chunk reserves room for the batch header, so a batch of one chunk is one segment.

use std::fmt;

use bytes::Bytes;

use super::Records;
use super::batch::{HEADER_BYTES, Sealing, write_header};
use super::compression::Compressor;
use super::format::Format;
use super::needs::Needs;
use super::pool::{BufferPool, CHUNK_BYTES, Chunk, Reservation, SMALLEST_CHUNK_BYTES};
use super::record::{Cursor, Header, Parts, Sink};
use super::varint;
use crate::error::{Error, ErrorKind};

/// Why a record was not appended. The batch has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// The batch holds records, and would exceed its size limit with this one: seal it and open another.
    Full,
    /// The pool has no free chunk: wait until one is released (`buffer.memory`).
    PoolExhausted,
    /// The record is too large for any batch, whose length is a 32-bit number.
    TooLarge,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the batch is full",
            Self::PoolExhausted => "buffer.memory is used up",
            Self::TooLarge => "the record is too large for a batch",
        })
    }
}

impl std::error::Error for AppendError {}

/// The header fields of a batch that are known when it is sent, not when it is filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The producer id, its epoch, and the sequence number of the batch's first record (KIP-98). `None` if the producer
    /// is neither idempotent nor transactional.
    pub producer: Option<ProducerStamp>,
    /// Whether the records belong to the producer's current transaction.
    pub transactional: bool,
    /// Whether the batch holds a control record; only brokers write those.
    pub control: bool,
}

/// Identifies a batch to brokers, which use it to recognise duplicates (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Assigned by a broker (`InitProducerId`).
    pub producer_id: i64,
    /// Grows when the producer restarts its sequence, or a new producer takes over the `transactional.id`.
    pub producer_epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
}

/// The uncompressed size of a batch with this one record, in bytes: what `max.request.size` limits.
#[inline]
pub fn request_bytes(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    Parts::new(0, 0, key, value, headers).record_bytes().saturating_add(HEADER_BYTES)
}

/// A record batch that is being filled.
#[derive(Debug)]
pub struct BatchBuilder {
    pool: BufferPool,
    /// All but the last one are full.
    chunks: Vec<Chunk>,
    ceiling_bytes: usize,
    encoded_bytes: usize,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    needs: Needs,
}

impl BatchBuilder {
    /// An empty batch that takes chunks from `pool` until it reaches `ceiling_bytes` (Kafka: `batch.size`), including
    /// its header. It takes no memory before the first record.
    pub fn new(pool: &BufferPool, ceiling_bytes: usize) -> Self {
        Self {
            pool: pool.clone(),
            chunks: Vec::new(),
            ceiling_bytes: ceiling_bytes.min(i32::MAX as usize),
            encoded_bytes: HEADER_BYTES,
            record_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            needs: Needs::default(),
        }
    }

    /// Appends a record. Returns its index, which is its distance from the batch's base offset.
    ///
    /// `timestamp_ms` is in milliseconds since 1970; a `None` key or value is null. The first record may exceed the
    /// size limit: the caller checks it against `max.request.size` (see [`request_bytes`]).
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, AppendError> {
        let offset_delta = self.record_count;
        let first = offset_delta == 0;
        let timestamp_delta = if first { 0 } else { timestamp_ms.wrapping_sub(self.base_timestamp) };
        let parts = Parts::new(timestamp_delta, offset_delta, key, value, headers);
        let record_bytes = parts.record_bytes();
        let encoded_bytes = self.encoded_bytes.saturating_add(record_bytes);
        if encoded_bytes > self.ceiling_bytes {
            if !first {
                return Err(AppendError::Full);
            }
            if encoded_bytes > i32::MAX as usize {
                return Err(AppendError::TooLarge);
            }
        }
        match self.chunks.last_mut().map(Chunk::space) {
            Some(space) if space.len() >= record_bytes.saturating_add(Cursor::SLACK_BYTES) => {
                let mut cursor = Cursor { space, at: 0 };
                parts.encode(&mut cursor);
                debug_assert_eq!(cursor.at, record_bytes, "a record takes the bytes that were counted for it");
                if let Some(chunk) = self.chunks.last_mut() {
                    chunk.advance(record_bytes);
                }
            }
            _ => self.append_across_chunks(&parts, record_bytes)?,
        }
        if first {
            self.base_timestamp = timestamp_ms;
            self.max_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.encoded_bytes = encoded_bytes;
        self.record_count = offset_delta + 1;
        Ok(offset_delta)
    }

    /// Takes every chunk it needs before it writes the first byte, so that a failed append changes nothing.
    #[cold]
    #[inline(never)]
    fn append_across_chunks(&mut self, parts: &Parts<'_>, record_bytes: usize) -> Result<(), AppendError> {
        let room = self.chunks.last_mut().map_or(0, |chunk| chunk.space().len());
        let header = if self.chunks.is_empty() { &[0; HEADER_BYTES][..] } else { &[] };
        let mut missing = record_bytes.saturating_add(header.len()).saturating_sub(room);
        let mut fresh: Vec<Chunk> = Vec::new();
        while missing > 0 {
            let usual = usual_bytes(self.chunks.len().saturating_add(fresh.len()));
            let mut chunk = self.pool.try_acquire(missing.max(usual)).ok_or(AppendError::PoolExhausted)?;
            missing = missing.saturating_sub(chunk.space().len());
            fresh.push(chunk);
        }
        let mut spread = Spread { chunks: &mut self.chunks, fresh: fresh.into_iter() };
        spread.put(header);
        parts.encode(&mut spread);
        Ok(())
    }

    /// The size of the batch so far, in bytes: uncompressed, including the header.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    /// The formats that carry its records, as far as [`require`](Self::require) was told.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Notes the oldest format that carries the last record. Without this, every format does.
    #[inline]
    pub fn require(&mut self, format: Format) {
        self.needs.note(self.record_count.saturating_sub(1), format);
    }

    /// How many records it holds.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// The latest timestamp of its records, in milliseconds since 1970; -1 while it is empty.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Seals the batch: compresses it, and writes its header and CRC.
    ///
    /// If compression does not make it smaller it stays uncompressed, so the result is never larger than
    /// [`encoded_bytes`](Self::encoded_bytes).
    ///
    /// # Errors
    ///
    /// `Internal` if the batch is empty, and any error of the codec.
    pub fn seal(self, stamp: Stamp, compressor: &mut Compressor) -> Result<Records, Error> {
        self.compress(compressor)?.seal(stamp)
    }

    /// Compresses the records: the part of [`seal`](Self::seal) that takes long, and does not need the stamp.
    ///
    /// # Errors
    ///
    /// Those of [`seal`](Self::seal).
    pub fn compress(self, compressor: &mut Compressor) -> Result<CompressedBatch, Error> {
        if self.record_count == 0 {
            return Err(Error::new(ErrorKind::Internal, "an empty record batch was sealed"));
        }
        let mut sealing = Sealing {
            stamp: Stamp::default(),
            compression_type: compressor.compression_type(),
            record_count: self.record_count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        };
        if let Some(compressed) = self.compressed(compressor)? {
            // Reserved before the chunks are released, so that the pool never counts less memory than is in use.
            let reservation = self.pool.reserve(compressed.capacity());
            return Ok(CompressedBatch { sealing, body: Body::Compressed(compressed, reservation) });
        }
        sealing.compression_type = super::CompressionType::None;
        Ok(CompressedBatch { sealing, body: Body::Plain(self.chunks) })
    }

    /// The compressed records, with room for the header in front; `None` if they do not get smaller.
    fn compressed(&self, compressor: &mut Compressor) -> Result<Option<Vec<u8>>, Error> {
        if compressor.compression_type() == super::CompressionType::None {
            return Ok(None);
        }
        let mut pieces: Vec<&[u8]> = self.chunks.iter().map(AsRef::as_ref).collect();
        if let Some(first) = pieces.first_mut() {
            *first = first.get(HEADER_BYTES..).unwrap_or_default();
        }
        let compressed = compressor.compress(&pieces, HEADER_BYTES)?;
        Ok((compressed.len() < self.encoded_bytes).then_some(compressed))
    }
}

/// A record batch that takes no more records and lacks only its header.
pub struct CompressedBatch {
    sealing: Sealing,
    body: Body,
}

/// The records, with room for the header in front.
enum Body {
    Compressed(Vec<u8>, Reservation),
    Plain(Vec<Chunk>),
}

impl fmt::Debug for CompressedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressedBatch").field("record_count", &self.sealing.record_count).finish_non_exhaustive()
    }
}

impl CompressedBatch {
    /// Writes the header and the CRC.
    ///
    /// # Errors
    ///
    /// `Internal` if the batch is longer than 2 GiB: `batch.size` does not allow that.
    pub fn seal(self, stamp: Stamp) -> Result<Records, Error> {
        let sealing = Sealing { stamp, ..self.sealing };
        let chunks = match self.body {
            Body::Compressed(mut compressed, reservation) => {
                write_header(&sealing, &mut compressed, &[])?;
                return Ok(reservation.freeze(compressed).into());
            }
            Body::Plain(chunks) => chunks,
        };
        let mut chunks = chunks.into_iter();
        let Some(mut first) = chunks.next() else {
            return Err(Error::new(ErrorKind::Internal, "an empty record batch was sealed"));
        };
        let rest: Vec<Bytes> = chunks.map(Chunk::freeze).collect();
        write_header(&sealing, first.written(), &rest)?;
        let mut segments = Vec::with_capacity(1 + rest.len());
        segments.push(first.freeze());
        segments.extend(rest);
        Ok(Records::from_segments(segments))
    }
}

/// The size of the next chunk when a batch has `chunks` of them: twice the previous one, up to the largest.
fn usual_bytes(chunks: usize) -> usize {
    let doublings = u32::try_from(chunks).unwrap_or(u32::MAX);
    SMALLEST_CHUNK_BYTES
        .checked_shl(doublings)
        .map_or(CHUNK_BYTES, |bytes| bytes.clamp(SMALLEST_CHUNK_BYTES, CHUNK_BYTES))
}

/// Chunks that are filled one after the other.
struct Spread<'a> {
    chunks: &'a mut Vec<Chunk>,
    fresh: std::vec::IntoIter<Chunk>,
}

impl Sink for Spread<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        loop {
            let written = self.chunks.last_mut().map_or(0, |chunk| chunk.write(bytes));
            bytes = bytes.get(written..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let Some(chunk) = self.fresh.next() else {
                debug_assert!(false, "fewer chunks were acquired than the record takes");
                return;
            };
            self.chunks.push(chunk);
        }
    }

    fn put_varint(&mut self, value: i64) {
        let mut place = [0; varint::MOST_BYTES];
        let bytes = varint::put(&mut place, value);
        self.put(place.get(..bytes).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wire::records::{Compression, CompressionType, Decompressor, HEADER_BYTES, batches};

    fn pool(chunks: usize) -> BufferPool {
        BufferPool::new(chunks * CHUNK_BYTES, Arc::new(|| {}))
    }

    fn uncompressed() -> Compressor {
        Compressor::new(CompressionType::None.into()).unwrap()
    }

    #[test]
    fn records_come_back_with_every_codec() {
        for compression_type in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let compression_type = CompressionType::from_name(compression_type).unwrap();
            let mut compressor = Compressor::new(Compression::from(compression_type)).unwrap();
            let mut decompressor = Decompressor::new();
            // The codec contexts are reused; the second batch must not depend on the first.
            for _ in 0..2 {
                let mut builder = BatchBuilder::new(&pool(10), 1_000_000);
                let value = vec![b'v'; 1_000];
                for i in 0..100 {
                    let headers = [Header { key: b"h", value: None }, Header { key: b"h", value: Some(b"") }];
                    assert_eq!(builder.append(1_000 + i64::from(i), None, Some(&value), &headers), Ok(i));
                }
                let records = builder.seal(Stamp::default(), &mut compressor).unwrap();
                let mut found = batches(records.into_bytes());
                let batch = found.next().unwrap().unwrap();
                assert!(found.next().is_none() && !found.truncated());
                assert_eq!(batch.header().compression_type, compression_type);
                let mut open = batch.open(&mut decompressor, 64 << 20).unwrap();
                let data = open.data().clone();
                for i in 0..100 {
                    let record = open.next_record().unwrap().unwrap();
                    assert_eq!((record.offset, record.timestamp_ms), (i, 1_000 + i));
                    assert_eq!(record.key, None);
                    assert_eq!(record.value.unwrap().of(&data), value);
                    let headers: Vec<_> = record.headers(&data).collect();
                    assert_eq!(headers, [Header { key: b"h", value: None }, Header { key: b"h", value: Some(b"") }]);
                }
                assert!(open.next_record().is_none());
            }
        }
    }

    #[test]
    fn an_append_that_finds_the_pool_exhausted_changes_nothing() {
        let pool = pool(2);
        let mut builder = BatchBuilder::new(&pool, 1_000_000);
        builder.append(5, Some(b"k"), Some(b"v"), &[]).unwrap();
        let before = (builder.encoded_bytes(), builder.record_count(), builder.max_timestamp(), pool.used());
        assert_eq!(builder.append(9, None, Some(&vec![0; 2 * CHUNK_BYTES]), &[]), Err(AppendError::PoolExhausted));
        let after = (builder.encoded_bytes(), builder.record_count(), builder.max_timestamp(), pool.used());
        assert_eq!(before, after);
        builder.append(6, None, Some(&vec![0; CHUNK_BYTES]), &[]).unwrap();
        let records = builder.seal(Stamp::default(), &mut uncompressed()).unwrap();
        assert_eq!(records.segments().len(), 2);
        let batch = batches(records.into_bytes()).next().unwrap().unwrap();
        let mut open = batch.open(&mut Decompressor::new(), 0).unwrap();
        assert_eq!(open.next_record().unwrap().unwrap().timestamp_ms, 5);
        assert_eq!(open.next_record().unwrap().unwrap().value.unwrap().range().len(), CHUNK_BYTES);
        assert!(open.next_record().is_none());
    }

    #[test]
    fn only_the_first_record_may_exceed_the_ceiling() {
        let mut builder = BatchBuilder::new(&pool(4), 100);
        assert_eq!(builder.append(0, None, Some(&[0; 1_000]), &[]), Ok(0));
        assert_eq!(builder.append(0, None, None, &[]), Err(AppendError::Full));
        assert_eq!(builder.encoded_bytes(), request_bytes(None, Some(&[0; 1_000]), &[]));
        assert_eq!(builder.seal(Stamp::default(), &mut uncompressed()).unwrap().len(), HEADER_BYTES + 1_009);
    }

    #[test]
    fn memory_returns_when_the_sealed_records_are_dropped() {
        for compression_type in [CompressionType::None, CompressionType::Lz4] {
            let pool = pool(4);
            let mut builder = BatchBuilder::new(&pool, 1_000_000);
            builder.append(0, None, Some(&vec![0; 3 * CHUNK_BYTES]), &[]).unwrap();
            assert_eq!(pool.used(), 3 * CHUNK_BYTES + CHUNK_BYTES / 4, "the last of them is as small as it can be");
            let mut compressor = Compressor::new(compression_type.into()).unwrap();
            let records = builder.seal(Stamp::default(), &mut compressor).unwrap();
            let kept = records.segments()[0].slice(..1);
            assert!(pool.used() >= records.segments()[0].len());
            drop(records);
            assert!(pool.used() > 0, "somebody still reads a byte of it");
            drop(kept);
            assert_eq!(pool.used(), 0);
        }
    }
}

//! Record bytes: what a produce request carries and a fetch response brings.
//!
//! [`Records`] is a rope: its segments are never joined on the way to or from a socket. [`BatchBuilder`] makes one from
//! records, in memory of a [`BufferPool`]; [`batches`] and [`RawBatch::open`] find the records in one again.
//!
//! Which formats there are is said in `format.rs`: so far that of magic 2 alone (Kafka 0.11, KIP-98).

mod batch;
mod builder;
mod compression;
mod control;
mod crc;
mod format;
mod pool;
mod record;
mod varint;

use bytes::Bytes;

pub use batch::{
    BatchHeader, BatchIterator, HEADER_BYTES, OpenBatch, RawBatch, TimestampType, assign_offset, batches,
    set_log_append_time,
};
pub use builder::{AppendError, BatchBuilder, ProducerStamp, Stamp, request_bytes};
pub use compression::{Compression, CompressionType, Compressor, Decompressor};
pub use control::{ControlType, end_transaction_marker};
pub use pool::{BufferPool, CHUNK_BYTES, Chunk, OnRelease, Reservation};
pub use record::{Header, Headers, RecordView, Span};

/// Encoded record batches of one partition, in one or more segments that are never copied together.
///
/// A fetch response has one segment, a range of the frame it came in; a batch being produced has a
/// header segment and as many pooled chunks as it grew to.
#[derive(Debug, Clone, Default)]
pub struct Records {
    segments: Vec<Bytes>,
    len: usize,
}

impl Records {
    /// The bytes in these segments, in this order.
    pub fn from_segments(segments: Vec<Bytes>) -> Self {
        let len = segments.iter().map(Bytes::len).sum();
        Self { segments, len }
    }

    /// How many bytes all segments hold together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte in any segment.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// All bytes in one buffer: free of a copy when there is one segment.
    pub fn into_bytes(mut self) -> Bytes {
        match self.segments.len() {
            0 => Bytes::new(),
            1 => self.segments.swap_remove(0),
            _ => self.segments.concat().into(),
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::from_segments(vec![bytes])
    }
}

/// Equal when the bytes are, however they are cut into segments.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.segments.iter().flatten().eq(other.segments.iter().flatten())
    }
}

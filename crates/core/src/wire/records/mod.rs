//! Record batches as bytes: what produce requests and fetch responses carry.
//!
//! [`Records`] is a list of segments, which are never joined on the way to or from a socket. [`BatchBuilder`] builds it
//! from records, in memory of a [`BufferPool`]. [`batches`] and [`RawBatch::open`] read the records.
//!
//! `format.rs` lists the supported formats. Batches are built in magic 2 (Kafka 0.11, KIP-98); for an older broker,
//! [`to_message_set`] converts them.

mod batch;
mod builder;
mod compression;
mod control;
mod crc;
mod format;
mod message_set;
mod needs;
mod pool;
mod record;
mod varint;

use bytes::Bytes;

pub use batch::{
    BatchHeader, BatchIterator, HEADER_BYTES, OpenBatch, RawBatch, TimestampType, assign_offset, batches,
    set_log_append_time,
};
pub use builder::{AppendError, BatchBuilder, CompressedBatch, ProducerStamp, Stamp, request_bytes};
pub use compression::{Compression, CompressionType, Compressor, Decompressor};
pub use control::{ControlType, end_transaction_marker};
pub use format::{Format, MAGIC_AT};
pub use message_set::{MessageSetBuilder, not_carried, to_message_set};
pub use needs::Needs;
pub use pool::{BufferPool, CHUNK_BYTES, Chunk, OnRelease, Reservation};
pub use record::{Header, Headers, RecordView, Span};

/// The encoded record batches of one partition, in one or more segments.
///
/// In a fetch response there is one segment, a range of the frame. A batch to be produced has a header segment, and as
/// many pooled chunks as it grew to.
#[derive(Debug, Clone, Default)]
pub struct Records {
    segments: Vec<Bytes>,
    len: usize,
}

impl Records {
    /// Records from these segments, in this order.
    pub fn from_segments(segments: Vec<Bytes>) -> Self {
        let len = segments.iter().map(Bytes::len).sum();
        Self { segments, len }
    }

    /// The size of all segments together, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all segments are empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// All bytes in one buffer; copies nothing if there is one segment.
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

/// Equal if the bytes are, however they are divided into segments.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.segments.iter().flatten().eq(other.segments.iter().flatten())
    }
}

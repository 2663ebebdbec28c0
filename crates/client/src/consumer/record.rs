//! A record that does not depend on its batch.

use bytes::Bytes;
use kavka_core::consumer::{PartitionId, RecordCursor, TopicPartition};
use kavka_core::wire::Uuid;
use kavka_core::wire::records::{RecordView, Span};

/// Records up to this size are always copied, because that costs next to nothing.
const COPIED_BYTES: usize = 4 << 10;
/// A record that would keep more than this many times its own size in memory is copied.
const MOST_KEPT: usize = 4;

/// One record, to be kept for as long as needed.
///
/// It has its own memory, unless it is larger than 4 KiB and than a quarter of the response that it came in. In that
/// case it shares the buffer of the response, which lives as long as the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The partition it was read from.
    pub topic_partition: TopicPartition,
    /// The offset.
    pub offset: i64,
    /// The timestamp in milliseconds since 1970, set by the producer or the broker (`message.timestamp.type`); -1 if
    /// there is none.
    pub timestamp_ms: i64,
    /// The key; `None` is null, which differs from empty.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order; keys may repeat.
    pub headers: Vec<RecordHeader>,
    pub(super) read_as: ReadAs,
}

/// What the partition and its topic were when the record was handed out. They do not count when records are
/// compared: a record that is read twice is the same record.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct ReadAs {
    pub(super) partition_id: PartitionId,
    pub(super) topic_id: Uuid,
    /// See [`RecordCursor::stamp`].
    pub(super) stamp: u64,
}

impl ReadAs {
    pub(super) fn of(cursor: &RecordCursor) -> Self {
        Self { partition_id: cursor.partition_id(), topic_id: cursor.topic_id(), stamp: cursor.stamp() }
    }
}

impl PartialEq for ReadAs {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A header of a record (KIP-82).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key; valid UTF-8 if the producer followed the protocol.
    pub key: Bytes,
    /// The value; `None` is null, which differs from empty.
    pub value: Option<Bytes>,
}

impl ConsumerRecord {
    /// The record at `view` in the batch of `cursor`.
    pub fn new(cursor: &RecordCursor, view: &RecordView) -> Self {
        let data = cursor.data();
        let bytes = |span: Option<Span>| span.map_or(0, |span| span.range().len());
        let bytes = bytes(view.key).saturating_add(bytes(view.value));
        let copies = bytes <= COPIED_BYTES || bytes.saturating_mul(MOST_KEPT) < cursor.kept_bytes();
        let part = |span: Span| {
            if copies { Bytes::copy_from_slice(span.of(data)) } else { data.slice(span.range()) }
        };
        let headers = view.headers(data).map(|header| RecordHeader {
            key: Bytes::copy_from_slice(header.key),
            value: header.value.map(Bytes::copy_from_slice),
        });
        Self {
            topic_partition: cursor.topic_partition().clone(),
            offset: view.offset,
            timestamp_ms: view.timestamp_ms,
            key: view.key.map(part),
            value: view.value.map(part),
            headers: headers.collect(),
            read_as: ReadAs::of(cursor),
        }
    }
}

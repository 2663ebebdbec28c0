//! A record that outlives its batch.

use bytes::Bytes;
use kavka_core::consumer::{RecordCursor, TopicPartition};
use kavka_core::wire::records::{RecordView, Span};

/// Records up to this size are always copied: that costs nearly nothing.
const COPIED_BYTES: usize = 4 << 10;
/// A record may keep this many times its own size from being freed; where it would keep more it is copied.
const MOST_KEPT: usize = 4;

/// One record, to be kept as long as needed.
///
/// It has its own memory, unless it is larger than 4 KiB and a quarter of the response it came in: then it shares the
/// buffer of that, which lives as long as the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it was read from.
    pub topic_partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, given by the producer or the broker (`message.timestamp.type`); -1 if there is none.
    pub timestamp_ms: i64,
    /// Its key; null is not the same as empty.
    pub key: Option<Bytes>,
    /// Its value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers in order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record (KIP-82).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name, in UTF-8 if the producer behaves well.
    pub key: Bytes,
    /// Its value; null is not the same as empty.
    pub value: Option<Bytes>,
}

impl ConsumerRecord {
    /// The record that `view` shows in the batch of `cursor`.
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
        }
    }
}

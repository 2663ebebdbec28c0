//! A record that outlives its batch.

use bytes::Bytes;
use kavka_core::consumer::{RecordCursor, TopicPartition};
use kavka_core::wire::records::{RecordView, Span};

/// Records up to this size are copied out of their batch; larger ones share it.
///
/// One small record that is kept must not keep a batch of a megabyte; a copy of a large one costs more than what it
/// could keep.
const COPIED_BYTES: usize = 4 << 10;

/// One record, to be kept as long as needed.
///
/// Up to 4 KiB it has its own memory; beyond that it shares the buffer of its batch, which lives as long as the record.
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
        let copies = bytes(view.key).saturating_add(bytes(view.value)) <= COPIED_BYTES;
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

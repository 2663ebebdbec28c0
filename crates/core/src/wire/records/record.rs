//! One record of a magic-2 batch: its size, its bytes, and a view of it in a buffer.
//!
//! A view is made of [`Span`]s, not of slices of [`bytes::Bytes`]: counting references for every key and value costs
//! more than all the rest of decoding.

use std::ops::Range;

use super::varint;

/// A record header (KIP-82): a key, which Kafka takes for UTF-8 text, and a value, which may be null.
/// A key may occur more than once; the order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, in UTF-8 when it comes from a well-behaved producer.
    pub key: &'a [u8],
    /// Its value; null is not the same as empty.
    pub value: Option<&'a [u8]>,
}

/// How many bytes a record takes in a batch, its length prefix included.
///
/// `timestamp_delta` is in milliseconds since the first record of its batch, `offset_delta` the number of records
/// before it: `record_bytes(0, 0, ..)` is the size of a record that is alone in its batch.
pub fn record_bytes(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let body = body_bytes(timestamp_delta, offset_delta, key, value, headers);
    body.saturating_add(varint::size(body as i64))
}

#[inline]
pub(super) fn body_bytes(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let fixed = 1 + varint::size(timestamp_delta) + varint::size(i64::from(offset_delta));
    let mut bytes = fixed.saturating_add(field_bytes(key)).saturating_add(field_bytes(value));
    bytes = bytes.saturating_add(varint::size(headers.len() as i64));
    for header in headers {
        bytes = bytes.saturating_add(field_bytes(Some(header.key))).saturating_add(field_bytes(header.value));
    }
    bytes
}

#[inline]
fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| bytes.len().saturating_add(varint::size(bytes.len() as i64)))
}

/// Where the bytes of a record go.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_varint(&mut self, value: i64);
}

/// Writes into one buffer, which must be [`Cursor::SLACK_BYTES`] longer than the record.
pub(super) struct Cursor<'a> {
    pub(super) space: &'a mut [u8],
    pub(super) at: usize,
}

impl Cursor<'_> {
    /// A varint is written without asking how long it is.
    pub(super) const SLACK_BYTES: usize = varint::MOST_BYTES;
}

impl Sink for Cursor<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(place) = self.space.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    #[inline]
    fn put_varint(&mut self, value: i64) {
        if let Some(place) = self.space.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            self.at += varint::put(place, value);
        }
    }
}

/// The parts of a record, and what of its place in the batch is written into it.
pub(super) struct Parts<'a> {
    pub(super) body_bytes: usize,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: u32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header<'a>],
}

impl Parts<'_> {
    /// Writes exactly [`record_bytes`] bytes.
    #[inline]
    pub(super) fn encode(&self, sink: &mut impl Sink) {
        sink.put_varint(self.body_bytes as i64);
        sink.put(&[0]);
        sink.put_varint(self.timestamp_delta);
        sink.put_varint(i64::from(self.offset_delta));
        put_field(sink, self.key);
        put_field(sink, self.value);
        sink.put_varint(self.headers.len() as i64);
        for header in self.headers {
            put_field(sink, Some(header.key));
            put_field(sink, header.value);
        }
    }
}

#[inline]
fn put_field(sink: &mut impl Sink, field: Option<&[u8]>) {
    let Some(bytes) = field else { return sink.put_varint(-1) };
    sink.put_varint(bytes.len() as i64);
    sink.put(bytes);
}

/// Where in a batch's data some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// As a range, to slice the data it belongs to with.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes in `data`, which must be that of the same batch.
    #[inline]
    pub fn of(self, data: &[u8]) -> &[u8] {
        let bytes = data.get(self.range());
        debug_assert!(bytes.is_some(), "a span was used with the data of another batch");
        bytes.unwrap_or_default()
    }
}

/// One record, as places in the data of its batch ([`OpenBatch::data`](super::OpenBatch::data)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: when it was made, or appended to the log if the topic says `LogAppendTime`.
    /// -1 when the producer gave none.
    pub timestamp_ms: i64,
    /// Where its key is; `None` is null, which is not the same as empty.
    pub key: Option<Span>,
    /// Where its value is; a null value is a tombstone.
    pub value: Option<Span>,
    headers: Span,
    header_count: u32,
}

impl RecordView {
    /// How many headers it has.
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }

    /// Its headers in order, given the data of its batch.
    pub fn headers<'a>(&self, data: &'a [u8]) -> Headers<'a> {
        Headers { rest: self.headers.of(data), remaining: self.header_count }
    }
}

/// The headers of one record, in order.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    rest: &'a [u8],
    remaining: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let mut at = 0;
        // Both were read once already, when the record was decoded.
        let key = field(self.rest, &mut at).ok()??;
        let value = field(self.rest, &mut at).ok()?;
        let header = Header { key: key.of(self.rest), value: value.map(|span| span.of(self.rest)) };
        self.rest = self.rest.get(at..).unwrap_or_default();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// A record as it stands in its batch.
pub(super) struct Decoded {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: u32,
    pub(super) key: Option<Span>,
    pub(super) value: Option<Span>,
    pub(super) headers: Span,
    pub(super) header_count: u32,
}

impl Decoded {
    pub(super) fn view(&self, offset: i64, timestamp_ms: i64) -> RecordView {
        let Self { key, value, headers, header_count, .. } = *self;
        RecordView { offset, timestamp_ms, key, value, headers, header_count }
    }
}

/// Reads the record at `*at` and moves `*at` behind it, or says what is wrong with it.
#[inline]
pub(super) fn decode(data: &[u8], at: &mut usize) -> Result<Decoded, &'static str> {
    let mut here = *at;
    let length = varint::get_i32(data, &mut here).ok_or("its length cannot be read")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let end = here.saturating_add(length);
    let record = data.get(..end).ok_or("it is longer than its batch")?;
    let here = &mut here;
    record.get(*here).ok_or("it has no attributes")?;
    *here += 1;
    let timestamp_delta = varint::get_i64(record, here).ok_or("its timestamp cannot be read")?;
    let offset_delta = varint::get_i32(record, here).ok_or("its offset cannot be read")?;
    let offset_delta = u32::try_from(offset_delta).map_err(|_| "its offset is before its batch")?;
    let key = field(record, here).map_err(|()| "its key cannot be read")?;
    let value = field(record, here).map_err(|()| "its value cannot be read")?;
    let header_count = varint::get_i32(record, here).ok_or("its number of headers cannot be read")?;
    let header_count = u32::try_from(header_count).map_err(|_| "its number of headers is negative")?;
    let headers = Span { start: *here as u32, end: end as u32 };
    // Every turn reads two bytes or ends, so a hostile count costs no more than its record is long.
    for _ in 0..header_count {
        field(record, here).ok().flatten().ok_or("the key of a header cannot be read")?;
        field(record, here).map_err(|()| "the value of a header cannot be read")?;
    }
    if *here != end {
        return Err("it is shorter than its length says");
    }
    *at = end;
    Ok(Decoded { timestamp_delta, offset_delta, key, value, headers, header_count })
}

/// Bytes behind their length at `*at`, or null where the length is -1. `Err` if there are no such bytes.
#[inline]
fn field(bytes: &[u8], at: &mut usize) -> Result<Option<Span>, ()> {
    let mut here = *at;
    let length = varint::get_i32(bytes, &mut here).ok_or(())?;
    if length == -1 {
        *at = here;
        return Ok(None);
    }
    let end = here.saturating_add(usize::try_from(length).map_err(|_| ())?);
    if end > bytes.len() {
        return Err(());
    }
    *at = end;
    Ok(Some(Span { start: here as u32, end: end as u32 }))
}

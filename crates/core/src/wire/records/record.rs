//! One record of a batch of magic 2: its size, its encoding, and a view of it in the batch's buffer.
//!
//! A view consists of [`Span`]s, not of [`bytes::Bytes`] slices: counting references for every key and value would cost
//! more than the rest of decoding.

use std::ops::Range;

use super::varint;

/// A record header (KIP-82): a key, which Kafka treats as UTF-8 text, and a value, which may be null. Keys may repeat;
/// the order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key; valid UTF-8 if the producer followed the protocol.
    pub key: &'a [u8],
    /// The value; null differs from empty.
    pub value: Option<&'a [u8]>,
}

/// The size of the smallest record: a length, attributes, two deltas, two null fields and a header count.
pub(super) const SMALLEST_BYTES: usize = 7;

/// The size of a record without its length prefix.
#[inline]
fn body_bytes(
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

/// Takes the encoded bytes of a record.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_varint(&mut self, value: i64);
}

/// Writes into one buffer, which must have [`Cursor::SLACK_BYTES`] more than the record's size.
pub(super) struct Cursor<'a> {
    pub(super) space: &'a mut [u8],
    pub(super) at: usize,
}

impl Cursor<'_> {
    /// A varint is written with its maximum size; the position then advances by the size it needs.
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

/// The content of a record, and its offset and timestamp relative to the batch.
pub(super) struct Parts<'a> {
    body_bytes: usize,
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [Header<'a>],
}

impl<'a> Parts<'a> {
    #[inline]
    pub(super) fn new(
        timestamp_delta: i64,
        offset_delta: u32,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &'a [Header<'a>],
    ) -> Self {
        let body_bytes = body_bytes(timestamp_delta, offset_delta, key, value, headers);
        Self { body_bytes, timestamp_delta, offset_delta, key, value, headers }
    }

    /// The size of the record, including its length prefix.
    #[inline]
    pub(super) fn record_bytes(&self) -> usize {
        self.body_bytes.saturating_add(varint::size(self.body_bytes as i64))
    }

    /// Writes exactly [`record_bytes`](Self::record_bytes) bytes.
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

/// A range of bytes in a batch's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The range, to slice the data with.
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

/// One record, as ranges in the data of its batch ([`OpenBatch::data`](super::OpenBatch::data)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView {
    /// The offset in the partition.
    pub offset: i64,
    /// The timestamp, in milliseconds since 1970: when the record was created or, with `LogAppendTime`, appended. -1 if
    /// the producer gave none.
    pub timestamp_ms: i64,
    /// The key; `None` is null, which differs from empty.
    pub key: Option<Span>,
    /// The value; a null value is a tombstone.
    pub value: Option<Span>,
    headers: Span,
    header_count: u32,
}

impl RecordView {
    /// A record without headers.
    #[inline]
    pub(super) fn without_headers(offset: i64, timestamp_ms: i64, key: Option<Span>, value: Option<Span>) -> Self {
        Self { offset, timestamp_ms, key, value, headers: Span::new(0, 0), header_count: 0 }
    }

    /// How many headers it has.
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }

    /// Its headers, in order; `data` is that of its batch.
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
        let whole = self.rest;
        // Cannot fail: decoding the record has read the headers before.
        let (key, rest) = take_field(whole, whole.len())?;
        let (value, rest) = take_field(rest, whole.len())?;
        self.rest = rest;
        let header = Header { key: key?.of(whole), value: value.map(|span| span.of(whole)) };
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// A decoded record, with offset and timestamp still relative to the batch.
#[derive(Debug, PartialEq)]
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

/// Decodes the record at `at`. Returns it with the position of the next one, or what is wrong with it.
#[inline]
pub(super) fn decode(data: &[u8], at: usize) -> Result<(Decoded, usize), &'static str> {
    decode_plain(data, at).map_or_else(|| decode_any(data, at), Ok)
}

/// A fast path of [`decode`] for nearly every record: one without headers, and without numbers of more than three
/// bytes. It reads the numbers through a window of constant size, which needs no bounds check for each. `None` for all
/// other records, including malformed ones.
#[inline]
fn decode_plain(data: &[u8], at: usize) -> Option<(Decoded, usize)> {
    let window = data.get(at..)?.first_chunk()?;
    let (length, i) = short(window, 0)?;
    let end = at.wrapping_add(i).wrapping_add(length as usize >> 1);
    let (timestamp_delta, i) = short(window, i + 1)?;
    let (offset_delta, i) = short(window, i)?;
    let (key_length, i) = short(window, i)?;
    let (key, value_length, value_start) = if key_length == NULL {
        let (value_length, i) = short(window, i)?;
        (None, value_length, at.wrapping_add(i))
    } else {
        let start = at.wrapping_add(i);
        let key_end = start.wrapping_add(key_length as usize >> 1);
        let (value_length, i) = short(data.get(key_end..)?.first_chunk()?, 0)?;
        (Some(Span { start: start as u32, end: key_end as u32 }), value_length, key_end.wrapping_add(i))
    };
    let (value, value_end) = if value_length == NULL {
        (None, value_start)
    } else {
        let value_end = value_start.wrapping_add(value_length as usize >> 1);
        (Some(Span { start: value_start as u32, end: value_end as u32 }), value_end)
    };
    let negative = |zigzag: u32| zigzag & 1 != 0;
    if negative(length | offset_delta)
        || (negative(key_length) && key.is_some())
        || (negative(value_length) && value.is_some())
        || value_end.wrapping_add(1) != end
        || *data.get(value_end)? != 0
    {
        return None;
    }
    let timestamp_delta = i64::from(timestamp_delta >> 1) ^ -i64::from(timestamp_delta & 1);
    let headers = Span { start: end as u32, end: end as u32 };
    Some((Decoded { timestamp_delta, offset_delta: offset_delta >> 1, key, value, headers, header_count: 0 }, end))
}

/// The zigzag form of -1, the length of a null field.
const NULL: u32 = 1;

/// Reads a zigzag number of up to three bytes at `i`; returns it with the position of the next one. The window is large
/// enough for five such numbers and the attributes.
#[inline]
fn short(window: &[u8; 16], i: usize) -> Option<(u32, usize)> {
    let byte = |i: usize| u32::from(window.get(i & 15).copied().unwrap_or_default());
    let a = byte(i);
    if a < 0x80 {
        return Some((a, i + 1));
    }
    let b = byte(i + 1);
    if b < 0x80 {
        return Some((a & 0x7f | b << 7, i + 2));
    }
    let c = byte(i + 2);
    (c < 0x80).then_some((a & 0x7f | (b & 0x7f) << 7 | c << 14, i + 3))
}

fn decode_any(data: &[u8], at: usize) -> Result<(Decoded, usize), &'static str> {
    let rest = data.get(at..).unwrap_or_default();
    let (length, rest) = varint::take_i32(rest).ok_or("its length cannot be read")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let body = rest.get(..length).ok_or("it is longer than its batch")?;
    let end = data.len().wrapping_sub(rest.len()).wrapping_add(length);
    let [_attributes, body @ ..] = body else { return Err("it has no attributes") };
    let (timestamp_delta, body) = varint::take_i64(body).ok_or("its timestamp cannot be read")?;
    let (offset_delta, body) = varint::take_i32(body).ok_or("its offset cannot be read")?;
    let offset_delta = u32::try_from(offset_delta).map_err(|_| "its offset is before its batch")?;
    let (key, body) = take_field(body, end).ok_or("its key cannot be read")?;
    let (value, body) = take_field(body, end).ok_or("its value cannot be read")?;
    let (header_count, body) = varint::take_i32(body).ok_or("its number of headers cannot be read")?;
    let header_count = u32::try_from(header_count).map_err(|_| "its number of headers is negative")?;
    let headers = Span { start: end.wrapping_sub(body.len()) as u32, end: end as u32 };
    let body = if header_count == 0 { body } else { skip_headers(body, header_count, end)? };
    if !body.is_empty() {
        return Err("it is shorter than its length says");
    }
    Ok((Decoded { timestamp_delta, offset_delta, key, value, headers, header_count }, end))
}

/// Skips `count` headers. Each step consumes at least two bytes or fails, so a hostile count costs no more than the
/// record's length.
fn skip_headers(mut body: &[u8], count: u32, end: usize) -> Result<&[u8], &'static str> {
    for _ in 0..count {
        let (Some(_), rest) = take_field(body, end).ok_or("the key of a header cannot be read")? else {
            return Err("the key of a header is null");
        };
        (_, body) = take_field(rest, end).ok_or("the value of a header cannot be read")?;
    }
    Ok(body)
}

/// Reads a length-prefixed field at the front of `body`; length -1 is null. Returns the field and the bytes after it.
/// `end` is the position of the body's end in the batch's data.
#[inline]
fn take_field(body: &[u8], end: usize) -> Option<(Option<Span>, &[u8])> {
    let (length, body) = varint::take_i32(body)?;
    if length == -1 {
        return Some((None, body));
    }
    let length = usize::try_from(length).ok()?;
    let start = end.wrapping_sub(body.len());
    let rest = body.get(length..)?;
    Some((Some(Span { start: start as u32, end: start.wrapping_add(length) as u32 }), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With random changes to a record, most are rejected; what the fast path accepts must equal what the other
        /// path reads.
        #[test]
        fn the_quick_way_of_decoding_reads_what_the_other_one_reads(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..80)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
            timestamp_delta in prop_oneof![-9_000..9_000_i64, any::<i64>()],
            offset_delta in prop_oneof![0..70_000_u32, any::<u32>().prop_map(|delta| delta >> 1)],
            behind in 0..20_usize,
            changes in prop::collection::vec((0..20_usize, any::<u8>()), 0..3),
        ) {
            let (key, value) = (key.as_deref(), value.as_deref());
            let parts = Parts::new(timestamp_delta, offset_delta, key, value, &[]);
            let bytes = parts.record_bytes();
            let mut data = vec![0; bytes + Cursor::SLACK_BYTES];
            let mut cursor = Cursor { space: &mut data, at: 0 };
            parts.encode(&mut cursor);
            prop_assert_eq!(cursor.at, bytes);
            data.resize(bytes + behind, 0);
            let (decoded, end) = decode(&data, 0).unwrap();
            prop_assert_eq!((decoded.timestamp_delta, decoded.offset_delta, end), (timestamp_delta, offset_delta, bytes));
            prop_assert_eq!(decoded.key.map(|key| key.of(&data)), key);
            prop_assert_eq!(decoded.value.map(|value| value.of(&data)), value);
            for (at, byte) in changes {
                let at = at % data.len();
                data[at] = byte;
            }
            if let Some(plain) = decode_plain(&data, 0) {
                prop_assert_eq!(Ok(plain), decode_any(&data, 0));
            }
        }
    }
}

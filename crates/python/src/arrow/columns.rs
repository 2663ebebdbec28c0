//! The columns of consumed records, in Arrow's layout.
//!
//! Keys and values stay where they are, in the buffers that they were fetched or decompressed into: a view of 16 bytes
//! says where, or holds them itself if they have at most 12 bytes. All other columns are copied; they are small.

use std::sync::Arc;

use bytes::Bytes;
use kavka::{RecordView, Span};

use crate::process::ForkGuard;

/// Columns that are complete, shared by everybody who reads them.
///
/// In a forked child they can be read. But they are never freed there, because their buffers belong to pools of the
/// parent, whose locks may be held for ever in the child.
pub(crate) type Columns = Arc<ForkGuard<Content>>;

/// The longest key or value that a view holds itself.
pub(super) const LONGEST_INLINE: usize = 12;

/// The most bytes of a buffer. 32 bits with a sign say where in it a key, a value or a header is.
///
/// A fetched batch has at most `max_decompressed_batch` bytes, 64 MiB by default, or those of a response. So it is a
/// defect if a buffer has more.
const MOST_DATA: usize = i32::MAX as usize;

/// Which rows have a value.
#[derive(Debug, Default)]
pub(super) struct Validity {
    /// A bit for each row; none as long as all rows have a value.
    bits: Vec<u8>,
    pub(super) nulls: usize,
}

impl Validity {
    /// Adds rows behind the first `before`.
    fn extend(&mut self, before: usize, rows: impl ExactSizeIterator<Item = bool> + Clone) {
        if self.bits.is_empty() && rows.clone().all(|is_valid| is_valid) {
            return;
        }
        let end = before + rows.len();
        // Earlier rows without a bit have a value. The bits behind the last row say nothing.
        self.bits.resize(end.div_ceil(8), u8::MAX);
        for (row, is_valid) in (before..end).zip(rows) {
            if !is_valid && let Some(byte) = self.bits.get_mut(row / 8) {
                *byte &= !(1 << (row % 8));
                self.nulls += 1;
            }
        }
    }

    /// The bits, if there are any.
    pub(super) fn bits(&self) -> Option<&[u8]> {
        (!self.bits.is_empty()).then_some(&*self.bits)
    }
}

/// Where a key or a value is: its length, and then the bytes themselves, if they are few, or else the first four of
/// them, the index of a buffer, and the place in it. The bytes of a view are in the order of the machine.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct View([u8; 16]);

impl View {
    #[inline]
    fn new(bytes: &[u8], buffer: u32, at: usize) -> Self {
        let mut view = [0; 16];
        let (length, place) = view.split_at_mut(4);
        // Places are below 2^31: see `MOST_DATA`.
        length.copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
        if bytes.len() <= LONGEST_INLINE {
            place[..bytes.len()].copy_from_slice(bytes);
        } else {
            place[..4].copy_from_slice(&bytes[..4]);
            place[4..8].copy_from_slice(&buffer.to_ne_bytes());
            place[8..].copy_from_slice(&(at as u32).to_ne_bytes());
        }
        Self(view)
    }

    fn field(self, from: usize) -> usize {
        let mut field = [0; 4];
        field.copy_from_slice(&self.0[from..from + 4]);
        u32::from_ne_bytes(field) as usize
    }

    pub(super) fn len(self) -> usize {
        self.field(0)
    }

    /// The bytes; empty for a null.
    pub(super) fn bytes<'a>(&'a self, buffers: &'a [Bytes]) -> &'a [u8] {
        let length = self.len();
        if length <= LONGEST_INLINE {
            return &self.0[4..4 + length];
        }
        let (buffer, at) = (self.field(8), self.field(12));
        // The offsets of a copy count these bytes, so there must be as many.
        &buffers[buffer][at..at + length]
    }
}

/// What becomes of the data of a batch, of which records are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// All keys and values are short enough to be in their views.
    Inline,
    Kept,
    Copied,
}

/// Whether a view of a key or value of these records refers to their data.
pub(crate) fn refer_to_data(records: &[RecordView]) -> bool {
    let mut spans = records.iter().flat_map(|record| [record.key, record.value]).flatten().map(Span::range);
    spans.any(|span| span.len() > LONGEST_INLINE)
}

/// The column of the keys, or that of the values.
#[derive(Debug, Default)]
pub(super) struct Views {
    pub(super) views: Vec<View>,
    pub(super) validity: Validity,
}

impl Views {
    /// Adds keys or values; `data` is that of their batch.
    fn extend(&mut self, spans: impl ExactSizeIterator<Item = Option<Span>> + Clone, data: &[u8], place: Place) {
        self.validity.extend(self.views.len(), spans.clone().map(|span| span.is_some()));
        self.views.extend(spans.map(|span| match span {
            None => View::default(),
            Some(span) => View::new(span.of(data), place.buffer, span.range().start - place.skipped + place.at),
        }));
    }
}

/// Where the data of a batch is in the buffers.
#[derive(Debug, Clone, Copy)]
struct Place {
    buffer: u32,
    /// Where in the buffer it begins, and how many bytes of it are not there.
    at: usize,
    skipped: usize,
}

/// Texts or bytes, one after the other.
#[derive(Debug)]
pub(super) struct Strings {
    /// Where each one begins; and where the last one ends.
    pub(super) offsets: Vec<i32>,
    pub(super) data: Vec<u8>,
    pub(super) validity: Validity,
}

impl Default for Strings {
    fn default() -> Self {
        Self { offsets: vec![0], data: Vec::new(), validity: Validity::default() }
    }
}

impl Strings {
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push(&mut self, bytes: Option<&[u8]>) {
        self.validity.extend(self.len(), std::iter::once(bytes.is_some()));
        self.data.extend_from_slice(bytes.unwrap_or_default());
        self.offsets.push(self.data.len() as i32);
    }
}

/// The column of the headers.
#[derive(Debug)]
pub(super) struct Headers {
    /// Where the headers of each row begin, up to the last row that has any; and where they end.
    pub(super) offsets: Vec<i32>,
    pub(super) keys: Strings,
    pub(super) values: Strings,
}

impl Default for Headers {
    fn default() -> Self {
        Self { offsets: vec![0], keys: Strings::default(), values: Strings::default() }
    }
}

impl Headers {
    /// How many headers there are.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Says that the rows up to this one have the headers so far.
    fn end_rows(&mut self, rows: usize) {
        self.offsets.resize(rows + 1, self.count() as i32);
    }

    fn extend(&mut self, before: usize, records: &[RecordView], data: &[u8]) {
        for (row, record) in (before..).zip(records).filter(|(_, record)| record.header_count() > 0) {
            self.end_rows(row);
            for header in record.headers(data) {
                self.keys.push(Some(String::from_utf8_lossy(header.key).as_bytes()));
                self.values.push(header.value);
            }
            self.end_rows(row + 1);
        }
    }

    fn bytes(&self) -> usize {
        self.keys.data.len() + self.values.data.len()
    }
}

/// The rows of a record batch.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(super) topic: String,
    /// For each row the index of its topic in the dictionary, which is 0.
    pub(super) topic_index: Vec<i32>,
    pub(super) partition: Vec<i32>,
    pub(super) offset: Vec<i64>,
    pub(super) timestamp: Vec<i64>,
    pub(super) has_timestamp: Validity,
    pub(super) key: Views,
    pub(super) value: Views,
    pub(super) headers: Headers,
    /// What the views refer to: the bytes that were copied, and then buffers that others made.
    pub(super) buffers: Vec<Bytes>,
    pub(super) buffer_lengths: Vec<i64>,
    /// The first buffer, until it is finished.
    copied: Vec<u8>,
    /// Count the fetch buffers as kept by the program.
    kept: Vec<Box<dyn Send + Sync + std::fmt::Debug>>,
}

impl Content {
    /// Without rows.
    pub(crate) fn of_topic(topic: &str) -> Self {
        Self { topic: topic.into(), buffers: vec![Bytes::new()], ..Self::default() }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.offset.len()
    }

    /// How many bytes the headers take.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.bytes()
    }

    /// Whether `data` is the buffer that was kept last.
    pub(crate) fn holds(&self, data: &Bytes) -> bool {
        // The first buffer is that of copies.
        let last = self.buffers.get(1..).and_then(<[Bytes]>::last);
        last.is_some_and(|last| (last.as_ptr(), last.len()) == (data.as_ptr(), data.len()))
    }

    /// Adds records of one batch, of which `data` is that of the batch.
    pub(crate) fn extend(&mut self, partition: i32, records: &[RecordView], data: &Bytes, becomes: Data) {
        assert!(data.len() <= MOST_DATA, "a batch of {} bytes is too large for columns", data.len());
        let place = match becomes {
            Data::Inline => Place { buffer: 0, at: 0, skipped: 0 },
            Data::Kept => self.keep_data(data),
            Data::Copied => self.copy(records, data),
        };
        let before = self.rows();
        self.partition.resize(before + records.len(), partition);
        self.offset.extend(records.iter().map(|record| record.offset));
        // A record without a timestamp has -1.
        self.timestamp.extend(records.iter().map(|record| record.timestamp_ms));
        self.has_timestamp.extend(before, records.iter().map(|record| record.timestamp_ms >= 0));
        self.key.extend(records.iter().map(|record| record.key), data, place);
        self.value.extend(records.iter().map(|record| record.value), data, place);
        self.headers.extend(before, records, data);
        assert!(self.headers.bytes() <= MOST_DATA, "the headers are too large for columns");
    }

    fn keep_data(&mut self, data: &Bytes) -> Place {
        // A large batch comes in several parts.
        if !self.holds(data) {
            self.buffers.push(data.clone());
        }
        Place { buffer: (self.buffers.len() - 1) as u32, at: 0, skipped: 0 }
    }

    /// Copies the part of a batch that has the keys and values of `records`.
    fn copy(&mut self, records: &[RecordView], data: &Bytes) -> Place {
        let spans = || records.iter().flat_map(|record| [record.key, record.value]).flatten().map(Span::range);
        let skipped = spans().map(|span| span.start).min().unwrap_or(0);
        let end = spans().map(|span| span.end).max().unwrap_or(0);
        let at = self.copied.len();
        if at.saturating_add(end.saturating_sub(skipped)) > MOST_DATA {
            // The program keeps more than it should, for once, because views could not say where a copy is.
            return self.keep_data(data);
        }
        self.copied.extend_from_slice(data.get(skipped..end).unwrap_or_default());
        Place { buffer: 0, at, skipped }
    }

    /// Drops this when nobody reads the columns any more.
    pub(crate) fn keep(&mut self, kept: impl Send + Sync + std::fmt::Debug + 'static) {
        self.kept.push(Box::new(kept));
    }

    /// The columns, to be shared.
    pub(crate) fn finish(mut self) -> Columns {
        self.topic_index.resize(self.rows(), 0);
        self.headers.end_rows(self.rows());
        if let Some(first) = self.buffers.first_mut() {
            *first = std::mem::take(&mut self.copied).into();
        }
        self.buffer_lengths = self.buffers.iter().map(|buffer| buffer.len() as i64).collect();
        Arc::new(ForkGuard::new(self))
    }
}

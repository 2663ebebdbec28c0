//! Message sets: the formats of records before Kafka 0.11 (magic 0 and 1).
//!
//! A message set is a list of messages, each with an offset, a CRC-32, a key and a value; magic 1 adds a timestamp.
//! There are no headers, producer ids or leader epochs. Messages are compressed together by putting a whole message set
//! into the value of another message, the *wrapper*. Its offset is that of the last message inside.
//!
//! A list of plain messages is read as one batch, in place; a wrapper is a batch of its own. So a consumer pays for a
//! batch once, and not for each message.

mod read;
mod write;

use super::batch::TimestampType;
use super::compression::CompressionType;
use super::format::{Format, MAGIC_AT, PREFIX_BYTES};
use super::record::Span;
use crate::error::Result;

pub(super) use read::{check_crcs, first_batch, undamaged_bytes, unwrap};
pub use write::{MessageSetBuilder, not_carried, to_message_set};

/// The size of a message of magic 0 without its key and value: offset, size, CRC, magic, attributes and two lengths.
pub(super) const OVERHEAD_V0: usize = 26;
/// The same of magic 1, which has a timestamp.
pub(super) const OVERHEAD_V1: usize = OVERHEAD_V0 + 8;

const ATTRIBUTES_AT: usize = MAGIC_AT + 1;
const COMPRESSION_BITS: u8 = 0b111;
const LOG_APPEND_TIME: u8 = 1 << 3;
/// The timestamp of messages that have none.
const NO_TIMESTAMP: i64 = -1;

/// One message, as ranges in its buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Message {
    /// The offset as it is written: inside a wrapper of magic 1 relative to the others there.
    pub(super) offset: i64,
    /// In milliseconds since 1970; -1 if there is none.
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Span>,
    pub(super) value: Option<Span>,
    format: Format,
    attributes: u8,
    crc: u32,
}

impl Message {
    fn compression_type(&self) -> Result<CompressionType> {
        CompressionType::from_id(self.attributes & COMPRESSION_BITS)
    }

    fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION_BITS != 0
    }

    fn timestamp_type(&self) -> TimestampType {
        if self.format == Format::V1 && self.attributes & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }
}

/// Decodes the message at `at`, without its CRC check. Returns it with the position of the next one, or what is wrong
/// with it.
#[inline]
pub(super) fn decode(data: &[u8], at: usize) -> std::result::Result<(Message, usize), &'static str> {
    let rest = data.get(at..).unwrap_or_default();
    let head: &[u8; ATTRIBUTES_AT + 1] = rest.first_chunk().ok_or("it is cut off")?;
    let [o0, o1, o2, o3, o4, o5, o6, o7, s0, s1, s2, s3, c0, c1, c2, c3, magic, attributes] = *head;
    let size = usize::try_from(i32::from_be_bytes([s0, s1, s2, s3])).map_err(|_| "its size is negative")?;
    let message = size.checked_add(PREFIX_BYTES).and_then(|bytes| rest.get(..bytes)).ok_or("it is cut off")?;
    let fields = message.get(ATTRIBUTES_AT + 1..).ok_or("its size is too small")?;
    let (format, timestamp_ms, fields) = match magic {
        0 => (Format::V0, NO_TIMESTAMP, fields),
        1 => {
            let (timestamp, fields) = fields.split_first_chunk().ok_or("it has no timestamp")?;
            (Format::V1, i64::from_be_bytes(*timestamp), fields)
        }
        _ => return Err("its magic is neither 0 nor 1"),
    };
    let end = at.wrapping_add(message.len());
    let (key, fields) = take_field(fields, end).ok_or("its key cannot be read")?;
    let (value, fields) = take_field(fields, end).ok_or("its value cannot be read")?;
    if !fields.is_empty() {
        return Err("it is shorter than its size says");
    }
    let offset = i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
    let crc = u32::from_be_bytes([c0, c1, c2, c3]);
    Ok((Message { offset, timestamp_ms, key, value, format, attributes, crc }, end))
}

/// Reads a field after its 32-bit length at the front of `fields`, which end at `end` in the buffer; -1 is null.
#[inline]
fn take_field(fields: &[u8], end: usize) -> Option<(Option<Span>, &[u8])> {
    let (length, fields) = fields.split_first_chunk()?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        return Some((None, fields));
    }
    let length = usize::try_from(length).ok()?;
    let start = end.wrapping_sub(fields.len());
    let rest = fields.get(length..)?;
    Some((Some(Span::new(start, start.wrapping_add(length))), rest))
}

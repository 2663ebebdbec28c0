//! Reading message sets: cutting them into batches, checking their CRCs, and unpacking wrappers.

use bytes::Bytes;

use super::{Message, decode};
use crate::error::{Error, Hint, Result};
use crate::wire::records::batch::{BatchHeader, malformed};
use crate::wire::records::compression::Decompressor;
use crate::wire::records::crc::crc32;
use crate::wire::records::format::{Format, MAGIC_AT};

/// How deep wrappers may be nested. Kafka's own clients never nest them; version 0.8 read them at any depth.
const MOST_NESTED: usize = 8;

/// The messages inside a wrapper, ready to be read one after the other.
pub(in crate::wire::records) struct Unwrapped {
    pub(in crate::wire::records) data: Bytes,
    pub(in crate::wire::records) count: u32,
    /// What to add to the offsets in `data`.
    pub(in crate::wire::records) origin: i64,
    pub(in crate::wire::records) first_offset: i64,
}

/// The first batch of `data`, whose first message is complete: a wrapper, or the plain messages that follow each other.
/// Returns its header and its size.
pub(in crate::wire::records) fn first_batch(data: &[u8]) -> Result<(BatchHeader, usize)> {
    let (first, mut end) = decode(data, 0).map_err(|why| broken(None, why))?;
    let mut header = BatchHeader {
        base_offset: first.offset,
        last_offset: first.offset,
        partition_leader_epoch: None,
        compression_type: first.compression_type()?,
        timestamp_type: first.timestamp_type(),
        is_transactional: false,
        is_control: false,
        base_timestamp: first.timestamp_ms,
        max_timestamp: first.timestamp_ms,
        producer: None,
        record_count: 1,
        format: first.format,
        crc: first.crc,
    };
    if first.is_compressed() {
        // The offset of the first message inside is not known yet.
        header.base_offset = 0;
        return Ok((header, end));
    }
    let continues = |next: &Message, last_offset: i64| {
        !next.is_compressed()
            && next.format == first.format
            && next.timestamp_type() == first.timestamp_type()
            && next.offset > last_offset
    };
    // What does not continue the batch, a defect or a message that was cut off, comes up again as the next batch.
    while let Ok((next, behind)) = decode(data, end)
        && continues(&next, header.last_offset)
    {
        header.last_offset = next.offset;
        header.max_timestamp = header.max_timestamp.max(next.timestamp_ms);
        header.record_count = header.record_count.saturating_add(1);
        end = behind;
    }
    Ok((header, end))
}

/// Checks the CRC of every message in `data`.
pub(in crate::wire::records) fn check_crcs(data: &[u8]) -> Result<()> {
    let mut at = 0;
    while at < data.len() {
        let (message, end) = decode(data, at).map_err(|why| broken(None, why))?;
        check_crc(data, at, end, &message)?;
        at = end;
    }
    Ok(())
}

/// The size of the messages at the front of `data` that are undamaged.
pub(in crate::wire::records) fn undamaged_bytes(data: &[u8]) -> usize {
    let mut at = 0;
    while let Ok((message, end)) = decode(data, at)
        && check_crc(data, at, end, &message).is_ok()
    {
        at = end;
    }
    at
}

#[inline]
fn check_crc(data: &[u8], at: usize, end: usize, message: &Message) -> Result<()> {
    let computed = crc32(data.get(at.saturating_add(MAGIC_AT)..end).unwrap_or_default());
    if computed == message.crc {
        return Ok(());
    }
    let (offset, stored) = (message.offset, message.crc);
    let what =
        format!("the message with offset {offset} is corrupt: its CRC is {computed:08x} and should be {stored:08x}");
    Err(malformed(what).with_hint(Hint::SeekPastDamage))
}

/// Unpacks a wrapper, whose CRC is valid. `max_bytes` limits the size of everything that is decompressed for it.
pub(in crate::wire::records) fn unwrap(
    bytes: &[u8],
    decompressor: &mut Decompressor,
    max_bytes: usize,
) -> Result<Unwrapped> {
    let (wrapper, _) = decode(bytes, 0).map_err(|why| broken(None, why))?;
    let mut left = max_bytes;
    let data = decompress(bytes, &wrapper, decompressor, &mut left)?;
    let inside = Inside::inspect(&data, &wrapper, wrapper.offset)?;
    if !inside.is_nested {
        let Inside { count, origin, first_offset, .. } = inside;
        return Ok(Unwrapped { data, count, origin, first_offset });
    }
    let mut flat = Vec::new();
    let mut nest = Nest { decompressor, left, flat: &mut flat };
    nest.flatten(&data, inside.origin, 1)?;
    let (mut count, mut at) = (0_u32, 0);
    while let Ok((_, end)) = decode(&flat, at) {
        (count, at) = (count.saturating_add(1), end);
    }
    let first_offset = decode(&flat, 0).map_or(0, |(first, _)| first.offset);
    Ok(Unwrapped { data: flat.into(), count, origin: 0, first_offset })
}

/// What is known of the messages inside a wrapper after looking at all of them.
struct Inside {
    count: u32,
    origin: i64,
    first_offset: i64,
    is_nested: bool,
}

impl Inside {
    /// Checks every message in `data`. `wrapper_offset` is the absolute offset of their wrapper.
    fn inspect(data: &[u8], wrapper: &Message, wrapper_offset: i64) -> Result<Self> {
        let (mut count, mut first, mut last, mut is_nested, mut at) = (0_u32, None, 0, false, 0);
        while at < data.len() {
            let (message, end) = decode(data, at).map_err(|why| broken(Some(wrapper_offset), why))?;
            check_crc(data, at, end, &message)?;
            if message.format != wrapper.format {
                return Err(broken(Some(wrapper_offset), "its magic differs from that of the compressed message"));
            }
            is_nested |= message.is_compressed();
            first.get_or_insert(message.offset);
            (count, last, at) = (count.saturating_add(1), message.offset, end);
        }
        let Some(first) = first else {
            return Err(malformed(format!("the compressed message with offset {wrapper_offset} holds no messages")));
        };
        let origin = match wrapper.format {
            Format::V1 => wrapper_offset.checked_sub(last).filter(|origin| *origin >= 0),
            Format::V0 | Format::V2 => Some(0),
        };
        let origin =
            origin.ok_or_else(|| broken(Some(wrapper_offset), "its offset is behind the compressed message"))?;
        Ok(Self { count, origin, first_offset: origin.wrapping_add(first), is_nested })
    }
}

/// Resolves nested wrappers.
struct Nest<'a> {
    decompressor: &'a mut Decompressor,
    /// How many bytes may still be decompressed.
    left: usize,
    /// The plain messages found so far, with absolute offsets.
    flat: &'a mut Vec<u8>,
}

impl Nest<'_> {
    fn flatten(&mut self, data: &[u8], origin: i64, depth: usize) -> Result<()> {
        let mut at = 0;
        while at < data.len() {
            let (message, end) = decode(data, at).map_err(|why| broken(None, why))?;
            let offset = origin.wrapping_add(message.offset);
            if message.is_compressed() {
                if depth == MOST_NESTED {
                    let what = format!("compressed messages are nested more than {MOST_NESTED} deep");
                    return Err(malformed(what).with_hint(Hint::SeekPastDamage));
                }
                let inner = decompress(data, &message, self.decompressor, &mut self.left)?;
                let inside = Inside::inspect(&inner, &message, offset)?;
                self.flatten(&inner, inside.origin, depth.saturating_add(1))?;
            } else {
                self.flat.extend_from_slice(&offset.to_be_bytes());
                self.flat.extend_from_slice(data.get(at.saturating_add(8)..end).unwrap_or_default());
            }
            at = end;
        }
        Ok(())
    }
}

/// The message set in a wrapper. Takes its size from `left`.
fn decompress(data: &[u8], wrapper: &Message, decompressor: &mut Decompressor, left: &mut usize) -> Result<Bytes> {
    let value = wrapper.value.ok_or_else(|| broken(Some(wrapper.offset), "it is compressed and has no value"))?;
    let (codec, value) = (wrapper.compression_type()?, value.of(data));
    let inner = match wrapper.format {
        Format::V0 => decompressor.decompress_v0(codec, value, *left)?,
        Format::V1 | Format::V2 => decompressor.decompress(codec, value, *left)?,
    };
    *left = left.saturating_sub(inner.len());
    Ok(inner)
}

#[cold]
fn broken(wrapper_offset: Option<i64>, why: &'static str) -> Error {
    let inside = wrapper_offset.map(|offset| format!(" inside the one with offset {offset}")).unwrap_or_default();
    malformed(format!("a message{inside} is broken: {why}")).with_hint(Hint::SeekPastDamage)
}

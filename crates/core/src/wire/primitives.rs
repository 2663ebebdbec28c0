//! The parts of messages: integers, varints, strings, bytes and tagged fields.
//!
//! [`Encoder`] and [`Decoder`] know lengths and limits, not messages. A length has two forms: the fixed-size one, and
//! the compact one of flexible versions (KIP-482), where `n + 1` is a varint and 0 is null. Input is never trusted:
//! each length is checked against the remaining bytes before memory is allocated, and nothing here recurses.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Place};
use crate::wire::message::{Context, Field};
use crate::wire::records::Records;

/// The longest string, in bytes: the limit of a 16-bit length, which compact strings share.
const MAX_STRING: usize = 0x7fff;

/// What is wrong, and in which field of which message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: &'static str,
    /// `Struct.field`; empty until it is known.
    field: &'static str,
    message: &'static str,
    version: i16,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(self.reason)?;
        if !self.message.is_empty() {
            write!(f, " ({} v{})", self.message, self.version)?;
        }
        Ok(())
    }
}

macro_rules! fault {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Box<Fault>);

        impl $name {
            /// An error without a field.
            pub fn new(reason: &'static str) -> Self {
                Self(Box::new(Fault { reason, field: "", message: "", version: 0 }))
            }

            /// Sets the field, unless an inner one is set.
            #[must_use]
            pub fn in_field(mut self, field: &'static str) -> Self {
                if self.0.field.is_empty() {
                    self.0.field = field;
                }
                self
            }

            /// Sets the message and its version.
            #[must_use]
            pub fn in_message(mut self, message: &'static str, version: i16) -> Self {
                self.0.message = message;
                self.0.version = version;
                self
            }

            fn place(&self) -> Place {
                let api = (!self.0.message.is_empty()).then_some((self.0.message, self.0.version));
                Place { api, ..Place::default() }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::error::Error for $name {}
    };
}

fault! {
    /// Why received bytes are not a valid message; becomes [`ErrorKind::Malformed`].
    DecodeError
}

fault! {
    /// Why a message cannot be encoded in a version; becomes [`ErrorKind::Unsupported`].
    EncodeError
}

impl EncodeError {
    /// The version has no field for this value.
    pub fn absent(field: &'static str) -> Self {
        Self::new("the version has no such field").in_field(field)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let (place, Fault { reason, field, .. }) = (error.place(), *error.0);
        let field = if field.is_empty() { "a header" } else { field };
        Self::new(ErrorKind::Malformed, format!("malformed bytes in {field}, {reason}")).at(place)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        let (place, Fault { reason, field, .. }) = (error.place(), *error.0);
        let field = if field.is_empty() { "the message" } else { field };
        Self::new(ErrorKind::Unsupported, format!("{field} cannot be sent, {reason}")).at(place)
    }
}

/// Bytes being written: a growing buffer, and segments that are not copied.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: BytesMut,
    /// Segments, each with its position in `buffer`.
    segments: Vec<(usize, Bytes)>,
    segment_bytes: usize,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes written, including segments.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_add(self.segment_bytes)
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The written bytes, in order.
    pub fn finish(self) -> Vec<Bytes> {
        let mut buffer = self.buffer.freeze();
        let mut finished = Vec::with_capacity(self.segments.len().saturating_mul(2).saturating_add(1));
        let mut start = 0;
        for (place, segment) in self.segments {
            if place > start {
                finished.push(buffer.split_to(place - start));
                start = place;
            }
            finished.push(segment);
        }
        if !buffer.is_empty() {
            finished.push(buffer);
        }
        finished
    }

    /// Appends bytes without a length.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Appends an unsigned varint: seven bits per byte, lowest first.
    pub fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Appends the length of a string, or null.
    fn put_string_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        if length > Some(MAX_STRING) {
            return Err(EncodeError::new("it is longer than 32767 bytes"));
        }
        if flexible {
            self.put_unsigned_varint(length.map_or(0, |length| length as u32 + 1));
        } else {
            self.buffer.put_i16(length.map_or(-1, |length| length as i16));
        }
        Ok(())
    }

    /// Appends the length of bytes, records or an array, or null.
    pub(crate) fn put_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        let length = length
            .map(|length| i32::try_from(length).map_err(|_| EncodeError::new("it is longer than 2 GiB")))
            .transpose()?;
        if flexible {
            self.put_unsigned_varint(length.map_or(0, |length| length.unsigned_abs() + 1));
        } else {
            self.buffer.put_i32(length.unwrap_or(-1));
        }
        Ok(())
    }

    /// Appends a string or null, with a compact length if `flexible`.
    ///
    /// An error if it is longer than 32,767 bytes.
    pub fn put_string(&mut self, value: Option<&str>, flexible: bool) -> Result<(), EncodeError> {
        self.put_string_length(value.map(str::len), flexible)?;
        self.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// Appends a copy of bytes, or null, with a compact length if `flexible`.
    pub fn put_bytes(&mut self, value: Option<&[u8]>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(value.map(<[u8]>::len), flexible)?;
        self.put_slice(value.unwrap_or_default());
        Ok(())
    }

    /// Appends records or null: the length is written, the segments are not copied.
    pub fn put_records(&mut self, records: Option<&Records>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(records.map(Records::len), flexible)?;
        for segment in records.map(Records::segments).unwrap_or_default() {
            self.segment_bytes = self.segment_bytes.saturating_add(segment.len());
            self.segments.push((self.buffer.len(), segment.clone()));
        }
        Ok(())
    }

    /// Appends a tagged field: the tag, the size, and what `write` writes.
    pub fn put_tagged(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut value = Self::new();
        write(&mut value)?;
        self.put_unsigned_varint(tag);
        let size = u32::try_from(value.len()).map_err(|_| EncodeError::new("it is longer than 4 GiB"))?;
        self.put_unsigned_varint(size);
        for segment in value.finish() {
            self.put_slice(&segment);
        }
        Ok(())
    }

    /// Appends a struct that may be null. If the version allows null, a byte precedes it: -1 for null, otherwise 1.
    ///
    /// A tagged field never allows null, so there it has no such byte.
    pub(crate) fn put_optional_struct<T: Field>(
        &mut self,
        value: Option<&T>,
        context: Context,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                if context.nullable {
                    self.buffer.put_i8(1);
                }
                value.write(self, context.with_nullable(false))
            }
            None if context.nullable => {
                self.buffer.put_i8(-1);
                Ok(())
            }
            None => Err(EncodeError::new("the version has no null for it")),
        }
    }

    /// Writes the frame's size into its first 4 bytes, and finishes.
    ///
    /// The encoder must come from [`Encoder::for_frame`].
    pub(crate) fn finish_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        let size = i32::try_from(self.len().saturating_sub(4)).map_err(|_| EncodeError::new("it is over 2 GiB"))?;
        if let Some(prefix) = self.buffer.first_chunk_mut::<4>() {
            *prefix = size.to_be_bytes();
        }
        Ok(self.finish())
    }

    /// An encoder that reserves room for the frame's size.
    pub(crate) fn for_frame() -> Self {
        Self { buffer: BytesMut::from(&[0; 4][..]), ..Self::default() }
    }
}

/// Bytes being read. Values refer to the frame's buffer.
#[derive(Debug, Clone)]
pub struct Decoder {
    frame: Bytes,
    position: usize,
}

impl From<Bytes> for Decoder {
    fn from(frame: Bytes) -> Self {
        Self { frame, position: 0 }
    }
}

impl Decoder {
    /// The number of remaining bytes.
    pub fn remaining(&self) -> usize {
        self.frame.len().saturating_sub(self.position)
    }

    /// An error if bytes remain.
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(DecodeError::new("bytes are left over at the end")) }
    }

    /// The remaining bytes.
    pub fn into_rest(self) -> Bytes {
        self.frame.slice(self.position.min(self.frame.len())..)
    }

    fn slice(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let end = self.position.saturating_add(length);
        let slice = self.frame.get(self.position..end).ok_or_else(short)?;
        self.position = end;
        Ok(slice)
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.frame.get(self.position..).unwrap_or_default();
        let array = *rest.first_chunk().ok_or_else(short)?;
        self.position = self.position.saturating_add(N);
        Ok(array)
    }

    /// Reads `length` bytes, shared with the frame.
    pub fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.position;
        self.slice(length)?;
        Ok(self.frame.slice(start..self.position))
    }

    /// Reads an unsigned varint of at most 5 bytes and 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::new("a varint has more than 32 bits"))
    }

    /// Reads a compact length: one more than the length, or 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Reads the length of bytes, records or an array, or null; not yet checked against the remaining bytes.
    pub(crate) fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_length() } else { length_or_null(i32::from_be_bytes(self.array()?)) }
    }

    /// Reads a string or null.
    pub fn string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let length =
            if flexible { self.compact_length()? } else { length_or_null(i16::from_be_bytes(self.array()?).into())? };
        let Some(length) = length else { return Ok(None) };
        if length > MAX_STRING {
            return Err(DecodeError::new("a string is longer than 32767 bytes"));
        }
        let text = std::str::from_utf8(self.slice(length)?).map_err(|_| DecodeError::new("a string is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    /// Reads bytes or null, shared with the frame.
    pub fn optional_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        self.length(flexible)?.map(|length| self.bytes(length)).transpose()
    }

    /// Reads a struct that may be null, as written by [`Encoder::put_optional_struct`].
    pub(crate) fn optional_struct<T: Field>(&mut self, context: Context) -> Result<Option<T>, DecodeError> {
        if context.nullable && i8::from_be_bytes(self.array()?) < 0 {
            return Ok(None);
        }
        T::read(self, context.with_nullable(false)).map(Some)
    }

    /// Reads all tagged fields. `read` gets the tag and a decoder for the value, and returns whether it knows the tag.
    /// Unknown ones are skipped; of known ones every byte must be read.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let mut value = Self::from(self.bytes(size)?);
            if read(tag, &mut value)? {
                value.expect_end()?;
            }
        }
        Ok(())
    }
}

#[cold]
fn short() -> DecodeError {
    DecodeError::new("it is longer than the bytes that are left")
}

/// Checks a fixed-size length: -1 is null, any other negative number is an error.
fn length_or_null(length: i32) -> Result<Option<usize>, DecodeError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length).map(Some).map_err(|_| DecodeError::new("a length is negative")),
    }
}

/// An identifier of 16 bytes, for instance a topic id (KIP-516). Printed as by Kafka, in URL-safe base64 without
/// padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The null identifier.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether it is the null identifier.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits in groups of six, the last group padded with zeros: 22 characters.
        let bits = u128::from_be_bytes(self.0);
        for group in 0..22_u32 {
            let shift = 122_i64 - i64::from(group) * 6;
            let six = if shift >= 0 { bits >> shift } else { bits << -shift };
            let character = BASE64.get((six & 0x3f) as usize).copied().unwrap_or_default();
            write!(f, "{}", char::from(character))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::new("an identifier is 22 characters of URL-safe base64");
        let (last, first) = text.as_bytes().split_last().filter(|(_, first)| first.len() == 21).ok_or_else(wrong)?;
        let digit = |byte: &u8| BASE64.iter().position(|digit| digit == byte).map(|digit| digit as u128);
        let bits = first.iter().try_fold(0_u128, |bits, byte| digit(byte).map(|digit| bits << 6 | digit));
        // The last character holds two bits of the identifier, and four that must be zero.
        match (bits, digit(last)) {
            (Some(bits), Some(last)) if last % 16 == 0 => Ok(Self((bits << 2 | last >> 4).to_be_bytes())),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &'static [u8]) -> Option<u32> {
        Decoder::from(Bytes::from_static(bytes)).unsigned_varint().ok()
    }

    #[test]
    fn a_varint_has_at_most_five_bytes_and_32_bits() {
        assert_eq!(varint(&[0]), Some(0));
        assert_eq!(varint(&[0xac, 0x02]), Some(300));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some(u32::MAX));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(varint(&[0x80]), None);
    }

    #[test]
    fn a_varint_is_read_as_it_was_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut encoder = Encoder::new();
            encoder.put_unsigned_varint(value);
            let bytes = encoder.finish().concat();
            assert_eq!(Decoder::from(Bytes::from(bytes)).unsigned_varint(), Ok(value));
        }
    }

    #[test]
    fn record_segments_are_passed_on_without_a_copy() {
        let chunks = vec![Bytes::from(vec![1; 5]), Bytes::from(vec![2; 3])];
        let mut encoder = Encoder::new();
        encoder.put_slice(b"before");
        encoder.put_records(Some(&Records::from_segments(chunks.clone())), true).unwrap();
        encoder.put_slice(b"after");
        assert_eq!(encoder.len(), 6 + 1 + 8 + 5);
        let finished = encoder.finish();
        assert_eq!(finished, [&b"before\x09"[..], &[1; 5], &[2; 3], b"after"]);
        assert_eq!(finished[1].as_ptr(), chunks[0].as_ptr());
        assert_eq!(finished[2].as_ptr(), chunks[1].as_ptr());
    }

    #[test]
    fn bytes_that_are_read_share_the_frame() {
        let frame = Bytes::from_static(b"\x04abc");
        let bytes = Decoder::from(frame.clone()).optional_bytes(true).unwrap().unwrap();
        assert_eq!(bytes, "abc");
        assert_eq!(bytes.as_ptr(), frame[1..].as_ptr());
    }

    #[test]
    fn a_string_over_32767_bytes_is_refused_both_ways() {
        let text = "x".repeat(32_768);
        for flexible in [false, true] {
            assert!(Encoder::new().put_string(Some(&text), flexible).is_err());
            assert!(Encoder::new().put_string(text.get(1..), flexible).is_ok());
        }
        let mut bytes = vec![0x81, 0x80, 0x02];
        bytes.extend(text.bytes());
        assert!(Decoder::from(Bytes::from(bytes)).string(true).is_err());
    }

    #[test]
    fn a_string_that_is_not_utf_8_is_refused() {
        assert!(Decoder::from(Bytes::from_static(b"\x02\xff")).string(true).is_err());
    }

    #[test]
    fn a_uuid_prints_as_kafka_does_and_is_read_back() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid([255; 16]).to_string(), "_____________________w");
        let uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        // The output of Python's base64.urlsafe_b64encode for these bytes.
        assert_eq!(uuid.to_string(), "AQIDBAUGBwgJCgsMDQ4PEA");
        assert_eq!("AQIDBAUGBwgJCgsMDQ4PEA".parse(), Ok(uuid));
        for wrong in ["", "AQIDBAUGBwgJCgsMDQ4PE", "AQIDBAUGBwgJCgsMDQ4PEB", "AQIDBAUGBwgJCgsMDQ4P+A"] {
            assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
        }
    }
}

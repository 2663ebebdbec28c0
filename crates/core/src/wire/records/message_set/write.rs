//! Writing message sets, for brokers before Kafka 0.11 and for their clients.
//!
//! A producer fills batches of magic 2, because it may not know yet what the leader can read, and the leader may
//! change. [`to_message_set`] converts a batch when it is sent. What a message set cannot carry is an error; nothing is
//! left out in silence, except timestamps in magic 0 that the program has not chosen, which every record has.
//!
//! A broker writes what it stores, and what old consumers get, with a [`MessageSetBuilder`].

use bytes::Bytes;

use super::{LOG_APPEND_TIME, OVERHEAD_V0, OVERHEAD_V1};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::records::batch::{OpenBatch, TimestampType};
use crate::wire::records::compression::{Compressor, lz4};
use crate::wire::records::crc::crc32;
use crate::wire::records::format::{Format, MAGIC_AT};
use crate::wire::records::{CompressionType, RecordView};

/// The records of a batch as a message set of this format, which is `V0` or `V1`.
///
/// Compressed messages are numbered from 0, which is what brokers expect of a producer. If compression does not make
/// the set smaller, it stays plain.
///
/// # Errors
///
/// `Unsupported` if a record has headers, or if the codec is one that message sets do not have.
pub fn to_message_set(mut batch: OpenBatch, format: Format, compressor: &mut Compressor) -> Result<Bytes> {
    let data = batch.data().clone();
    let mut set = MessageSetBuilder::new(format, TimestampType::CreateTime, compressor.compression_type());
    set.messages.reserve(batch.remaining().saturating_mul(set.overhead()).saturating_add(data.len()));
    let mut next = 0_i64;
    while let Some(record) = batch.next_record() {
        let RecordView { timestamp_ms, key, value, .. } = {
            let record = record?;
            if record.header_count() > 0 {
                return Err(not_carried(Format::V2));
            }
            record
        };
        set.append(next, timestamp_ms, key.map(|key| key.of(&data)), value.map(|value| value.of(&data)));
        next = next.saturating_add(1);
    }
    if set.is_plain() {
        return Ok(set.messages.into());
    }
    let wrapped = set.wrap(compressor)?;
    Ok(if wrapped.len() < set.messages.len() { wrapped.into() } else { set.messages.into() })
}

/// A message set that is being written: plain messages, or a single one that holds them compressed.
#[derive(Debug)]
pub struct MessageSetBuilder {
    format: Format,
    timestamp_type: TimestampType,
    codec: CompressionType,
    messages: Vec<u8>,
    first_offset: Option<i64>,
    last_offset: i64,
    max_timestamp: i64,
}

impl MessageSetBuilder {
    /// An empty set in this format, which is `V0` or `V1`.
    pub fn new(format: Format, timestamp_type: TimestampType, codec: CompressionType) -> Self {
        Self {
            format,
            timestamp_type,
            codec,
            messages: Vec::new(),
            first_offset: None,
            last_offset: 0,
            max_timestamp: i64::MIN,
        }
    }

    /// Appends a message; offsets must ascend. `V0` has no timestamps. A `None` key or value is null.
    pub fn append(&mut self, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let first_offset = *self.first_offset.get_or_insert(offset);
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let is_relative = self.format == Format::V1 && self.codec != CompressionType::None;
        let offset = if is_relative { offset.saturating_sub(first_offset) } else { offset };
        self.message(CompressionType::None, offset, timestamp_ms).put(key, value, &mut self.messages);
    }

    /// The bytes of the set. With a codec it is compressed even if that makes it larger.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the codec is one that message sets do not have; `Internal` if it fails.
    pub fn build(self) -> Result<Bytes> {
        if self.is_plain() {
            return Ok(self.messages.into());
        }
        Ok(self.wrap(&mut Compressor::new(self.codec.into())?)?.into())
    }

    fn is_plain(&self) -> bool {
        self.codec == CompressionType::None || self.messages.is_empty()
    }

    fn overhead(&self) -> usize {
        match self.format {
            Format::V0 => OVERHEAD_V0,
            Format::V1 | Format::V2 => OVERHEAD_V1,
        }
    }

    fn message(&self, codec: CompressionType, offset: i64, timestamp_ms: i64) -> NewMessage {
        let is_appended = self.format != Format::V0 && self.timestamp_type == TimestampType::LogAppendTime;
        let attributes = codec.id() | if is_appended { LOG_APPEND_TIME } else { 0 };
        NewMessage { format: self.format, attributes, offset, timestamp_ms }
    }

    /// The wrapper with all messages; its offset is that of the last one.
    fn wrap(&self, compressor: &mut Compressor) -> Result<Vec<u8>> {
        if self.codec == CompressionType::Zstd {
            return Err(unsupported(
                "zstd compression needs",
                "2.1",
                "set compression.type to lz4, snappy, gzip or none",
            ));
        }
        let mut compressed = compressor.compress(&[&self.messages], 0)?;
        if self.format == Format::V0 && self.codec == CompressionType::Lz4 {
            lz4::write_checksum_of_kafka_0_9(&mut compressed);
        }
        let mut out = Vec::with_capacity(compressed.len().saturating_add(self.overhead()));
        self.message(self.codec, self.last_offset, self.max_timestamp).put(None, Some(&compressed), &mut out);
        Ok(out)
    }
}

/// The error for records that need this format and would have to go into an older one: for headers, which came with
/// `V2`, or for a timestamp of the program's choice, which came with `V1`.
pub fn not_carried(needs: Format) -> Error {
    match needs {
        Format::V2 => unsupported("record headers need", "0.11", "send the records without headers"),
        Format::V1 | Format::V0 => unsupported("timestamps need", "0.10", "send the records without timestamps"),
    }
}

/// What the formats before Kafka 0.11 cannot carry.
fn unsupported(feature: &str, needs: &str, instead: &'static str) -> Error {
    let what = format!("{feature} a broker of Kafka {needs} or newer, and this one is older");
    Error::new(ErrorKind::Unsupported, what).with_hint(instead)
}

struct NewMessage {
    format: Format,
    attributes: u8,
    offset: i64,
    timestamp_ms: i64,
}

impl NewMessage {
    fn put(&self, key: Option<&[u8]>, value: Option<&[u8]>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.offset.to_be_bytes());
        // The size and the CRC, which are not known yet.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[self.format.magic(), self.attributes]);
        if self.format != Format::V0 {
            out.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        }
        for field in [key, value] {
            let length = field.map_or(-1, |bytes| bytes.len() as i32);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field.unwrap_or_default());
        }
        let Some(message) = out.get_mut(start..) else { return };
        let size = message.len().saturating_sub(12) as u32;
        let crc = crc32(message.get(MAGIC_AT..).unwrap_or_default());
        if let Some(place) = message.get_mut(8..MAGIC_AT) {
            let (for_size, for_crc) = place.split_at_mut(4);
            for_size.copy_from_slice(&size.to_be_bytes());
            for_crc.copy_from_slice(&crc.to_be_bytes());
        }
    }
}

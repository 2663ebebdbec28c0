//! Writing message sets, for brokers before Kafka 0.11.
//!
//! A producer fills batches of magic 2, because it may not know yet what the leader can read, and the leader may
//! change. [`to_message_set`] converts a batch when it is sent. What a message set cannot carry is an error; nothing is
//! left out in silence, except timestamps in magic 0 that the program has not chosen, which every record has.

use bytes::Bytes;

use super::{OVERHEAD_V0, OVERHEAD_V1};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::records::batch::OpenBatch;
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
    let overhead = match format {
        Format::V0 => OVERHEAD_V0,
        Format::V1 | Format::V2 => OVERHEAD_V1,
    };
    let data = batch.data().clone();
    let mut out = Vec::with_capacity(batch.remaining().saturating_mul(overhead).saturating_add(data.len()));
    let (mut next, mut max_timestamp) = (0_i64, i64::MIN);
    while let Some(record) = batch.next_record() {
        let RecordView { timestamp_ms, key, value, .. } = {
            let record = record?;
            if record.header_count() > 0 {
                return Err(not_carried(Format::V2));
            }
            record
        };
        max_timestamp = max_timestamp.max(timestamp_ms);
        let message = NewMessage { format, attributes: 0, offset: next, timestamp_ms };
        message.put(key.map(|key| key.of(&data)), value.map(|value| value.of(&data)), &mut out);
        next = next.saturating_add(1);
    }
    let codec = compressor.compression_type();
    if codec == CompressionType::None || out.is_empty() {
        return Ok(out.into());
    }
    if codec == CompressionType::Zstd {
        return Err(unsupported("zstd compression needs", "2.1", "set compression.type to lz4, snappy, gzip or none"));
    }
    let mut compressed = compressor.compress(&[&out], 0)?;
    if compressed.len().saturating_add(overhead) >= out.len() {
        return Ok(out.into());
    }
    if format == Format::V0 && codec == CompressionType::Lz4 {
        lz4::write_checksum_of_kafka_0_9(&mut compressed);
    }
    let wrapper =
        NewMessage { format, attributes: codec.id(), offset: next.saturating_sub(1), timestamp_ms: max_timestamp };
    let mut out = Vec::with_capacity(compressed.len().saturating_add(overhead));
    wrapper.put(None, Some(&compressed), &mut out);
    Ok(out.into())
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

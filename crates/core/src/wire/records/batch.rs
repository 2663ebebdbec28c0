//! Reading record batches: their headers, finding them in a fetch response, and opening them. A part of a message set,
//! the format before Kafka 0.11, is a batch as well: see [`message_set`].
//!
//! There are three steps, so that the cheap ones can run under a lock and the costly one without it. [`batches`] cuts a
//! buffer into batches by their lengths. [`RawBatch::header`] gives a batch's header, unchecked. [`RawBatch::open`]
//! checks the CRC, decompresses, and hands out records. No claim in a batch decides how much memory is allocated.
//!
//! Clients never change a batch. Brokers do: [`assign_offset`] and [`set_log_append_time`] write into a copy.

use bytes::{Buf, BufMut, Bytes};

use super::builder::{ProducerStamp, Stamp};
use super::compression::{CompressionType, Decompressor};
use super::crc::crc32c;
use super::format::{Format, MAGIC_AT, PREFIX_BYTES};
use super::message_set;
use super::record::{self, RecordView};
use crate::error::{Error, ErrorKind, Hint, Result};

/// The size of the header of a batch of magic 2.
pub const HEADER_BYTES: usize = 61;
/// The size of the fields in front of the CRC's coverage, including the CRC itself.
const BEFORE_CRC_BYTES: usize = 17;
const BEFORE_ATTRIBUTES_BYTES: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION_BITS: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Who set the timestamps of a batch's records (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, for each record.
    CreateTime,
    /// The broker, the same for the whole batch.
    LogAppendTime,
}

/// The header of a batch. Nothing in it is checked until the batch is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that was written, even if compaction has removed it. In message sets that of the
    /// first record that is left; 0 for a compressed one until it is opened.
    pub base_offset: i64,
    /// The offset of the last record that was written; the next batch begins after it.
    pub last_offset: i64,
    /// The epoch of the leader that appended the batch (KIP-101).
    pub partition_leader_epoch: Option<i32>,
    /// The codec of the records.
    pub compression_type: CompressionType,
    /// Who set the timestamps.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction (KIP-98).
    pub is_transactional: bool,
    /// Whether it holds a control record, which applications never see.
    pub is_control: bool,
    /// The timestamp that the records' timestamps are relative to, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// The latest timestamp, in milliseconds since 1970; with [`TimestampType::LogAppendTime`] the timestamp of every
    /// record.
    pub max_timestamp: i64,
    /// The idempotent or transactional producer that wrote it.
    pub producer: Option<ProducerStamp>,
    /// How many records it holds; 0 if compaction has removed them all. 1 for a compressed message set until it is
    /// opened.
    pub record_count: u32,
    /// The format of the records.
    pub format: Format,
    pub(super) crc: u32,
}

impl BatchHeader {
    /// Reads the header of the first batch of `data`, in which at least the first `bytes` bytes belong to it. Returns
    /// it with the size of the batch.
    fn parse(format: Format, data: &[u8], bytes: usize) -> Result<(Self, usize)> {
        match format {
            Format::V0 | Format::V1 => message_set::first_batch(data),
            Format::V2 => Ok((Self::parse_v2(data)?, bytes)),
        }
    }

    /// The timestamp of every record, if the broker set it for the whole batch.
    fn log_append_time(&self) -> Option<i64> {
        (self.timestamp_type == TimestampType::LogAppendTime).then_some(self.max_timestamp)
    }

    fn parse_v2(batch: &[u8]) -> Result<Self> {
        let Some(mut header) = batch.first_chunk::<HEADER_BYTES>().map(|header| &header[..]) else {
            return Err(malformed("a record batch is shorter than its header"));
        };
        let base_offset = header.get_i64();
        header.advance(4);
        let partition_leader_epoch = header.get_i32();
        header.advance(1);
        let crc = header.get_u32();
        let attributes = header.get_i16();
        let last_offset_delta = u32::try_from(header.get_i32());
        let base_timestamp = header.get_i64();
        let max_timestamp = header.get_i64();
        let producer_id = header.get_i64();
        let producer_epoch = header.get_i16();
        let base_sequence = header.get_i32();
        let record_count = u32::try_from(header.get_i32());
        let last_offset = last_offset_delta.ok().and_then(|delta| base_offset.checked_add(i64::from(delta)));
        Ok(Self {
            base_offset,
            last_offset: last_offset.ok_or_else(|| malformed("a record batch ends before it begins"))?,
            partition_leader_epoch: (partition_leader_epoch >= 0).then_some(partition_leader_epoch),
            compression_type: CompressionType::from_id((attributes & COMPRESSION_BITS) as u8)?,
            timestamp_type: if attributes & LOG_APPEND_TIME == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            is_transactional: attributes & TRANSACTIONAL != 0,
            is_control: attributes & CONTROL != 0,
            base_timestamp,
            max_timestamp,
            producer: (producer_id >= 0).then_some(ProducerStamp { producer_id, producer_epoch, base_sequence }),
            record_count: record_count.map_err(|_| malformed("a record batch has a negative number of records"))?,
            format: Format::V2,
            crc,
        })
    }
}

/// The header fields of a batch of magic 2 that is being sealed.
pub(super) struct Sealing {
    pub(super) stamp: Stamp,
    pub(super) compression_type: CompressionType,
    pub(super) record_count: u32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
}

/// Writes the header into `first`, including the CRC of the remaining header and of `rest`.
pub(super) fn write_header(sealing: &Sealing, first: &mut [u8], rest: &[Bytes]) -> Result<()> {
    let bytes = rest.iter().map(Bytes::len).fold(first.len(), usize::saturating_add);
    let Ok(length) = i32::try_from(bytes.saturating_sub(PREFIX_BYTES)) else {
        return Err(Error::new(ErrorKind::Internal, "a record batch is longer than 2 GiB"));
    };
    let Some(mut header) = first.first_chunk_mut::<HEADER_BYTES>().map(|header| &mut header[..]) else {
        return Err(Error::new(ErrorKind::Internal, "a record batch has no room for its header"));
    };
    let Stamp { producer, transactional, control } = sealing.stamp;
    let mut attributes = i16::from(sealing.compression_type.id());
    if transactional {
        attributes |= TRANSACTIONAL;
    }
    if control {
        attributes |= CONTROL;
    }
    let none = ProducerStamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
    let producer = producer.unwrap_or(none);
    header.put_i64(0);
    header.put_i32(length);
    header.put_i32(-1);
    header.put_u8(Format::V2.magic());
    header.put_u32(0);
    header.put_i16(attributes);
    header.put_i32(sealing.record_count.saturating_sub(1) as i32);
    header.put_i64(sealing.base_timestamp);
    header.put_i64(sealing.max_timestamp);
    header.put_i64(producer.producer_id);
    header.put_i16(producer.producer_epoch);
    header.put_i32(producer.base_sequence);
    header.put_i32(sealing.record_count as i32);
    write_crc(first, rest);
    Ok(())
}

fn write_crc(first: &mut [u8], rest: &[Bytes]) {
    let covered = first.get(BEFORE_ATTRIBUTES_BYTES..).unwrap_or_default();
    let crc = crc32c(std::iter::once(covered).chain(rest.iter().map(AsRef::as_ref)));
    if let Some(place) = first.get_mut(BEFORE_CRC_BYTES..BEFORE_ATTRIBUTES_BYTES) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}

/// Sets the base offset and leader epoch of a produced batch, which its CRC does not cover.
///
/// `batch` begins like a batch of magic 2; if it is shorter than the fields in front of the magic, nothing is written.
pub fn assign_offset(batch: &mut [u8], base_offset: i64, partition_leader_epoch: i32) {
    let Some(header) = batch.first_chunk_mut::<MAGIC_AT>() else { return };
    header[..8].copy_from_slice(&base_offset.to_be_bytes());
    header[PREFIX_BYTES..MAGIC_AT].copy_from_slice(&partition_leader_epoch.to_be_bytes());
}

/// Sets the append time as the timestamp of all records of a batch (`message.timestamp.type=LogAppendTime`), and
/// updates the CRC. `batch` is one complete batch of magic 2; if it is shorter than a header, nothing is written.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    let Some(header) = batch.first_chunk_mut::<HEADER_BYTES>() else { return };
    header[BEFORE_ATTRIBUTES_BYTES + 1] |= LOG_APPEND_TIME as u8;
    header[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&timestamp_ms.to_be_bytes());
    write_crc(batch, &[]);
}

/// Cuts `bytes`, the records of one partition, into batches. Copies nothing, and checks no CRC.
pub fn batches(bytes: Bytes) -> BatchIterator {
    BatchIterator { rest: bytes, any: false, missing: None }
}

/// The batches of one partition in a fetch response or produce request; see [`batches`].
///
/// A broker may cut off the last batch where the response is full; the iterator ends before it. Any other defect is
/// returned as one error, which ends the iterator.
#[derive(Debug, Clone)]
pub struct BatchIterator {
    rest: Bytes,
    any: bool,
    missing: Option<usize>,
}

impl BatchIterator {
    /// Whether it ended before a batch that was cut off.
    pub fn truncated(&self) -> bool {
        self.missing.is_some()
    }

    /// The size of the first batch, if that is the one that was cut off: the next fetch must ask for at least this
    /// much. If not even the length was received, the smallest possible size.
    pub fn first_batch_bytes(&self) -> Option<usize> {
        self.missing.filter(|_| !self.any)
    }

    fn cut_off(&mut self, batch_bytes: usize) -> Option<Result<RawBatch>> {
        self.missing = (!self.rest.is_empty()).then_some(batch_bytes);
        self.rest.clear();
        None
    }

    fn end(&mut self, error: Error) -> Result<RawBatch> {
        self.rest.clear();
        Err(error)
    }
}

impl Iterator for BatchIterator {
    type Item = Result<RawBatch>;

    fn next(&mut self) -> Option<Result<RawBatch>> {
        let Some(mut prefix) = self.rest.get(8..PREFIX_BYTES) else { return self.cut_off(HEADER_BYTES) };
        let Ok(length) = usize::try_from(prefix.get_i32()) else {
            return Some(self.end(malformed("a record batch has a negative length")));
        };
        let bytes = length.saturating_add(PREFIX_BYTES);
        if bytes <= MAGIC_AT {
            return Some(self.end(malformed(format!("a record batch has a length of {length}, too little to be one"))));
        }
        let format = match self.rest.get(MAGIC_AT).copied().map(Format::from_magic) {
            None => return self.cut_off(bytes),
            Some(Ok(format)) => format,
            Some(Err(error)) => return Some(self.end(error)),
        };
        if bytes < format.least_bytes() {
            return Some(self.end(malformed(format!("a record batch has a length of {length}, less than its header"))));
        }
        if bytes > self.rest.len() {
            return self.cut_off(bytes);
        }
        self.any = true;
        match BatchHeader::parse(format, &self.rest, bytes) {
            Ok((header, bytes)) => Some(Ok(RawBatch { header, bytes: self.rest.split_to(bytes) })),
            Err(error) => Some(self.end(error)),
        }
    }
}

impl std::iter::FusedIterator for BatchIterator {}

/// One complete batch as received: unchecked, and still compressed.
#[derive(Debug, Clone)]
pub struct RawBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// Its header, unchecked.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All its bytes, including the header.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks the CRC; [`open`](Self::open) does so, too.
    ///
    /// # Errors
    ///
    /// `Malformed` if the CRC differs.
    pub fn check_crc(&self) -> Result<()> {
        let covered = match self.header.format {
            Format::V0 | Format::V1 => return message_set::check_crcs(&self.bytes),
            Format::V2 => self.bytes.get(BEFORE_ATTRIBUTES_BYTES..),
        };
        let computed = crc32c(covered);
        if computed == self.header.crc {
            return Ok(());
        }
        let stored = self.header.crc;
        Err(malformed(format!("a record batch is corrupt: its CRC is {computed:08x} and should be {stored:08x}"))
            .with_hint(Hint::SeekPastDamage))
    }

    /// If one of several plain messages (magic 0 or 1) is damaged, of which each has its own CRC: those before it.
    /// `None` if there are none, or none is damaged.
    pub fn before_damage(&self) -> Option<Self> {
        if self.header.format == Format::V2 {
            return None;
        }
        let end = Some(message_set::undamaged_bytes(&self.bytes)).filter(|end| *end < self.bytes.len())?;
        let bytes = self.bytes.slice(..end);
        let (header, _) = message_set::first_batch(&bytes).ok()?;
        Some(Self { header, bytes })
    }

    /// Checks the CRC, decompresses, and prepares the records for reading.
    ///
    /// `max_bytes` limits the decompressed size. Uncompressed records are read in place.
    ///
    /// # Errors
    ///
    /// `Malformed` if the CRC differs, if the compressed data is damaged or larger than `max_bytes`, or if it is too
    /// short for the number of records in the header.
    pub fn open(&self, decompressor: &mut Decompressor, max_bytes: usize) -> Result<OpenBatch> {
        self.check_crc()?;
        match self.header.format {
            Format::V0 | Format::V1 => self.open_message_set(decompressor, max_bytes),
            Format::V2 => self.open_v2(decompressor, max_bytes),
        }
    }

    fn open_message_set(&self, decompressor: &mut Decompressor, max_bytes: usize) -> Result<OpenBatch> {
        let mut header = self.header;
        if header.compression_type == CompressionType::None {
            let (data, remaining) = (self.bytes.clone(), header.record_count);
            return Ok(OpenBatch { header, log_append_time: None, origin: 0, data, at: 0, remaining });
        }
        let inside = message_set::unwrap(&self.bytes, decompressor, max_bytes)?;
        header.base_offset = inside.first_offset;
        header.record_count = inside.count;
        let log_append_time = header.log_append_time();
        let (origin, data, remaining) = (inside.origin, inside.data, inside.count);
        Ok(OpenBatch { header, log_append_time, origin, data, at: 0, remaining })
    }

    fn open_v2(&self, decompressor: &mut Decompressor, max_bytes: usize) -> Result<OpenBatch> {
        let header = self.header;
        let mut data = self.bytes.clone();
        data.advance(HEADER_BYTES.min(data.len()));
        if header.compression_type != CompressionType::None && !(data.is_empty() && header.record_count == 0) {
            data = decompressor.decompress(header.compression_type, &data, max_bytes)?;
        }
        if (header.record_count as usize).saturating_mul(record::SMALLEST_BYTES) > data.len() {
            return Err(malformed(format!(
                "a record batch says that it holds {} records, in {} bytes",
                header.record_count,
                data.len()
            )));
        }
        let (log_append_time, origin, remaining) = (header.log_append_time(), header.base_offset, header.record_count);
        Ok(OpenBatch { header, log_append_time, origin, data, at: 0, remaining })
    }
}

/// The records of a batch with a valid CRC.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    header: BatchHeader,
    log_append_time: Option<i64>,
    /// What to add to the offsets that are written in the records.
    origin: i64,
    data: Bytes,
    at: usize,
    remaining: u32,
}

impl OpenBatch {
    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The buffer that the records' spans refer to.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How many records are left to read; at most a seventh of the bytes of [`data`](Self::data).
    pub fn remaining(&self) -> usize {
        self.remaining as usize
    }

    /// The next record. After an error there are no further records.
    ///
    /// # Errors
    ///
    /// `Malformed` if a record cannot be decoded, or if bytes follow the last one.
    #[inline]
    pub fn next_record(&mut self) -> Option<Result<RecordView>> {
        let Some(remaining) = self.remaining.checked_sub(1) else { return self.end() };
        let decoded = match self.header.format {
            Format::V0 | Format::V1 => message_set::decode(&self.data, self.at).map(|(message, behind)| {
                let offset = self.origin.wrapping_add(message.offset);
                let timestamp_ms = self.log_append_time.unwrap_or(message.timestamp_ms);
                (RecordView::without_headers(offset, timestamp_ms, message.key, message.value), behind)
            }),
            Format::V2 => record::decode(&self.data, self.at).map(|(record, behind)| {
                let offset = self.origin.wrapping_add(i64::from(record.offset_delta));
                let timestamp_ms = match self.log_append_time {
                    Some(timestamp_ms) => timestamp_ms,
                    None => self.header.base_timestamp.wrapping_add(record.timestamp_delta),
                };
                (record.view(offset, timestamp_ms), behind)
            }),
        };
        let (record, behind) = match decoded {
            Ok(decoded) => decoded,
            Err(why) => return Some(Err(self.broken(why))),
        };
        if record.offset > self.header.last_offset {
            return Some(Err(self.broken("its offset is behind its batch")));
        }
        self.remaining = remaining;
        self.at = behind;
        Some(Ok(record))
    }

    #[inline]
    fn end(&mut self) -> Option<Result<RecordView>> {
        if self.at >= self.data.len() {
            return None;
        }
        Some(Err(self.broken("there are bytes behind the last record")))
    }

    #[cold]
    fn broken(&mut self, why: &'static str) -> Error {
        let index = self.header.record_count - self.remaining;
        self.remaining = 0;
        self.at = self.data.len();
        malformed(format!("record {index} of the batch at offset {} is broken: {why}", self.header.base_offset))
    }
}

#[cold]
pub(super) fn malformed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, what)
}

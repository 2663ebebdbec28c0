//! Between the formats of records: what old producers write, and what old consumers read.
//!
//! A log holds records in the format of its version of Kafka. What a producer sends in another one is converted when
//! it is appended ([`to_messages`], [`to_batch`]); what a consumer cannot read, when it is fetched ([`downgrade`]). An
//! old format has no headers, and magic 0 no timestamps: they are left out. Compressed records stay compressed, with
//! the same codec.
//!
//! Not here: the filler that Kafka appends to a converted response to reach the size that it has announced.

use std::sync::Arc;

use bytes::Bytes;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, CompressionType, Compressor, Decompressor, Format, MessageSetBuilder, RawBatch, Records,
    Span, Stamp, TimestampType, batches,
};

use crate::KafkaVersion;

/// The largest decompressed size of a batch that is opened.
pub(crate) const MAX_OPEN_BYTES: usize = 256 << 20;

/// A message in the log of a Kafka before 0.11: a plain one, or a compressed one with others inside.
#[derive(Debug)]
pub(crate) struct OldMessage {
    pub(crate) bytes: Bytes,
    /// The offset of the first message inside; that of a plain message is its own.
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
}

/// The timestamp of records that have none.
const NO_TIMESTAMP: i64 = -1;

#[derive(Debug)]
struct Record {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

impl OldMessage {
    fn new(bytes: Bytes, records: &[Record]) -> Self {
        Self {
            bytes,
            base_offset: records.first().map_or(0, |record| record.offset),
            last_offset: records.last().map_or(0, |record| record.offset),
            max_timestamp: latest(records),
        }
    }
}

/// The latest timestamp of some records.
fn latest(records: &[Record]) -> i64 {
    records.iter().map(|record| record.timestamp_ms).max().unwrap_or(NO_TIMESTAMP)
}

/// The records of one or more batches.
#[derive(Debug, Default)]
struct Contents {
    /// That of the last batch with one.
    codec: CompressionType,
    is_log_append_time: bool,
    has_headers: bool,
    records: Vec<Record>,
}

impl Contents {
    /// Adds the records of a batch. `CORRUPT_MESSAGE` if it cannot be read.
    fn add(&mut self, batch: &RawBatch, decompressor: &mut Decompressor) -> Result<(), ErrorCode> {
        let mut open = batch.open(decompressor, MAX_OPEN_BYTES).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        let data = open.data().clone();
        let field = |span: Option<Span>| span.map(|span| data.slice(span.range()));
        if batch.header().compression_type != CompressionType::None {
            self.codec = batch.header().compression_type;
        }
        self.is_log_append_time = batch.header().timestamp_type == TimestampType::LogAppendTime;
        while let Some(record) = open.next_record() {
            let record = record.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
            self.has_headers |= record.header_count() > 0;
            let (key, value) = (field(record.key), field(record.value));
            self.records.push(Record { offset: record.offset, timestamp_ms: record.timestamp_ms, key, value });
        }
        Ok(())
    }

    /// Whether `sent`, which is all that was sent, is a compressed message whose offsets inside are without gaps, and
    /// whose timestamp is the latest inside.
    fn is_as_stored(&self, sent: &RawBatch) -> bool {
        let follows = |pair: &[Record]| matches!(pair, [one, next] if one.offset.checked_add(1) == Some(next.offset));
        self.records.windows(2).all(follows)
            && sent.header().compression_type != CompressionType::None
            && sent.header().format == Format::V1
            && sent.header().max_timestamp == latest(&self.records)
    }

    /// Some of its records as a message set.
    fn message_set(&self, records: &[Record], format: Format) -> Result<Bytes, ErrorCode> {
        let timestamp_type =
            if self.is_log_append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let mut set = MessageSetBuilder::new(format, timestamp_type, self.codec);
        for Record { offset, timestamp_ms, key, value } in records {
            set.append(*offset, *timestamp_ms, key.as_deref(), value.as_deref());
        }
        set.build().map_err(|_| ErrorCode::CORRUPT_MESSAGE)
    }

    /// All its records as a batch.
    fn batch(&self) -> Result<RawBatch, ErrorCode> {
        let pool = BufferPool::new(usize::MAX, Arc::new(|| ()));
        let mut batch = BatchBuilder::new(&pool, usize::MAX);
        for Record { timestamp_ms, key, value, .. } in &self.records {
            let appended = batch.append(*timestamp_ms, key.as_deref(), value.as_deref(), &[]);
            appended.map_err(|_| ErrorCode::MESSAGE_TOO_LARGE)?;
        }
        let sealed = Compressor::new(self.codec.into()).and_then(|mut codec| batch.seal(Stamp::default(), &mut codec));
        let sealed = sealed.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        batches(sealed.into_bytes()).next().and_then(Result::ok).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)
    }
}

/// What a producer sent. `CORRUPT_MESSAGE` if it cannot be read, `UNKNOWN_SERVER_ERROR` if a message is compressed with
/// zstd, which message sets do not have. A last batch that was cut off is left out.
fn read(produced: Bytes) -> Result<(Vec<RawBatch>, Contents), ErrorCode> {
    let (mut sent, mut contents) = (Vec::new(), Contents::default());
    let mut decompressor = Decompressor::new();
    for batch in batches(produced) {
        let batch = batch.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        if batch.header().format < Format::V2 && batch.header().compression_type == CompressionType::Zstd {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        contents.add(&batch, &mut decompressor)?;
        sent.push(batch);
    }
    Ok((sent, contents))
}

/// What a producer sent, as messages of an old log whose next offset is `next_offset`. `log_append_time_ms` is given if
/// the broker sets the time.
///
/// If one of them is compressed, all become one compressed message. Errors: `CORRUPT_MESSAGE` if they cannot be read;
/// `UNKNOWN_SERVER_ERROR` if they are of magic 1 and the log is not, or compressed with zstd.
pub(crate) fn to_messages(
    produced: Bytes,
    format: Format,
    next_offset: i64,
    log_append_time_ms: Option<i64>,
) -> Result<Vec<OldMessage>, ErrorCode> {
    let (sent, mut contents) = read(produced)?;
    match sent.iter().map(|batch| batch.header().format).max() {
        // Its CRC is none of a message.
        Some(Format::V2) => return Err(ErrorCode::CORRUPT_MESSAGE),
        Some(newest) if newest > format => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        _ => {}
    }
    // A compressed message of magic 1 needs only its own offset, because those inside are relative to it.
    let kept = match &*sent {
        [only] if format == Format::V1 && log_append_time_ms.is_none() && contents.is_as_stored(only) => {
            Some(only.bytes().to_vec())
        }
        _ => None,
    };
    contents.is_log_append_time = log_append_time_ms.is_some();
    for (record, offset) in contents.records.iter_mut().zip(next_offset..) {
        record.offset = offset;
        record.timestamp_ms = match (format, log_append_time_ms) {
            (Format::V0, _) => NO_TIMESTAMP,
            (Format::V1 | Format::V2, time) => time.unwrap_or(record.timestamp_ms),
        };
    }
    let records = &*contents.records;
    if contents.codec == CompressionType::None {
        let plain = |record| Ok(OldMessage::new(contents.message_set(record, format)?, record));
        return records.chunks(1).map(plain).collect();
    }
    let Some(last) = records.last() else { return Ok(Vec::new()) };
    let bytes = match kept {
        None => contents.message_set(records, format)?,
        Some(mut bytes) => {
            if let Some(offset) = bytes.first_chunk_mut() {
                *offset = last.offset.to_be_bytes();
            }
            bytes.into()
        }
    };
    Ok(vec![OldMessage::new(bytes, records)])
}

/// What a producer sent in an old format, as one batch; `None` if it is a batch already, or nothing.
///
/// Errors: those of [`to_messages`]; `INVALID_RECORD` if there is more than one compressed message, from Kafka 2.5 on.
pub(crate) fn to_batch(produced: &Bytes, kafka_version: KafkaVersion) -> Option<Result<RawBatch, ErrorCode>> {
    match batches(produced.clone()).next()? {
        Ok(first) if first.header().format == Format::V2 => None,
        _ => Some(read(produced.clone()).and_then(|(sent, contents)| {
            let is_compressed = contents.codec != CompressionType::None;
            if is_compressed && sent.len() > 1 && kafka_version >= KafkaVersion::V2_8 {
                return Err(ErrorCode::INVALID_RECORD);
            }
            contents.batch()
        })),
    }
}

/// Fetched records for a consumer that can read only `format`, from this offset on. Before Kafka 0.11, all become one
/// message if the first one is compressed, and plain ones if not.
///
/// Errors: `UNSUPPORTED_COMPRESSION_TYPE` for records compressed with zstd; if others are in front of them, it returns
/// those. `UNKNOWN_SERVER_ERROR` in Kafka 0.11, which cannot leave out headers.
pub(crate) fn downgrade(
    records: Records,
    format: Format,
    fetch_offset: i64,
    kafka_version: KafkaVersion,
) -> Result<Records, ErrorCode> {
    let is_joined = kafka_version < KafkaVersion::V0_11;
    let mut decompressor = Decompressor::new();
    let mut sets = Vec::new();
    let mut joined = Contents::default();
    for batch in batches(records.into_bytes()).flatten() {
        let header = batch.header();
        if header.is_control {
            continue;
        }
        if header.compression_type == CompressionType::Zstd {
            if sets.is_empty() {
                return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
            }
            break;
        }
        let mut contents = Contents::default();
        contents.add(&batch, &mut decompressor)?;
        if contents.has_headers && kafka_version == KafkaVersion::V0_11 {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        if contents.codec == CompressionType::None {
            contents.records.retain(|record| record.offset >= fetch_offset);
        }
        if is_joined {
            if joined.records.is_empty() {
                joined.codec = contents.codec;
            }
            joined.records.append(&mut contents.records);
        } else {
            sets.push(contents.message_set(&contents.records, format)?);
        }
    }
    if is_joined {
        sets.push(joined.message_set(&joined.records, format)?);
    }
    Ok(Records::from_segments(sets))
}

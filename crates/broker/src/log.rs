//! The log of one partition: record batches as they arrived, and an index.
//!
//! A batch is stored in two parts. The fields in front of its magic are copied, and base offset and leader epoch are
//! written into the copy (the CRC covers neither). The rest stays in the frame of the request, so appending copies
//! nothing. Reading returns a large batch as segments, too; a small one is copied, since a segment would cost more than
//! it saves.
//!
//! The log of a Kafka before 0.11 holds messages in place of batches: plain ones, and compressed ones with others
//! inside. [`formats`](crate::formats) has given them their offsets, in the format of the log.
//!
//! Only whole batches are returned. Kafka may cut off the last one, so every client can handle more than this.
//!
//! All replicas are the same log, so the high watermark is the log end offset. The log stores the offset at which each
//! leader epoch began (KIP-101). It is kept in memory, completely unless a limit is set.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::fetch::AbortedTransaction;
use kavka_core::wire::records::{self, BatchHeader, Decompressor, MAGIC_AT, RawBatch, Records};

use crate::formats::{MAX_OPEN_BYTES, OldMessage};
use crate::transactions::Transactions;

/// A smaller batch is copied into the response, instead of becoming segments of it.
const COPY_BELOW_BYTES: usize = 2048;

/// A batch and its position in the log.
#[derive(Debug)]
struct Stored {
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    leader_epoch: i32,
    /// The fields in front of the magic.
    prefix: [u8; MAGIC_AT],
    rest: Bytes,
}

impl Stored {
    fn len(&self) -> usize {
        MAGIC_AT.saturating_add(self.rest.len())
    }

    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.put_slice(&self.prefix);
        bytes.put_slice(&self.rest);
        bytes.freeze()
    }
}

/// The result of looking up a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) leader_epoch: i32,
}

/// The record batches of one partition, and its leader epochs.
#[derive(Debug, Default)]
pub(crate) struct Log {
    batches: VecDeque<Stored>,
    log_start_offset: i64,
    log_end_offset: i64,
    bytes: u64,
    last_write_ms: i64,
    /// Leader epochs and their start offsets, both ascending.
    epochs: Vec<(i32, i64)>,
    transactions: Transactions,
}

impl Log {
    /// The first readable offset.
    pub(crate) fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset of the next record; equals the high watermark.
    pub(crate) fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// The wall-clock time of the last produce request, in milliseconds since 1970.
    pub(crate) fn last_write_ms(&self) -> i64 {
        self.last_write_ms
    }

    /// Notes the wall-clock time of a produce request.
    pub(crate) fn handle_write(&mut self, wall_clock_ms: i64) {
        self.last_write_ms = wall_clock_ms;
    }

    /// The offset up to which every transaction has ended.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.transactions.first_open_offset().unwrap_or(self.log_end_offset)
    }

    /// The aborted transactions with batches between these offsets.
    pub(crate) fn aborted_transactions(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        self.transactions.aborted(from, to)
    }

    /// Starts a leader epoch at the end of the log.
    pub(crate) fn begin_epoch(&mut self, leader_epoch: i32) {
        self.epochs.retain(|(epoch, start)| *epoch < leader_epoch && *start < self.log_end_offset);
        self.epochs.push((leader_epoch, self.log_end_offset));
    }

    /// Appends a batch that was checked; returns the offset of its first record.
    ///
    /// The batch must hold at least one record.
    pub(crate) fn append(&mut self, batch: &RawBatch, leader_epoch: i32) -> i64 {
        let base_offset = self.log_end_offset;
        self.store(batch, base_offset, leader_epoch);
        base_offset
    }

    /// Appends a batch of the leader's log, as a follower does: it keeps the offset that it has there.
    pub(crate) fn replicate(&mut self, batch: &RawBatch, leader_epoch: i32) {
        self.store(batch, batch.header().base_offset.max(self.log_end_offset), leader_epoch);
    }

    fn store(&mut self, batch: &RawBatch, base_offset: i64, leader_epoch: i32) {
        let (mut prefix, rest) = split(batch.bytes());
        records::assign_offset(&mut prefix, base_offset, leader_epoch);
        let span = batch.header().last_offset.saturating_sub(batch.header().base_offset);
        let last_offset = base_offset.saturating_add(span);
        let max_timestamp = batch.header().max_timestamp;
        self.push(Stored { base_offset, last_offset, max_timestamp, leader_epoch, prefix, rest });
        self.transactions.handle_append(batch, base_offset);
    }

    /// Appends a message of a format before Kafka 0.11, which has its offsets already.
    pub(crate) fn append_old(&mut self, message: &OldMessage, leader_epoch: i32) {
        let OldMessage { base_offset, last_offset, max_timestamp, .. } = *message;
        let (prefix, rest) = split(&message.bytes);
        self.push(Stored { base_offset, last_offset, max_timestamp, leader_epoch, prefix, rest });
    }

    fn push(&mut self, stored: Stored) {
        self.log_end_offset = stored.last_offset.saturating_add(1);
        self.bytes = self.bytes.saturating_add(stored.len() as u64);
        self.batches.push_back(stored);
    }

    /// Deletes whole batches from the front while the log is larger than `max_bytes`; the last batch stays.
    pub(crate) fn retain_bytes(&mut self, max_bytes: u64) {
        while self.bytes > max_bytes && self.batches.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(stored) = self.batches.pop_front() {
            self.bytes = self.bytes.saturating_sub(stored.len() as u64);
            self.log_start_offset = self.log_start_offset.max(stored.last_offset.saturating_add(1));
        }
    }

    /// Raises the log start offset, as `DeleteRecords` does, and deletes the batches before it.
    pub(crate) fn delete_records(&mut self, before_offset: i64) {
        let before_offset = before_offset.clamp(self.log_start_offset, self.log_end_offset);
        while self.batches.front().is_some_and(|stored| stored.last_offset < before_offset) {
            self.drop_first();
        }
        self.log_start_offset = before_offset;
    }

    /// Truncates the log, as an unclean leader election does. The batch that holds `end_offset` is lost as a whole.
    pub(crate) fn truncate(&mut self, end_offset: i64) {
        while let Some(stored) = self.batches.back().filter(|stored| stored.last_offset >= end_offset) {
            self.bytes = self.bytes.saturating_sub(stored.len() as u64);
            self.log_end_offset = stored.base_offset;
            self.batches.pop_back();
        }
        self.log_start_offset = self.log_start_offset.min(self.log_end_offset);
        self.epochs.retain(|(_, start)| *start <= self.log_end_offset);
        self.transactions.truncate(self.log_end_offset);
    }

    fn position(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.last_offset < offset)
    }

    /// Reads batches, starting with the one that holds `offset`: as many as fit into `max_bytes` and begin before
    /// `up_to`. Also returns the offset after them.
    ///
    /// With `at_least_one` the first batch is returned even if it is larger. An offset at the end returns nothing; one
    /// before the start or beyond the end is `OFFSET_OUT_OF_RANGE`.
    pub(crate) fn read(
        &self,
        offset: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<(Records, i64), ErrorCode> {
        if offset < self.log_start_offset || offset > self.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let mut segments = Vec::new();
        let mut copied = BytesMut::new();
        let mut total = 0_usize;
        let mut next_offset = offset;
        let readable = self.batches.range(self.position(offset)..).take_while(|stored| stored.base_offset < up_to);
        for stored in readable {
            total = total.saturating_add(stored.len());
            let is_first = segments.is_empty() && copied.is_empty();
            if total > max_bytes && !(is_first && at_least_one) {
                break;
            }
            next_offset = stored.last_offset.saturating_add(1);
            copied.put_slice(&stored.prefix);
            if stored.rest.len() < COPY_BELOW_BYTES {
                copied.put_slice(&stored.rest);
            } else {
                segments.push(copied.split().freeze());
                segments.push(stored.rest.clone());
            }
        }
        if !copied.is_empty() {
            segments.push(copied.freeze());
        }
        Ok((Records::from_segments(segments), next_offset))
    }

    /// The first record with a timestamp of at least `timestamp`.
    pub(crate) fn find_timestamp(&self, timestamp: i64, decompressor: &mut Decompressor) -> Option<Found> {
        let candidates = self.batches.iter().filter(|stored| stored.max_timestamp >= timestamp);
        for stored in candidates {
            let found = stored.find(decompressor, |offset, at| offset >= self.log_start_offset && at >= timestamp);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The first record with the largest timestamp (KIP-734).
    pub(crate) fn find_max_timestamp(&self, decompressor: &mut Decompressor) -> Option<Found> {
        let max_timestamp = self.batches.iter().map(|stored| stored.max_timestamp).max()?;
        self.find_timestamp(max_timestamp, decompressor)
    }

    /// The leader epoch of `offset`, written or yet to be written.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch)
    }

    /// The largest known epoch not above `leader_epoch`, and its end offset (KIP-101, KIP-279).
    pub(crate) fn epoch_end(&self, leader_epoch: i32) -> Option<(i32, i64)> {
        let next = self.epochs.iter().find(|(epoch, _)| *epoch > leader_epoch);
        let own = self.epochs.iter().rev().find(|(epoch, _)| *epoch <= leader_epoch);
        match (own, next) {
            (Some((epoch, _)), Some((_, start))) => Some((*epoch, *start)),
            (Some((epoch, _)), None) if *epoch == leader_epoch => Some((*epoch, self.log_end_offset)),
            (None, Some((_, start))) => Some((leader_epoch, *start)),
            _ => None,
        }
    }

    /// All batches, as a reader gets them.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Bytes> {
        self.batches.iter().map(Stored::to_bytes)
    }
}

impl Stored {
    /// The first record whose offset and timestamp satisfy `matches`.
    fn find(&self, decompressor: &mut Decompressor, matches: impl Fn(i64, i64) -> bool) -> Option<Found> {
        let batch = records::batches(self.to_bytes()).next()?.ok()?;
        let mut open = batch.open(decompressor, MAX_OPEN_BYTES).ok()?;
        while let Some(Ok(record)) = open.next_record() {
            if matches(record.offset, record.timestamp_ms) {
                let (offset, timestamp) = (record.offset, record.timestamp_ms);
                return Some(Found { offset, timestamp, leader_epoch: self.leader_epoch });
            }
        }
        None
    }
}

/// The fields in front of a batch's magic, and the rest.
fn split(batch: &Bytes) -> ([u8; MAGIC_AT], Bytes) {
    let prefix = batch.first_chunk().copied().unwrap_or([0; MAGIC_AT]);
    (prefix, batch.slice(MAGIC_AT.min(batch.len())..))
}

/// Checks a produced batch by the rules of Kafka's `LogValidator`. Returns the error code and a message.
///
/// Unlike Kafka it does not check the records, because it would have to open every batch.
pub(crate) fn check(batch: &RawBatch, max_bytes: usize) -> Result<(), (ErrorCode, &'static str)> {
    let BatchHeader { base_offset, last_offset, record_count, is_transactional, is_control, producer, .. } =
        *batch.header();
    let batch_bytes = batch.bytes().len();
    if base_offset != 0 {
        return Err((ErrorCode::INVALID_RECORD, "the base offset of a produced batch is not 0"));
    }
    if batch_bytes > max_bytes {
        return Err((ErrorCode::MESSAGE_TOO_LARGE, "the batch is larger than max.message.bytes"));
    }
    if batch.check_crc().is_err() {
        return Err((ErrorCode::CORRUPT_MESSAGE, "the CRC of the batch is wrong"));
    }
    if record_count == 0 || last_offset.checked_add(1) != Some(i64::from(record_count)) {
        return Err((ErrorCode::INVALID_RECORD, "the last offset delta does not match the number of records"));
    }
    if is_control {
        return Err((ErrorCode::INVALID_RECORD, "clients cannot write control batches"));
    }
    if is_transactional {
        return Err((ErrorCode::INVALID_TXN_STATE, "this broker has no transactions"));
    }
    if producer.is_some_and(|producer| producer.base_sequence < 0) {
        return Err((ErrorCode::INVALID_RECORD, "an idempotent batch has no sequence"));
    }
    Ok(())
}

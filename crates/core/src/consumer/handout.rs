//! Turns a fetched batch into records, on the caller's thread and without the machine's lock.
//!
//! [`Consumer::take_batch`](super::Consumer::take_batch) gives a [`FetchedBatch`], still compressed.
//! [`FetchedBatch::open`] checks and decompresses it into a [`RecordCursor`], which hands out the records, one or many
//! at a time, and moves the partition's position past them. A batch that cannot be opened becomes a [`BadBatch`], which
//! goes back to the machine. Dropping any of them early loses nothing: the next `take_batch` gives the rest of the
//! batch.
//!
//! The whole batch is checked before its first record is handed out, so nothing of a malformed batch is ever delivered.
//! Before Kafka 0.11, uncompressed messages stand alone: those before a damaged one are handed out, and then the error
//! comes.
//! A seek, a pause or a removal takes effect from the very next record on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Place};
use crate::planted::{Bug, is_planted};
use crate::wire::primitives::Uuid;
use crate::wire::records::{BatchHeader, CompressionType, Decompressor, OpenBatch, RawBatch, RecordView};

use super::TopicPartition;
use super::lease::OpenLease;
use super::partitions::PartitionId;

/// Keeps bytes counted as used: those of one fetch response while any batch of it exists, or those of the records that
/// a cursor has read ahead.
#[derive(Debug)]
pub(super) struct Pinned {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Pinned {
    pub(super) fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Arc<Self> {
        total.fetch_add(bytes, Ordering::AcqRel);
        Arc::new(Self { bytes, total: Arc::clone(total) })
    }

    /// Counts other bytes as used, too.
    fn beside(&self, bytes: usize) -> Arc<Self> {
        Self::new(bytes, &self.total)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The next batch of a partition as the broker sent it: unchecked and still compressed.
#[derive(Debug)]
pub struct FetchedBatch {
    pub(super) key: TopicPartition,
    pub(super) topic_id: Uuid,
    pub(super) stamp: u64,
    pub(super) batch: RawBatch,
    pub(super) lease: OpenLease,
    pub(super) pinned: Arc<Pinned>,
    pub(super) position: i64,
}

impl FetchedBatch {
    /// The partition it was fetched from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.key
    }

    /// Checks the CRC, decompresses and checks every record.
    ///
    /// `max_bytes` limits the decompressed size (`max_decompressed_batch`; Kafka has no such setting).
    ///
    /// # Errors
    ///
    /// A [`BadBatch`], to be passed to [`Consumer::handle_bad_batch`](super::Consumer::handle_bad_batch).
    pub fn open(self, decompressor: &mut Decompressor, max_bytes: usize) -> Result<RecordCursor, Box<BadBatch>> {
        let mut open = |batch: &RawBatch| {
            batch.open(decompressor, max_bytes).and_then(|mut records| Ok((check(&mut records)?, records)))
        };
        let opened = open(&self.batch).or_else(|error| {
            let before = self.batch.before_damage().filter(|batch| batch.header().last_offset >= self.position);
            before.map_or(Err(error), |batch| open(&batch))
        });
        match opened {
            Ok((first, records)) => Ok(self.cursor(first, records)),
            Err(error) => {
                let offset = self.batch.header().base_offset.max(self.position);
                let error = at_offset(error, &self.key, offset);
                Err(Box::new(BadBatch { lease: self.lease, error }))
            }
        }
    }

    /// Hands out `first`, and then what `records` has left.
    pub(super) fn cursor(self, first: Vec<RecordView>, records: OpenBatch) -> RecordCursor {
        RecordCursor {
            _views: self.pinned.beside(first.capacity() * size_of::<RecordView>()),
            key: self.key,
            topic_id: self.topic_id,
            stamp: self.stamp,
            lease: self.lease,
            pinned: self.pinned,
            position: self.position,
            ahead: first.into_iter(),
            records,
        }
    }
}

fn at_offset(error: Error, key: &TopicPartition, offset: i64) -> Error {
    error.at(Place { offset: Some(offset), ..Place::default() }).at_partition(&key.topic, key.partition)
}

/// How many records a cursor reads at a time. Most batches have fewer; the check is then the only time they are read.
const READ_AHEAD: usize = 16 * 1024;

/// Reads every record, and keeps the first ones. After this, reading cannot fail, and the offsets are known to
/// increase.
fn check(records: &mut OpenBatch) -> Result<Vec<RecordView>, Error> {
    let mut last = records.header().base_offset.saturating_sub(1);
    let mut check = |record: Result<RecordView, Error>| {
        let record = record?;
        if record.offset <= last {
            let what = format!("a record batch goes back from offset {last} to {}", record.offset);
            return Err(Error::new(ErrorKind::Malformed, what));
        }
        last = record.offset;
        Ok(record)
    };
    let mut first = Vec::with_capacity(records.remaining().min(READ_AHEAD));
    // Reading once more after the last record detects bytes behind it.
    while first.len() < READ_AHEAD {
        let Some(record) = records.next_record() else { return Ok(first) };
        first.push(check(record)?);
    }
    let mut others = records.clone();
    while let Some(record) = others.next_record() {
        check(record)?;
    }
    Ok(first)
}

/// The fetch response that a batch came in. While it exists, the response counts as fetched ahead.
#[derive(Debug, Clone)]
pub struct FetchedResponse(Arc<Pinned>);

impl PartialEq for FetchedResponse {
    /// Whether it is the same response.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A batch that could not be opened, and the error.
#[derive(Debug)]
pub struct BadBatch {
    pub(super) lease: OpenLease,
    pub(super) error: Error,
}

impl BadBatch {
    /// `None` with [`Bug::SkipsDamage`]: the position then moves past the first record.
    pub(super) fn unless_skipped(self) -> Option<Self> {
        let is_skipped = is_planted(Bug::SkipsDamage)
            && self.lease.position().is_some_and(|position| self.lease.claim(position, position.saturating_add(1)));
        (!is_skipped).then_some(self)
    }
}

/// The records of one batch, in order.
///
/// The batch is one buffer ([`RecordCursor::data`]); a record is a set of ranges in it. The cursor holds no lock. Only
/// one batch of each partition is handed out at a time.
#[derive(Debug)]
pub struct RecordCursor {
    key: TopicPartition,
    topic_id: Uuid,
    stamp: u64,
    lease: OpenLease,
    pinned: Arc<Pinned>,
    position: i64,
    /// The records that were read but not handed out yet.
    ahead: std::vec::IntoIter<RecordView>,
    /// The size of `ahead`, which can be larger than the batch if its records are small.
    _views: Arc<Pinned>,
    /// The rest of the batch.
    records: OpenBatch,
}

impl RecordCursor {
    /// Says that the application is done with all records handed out so far, although it still holds the batch. They
    /// are then committed when a rebalance takes the partition away.
    pub fn settle(&self) {
        self.lease.settle();
    }

    /// The partition that the records come from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.key
    }

    /// The id of the topic that the records come from; [`Uuid::ZERO`] if the broker has none (before Kafka 2.8).
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// Tells which of two batches of a partition was read of the newer topic, if they are of two: it has the greater
    /// stamp.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The id that the partition had when the batch was handed out.
    pub fn partition_id(&self) -> PartitionId {
        self.lease.partition_id()
    }

    /// The buffer that the records' ranges refer to. A clone keeps [`RecordCursor::kept_bytes`] in memory, so copy
    /// single records that you keep for long.
    pub fn data(&self) -> &Bytes {
        self.records.data()
    }

    /// The response whose buffer [`RecordCursor::data`] shares with other batches; `None` if the buffer is the batch's
    /// own, because it was decompressed.
    pub fn shared_response(&self) -> Option<FetchedResponse> {
        (self.header().compression_type == CompressionType::None).then(|| FetchedResponse(Arc::clone(&self.pinned)))
    }

    /// How many bytes a clone of [`RecordCursor::data`] keeps in memory. An uncompressed batch shares the buffer of the
    /// whole fetch response.
    pub fn kept_bytes(&self) -> usize {
        match self.header().compression_type {
            CompressionType::None => self.pinned.bytes,
            CompressionType::Gzip | CompressionType::Snappy | CompressionType::Lz4 | CompressionType::Zstd => {
                self.data().len()
            }
        }
    }

    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        self.records.header()
    }

    /// The next record; from now on it counts as handed out and the position is behind it.
    ///
    /// `None` at the end of the batch, and as soon as the partition was sought, paused, removed or parked.
    ///
    /// Also `None` if the rest of the batch cannot be read although it passed the check. Such a bug of ours parks the
    /// partition, as a batch does that cannot be opened.
    #[inline]
    pub fn next_record(&mut self) -> Option<RecordView> {
        loop {
            while let Some(record) = self.ahead.next() {
                if record.offset >= self.position {
                    return self.claim(record.offset.saturating_add(1)).then_some(record);
                }
            }
            if !self.goes_on() {
                return None;
            }
        }
    }

    /// The next records, at most `max`, and the buffer that their ranges refer to. From now on all of them count as
    /// handed out: one atomic step claims them, so they cost less than calls of [`RecordCursor::next_record`].
    ///
    /// There may be fewer than are left; there are none where `next_record` returns `None`.
    pub fn next_records(&mut self, max: usize) -> (&[RecordView], &Bytes) {
        let count = self.claim_ahead(max);
        (self.ahead.as_slice().get(..count).unwrap_or_default(), self.records.data())
    }

    /// Claims the first records of `ahead`, and returns how many. They stay there until the next call, which passes
    /// them because of their offsets.
    fn claim_ahead(&mut self, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        loop {
            let passed = self.ahead.as_slice().partition_point(|record| record.offset < self.position);
            if let Some(last) = passed.checked_sub(1) {
                self.ahead.nth(last);
            }
            let count = self.ahead.len().min(max);
            if let Some(last) = self.ahead.as_slice().get(..count).and_then(<[RecordView]>::last) {
                return if self.claim(last.offset.saturating_add(1)) { count } else { 0 };
            }
            if !self.goes_on() {
                return 0;
            }
        }
    }

    /// Reads the next records into `ahead`. False if there are none: then the batch is finished.
    #[cold]
    fn goes_on(&mut self) -> bool {
        match self.read_ahead() {
            Ok(true) => return true,
            Ok(false) => self.finish(),
            // The position stays before the records that cannot be read, so that they are not taken for read. Without
            // this, the batch would be handed out again for ever.
            Err(error) => self.lease.fail(at_offset(error, &self.key, self.position)),
        }
        false
    }

    /// Returns false at the end of the batch.
    fn read_ahead(&mut self) -> Result<bool, Error> {
        let next = std::iter::from_fn(|| self.records.next_record()).take(READ_AHEAD);
        self.ahead = next.collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok(self.ahead.len() > 0)
    }

    /// Claims the offsets that compaction removed from the end of the batch.
    fn finish(&mut self) {
        let end = self.records.header().last_offset.saturating_add(1);
        if end > self.position && !is_planted(Bug::StuckOnEmpty) {
            self.claim(end);
        }
    }

    #[inline]
    fn claim(&mut self, to: i64) -> bool {
        let to = if is_planted(Bug::PositionAhead) { to.max(self.header().last_offset.saturating_add(1)) } else { to };
        let claimed = self.lease.claim(self.position, to);
        if claimed {
            self.position = to;
        }
        claimed
    }
}

//! From a fetched batch to records, on the caller's thread and without the machine's lock.
//!
//! [`FetchedBatch`] is what [`Consumer::take_batch`](super::Consumer::take_batch) gives, still compressed;
//! [`FetchedBatch::open`] checks and decompresses it into a [`RecordCursor`], which hands out one record after the
//! other and moves the partition's position with each. A batch that cannot be opened becomes a [`BadBatch`], which
//! goes back to the machine. Dropping any of them before its end loses nothing: the rest of the batch is taken again.
//!
//! A batch is checked to its last record before the first one is handed out, so that of a malformed batch nothing is
//! delivered. A seek, a pause or a removal takes effect on the very next record.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Place};
use crate::wire::records::{BatchHeader, CompressionType, Decompressor, OpenBatch, RawBatch, RecordView};

use super::TopicPartition;
use super::lease::OpenLease;

/// Counts the bytes of one fetch response for as long as any batch of it is kept.
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
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A batch whose turn it is, as it came from the broker: unchecked, and still compressed.
#[derive(Debug)]
pub struct FetchedBatch {
    pub(super) key: TopicPartition,
    pub(super) batch: RawBatch,
    pub(super) lease: OpenLease,
    pub(super) pinned: Arc<Pinned>,
    pub(super) position: i64,
}

impl FetchedBatch {
    /// Where it was fetched from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.key
    }

    /// Checks the CRC, decompresses up to `max_bytes` and checks every record.
    ///
    /// Kafka has no setting for `max_bytes`; ours is `max_decompressed_batch`.
    ///
    /// # Errors
    ///
    /// The batch with what is wrong with it, for [`Consumer::handle_bad_batch`](super::Consumer::handle_bad_batch).
    pub fn open(self, decompressor: &mut Decompressor, max_bytes: usize) -> Result<RecordCursor, Box<BadBatch>> {
        match self.batch.open(decompressor, max_bytes).and_then(|records| check(&records).map(|()| records)) {
            Ok(records) => Ok(RecordCursor {
                key: self.key,
                lease: self.lease,
                pinned: self.pinned,
                position: self.position,
                records,
            }),
            Err(error) => {
                let offset = self.batch.header().base_offset.max(self.position);
                let place = Place { offset: Some(offset), ..Place::default() };
                let error = error.at(place).at_partition(&self.key.topic, self.key.partition);
                Err(Box::new(BadBatch { key: self.key, lease: self.lease, error }))
            }
        }
    }
}

/// Reads every record once: what follows cannot fail, and offsets only go up.
fn check(records: &OpenBatch) -> Result<(), Error> {
    let mut records = records.clone();
    let mut last = records.header().base_offset.saturating_sub(1);
    while let Some(record) = records.next_record() {
        let offset = record?.offset;
        if offset <= last {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("a record batch goes back from offset {last} to {offset}"),
            ));
        }
        last = offset;
    }
    Ok(())
}

/// A batch that could not be opened, and why.
#[derive(Debug)]
pub struct BadBatch {
    pub(super) key: TopicPartition,
    pub(super) lease: OpenLease,
    pub(super) error: Error,
}

/// The records of one batch, one after the other.
///
/// It shares one buffer with all its records ([`RecordCursor::data`]); a record is made of places in it. It holds no
/// lock. Only one batch of a partition is out at a time.
#[derive(Debug)]
pub struct RecordCursor {
    key: TopicPartition,
    lease: OpenLease,
    pinned: Arc<Pinned>,
    position: i64,
    records: OpenBatch,
}

impl RecordCursor {
    /// Where the records come from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.key
    }

    /// The buffer that the spans of the records are places in. Keeping a clone keeps more than it
    /// ([`RecordCursor::kept_bytes`]): who keeps single records for long should copy them.
    pub fn data(&self) -> &Bytes {
        self.records.data()
    }

    /// How many bytes a clone of [`RecordCursor::data`] keeps from being freed: what is not compressed lies in the
    /// response it came in, with everything else of it.
    pub fn kept_bytes(&self) -> usize {
        match self.header().compression_type {
            CompressionType::None => self.pinned.bytes,
            _ => self.data().len(),
        }
    }

    /// What the batch says of itself.
    pub fn header(&self) -> &BatchHeader {
        self.records.header()
    }

    /// The next record, which counts as handed out from now on.
    ///
    /// `None` at the end of the batch, and as soon as the partition was sought, paused or removed, or reported bad.
    #[inline]
    pub fn next_record(&mut self) -> Option<RecordView> {
        while let Some(Ok(record)) = self.records.next_record() {
            if record.offset < self.position {
                continue;
            }
            return self.claim(record.offset.saturating_add(1)).then_some(record);
        }
        // Offsets that were compacted away at the end of a batch are behind us too.
        let end = self.records.header().last_offset.saturating_add(1);
        if end > self.position {
            self.claim(end);
        }
        None
    }

    #[inline]
    fn claim(&mut self, to: i64) -> bool {
        let claimed = self.lease.claim(self.position, to);
        if claimed {
            self.position = to;
        }
        claimed
    }
}

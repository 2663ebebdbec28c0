//! Where the transactions of one partition begin and end, which `isolation.level=read_committed` needs (KIP-98).
//!
//! A transaction begins with its producer's first transactional batch, and ends with that producer's next marker. The
//! last stable offset is the first offset of the oldest open transaction: all transactions before it have ended.

use std::collections::BTreeMap;

use kavka_core::wire::messages::fetch::AbortedTransaction;
use kavka_core::wire::records::{BatchHeader, ControlType, Decompressor, RawBatch};

/// The largest control batch; it holds one small record.
const MAX_MARKER_BYTES: usize = 4096;

#[derive(Debug)]
struct Ended {
    producer_id: i64,
    first_offset: i64,
    marker_offset: i64,
    is_aborted: bool,
}

/// The transactions of one partition.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// The producers with an open transaction, and its first offset.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    ended: Vec<Ended>,
}

impl Transactions {
    /// Notes a batch that was appended at `base_offset`.
    pub(crate) fn handle_append(&mut self, batch: &RawBatch, base_offset: i64) {
        let BatchHeader { is_transactional, is_control, producer, .. } = *batch.header();
        let Some(producer_id) = producer.map(|producer| producer.producer_id).filter(|_| is_transactional) else {
            return;
        };
        if !is_control {
            self.open.entry(producer_id).or_insert(base_offset);
            return;
        }
        let control_type = control_type(batch);
        if let (Some(first_offset), Some(ControlType::Abort | ControlType::Commit)) =
            (self.open.remove(&producer_id), control_type)
        {
            let is_aborted = control_type == Some(ControlType::Abort);
            self.ended.push(Ended { producer_id, first_offset, marker_offset: base_offset, is_aborted });
        }
    }

    /// Forgets what was truncated. A transaction whose marker was truncated is open again.
    pub(crate) fn truncate(&mut self, end_offset: i64) {
        self.open.retain(|_, first_offset| *first_offset < end_offset);
        while let Some(ended) = self.ended.pop_if(|ended| ended.marker_offset >= end_offset) {
            if ended.first_offset < end_offset {
                self.open.insert(ended.producer_id, ended.first_offset);
            }
        }
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open_offset(&self) -> Option<i64> {
        self.open.values().copied().min()
    }

    /// The aborted transactions with batches between these offsets.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let is_there = |ended: &&Ended| ended.is_aborted && ended.first_offset < to && ended.marker_offset >= from;
        let describe =
            |ended: &Ended| AbortedTransaction { producer_id: ended.producer_id, first_offset: ended.first_offset };
        self.ended.iter().filter(is_there).map(describe).collect()
    }
}

fn control_type(batch: &RawBatch) -> Option<ControlType> {
    let mut marker = batch.open(&mut Decompressor::new(), MAX_MARKER_BYTES).ok()?;
    let data = marker.data().clone();
    let record = marker.next_record()?.ok()?;
    ControlType::parse(record.key.map(|key| key.of(&data))).ok()
}

//! A handle: the part of the shared machine that belongs to one producer of the program.
//!
//! Producers with equal settings share one machine, so that a request carries the batches of all of them. A handle
//! keeps apart what belongs to one producer: its topics, its limit on records and its unreported batches. Flushing,
//! closing and abandoning a handle concern these batches only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{HandleId, TopicIndex};
use crate::error::Error;

/// One producer of the program; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Handle {
    max_queued_records: Option<usize>,
    queued_records: usize,
    /// The numbers of its unreported batches.
    unreported: BTreeSet<u64>,
    /// Batches with a lower number have already been told not to linger.
    expedited: u64,
    pub(super) topics: BTreeMap<Arc<str>, TopicIndex>,
    /// Why it accepts no more records; `None` while it does.
    refusal: Option<Error>,
    released: bool,
    /// Whether one of its topics has become missing in the metadata, and nobody was told yet.
    misses_topic: bool,
}

impl Handle {
    pub(super) fn new(max_queued_records: Option<usize>) -> Self {
        Self { max_queued_records, ..Self::default() }
    }

    #[inline]
    pub(super) fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    /// Accepts no more records from now on. The first reason is kept.
    pub(super) fn refuse(&mut self, reason: Error) {
        self.refusal.get_or_insert(reason);
    }

    /// Marks it as unused: it is removed once all its records are reported.
    pub(super) fn release(&mut self) {
        self.released = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.released && self.unreported.is_empty()
    }

    /// Whether its limit on unreported records is reached.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.max_queued_records.is_some_and(|limit| self.queued_records >= limit)
    }

    pub(super) fn handle_missing_topic(&mut self) {
        self.misses_topic = true;
    }

    /// Whether callers that wait to append should try again: there may be room, or one of its topics has become
    /// missing.
    pub(super) fn take_retry(&mut self) -> bool {
        std::mem::take(&mut self.misses_topic) || self.max_queued_records.is_some()
    }

    pub(super) fn max_queued_records(&self) -> Option<usize> {
        self.max_queued_records
    }

    pub(super) fn queued_records(&self) -> usize {
        self.queued_records
    }

    /// Whether all its records are reported.
    pub(super) fn is_empty(&self) -> bool {
        self.unreported.is_empty()
    }

    #[inline]
    pub(super) fn count_record(&mut self) {
        self.queued_records += 1;
    }

    pub(super) fn handle_opened(&mut self, number: u64) {
        self.unreported.insert(number);
    }

    /// Notes that `records` of a batch were reported; `settled` is the batch's number if those were its last.
    pub(super) fn handle_reported(&mut self, records: u32, settled: Option<u64>) {
        self.queued_records = self.queued_records.saturating_sub(records as usize);
        if let Some(number) = settled {
            self.unreported.remove(&number);
        }
    }

    /// Returns the unreported batches that were not expedited yet, and marks them as expedited.
    pub(super) fn expedite(&mut self, next_number: u64) -> Vec<u64> {
        let since = std::mem::replace(&mut self.expedited, next_number);
        self.unreported.range(since..).copied().collect()
    }

    pub(super) fn unreported(&self) -> impl Iterator<Item = u64> + '_ {
        self.unreported.iter().copied()
    }

    /// All its batches with a lower number are reported; `next_number` is the number of the next batch.
    pub(super) fn settled(&self, next_number: u64) -> u64 {
        self.unreported.first().copied().unwrap_or(next_number)
    }

    /// Forgets its unreported batches, because all of them were just reported in another way.
    pub(super) fn clear(&mut self) {
        self.unreported.clear();
        self.queued_records = 0;
    }
}

/// How far the reports of one handle have come, once the events polled so far are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The handle.
    pub handle: HandleId,
    /// Everything appended before this mark is reported.
    pub settled: super::FlushMark,
    /// Whether callers that wait to append should try again: reports may have made room below the handle's limit, or
    /// the metadata lacks one of its topics now.
    pub wakes_callers: bool,
    /// Whether the handle was released and has reported its last record: the machine has removed it.
    pub is_over: bool,
}

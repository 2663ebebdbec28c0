//! A handle: what one producer of the program has in the machine that it shares with others.
//!
//! Many producers of equal settings use one machine, so that a request carries the batches of all of them. A handle is
//! one of these producers: its topics, its limit on records, and which of its batches are not yet reported. Flushing,
//! closing and giving up are about these batches and never about those of another handle.

use std::collections::BTreeSet;

use super::{HandleId, TopicIndex};
use crate::error::Error;

/// One producer of the program; see the module's text.
#[derive(Debug, Default)]
pub(super) struct Handle {
    max_queued_records: Option<usize>,
    queued_records: usize,
    /// The numbers of its unreported batches.
    unreported: BTreeSet<u64>,
    /// Batches with a lower number need not be told again that they may go.
    expedited: u64,
    pub(super) topics: Vec<TopicIndex>,
    /// Why it accepts no more records.
    refusal: Option<Error>,
    released: bool,
}

impl Handle {
    pub(super) fn new(max_queued_records: Option<usize>) -> Self {
        Self { max_queued_records, ..Self::default() }
    }

    #[inline]
    pub(super) fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    /// Accepts no more records; the first reason stays.
    pub(super) fn refuse(&mut self, reason: Error) {
        self.refusal.get_or_insert(reason);
    }

    /// Nobody will use it any more: it goes when everything of it is reported.
    pub(super) fn release(&mut self) {
        self.released = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.released && self.unreported.is_empty()
    }

    /// Whether as many records as are allowed wait for their report.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.max_queued_records.is_some_and(|limit| self.queued_records >= limit)
    }

    pub(super) fn max_queued_records(&self) -> Option<usize> {
        self.max_queued_records
    }

    pub(super) fn queued_records(&self) -> usize {
        self.queued_records
    }

    /// Whether nothing of it is unreported.
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

    /// Notes that `records` of a batch were reported, and `settled` if those were its last.
    pub(super) fn handle_reported(&mut self, records: u32, settled: Option<u64>) {
        self.queued_records = self.queued_records.saturating_sub(records as usize);
        if let Some(number) = settled {
            self.unreported.remove(&number);
        }
    }

    /// The unreported batches that have not been expedited since they opened; from now on they count as expedited.
    pub(super) fn expedite(&mut self, next_number: u64) -> Vec<u64> {
        let since = std::mem::replace(&mut self.expedited, next_number);
        self.unreported.range(since..).copied().collect()
    }

    pub(super) fn unreported(&self) -> impl Iterator<Item = u64> + '_ {
        self.unreported.iter().copied()
    }

    /// Every batch of it with a lower number has been reported; `next_number` is what the next batch will get.
    pub(super) fn settled(&self, next_number: u64) -> u64 {
        self.unreported.first().copied().unwrap_or(next_number)
    }

    /// Forgets what is unreported, because all of it has just been reported in another way.
    pub(super) fn clear(&mut self) {
        self.unreported.clear();
        self.queued_records = 0;
    }
}

/// How far the reports of one handle have come, if the events polled so far are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whose.
    pub handle: HandleId,
    /// Everything accepted before this mark is reported.
    pub settled: super::FlushMark,
    /// Whether its number of records is bounded, so that reports make room.
    pub is_bounded: bool,
    /// Whether it was released and this was its last: the machine has forgotten it.
    pub is_over: bool,
}

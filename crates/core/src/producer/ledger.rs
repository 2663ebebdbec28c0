//! Which batches are not yet reported, oldest first.
//!
//! Batches get their numbers in the order they are opened, and every batch has the same time to be delivered. So the
//! ledger is a window over the numbers: the next delivery deadline is that of its front, and everything up to a
//! number is done when the front is past it. It costs per batch, never per record or partition.

use std::collections::VecDeque;

use super::PartitionId;
use crate::time::Instant;

#[derive(Debug)]
struct Entry {
    partition: PartitionId,
    deadline: Instant,
    settled: bool,
}

/// The window of unreported batches.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of the front entry.
    first: u64,
    /// Invariant: the front entry, if there is one, is not settled.
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// Gives the batch that opens now its number.
    pub(super) fn open(&mut self, partition: PartitionId, deadline: Instant) -> u64 {
        let number = self.next_number();
        self.entries.push_back(Entry { partition, deadline, settled: false });
        number
    }

    /// Notes that every record of the batch has been reported.
    pub(super) fn settle(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.settled = true;
        }
        while self.entries.front().is_some_and(|entry| entry.settled) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The number the next batch will get: a mark for [`settled`](Self::settled).
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Every batch with a lower number has been reported.
    pub(super) fn settled(&self) -> u64 {
        self.first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest unreported batch: its number, its partition and its delivery deadline.
    pub(super) fn front(&self) -> Option<(u64, PartitionId, Instant)> {
        self.entries.front().map(|entry| (self.first, entry.partition, entry.deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_when_everything_before_it_is_reported_in_any_order() {
        let mut ledger = Ledger::default();
        let a = ledger.open(PartitionId(0), Instant(10));
        let b = ledger.open(PartitionId(1), Instant(11));
        let mark = ledger.next_number();
        let c = ledger.open(PartitionId(0), Instant(12));
        ledger.settle(b);
        assert_eq!(ledger.front(), Some((a, PartitionId(0), Instant(10))));
        assert!(ledger.settled() < mark);
        ledger.settle(a);
        assert!(ledger.settled() >= mark);
        assert_eq!(ledger.front(), Some((c, PartitionId(0), Instant(12))));
        ledger.settle(c);
        assert!(ledger.is_empty());
    }
}

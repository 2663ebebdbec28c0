//! The batches that are not reported yet, oldest first.
//!
//! Batches are numbered in the order in which they open, and all have the same delivery time limit, so the lowest
//! number is the first to expire. The ledger holds unreported batches only, so it does not grow while one partition is
//! stuck and the others go on.

use std::collections::BTreeMap;

use super::PartitionId;
use crate::time::Instant;

/// The unreported batches by number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    next_number: u64,
    batches: BTreeMap<u64, (PartitionId, Instant)>,
}

impl Ledger {
    /// Gives a number to the batch that is being opened.
    pub(super) fn open(&mut self, partition: PartitionId, deadline: Instant) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.batches.insert(number, (partition, deadline));
        number
    }

    /// Removes a batch: all its records are reported.
    pub(super) fn settle(&mut self, number: u64) {
        self.batches.remove(&number);
    }

    /// The number of the next batch.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The partition of an unreported batch.
    pub(super) fn partition(&self, number: u64) -> Option<PartitionId> {
        self.batches.get(&number).map(|(partition, _)| *partition)
    }

    /// The partitions that have unreported batches, each once.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let mut partitions: Vec<_> = self.batches.values().map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    /// The oldest unreported batch: its number, its partition and its delivery deadline.
    pub(super) fn front(&self) -> Option<(u64, PartitionId, Instant)> {
        self.batches.first_key_value().map(|(number, (partition, deadline))| (*number, *partition, *deadline))
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Key;
    use super::*;

    #[test]
    fn it_holds_unreported_batches_alone_however_long_the_oldest_is_stuck() {
        let mut ledger = Ledger::default();
        let (stuck, busy) = (PartitionId::new(0), PartitionId::new(1));
        let first = ledger.open(stuck, Instant(10));
        for at in 11..10_000 {
            let number = ledger.open(busy, Instant(at));
            ledger.settle(number);
        }
        assert_eq!(ledger.batches.len(), 1);
        assert_eq!(ledger.front(), Some((first, stuck, Instant(10))));
    }
}

//! Finds the batches of aborted transactions in a fetch response (`isolation.level=read_committed`, KIP-98).
//!
//! The broker lists the transactions that were aborted within the range it returns, each by producer id and first
//! offset, in no reliable order. A producer's batches are hidden from that offset up to its next control batch. A
//! control batch of a transaction that is not listed is normal: the transaction committed, or its records were deleted.

use std::collections::BTreeSet;

use crate::planted::{Bug, is_planted};
use crate::wire::messages::fetch::AbortedTransaction;

#[derive(Debug, Default)]
pub(super) struct AbortedTransactions {
    /// Transactions that begin further on in the range; the next one is last.
    upcoming: Vec<AbortedTransaction>,
    /// The producers that have an aborted transaction open at this point of the range.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    pub(super) fn new(mut listed: Vec<AbortedTransaction>) -> Self {
        listed.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { upcoming: listed, producers: BTreeSet::new() }
    }

    /// Whether this batch belongs to an aborted transaction. Must be called for every batch of the range, in order.
    pub(super) fn hides(
        &mut self,
        last_offset: i64,
        producer_id: i64,
        is_transactional: bool,
        is_control: bool,
    ) -> bool {
        while let Some(next) = self.upcoming.pop_if(|next| next.first_offset <= last_offset) {
            self.producers.insert(next.producer_id);
        }
        if is_control {
            // This control batch is the abort marker: a commit marker of the same producer would lie before
            // `first_offset`.
            if !is_planted(Bug::AbortedForEver) {
                self.producers.remove(&producer_id);
            }
            return !is_planted(Bug::GivesMarkers);
        }
        is_transactional && self.producers.contains(&producer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(listed: &[(i64, i64)]) -> AbortedTransactions {
        AbortedTransactions::new(
            listed
                .iter()
                .map(|&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
                .collect(),
        )
    }

    #[test]
    fn a_list_out_of_order_hides_the_same_batches() {
        let mut filter = aborted(&[(1, 30), (2, 10), (1, 5)]);
        assert!(filter.hides(6, 1, true, false));
        assert!(filter.hides(12, 2, true, false));
        assert!(filter.hides(13, 1, false, true), "a marker is never handed out");
        assert!(!filter.hides(20, 1, true, false), "the next transaction of this producer was committed");
        assert!(filter.hides(30, 1, true, false));
    }

    #[test]
    fn a_marker_without_an_entry_changes_nothing() {
        let mut filter = aborted(&[(1, 0)]);
        assert!(filter.hides(3, 9, false, true));
        assert!(filter.hides(4, 1, true, false));
    }

    #[test]
    fn records_outside_transactions_are_handed_out_whoever_wrote_them() {
        assert!(!aborted(&[(1, 0)]).hides(3, 1, false, false));
    }
}

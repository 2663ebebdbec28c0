//! Which batches of a fetched range belong to aborted transactions (`isolation.level=read_committed`, KIP-98).
//!
//! A broker names the transactions that were aborted within the range it returns, by producer id and first
//! offset, in no order that can be relied on. A producer's batches from there on are left out until its next
//! marker. Markers of transactions that are not in the list are normal: the records before them may be gone.

use std::collections::BTreeSet;

use crate::wire::messages::fetch::AbortedTransaction;

#[derive(Debug, Default)]
pub(super) struct AbortedTransactions {
    /// Not yet reached; the nearest is last.
    upcoming: Vec<AbortedTransaction>,
    /// The producers whose transaction at this point of the range was aborted.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    pub(super) fn new(mut listed: Vec<AbortedTransaction>) -> Self {
        listed.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { upcoming: listed, producers: BTreeSet::new() }
    }

    /// Whether the next batch of the range must not be handed out; to be asked of every batch in order.
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
            // A marker of a producer on the list is the one that aborted it: a commit lies before its first offset.
            self.producers.remove(&producer_id);
            return true;
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

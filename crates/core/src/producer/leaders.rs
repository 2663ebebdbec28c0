//! Which brokers can be sent a produce request: the ready partitions of each, and its requests in flight.
//!
//! A partition that has nothing to send, or must wait, is on no list, so finding a ready one needs no search.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{LaneId, PartitionId};

/// The broker and the lane of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) broker_id: i32,
    pub(super) lane: LaneId,
}

#[derive(Debug, Default)]
struct Leader {
    ready: VecDeque<PartitionId>,
    in_flight: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// How many requests may be in flight to one destination.
    max_in_flight: usize,
    all: BTreeMap<Destination, Leader>,
    /// The destinations that have a ready partition and may be sent a request.
    sendable: BTreeSet<Destination>,
}

impl Leaders {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self { max_in_flight, ..Self::default() }
    }

    /// Puts a partition on its leader's list. Returns whether that leader may be sent a request now.
    pub(super) fn push(&mut self, to: Destination, id: PartitionId) -> bool {
        let leader = self.all.entry(to).or_default();
        leader.ready.push_back(id);
        let is_sendable = leader.in_flight < self.max_in_flight;
        if is_sendable {
            self.sendable.insert(to);
        }
        is_sendable
    }

    /// A destination that has a ready partition and may be sent a request.
    pub(super) fn next(&self) -> Option<Destination> {
        self.sendable.first().copied()
    }

    /// Takes the next ready partition off a destination's list.
    pub(super) fn pop(&mut self, from: Destination) -> Option<PartitionId> {
        let next = self.all.get_mut(&from).and_then(|leader| leader.ready.pop_front());
        if next.is_none() {
            self.sendable.remove(&from);
            if self.all.get(&from).is_some_and(|leader| leader.in_flight == 0) {
                self.all.remove(&from);
            }
        }
        next
    }

    pub(super) fn handle_sent(&mut self, to: Destination) {
        let leader = self.all.entry(to).or_default();
        leader.in_flight += 1;
        if leader.in_flight >= self.max_in_flight || leader.ready.is_empty() {
            self.sendable.remove(&to);
        }
    }

    /// Returns false if no request to it was in flight, which is a bug.
    #[must_use]
    pub(super) fn handle_answered(&mut self, by: Destination) -> bool {
        let Some(leader) = self.all.get_mut(&by).filter(|leader| leader.in_flight > 0) else { return false };
        leader.in_flight -= 1;
        if !leader.ready.is_empty() {
            self.sendable.insert(by);
        } else if leader.in_flight == 0 {
            self.all.remove(&by);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Key;
    use super::*;

    fn to(broker_id: i32) -> Destination {
        Destination { broker_id, lane: LaneId::new(0) }
    }

    #[test]
    fn a_broker_is_next_while_it_has_ready_partitions_and_is_not_too_busy() {
        let mut leaders = Leaders::new(1);
        assert!(leaders.push(to(2), PartitionId::new(0)));
        assert!(leaders.push(to(2), PartitionId::new(1)));
        assert_eq!((leaders.next(), leaders.pop(to(2))), (Some(to(2)), Some(PartitionId::new(0))));
        leaders.handle_sent(to(2));
        assert_eq!(leaders.next(), None, "it is busy");
        assert!(!leaders.push(to(2), PartitionId::new(3)));
        assert!(leaders.handle_answered(to(2)));
        assert_eq!(leaders.next(), Some(to(2)));
        assert!(!leaders.handle_answered(to(2)), "nothing was in flight any more");
    }
}

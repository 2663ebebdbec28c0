//! The leader epoch of what was fetched: what is committed with an offset, and what a truncated log means (KIP-320).

use super::{CommittedOffset, Partition};
use crate::planted::{Bug, is_planted};

/// What the end of a leader epoch means for what was fetched.
#[derive(Debug, PartialEq)]
pub(in crate::consumer) enum Truncation {
    None,
    /// Records that were only buffered are gone; the buffer was dropped.
    OfBuffer,
    /// Records that were handed out are gone.
    OfWhatWasRead,
}

impl Partition {
    /// Moves the position past the end of the log ([`Bug::EndMovesPosition`](crate::planted::Bug::EndMovesPosition)).
    pub(in crate::consumer) fn pass_end(&mut self) {
        if let Some(lease) = &self.lease
            && let Some(position) = lease.position().filter(|position| *position == self.fetched)
        {
            lease.claim(position, position.saturating_add(1));
        }
    }

    /// What to commit for an offset up to `fetched`. `fetched_epoch` may be newer than the epoch of the record before
    /// the offset. That does no harm: asking where that epoch, or an older one, ended also reveals records missing
    /// before the offset.
    pub(in crate::consumer) fn committed_at(&self, offset: i64) -> CommittedOffset {
        CommittedOffset { leader_epoch: self.fetched_epoch, ..CommittedOffset::new(offset) }
    }

    /// Sets the leader epoch of what is before `fetched`; the partition's leader is asked to confirm it.
    pub(in crate::consumer) fn set_fetched_epoch(&mut self, leader_epoch: Option<i32>) {
        self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
    }

    /// Whether the leader epoch in our metadata is older than that of the records before `fetched`: the metadata came
    /// from a broker that lags behind.
    pub(in crate::consumer) fn is_led_from_the_past(&self) -> bool {
        self.leader_epoch.is_some() && self.leader_epoch < self.fetched_epoch
    }

    /// Handles the answer that our leader epoch ends at `end`, or, with `None`, that the leader does not know our
    /// epoch.
    pub(in crate::consumer) fn truncate(&mut self, end: Option<i64>, leader_epoch: Option<i32>) -> Truncation {
        if end.is_some_and(|end| end >= self.fetched) || is_planted(Bug::IgnoresTruncation) {
            return Truncation::None;
        }
        // A thread that holds a batch could move the position until its lease ends.
        self.renew_lease();
        let position = self.offset().unwrap_or(self.fetched);
        if end.is_none_or(|end| end < position) {
            return Truncation::OfWhatWasRead;
        }
        self.drop_buffer();
        self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0);
        Truncation::OfBuffer
    }
}

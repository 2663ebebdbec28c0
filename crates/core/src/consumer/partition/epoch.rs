//! What is committed of a partition, and with it the topic id and the leader epoch of what was fetched; and what a
//! truncated log means (KIP-320).

use super::Partition;
use crate::consumer::CommittedOffset;
use crate::planted::{Bug, is_planted};
use crate::wire::primitives::Uuid;

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

    /// The offset of the next record to hand out, ready to be committed; `None` if that offset is unknown, or is one of
    /// a topic whose name another one has by now.
    pub(in crate::consumer) fn position(&self) -> Option<CommittedOffset> {
        Some(self.committed_at(self.offset()?)).filter(|_| !self.is_replaced)
    }

    /// The position up to which the application is done: if it holds a batch, the position before that batch.
    pub(in crate::consumer) fn done(&self) -> Option<CommittedOffset> {
        let lease = self.lease.as_ref().filter(|_| !self.is_replaced)?;
        lease.opened_at().map_or_else(|| self.position(), |offset| Some(self.committed_at(offset)))
    }

    /// The id of the topic that is read, or zero if it is unknown.
    pub(in crate::consumer) fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// What to commit for an offset up to `fetched`. `fetched_epoch` may be newer than the epoch of the record before
    /// the offset. That does no harm: asking where that epoch, or an older one, ended also reveals records missing
    /// before the offset.
    pub(in crate::consumer) fn committed_at(&self, offset: i64) -> CommittedOffset {
        let (leader_epoch, topic_id) = (self.fetched_epoch, self.topic_id);
        CommittedOffset { leader_epoch, topic_id, ..CommittedOffset::new(offset) }
    }

    /// Sets the topic, if known, and the leader epoch of what is before `fetched`; the partition's leader is asked to
    /// confirm the epoch.
    pub(in crate::consumer) fn set_fetched(&mut self, topic_id: Uuid, leader_epoch: Option<i32>) {
        self.topic_id = topic_id;
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

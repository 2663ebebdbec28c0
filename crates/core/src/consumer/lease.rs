//! The right to hand out records of one partition, together with the position.
//!
//! A [`Lease`] lasts until a seek, a pause, a removal or a bad batch ends it; later records are handed out under a new
//! lease. The thread that iterates over a batch claims a record, or many that follow each other, with one atomic step
//! and takes no lock. A claim under an ended lease fails. So records are handed out exactly if their claim succeeded,
//! and none is claimed after the lease has ended.

use std::sync::Arc;

use crate::error::Error;
use crate::sync::{AtomicI64, Ordering};

use super::partitions::PartitionId;
use super::returned::{Note, Returned};

/// Stands in for an offset once the lease has ended, or while the application holds no batch; real offsets are >= 0.
const ENDED: i64 = i64::MIN;

#[derive(Debug)]
pub(super) struct Lease {
    next: AtomicI64,
    /// The base position of the batch that the application holds; [`ENDED`] while it holds none.
    opened_at: AtomicI64,
    /// The previous lease under which the application still held a batch when this one began.
    before: Option<Arc<Lease>>,
}

impl Lease {
    pub(super) fn new(position: i64) -> Arc<Self> {
        Arc::new(Self { next: AtomicI64::new(position), opened_at: AtomicI64::new(ENDED), before: None })
    }

    /// Ends this lease and returns a new one at the same position.
    pub(super) fn renew(self: &Arc<Self>) -> Arc<Self> {
        let next = AtomicI64::new(self.end());
        // The newest one with a batch: behind it may be older ones with batches of their own.
        let before = std::iter::successors(Some(self), |lease| lease.before.as_ref()).find(|lease| lease.is_open());
        let before = before.cloned();
        Arc::new(Self { next, opened_at: AtomicI64::new(ENDED), before })
    }

    /// The offset of the next record to hand out; `None` once the lease has ended.
    pub(super) fn position(&self) -> Option<i64> {
        Some(self.next.load(Ordering::Acquire)).filter(|next| *next != ENDED)
    }

    /// Moves the position from `from` to `to`. False if the lease has ended or the position is no longer `from`.
    #[inline]
    pub(super) fn claim(&self, from: i64, to: i64) -> bool {
        self.next.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the lease; returns the offset of the next record that was not handed out.
    pub(super) fn end(&self) -> i64 {
        self.next.swap(ENDED, Ordering::AcqRel)
    }

    /// Whether a thread holds a batch of the partition. Batches are handed out one at a time.
    pub(super) fn is_open(&self) -> bool {
        self.opened_at.load(Ordering::Acquire) != ENDED
    }

    /// Up to where the application is done with the batch that it holds, under this lease or the one before.
    pub(super) fn opened_at(&self) -> Option<i64> {
        let before = self.before.as_ref().and_then(|before| before.opened_at());
        before.or_else(|| Some(self.opened_at.load(Ordering::Acquire)).filter(|opened_at| *opened_at != ENDED))
    }
}

/// Marks the partition as having a batch handed out, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenLease {
    lease: Arc<Lease>,
    id: PartitionId,
    returned: Returned,
}

impl OpenLease {
    pub(super) fn new(lease: Arc<Lease>, id: PartitionId, returned: Returned) -> Self {
        lease.opened_at.store(lease.position().unwrap_or_default(), Ordering::Release);
        Self { lease, id, returned }
    }

    /// The application is done with the records handed out so far.
    pub(super) fn settle(&self) {
        if let Some(position) = self.position() {
            self.opened_at.store(position, Ordering::Release);
        }
    }

    /// Tells the machine that the batch cannot be read any further.
    pub(super) fn fail(&self, error: Error) {
        self.returned.leave(Note::Unreadable(self.id, Arc::clone(&self.lease), error));
    }

    pub(super) fn partition_id(&self) -> PartitionId {
        self.id
    }

    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }
}

impl std::ops::Deref for OpenLease {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for OpenLease {
    fn drop(&mut self) {
        self.opened_at.store(ENDED, Ordering::Release);
        // Last: the machine then finds that the application holds no batch.
        self.returned.leave(Note::Dropped(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(lease: &Arc<Lease>) -> OpenLease {
        OpenLease::new(Arc::clone(lease), PartitionId::numbered(0), Returned::default())
    }

    #[test]
    fn nothing_can_be_claimed_after_the_end() {
        let lease = Lease::new(5);
        assert!(lease.claim(5, 6));
        assert_eq!(lease.end(), 6);
        assert!(!lease.claim(6, 7));
        assert_eq!(lease.position(), None);
    }

    #[test]
    fn what_is_at_hand_is_remembered_until_its_batch_is_dropped_however_often_the_lease_is_renewed() {
        let lease = Lease::new(5);
        let open = open(&lease);
        assert!(lease.claim(5, 6));
        let renewed = lease.renew().renew();
        assert_eq!((renewed.position(), renewed.opened_at()), (Some(6), Some(5)));
        drop(open);
        assert_eq!(renewed.opened_at(), None);
    }

    #[test]
    fn each_batch_at_hand_is_remembered_although_others_of_earlier_leases_are_too() {
        let oldest = Lease::new(5);
        let first = open(&oldest);
        assert!(oldest.claim(5, 6));
        let older = oldest.renew();
        let second = open(&older);
        assert!(older.claim(6, 8));
        let newest = older.renew().renew();
        assert_eq!(newest.opened_at(), Some(5));
        drop(first);
        assert_eq!((newest.position(), newest.opened_at()), (Some(8), Some(6)));
        drop(second);
        assert_eq!(newest.opened_at(), None);
    }

    #[test]
    fn a_lease_is_open_until_the_batch_is_dropped() {
        let lease = Lease::new(0);
        let open = open(&lease);
        assert!(lease.is_open());
        drop(open);
        assert!(!lease.is_open());
    }
}

//! The right to hand out records of one partition, and how far that got.
//!
//! A [`Lease`] lives from one change of position to the next: a seek, a pause, a removal or a bad batch ends
//! it, and what comes after is handed out under a new one. The thread that iterates a batch claims each record
//! with one atomic step and takes no lock; a claim under an ended lease fails, so a record is handed out
//! exactly when its claim succeeded, and nothing is handed out after the lease was ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What `next` holds once the lease has ended; no offset is that low.
const ENDED: i64 = i64::MIN;

#[derive(Debug)]
pub(super) struct Lease {
    next: AtomicI64,
    is_open: AtomicBool,
}

impl Lease {
    pub(super) fn new(position: i64) -> Arc<Self> {
        Arc::new(Self { next: AtomicI64::new(position), is_open: AtomicBool::new(false) })
    }

    /// The offset of the next record to hand out, or none once it has ended.
    pub(super) fn position(&self) -> Option<i64> {
        Some(self.next.load(Ordering::Acquire)).filter(|next| *next != ENDED)
    }

    /// Moves the position, unless the lease has ended or somebody else has moved it.
    #[inline]
    pub(super) fn claim(&self, from: i64, to: i64) -> bool {
        self.next.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends it; the answer is the offset of the next record that was not handed out.
    pub(super) fn end(&self) -> i64 {
        self.next.swap(ENDED, Ordering::AcqRel)
    }

    /// Whether some thread holds a batch of the partition: its batches are handed out one after the other.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }
}

/// Keeps a lease open while a batch of its partition is in somebody's hands.
#[derive(Debug)]
pub(super) struct OpenLease(Arc<Lease>);

impl OpenLease {
    pub(super) fn new(lease: Arc<Lease>) -> Self {
        lease.is_open.store(true, Ordering::Release);
        Self(lease)
    }

    pub(super) fn is(&self, lease: &Arc<Lease>) -> bool {
        Arc::ptr_eq(&self.0, lease)
    }
}

impl std::ops::Deref for OpenLease {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.0
    }
}

impl Drop for OpenLease {
    fn drop(&mut self) {
        self.0.is_open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_claimed_after_the_end() {
        let lease = Lease::new(5);
        assert!(lease.claim(5, 6));
        assert_eq!(lease.end(), 6);
        assert!(!lease.claim(6, 7));
        assert_eq!(lease.position(), None);
    }

    #[test]
    fn a_lease_is_open_until_the_batch_is_dropped() {
        let lease = Lease::new(0);
        let open = OpenLease::new(Arc::clone(&lease));
        assert!(lease.is_open());
        drop(open);
        assert!(!lease.is_open());
    }
}

//! How a task that has nothing to do is woken, for the price of one relaxed load when it is awake.
//!
//! The task calls [`Wake::arm`], then looks at its machine, then waits on [`Wake::woken`]. Whoever changes the machine
//! calls [`Wake::wake`] afterwards. Both sides take the machine's lock in between, so either the task sees the change,
//! or the change comes after the look, and then its maker sees that the task is armed.

use super::sync::{AtomicBool, Notify, Ordering};

/// The bell of one task.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// Whether the task may be about to sleep: it has looked, or is about to.
    armed: AtomicBool,
    bell: Notify,
}

impl Wake {
    /// Says that the task is about to look at its machine, and then to sleep. To be called before the machine is locked.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Wakes the task, if it sleeps or has looked already. To be called after the machine was changed and unlocked.
    pub(crate) fn wake(&self) {
        // The load spares those who are many (every append) a write to a cache line that they share.
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits for [`wake`](Self::wake). For the task alone.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }
}

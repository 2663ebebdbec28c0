//! Wakes a task that has nothing to do. While the task is awake, this costs one relaxed load.
//!
//! The task calls [`Wake::arm`], then looks at its machine, then waits on [`Wake::woken`]. Whoever changes the machine
//! calls [`Wake::wake`] afterwards. Both take the machine's lock in between. So either the task sees the change; or the
//! change comes after the task has looked, and then the other side sees that the task is armed.

use super::sync::{AtomicBool, Notify, Ordering};

/// Wakes one task.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// Whether the task may be about to sleep: it has looked at its machine, or is about to.
    armed: AtomicBool,
    bell: Notify,
}

impl Wake {
    /// Announces that the task will look at its machine and then sleep. Call it before locking the machine.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Wakes the task if it sleeps or has already looked. Call it after the machine was changed and unlocked.
    pub(crate) fn wake(&self) {
        // The load saves frequent callers (every append) a write to a shared cache line.
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits for [`wake`](Self::wake). For the task only.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }
}

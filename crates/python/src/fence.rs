//! The time up to which a consumer certainly owns its partitions (guarantee R14).
//!
//! Whoever assigns the partitions of a group renews this time again and again. If the program was frozen or cut off,
//! the time has passed, and nothing is handed out until it is renewed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::reports::lock;

/// The fence of a consumer that always owns its partitions.
const ALWAYS: i64 = i64::MAX;

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The current time in milliseconds, of a clock that keeps running while the process is frozen, though not while the
/// machine is suspended.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(ALWAYS)
}

/// The time, by [`now_ms`], from which on nothing may be handed out.
#[derive(Debug)]
pub(crate) struct Fence {
    at_ms: AtomicI64,
    moving: Mutex<()>,
    moved: Condvar,
}

impl Default for Fence {
    fn default() -> Self {
        Self { at_ms: AtomicI64::new(ALWAYS), moving: Mutex::default(), moved: Condvar::default() }
    }
}

impl Fence {
    /// Whether that time has come.
    #[inline]
    pub(crate) fn is_reached(&self) -> bool {
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        at_ms != ALWAYS && at_ms <= now_ms()
    }

    /// Shortens the time limit of something that must not happen after the fence.
    ///
    /// A program that was frozen with a commit in flight would otherwise retry that commit, and overwrite what the next
    /// owner has committed.
    pub(crate) fn limit(&self, limit: Duration) -> Duration {
        let left = self.at_ms.load(Ordering::Relaxed).saturating_sub(now_ms());
        limit.min(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// Sets the time; `None` removes the fence.
    pub(crate) fn put(&self, at_ms: Option<i64>) {
        let moving = lock(&self.moving);
        self.at_ms.store(at_ms.unwrap_or(ALWAYS), Ordering::Relaxed);
        drop(moving);
        self.moved.notify_all();
    }

    /// Waits until the time is renewed, for at most `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let moving = lock(&self.moving);
        if self.is_reached() {
            drop(self.moved.wait_timeout(moving, limit).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

//! The time from which on nothing may be handed out (guarantee R14).
//!
//! The task of a group's member moves it with every heartbeat that is answered. A process that was frozen finds the
//! time passed at once, while its engine thread, which takes the partitions away, may still be asleep.

use std::sync::atomic::{AtomicU64, Ordering};

use kavka_core::time::Instant;

use crate::driver::clock::Clock;

/// The fence of a consumer whose partitions nobody takes away.
const NEVER: u64 = u64::MAX;

/// How much the clock lags at most, in milliseconds: the time between two ticks of a kernel with 100 of them a second,
/// doubled. The fence is that much earlier.
const LAG_MS: u64 = 20;

/// The fence of a member that is leaving.
const ALWAYS: u64 = 0;

pub(super) struct Fence {
    clock: Clock,
    at_ms: AtomicU64,
}

impl Fence {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, at_ms: AtomicU64::new(NEVER) }
    }

    /// Moves it; `None` takes it away. Returns whether it was reached, and is not any more. Has no effect after
    /// [`Fence::close`].
    pub(super) fn put(&self, at: Option<Instant>) -> bool {
        let was_reached = self.is_reached();
        let at_ms = at.map_or(NEVER, |at| at.0.saturating_sub(LAG_MS).max(1));
        let moved = self
            .at_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |current| (current != ALWAYS).then_some(at_ms));
        moved.is_ok() && was_reached && !self.is_reached()
    }

    /// From now on nothing is handed out.
    pub(super) fn close(&self) {
        self.at_ms.store(ALWAYS, Ordering::Relaxed);
    }

    /// Whether that time has come.
    pub(super) fn is_reached(&self) -> bool {
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        at_ms != NEVER && self.clock.now().0 >= at_ms
    }
}

//! The clocks that are read for every record: reading takes nanoseconds, but they lag by a few milliseconds.

use kavka_core::time::Instant;

/// The client's time, read from the coarse clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The reading of the coarse clock at the client's time 0.
    start_ms: u64,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start_ms: monotonic_ms().saturating_sub(now.0) }
    }

    pub(crate) fn now(self) -> Instant {
        Instant(monotonic_ms().saturating_sub(self.start_ms))
    }
}

#[cfg(target_os = "linux")]
fn milliseconds(time: rustix::time::Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000).wrapping_add(time.tv_nsec as u64 / 1_000_000)
}

#[cfg(target_os = "linux")]
fn monotonic_ms() -> u64 {
    milliseconds(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
}

/// The current time in milliseconds since 1970: the timestamp of a record that has none.
#[cfg(target_os = "linux")]
pub(crate) fn timestamp_ms() -> i64 {
    milliseconds(rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse)) as i64
}

#[cfg(not(target_os = "linux"))]
fn monotonic_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64 + (1 << 40)
}

/// The current time in milliseconds since 1970: the timestamp of a record that has none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn timestamp_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

//! Time as the machines see it.
//!
//! Only drivers, tests and the simulator make an [`Instant`]; a machine is told what time it is.

use std::time::Duration;

/// Milliseconds since the driver started. Time in tests starts at `Instant(0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// A time that never comes: for a deadline that cannot be represented.
    pub const FAR: Self = Self(u64::MAX);

    /// How long ago `earlier` was, or zero if it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::FAR`]. A part of a millisecond counts as a whole one, so that a timer is never early.
    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_rounds_up() {
        assert_eq!(Instant(5) + Duration::from_micros(1), Instant(6));
    }

    #[test]
    fn the_far_future_does_not_overflow() {
        assert_eq!(Instant(5) + Duration::MAX, Instant::FAR);
    }
}

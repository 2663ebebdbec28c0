//! The time of the machines.
//!
//! Only drivers, tests and the simulator make an [`Instant`]; machines get the current time as an argument.

use std::time::Duration;

/// Milliseconds since the driver started. In tests, time starts at `Instant(0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// A time that never comes, for deadlines that cannot be represented.
    pub const FAR: Self = Self(u64::MAX);

    /// The time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::FAR`]. Rounds up to whole milliseconds, so that a timer never fires early.
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

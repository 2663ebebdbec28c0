//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

/// A wait that doubles from `initial` to `max`, with up to a fifth of jitter so that clients do not retry in step.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait, not counting jitter.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row; zero if there was none.
    pub fn delay(&self, failures: u32, random: &mut Random) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let base = self.initial.saturating_mul(1 << doublings.min(20)).min(self.max);
        let percent = 80 + random.below(41) as u32;
        base.saturating_mul(percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };

    #[test]
    fn waits_double_up_to_the_limit_and_vary_by_a_fifth() {
        let mut random = Random::new(1);
        for (failures, base) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (60, 1_000)] {
            let delay = BACKOFF.delay(failures, &mut random).as_millis();
            assert!((base * 8 / 10..=base * 12 / 10).contains(&delay), "{failures} failures gave {delay} ms");
        }
    }

    #[test]
    fn without_a_failure_there_is_no_wait() {
        assert_eq!(BACKOFF.delay(0, &mut Random::new(1)), Duration::ZERO);
    }
}

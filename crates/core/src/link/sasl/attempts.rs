//! How often a client may present its credentials.
//!
//! Many services lock an account after a few wrong passwords, and a client opens many connections. So at most
//! [`MOST`] attempts of a client are under way or were refused within [`WINDOW`], over all its connections. Attempts
//! that a broker accepts, or that end because it is gone, do not count.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Instant;

/// How many attempts may be under way or were refused within [`WINDOW`].
const MOST: usize = 3;

/// For how long a refused attempt counts.
const WINDOW: Duration = Duration::from_secs(10);

/// The attempts of one client to authenticate itself.
#[derive(Debug, Default)]
pub struct Attempts {
    under_way: usize,
    /// When attempts were refused.
    refused: VecDeque<Instant>,
    /// How many were refused ever.
    refusals: u64,
    last: Option<Error>,
}

impl Attempts {
    /// How many attempts were refused until now.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The error of the last attempt, if there were so many that none may begin now.
    pub fn check(&mut self, now: Instant) -> Result<()> {
        while self.refused.front().is_some_and(|at| *at + WINDOW <= now) {
            self.refused.pop_front();
        }
        match &self.last {
            Some(error) if self.refused.len() >= MOST => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Begins an attempt. `false` if it must wait until another one has ended.
    ///
    /// An error if none may begin, or if another one was refused after `refusals_before`: the outcome of one attempt
    /// holds for all that wait.
    pub fn begin(&mut self, now: Instant, refusals_before: u64) -> Result<bool> {
        self.check(now)?;
        if let Some(error) = self.last.as_ref().filter(|_| self.refusals > refusals_before) {
            return Err(error.clone());
        }
        let may_begin = self.under_way + self.refused.len() < MOST;
        self.under_way += usize::from(may_begin);
        Ok(may_begin)
    }

    /// Ends an attempt, with the error if the credentials were refused.
    pub fn end(&mut self, now: Instant, refusal: Option<Error>) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(error) = refusal {
            self.refused.push_back(now);
            self.refusals += 1;
            self.last = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refused() -> Error {
        Error::new(ErrorKind::Authentication, "wrong password")
    }

    #[test]
    fn three_attempts_in_ten_seconds_are_the_most() {
        let mut attempts = Attempts::default();
        for at in [0, 1_000, 2_000] {
            assert!(attempts.begin(Instant(at), attempts.refusals()).unwrap());
            attempts.end(Instant(at), Some(refused()));
        }
        for at in [2_000, 9_999] {
            let error = attempts.begin(Instant(at), attempts.refusals()).unwrap_err();
            assert_eq!(error.to_string(), "wrong password");
        }
        assert!(attempts.begin(Instant(10_000), attempts.refusals()).unwrap());
        attempts.end(Instant(10_000), Some(refused()));
        assert!(attempts.begin(Instant(10_999), attempts.refusals()).is_err());
    }

    #[test]
    fn attempts_under_way_count_until_they_end_well() {
        let mut attempts = Attempts::default();
        assert!((0..3).all(|_| attempts.begin(Instant(0), 0).unwrap()));
        assert!(!attempts.begin(Instant(0), 0).unwrap());
        attempts.end(Instant(0), None);
        assert!(attempts.begin(Instant(0), 0).unwrap());
    }

    #[test]
    fn who_waited_while_another_was_refused_is_refused_too() {
        let mut attempts = Attempts::default();
        assert!((0..3).all(|_| attempts.begin(Instant(0), 0).unwrap()));
        attempts.end(Instant(0), Some(refused()));
        assert!(attempts.begin(Instant(0), 0).is_err());
        assert!(!attempts.begin(Instant(0), 1).unwrap(), "two are under way, and one was refused");
    }
}

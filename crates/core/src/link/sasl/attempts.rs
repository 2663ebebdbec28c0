//! How often a client may present its credentials.
//!
//! Many services lock an account after a few wrong passwords, and a client opens many connections. So at most
//! [`MOST`] attempts of a client are under way or were refused within [`WINDOW`], over all its connections. Attempts
//! that a broker accepts, or that end because it is gone, do not count.
//!
//! An attempt that nobody has answered yet must count, because it may still be refused. So that a broker which does
//! not answer does not hold up connections to others, at most [`MOST_AT_ONE`] may be under way at one broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Instant;

/// How many attempts may be under way or were refused within [`WINDOW`].
const MOST: usize = 3;

/// How many attempts may be under way at one broker.
const MOST_AT_ONE: usize = 2;

/// For how long a refused attempt counts.
const WINDOW: Duration = Duration::from_secs(10);

/// The host and the port of a broker.
pub type Broker = (Arc<str>, u16);

/// The attempts of one client to authenticate itself.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The brokers at which attempts are under way, as often as there are attempts.
    under_way: Vec<Broker>,
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

    /// Begins an attempt at a broker. `false` if it must wait until another one has ended.
    ///
    /// An error if none may begin, or if another one was refused after `refusals_before`: the outcome of one attempt
    /// holds for all that wait.
    pub fn begin(&mut self, now: Instant, broker: &Broker, refusals_before: u64) -> Result<bool> {
        self.check(now)?;
        if let Some(error) = self.last.as_ref().filter(|_| self.refusals > refusals_before) {
            return Err(error.clone());
        }
        let there = self.under_way.iter().filter(|other| *other == broker).count();
        let may_begin = there < MOST_AT_ONE && self.under_way.len() + self.refused.len() < MOST;
        if may_begin {
            self.under_way.push(broker.clone());
        }
        Ok(may_begin)
    }

    /// Ends an attempt at a broker, with the error if the credentials were refused.
    pub fn end(&mut self, now: Instant, broker: &Broker, refusal: Option<Error>) {
        if let Some(index) = self.under_way.iter().position(|other| other == broker) {
            self.under_way.swap_remove(index);
        }
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

    fn broker(number: u16) -> Broker {
        ("kafka".into(), number)
    }

    #[test]
    fn three_attempts_in_ten_seconds_are_the_most() {
        let mut attempts = Attempts::default();
        for at in [0, 1_000, 2_000] {
            assert!(attempts.begin(Instant(at), &broker(1), attempts.refusals()).unwrap());
            attempts.end(Instant(at), &broker(1), Some(refused()));
        }
        for at in [2_000, 9_999] {
            let error = attempts.begin(Instant(at), &broker(2), attempts.refusals()).unwrap_err();
            assert_eq!(error.to_string(), "wrong password");
        }
        assert!(attempts.begin(Instant(10_000), &broker(1), attempts.refusals()).unwrap());
        attempts.end(Instant(10_000), &broker(1), Some(refused()));
        assert!(attempts.begin(Instant(10_999), &broker(1), attempts.refusals()).is_err());
    }

    #[test]
    fn attempts_under_way_count_until_they_end_well() {
        let mut attempts = Attempts::default();
        assert!((1..=3).all(|number| attempts.begin(Instant(0), &broker(number), 0).unwrap()));
        assert!(!attempts.begin(Instant(0), &broker(4), 0).unwrap());
        attempts.end(Instant(0), &broker(2), None);
        assert!(attempts.begin(Instant(0), &broker(4), 0).unwrap());
    }

    #[test]
    fn a_broker_that_does_not_answer_leaves_an_attempt_to_the_others() {
        let mut attempts = Attempts::default();
        assert!((0..2).all(|_| attempts.begin(Instant(0), &broker(1), 0).unwrap()));
        assert!(!attempts.begin(Instant(0), &broker(1), 0).unwrap());
        for _ in 0..2 {
            assert!(attempts.begin(Instant(0), &broker(2), 0).unwrap());
            attempts.end(Instant(0), &broker(2), None);
        }
        attempts.end(Instant(0), &broker(1), None);
        assert!(attempts.begin(Instant(0), &broker(1), 0).unwrap());
    }

    #[test]
    fn who_waited_while_another_was_refused_is_refused_too() {
        let mut attempts = Attempts::default();
        assert!((1..=3).all(|number| attempts.begin(Instant(0), &broker(number), 0).unwrap()));
        attempts.end(Instant(0), &broker(1), Some(refused()));
        assert!(attempts.begin(Instant(0), &broker(1), 0).is_err());
        assert!(!attempts.begin(Instant(0), &broker(1), 1).unwrap(), "two are under way, and one was refused");
    }
}

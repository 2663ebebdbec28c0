//! What the engine thread works on for a thread that waits.

use std::future::Future;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::driver::Driver;

/// A result that the engine thread is working on.
///
/// Dropping it does not stop the work.
#[derive(Debug)]
pub struct Pending<T>(Receiver<T>);

impl<T: Send + 'static> Pending<T> {
    pub(crate) fn start(driver: &Driver, future: impl Future<Output = T> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::sync_channel(1);
        driver.spawn(async move {
            // Nobody may be waiting any more, which is their right.
            drop(sender.send(future.await));
        });
        Self(receiver)
    }

    /// Waits for the result; `None` if `limit` passes or the engine ends first.
    ///
    /// It may be called again after a `None`: a caller that must look at something else from time to time (Python at
    /// its signals) waits in steps.
    pub fn wait(&self, limit: Option<Duration>) -> Option<T> {
        match limit {
            Some(limit) => self.0.recv_timeout(limit).ok(),
            None => self.0.recv().ok(),
        }
    }

    /// Waits in steps of `step`, calling `check` after each; gives up with its error.
    ///
    /// `Ok(None)` if `limit` passes or the engine ends first.
    pub fn wait_in_steps<E>(
        &self,
        limit: Option<Duration>,
        step: Duration,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<T>, E> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline.map_or(step, |deadline| deadline.saturating_duration_since(Instant::now()).min(step));
            match self.0.recv_timeout(left) {
                Ok(value) => return Ok(Some(value)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => check()?,
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(None);
            }
        }
    }
}

//! A result that the engine thread is computing for another thread.

use std::future::Future;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::driver::Driver;

/// A result that the engine thread is computing.
///
/// Dropping it does not stop the work.
#[derive(Debug)]
pub struct Pending<T> {
    receiver: Receiver<T>,
    /// What to wake when the result is ready.
    waker: Arc<Mutex<Option<Waker>>>,
}

impl<T: Send + 'static> Pending<T> {
    pub(crate) fn start(driver: &Driver, future: impl Future<Output = T> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::sync_channel(1);
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let to_wake = Arc::clone(&waker);
        driver.spawn(async move {
            // The receiver may be gone: nobody has to wait for the result.
            drop(sender.send(future.await));
            let waker = to_wake.lock().unwrap_or_else(PoisonError::into_inner).take();
            waker.into_iter().for_each(Waker::wake);
        });
        Self { receiver, waker }
    }

    /// The result if it is ready; `Ready(None)` if the engine has ended; otherwise `waker` is woken when it is ready.
    ///
    /// For callers with their own event loop. The end of the engine wakes nobody, so check again from time to time.
    pub fn poll(&self, waker: &Waker) -> Poll<Option<T>> {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        match self.receiver.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// Waits for the result; `None` if `limit` passes or the engine ends first.
    ///
    /// May be called again after `None`: a caller with other duties (Python must check for signals) waits in steps.
    pub fn wait(&self, limit: Option<Duration>) -> Option<T> {
        match limit {
            Some(limit) => self.receiver.recv_timeout(limit).ok(),
            None => self.receiver.recv().ok(),
        }
    }

    /// Waits in steps of `step`, and calls `check` after each; stops with its error.
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
            match self.receiver.recv_timeout(left) {
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

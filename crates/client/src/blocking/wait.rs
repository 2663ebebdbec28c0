//! Blocks a thread on a future.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until `future` is ready. It works with any future of this crate, and needs no async runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Some(value) = wait_until(future.as_mut(), None) {
            return value;
        }
    }
}

/// Blocks this thread until `future` is ready or `limit` has passed. The future is polled at least once.
pub(crate) fn wait_for<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    wait_until(pin!(future), Instant::now().checked_add(limit))
}

fn wait_until<T>(mut future: Pin<&mut impl Future<Output = T>>, deadline: Option<Instant>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(left) if left.is_zero() => return None,
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_is_returned_even_after_the_deadline() {
        assert_eq!(wait_for(async { 7 }, Duration::ZERO), Some(7));
    }

    #[test]
    fn what_never_comes_is_given_up_at_the_deadline() {
        assert_eq!(wait_for(std::future::pending::<()>(), Duration::from_millis(5)), None);
    }
}

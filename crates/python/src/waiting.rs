//! Waiting without the GIL, so that other threads run, and in steps, so that Ctrl-C works.
//!
//! Under gevent other greenlets run, too: see [`greenlets`](crate::greenlets).

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use kavka::blocking::Pending;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::{errors, greenlets};

/// The length of a step: Python's signal handlers run between two steps.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// The limit that a caller gave as `timeout`, in seconds.
pub(crate) fn limit_of(timeout: f64) -> PyResult<Duration> {
    if timeout.is_nan() || timeout < 0.0 {
        return Err(PyValueError::new_err(format!("timeout must be a number of seconds from 0, not {timeout}")));
    }
    Ok(Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX))
}

/// Repeats `step` without the GIL until it returns something, the limit passes (then `None`) or a signal handler
/// raises.
///
/// Under gevent a step does not block; `subscribe` registers a waker for the next result.
pub(crate) fn in_steps<T: Send>(
    py: Python<'_>,
    limit: Option<Duration>,
    subscribe: impl Fn(&Waker),
    mut step: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    if let Some(bells) = greenlets::bells(py)? {
        return greenlets::wait(&bells, limit, |waker| {
            subscribe(waker);
            step(Duration::ZERO)
        });
    }
    let begun = Instant::now();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        let length = left.map_or(STEP, |left| left.min(STEP));
        if let Some(answer) = py.detach(|| step(length)) {
            return Ok(Some(answer));
        }
        py.check_signals()?;
        if left.is_some_and(|left| left <= length) {
            return Ok(None);
        }
    }
}

/// Waits for something that the engine does, up to a limit.
pub(crate) fn until<T: Send + 'static>(
    py: Python<'_>,
    pending: Pending<T>,
    limit: Option<Duration>,
) -> PyResult<Option<T>> {
    if let Some(bells) = greenlets::bells(py)? {
        let polled = greenlets::wait(&bells, limit, |waker| match pending.poll(waker) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        })?;
        return Ok(polled.flatten());
    }
    // The method itself has too narrow a lifetime.
    #[allow(clippy::redundant_closure_for_method_calls)]
    let look = || Python::attach(|py| py.check_signals());
    py.detach(move || pending.wait_in_steps(limit, STEP, look))
}

/// Waits for something that the engine does within a limit of its own.
pub(crate) fn forever<T: Send + 'static>(py: Python<'_>, pending: Pending<T>) -> PyResult<T> {
    until(py, pending, None)?
        .ok_or_else(|| errors::named(py, "KafkaException", "the engine has ended; create a new KafkaClient"))
}

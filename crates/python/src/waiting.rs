//! Waiting without the GIL, so that other threads run, and in steps, so that Ctrl-C gets through.

use std::time::{Duration, Instant};

use kavka::blocking::Pending;
use pyo3::prelude::*;

use crate::errors;

/// How long one step of a wait may take: Python's signal handlers run between two steps.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// Repeats `step` without the GIL until it answers, the limit passes (then `None`) or a signal handler raises.
pub(crate) fn in_steps<T: Send>(
    py: Python<'_>,
    limit: Option<Duration>,
    mut step: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
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

/// Waits for something the engine does, up to a limit.
pub(crate) fn until<T: Send + 'static>(
    py: Python<'_>,
    pending: Pending<T>,
    limit: Option<Duration>,
) -> PyResult<Option<T>> {
    // The method by itself is not general enough in its lifetime.
    #[allow(clippy::redundant_closure_for_method_calls)]
    let look = || Python::attach(|py| py.check_signals());
    py.detach(move || pending.wait_in_steps(limit, STEP, look))
}

/// Waits for something the engine does that has a limit of its own.
pub(crate) fn forever<T: Send + 'static>(py: Python<'_>, pending: Pending<T>) -> PyResult<T> {
    until(py, pending, None)?
        .ok_or_else(|| errors::named(py, "KafkaException", "the engine has ended; create a new KafkaClient"))
}

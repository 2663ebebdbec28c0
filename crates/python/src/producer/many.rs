//! Many messages in one call.
//!
//! Each message is accepted as `produce` does it. A `Message` object is made only if a report will show it, and a sync
//! producer waits once, after the last message. However the call ends, the program learns how many messages were
//! accepted.

use std::time::{Duration, Instant};

use kavka::Delivery;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::{Producer, Running, append, stopped, wait_for};
use crate::process::ForkGuard;
use crate::{errors, greenlets};

/// How many of Python's switch intervals (`sys.getswitchinterval()`) `produce_many` runs before it lets other threads
/// run.
///
/// A thread that wants the GIL asks for it after one interval of waiting, and only then is it sure to get it: a GIL
/// that nobody asks for is usually taken back before the other thread is awake, and its waiting begins anew.
const SWITCH_INTERVALS_PER_TURN: u32 = 2;

/// How many messages to append between two checks for the end of this time, and for Ctrl-C.
const MESSAGES_PER_LOOK: usize = 1024;

/// See `Producer.produce_many`.
pub(super) fn produce(producer: &Producer, py: Python<'_>, messages: &Bound<'_, PyAny>) -> PyResult<usize> {
    let mut accepted = 0;
    match append_all(producer, py, messages, &mut accepted) {
        Ok(()) => Ok(accepted),
        Err(error) => Err(with_accepted(py, error, "produce_many", accepted)),
    }
}

/// Lets other threads and greenlets run now and then, and handles Ctrl-C, while many messages are appended.
pub(super) struct Turns {
    length: Duration,
    begun: Instant,
}

impl Turns {
    pub(super) fn begin(py: Python<'_>) -> PyResult<Self> {
        let interval: f64 = py.import(intern!(py, "sys"))?.call_method0(intern!(py, "getswitchinterval"))?.extract()?;
        Ok(Self { length: Duration::from_secs_f64(interval) * SWITCH_INTERVALS_PER_TURN, begun: Instant::now() })
    }

    /// Call it after each message.
    #[inline]
    pub(super) fn look(&mut self, py: Python<'_>, accepted: usize) -> PyResult<()> {
        if !accepted.is_multiple_of(MESSAGES_PER_LOOK) {
            return Ok(());
        }
        py.check_signals()?;
        if self.begun.elapsed() >= self.length {
            if !greenlets::let_others_run(py)? {
                py.detach(|| ());
            }
            self.begun = Instant::now();
        }
        Ok(())
    }
}

fn append_all(producer: &Producer, py: Python<'_>, messages: &Bound<'_, PyAny>, accepted: &mut usize) -> PyResult<()> {
    let Some(running) = producer.running.get() else { return Err(stopped(py)) };
    let running = running.check(py)?;
    let settings = running.settings.get();
    if messages.is_instance_of::<PyBytes>() || messages.is_instance_of::<PyString>() {
        return Err(errors::wrong_type("messages", "an iterable of messages", messages));
    }
    let reports = settings.delivery_reports.then(|| producer.reports(py)).transpose()?;
    let mut deliveries = Vec::new();
    let mut turns = Turns::begin(py)?;
    for item in messages.try_iter()? {
        let item = item?;
        let (value, key) = value_and_key(&item)?;
        let (message, payload_bytes) = append(py, running, &value, key.as_ref(), None, None, reports.as_ref())?;
        *accepted += 1;
        if let Some(reports) = &reports {
            let message = message.into_object(py)?;
            if let Some(delivery) = &message.get().delivery {
                reports.expect(message.clone().unbind(), payload_bytes, delivery);
            }
        } else if settings.sync {
            deliveries.extend(message.delivery);
        }
        // Over a list no Python code runs here, so the interpreter itself neither switches threads nor handles Ctrl-C.
        turns.look(py, *accepted)?;
    }
    wait_for_all(py, running, &deliveries)
}

/// Waits until all messages of a sync producer are stored.
pub(super) fn wait_for_all(py: Python<'_>, running: &Running, deliveries: &[ForkGuard<Delivery>]) -> PyResult<()> {
    let begun = Instant::now();
    for delivery in deliveries {
        let left = running.settings.get().pending_timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
        wait_for(py, running, delivery, left)?;
    }
    Ok(())
}

/// The value and key in an item of `produce_many`.
#[inline]
fn value_and_key<'py>(item: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    let Ok(pair) = item.cast_exact::<PyTuple>() else { return Ok((item.clone(), None)) };
    if pair.len() != 2 {
        let text = format!("a tuple of produce_many must be (value, partition_key), not {} long", pair.len());
        return Err(PyTypeError::new_err(text));
    }
    Ok((pair.get_item(0)?, Some(pair.get_item(1)?)))
}

/// Notes in an exception how many messages were accepted before it.
#[cold]
pub(super) fn with_accepted(py: Python<'_>, error: PyErr, method: &str, accepted: usize) -> PyErr {
    // A user's exception class may refuse attributes; then only the note says it.
    let _ = error.value(py).setattr(intern!(py, "accepted"), accepted);
    let note = format!("{method} had accepted {accepted} messages before; they are sent anyway");
    let _ = error.value(py).call_method1(intern!(py, "add_note"), (note,));
    error
}

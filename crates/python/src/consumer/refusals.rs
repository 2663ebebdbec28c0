//! Exceptions of calls that can return no message.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kavka::ErrorKind;
use pyo3::prelude::*;

use crate::cell::Slot;
use crate::{closing, errors, greenlets};

/// The thread or greenlet that runs the program's callback. It would wait for a message for ever: none is handed out
/// before the callback has returned.
#[derive(Debug, Default)]
pub(super) struct Caller(Slot<Weak<()>>);

impl Caller {
    pub(super) fn begin(&self, py: Python<'_>) -> PyResult<()> {
        greenlets::know_runner(py)?;
        drop(self.0.replace(Some(greenlets::with_runner(Arc::downgrade))));
        Ok(())
    }

    pub(super) fn end(&self) {
        drop(self.0.replace(None));
    }

    /// Raises if the caller would wait for a message.
    pub(super) fn check(&self, py: Python<'_>, limit: Option<Duration>) -> PyResult<()> {
        let Some(caller) = self.0.get().filter(|_| limit != Some(Duration::ZERO)) else { return Ok(()) };
        greenlets::know_runner(py)?;
        if !greenlets::with_runner(|this| Weak::as_ptr(&caller) == Arc::as_ptr(this)) {
            return Ok(());
        }
        let text = "post_rebalance_callback waits for a message of its own consumer, which hands out none before \
                    post_rebalance_callback has returned: consume after it, or call consume(block=False)";
        Err(errors::named(py, "KafkaException", text))
    }
}

/// The exception for an error that ended a wait for messages.
#[cold]
pub(super) fn failed(py: Python<'_>, error: &kavka::Error) -> PyErr {
    if error.kind() == ErrorKind::Closed {
        closing::rest_if_exiting(py);
        return stopped(py);
    }
    errors::to_python(py, error)
}

#[cold]
pub(super) fn stopped(py: Python<'_>) -> PyErr {
    errors::named(py, "ConsumerStoppedException", "the consumer is stopped; start() it to consume again")
}

//! Errors that ended a batch of messages behind its first one, and are raised by a later call.

use pyo3::prelude::*;

/// Such an error.
#[derive(Debug)]
pub(super) struct Postponed {
    /// The exception.
    pub(super) error: Py<PyAny>,
    /// The partition and offset of the message, if the deserializer refused one.
    pub(super) refused: Option<(i32, i64)>,
}

impl Postponed {
    /// The deserializer refused the message at this offset.
    pub(super) fn refused(py: Python<'_>, error: PyErr, partition: i32, offset: i64) -> Self {
        Self { error: error.into_value(py).into_any(), refused: Some((partition, offset)) }
    }
}

impl From<PyErr> for Postponed {
    fn from(error: PyErr) -> Self {
        Self { error: Python::attach(|py| error.into_value(py).into_any()), refused: None }
    }
}

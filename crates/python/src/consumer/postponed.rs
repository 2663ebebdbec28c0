//! Errors that ended a batch of messages behind its first one, and are raised by a later call.

use std::collections::VecDeque;

use pyo3::exceptions::PyException;
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

/// The first of them that is no `Exception`. It is not about a message, so it must be raised even if nobody asks for
/// messages any more.
pub(super) fn interruption(py: Python<'_>, postponed: VecDeque<Postponed>) -> Option<PyErr> {
    let mut errors = postponed.into_iter().map(|postponed| PyErr::from_value(postponed.error.into_bound(py)));
    errors.find(|error| !error.is_instance_of::<PyException>(py))
}

impl From<PyErr> for Postponed {
    fn from(error: PyErr) -> Self {
        Self { error: Python::attach(|py| error.into_value(py).into_any()), refused: None }
    }
}

//! How the engine's errors become pykafka's exceptions.
//!
//! The classes live in `pykafka.exceptions`. The text is the engine's sentence, with the names that a Python program
//! can type; `written` says whether the record may be in the log.

use kavka::{Error, ErrorKind, Written, config};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What the engine's hints call a method that has another name in Python.
const METHODS: &[(&str, &str)] =
    &[("seek past it", "reset_offsets() past it"), ("seek to say", "call reset_offsets() to say")];

/// The engine's sentence for a reader of Python: with the keywords that can be typed in place of Kafka's settings.
pub(crate) fn in_python(text: &str) -> String {
    let mut text = text.to_owned();
    for setting in config::all_settings() {
        let Some(keyword) = setting.pykafka else { continue };
        // A name without a dot is also a word: it is the setting's only where a sentence begins with it.
        if setting.name.contains('.') {
            text = text.replace(setting.name, keyword);
        } else if let Some(rest) = text.strip_prefix(setting.name).filter(|rest| rest.starts_with(' ')) {
            text = format!("{keyword}{rest}");
        }
    }
    METHODS.iter().fold(text, |text, (engine, python)| text.replace(engine, python))
}

static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn exceptions(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = EXCEPTIONS.get_or_try_init(py, || py.import("pykafka.exceptions").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// An exception of the class that `pykafka.exceptions` calls `name`.
pub(crate) fn named(py: Python<'_>, name: &str, text: &str) -> PyErr {
    let make = || exceptions(py)?.getattr(name)?.call1((text,));
    make().map_or_else(|error| error, PyErr::from_value)
}

/// The exception for `error`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    with_class(py, error, class_of(error))
}

/// The exception for `error` when the cluster could not be reached at all.
pub(crate) fn unreachable(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::TimedOut(_) | ErrorKind::Malformed => {
            with_class(py, error, "NoBrokersAvailableError")
        }
        _ => to_python(py, error),
    }
}

/// The exception for a setting that cannot work.
pub(crate) fn invalid(error: &Error) -> PyErr {
    PyValueError::new_err(in_python(&error.to_string()))
}

/// The exception for a message that was not delivered, where nothing more precise is known.
pub(crate) fn undelivered(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::TimedOut(_) => with_class(py, error, "ProduceFailureError"),
        _ => to_python(py, error),
    }
}

fn class_of(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Disconnected => "SocketDisconnectedError",
        ErrorKind::NotDelivered => "ProduceFailureError",
        ErrorKind::BufferFull => "ProducerQueueFullError",
        ErrorKind::Malformed => "MessageSetDecodeFailure",
        // What went wrong until the time was over is what a program can tell apart.
        ErrorKind::TimedOut(_) => cause(error).map_or("KafkaException", class_of),
        _ => "KafkaException",
    }
}

fn cause(error: &Error) -> Option<&Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn with_class(py: Python<'_>, error: &Error, class: &str) -> PyErr {
    let text = in_python(&error.to_string());
    let made = match (error.kind(), error.code()) {
        (ErrorKind::Config, _) | (ErrorKind::Misuse, None) => return PyValueError::new_err(text),
        (_, Some(code)) => exceptions(py).and_then(|module| module.getattr("error_for_code")?.call1((code.0, text))),
        _ => exceptions(py).and_then(|module| module.getattr(class)?.call1((text,))),
    };
    let marked = made.and_then(|exception| {
        if error.written() == Written::Maybe {
            exception.setattr(intern!(py, "written"), intern!(py, "maybe"))?;
        }
        Ok(exception)
    });
    marked.map_or_else(|failure| failure, PyErr::from_value)
}

/// A `TypeError` that says what was given instead of `expected`.
#[cold]
pub(crate) fn wrong_type(what: &str, expected: &str, given: &Bound<'_, PyAny>) -> PyErr {
    match given.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("{what} must be {expected}, not {name}")),
        Err(error) => error,
    }
}

//! Turns the engine's errors into pykafka's exceptions.
//!
//! The classes are in `pykafka.exceptions`. The text is the engine's, with Kafka's setting names replaced by the
//! keywords of the Python classes; the attribute `written` says whether the record may be in the log.

use kavka::{Error, ErrorClass, ErrorKind, Hint, Phase, Written, config};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::security::Raised;

/// The hints in Python's words.
fn words(hint: Hint) -> &'static str {
    match hint {
        Hint::SeekPast => "reset_offsets() past it to continue with this partition",
        Hint::SeekPastDamage => "if this persists, the broker's log is damaged there: reset_offsets() past it",
        Hint::SeekAfterTruncation => "records that were read are gone; call reset_offsets() to say where to continue",
        Hint::SeekInRange => "call reset_offsets() to say where to continue",
        Hint::SeekInNewTopic => "call reset_offsets() to say where to start in the new topic",
        Hint::SeekAndResume => "call reset_offsets() to say where to start, or set auto.offset.reset",
        Hint::UseTls => "it requires TLS: use the argument ssl_config, or its plaintext port",
        Hint::UsePlaintext => {
            "the port is a plaintext one: use the port of a TLS listener, or leave out the argument ssl_config"
        }
        Hint::LeaveOutSasl => "leave out the argument sasl, or use the broker's port for SASL",
        Hint::ChooseMechanism => "choose one of them by the argument sasl, or enable it on the broker",
        Hint::MayRequireTlsOrSasl => {
            "it closed before its first response: the port may require TLS or SASL (arguments ssl_config, sasl), or may \
             not be Kafka's"
        }
        Hint::MayRequireSasl => "it closed before its first answer: the port may require SASL (argument sasl)",
        Hint::LookAtCertificates => Hint::LookAtCertificates.text(),
        Hint::Text(text) => text,
    }
}

/// The error's text, with the keywords that a Python program uses in place of Kafka's setting names.
pub(crate) fn in_python(error: &Error) -> String {
    let mut text = error.worded(words);
    for setting in config::all_settings() {
        let Some(keyword) = setting.pykafka else { continue };
        // The module `cluster` takes the shorter one of the two.
        let keyword = if setting.name == "socket.connection.setup.timeout.ms" {
            "10 s, or socket_timeout_ms if that is less"
        } else {
            keyword
        };
        // A setting name without a dot may also be an ordinary word, so it is replaced only at the beginning of the
        // text.
        if setting.name.contains('.') {
            let places: Vec<_> = config::mentions(setting.name, &text).collect();
            for start in places.into_iter().rev() {
                text.replace_range(start..start + setting.name.len(), keyword);
            }
        } else if let Some(rest) = text.strip_prefix(setting.name).filter(|rest| rest.starts_with(' ')) {
            text = format!("{keyword}{rest}");
        }
    }
    text
}

static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn exceptions(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = EXCEPTIONS.get_or_try_init(py, || py.import("pykafka.exceptions").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// An exception of the class `name` of `pykafka.exceptions`.
pub(crate) fn named(py: Python<'_>, name: &str, text: &str) -> PyErr {
    let make = || exceptions(py)?.getattr(name)?.call1((text,));
    make().map_or_else(|error| error, PyErr::from_value)
}

/// The exception for `error`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    with_class(py, error, class_of(error))
}

/// The exception for `error`, if no broker of the cluster could be reached.
pub(crate) fn unreachable(py: Python<'_>, error: &Error) -> PyErr {
    // Without a cause, the brokers answered, but a topic's partitions got no leader in time.
    let is_leaderless = error.kind() == ErrorKind::TimedOut(Phase::Metadata) && cause(error).is_none();
    if matches!(error.class(), ErrorClass::Unreachable | ErrorClass::TimedOut | ErrorClass::Malformed) && !is_leaderless
    {
        return with_class(py, error, "NoBrokersAvailableError");
    }
    to_python(py, error)
}

/// The exception for an invalid setting.
pub(crate) fn invalid(error: &Error) -> PyErr {
    PyValueError::new_err(in_python(error))
}

/// The exception for a message that was not delivered, unless `error` is more specific.
pub(crate) fn undelivered(py: Python<'_>, error: &Error) -> PyErr {
    if error.class() == ErrorClass::TimedOut {
        return with_class(py, error, "ProduceFailureError");
    }
    to_python(py, error)
}

fn class_of(error: &Error) -> &'static str {
    match error.class() {
        ErrorClass::Unreachable => "SocketDisconnectedError",
        ErrorClass::NotDelivered => "ProduceFailureError",
        ErrorClass::Full => "ProducerQueueFullError",
        ErrorClass::Malformed => "MessageSetDecodeFailure",
        ErrorClass::Fenced if error.place().group.is_some() => "IllegalGeneration",
        ErrorClass::Unauthenticated => "AuthenticationException",
        // A program can react to the last cause; the time-out itself says less.
        ErrorClass::TimedOut => cause(error).map_or("KafkaException", class_of),
        // `with_class` finds the exceptions for a broker's code and for wrong usage.
        ErrorClass::Usage | ErrorClass::Refused(_) | ErrorClass::Fenced | ErrorClass::Final => "KafkaException",
    }
}

fn cause(error: &Error) -> Option<&Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn with_class(py: Python<'_>, error: &Error, class: &str) -> PyErr {
    let text = in_python(error);
    let made = match error.code() {
        Some(code) => exceptions(py).and_then(|module| module.getattr("error_for_code")?.call1((code.0, text))),
        None if error.class() == ErrorClass::Usage => return PyValueError::new_err(text),
        None => exceptions(py).and_then(|module| module.getattr(class)?.call1((text,))),
    };
    let marked = made.and_then(|exception| {
        if error.written() == Written::Maybe {
            exception.setattr(intern!(py, "written"), intern!(py, "maybe"))?;
        }
        if let Some(raised) = Raised::among_causes(error) {
            exception.setattr(intern!(py, "__cause__"), raised.value(py))?;
        }
        Ok(exception)
    });
    marked.map_or_else(|failure| failure, PyErr::from_value)
}

/// Whether `error` is one of pykafka's own, and not what a signal handler raised during a wait.
#[cold]
pub(crate) fn is_kafka_exception(py: Python<'_>, error: &PyErr) -> bool {
    let class = exceptions(py).and_then(|module| module.getattr("KafkaException"));
    class.is_ok_and(|class| error.is_instance(py, &class))
}

/// A `TypeError` that names the type of `given`, where `expected` was expected.
#[cold]
pub(crate) fn wrong_type(what: &str, expected: &str, given: &Bound<'_, PyAny>) -> PyErr {
    match given.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("{what} must be {expected}, not {name}")),
        Err(error) => error,
    }
}

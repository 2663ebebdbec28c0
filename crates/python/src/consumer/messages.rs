//! Turns the records of a batch into Python messages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use kavka::Batch;
use kavka::wire::records::{RecordView, Span};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::greenlets;
use crate::message::{Headers, Lazy, Message, Payload};
use crate::process::ForkGuard;
use crate::running::Running;

/// A smaller key or value becomes a Python object at once. That is cheaper than keeping the buffer, and a program that
/// keeps one small message does not keep megabytes with it.
const EAGER_BYTES: usize = 1024;

/// How many bytes of fetch buffers the program's messages may keep before large values are copied, too.
const MAX_PINNED_BYTES: usize = 16 << 20;

/// Counts a buffer as kept by the application until its last message, or column, is dropped.
#[derive(Debug)]
pub(super) struct Pin {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Pin {
    /// None if the application would keep more than `limit` bytes then.
    pub(super) fn new(running: &Running, bytes: usize, limit: usize) -> Option<Self> {
        let total = &running.pinned;
        if total.load(Ordering::Relaxed) + bytes > limit {
            return None;
        }
        total.fetch_add(bytes, Ordering::Relaxed);
        Some(Self { bytes, total: Arc::clone(total) })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The Python message for a record.
#[inline]
pub(super) fn to_message(
    py: Python<'_>,
    running: &Running,
    batch: &Batch,
    record: &RecordView,
    partition_id: i32,
    partition: &Py<PyAny>,
) -> Message {
    let data = batch.data();
    let payload = |range: Option<std::ops::Range<usize>>| match range {
        None => Payload::Null,
        Some(range) if range.len() < EAGER_BYTES => eager(py, data.get(range).unwrap_or_default()),
        Some(range) => large(py, running, batch, range),
    };
    let headers = (record.header_count() > 0).then(|| {
        let owned: Headers =
            record.headers(data).map(|header| (header.key.into(), header.value.map(Into::into))).collect();
        Box::new(owned)
    });
    Message {
        value: payload(record.value.map(Span::range)),
        key: payload(record.key.map(Span::range)),
        headers,
        delivery: None,
        offset: record.offset,
        // pykafka uses 0 for a message without a timestamp.
        timestamp: record.timestamp_ms.max(0),
        partition: Some(partition.clone_ref(py)),
        partition_id,
        extra: None,
        changed: OnceLock::new(),
    }
}

#[inline]
fn eager(py: Python<'_>, bytes: &[u8]) -> Payload {
    Payload::Object(PyBytes::new(py, bytes).into_any().unbind())
}

fn large(py: Python<'_>, running: &Running, batch: &Batch, range: std::ops::Range<usize>) -> Payload {
    let data = batch.data();
    let Some(pin) = Pin::new(running, batch.kept_bytes(), MAX_PINNED_BYTES) else {
        return eager(py, data.get(range).unwrap_or_default());
    };
    let lazy = Lazy { bytes: data.slice(range), _pin: Box::new(pin), made: OnceLock::new() };
    Payload::Lazy(Box::new(ForkGuard::new(lazy)))
}

/// Replaces the value and the key of a message by what the deserializer makes of them.
pub(super) fn deserialize(py: Python<'_>, deserializer: &Py<PyAny>, message: &mut Message) -> PyResult<()> {
    let made = deserializer.bind(py).call1((message.value.get(py), message.key.get(py)))?;
    // It may have let other greenlets run.
    greenlets::know_runner(py)?;
    let (value, key): (Bound<'_, PyAny>, Bound<'_, PyAny>) = made.extract().map_err(|_| {
        PyTypeError::new_err("the deserializer must return two values: the message's value and its partition_key")
    })?;
    message.value = Payload::from_python(&value);
    message.key = Payload::from_python(&key);
    Ok(())
}

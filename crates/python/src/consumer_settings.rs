//! The settings of a Python consumer.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use kavka::{AutoOffsetReset, ConsumerConfig};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors;
use crate::reports::lock;

/// What `SimpleConsumer` passes on; see its arguments.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct ConsumerSettings {
    pub(crate) config: ConsumerConfig,
    pub(crate) auto_commit_interval: Option<Duration>,
    /// Stored with every committed offset.
    commit_metadata: Mutex<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deserializer: Option<Py<PyAny>>,
}

#[pymethods]
impl ConsumerSettings {
    #[new]
    #[pyo3(signature = (
        *, auto_commit_interval_ms, auto_offset_reset, consumer_group, consumer_timeout_ms, fetch_buffer,
        fetch_max_bytes, fetch_message_max_bytes, fetch_min_bytes, fetch_wait_max_ms, deserializer
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        auto_commit_interval_ms: Option<u64>,
        auto_offset_reset: i32,
        consumer_group: Option<String>,
        consumer_timeout_ms: Option<u64>,
        fetch_buffer: usize,
        fetch_max_bytes: u64,
        fetch_message_max_bytes: u64,
        fetch_min_bytes: u64,
        fetch_wait_max_ms: u64,
        deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let bytes = |name: &str, value: u64| {
            u32::try_from(value).map_err(|_| PyValueError::new_err(format!("{name} is out of range: {value}")))
        };
        let mut config = ConsumerConfig::default();
        config.auto_offset_reset =
            if auto_offset_reset == -1 { AutoOffsetReset::Latest } else { AutoOffsetReset::Earliest };
        config.group_id = consumer_group;
        config.fetch_buffer = fetch_buffer;
        config.fetch_max_bytes = bytes("fetch_max_bytes", fetch_max_bytes)?;
        config.max_partition_fetch_bytes = bytes("fetch_message_max_bytes", fetch_message_max_bytes)?;
        config.fetch_min_bytes = bytes("fetch_min_bytes", fetch_min_bytes)?;
        config.fetch_max_wait = Duration::from_millis(fetch_wait_max_ms.min(i32::MAX as u64));
        config.validate().map_err(|error| errors::invalid(&error))?;
        Ok(Self {
            config,
            auto_commit_interval: auto_commit_interval_ms.map(Duration::from_millis),
            commit_metadata: Mutex::default(),
            timeout: consumer_timeout_ms.map(Duration::from_millis),
            deserializer,
        })
    }

    /// The metadata stored with every offset that is committed from now on.
    #[getter]
    pub(crate) fn commit_metadata(&self) -> String {
        lock(&self.commit_metadata).clone()
    }

    #[setter]
    fn set_commit_metadata(&self, commit_metadata: String) {
        *lock(&self.commit_metadata) = commit_metadata;
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.deserializer)
    }
}

impl ConsumerSettings {
    /// When the next auto-commit is due, if one interval starts now.
    pub(crate) fn next_commit(&self) -> Option<Instant> {
        self.auto_commit_interval.and_then(|interval| Instant::now().checked_add(interval))
    }
}

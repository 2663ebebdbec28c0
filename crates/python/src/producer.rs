//! The producer's hot calls, its start and its end.
//!
//! `produce` keeps the GIL while it appends, which takes less time than to give the GIL up, and gives it up to
//! wait for memory. The user's partitioner and serializer run before anything of the engine is touched.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kavka::{Acks, Compression, CompressionType, Delivery, ErrorKind, Header, ProducerConfig, ProducerTopic, Record};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::cell::Slot;
use crate::client::Client;
use crate::closing;
use crate::errors;
use crate::message::{Message, OwnedHeader, Payload, timestamp_ms, to_headers};
use crate::process::{ForkGuard, forked};
use crate::reports::{ProducerIdentity, SharedReports};
use crate::tally::Tally;
use crate::waiting;

/// What `Producer` decided in Python; see its arguments.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct ProducerSettings {
    config: ProducerConfig,
    block_on_queue_full: bool,
    delivery_reports: bool,
    pending_timeout: Option<Duration>,
    sync: bool,
    partitioner: Option<Py<PyAny>>,
    partitions: Py<PyAny>,
    serializer: Option<Py<PyAny>>,
}

#[pymethods]
impl ProducerSettings {
    #[new]
    #[pyo3(signature = (
        *, acks, ack_timeout_ms, block_on_queue_full, compression, delivery_reports, delivery_timeout_ms, linger_ms,
        max_queued_messages, max_request_size, max_retries, pending_timeout_ms, sync, partitioner, partitions, serializer
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn new(
        acks: i64,
        ack_timeout_ms: u64,
        block_on_queue_full: bool,
        compression: u8,
        delivery_reports: bool,
        delivery_timeout_ms: u64,
        linger_ms: u64,
        max_queued_messages: Option<usize>,
        max_request_size: usize,
        max_retries: Option<u64>,
        pending_timeout_ms: Option<u64>,
        sync: bool,
        partitioner: Option<Py<PyAny>>,
        partitions: Py<PyAny>,
        serializer: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let mut config = ProducerConfig::default();
        config.acks = match acks {
            0 => Acks::None,
            1 => Acks::Leader,
            // pykafka 2 sent "at least two" as a number. Kafka has refused that since 0.9; all keeps the promise.
            _ => Acks::All,
        };
        let codec = CompressionType::from_id(compression).map_err(|error| errors::invalid(&error))?;
        config.compression = Compression::from(codec);
        config.ack_timeout = Duration::from_millis(ack_timeout_ms.min(i32::MAX as u64));
        config.delivery_timeout = Duration::from_millis(delivery_timeout_ms);
        config.linger = Duration::from_millis(linger_ms);
        config.max_queued_records = max_queued_messages;
        config.max_request_size = max_request_size;
        config.retries = max_retries.map_or(u32::MAX, |retries| u32::try_from(retries).unwrap_or(u32::MAX));
        config.validate().map_err(|error| errors::invalid(&error))?;
        Ok(Self {
            config,
            block_on_queue_full,
            delivery_reports,
            pending_timeout: pending_timeout_ms.map(Duration::from_millis),
            sync,
            partitioner,
            partitions,
            serializer,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.partitioner)?;
        visit.call(&self.partitions)?;
        visit.call(&self.serializer)
    }
}

/// A started producer: what is thrown away when it stops.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: kavka::Client,
    pub(crate) engine: kavka::Producer,
    pub(crate) topic_name: String,
    pub(crate) delivery_timeout: Duration,
    pub(crate) tally: Arc<Tally>,
    topic: ProducerTopic,
    settings: Py<ProducerSettings>,
    /// Whether failures are counted, because nobody else would see them.
    is_counted: bool,
}

/// The base of `pykafka.Producer`.
#[pyclass(frozen, subclass, module = "pykafka._engine")]
#[derive(Debug, Default)]
pub(crate) struct Producer {
    running: Slot<Arc<ForkGuard<Running>>>,
    identity: ProducerIdentity,
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Hands a message over and returns it. Its `offset` appears when it is acknowledged; with `sync` that is now.
    ///
    /// :param message: bytes, or None for a tombstone; with a `serializer` whatever that takes.
    /// :param partition_key: bytes or None; messages with the same key go to the same partition.
    /// :param timestamp: an int of milliseconds since 1970, or a datetime (naive: UTC); None: now.
    /// :param headers: `(name, value)` pairs, in order: a str and bytes or None. New in version 3.
    /// :raises TypeError: if one of them is something else; `ValueError` if it is out of range.
    /// :raises MessageSizeTooLarge: if the message is larger than `max_request_size`.
    /// :raises ProducerQueueFullError: if memory stays full for 60 s (at once without `block_on_queue_full`), or at
    ///     once if this thread has 1,000,000 unread reports.
    /// :raises ProducerStoppedException: after `stop`.
    /// :raises ProduceFailureError: with `sync`, if it was not delivered; or the `ProtocolClientError` of the broker.
    #[pyo3(signature = (message, partition_key=None, timestamp=None, headers=None))]
    fn produce<'py>(
        &self,
        py: Python<'py>,
        message: &Bound<'py, PyAny>,
        partition_key: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Message>> {
        let Some(running) = self.running.get() else { return Err(stopped(py)) };
        let running = running.check(py)?;
        let settings = running.settings.get();
        let serialized = match &settings.serializer {
            Some(serializer) => Some(serialize(py, serializer, message, partition_key)?),
            None => None,
        };
        let (value, key) = match &serialized {
            Some((value, key)) => (value, Some(key)),
            None => (message, partition_key),
        };
        let value = bytes_or_none("message", value)?;
        let key = key.map_or(Ok(None), |key| bytes_or_none("partition_key", key))?;
        let timestamp_ms = timestamp.map_or(Ok(None), timestamp_ms)?;
        let headers = headers.map(to_headers).transpose()?.filter(|headers| !headers.is_empty());
        let partition = match &settings.partitioner {
            Some(partitioner) => Some(choose(py, partitioner, &settings.partitions, key)?),
            None => None,
        };
        let views: Vec<Header<'_>> = headers.iter().flatten().map(view).collect();
        let record = Record {
            key: key.map(PyBytesMethods::as_bytes),
            value: value.map(PyBytesMethods::as_bytes),
            headers: &views,
            partition,
            timestamp_ms,
        };
        let reports = settings.delivery_reports.then(|| self.identity.reports_of_this_thread());
        let payload_bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let delivery = enqueue(py, running, &record, reports.as_ref())?;
        let payload = |bytes: Option<&Bound<'py, PyBytes>>| {
            bytes.map_or(Payload::Null, |bytes| Payload::Object(bytes.clone().into_any().unbind()))
        };
        let message = Message::produced(payload(value), payload(key), headers.map(Box::new), timestamp_ms, delivery);
        let message = Bound::new(py, message)?;
        let Some(delivery) = &message.get().delivery else { return Ok(message) };
        if let Some(reports) = reports {
            reports.borrow_mut().expect(message.clone().unbind(), payload_bytes, delivery);
        }
        if running.is_counted && delivery.index() == 0 {
            Tally::watch(&running.tally, delivery.completion());
        }
        if settings.sync {
            wait_for(py, running, delivery)?;
        }
        Ok(message)
    }

    /// The next report of a message that this thread produced: the message, and None or why it was not delivered.
    ///
    /// :param block: whether to wait for it.
    /// :param timeout: how long, in seconds; None: for ever.
    /// :raises queue.Empty: if there is none in time.
    /// :raises KafkaException: if `delivery_reports` is off.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get_delivery_report<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, Message>, Option<PyErr>)> {
        let limit = if block { timeout.map(report_limit).transpose()? } else { Some(Duration::ZERO) };
        if let Some(running) = self.running.get()
            && !running.check(py)?.settings.get().delivery_reports
        {
            return Err(errors::named(py, "KafkaException", "delivery_reports is off for this producer"));
        }
        let reports = self.identity.reports_of_this_thread();
        let begun = Instant::now();
        loop {
            let finished = reports.borrow().finished();
            let finished = finished.ok_or_else(|| forked(py))?;
            while let Some(batch) = finished.pop(Duration::ZERO) {
                reports.borrow_mut().take_over(&batch);
            }
            let report = reports.borrow_mut().next();
            if let Some((message, error)) = report {
                return Ok((message.into_bound(py), error.map(|error| errors::undelivered(py, &error))));
            }
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            let Some(batch) = waiting::in_steps(py, left, |step| finished.pop(step))? else {
                return Err(PyErr::from_value(py.import("queue")?.getattr("Empty")?.call0()?));
            };
            reports.borrow_mut().take_over(&batch);
        }
    }

    /// Starts; does nothing if the producer runs.
    fn _open(
        &self,
        py: Python<'_>,
        client: &Bound<'_, Client>,
        topic: String,
        settings: Py<ProducerSettings>,
    ) -> PyResult<()> {
        if let Some(running) = self.running.get() {
            return running.check(py).map(|_| ());
        }
        let config = settings.get().config.clone();
        let is_counted = !(settings.get().delivery_reports || settings.get().sync);
        let client = client.get().engine(py)?.clone();
        let delivery_timeout = config.delivery_timeout;
        let engine = client.producer(config).map_err(|error| errors::to_python(py, &error))?;
        let topic_index = {
            let (engine, name) = (engine.clone(), topic.clone());
            let found = waiting::forever(py, client.start(async move { engine.topic(&name, false).await }))?;
            found.map_err(|error| errors::to_python(py, &error))?
        };
        let running = Arc::new(ForkGuard::new(Running {
            client,
            engine,
            topic_name: topic,
            delivery_timeout,
            tally: Arc::default(),
            topic: topic_index,
            settings,
            is_counted,
        }));
        closing::remember(&running);
        drop(self.running.replace(Some(running)));
        Ok(())
    }

    /// Sends what is buffered, waits for it and stops.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(running) = self.running.get() else { return Ok(()) };
        let limit = running.check(py)?.settings.get().pending_timeout;
        let outcome = closing::close(py, &running, limit);
        drop(self.running.replace(None));
        outcome
    }

    /// Stops without waiting: the engine goes on by itself.
    fn _abandon(&self, py: Python<'_>) {
        if let Some(running) = self.running.replace(None)
            && running.check(py).is_ok()
        {
            closing::in_background(&running);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.running.visit(|running| visit.call(&running.settings))
    }
}

fn view((key, value): &OwnedHeader) -> Header<'_> {
    Header { key, value: value.as_deref() }
}

#[inline]
fn enqueue(
    py: Python<'_>,
    running: &Running,
    record: &Record<'_>,
    reports: Option<&SharedReports>,
) -> PyResult<Delivery> {
    if reports.is_some_and(|reports| reports.borrow().is_full()) {
        let text = "this thread has 1,000,000 unread delivery reports; read them with get_delivery_report() first";
        return Err(errors::named(py, "ProducerQueueFullError", text));
    }
    if let Some(reports) = reports.filter(|reports| reports.borrow().holds_too_much()) {
        wait_for_reports(py, running, reports)?;
    }
    if running.is_counted {
        running.tally.log_failures(py, &running.topic_name);
    }
    match running.engine.try_enqueue(running.topic, record) {
        Ok(delivery) => Ok(delivery),
        Err(error) if error.kind() == ErrorKind::BufferFull && running.settings.get().block_on_queue_full => {
            wait_for_room(py, running, record)
        }
        Err(error) => Err(refused(py, &error)),
    }
}

/// Waits until enough messages of this thread have their outcome, whether or not their reports are read.
#[cold]
fn wait_for_reports(py: Python<'_>, running: &Running, reports: &SharedReports) -> PyResult<()> {
    // What lingers would not come back by waiting.
    running.engine.expedite();
    let blocks = running.settings.get().block_on_queue_full;
    let limit = if blocks { running.client.max_block() } else { Duration::ZERO };
    let finished = reports.borrow().finished();
    let finished = finished.ok_or_else(|| forked(py))?;
    let begun = Instant::now();
    while reports.borrow().holds_too_much() {
        let left = limit.saturating_sub(begun.elapsed());
        let Some(batch) = waiting::in_steps(py, Some(left), |step| finished.pop(step))? else {
            let text = "the messages of this thread that are not acknowledged yet take all the memory they may beside \
                        buffer_memory; wait for reports, or see whether the brokers answer";
            return Err(errors::named(py, "ProducerQueueFullError", text));
        };
        reports.borrow_mut().take_over(&batch);
    }
    Ok(())
}

#[cold]
fn wait_for_room(py: Python<'_>, running: &Running, record: &Record<'_>) -> PyResult<Delivery> {
    let limit = running.client.max_block();
    let (engine, topic) = (&running.engine, running.topic);
    let answer = waiting::in_steps(py, Some(limit), |step| match engine.enqueue(topic, record, step) {
        Err(error) if error.kind() == ErrorKind::BufferFull => None,
        other => Some(other),
    })?;
    answer.unwrap_or_else(|| engine.try_enqueue(topic, record)).map_err(|error| refused(py, &error))
}

/// The exception for a record that the engine did not accept.
#[cold]
fn refused(py: Python<'_>, error: &kavka::Error) -> PyErr {
    if error.kind() == ErrorKind::Closed {
        closing::rest_if_exiting(py);
        return stopped(py);
    }
    errors::to_python(py, error)
}

#[cold]
fn stopped(py: Python<'_>) -> PyErr {
    errors::named(py, "ProducerStoppedException", "the producer is stopped; start() it to produce again")
}

/// Waits until the record has its outcome, and raises it if it is a failure.
fn wait_for(py: Python<'_>, running: &Running, delivery: &Delivery) -> PyResult<()> {
    running.engine.expedite();
    let limit = running.settings.get().pending_timeout;
    let waker = thread_waker();
    let outcome = waiting::in_steps(py, limit, |step| {
        if delivery.completion().subscribe(delivery.index(), &waker) {
            thread::park_timeout(step);
        }
        delivery.outcome()
    })?;
    match outcome {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(errors::undelivered(py, &error)),
        None => {
            let text = "the message was not acknowledged within pending_timeout_ms; it may have been written, or be written yet";
            let error = errors::named(py, "ProduceFailureError", text);
            error.value(py).setattr(intern!(py, "written"), intern!(py, "maybe"))?;
            Err(error)
        }
    }
}

/// Wakes the current thread from `park_timeout`.
fn thread_waker() -> std::task::Waker {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    thread_local! {
        static WAKER: std::task::Waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    }
    WAKER.with(Clone::clone)
}

#[inline]
fn bytes_or_none<'a, 'py>(what: &str, object: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyBytes>>> {
    match object.cast_exact::<PyBytes>() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) if object.is_none() => Ok(None),
        Err(_) => Err(errors::wrong_type(what, "bytes or None (or give the producer a serializer)", object)),
    }
}

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

fn serialize<'py>(
    py: Python<'py>,
    serializer: &Py<PyAny>,
    message: &Bound<'py, PyAny>,
    key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Pair<'py>> {
    serializer.bind(py).call1((message, key))?.extract().map_err(|_| {
        PyTypeError::new_err("the serializer must return two values: the message's value and its partition_key")
    })
}

/// Asks the user's partitioner.
fn choose(
    py: Python<'_>,
    partitioner: &Py<PyAny>,
    partitions: &Py<PyAny>,
    key: Option<&Bound<'_, PyBytes>>,
) -> PyResult<i32> {
    let partitions = partitions.bind(py).call0()?;
    let chosen = partitioner.bind(py).call1((&partitions, key))?;
    if !partitions.contains(&chosen)? {
        let text = format!("the partitioner must return one of the partitions it is given, not {}", chosen.repr()?);
        return Err(PyValueError::new_err(text));
    }
    chosen.getattr(intern!(py, "id"))?.extract()
}

fn report_limit(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("timeout must not be negative, not {seconds}")));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

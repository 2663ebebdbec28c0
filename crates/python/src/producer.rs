//! The producer's frequent calls, its start and its stop.
//!
//! `produce` keeps the GIL while it appends, because that takes less time than releasing it, and releases it to wait
//! for memory. The user's partitioner and serializer run before anything of the engine is touched.

mod columns;
mod many;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kavka::{
    Acks, Compression, CompressionType, Delivery, ErrorKind, Header, Phase, ProducerConfig, ProducerTopic, Record,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::arrow::choice::Names;
use crate::cell::Slot;
use crate::client::Client;
use crate::closing;
use crate::errors;
use crate::greenlets;
use crate::message::{Message, OwnedHeader, Payload, timestamp_ms, to_headers};
use crate::process::{ForkGuard, forked};
use crate::reports::{Finished, ProducerIdentity, SharedReports};
use crate::tally::Tally;
use crate::waiting;

/// What `Producer` passes on; see its arguments.
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
            // pykafka 2 sent "at least two" as the number 2, which Kafka has refused since 0.9. `all` promises at least
            // as much.
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

/// A started producer: the part that is dropped when it stops.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: kavka::Client,
    pub(crate) engine: kavka::Producer,
    pub(crate) topic_name: String,
    pub(crate) delivery_timeout: Duration,
    pub(crate) tally: Arc<Tally>,
    topic: ProducerTopic,
    settings: Py<ProducerSettings>,
    /// Whether failures are counted, because there are no delivery reports.
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

    /// Accepts a message and returns it. Its `offset` appears when it is acknowledged; with `sync` that is before the
    /// return.
    ///
    /// :param message: bytes, or None for a tombstone; with a `serializer`, whatever that accepts.
    /// :param partition_key: bytes or None; messages with the same key go to the same partition.
    /// :param timestamp: an int of milliseconds since 1970, or a datetime (naive: UTC); None: now.
    /// :param headers: `(name, value)` pairs, in order: a str, and bytes or None. New in version 3.
    /// :raises TypeError: if an argument has another type; `ValueError` if it is out of range.
    /// :raises MessageSizeTooLarge: if the message is larger than `max_request_size`.
    /// :raises ProducerQueueFullError: if the buffer stays full for 60 s (at once without `block_on_queue_full`), or at
    ///     once if this thread has 1,000,000 unread reports.
    /// :raises ProducerStoppedException: after `stop`.
    /// :raises ProduceFailureError: with `sync`, if it was not delivered; or the broker's `ProtocolClientError`.
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
        let reports = settings.delivery_reports.then(|| self.reports(py)).transpose()?;
        let (message, payload_bytes) =
            append(py, running, message, partition_key, timestamp, headers, reports.as_ref())?;
        let message = message.into_object(py)?;
        let Some(delivery) = &message.get().delivery else { return Ok(message) };
        if let Some(reports) = reports {
            reports.expect(message.clone().unbind(), payload_bytes, delivery);
        }
        if settings.sync {
            wait_for(py, running, delivery, settings.pending_timeout)?;
        }
        Ok(message)
    }

    /// Accepts many messages, each as `produce` does, and returns how many they were.
    ///
    /// With `sync` it waits once, after the last message, until all are stored; that is far faster than calling
    /// `produce` in a loop. Without `sync` and `delivery_reports` no `Message` objects are made.
    ///
    /// :param messages: any iterable. A tuple in it is `(value, partition_key)`; anything else is a value.
    /// :raises TypeError: for anything that `produce` does not accept, or a tuple that is not a pair. Every
    ///     exception, also one of the iterable, has an attribute `accepted`: how many messages were accepted
    ///     before it. Those are sent anyway.
    /// :raises ProduceFailureError: with `sync`, for the first message that was not stored within
    ///     `pending_timeout_ms`, or the broker's `ProtocolClientError`.
    fn produce_many(&self, py: Python<'_>, messages: &Bound<'_, PyAny>) -> PyResult<usize> {
        many::produce(self, py, messages)
    }

    /// Accepts each row of a table as a message, and returns how many they were. It copies each key and value once,
    /// into the batch that is sent, and otherwise does as `produce_many`.
    ///
    /// :param table: a table or record batch of pyarrow, polars, pandas, duckdb or any other library that exports Arrow
    ///     data. A stream, such as a `pyarrow.RecordBatchReader`, is read to its end.
    /// :param value: the name of the column of values: binary or text; a null is a tombstone.
    /// :param key: that of the column of partition keys: binary or text; a null is no key. None: no message has one.
    /// :param partition: that of a column with numbers of partitions: int32 or int64. None, and a null: the partitioner
    ///     decides.
    /// :param timestamp: that of a column of timestamps, or of int64 for milliseconds since 1970. None, and a null:
    ///     now. What is finer than a millisecond is rounded down.
    /// :param headers: that of a column of headers: lists of structs of `key` (text) and `value` (binary or text), or
    ///     maps.
    /// :raises TypeError: if `table` is no table, or a column is of another type. As of `produce_many`, every exception
    ///     has an attribute `accepted`.
    /// :raises ValueError: if a column does not exist or contradicts itself, if there is no such partition, or if the
    ///     producer has a `serializer`: it would not be called.
    /// :raises OSError: if the stream fails.
    /// :raises ProduceFailureError: as of `produce_many`.
    #[pyo3(signature = (table, value="value", key=None, partition=None, timestamp=None, headers=None))]
    #[allow(clippy::too_many_arguments)]
    fn produce_arrow(
        &self,
        py: Python<'_>,
        table: &Bound<'_, PyAny>,
        value: &str,
        key: Option<&str>,
        partition: Option<&str>,
        timestamp: Option<&str>,
        headers: Option<&str>,
    ) -> PyResult<usize> {
        columns::produce(self, py, table, &Names { value, key, partition, timestamp, headers })
    }

    /// The next delivery report of a message that this thread produced: the message, and None or the exception.
    ///
    /// :param block: whether to wait for one.
    /// :param timeout: how long to wait, in seconds; None: for ever.
    /// :raises queue.Empty: if there is none in time.
    /// :raises KafkaException: if `delivery_reports` is off.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get_delivery_report<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, Message>, Option<PyErr>)> {
        let limit = if block { timeout.map(waiting::limit_of).transpose()? } else { Some(Duration::ZERO) };
        if let Some(running) = self.running.get()
            && !running.check(py)?.settings.get().delivery_reports
        {
            return Err(errors::named(py, "KafkaException", "delivery_reports is off for this producer"));
        }
        let reports = self.reports(py)?;
        let mut begun = None;
        loop {
            // Reports come by the batch: most calls find one here.
            if let Some((message, error)) = reports.next(py)? {
                return Ok((message.into_bound(py), error.map(|error| errors::undelivered(py, &error))));
            }
            let finished = reports.finished();
            let finished = finished.ok_or_else(|| forked(py))?;
            while let Some(batch) = finished.pop(Duration::ZERO) {
                reports.take_over(&batch);
            }
            if reports.has_next() {
                continue;
            }
            let begun = *begun.get_or_insert_with(Instant::now);
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            if !wait_for_report(py, left, &reports, &finished)? {
                return Err(PyErr::from_value(py.import("queue")?.getattr("Empty")?.call0()?));
            }
        }
    }

    /// Starts the producer; does nothing if it runs.
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
        self.identity.belongs_to(std::ptr::from_ref(client.get()).addr());
        let config = settings.get().config.clone();
        let is_counted = !(settings.get().delivery_reports || settings.get().sync);
        let client = client.get().engine(py)?;
        let delivery_timeout = config.delivery_timeout;
        let engine = client.producer(config).map_err(|error| errors::to_python(py, &error))?;
        let found = waiting::forever(py, client.start(engine.topic(&topic, false)))?;
        let topic_index = found.map_err(|error| errors::to_python(py, &error))?;
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

    /// Sends what is buffered, waits for that, and stops the producer.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(running) = self.running.get() else { return Ok(()) };
        let limit = running.check(py)?.settings.get().pending_timeout;
        let outcome = closing::close(py, &running, limit);
        drop(self.running.replace(None));
        outcome
    }

    /// Stops the producer without waiting: the engine sends what is buffered in the background.
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

impl Producer {
    /// The reports of the thread or greenlet that runs.
    #[inline]
    fn reports(&self, py: Python<'_>) -> PyResult<SharedReports> {
        greenlets::know_runner(py)?;
        Ok(self.identity.reports_of_this_thread())
    }
}

/// Checks a message and appends it to its batch. Returns what a `Message` is made of, and the size of key and value.
#[inline]
fn append(
    py: Python<'_>,
    running: &Running,
    message: &Bound<'_, PyAny>,
    partition_key: Option<&Bound<'_, PyAny>>,
    timestamp: Option<&Bound<'_, PyAny>>,
    headers: Option<&Bound<'_, PyAny>>,
    reports: Option<&SharedReports>,
) -> PyResult<(Message, usize)> {
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
    let views: Vec<_> = headers.as_ref().map_or_else(Vec::new, |headers| headers.iter().map(view).collect());
    let record = Record {
        key: key.map(PyBytesMethods::as_bytes),
        value: value.map(PyBytesMethods::as_bytes),
        headers: &views,
        partition,
        timestamp_ms,
    };
    let payload_bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    let delivery = enqueue(py, running, &record, reports)?;
    let payload = |bytes: Option<&Bound<'_, PyBytes>>| {
        bytes.map_or(Payload::Null, |bytes| Payload::Object(bytes.clone().into_any().unbind()))
    };
    let timestamp_ms = delivery.timestamp_ms();
    let message = Message::produced(payload(value), payload(key), headers.map(Box::new), timestamp_ms, delivery);
    Ok((message, payload_bytes))
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
    if reports.is_some_and(SharedReports::is_full) {
        let text = "this thread has 1,000,000 unread delivery reports; read them with get_delivery_report() first";
        return Err(errors::named(py, "ProducerQueueFullError", text));
    }
    if let Some(reports) = reports.filter(|reports| reports.holds_too_much()) {
        wait_for_reports(py, running, reports)?;
    }
    if running.is_counted {
        running.tally.log_failures(py, &running.topic_name);
    }
    let delivery = match running.engine.try_send(running.topic, record) {
        Ok(delivery) => delivery,
        Err(error) if is_waited_for(&error) && running.settings.get().block_on_queue_full => {
            wait_for_room(py, running, record)?
        }
        Err(error) => return Err(refused(py, &error)),
    };
    if running.is_counted && delivery.index() == 0 {
        Tally::watch(&running.tally, delivery.completion());
    }
    Ok(delivery)
}

/// Waits until there may be another report; false at the limit.
fn wait_for_report(
    py: Python<'_>,
    limit: Option<Duration>,
    reports: &SharedReports,
    finished: &Finished,
) -> PyResult<bool> {
    let batch = match greenlets::bells(py)? {
        None => waiting::in_steps(py, limit, |_| {}, |step| finished.pop(step))?,
        Some(bells) => {
            // Another greenlet of this thread may have taken the batch, and its reports may be left.
            let has_next = |waker: &std::task::Waker| {
                finished.subscribe(waker);
                let batch = finished.pop(Duration::ZERO);
                if let Some(batch) = &batch {
                    reports.take_over(batch);
                }
                reports.has_next().then_some(())
            };
            return Ok(greenlets::wait(&bells, limit, has_next)?.is_some());
        }
    };
    if let Some(batch) = &batch {
        reports.take_over(batch);
    }
    Ok(batch.is_some())
}

/// Waits until enough messages of this thread have their outcome; their reports may be unread.
#[cold]
fn wait_for_reports(py: Python<'_>, running: &Running, reports: &SharedReports) -> PyResult<()> {
    // Batches that linger would get no outcome however long we wait.
    running.engine.expedite();
    let blocks = running.settings.get().block_on_queue_full;
    let limit = if blocks { running.client.max_block() } else { Duration::ZERO };
    let finished = reports.finished();
    let finished = finished.ok_or_else(|| forked(py))?;
    let begun = Instant::now();
    while reports.holds_too_much() {
        let left = limit.saturating_sub(begun.elapsed());
        let Some(batch) =
            waiting::in_steps(py, Some(left), |waker| finished.subscribe(waker), |step| finished.pop(step))?
        else {
            let text = "the unacknowledged messages of this thread and client use all the memory that they may take in \
                        addition to buffer_memory; wait for reports, or see whether the brokers answer";
            return Err(errors::named(py, "ProducerQueueFullError", text));
        };
        reports.take_over(&batch);
    }
    Ok(())
}

/// Waits until the topic is known, if its metadata is missing, and then until there is room.
#[cold]
fn wait_for_room(py: Python<'_>, running: &Running, record: &Record<'_>) -> PyResult<Delivery> {
    let (limit, begun) = (running.client.max_block(), Instant::now());
    let (engine, topic) = (kavka::blocking::Producer::from(running.engine.clone()), running.topic);
    loop {
        if let Some(found) = engine.find_missing_topic(topic) {
            let left = limit.saturating_sub(begun.elapsed());
            let found = waiting::until(py, running.client.start(found), Some(left))?;
            found.unwrap_or(Ok(())).map_err(|error| refused(py, &error))?;
        }
        // Freed memory wakes nobody under gevent, so check in steps.
        let accepted = waiting::in_steps(
            py,
            Some(limit.saturating_sub(begun.elapsed())),
            |_| {},
            |step| match engine.send_within(topic, record, step) {
                Err(error) if is_waited_for(&error) && engine.find_missing_topic(topic).is_none() => None,
                other => Some(other),
            },
        )?;
        match accepted.unwrap_or_else(|| engine.try_send(topic, record)) {
            Err(error) if is_waited_for(&error) && begun.elapsed() < limit => {}
            accepted => return accepted.map(Delivery::from).map_err(|error| refused(py, &error)),
        }
    }
}

/// Whether a record was not accepted for a reason that passes.
fn is_waited_for(error: &kavka::Error) -> bool {
    matches!(error.kind(), ErrorKind::BufferFull | ErrorKind::TimedOut(Phase::Metadata))
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

/// Waits until the record has its outcome; raises if it failed.
fn wait_for(py: Python<'_>, running: &Running, delivery: &Delivery, limit: Option<Duration>) -> PyResult<()> {
    running.engine.expedite();
    let waker = thread_waker();
    let subscribe = |waker: &std::task::Waker| {
        delivery.completion().subscribe(delivery.index(), waker);
    };
    let outcome = waiting::in_steps(py, limit, subscribe, |step| {
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

/// A waker for a thread in `park_timeout`.
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

/// Calls the user's partitioner.
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

//! The consumer's hot calls, its start and its end.
//!
//! One message costs no lock: the batch it comes from is in the hands of the caller (see [`Hand`]), and the
//! engine is asked only when the batch is at its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use kavka::wire::records::{RecordView, Span};
use kavka::{
    AutoOffsetReset, Batch, Commit, CommittedOffset, ConsumerConfig, ErrorKind, Offsets, StartPosition, TopicPartition,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::at_work::AtWork;
use crate::cell::Slot;
use crate::client::Client;
use crate::errors;
use crate::message::{Headers, Lazy, Message, Payload};
use crate::process::{ForkGuard, forked};
use crate::reports::lock;
use crate::waiting;

/// Below this a key or value is made into a Python object at once: that is cheaper than to keep the buffer, and
/// a program that keeps one small message does not keep megabytes with it.
const EAGER_BYTES: usize = 1024;

/// How much of the fetched buffers the program's messages may keep before large values are copied out, too.
const MAX_PINNED_BYTES: usize = 16 << 20;

/// What `SimpleConsumer` decided in Python; see its arguments.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct ConsumerSettings {
    config: ConsumerConfig,
    auto_commit_interval: Option<Duration>,
    /// Kept with every committed offset.
    commit_metadata: String,
    timeout: Option<Duration>,
    deserializer: Option<Py<PyAny>>,
}

#[pymethods]
impl ConsumerSettings {
    #[new]
    #[pyo3(signature = (
        *, auto_commit_interval_ms, auto_offset_reset, commit_metadata, consumer_group, consumer_timeout_ms, fetch_buffer,
        fetch_max_bytes,
        fetch_message_max_bytes, fetch_min_bytes, fetch_wait_max_ms, deserializer
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        auto_commit_interval_ms: Option<u64>,
        auto_offset_reset: i32,
        commit_metadata: String,
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
            commit_metadata,
            timeout: consumer_timeout_ms.map(Duration::from_millis),
            deserializer,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.deserializer)
    }
}

impl ConsumerSettings {
    /// When an auto-commit is due that is one interval away.
    fn next_commit(&self) -> Option<Instant> {
        self.auto_commit_interval.and_then(|interval| Instant::now().checked_add(interval))
    }
}

/// A started consumer: what is thrown away when it stops.
#[derive(Debug)]
struct Running {
    engine: kavka::Consumer,
    topic: Arc<str>,
    /// The `Partition` objects by number.
    partitions: BTreeMap<i32, Py<PyAny>>,
    settings: Py<ConsumerSettings>,
    /// Called with the exception of an auto-commit that failed.
    commit_failed: Py<PyAny>,
    /// The auto-commit that was begun last, until its outcome is known.
    auto_commit: Mutex<Option<Commit>>,
    /// How long a commit is tried.
    offsets_timeout: Duration,
    pinned: Arc<AtomicUsize>,
}

/// The batch that is being handed out, and the messages that the application works on.
#[derive(Debug)]
struct Hand {
    running: Arc<ForkGuard<Running>>,
    batch: Option<(ForkGuard<Batch>, Py<PyAny>)>,
    at_work: AtWork,
    /// When the next auto-commit is due.
    commit_at: Option<Instant>,
}

/// Counts a buffer as kept by the application until its last message is gone.
#[derive(Debug)]
struct Pin {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The base of `pykafka.SimpleConsumer`.
#[pyclass(frozen, subclass, module = "pykafka._engine")]
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    running: Slot<Arc<ForkGuard<Running>>>,
    hand: Slot<Hand>,
    /// Where a stopped consumer stopped.
    positions: Slot<BTreeMap<i32, i64>>,
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// The next message, or None: at once if not `block`, after `consumer_timeout_ms`, or when `unblock_event` is set.
    ///
    /// :param block: whether to wait for a message.
    /// :param unblock_event: a `threading.Event` that ends the wait, looked at every 100 ms.
    /// :raises ConsumerStoppedException: after `stop`, also by another thread.
    /// :raises MessageSetDecodeFailure: once for a damaged batch; its partition stands still until `reset_offsets`.
    /// :raises KafkaException: once for anything else that keeps a partition from being read.
    #[pyo3(signature = (block=true, unblock_event=None))]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        unblock_event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, Message>>> {
        if let Some(message) = self.next_in_hand(py)? {
            return Ok(Some(message));
        }
        self.next_from_engine(py, block, unblock_event)
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Message>>> {
        self.consume(py, true, None)
    }

    /// Begins to fetch: `partitions` are `(number, Partition, position)`.
    fn _open(
        &self,
        py: Python<'_>,
        client: &Bound<'_, Client>,
        topic: &str,
        partitions: Vec<(i32, Py<PyAny>, i64)>,
        settings: Py<ConsumerSettings>,
        commit_failed: Py<PyAny>,
    ) -> PyResult<()> {
        if let Some(running) = self.running.get() {
            return running.check(py).map(|_| ());
        }
        let offsets_timeout = client.get().offsets_timeout();
        let client = client.get().engine(py)?;
        let engine = client.consumer(settings.get().config.clone()).map_err(|error| errors::to_python(py, &error))?;
        let topic: Arc<str> = topic.into();
        for (number, _, position) in &partitions {
            let partition = TopicPartition::new(Arc::clone(&topic), *number);
            engine.add(&partition, StartPosition::Offset(*position)).map_err(|error| errors::to_python(py, &error))?;
        }
        let commit_at = settings.get().next_commit();
        let running = Arc::new(ForkGuard::new(Running {
            engine,
            topic,
            partitions: partitions.into_iter().map(|(number, partition, _)| (number, partition)).collect(),
            settings,
            commit_failed,
            auto_commit: Mutex::default(),
            offsets_timeout,
            pinned: Arc::default(),
        }));
        let hand = Hand { running: Arc::clone(&running), batch: None, at_work: AtWork::default(), commit_at };
        drop(self.hand.replace(Some(hand)));
        drop(self.running.replace(Some(running)));
        Ok(())
    }

    /// Stops; does nothing if it is stopped already.
    ///
    /// With `client` it commits first, behind the auto-commits that are on their way, and waits for the answer.
    /// `last_message_done` says whether this thread is done with the message it was handed last. What other threads work
    /// on is not committed.
    fn _close(&self, py: Python<'_>, client: Option<&Bound<'_, Client>>, last_message_done: bool) -> PyResult<()> {
        let Some(running) = self.running.replace(None) else { return Ok(()) };
        // From here on no thread is handed a message, so the positions are final.
        let hand = self.hand.replace(None);
        if !running.is_at_home() {
            return Ok(());
        }
        let mut offsets = to_commit(&running);
        let positions = offsets.iter().map(|(key, position)| (key.partition, position.offset)).collect();
        drop(self.positions.replace(Some(positions)));
        if let Some(mut hand) = hand {
            if last_message_done {
                hand.at_work.end();
            }
            hand.at_work.hold_back(&mut offsets);
        }
        let commit = client.map(|client| (client, running.engine.commit(offsets, running.offsets_timeout)));
        py.detach(|| running.engine.close());
        commit.map_or(Ok(()), |(client, commit)| client.get().run(py, commit.map_err(|error| failed(py, &error))?))
    }

    fn _is_running(&self) -> bool {
        self.running.get().is_some()
    }

    /// The offset of the next message of a partition; None before the first start.
    fn _position(&self, py: Python<'_>, partition: i32) -> PyResult<Option<i64>> {
        if let Some(running) = self.running.get() {
            let running = running.check(py)?;
            let partition = TopicPartition::new(Arc::clone(&running.topic), partition);
            return Ok(running.engine.position(&partition));
        }
        Ok(self.positions.lock().as_ref().and_then(|stopped| stopped.get(&partition).copied()))
    }

    /// Commits `(partition, offset)` and waits for the answer, in order with the auto-commits. Does nothing, and says so, if
    /// the consumer is stopped.
    fn _commit_offsets(
        &self,
        py: Python<'_>,
        client: &Bound<'_, Client>,
        offsets: BTreeMap<i32, i64>,
    ) -> PyResult<bool> {
        let Some(running) = self.running.get() else { return Ok(false) };
        let running = running.check(py)?;
        self.pass(&offsets);
        let metadata = &running.settings.get().commit_metadata;
        let offsets = offsets.into_iter().map(|(partition, offset)| {
            let committed = CommittedOffset { metadata: metadata.clone(), ..CommittedOffset::new(offset) };
            (TopicPartition::new(Arc::clone(&running.topic), partition), committed)
        });
        let commit = running.engine.commit(offsets.collect(), running.offsets_timeout);
        client.get().run(py, commit.map_err(|error| failed(py, &error))?)?;
        Ok(true)
    }

    /// Moves partitions to other offsets. What was fetched ahead from there is thrown away.
    fn _seek(&self, py: Python<'_>, positions: BTreeMap<i32, i64>) -> PyResult<()> {
        let Some(running) = self.running.get() else { return Err(stopped(py)) };
        let running = running.check(py)?;
        self.pass(&positions);
        for (partition, position) in positions {
            let partition = TopicPartition::new(Arc::clone(&running.topic), partition);
            running
                .engine
                .seek(&partition, StartPosition::Offset(position))
                .map_err(|error| errors::to_python(py, &error))?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.running.visit(|running| {
            visit.call(&running.settings)?;
            visit.call(&running.commit_failed)?;
            running.partitions.values().try_for_each(|partition| visit.call(partition))
        })
    }
}

impl Consumer {
    /// The next message of the batch in hand.
    #[inline]
    fn next_in_hand<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Message>>> {
        let mut hand = self.hand.lock();
        let Some(Hand { running, batch: in_hand, at_work, commit_at }) = hand.as_mut() else {
            drop(hand);
            return Err(stopped(py));
        };
        if !running.is_at_home() {
            drop(hand);
            return Err(forked(py));
        }
        if commit_at.is_some_and(|due| due <= Instant::now()) {
            *commit_at = running.settings.get().next_commit();
            let running = Arc::clone(running);
            drop(hand);
            self.done_with_last();
            self.commit(py, &running)?;
            return Ok(None);
        }
        let Some((batch, partition)) = in_hand else { return Ok(None) };
        let Some(record) = batch.next_record() else {
            let finished = in_hand.take();
            drop(hand);
            drop(finished);
            return Ok(None);
        };
        let number = batch.topic_partition().partition;
        // Runs no Python code: what it makes is nothing that garbage collection looks at.
        let message = to_message(py, running, batch, &record, number, partition);
        at_work.begin(number, record.offset);
        let deserializer = running.settings.get().deserializer.as_ref().map(|deserializer| deserializer.clone_ref(py));
        drop(hand);
        match deserializer {
            Some(deserializer) => deserialized(py, &deserializer, message)?,
            None => message,
        }
        .into_pyobject(py)
        .map(Some)
    }

    /// The next message of the next batch, if one comes in time.
    #[cold]
    fn next_from_engine<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        unblock_event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, Message>>> {
        let Some(running) = self.running.get() else { return Err(stopped(py)) };
        let running = running.check(py)?;
        self.done_with_last();
        let limit = if block { running.settings.get().timeout } else { Some(Duration::ZERO) };
        let begun = Instant::now();
        loop {
            if let Some(message) = self.next_in_hand(py)? {
                return Ok(Some(message));
            }
            log_resets(py, running);
            tell_failed_commit(py, running);
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            let step = left.map_or(waiting::STEP, |left| left.min(waiting::STEP));
            let polled = py.detach(|| running.engine.wait_batch(step));
            if let Some(batch) = polled.map_err(|error| failed(py, &error))? {
                self.take_in_hand(py, running, batch)?;
                continue;
            }
            py.check_signals()?;
            let is_unblocked = match unblock_event {
                Some(event) => event.call_method0(intern!(py, "is_set"))?.is_truthy()?,
                None => false,
            };
            if is_unblocked || left.is_some_and(|left| left <= step) {
                return Ok(None);
            }
        }
    }

    fn take_in_hand(&self, py: Python<'_>, running: &Running, batch: Batch) -> PyResult<()> {
        let partition = running.partitions.get(&batch.topic_partition().partition);
        let partition = partition.map_or_else(|| py.None(), |partition| partition.clone_ref(py));
        let before = {
            let mut hand = self.hand.lock();
            hand.as_mut().map(|hand| hand.batch.replace((ForkGuard::new(batch), partition)))
        };
        let Some(before) = before else { return Err(stopped(py)) };
        // Another thread's batch, if there was one: what is left of it is taken again.
        drop(before);
        Ok(())
    }

    /// A thread that asks for more is done with what it was given.
    fn done_with_last(&self) {
        if let Some(hand) = self.hand.lock().as_mut() {
            hand.at_work.end();
        }
    }

    /// The program is done with what it commits or seeks past.
    fn pass(&self, offsets: &BTreeMap<i32, i64>) {
        if let Some(hand) = self.hand.lock().as_mut() {
            for (partition, offset) in offsets {
                hand.at_work.pass(*partition, *offset);
            }
        }
    }

    /// Begins to commit what threads are done with, without waiting for the answer. Does nothing while the auto-commit
    /// before is on its way: the next one is newer, and how this one ends must not be missed.
    #[cold]
    fn commit(&self, py: Python<'_>, running: &Running) -> PyResult<()> {
        tell_failed_commit(py, running);
        let mut auto_commit = lock(&running.auto_commit);
        if auto_commit.is_some() {
            return Ok(());
        }
        // First the positions: what is handed out from then on lies behind them.
        let mut offsets = to_commit(running);
        let is_held_back = self.hand.lock().as_ref().map(|hand| hand.at_work.hold_back(&mut offsets)).is_some();
        if !is_held_back {
            // Another thread stops the consumer, and commits what is done.
            drop(auto_commit);
            return Err(stopped(py));
        }
        let begun = running.engine.commit(offsets, running.offsets_timeout);
        let begun = begun.map(|commit| *auto_commit = Some(commit));
        drop(auto_commit);
        begun.map_err(|error| failed(py, &error))
    }
}

/// Tells Python if the auto-commit that was begun last has failed.
fn tell_failed_commit(py: Python<'_>, running: &Running) {
    let outcome = {
        let mut commit = lock(&running.auto_commit);
        let outcome = commit.as_mut().and_then(Commit::outcome);
        if outcome.is_some() {
            *commit = None;
        }
        outcome
    };
    if let Some(Err(error)) = outcome
        && let Err(error) = running.commit_failed.call1(py, (errors::to_python(py, &error).into_value(py),))
    {
        // A logger that raises must not make `consume` fail.
        error.write_unraisable(py, None);
    }
}

/// The positions, as they are to be committed.
fn to_commit(running: &Running) -> Offsets {
    let mut offsets = running.engine.positions();
    for committed in offsets.values_mut() {
        committed.metadata.clone_from(&running.settings.get().commit_metadata);
    }
    offsets
}

/// Says in Python's log which positions were moved, and why.
fn log_resets(py: Python<'_>, running: &Running) {
    for reset in running.engine.take_resets() {
        let log = || {
            let logger = py.import("logging")?.call_method1("getLogger", ("pykafka.simpleconsumer",))?;
            let text = "offset %d of %s is out of range; going on at %d, as auto_offset_reset says";
            logger.call_method1("warning", (text, reset.from, reset.topic_partition.to_string(), reset.to))
        };
        // A logger that raises must not make `consume` fail.
        if let Err(error) = log() {
            error.write_unraisable(py, None);
        }
    }
}

#[inline]
fn to_message(
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
        // pykafka shows 0 for a message without a time.
        timestamp: AtomicI64::new(record.timestamp_ms.max(0)),
        partition: Some(partition.clone_ref(py)),
        partition_id,
        extra: None,
    }
}

#[inline]
fn eager(py: Python<'_>, bytes: &[u8]) -> Payload {
    Payload::Object(PyBytes::new(py, bytes).into_any().unbind())
}

fn large(py: Python<'_>, running: &Running, batch: &Batch, range: std::ops::Range<usize>) -> Payload {
    let (data, size) = (batch.data(), batch.kept_bytes());
    if running.pinned.load(Ordering::Relaxed) + size > MAX_PINNED_BYTES {
        return eager(py, data.get(range).unwrap_or_default());
    }
    running.pinned.fetch_add(size, Ordering::Relaxed);
    let pin = Pin { bytes: size, total: Arc::clone(&running.pinned) };
    let lazy = Lazy { bytes: data.slice(range), _pin: Box::new(pin), made: OnceLock::new() };
    Payload::Lazy(Box::new(ForkGuard::new(lazy)))
}

/// What a deserializer makes of a message.
fn deserialized(py: Python<'_>, deserializer: &Py<PyAny>, mut message: Message) -> PyResult<Message> {
    let made = deserializer.bind(py).call1((message.value.get(py), message.key.get(py)))?;
    let (value, key): (Bound<'_, PyAny>, Bound<'_, PyAny>) = made.extract().map_err(|_| {
        PyTypeError::new_err("the deserializer must return two values: the message's value and its partition_key")
    })?;
    message.value = Payload::from_python(&value);
    message.key = Payload::from_python(&key);
    Ok(message)
}

/// The exception for what ended a wait for messages.
#[cold]
fn failed(py: Python<'_>, error: &kavka::Error) -> PyErr {
    if error.kind() == ErrorKind::Closed { stopped(py) } else { errors::to_python(py, error) }
}

#[cold]
fn stopped(py: Python<'_>) -> PyErr {
    errors::named(py, "ConsumerStoppedException", "the consumer is stopped; start() it to consume again")
}

//! The consumer's frequent calls, its start and its stop.
//!
//! One message costs no engine lock: the caller holds the batch that it comes from (see [`Handout`]), and asks the
//! engine only when the batch is used up.

mod arrival;
mod batches;
mod columns;
mod done;
mod messages;
mod postponed;
mod refusals;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kavka::{Batch, CommittedOffset, StartPosition, TopicPartition};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use self::messages::{deserialize, to_message};
use self::postponed::Postponed;
use self::refusals::{Caller, failed, stopped};
use crate::arrow::batch::{RecordBatch, RecordBatches};
use crate::cell::Slot;
use crate::client::Client;
use crate::closing;
use crate::consumer_settings::ConsumerSettings;
use crate::errors;
use crate::fence::{self, Fence};
use crate::greenlets;
use crate::group::GroupSettings;
use crate::message::Message;
use crate::process::{ForkGuard, forked};
use crate::processing::Processing;
use crate::reader::Reader;
use crate::running::Running;

/// The batch being handed out, and the messages that the application is processing.
#[derive(Debug)]
struct Handout {
    running: Arc<ForkGuard<Running>>,
    batch: Option<(ForkGuard<Batch>, Py<PyAny>)>,
    processing: Processing,
    /// When the next auto-commit is due.
    commit_at: Option<Instant>,
}

/// The base of `pykafka.SimpleConsumer`.
#[pyclass(frozen, subclass, module = "pykafka._engine")]
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    running: Slot<Arc<ForkGuard<Running>>>,
    handout: Slot<Handout>,
    /// The positions at which a stopped consumer stopped.
    positions: Slot<BTreeMap<i32, i64>>,
    /// For a consumer whose group assigns its partitions.
    fence: Fence,
    /// The exception that the next `consume` raises.
    pending_error: Slot<Py<PyAny>>,
    /// Errors that ended a batch behind its first message; the next calls raise them one by one.
    postponed: Slot<VecDeque<Postponed>>,
    /// Who runs the program's callback, while no message is handed out.
    caller: Caller,
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// The next message, or None: at once without `block`, after `consumer_timeout_ms`, or when `unblock_event` is set.
    ///
    /// :param block: whether to wait for a message.
    /// :param unblock_event: a `threading.Event` that ends the wait; checked every 100 ms.
    /// :raises ConsumerStoppedException: after `stop`, also if another thread calls it.
    /// :raises MessageSetDecodeFailure: once for a damaged batch; its partition then stands still until
    ///     `reset_offsets`.
    /// :raises KafkaException: once for any other error that keeps a partition from being read.
    #[pyo3(signature = (block=true, unblock_event=None))]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        unblock_event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, Message>>> {
        if let Some(message) = self.next_in_batch(py)? {
            return Ok(Some(message));
        }
        let limit = if block { self.running(py)?.settings.get().timeout } else { Some(Duration::ZERO) };
        self.next_from_engine(py, limit, unblock_event, || self.next_in_batch(py))
    }

    /// The next messages, at most `max_messages`: waits for the first one, and adds those that are already fetched.
    ///
    /// Returns an empty list if no message arrives in time. Auto-commit treats the whole list as being processed until
    /// the next call.
    ///
    /// :param max_messages: at least 1.
    /// :param timeout: how long to wait for the first message, in seconds; 0: do not wait; None: `consumer_timeout_ms`.
    /// :raises ValueError: if one of them is out of range.
    /// :raises ConsumerStoppedException: after `stop`, also if another thread calls it.
    /// :raises MessageSetDecodeFailure: as `consume` does. An error after the first message, also one of the
    ///     deserializer, is raised by the next call, so that no message is lost. Until then, the message that the
    ///     deserializer refused counts as not handed out. If the next call is `stop`, it drops the error, unless it is
    ///     no `Exception`: `KeyboardInterrupt`, for example.
    #[pyo3(signature = (max_messages, timeout=None))]
    fn consume_batch<'py>(
        &self,
        py: Python<'py>,
        max_messages: i64,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Bound<'py, Message>>> {
        batches::consume(self, py, batches::at_least_one("max_messages", max_messages)?, timeout)
    }

    /// The next messages as columns, at most `max_records`: as `consume_batch`, but without an object for each message.
    ///
    /// Returns a batch without rows if no message arrives in time. A batch ends early when it has `fetch_buffer` bytes.
    /// Auto-commit treats all of it as being processed until the next call.
    ///
    /// Most keys and values stay in the memory that they were fetched into, until nothing refers to the columns any
    /// more; a few small messages are copied. When a program keeps more than another `fetch_buffer` of such memory
    /// since the consumer started, later batches are copies. The other columns are copies, and do not count.
    ///
    /// :param max_records: at least 1.
    /// :param timeout: how long to wait for the first message, in seconds; 0: do not wait; None: `consumer_timeout_ms`.
    /// :raises ValueError: if one of them is out of range, or if the consumer has a `deserializer`: it would not be
    ///     called.
    /// :raises ConsumerStoppedException: after `stop`, also if another thread calls it.
    /// :raises MessageSetDecodeFailure: as `consume` does. An error after the first message is raised by the next call.
    #[pyo3(signature = (max_records=65_536, timeout=None))]
    pub(crate) fn consume_arrow(
        &self,
        py: Python<'_>,
        max_records: i64,
        timeout: Option<f64>,
    ) -> PyResult<RecordBatch> {
        columns::consume(self, py, batches::at_least_one("max_records", max_records)?, timeout).map(RecordBatch)
    }

    /// Returns an iterator over record batches, each as of `consume_arrow`, which ends when `consumer_timeout_ms`
    /// passes without a message. Libraries that take Arrow streams read it to the end.
    ///
    /// :param max_records: how many messages a batch has at most; at least 1.
    /// :raises ValueError: if it is out of range.
    #[pyo3(signature = (max_records=65_536))]
    fn record_batches(this: Py<Self>, max_records: i64) -> PyResult<RecordBatches> {
        batches::at_least_one("max_records", max_records)?;
        Ok(RecordBatches { consumer: this, max_records })
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Message>>> {
        self.consume(py, true, None)
    }

    /// Starts to fetch; `partitions` are `(number, Partition, position)`.
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
        let home = client.get().engine(py)?;
        let engine = home.consumer(settings.get().config.clone()).map_err(|error| errors::to_python(py, &error))?;
        let topic: Arc<str> = topic.into();
        for (number, _, position) in &partitions {
            let partition = TopicPartition::new(Arc::clone(&topic), *number);
            engine.add(&partition, StartPosition::Offset(*position)).map_err(|error| errors::to_python(py, &error))?;
        }
        let partitions = partitions.into_iter().map(|(number, partition, _)| (number, partition)).collect();
        self.run(Running {
            client: home,
            engine: Reader::Given(engine.into()),
            topic,
            partitions: Mutex::new(partitions),
            settings,
            commit_failed,
            auto_commit: Mutex::default(),
            offsets_timeout: client.get().offsets_timeout(),
            pinned: Arc::default(),
        });
        Ok(())
    }

    /// Joins the group of `settings`, which assigns the partitions. `this` is a weak reference to `self`; its methods
    /// `_on_assigned`, `_on_revoked` and `_on_lost` are called with partition numbers, in a thread of their own; the
    /// first one also with the group's committed offsets.
    #[allow(clippy::too_many_arguments)]
    fn _join(
        &self,
        py: Python<'_>,
        client: &Bound<'_, Client>,
        topic: &str,
        settings: Py<ConsumerSettings>,
        group: &Bound<'_, GroupSettings>,
        commit_failed: Py<PyAny>,
        this: Py<PyAny>,
    ) -> PyResult<()> {
        let (topic, group) = (Arc::from(topic), group.get());
        let options = group.options(py, &topic, &this);
        let home = client.get().engine(py)?;
        let engine = home.group_consumer(settings.get().config.clone(), group.config.clone(), options);
        self.fence.put(Some(0));
        self.run(Running {
            client: home,
            engine: Reader::Group(engine.map_err(|error| errors::to_python(py, &error))?.into()),
            topic: Arc::clone(&topic),
            partitions: Mutex::default(),
            settings,
            commit_failed,
            auto_commit: Mutex::default(),
            offsets_timeout: client.get().offsets_timeout(),
            pinned: Arc::default(),
        });
        // Subscribe last: the callbacks then find the consumer running.
        match &self.running(py)?.engine {
            Reader::Group(member) => member.subscribe(&[&*topic]).map_err(|error| errors::to_python(py, &error)),
            Reader::Given(_) => Ok(()),
        }
    }

    /// Raises the consumer's pending error, if there is one.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running(py)?;
        let batch = py.detach(|| running.engine.try_batch()).map_err(|error| failed(py, &error))?;
        batch.map_or(Ok(()), |batch| self.start_batch(py, &running, batch))
    }

    /// Stops the consumer; does nothing if it is stopped.
    ///
    /// With `client` it first commits, after the auto-commits in flight, and waits for the response.
    /// `last_message_done` says whether this thread is done with the message it got last. What other threads are
    /// processing is not committed. A group member leaves its group; with `leave` this waits for that for at most so
    /// many milliseconds. A postponed exception that is no error, such as `KeyboardInterrupt`, is raised at the end.
    #[pyo3(signature = (client, last_message_done, leave=None))]
    fn _close(
        &self,
        py: Python<'_>,
        client: Option<&Bound<'_, Client>>,
        last_message_done: bool,
        leave: Option<(Bound<'_, Client>, u64)>,
    ) -> PyResult<()> {
        if last_message_done {
            greenlets::know_runner(py)?;
        }
        let Some(running) = self.running.replace(None) else { return Ok(()) };
        // From here on no thread gets a message, so the positions are final.
        let handout = self.handout.replace(None);
        // A restart reads their messages again.
        let interruption = self.postponed.replace(None).and_then(|postponed| postponed::interruption(py, postponed));
        if !running.is_at_home() {
            return Ok(());
        }
        let mut offsets = running.to_commit();
        if let Some(handout) = &handout {
            handout.processing.hold_back_refused(&mut offsets);
        }
        let positions = offsets.iter().map(|(key, position)| (key.partition, position.offset)).collect();
        drop(self.positions.replace(Some(positions)));
        if let Some(mut handout) = handout {
            if last_message_done {
                handout.processing.end();
            }
            handout.processing.hold_back(&mut offsets);
        }
        let commit = client.map(|client| (client, running.engine.commit(offsets, running.commit_limit(&self.fence))));
        match (&running.engine, leave) {
            (Reader::Given(consumer), _) => py.detach(|| consumer.close()),
            (Reader::Group(member), Some((client, limit_ms))) => {
                let left = client.get().run(py, (**member).close(Duration::from_millis(limit_ms)));
                if let Err(error) = left {
                    if !errors::is_kafka_exception(py, &error) {
                        // Ctrl-C, or another signal whose handler raises.
                        return Err(error);
                    }
                    log::warn!(target: "pykafka", "{error}; other members get its partitions when its session ends");
                }
            }
            // The group consumer leaves its group when it is dropped.
            (Reader::Group(_), None) => {}
        }
        let committed =
            commit.map_or(Ok(()), |(client, commit)| client.get().run(py, commit.map_err(|error| failed(py, &error))?));
        match (interruption, committed) {
            (None, committed) => committed,
            (Some(interruption), Ok(())) => Err(interruption),
            (Some(interruption), Err(error)) => {
                log::warn!(target: "pykafka", "the last offsets were not committed: {error}");
                Err(interruption)
            }
        }
    }

    fn _is_running(&self) -> bool {
        self.running.get().is_some()
    }

    /// The offset of the next message of a partition; None before the first start.
    fn _position(&self, py: Python<'_>, partition: i32) -> PyResult<Option<i64>> {
        if let Some(running) = self.running.get() {
            let position = running.check(py)?.position(partition);
            let handout = self.handout.lock();
            let refused = handout.as_ref().and_then(|handout| handout.processing.first_refused(partition));
            return Ok(position.map(|position| refused.map_or(position, |refused| refused.min(position))));
        }
        Ok(self.positions.lock().as_ref().and_then(|stopped| stopped.get(&partition).copied()))
    }

    /// Commits `(partition, offset)` in order with the auto-commits, and waits for the response. Returns the partitions
    /// that it left out because a group member does not own them any more; None, if the consumer is stopped.
    fn _commit_offsets(
        &self,
        py: Python<'_>,
        client: &Bound<'_, Client>,
        offsets: BTreeMap<i32, i64>,
    ) -> PyResult<Option<Vec<i32>>> {
        let Some(running) = self.running.get() else { return Ok(None) };
        let running = running.check(py)?;
        self.pass(&offsets);
        let metadata = running.settings.get().commit_metadata();
        let offsets = offsets.into_iter().map(|(partition, offset)| {
            let committed = CommittedOffset { metadata: metadata.clone(), ..CommittedOffset::new(offset) };
            (running.key(partition), committed)
        });
        let begun = running.commit_owned(&offsets.collect(), running.commit_limit(&self.fence));
        let (commit, left_out) = begun.map_err(|error| failed(py, &error))?;
        if let Some(commit) = commit {
            client.get().run(py, commit)?;
        }
        Ok(Some(left_out))
    }

    /// Moves partitions to other offsets. What was already fetched of them is dropped. Returns the partitions that it
    /// left out because a group member does not own them any more.
    fn _seek(&self, py: Python<'_>, positions: BTreeMap<i32, i64>) -> PyResult<Vec<i32>> {
        let Some(running) = self.running.get() else { return Err(stopped(py)) };
        let running = running.check(py)?;
        let mut left_out = Vec::new();
        for (partition, position) in positions {
            let sought = running.engine.seek(&running.key(partition), StartPosition::Offset(position));
            match sought {
                Ok(()) => {}
                Err(_) if running.is_taken(partition) => left_out.push(partition),
                Err(error) => return Err(errors::to_python(py, &error)),
            }
        }
        Ok(left_out)
    }

    /// The messages before these offsets do not hold commits back any more.
    fn _pass(&self, offsets: BTreeMap<i32, i64>) {
        self.pass(&offsets);
    }

    /// Adds `(number, Partition, start)`; hands out nothing of them before `_resume`. Work on messages from an earlier
    /// ownership still holds commits back, unless the partition starts behind them.
    fn _add(&self, py: Python<'_>, partitions: Vec<(i32, Py<PyAny>, i64)>) -> PyResult<()> {
        let running = self.running(py)?;
        self.pass(&partitions.iter().map(|(number, _, start)| (*number, *start)).collect());
        running.add(py, partitions)
    }

    /// Gives up partitions: hands out nothing of them from now on. With `client` it then commits what the application
    /// is done with, waits for the response, and returns what it has committed.
    fn _remove(
        &self,
        py: Python<'_>,
        client: Option<&Bound<'_, Client>>,
        partitions: Vec<i32>,
    ) -> PyResult<BTreeMap<i32, i64>> {
        let running = self.running(py)?;
        running.pause(py, Some(&partitions))?;
        let mut offsets = running.to_commit();
        offsets.retain(|key, _| partitions.contains(&key.partition));
        if let Some(handout) = self.handout.lock().as_ref() {
            handout.processing.hold_back(&mut offsets);
        }
        // Remove them first, so that an auto-commit that another thread starts meanwhile does not include them.
        running.remove(py, &partitions)?;
        let Some(client) = client else { return Ok(BTreeMap::new()) };
        let committed = offsets.iter().map(|(key, committed)| (key.partition, committed.offset)).collect();
        let commit = running.engine.commit(offsets, running.commit_limit(&self.fence));
        client.get().run(py, commit.map_err(|error| failed(py, &error))?)?;
        Ok(committed)
    }

    /// Hands out no messages, from the very next one on, until `_resume`.
    fn _pause(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py)?.pause(py, None)
    }

    /// Hands out messages of all partitions again.
    fn _resume(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py)?.resume(py)
    }

    /// This thread calls the program's callback, until `_callback_ends`.
    fn _callback_begins(&self, py: Python<'_>) -> PyResult<()> {
        self.caller.begin(py)
    }

    fn _callback_ends(&self) {
        self.caller.end();
    }

    /// The current time in milliseconds, of the clock that `_fence` uses; it keeps running while the process is frozen.
    #[staticmethod]
    fn _now_ms() -> i64 {
        fence::now_ms()
    }

    /// From that time on, nothing is handed out and nothing auto-committed; None: no such time.
    #[pyo3(signature = (at_ms))]
    fn _fence(&self, at_ms: Option<i64>) {
        self.fence.put(at_ms);
    }

    /// Whether that time has come.
    fn _is_fenced(&self) -> bool {
        self.fence.is_reached()
    }

    /// Makes the next `consume` raise this exception.
    fn _raise_later(&self, error: Py<PyAny>) {
        drop(self.pending_error.replace(Some(error)));
    }

    /// Raises that exception now.
    fn _raise_pending(&self, py: Python<'_>) -> PyResult<()> {
        self.raise_pending(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.running.visit(|running| {
            visit.call(&running.settings)?;
            visit.call(&running.commit_failed)?;
            // The garbage collector must not wait. What is not shown counts as in use.
            let Ok(partitions) = running.partitions.try_lock() else { return Ok(()) };
            partitions.values().try_for_each(|partition| visit.call(partition))
        })?;
        self.postponed.visit(|postponed| postponed.iter().try_for_each(|postponed| visit.call(&postponed.error)))?;
        self.pending_error.visit(|pending_error| visit.call(pending_error))
    }
}

impl Consumer {
    fn run(&self, running: Running) {
        let commit_at = running.settings.get().next_commit();
        let running = Arc::new(ForkGuard::new(running));
        closing::remember_member(&running);
        let handout =
            Handout { running: Arc::clone(&running), batch: None, processing: Processing::default(), commit_at };
        drop(self.handout.replace(Some(handout)));
        drop(self.running.replace(Some(running)));
    }

    fn raise_pending(&self, py: Python<'_>) -> PyResult<()> {
        greenlets::know_runner(py)?;
        let postponed = self.postponed.lock().as_mut().and_then(VecDeque::pop_front);
        if let Some(Postponed { error, refused }) = postponed {
            if let (Some((partition, offset)), Some(handout)) = (refused, self.handout.lock().as_mut()) {
                handout.processing.raise(partition, offset);
            }
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        self.pending_error
            .replace(None)
            .map_or(Ok(()), |pending_error| Err(PyErr::from_value(pending_error.into_bound(py))))
    }

    fn running(&self, py: Python<'_>) -> PyResult<Arc<ForkGuard<Running>>> {
        let running = self.running.get().ok_or_else(|| stopped(py))?;
        running.check(py)?;
        Ok(running)
    }

    /// The next message of the current batch.
    #[inline]
    fn next_in_batch<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Message>>> {
        // Filled in place: a message that is returned through each call is copied each time.
        let mut next = None;
        let deserializer = self.take_from_batch(py, |running, batch, partition, processing| {
            let record = batch.next_record()?;
            let number = batch.topic_partition().partition;
            // Runs no Python code: the garbage collector does not track what it makes.
            next = Some(to_message(py, running, batch, &record, number, partition));
            processing.begin(number, record.offset);
            Some(running.settings.get().deserializer.as_ref().map(|deserializer| deserializer.clone_ref(py)))
        })?;
        let Some(mut message) = next else { return Ok(None) };
        if let Some(deserializer) = deserializer.flatten() {
            deserialize(py, &deserializer, &mut message)?;
        }
        message.into_object(py).map(Some)
    }

    /// Lets `take` take what comes next from the current batch and the `Partition` of that; it runs under the lock, and
    /// must not run Python code. If it returns `None`, the batch is finished.
    ///
    /// Before that an auto-commit begins, if it is due. Returns `None` if there is no batch, or nothing may be handed
    /// out.
    #[inline]
    fn take_from_batch<T>(
        &self,
        py: Python<'_>,
        take: impl FnOnce(&Running, &mut Batch, &Py<PyAny>, &mut Processing) -> Option<T>,
    ) -> PyResult<Option<T>> {
        greenlets::know_runner(py)?;
        let mut handout = self.handout.lock();
        if let Some(Handout { running, commit_at, .. }) = handout.as_mut()
            && commit_at.is_some_and(|due| due <= Instant::now())
            && running.is_at_home()
            && !self.fence.is_reached()
        {
            *commit_at = running.settings.get().next_commit();
            let running = Arc::clone(running);
            drop(handout);
            closing::rest_if_exiting(py);
            self.done_with_last();
            self.commit(py, &running)?;
            // Go on with the batch: if a short interval is over at every look, nothing would be handed out otherwise.
            handout = self.handout.lock();
        }
        let Some(Handout { running, batch: current, processing, .. }) = handout.as_mut() else {
            drop(handout);
            return Err(stopped(py));
        };
        if !running.is_at_home() {
            drop(handout);
            return Err(forked(py));
        }
        if self.fence.is_reached() {
            return Ok(None);
        }
        if processing.has_refused() {
            drop(handout);
            return self.raise_pending(py).map(|()| None);
        }
        let Some((batch, partition)) = current else { return Ok(None) };
        let taken = take(running, batch, partition, processing);
        let finished = if taken.is_none() { current.take() } else { None };
        drop(handout);
        drop(finished);
        Ok(taken)
    }
}

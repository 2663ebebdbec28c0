//! A consumer of given partitions, for tasks and for threads.
//!
//! [`Consumer`] shares its machine ([`kavka_core::consumer`]) with one role task on the engine thread, behind one lock.
//! The role task fetches ahead; the caller's thread takes a batch under the lock, and opens and iterates it without.
//! Nobody waits, and nothing is decompressed, while the lock is held.
//!
//! A waiting caller is woken when a batch or an error comes; the role task is woken only while it sleeps and there is
//! something for it to do.

mod commit;
mod machine;
mod record;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Notice, Owner};
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::{
    Consumer as Machine, ConsumerEvent, FetchedBatch, Offsets, RecordCursor, StartPosition, TopicPartition,
};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::wire::records::Decompressor;
use tokio::sync::{Notify, oneshot};

use crate::Client;
use crate::blocking::wait_for;
use crate::driver::{Alive, Driver, TopicHold};
use crate::role::{self, Wake};

pub use commit::Commit;
pub use record::{ConsumerRecord, RecordHeader};
pub use stream::Records;

/// How many resets are kept for [`Consumer::take_resets`].
const MAX_RESETS: usize = 1_000;

/// The position of a partition was moved because there was no such offset (guarantee R15). Worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The offset that the leader said is out of range.
    pub from: i64,
    /// The offset that is read next, by `auto.offset.reset`.
    pub to: i64,
}

struct State {
    machine: Machine,
    errors: VecDeque<Error>,
    resets: VecDeque<Reset>,
    /// Who waits for the outcome of which commit.
    commits: BTreeMap<u64, oneshot::Sender<Result<()>>>,
    /// Why no more records are handed out.
    closed: Option<Error>,
}

struct SharedMachine {
    driver: Driver,
    max_decompressed_batch: usize,
    state: Mutex<State>,
    /// Something may have come for those who wait; free of cost when nobody does.
    arrived: Notify,
    wake: Wake,
    decompressors: Mutex<Vec<Decompressor>>,
    /// What [`Consumer::next_record`] reads from.
    current: Mutex<Option<Batch>>,
    /// The topics that are consumed.
    topics: Mutex<BTreeMap<Arc<str>, TopicHold>>,
}

/// Reads the partitions it is given. Shared by reference among threads and tasks.
///
/// Dropping it stops fetching; what was fetched and not handed out was never read, as far as positions go.
pub struct Consumer {
    shared: Arc<SharedMachine>,
    _alive: Arc<Alive>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("partitions", &self.partitions()).finish_non_exhaustive()
    }
}

impl Client {
    /// A consumer without partitions; it has connections of its own.
    ///
    /// # Errors
    ///
    /// `Config` if a setting is out of range, or if a fetch may return more than `max_response_bytes`.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        config.validate()?;
        let client = self.config();
        let largest = config.fetch_buffer.min(config.fetch_max_bytes as usize);
        if largest > client.max_response_bytes {
            let limit = client.max_response_bytes;
            let what = format!("a fetch may return {largest} bytes, and a response may have {limit}");
            let error = Error::new(ErrorKind::Config, what);
            return Err(error.with_hint("lower fetch.max.bytes or fetch.buffer, or raise max.response.bytes"));
        }
        let backoff = Backoff { initial: client.retry_backoff, max: client.retry_backoff_max };
        let max_decompressed_batch = config.max_decompressed_batch;
        let number = self.driver.next_owner();
        let state = State {
            machine: Machine::new(config, backoff, number, self.driver.next_seed()),
            errors: VecDeque::new(),
            resets: VecDeque::new(),
            commits: BTreeMap::new(),
            closed: None,
        };
        let shared = Arc::new(SharedMachine {
            driver: self.driver.clone(),
            max_decompressed_batch,
            state: Mutex::new(state),
            arrived: Notify::new(),
            wake: Wake::default(),
            decompressors: Mutex::default(),
            current: Mutex::default(),
            topics: Mutex::default(),
        });
        let (running, driver) = (role::start(Arc::clone(&shared)), self.driver.clone());
        self.driver.spawn(async move {
            running.await;
            driver.close_connections(Owner::Fetch(number));
        });
        Ok(Consumer { shared, _alive: Arc::clone(&self.alive) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedMachine {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sorts what the machine reports: the driver's part is returned, to be acted upon without the lock.
    fn drain_events(state: &mut State) -> Vec<Notice> {
        let mut for_driver = Vec::new();
        while let Some(event) = state.machine.poll_event() {
            match event {
                ConsumerEvent::PartitionError { error, .. } | ConsumerEvent::Failed(error) => {
                    state.errors.push_back(error);
                }
                ConsumerEvent::TopicError { error, .. } => {
                    // It is told again and again: once is enough for who does not look.
                    let is_same = |known: &Error| known.kind() == error.kind() && known.place() == error.place();
                    if !state.errors.iter().any(is_same) {
                        state.errors.push_back(error);
                    }
                }
                ConsumerEvent::Reset { topic_partition, from, to } => {
                    if state.resets.len() == MAX_RESETS {
                        state.resets.pop_front();
                    }
                    state.resets.push_back(Reset { topic_partition, from, to });
                }
                ConsumerEvent::Committed { number, outcome } => {
                    if let Some(told) = state.commits.remove(&number) {
                        // Nobody may want to know.
                        drop(told.send(outcome));
                    }
                }
                ConsumerEvent::Notice(notice) => for_driver.push(notice),
            }
        }
        for_driver
    }

    fn act(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.driver.take_notice(notice);
        }
    }

    /// A batch or an error, if there is one; `state` is let go of.
    fn take(&self, mut state: MutexGuard<'_, State>) -> Result<Option<FetchedBatch>> {
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let batch = if state.errors.is_empty() { state.machine.take_batch() } else { None };
        let events = Self::drain_events(&mut state);
        let error = if batch.is_none() { state.errors.pop_front() } else { None };
        let wants_poll = state.machine.wants_poll();
        drop(state);
        self.act(events);
        if wants_poll {
            self.wake.wake();
        }
        error.map_or(Ok(batch), Err)
    }

    /// Opens a batch on the caller's thread. A batch that cannot be opened parks its partition, which is the next error.
    fn open(self: &Arc<Self>, batch: FetchedBatch) -> Option<Batch> {
        let mut decompressor = lock(&self.decompressors).pop().unwrap_or_default();
        let opened = batch.open(&mut decompressor, self.max_decompressed_batch);
        lock(&self.decompressors).push(decompressor);
        match opened {
            Ok(cursor) => Some(Batch { cursor, _released: Released(Arc::clone(self)) }),
            Err(bad) => {
                self.state().machine.handle_bad_batch(*bad);
                None
            }
        }
    }

    fn try_batch(self: &Arc<Self>) -> Result<Option<Batch>> {
        while let Some(batch) = self.take(self.state())? {
            if let Some(batch) = self.open(batch) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    async fn next_batch(self: &Arc<Self>) -> Result<Batch> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(batch) = self.try_batch()? {
                return Ok(batch);
            }
            arrived.await;
        }
    }
}

/// The records of one batch, to be handed out one after the other: see [`RecordCursor`].
///
/// As long as it lives no other batch of its partition is given; what it has not handed out when it is dropped comes
/// again.
#[derive(Debug)]
pub struct Batch {
    cursor: RecordCursor,
    /// Dropped after the cursor, when the partition can be taken from again.
    _released: Released,
}

struct Released(Arc<SharedMachine>);

impl std::fmt::Debug for Released {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Released")
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.arrived.notify_waiters();
    }
}

impl std::ops::Deref for Batch {
    type Target = RecordCursor;

    fn deref(&self) -> &RecordCursor {
        &self.cursor
    }
}

impl std::ops::DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut RecordCursor {
        &mut self.cursor
    }
}

impl Consumer {
    /// Begins to consume a partition.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is consumed already, or if the offset or timestamp is negative; `Broker` for a topic name that
    /// no broker accepts.
    pub fn add(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        crate::check_topic_name(&topic_partition.topic)?;
        self.change(|machine| {
            let is_first = !machine.consumes(&topic_partition.topic);
            machine.add(topic_partition, start)?;
            if is_first {
                let held = self.shared.driver.hold_topic(&topic_partition.topic);
                lock(&self.shared.topics).insert(Arc::clone(&topic_partition.topic), held);
            }
            Ok(())
        })
    }

    /// Ends consuming a partition: no record of it is handed out after this. Returns its position, if it had one.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not consumed.
    pub fn remove(&self, topic_partition: &TopicPartition) -> Result<Option<i64>> {
        self.change(|machine| {
            let position = machine.remove(topic_partition)?;
            if !machine.consumes(&topic_partition.topic) {
                lock(&self.shared.topics).remove(&topic_partition.topic);
            }
            Ok(position)
        })
    }

    /// Goes on from somewhere else, from the very next record. A partition that an error stopped works again.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed, or if the offset or timestamp is negative.
    pub fn seek(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        self.change(|machine| machine.seek(topic_partition, start))
    }

    /// Hands out nothing more of a partition, from the very next record, until [`Consumer::resume`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn pause(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.change(|machine| machine.pause(topic_partition))
    }

    /// Goes on at the position.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn resume(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.change(|machine| machine.resume(topic_partition))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let mut state = self.shared.state();
        let changed = change(&mut state.machine);
        drop(state);
        self.shared.arrived.notify_waiters();
        self.shared.wake.wake();
        changed
    }

    /// Whether a partition is paused.
    pub fn is_paused(&self, topic_partition: &TopicPartition) -> bool {
        self.shared.state().machine.is_paused(topic_partition)
    }

    /// The partitions that are consumed, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.shared.state().machine.partitions().collect()
    }

    /// The offset of the next record to be handed out: what to commit. `None` until the start is found.
    pub fn position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.shared.state().machine.position(topic_partition)
    }

    /// The positions of all partitions whose start was found, at one moment, as they are to be committed.
    pub fn positions(&self) -> Offsets {
        self.shared.state().machine.positions()
    }

    /// How many offsets lie between the position and the end of what can be read, as last heard of.
    pub fn lag(&self, topic_partition: &TopicPartition) -> Option<u64> {
        self.shared.state().machine.lag(topic_partition)
    }

    /// The offset behind the last record that is on every in-sync replica, as last heard of.
    pub fn high_watermark(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.shared.state().machine.high_watermark(topic_partition)
    }

    /// The resets since the last call, oldest first; at most the last 1,000.
    pub fn take_resets(&self) -> Vec<Reset> {
        self.shared.state().resets.drain(..).collect()
    }

    /// The next batch if one is buffered, without waiting.
    ///
    /// # Errors
    ///
    /// What stopped a partition, once; others go on. `Closed` after [`Consumer::close`].
    pub fn try_batch(&self) -> Result<Option<Batch>> {
        self.shared.try_batch()
    }

    /// Waits up to `limit` for a batch; for threads. `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`].
    pub fn wait_batch(&self, limit: Duration) -> Result<Option<Batch>> {
        // Most often there is something, and nobody needs a waker.
        if let Some(batch) = self.try_batch()? {
            return Ok(Some(batch));
        }
        wait_for(self.next_batch(), limit).transpose()
    }

    /// Waits for a batch; for tasks of any runtime. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`].
    pub fn next_batch(&self) -> impl Future<Output = Result<Batch>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.next_batch().await }
    }

    /// Waits up to `limit` for one record, copied or shared as [`ConsumerRecord`] says. `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`].
    pub fn wait_record(&self, limit: Duration) -> Result<Option<ConsumerRecord>> {
        Ok(self.wait_records(1, limit)?.pop())
    }

    /// Waits up to `limit` for records and returns up to `max` of those that are there.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`]; one that is found behind some records is kept for the next call.
    pub fn wait_records(&self, max: usize, limit: Duration) -> Result<Vec<ConsumerRecord>> {
        let mut records = Vec::new();
        let mut current = lock(&self.shared.current).take();
        while records.len() < max {
            if let Some(batch) = &mut current
                && let Some(view) = batch.next_record()
            {
                records.push(ConsumerRecord::new(batch, &view));
                continue;
            }
            // Its partition cannot be taken from while the finished batch is held.
            drop(current.take());
            let next = if records.is_empty() { self.wait_batch(limit) } else { self.try_batch() };
            current = match next {
                Ok(next) => next,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    self.shared.state().errors.push_front(error);
                    None
                }
            };
            if current.is_none() {
                break;
            }
        }
        *lock(&self.shared.current) = current;
        Ok(records)
    }

    /// Stops fetching and wakes everyone who waits; every later call for records is refused. Does not block.
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.closed.get_or_insert_with(|| Error::new(ErrorKind::Closed, "the consumer was closed"));
        let keys: Vec<TopicPartition> = state.machine.partitions().collect();
        for key in &keys {
            // It is one of those that are consumed, so this cannot be refused.
            drop(state.machine.pause(key));
        }
        drop(state);
        drop(lock(&self.shared.current).take());
        lock(&self.shared.topics).clear();
        self.shared.arrived.notify_waiters();
        self.shared.wake.wake();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}

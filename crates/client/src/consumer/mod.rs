//! A consumer of given partitions, for async tasks and for threads.
//!
//! [`Consumer`] shares its machine ([`kavka_core::consumer`]) with a role task on the engine thread; a lock protects
//! it. The role task fetches ahead. The caller's thread takes a batch under the lock, then opens and iterates it
//! without. Nothing waits and nothing is decompressed under the lock.
//!
//! A waiting caller is woken when a batch or an error arrives. The role task is woken only if it sleeps and has
//! something to do.

mod batch;
mod commit;
mod errors;
mod fence;
mod group;
mod machine;
mod record;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Notice, Owner};
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::{
    Consumer as Machine, ConsumerEvent, FetchedBatch, Offsets, PartitionId, StartPosition, TopicPartition,
};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::wire::records::Decompressor;
use tokio::sync::{Notify, oneshot};

use crate::Client;
use crate::driver::clock::Clock;
use crate::driver::{Alive, Driver, TopicHold};
use crate::role::{self, Wake};

pub use batch::Batch;
pub use commit::Commit;
pub use group::{Acknowledgement, Acknowledgements, CustomAssignor, GroupConsumer, GroupOptions, RebalanceListener};
pub use record::{ConsumerRecord, RecordHeader};
pub use stream::Records;

/// How many resets are kept for [`Consumer::take_resets`]; older ones are dropped.
const MAX_RESETS: usize = 1_000;

/// A partition's position was moved because the leader did not have the offset (guarantee R15). Worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The offset that is out of range.
    pub from: i64,
    /// The offset to be read next, as `auto.offset.reset` decides.
    pub to: i64,
}

struct State {
    machine: Machine,
    errors: errors::Errors,
    resets: VecDeque<Reset>,
    /// Who waits for the outcome of each commit.
    commits: BTreeMap<u64, oneshot::Sender<Result<()>>>,
    /// With a group: partitions whose position was found, until the member takes this list.
    located: Vec<TopicPartition>,
    /// Why no more records are handed out; `None` while the consumer is open.
    closed: Option<Error>,
}

struct SharedMachine {
    driver: Driver,
    max_decompressed_batch: usize,
    state: Mutex<State>,
    /// Notified when a batch or an error may have arrived; costs nothing if nobody waits.
    arrived: Notify,
    wake: Wake,
    fence: fence::Fence,
    decompressors: Mutex<Vec<Decompressor>>,
    /// The batch that [`Consumer::next_records`] reads from.
    current: Mutex<Option<Batch>>,
    /// What the application still works on: for each partition, the offset of the first record that the last call of
    /// [`Consumer::next_records`] returned. The id tells a partition from itself after it was removed and added again.
    working: Mutex<BTreeMap<TopicPartition, (PartitionId, i64)>>,
    /// The topics of the consumed partitions.
    topics: Mutex<BTreeMap<Arc<str>, TopicHold>>,
    /// How many calls have asked for batches, and how many are waiting for one.
    asked: AtomicU64,
    waiting: AtomicUsize,
    /// Wakes the task of the group's member, if one reads with this consumer.
    member: OnceLock<Arc<Wake>>,
    /// Whether the next call for batches must wake it.
    wakes_member: AtomicBool,
    /// How many changes there were of the machine; tests use it to measure work.
    #[cfg(test)]
    changes: AtomicUsize,
}

/// Reads given partitions. Threads and tasks may share it by reference.
///
/// Dropping it stops fetching. Records that were fetched but not handed out do not count as read.
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
    /// Makes a consumer without partitions; it has connections of its own.
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
            errors: errors::Errors::default(),
            resets: VecDeque::new(),
            commits: BTreeMap::new(),
            located: Vec::new(),
            closed: None,
        };
        let shared = Arc::new(SharedMachine {
            driver: self.driver.clone(),
            max_decompressed_batch,
            state: Mutex::new(state),
            arrived: Notify::new(),
            wake: Wake::default(),
            fence: fence::Fence::new(Clock::new(self.driver.now())),
            decompressors: Mutex::default(),
            current: Mutex::default(),
            working: Mutex::default(),
            topics: Mutex::default(),
            asked: AtomicU64::default(),
            waiting: AtomicUsize::default(),
            member: OnceLock::new(),
            wakes_member: AtomicBool::default(),
            #[cfg(test)]
            changes: AtomicUsize::default(),
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

    /// Handles the machine's events. Returns those for the driver, to be handled without the lock.
    fn drain_events(&self, state: &mut State) -> Vec<Notice> {
        let mut for_driver = Vec::new();
        while let Some(event) = state.machine.poll_event() {
            match event {
                ConsumerEvent::PartitionError { error, .. }
                | ConsumerEvent::TopicError { error, .. }
                | ConsumerEvent::Failed(error) => state.errors.put(error),
                ConsumerEvent::Reset { topic_partition, from, to } => {
                    if state.resets.len() == MAX_RESETS {
                        state.resets.pop_front();
                    }
                    state.resets.push_back(Reset { topic_partition, from, to });
                }
                ConsumerEvent::Committed { number, outcome } => {
                    if let Some(sender) = state.commits.remove(&number) {
                        // The receiver may be gone: nobody has to wait for the outcome.
                        drop(sender.send(outcome));
                    }
                }
                ConsumerEvent::Located(key) => {
                    if let Some(member) = self.member.get() {
                        state.located.push(key);
                        member.wake();
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

    /// Takes a batch or an error, if there is one; releases the lock.
    fn take(&self, mut state: MutexGuard<'_, State>) -> Result<Option<FetchedBatch>> {
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let batch = if state.errors.is_empty() { state.machine.take_batch() } else { None };
        let events = self.drain_events(&mut state);
        let error = if batch.is_none() { state.errors.take() } else { None };
        let wants_poll = state.machine.wants_poll();
        drop(state);
        self.act(events);
        if wants_poll {
            self.wake.wake();
        }
        error.map_or(Ok(batch), Err)
    }

    /// Opens a batch on the caller's thread. If that fails, the partition is parked, and the next call returns the
    /// error.
    fn open(self: &Arc<Self>, batch: FetchedBatch) -> Option<Batch> {
        let mut decompressor = lock(&self.decompressors).pop().unwrap_or_default();
        let opened = batch.open(&mut decompressor, self.max_decompressed_batch);
        lock(&self.decompressors).push(decompressor);
        match opened {
            Ok(cursor) => Some(Batch::new(cursor, Arc::clone(self))),
            Err(bad) => {
                self.state().machine.handle_bad_batch(*bad);
                None
            }
        }
    }

    fn try_batch(self: &Arc<Self>) -> Result<Option<Batch>> {
        // The member's task sets the flag and then reads the counter; this does the reverse. So either this call wakes
        // the task, or the task sees the call.
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.wakes_member.load(Ordering::SeqCst)
            && self.wakes_member.swap(false, Ordering::SeqCst)
            && let Some(member) = self.member.get()
        {
            member.wake();
        }
        while let Some(batch) = self.take(self.state())? {
            if self.fence.is_reached() {
                // Whoever waits is woken again when the partition is taken away.
                return Ok(None);
            }
            if let Some(batch) = self.open(batch) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Records that are there, at most `max`; does not wait. See [`Consumer::next_records`].
    fn try_records(self: &Arc<Self>, max: usize) -> Result<Vec<ConsumerRecord>> {
        let mut records = Vec::new();
        let mut current = lock(&self.current).take().filter(|_| !self.fence.is_reached());
        // By asking for more, the caller says that it is done with the earlier records.
        if let Some(batch) = &current {
            batch.settle();
        }
        lock(&self.working).clear();
        let mut is_new = true;
        while records.len() < max {
            if let Some(batch) = &mut current
                && let Some(view) = batch.next_record()
            {
                if std::mem::take(&mut is_new) {
                    let key = batch.topic_partition().clone();
                    lock(&self.working).entry(key).or_insert((batch.partition_id(), view.offset));
                }
                records.push(ConsumerRecord::new(batch, &view));
                continue;
            }
            // While the finished batch is held, no other batch of its partition is handed out.
            drop(current.take());
            is_new = true;
            current = match self.try_batch() {
                Ok(next) => next,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    self.state().errors.put_back(error);
                    None
                }
            };
            if current.is_none() {
                break;
            }
        }
        *lock(&self.current) = current;
        Ok(records)
    }

    /// Waits until `look` finds something. It looks again whenever a batch or an error may have arrived.
    async fn wait_until<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let _waits = WaitingCaller::new(&self.waiting);
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(found) = look()? {
                return Ok(found);
            }
            arrived.await;
        }
    }
}

/// Counts a caller as waiting for a batch.
struct WaitingCaller<'a>(&'a AtomicUsize);

impl<'a> WaitingCaller<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Consumer {
    /// Starts consuming a partition.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is consumed already, or if the offset or timestamp is negative; `Broker` if no broker would
    /// accept the topic's name.
    pub fn add(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        self.begin(topic_partition, start, |_| Ok(()))
    }

    /// Like [`Consumer::add`], but hands out no records of the partition until [`Consumer::resume`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::add`].
    pub fn add_paused(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        self.begin(topic_partition, start, |machine| machine.pause(topic_partition))
    }

    /// Adds a partition and applies `stop` to it in the same change: between two changes a fetch could begin.
    fn begin(
        &self,
        topic_partition: &TopicPartition,
        start: StartPosition,
        stop: impl FnOnce(&mut Machine) -> Result<()>,
    ) -> Result<()> {
        self.change(|machine| self.begin_in(machine, topic_partition, start, stop))
    }

    fn begin_in(
        &self,
        machine: &mut Machine,
        topic_partition: &TopicPartition,
        start: StartPosition,
        stop: impl FnOnce(&mut Machine) -> Result<()>,
    ) -> Result<()> {
        crate::check_topic_name(&topic_partition.topic)?;
        let is_first = !machine.consumes(&topic_partition.topic);
        machine.add(topic_partition, start)?;
        stop(machine)?;
        if is_first {
            let held = self.shared.driver.hold_topic(&topic_partition.topic);
            lock(&self.shared.topics).insert(Arc::clone(&topic_partition.topic), held);
        }
        Ok(())
    }

    /// Stops consuming a partition: no record of it is handed out from now on. Returns its position, if known.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not consumed.
    pub fn remove(&self, topic_partition: &TopicPartition) -> Result<Option<i64>> {
        self.change(|machine| self.remove_in(machine, topic_partition))
    }

    fn remove_in(&self, machine: &mut Machine, topic_partition: &TopicPartition) -> Result<Option<i64>> {
        let position = machine.remove(topic_partition)?;
        if !machine.consumes(&topic_partition.topic) {
            lock(&self.shared.topics).remove(&topic_partition.topic);
        }
        Ok(position)
    }

    /// Moves the position, from the very next record on. A partition that was stopped by an error works again.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed, or if the offset or timestamp is negative.
    pub fn seek(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        self.change(|machine| machine.seek(topic_partition, start))?;
        lock(&self.shared.working).remove(topic_partition);
        Ok(())
    }

    /// Hands out no records of a partition, from the very next one on, until [`Consumer::resume`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn pause(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.change(|machine| machine.pause(topic_partition))
    }

    /// Ends a [`Consumer::pause`]: goes on at the position.
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not consumed.
    pub fn resume(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.change(|machine| machine.resume(topic_partition))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        #[cfg(test)]
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
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

    /// The partitions that are consumed, sorted.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.shared.state().machine.partitions().collect()
    }

    /// The offset of the next record to hand out, which is the offset to commit. `None` until the start offset is
    /// known.
    pub fn position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.shared.state().machine.position(topic_partition)
    }

    /// The positions of all partitions whose start offset is known, all of the same moment, ready to be committed.
    pub fn positions(&self) -> Offsets {
        self.shared.state().machine.positions()
    }

    /// How many offsets lie between the position and the end of what can be read, by the last response.
    pub fn lag(&self, topic_partition: &TopicPartition) -> Option<u64> {
        self.shared.state().machine.lag(topic_partition)
    }

    /// The high watermark in the last response: the offset behind the last record that all in-sync replicas have.
    pub fn high_watermark(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.shared.state().machine.high_watermark(topic_partition)
    }

    /// The resets since the last call, oldest first; only the last 1,000 are kept.
    pub fn take_resets(&self) -> Vec<Reset> {
        self.shared.state().resets.drain(..).collect()
    }

    /// The next batch, if one is buffered; does not wait.
    ///
    /// # Errors
    ///
    /// The error that stopped a partition, once; other partitions go on. `Closed` after [`Consumer::close`].
    pub fn try_batch(&self) -> Result<Option<Batch>> {
        self.shared.try_batch()
    }

    /// Waits for a batch; for tasks of any async runtime. Dropping the future loses no record.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`].
    pub fn next_batch(&self) -> impl Future<Output = Result<Batch>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.wait_until(|| shared.try_batch()).await }
    }

    /// The records that are buffered, at most `max`; does not wait. [`ConsumerRecord`] says when a record is a copy.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_batch`]. An error found after some records is kept for the next call.
    pub fn try_records(&self, max: usize) -> Result<Vec<ConsumerRecord>> {
        self.shared.try_records(max)
    }

    /// Waits for records; returns those that are there, at most `max` and at least one (with `max` 0, none). Dropping
    /// the future loses no record.
    ///
    /// A group's automatic commit leaves these records out until the next call: by asking for more, the caller says
    /// that it is done with them.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_records`].
    pub fn next_records(
        &self,
        max: usize,
    ) -> impl Future<Output = Result<Vec<ConsumerRecord>>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let look = || shared.try_records(max).map(|records| (max == 0 || !records.is_empty()).then_some(records));
            shared.wait_until(look).await
        }
    }

    /// Stops fetching, and wakes all waiting callers; later calls for records fail. Does not block.
    pub fn close(&self) {
        self.end(Error::new(ErrorKind::Closed, "the consumer was closed"));
    }

    /// As [`Consumer::close`]; later calls for records return this error.
    fn end(&self, why: Error) {
        let mut state = self.shared.state();
        state.closed.get_or_insert(why);
        let keys: Vec<TopicPartition> = state.machine.partitions().collect();
        for key in &keys {
            // Cannot fail: the partition is being consumed.
            drop(state.machine.pause(key));
        }
        drop(state);
        drop(lock(&self.shared.current).take());
        self.shared.arrived.notify_waiters();
        self.shared.wake.wake();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kavka_broker::serve::{Broker, Options};
    use kavka_core::consumer::Done;

    use super::*;
    use crate::{ClientConfig, ProducerConfig, Record, blocking};

    #[test]
    fn a_partition_without_a_place_to_begin_is_never_seen_unpaused_while_it_is_added() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let key = TopicPartition::new("orders", 0);
        let (is_done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let state = consumer.shared.state();
                    if state.machine.consumes("orders") && !state.machine.is_paused(&key) {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..2_000 {
                assert!(consumer.add_for_group(&[(key.clone(), None)], true).into_iter().all(|added| added.is_ok()));
                consumer.remove_for_group(std::slice::from_ref(&key));
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(seen.into_inner(), 0);
    }

    #[test]
    fn records_are_worked_on_until_more_are_asked_for_although_their_batch_has_ended() {
        let broker = Broker::start(Options::default()).unwrap();
        let client = blocking::Client::connect(&broker.bootstrap_servers()).unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let topic = producer.topic("orders", true).unwrap();
        let record = Record { partition: Some(0), ..Record::new(b"v") };
        for _ in 0..3 {
            producer.send(topic, &record).unwrap().wait().unwrap();
        }
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let key = TopicPartition::new("orders", 0);
        consumer.add(&key, StartPosition::Offset(0)).unwrap();
        let done = || match consumer.done(&key) {
            Done::Until(done) | Done::ForNow(Some(done)) => Some(done.offset),
            Done::Nothing | Done::ForNow(None) => None,
        };
        let mut read = 0;
        while read < 3 {
            let records = consumer.next_records(10, Duration::from_secs(20)).unwrap();
            assert_eq!(done(), Some(read), "the application works on {} records", records.len());
            read += i64::try_from(records.len()).unwrap();
        }
        assert!(consumer.next_records(10, Duration::ZERO).unwrap().is_empty());
        assert_eq!(done(), Some(3));
    }
}

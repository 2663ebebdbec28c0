//! The producer as a program uses it.
//!
//! This is a thin layer. [`kavka_core::producer::Producer`] has the rules. Producers of a client with equal settings
//! share one such machine behind a lock (`machine`): callers take the lock to append, the machine's task to ask what to
//! send. This layer adds waiting: for metadata, for memory, for reports.

mod compression;
mod delivery;
mod kept;
mod machine;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Result, Written};
use kavka_core::producer::{AppendError, DELETED_AFTER, FlushMark, HandleId, TopicIndex};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::records::{Compressor, Header};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::driver::clock;
use crate::driver::{BoxFuture, Driver};
use crate::role;

pub use delivery::Delivery;
use kept::KeptRecord;
use machine::{Reported, SharedMachine, answer_limit};

/// A record to send. It borrows everything. Accepting it makes one copy ([`Producer::send`] makes another one if it
/// must wait for buffer memory).
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// The key; `None` is null. Without a `partition`, the key decides on it as in Kafka's Java client (murmur2).
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; keys may repeat.
    pub headers: &'a [Header<'a>],
    /// The partition; `None`: chosen by the key or, without a key, so that batches fill up.
    pub partition: Option<i32>,
    /// The timestamp in milliseconds since 1970; `None`: now, to within a few milliseconds. A negative one is refused,
    /// as by Java's client. How far in the future it may be is up to the broker: Kafka 4 refuses a record from more
    /// than an hour ahead, and that record alone (`message.timestamp.after.max.ms`); Kafka 3 takes any.
    pub timestamp_ms: Option<i64>,
}

/// A topic of one producer; from [`Producer::topic`]. Other producers refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTopic {
    /// The [`Handle::number`] of its producer.
    producer: u64,
    index: TopicIndex,
}

/// Sends records to topics of one cluster. Cheap to clone; all clones are the same producer.
///
/// Producers of one client with equal settings share their requests, so a thousand of them cost hardly more than one.
/// Each has its own topics, reports and limit on records, and is flushed and closed on its own.
///
/// If the last clone is dropped without [`close`](Self::close), what is buffered is still sent, within
/// `delivery.timeout.ms` and as long as the process runs.
#[derive(Debug, Clone)]
pub struct Producer(Arc<Handle>);

/// The number of the next producer.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Held by the clones of one producer only.
#[derive(Debug)]
struct Handle {
    machine: Arc<SharedMachine>,
    id: HandleId,
    /// Unique in this process.
    number: u64,
    reported: Reported,
    client: Client,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let now = self.machine.clock.now();
        self.machine.with(|machine| machine.release(now, self.id));
        self.machine.wake();
    }
}

impl Handle {
    /// Fails what is not acknowledged, because the time limit of the close is over.
    fn abandon(&self) -> Error {
        let now = self.machine.driver.now();
        let error = self.machine.with(|machine| {
            let left = machine.queued_records(self.id);
            let records = if left == 1 { "record was" } else { "records were" };
            let what = format!("{left} {records} not acknowledged before the time to close was over");
            let error = Error::new(ErrorKind::TimedOut(Phase::Close), what);
            let written = machine.written(self.id);
            machine.abandon(now, self.id, &error);
            error.with_written(written)
        });
        self.machine.wake();
        error
    }

    #[inline]
    fn try_append(&self, topic: ProducerTopic, record: &Record<'_>) -> std::result::Result<Delivery, AppendError> {
        if topic.producer != self.number {
            return Err(AppendError::Refused(foreign_topic()));
        }
        let timestamp_ms = match record.timestamp_ms {
            Some(chosen) if chosen < 0 => return Err(AppendError::Refused(before_1970(chosen))),
            Some(chosen) => chosen,
            None => clock::timestamp_ms(),
        };
        let now = self.machine.clock.now();
        let Record { partition, key, value, headers, timestamp_ms: chosen } = *record;
        let append = || {
            self.machine.with(|machine| match chosen {
                Some(_) => machine.append_at(now, topic.index, partition, timestamp_ms, key, value, headers),
                None => machine.append(now, topic.index, partition, timestamp_ms, key, value, headers),
            })
        };
        let mut appended = append();
        if let Err(AppendError::NoSuchPartition(_)) = appended {
            // The partition may be in a newer snapshot that the machine has not seen.
            let metadata = self.machine.driver.metadata();
            self.machine.with(|machine| machine.handle_metadata(now, &metadata));
            appended = append();
        }
        match appended {
            Ok(appended) => {
                if appended.wake {
                    self.machine.wake();
                }
                Ok(Delivery { completion: appended.completion, index: appended.index, timestamp_ms })
            }
            // Waiting for memory does not create a partition.
            Err(AppendError::NoSuchPartition(error)) => Err(AppendError::Refused(error)),
            Err(error) => {
                // The machine has ended the linger of what is buffered; wake its task to send it, which frees memory.
                self.machine.wake();
                if matches!(error, AppendError::BufferFull) {
                    self.machine.memory.expedite();
                }
                Err(error)
            }
        }
    }

    /// The outcome of an attempt to accept a record; `None` if it must wait for room, unless this is the last attempt.
    fn append_unless_full(&self, topic: ProducerTopic, record: &Record<'_>, is_last: bool) -> Option<Result<Delivery>> {
        match self.try_append(topic, record) {
            Ok(delivery) => Some(Ok(delivery)),
            Err(AppendError::Refused(error)) => Some(Err(error)),
            Err(error) => is_last.then(|| Err(refused(error))),
        }
    }
}

#[cold]
fn before_1970(timestamp_ms: i64) -> Error {
    let what = format!("the timestamp of a record is a number of milliseconds since 1970, not {timestamp_ms}");
    Error::new(ErrorKind::Misuse, what).with_written(Written::No).with_hint("leave it out for the current time")
}

#[cold]
fn foreign_topic() -> Error {
    let what = "the topic was opened with another producer, and this one would send the record elsewhere";
    Error::new(ErrorKind::Misuse, what).with_written(Written::No).with_hint("open it with this producer")
}

/// Runs a future on the engine thread, and waits for it in any executor.
async fn on_engine<T: Send + 'static>(driver: &Driver, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    driver.spawn(async move {
        // The receiver may be gone, if the caller gave up.
        drop(sender.send(future.await));
    });
    receiver.await.ok()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}

fn refused(error: AppendError) -> Error {
    match error {
        AppendError::Refused(error) | AppendError::NoSuchPartition(error) => error,
        AppendError::NoMetadata => {
            Error::new(ErrorKind::TimedOut(Phase::Metadata), "nothing is known of the topic yet")
        }
        AppendError::BufferFull => {
            Error::new(ErrorKind::BufferFull, "buffer.memory is used up by records that are not acknowledged yet")
                .with_hint("wait for reports, raise buffer.memory, or see whether the brokers answer")
        }
        AppendError::TooManyRecords(limit) => {
            let what = format!("{limit} records are not acknowledged yet, and max.queued.records allows no more");
            Error::new(ErrorKind::BufferFull, what)
                .with_hint("wait for reports, raise max.queued.records, or see whether the brokers answer")
        }
    }
}

/// How long a leader may wait for its replicas: so long that its answer still comes within the limit of the request.
/// After that the connection would be given up, with all that other partitions have in flight on it.
fn patience_of_leaders(answer_limit: Duration) -> Duration {
    answer_limit / 5 * 4
}

impl Client {
    /// Makes a producer. It shares the client's `buffer.memory` with all the client's producers, and requests with
    /// those that have equal settings.
    ///
    /// # Errors
    ///
    /// `Config` if a setting is invalid.
    pub fn producer(&self, mut config: ProducerConfig) -> Result<Producer> {
        config.validate()?;
        config.ack_timeout = config.ack_timeout.min(patience_of_leaders(answer_limit(self.config(), &config)));
        let compressor = Compressor::new(config.compression)?;
        let max_queued_records = config.max_queued_records.take();
        let (machine, (id, reported)) = self.memory.tenant(
            |machine: &Arc<SharedMachine>| machine.open(&config, max_queued_records),
            || {
                let machine = Arc::new(SharedMachine::new(self, config.clone(), compressor));
                let handle = machine.open_first(max_queued_records);
                let (running, alive) = (role::start(Arc::clone(&machine)), Arc::clone(&self.alive));
                let (driver, number) = (self.driver.clone(), machine.number);
                self.driver.spawn(async move {
                    running.await;
                    driver.free_producer_number(number);
                    drop(alive);
                });
                (machine, handle)
            },
        );
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Producer(Arc::new(Handle { machine, id, number, reported, client: self.clone() })))
    }
}

impl Producer {
    /// Waits up to `max.block.ms` until a topic is known. With `create`, the brokers may create it.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`].
    pub fn topic(
        &self,
        name: &str,
        create: bool,
    ) -> impl Future<Output = Result<ProducerTopic>> + Send + 'static + use<> {
        let (producer, name, found) = (self.clone(), name.to_owned(), self.0.client.topic(name, create));
        async move {
            let Handle { machine, id, number, .. } = &*producer.0;
            on_engine(&machine.driver, found).await.unwrap_or_else(|| Err(closed()))?;
            machine.hold_topic(*id, &name);
            // Take the snapshot under the lock; otherwise the machine may have seen a newer one already.
            let index =
                machine.with(|shared| shared.topic(machine.clock.now(), *id, &name, &machine.driver.metadata()));
            Ok(ProducerTopic { producer: *number, index })
        }
    }

    /// How many partitions the topic has.
    pub fn partition_count(&self, topic: ProducerTopic) -> u32 {
        self.0.machine.with(|machine| machine.partition_count(topic.index))
    }

    /// Accepts a record, or fails at once.
    ///
    /// # Errors
    ///
    /// `BufferFull` if it would have to wait. Otherwise the record can never be accepted: it is too large
    /// (`MESSAGE_TOO_LARGE`), there is no such partition (`Misuse`), the producer is closed (`Closed`), or the producer
    /// has failed for good.
    #[inline]
    pub fn try_send(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        self.0.try_append(topic, record).map_err(refused)
    }

    /// Accepts a record; waits up to `max.block.ms` while the metadata lacks the topic or the buffer is full.
    ///
    /// If there is room, the call itself accepts the record, before the future is polled. If not, the future keeps a
    /// copy of the record and accepts it while being polled. Await it before the next `send`: otherwise later records
    /// may overtake this one, and dropping the future drops the record.
    ///
    /// The [`Delivery`] is ready when the record has its outcome; the record is sent whether or not it is awaited.
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Self::try_send), and of [`Client::topic`] if the topic is gone.
    #[inline]
    pub fn send(
        &self,
        topic: ProducerTopic,
        record: &Record<'_>,
    ) -> impl Future<Output = Result<Delivery>> + Send + 'static + use<> {
        let accepted = match self.0.try_append(topic, record) {
            Ok(delivery) => Ok(Ok(delivery)),
            Err(AppendError::Refused(error)) => Ok(Err(error)),
            Err(_) => Err(self.send_when_there_is_room(topic, record)),
        };
        async move {
            match accepted {
                Ok(outcome) => outcome,
                Err(waiting) => waiting.await,
            }
        }
    }

    #[cold]
    fn send_when_there_is_room(
        &self,
        topic: ProducerTopic,
        record: &Record<'_>,
    ) -> BoxFuture<'static, Result<Delivery>> {
        let (producer, kept) = (self.clone(), KeptRecord::new(record));
        Box::pin(async move {
            let headers = kept.headers();
            producer.wait_and_append(topic, &kept.record(&headers)).await
        })
    }

    async fn wait_and_append(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        let handle = &*self.0;
        let driver = &handle.machine.driver;
        let deadline = driver.now() + handle.client.max_block();
        loop {
            let ticket = handle.machine.memory.ticket();
            if let Some(outcome) = handle.append_unless_full(topic, record, deadline <= driver.now()) {
                return outcome;
            }
            let left = deadline.since(driver.now());
            if let Some(found) = self.find_missing_topic(topic) {
                let engine = driver.clone();
                let found = on_engine(driver, async move { engine.within(left, found).await });
                found.await.ok_or_else(closed)?.unwrap_or_else(|| Err(refused(AppendError::NoMetadata)))?;
                continue;
            }
            let room = Arc::clone(&handle.machine.memory.room);
            driver.within(left, room.freed(ticket)).await;
        }
    }

    /// For [`blocking`](crate::blocking): accepts a record; blocks the thread for up to `limit` while the buffer is
    /// full.
    pub(crate) fn block_and_append(
        &self,
        topic: ProducerTopic,
        record: &Record<'_>,
        limit: Duration,
    ) -> Result<Delivery> {
        let handle = &*self.0;
        let driver = &handle.machine.driver;
        let deadline = driver.now() + limit;
        loop {
            let ticket = handle.machine.memory.ticket();
            let left = deadline.since(driver.now());
            if let Some(outcome) = handle.append_unless_full(topic, record, left.is_zero()) {
                return outcome;
            }
            match self.find_missing_topic(topic) {
                Some(found) => match handle.client.start(found).wait(Some(left)) {
                    Some(found) => found?,
                    None => return Err(refused(AppendError::NoMetadata)),
                },
                None => handle.machine.memory.room.wait(ticket, left),
            }
        }
    }

    /// Looks a topic up that the metadata lacks, for up to `max.block.ms`; `None` if the metadata has it. A record for
    /// it waits for this first, and then for room, as with Kafka's Java client: room would not help it.
    ///
    /// The topic was found before, so one broker that lags behind is not believed that it is gone: it counts as deleted
    /// only after as long a time as for records that are accepted already.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`].
    #[doc(hidden)]
    pub fn find_missing_topic(
        &self,
        topic: ProducerTopic,
    ) -> Option<impl Future<Output = Result<()>> + Send + 'static + use<>> {
        let machine = Arc::clone(&self.0.machine);
        let name = machine.with(|machine| machine.missing_topic(topic.index))?;
        let client = self.0.client.clone();
        Some(async move {
            let counts_from = machine.driver.now() + DELETED_AFTER;
            let is_early = |error: &Error| {
                error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) && machine.driver.now() < counts_from
            };
            while let Err(error) = client.topic(&name, false).await {
                if !is_early(&error) {
                    return Err(error);
                }
            }
            let (now, metadata) = (machine.clock.now(), machine.driver.metadata());
            machine.with(|machine| machine.handle_metadata(now, &metadata));
            Ok(())
        })
    }

    /// The time limit of a `send`: `max.block.ms`.
    pub(crate) fn max_block(&self) -> Duration {
        self.0.client.max_block()
    }

    /// Sends everything accepted so far at once, without lingering. Does not wait.
    pub fn expedite(&self) {
        self.start_flush();
    }

    fn start_flush(&self) -> FlushMark {
        let Handle { machine, id, .. } = &*self.0;
        let mark = machine.with(|shared| shared.flush(machine.clock.now(), *id));
        machine.wake();
        mark
    }

    /// Sends everything accepted so far, and waits until each record is stored or has failed.
    ///
    /// It takes at most `delivery.timeout.ms`, because every record has its outcome by then.
    pub fn flush(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mark = self.start_flush();
        let mut reported = self.0.reported.clone();
        async move {
            // An error means that the machine has ended, and so everything is reported.
            drop(reported.wait_for(|reported| *reported >= mark).await);
        }
    }

    /// Refuses further records, sends what is buffered, and waits up to `limit` until each record is stored or has
    /// failed.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the limit: the remaining records were given up, and are reported as failed.
    pub fn close(&self, limit: Duration) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let Handle { machine, id, .. } = &*self.0;
        machine.with(|shared| shared.close(machine.clock.now(), *id));
        // Wakes callers that wait for memory: they will get none.
        machine.memory.room.signal();
        let flushed = self.flush();
        let (producer, driver) = (self.clone(), machine.driver.clone());
        let waiting = driver.clone();
        async move {
            let closing = on_engine(&driver, async move {
                if waiting.within(limit, flushed).await.is_some() {
                    return Ok(());
                }
                let error = producer.0.abandon();
                producer.flush().await;
                Err(error.with_hint("allow more time, or look at the reports for what may have been written"))
            });
            closing.await.unwrap_or_else(|| Err(closed()))
        }
    }

    /// How many accepted records are not reported yet.
    pub fn queued_records(&self) -> usize {
        self.0.machine.with(|machine| machine.queued_records(self.0.id))
    }
}

//! The producer as a program holds it.
//!
//! A thin layer: [`kavka_core::producer::Producer`] has the rules and is behind one lock; callers take it to append,
//! and the role task (`task`) takes it to ask what to send. What is added here is waiting: for metadata, for memory,
//! for reports.

mod delivery;
mod room;
mod task;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Result};
use kavka_core::producer::{AppendError, FlushMark, Producer as Machine, TopicIndex};
use kavka_core::wire::records::{Compression, CompressionType, Compressor, Header};
use tokio::sync::{oneshot, watch};

use crate::client::Client;
use crate::driver::Driver;
use crate::driver::clock::{self, Clock};
use crate::role::{self, Wake};

pub use delivery::Delivery;
pub(crate) use room::Memory;

/// An answer is waited for at least this long, however little time its records have: giving up ends a connection that
/// other producers of the client use too.
const SHORTEST_ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A record to send. Everything is borrowed, and copied once while it is accepted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// Its key; `None` is null. Without a `partition` it decides about it, as in Java's client (murmur2).
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order; a key may occur more than once.
    pub headers: &'a [Header<'a>],
    /// Where it goes; `None` leaves the choice to the key, or to what fills batches best.
    pub partition: Option<i32>,
    /// Its time in milliseconds since 1970; `None` is now, to a few milliseconds.
    pub timestamp_ms: Option<i64>,
}

/// A topic as one producer knows it; from [`Producer::topic`], and of no use with another producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTopic(TopicIndex);

/// Sends records to topics of one cluster. Cheap to clone; every clone is the same producer.
///
/// When the last clone is dropped without [`close`](Self::close), what is buffered is still sent, as long as the
/// process runs and within `delivery.timeout.ms`.
#[derive(Debug, Clone)]
pub struct Producer(Arc<Holder>);

/// Held by the clones of one producer, and by nothing else.
#[derive(Debug)]
struct Holder {
    inner: Arc<Inner>,
    client: Client,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.inner.lock().close(self.inner.clock.now());
        self.inner.wake.wake();
    }
}

struct Inner {
    machine: Mutex<Machine>,
    wake: Wake,
    /// Everything up to this mark is reported.
    reported: watch::Sender<FlushMark>,
    memory: Memory,
    clock: Clock,
    driver: Driver,
    compression: Compression,
    /// Kept for the next batch; gone while a batch is compressed elsewhere.
    compressor: Mutex<Option<Compressor>>,
    /// How long an answer is waited for: hardly longer than its records have.
    answer_limit: Duration,
    compresses: bool,
    /// Whether reports make room, besides memory that comes back.
    bounds_records: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("queued_records", &self.lock().queued_records()).finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up what is not acknowledged yet, because the time to close is over.
    fn abandon(&self) -> Error {
        let mut machine = self.lock();
        let left = machine.queued_records();
        let records = if left == 1 { "record was" } else { "records were" };
        let what = format!("{left} {records} not acknowledged before the time to close was over");
        let error = Error::new(ErrorKind::TimedOut(Phase::Close), what);
        let written = machine.written();
        machine.abandon(self.driver.now(), &error);
        drop(machine);
        self.wake.wake();
        error.with_written(written)
    }

    fn try_append(&self, topic: ProducerTopic, record: &Record<'_>) -> std::result::Result<Delivery, AppendError> {
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(clock::timestamp_ms);
        let now = self.clock.now();
        let Record { partition, key, value, headers, .. } = *record;
        let mut machine = self.lock();
        let appended = machine.append(now, topic.0, partition, timestamp_ms, key, value, headers);
        drop(machine);
        match appended {
            Ok(appended) => {
                if appended.wake {
                    self.wake.wake();
                }
                Ok(Delivery { completion: appended.completion, index: appended.index })
            }
            Err(error) => {
                // What is buffered was made ready to go, so that room comes.
                self.wake.wake();
                Err(error)
            }
        }
    }
}

/// Runs a future on the engine thread and waits for it from anywhere.
async fn on_engine<T: Send + 'static>(driver: &Driver, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    driver.spawn(async move {
        // Whoever asked may have given up.
        drop(sender.send(future.await));
    });
    receiver.await.ok()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}

fn refused(error: AppendError) -> Error {
    match error {
        AppendError::Refused(error) => error,
        AppendError::NoMetadata => {
            Error::new(ErrorKind::TimedOut(Phase::Metadata), "nothing is known of the topic yet")
        }
        AppendError::BufferFull => {
            Error::new(ErrorKind::BufferFull, "buffer.memory is used up by records that are not acknowledged yet")
                .with_hint("wait for reports, raise buffer.memory, or see whether the brokers answer")
        }
        AppendError::TooManyRecords => {
            Error::new(ErrorKind::BufferFull, "as many records as are allowed are not acknowledged yet")
                .with_hint("wait for reports, raise the limit, or see whether the brokers answer")
        }
    }
}

impl Client {
    /// A producer of this client, which shares the client's `buffer.memory` with its other producers.
    ///
    /// # Errors
    ///
    /// `Config` if the settings cannot work.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        config.validate()?;
        let compression = config.compression;
        let compressor = Compressor::new(compression)?;
        let bounds_records = config.max_queued_records.is_some();
        let client_config = self.config();
        let answer_limit = client_config.request_timeout.min(config.delivery_timeout.max(SHORTEST_ANSWER_LIMIT));
        let backoff = Backoff { initial: client_config.retry_backoff, max: client_config.retry_backoff_max };
        let memory = self.memory.clone();
        let machine = Machine::new(config, backoff, memory.pool.clone(), self.driver.next_seed());
        let inner = Arc::new(Inner {
            reported: watch::Sender::new(machine.settled()),
            machine: Mutex::new(machine),
            wake: Wake::default(),
            memory,
            clock: Clock::new(self.driver.now()),
            driver: self.driver.clone(),
            compression,
            compressor: Mutex::new(Some(compressor)),
            answer_limit,
            compresses: compression.compression_type() != CompressionType::None,
            bounds_records,
        });
        let (running, alive) = (role::start(Arc::clone(&inner)), Arc::clone(&self.alive));
        self.driver.spawn(async move {
            running.await;
            drop(alive);
        });
        Ok(Producer(Arc::new(Holder { inner, client: self.clone() })))
    }
}

impl Producer {
    /// Waits until a topic is known (`max.block.ms`), to send records to it. `create` lets the brokers create it.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`].
    pub async fn topic(&self, name: &str, create: bool) -> Result<ProducerTopic> {
        let inner = &self.0.inner;
        let (client, wanted) = (self.0.client.clone(), name.to_owned());
        let found = on_engine(&inner.driver, async move { client.topic(&wanted, create).await }).await;
        found.unwrap_or_else(|| Err(closed()))?;
        let metadata = inner.driver.metadata();
        let index = inner.lock().topic(inner.clock.now(), name, &metadata);
        Ok(ProducerTopic(index))
    }

    /// How many partitions the topic has.
    pub fn partition_count(&self, topic: ProducerTopic) -> u32 {
        self.0.inner.lock().partition_count(topic.0)
    }

    /// Accepts a record, or says at once why not.
    ///
    /// # Errors
    ///
    /// `BufferFull` if it would have to wait; otherwise it can never be accepted: too large (`MESSAGE_TOO_LARGE`), no
    /// such partition (`Misuse`), `Closed`, or the reason why the producer gave up.
    #[inline]
    pub fn try_enqueue(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        self.0.inner.try_append(topic, record).map_err(refused)
    }

    /// Accepts a record, blocking the thread up to `limit` while there is no room for it. Not for async code.
    ///
    /// # Errors
    ///
    /// Those of [`try_enqueue`](Self::try_enqueue).
    pub fn enqueue(&self, topic: ProducerTopic, record: &Record<'_>, limit: Duration) -> Result<Delivery> {
        let inner = &self.0.inner;
        match inner.try_append(topic, record) {
            Err(AppendError::Refused(error)) => return Err(error),
            Ok(delivery) => return Ok(delivery),
            Err(_) => {}
        }
        let started = std::time::Instant::now();
        loop {
            let ticket = inner.memory.ticket();
            let error = match inner.try_append(topic, record) {
                Ok(delivery) => return Ok(delivery),
                Err(AppendError::Refused(error)) => return Err(error),
                Err(error) => error,
            };
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(refused(error));
            }
            inner.memory.room.wait(ticket, left);
        }
    }

    /// Accepts a record, waiting up to `max.block.ms` while there is no room for it.
    ///
    /// The [`Delivery`] is ready when the record has its outcome; the record goes whether or not it is awaited.
    ///
    /// # Errors
    ///
    /// Those of [`try_enqueue`](Self::try_enqueue).
    pub async fn send(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        let inner = &self.0.inner;
        match inner.try_append(topic, record) {
            Err(AppendError::Refused(error)) => return Err(error),
            Ok(delivery) => return Ok(delivery),
            Err(_) => {}
        }
        let deadline = inner.driver.now() + self.0.client.max_block();
        loop {
            let ticket = inner.memory.ticket();
            let error = match inner.try_append(topic, record) {
                Ok(delivery) => return Ok(delivery),
                Err(AppendError::Refused(error)) => return Err(error),
                Err(error) => error,
            };
            let left = deadline.since(inner.driver.now());
            if left.is_zero() {
                return Err(refused(error));
            }
            let room = Arc::clone(&inner.memory.room);
            let freed = on_engine(&inner.driver, async move {
                drop(tokio::time::timeout(left, room.freed(ticket)).await);
            });
            freed.await.ok_or_else(closed)?;
        }
    }

    /// Lets everything accepted so far go at once, without linger, and does not wait for it.
    pub fn expedite(&self) {
        self.start_flush();
    }

    fn start_flush(&self) -> FlushMark {
        let inner = &self.0.inner;
        let mark = inner.lock().flush(inner.clock.now());
        inner.wake.wake();
        mark
    }

    /// Sends everything accepted so far and waits until all of it is reported: stored or failed.
    ///
    /// It takes no longer than `delivery.timeout.ms`, because nothing waits longer for its outcome.
    pub fn flush(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mark = self.start_flush();
        let mut reported = self.0.inner.reported.subscribe();
        async move {
            // An error means that the producer is gone, and it goes only when everything is reported.
            drop(reported.wait_for(|reported| *reported >= mark).await);
        }
    }

    /// Refuses further records, sends what is buffered and waits up to `limit` until all of it is reported.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the limit passed first: then the rest was given up, and reported as failed.
    pub fn close(&self, limit: Duration) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.0.inner.lock().close(self.0.inner.clock.now());
        let flushed = self.flush();
        let inner = Arc::clone(&self.0.inner);
        let producer = self.clone();
        async move {
            let driver = inner.driver.clone();
            let closing = on_engine(&driver, async move {
                if tokio::time::timeout(limit, flushed).await.is_ok() {
                    return Ok(());
                }
                let error = inner.abandon();
                producer.flush().await;
                Err(error.with_hint("allow more time, or look at the reports for what may have been written"))
            });
            closing.await.unwrap_or_else(|| Err(closed()))
        }
    }

    /// Records accepted and not yet reported.
    pub fn queued_records(&self) -> usize {
        self.0.inner.lock().queued_records()
    }
}

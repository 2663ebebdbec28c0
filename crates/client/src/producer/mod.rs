//! The producer as a program holds it.
//!
//! A thin layer: [`kavka_core::producer::Producer`] has the rules and is behind one lock, which the producers of a client
//! with equal settings share (`machine`). Callers take it to append, and the machine's task takes it to ask what to
//! send. What is added here is waiting: for metadata, for memory, for reports.

mod delivery;
mod kept;
mod machine;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kavka_core::config::ProducerConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Result, Written};
use kavka_core::producer::{AppendError, FlushMark, HandleId, TopicIndex};
use kavka_core::wire::records::{Compressor, Header};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::driver::clock;
use crate::driver::{BoxFuture, Driver};
use crate::role;

pub use delivery::Delivery;
use kept::KeptRecord;
use machine::{Reported, SharedMachine};

/// A record to send. Everything is borrowed, and copied once while it is accepted ([`Producer::send`] copies it once more
/// if it must wait for room).
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

/// A topic as one producer knows it; from [`Producer::topic`]. Another producer refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTopic {
    /// [`Handle::number`] of its producer.
    producer: u64,
    index: TopicIndex,
}

/// Sends records to topics of one cluster. Cheap to clone; every clone is the same producer.
///
/// Producers of one client that have equal settings share their requests, so a thousand of them cost hardly more than
/// one. Each has its own topics, reports and limit on records, and is flushed and closed by itself.
///
/// When the last clone is dropped without [`close`](Self::close), what is buffered is still sent, as long as the
/// process runs and within `delivery.timeout.ms`.
#[derive(Debug, Clone)]
pub struct Producer(Arc<Handle>);

/// The [`Handle::number`] of the next producer.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Held by the clones of one producer, and by nothing else.
#[derive(Debug)]
struct Handle {
    machine: Arc<SharedMachine>,
    id: HandleId,
    /// No other producer of this process has it.
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
    /// Gives up what is not acknowledged yet, because the time to close is over.
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
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(clock::timestamp_ms);
        let now = self.machine.clock.now();
        let Record { partition, key, value, headers, .. } = *record;
        let append = || {
            self.machine.with(|machine| machine.append(now, topic.index, partition, timestamp_ms, key, value, headers))
        };
        let mut appended = append();
        if let Err(AppendError::NoSuchPartition(_)) = appended {
            // It may have appeared in a snapshot that the machine has not seen yet.
            let metadata = self.machine.driver.metadata();
            self.machine.with(|machine| machine.handle_metadata(now, &metadata));
            appended = append();
        }
        match appended {
            Ok(appended) => {
                if appended.wake {
                    self.machine.wake();
                }
                Ok(Delivery { completion: appended.completion, index: appended.index })
            }
            // No waiting for room makes a partition.
            Err(AppendError::NoSuchPartition(error)) => Err(AppendError::Refused(error)),
            Err(error) => {
                // What is buffered was made ready to go, so that room comes.
                self.machine.wake();
                if matches!(error, AppendError::BufferFull) {
                    self.machine.memory.expedite();
                }
                Err(error)
            }
        }
    }
}

#[cold]
fn foreign_topic() -> Error {
    let what = "the topic was opened with another producer, and this one would send the record elsewhere";
    Error::new(ErrorKind::Misuse, what).with_written(Written::No).with_hint("open it with this producer")
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

impl Client {
    /// A producer of this client, which shares the client's `buffer.memory` with its other producers, and its requests
    /// with those of equal settings.
    ///
    /// # Errors
    ///
    /// `Config` if the settings cannot work.
    pub fn producer(&self, mut config: ProducerConfig) -> Result<Producer> {
        config.validate()?;
        let compressor = Compressor::new(config.compression)?;
        let max_queued_records = config.max_queued_records.take();
        let (machine, (id, reported)) = self.memory.tenant(
            |machine: &Arc<SharedMachine>| machine.open(&config, max_queued_records),
            || {
                let machine = Arc::new(SharedMachine::new(self, config.clone(), compressor));
                let handle = machine.open_first(max_queued_records);
                let (running, alive) = (role::start(Arc::clone(&machine)), Arc::clone(&self.alive));
                self.driver.spawn(async move {
                    running.await;
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
    /// Waits until a topic is known (`max.block.ms`), to send records to it. `create` lets the brokers create it.
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
            // The snapshot is taken under the lock: the machine may have seen a newer one than this thread just before.
            let index =
                machine.with(|shared| shared.topic(machine.clock.now(), *id, &name, &machine.driver.metadata()));
            Ok(ProducerTopic { producer: *number, index })
        }
    }

    /// How many partitions the topic has.
    pub fn partition_count(&self, topic: ProducerTopic) -> u32 {
        self.0.machine.with(|machine| machine.partition_count(topic.index))
    }

    /// Accepts a record, or says at once why not.
    ///
    /// # Errors
    ///
    /// `BufferFull` if it would have to wait; otherwise it can never be accepted: too large (`MESSAGE_TOO_LARGE`), no
    /// such partition (`Misuse`), `Closed`, or the reason why the producer gave up.
    #[inline]
    pub fn try_enqueue(&self, topic: ProducerTopic, record: &Record<'_>) -> Result<Delivery> {
        self.0.try_append(topic, record).map_err(refused)
    }

    /// Accepts a record, blocking the thread up to `limit` while there is no room for it. Not for async code.
    ///
    /// # Errors
    ///
    /// Those of [`try_enqueue`](Self::try_enqueue).
    pub fn enqueue(&self, topic: ProducerTopic, record: &Record<'_>, limit: Duration) -> Result<Delivery> {
        let handle = &*self.0;
        match handle.try_append(topic, record) {
            Err(AppendError::Refused(error)) => return Err(error),
            Ok(delivery) => return Ok(delivery),
            Err(_) => {}
        }
        let started = std::time::Instant::now();
        loop {
            let ticket = handle.machine.memory.ticket();
            let error = match handle.try_append(topic, record) {
                Ok(delivery) => return Ok(delivery),
                Err(AppendError::Refused(error)) => return Err(error),
                Err(error) => error,
            };
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(refused(error));
            }
            handle.machine.memory.room.wait(ticket, left);
        }
    }

    /// Accepts a record, waiting up to `max.block.ms` while there is no room for it.
    ///
    /// If there is room, the record is accepted by the call itself, before the future is polled. If there is none, the
    /// future keeps a copy of the record and accepts it while it is polled: await it before the next `send`, or records
    /// that are sent meanwhile may overtake this one, and dropping it gives the record up.
    ///
    /// The [`Delivery`] is ready when the record has its outcome; the record goes whether or not it is awaited.
    ///
    /// # Errors
    ///
    /// Those of [`try_enqueue`](Self::try_enqueue).
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
            let error = match handle.try_append(topic, record) {
                Ok(delivery) => return Ok(delivery),
                Err(AppendError::Refused(error)) => return Err(error),
                Err(error) => error,
            };
            let left = deadline.since(driver.now());
            if left.is_zero() {
                return Err(refused(error));
            }
            let room = Arc::clone(&handle.machine.memory.room);
            let freed = on_engine(driver, async move {
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
        let Handle { machine, id, .. } = &*self.0;
        let mark = machine.with(|shared| shared.flush(machine.clock.now(), *id));
        machine.wake();
        mark
    }

    /// Sends everything accepted so far and waits until all of it is reported: stored or failed.
    ///
    /// It takes no longer than `delivery.timeout.ms`, because nothing waits longer for its outcome.
    pub fn flush(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mark = self.start_flush();
        let mut reported = self.0.reported.clone();
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
        let Handle { machine, id, .. } = &*self.0;
        machine.with(|shared| shared.close(machine.clock.now(), *id));
        // Whoever waits for room need not wait any longer.
        machine.memory.room.signal();
        let flushed = self.flush();
        let (producer, driver) = (self.clone(), machine.driver.clone());
        async move {
            let closing = on_engine(&driver, async move {
                if tokio::time::timeout(limit, flushed).await.is_ok() {
                    return Ok(());
                }
                let error = producer.0.abandon();
                producer.flush().await;
                Err(error.with_hint("allow more time, or look at the reports for what may have been written"))
            });
            closing.await.unwrap_or_else(|| Err(closed()))
        }
    }

    /// Records accepted and not yet reported.
    pub fn queued_records(&self) -> usize {
        self.0.machine.with(|machine| machine.queued_records(self.0.id))
    }
}

//! Records on their way in: encoded straight into the open batch of their partition.
//!
//! [`Producer::append`] is the hot path: it hashes no topic name, allocates nothing but a batch or a pooled chunk when
//! one is opened or grows, and touches one handle, topic and partition only.
//!
//! A batch stays open, and takes records, until it is sent or full. Its linger clock starts when it opens. A
//! lone record, with nothing else of its handle unreported, does not linger.

use std::sync::Arc;

use super::handle::Handle;
use super::partitioner::partition_for_key;
use super::{Appended, PartitionId, Producer, TopicIndex};
use crate::error::{Error, ErrorKind, Place, Written};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{self, BatchBuilder, Header};

/// Why a record was not accepted. Nothing of it was kept.
#[derive(Debug, Clone)]
pub enum AppendError {
    /// Nothing is known of the topic yet: wait for metadata, then try again.
    NoMetadata,
    /// The topic has no partition of the number that was asked for, in the metadata that the machine knows: if there is
    /// newer, hand that over and try again. The error says so to whoever asked for it.
    NoSuchPartition(Error),
    /// `buffer.memory` is used up: wait until batches are acknowledged, then try again. What is buffered here was made
    /// ready to go, so the sending task must look; other machines that share the memory must [`Producer::expedite`].
    BufferFull,
    /// As many records of the handle as were allowed, this many, are waiting for their report: wait until some have it,
    /// then try again. They were made ready to go, so the sending task must look.
    TooManyRecords(usize),
    /// It can never be accepted.
    Refused(Error),
}

type Result<T> = std::result::Result<T, AppendError>;

impl Producer {
    /// Accepts a record: encodes it into the open batch of its partition.
    ///
    /// Without `partition` a record with a key goes where Java's client puts it and one without a key to the
    /// partition records stick to at the moment. `timestamp_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. A record larger than `max.request.size` or `buffer.memory` is refused with
    /// `MESSAGE_TOO_LARGE`.
    #[allow(clippy::too_many_arguments, reason = "a record is taken as it comes")]
    pub fn append(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        partition: Option<i32>,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Appended> {
        self.admit(now, topic)?;
        self.check_size(topic, key, value, headers)?;
        let id = self.choose_partition(topic, partition, key)?;
        let partition = self.partitions.get_mut(id);
        let handle = partition.handle();
        match partition.append(|builder| builder.append(timestamp_ms, key, value, headers)) {
            Some(Ok((completion, index))) => {
                let completion = Arc::clone(completion);
                self.handles.get_mut(handle).count_record();
                return Ok(Appended { completion, index, wake: false });
            }
            Some(Err(records::AppendError::PoolExhausted)) => return Err(self.buffer_full(now)),
            Some(Err(records::AppendError::Full | records::AppendError::TooLarge)) => {
                self.close_open(id);
            }
            None => {}
        }
        let wake = self.consider(now, id);
        self.append_to_new(now, id, wake, |builder| builder.append(timestamp_ms, key, value, headers))
    }

    /// Whether the handle of the topic may append a record now.
    #[inline]
    fn admit(&mut self, now: Instant, topic: TopicIndex) -> Result<()> {
        let Some(topic) = self.topics.find(topic) else {
            let error = Error::new(ErrorKind::Misuse, "the topic belongs to another producer");
            return Err(AppendError::Refused(error.with_written(Written::No)));
        };
        let id = topic.handle;
        let handle = self.handles.get(id);
        if let Some(error) = self.refusal.as_ref().or(handle.refusal()) {
            return Err(AppendError::Refused(error.clone()));
        }
        if let Some(error) = topic.refusal() {
            // It may have been made anew.
            self.refresh_metadata = true;
            return Err(AppendError::Refused(error));
        }
        if handle.is_full() {
            let limit = handle.max_queued_records().unwrap_or_default();
            // The caller waits for reports now, and batches that linger get none. To tell of progress here would wake the
            // caller, who would come again at once.
            self.expedite_handle(now, id);
            return Err(AppendError::TooManyRecords(limit));
        }
        Ok(())
    }

    /// Opens a batch with the record that `append` puts into it.
    #[inline(never)]
    fn append_to_new(
        &mut self,
        now: Instant,
        id: PartitionId,
        wake: bool,
        append: impl FnOnce(&mut BatchBuilder) -> std::result::Result<u32, records::AppendError>,
    ) -> Result<Appended> {
        let ceiling_bytes = self.config.batch_size.min(self.config.max_request_size);
        let mut builder = BatchBuilder::new(&self.pool, ceiling_bytes);
        let index = match append(&mut builder) {
            Ok(index) => index,
            Err(records::AppendError::PoolExhausted) => return Err(self.buffer_full(now)),
            Err(error) => {
                let error = Error::new(ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), error.to_string());
                return Err(AppendError::Refused(error));
            }
        };
        let was_empty = self.ledger.is_empty();
        let number = self.ledger.open(id, now + self.config.delivery_timeout);
        let partition = self.partitions.get_mut(id);
        let handle: &mut Handle = self.handles.get_mut(partition.handle());
        let ripe = self.config.linger.is_zero() || handle.is_empty();
        let completion = partition.open(number, builder, ripe);
        handle.count_record();
        handle.handle_opened(number);
        let wake = if ripe {
            // While nothing is unreported no alarm is set, not even that of the delivery timeout.
            self.consider(now, id) || was_empty || wake
        } else {
            self.lingering.insert(number, (now + self.config.linger, id));
            // With more than one entry the sending task has an earlier alarm set already.
            self.lingering.len() == 1 || wake
        };
        Ok(Appended { completion, index, wake })
    }

    #[inline]
    fn check_size(
        &self,
        topic: TopicIndex,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<()> {
        let limit = self.config.max_request_size.min(self.largest_buffer());
        let bytes = records::request_bytes(key, value, headers);
        if bytes <= limit { Ok(()) } else { Err(AppendError::Refused(self.too_large(topic, bytes))) }
    }

    /// The most bytes that one batch can ever get of the memory: waiting for more would not end.
    #[inline]
    fn largest_buffer(&self) -> usize {
        self.pool.capacity() / records::CHUNK_BYTES * records::CHUNK_BYTES
    }

    #[cold]
    fn too_large(&self, topic: TopicIndex, bytes: usize) -> Error {
        let (name, limit) = match self.config.max_request_size {
            limit if bytes > limit => ("max.request.size", limit),
            _ => ("buffer.memory", self.pool.capacity()),
        };
        let what = format!("the record takes {bytes} bytes, more than {name} ({limit})");
        let error = Error::new(ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), what).with_written(Written::No);
        let topic = self.topics.find(topic).map(|topic| Arc::clone(&topic.name));
        error.at(Place { topic, ..Place::default() })
    }

    /// Memory comes back when batches are acknowledged, so none may go on lingering while a caller waits for memory.
    #[cold]
    fn buffer_full(&mut self, now: Instant) -> AppendError {
        self.expedite(now);
        AppendError::BufferFull
    }

    #[inline]
    fn choose_partition(
        &mut self,
        topic: TopicIndex,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Result<PartitionId> {
        let topic = self.topics.get_mut(topic);
        if topic.partition_count == 0 {
            return Err(AppendError::NoMetadata);
        }
        let index = match (partition, key) {
            (Some(partition), _) => u32::try_from(partition).unwrap_or(u32::MAX),
            (None, Some(key)) => partition_for_key(key, topic.partition_count),
            (None, None) => topic.choose_sticky(&self.partitions),
        };
        topic.partition(index).ok_or_else(|| AppendError::NoSuchPartition(topic.no_such_partition(partition)))
    }

    /// Ends the open batch of a partition, if there is one: it takes no more records.
    pub(super) fn close_open(&mut self, id: PartitionId) {
        if let Some(number) = self.partitions.get_mut(id).close_open() {
            self.lingering.remove(&number);
        }
    }

    /// Lets the batches go that have lingered long enough.
    pub(super) fn ripen_due(&mut self, now: Instant) {
        while let Some((number, _)) = self.lingering.first_key_value().filter(|(_, (due, _))| *due <= now) {
            self.ripen(now, *number);
        }
    }

    /// Lets the batch with this number go, if it lingers.
    pub(super) fn ripen(&mut self, now: Instant, number: u64) {
        if let Some((_, id)) = self.lingering.remove(&number) {
            self.partitions.get_mut(id).ripen(number);
            self.consider(now, id);
        }
    }
}

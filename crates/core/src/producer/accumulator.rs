//! Takes records in: encodes each one straight into the open batch of its partition.
//!
//! [`Producer::append`] is the hot path. It hashes no topic name, touches one handle, one topic and one partition, and
//! allocates only when a batch opens or its buffer grows.
//!
//! A batch stays open, and takes records, until it is full or sent. Its linger time starts when it opens. A lone record
//! does not linger: if its handle has nothing else unreported, it may be sent at once.

use std::sync::Arc;

use super::handle::Handle;
use super::partitioner::partition_for_key;
use super::{Appended, PartitionId, Producer, TopicIndex};
use crate::error::{Error, ErrorKind, Place, Written};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{self, BatchBuilder, Format, Header};

/// Why a record was not accepted. Nothing of it was kept.
#[derive(Debug, Clone)]
pub enum AppendError {
    /// The topic's metadata is not known yet: look the topic up, then try again.
    NoMetadata,
    /// In the machine's metadata, the topic has no partition with this number. If newer metadata exists, pass it in and
    /// try again; otherwise return the error to the caller.
    NoSuchPartition(Error),
    /// `buffer.memory` is used up: wait until batches are acknowledged, then try again. This machine has ended the
    /// linger of its own batches, so wake its sending task. On other machines that share the memory call
    /// [`Producer::expedite`]. First look up a [missing topic](Producer::missing_topic).
    BufferFull,
    /// The handle's limit on unreported records, which is this number, is reached: wait for reports, then try again.
    /// The machine has ended the linger of the handle's batches, so wake its sending task. First look up a
    /// [missing topic](Producer::missing_topic).
    TooManyRecords(usize),
    /// The record can never be accepted.
    Refused(Error),
}

type Result<T> = std::result::Result<T, AppendError>;

impl Producer {
    /// Accepts a record: encodes it into the open batch of its partition.
    ///
    /// Without `partition`, a record with a key goes to the partition that Kafka's Java client would choose, and one
    /// without a key to the topic's current sticky partition. `timestamp_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. A record larger than `max.request.size` or `buffer.memory` is refused with
    /// `MESSAGE_TOO_LARGE`.
    #[inline]
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
        let needs = if headers.is_empty() { Format::V0 } else { Format::V2 };
        self.accept(now, topic, partition, timestamp_ms, key, value, headers, needs)
    }

    /// As [`append`](Self::append), for a timestamp that the program has chosen: a leader that cannot store it is not
    /// sent the record.
    ///
    /// # Errors
    ///
    /// As for `append`; and `Unsupported`, if the leader is known to be that old.
    #[allow(clippy::too_many_arguments, reason = "a record is taken as it comes")]
    pub fn append_at(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        partition: Option<i32>,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Appended> {
        let needs = if headers.is_empty() { Format::V1 } else { Format::V2 };
        self.accept(now, topic, partition, timestamp_ms, key, value, headers, needs)
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "a record is taken as it comes")]
    fn accept(
        &mut self,
        now: Instant,
        topic: TopicIndex,
        partition: Option<i32>,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
        needs: Format,
    ) -> Result<Appended> {
        self.admit(now, topic)?;
        self.check_size(topic, key, value, headers)?;
        let id = self.choose_partition(topic, partition, key)?;
        if needs > Format::V0 {
            self.check_format(id, needs)?;
        }
        let append = |builder: &mut BatchBuilder| {
            let index = builder.append(timestamp_ms, key, value, headers)?;
            builder.require(needs);
            Ok(index)
        };
        let partition = self.partitions.get_mut(id);
        let handle = partition.handle();
        match partition.append(append) {
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
        self.append_to_new(now, id, wake, append)
    }

    /// Whether the topic's handle may append a record now.
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
            // The topic may have been created again: ask for metadata.
            self.outdated.add_topic(&topic.name);
            return Err(AppendError::Refused(error));
        }
        if handle.is_full() {
            let limit = handle.max_queued_records().unwrap_or_default();
            // The caller now waits for reports, and lingering batches get none, so end their linger. Do not announce
            // progress here: it would wake the caller, who would call `append` again at once.
            self.expedite_handle(now, id);
            return Err(AppendError::TooManyRecords(limit));
        }
        Ok(())
    }

    /// Opens a batch, and appends the record to it.
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
        let may_be_sent = self.config.linger.is_zero() || handle.is_empty();
        let completion = partition.open(number, builder, may_be_sent);
        handle.count_record();
        handle.handle_opened(number);
        let wake = if may_be_sent {
            // While the machine held nothing, the sending task had no alarm set, not even that of
            // `delivery.timeout.ms`.
            self.consider(now, id) || was_empty || wake
        } else {
            self.lingering.insert(number, (now + self.config.linger, id));
            // If other batches linger already, an earlier alarm is set.
            self.lingering.len() == 1 || wake
        };
        Ok(Appended { completion, index, wake })
    }

    /// Refuses a record that needs this format if the leader of its partition is known to be too old for it.
    #[inline(never)]
    fn check_format(&self, id: PartitionId, needs: Format) -> Result<()> {
        let partition = self.partitions.get(id);
        if self.format_for(partition) >= needs {
            return Ok(());
        }
        let error = records::not_carried(needs).with_written(Written::No);
        Err(AppendError::Refused(error.at_partition(partition.topic_name(), partition.index())))
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

    /// The most memory that one batch can ever get; waiting for more would never end.
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

    /// Memory is freed when batches are acknowledged, so no batch may linger while a caller waits for memory.
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

    /// Closes the open batch of a partition, if there is one: it takes no more records.
    pub(super) fn close_open(&mut self, id: PartitionId) {
        if let Some(number) = self.partitions.get_mut(id).close_open() {
            self.lingering.remove(&number);
        }
    }

    /// Ends the linger of batches whose time has come.
    pub(super) fn end_due_lingers(&mut self, now: Instant) {
        while let Some((number, _)) = self.lingering.first_key_value().filter(|(_, (due, _))| *due <= now) {
            self.end_linger(now, *number);
        }
    }

    /// Ends the linger of the batch with this number, if it still lingers.
    pub(super) fn end_linger(&mut self, now: Instant, number: u64) {
        if let Some((_, id)) = self.lingering.remove(&number) {
            self.partitions.get_mut(id).end_linger(number);
            self.consider(now, id);
        }
    }
}

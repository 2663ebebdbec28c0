//! Records on their way in: encoded straight into the open batch of their partition.
//!
//! [`Producer::append`] is the hot path: it hashes no topic name, allocates nothing but a batch or a pooled chunk when
//! one is opened or grows, and touches one partition only. Partitions that have something to send are listed
//! per leader, so nothing here or in `sender` walks over all partitions.
//!
//! A batch stays open, and takes records, until it is sent or full. Its linger clock starts when it opens. A
//! lone record, with nothing else unreported, does not linger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::completion::{Acknowledged, Completion};
use super::identity::Sequences;
use super::partitioner::partition_for_key;
use super::{Appended, PartitionId, Producer, TopicIndex};
use crate::error::{Error, ErrorKind, Result, Written};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;
use crate::wire::records::{self, BatchBuilder, Compressor, HEADER_BYTES, Header, ProducerStamp, Records, Stamp};

/// Why a record was not accepted. Nothing of it was kept.
#[derive(Debug, Clone)]
pub enum AppendError {
    /// Nothing is known of the topic yet: wait for metadata, then try again.
    NoMetadata,
    /// `buffer.memory` is used up: wait until batches are acknowledged, then try again. What is buffered was made
    /// ready to go, so the sending task must look.
    BufferFull,
    /// As many records as were allowed are waiting for their report: wait until some have it, then try again.
    TooManyRecords,
    /// It can never be accepted.
    Refused(Error),
}

/// A topic as the producer numbers it.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    /// [`Uuid::ZERO`] while unknown.
    pub(super) topic_id: Uuid,
    /// Every partition ever seen; those beyond `partition_count` vanished from the metadata.
    pub(super) partitions: Vec<PartitionId>,
    pub(super) partition_count: u32,
    /// Where records without a key go until the batch there is taken.
    pub(super) sticky: Option<u32>,
    pub(super) next_sticky: u32,
}

/// A partition and everything of it that is not yet reported, in the order it was appended.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: TopicIndex,
    pub(super) index: i32,
    pub(super) leader: Option<i32>,
    /// The leader whose ready list has it.
    pub(super) listed: Option<i32>,
    /// Takes records; it comes after everything in `queue`.
    pub(super) open: Option<Open>,
    pub(super) queue: VecDeque<Batch>,
    pub(super) sequences: Sequences,
    /// Batches in requests that are not answered, those included that were reported in the meantime.
    pub(super) in_flight: usize,
    /// The broker that has them.
    pub(super) in_flight_to: Option<i32>,
    /// Nothing may be sent until `in_flight` is 0: then what must go again goes again, in order.
    pub(super) draining: bool,
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    /// Why the last attempt did not succeed: the cause to name when time runs out.
    pub(super) last_error: Option<Error>,
}

impl Partition {
    pub(super) fn new(topic: TopicIndex, index: i32) -> Self {
        Self {
            topic,
            index,
            leader: None,
            listed: None,
            open: None,
            queue: VecDeque::new(),
            sequences: Sequences::default(),
            in_flight: 0,
            in_flight_to: None,
            draining: false,
            failures: 0,
            retry_at: None,
            last_error: None,
        }
    }

    /// Where in `queue` the next batch to send is.
    pub(super) fn next_waiting(&self) -> Option<usize> {
        self.queue.iter().position(Batch::is_waiting)
    }

    /// The size of what would be sent next, if there is anything.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        match self.next_waiting().and_then(|at| self.queue.get(at)) {
            Some(batch) => Some(batch.bytes),
            None => self.open.as_ref().filter(|open| open.ripe).map(|open| open.builder.encoded_bytes()),
        }
    }
}

/// The batch that takes records.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) builder: BatchBuilder,
    pub(super) completion: Arc<Completion>,
    /// Whether it may go: it lingered, somebody waits for it, or it was alone.
    pub(super) ripe: bool,
}

/// A batch that takes no more records, or a piece of one that was split.
#[allow(clippy::struct_excessive_bools, reason = "each is about something else")]
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    /// In the ledger; pieces share it.
    pub(super) number: u64,
    pub(super) completion: Arc<Completion>,
    /// The index of its first record in `completion`.
    pub(super) first_index: u32,
    pub(super) count: u32,
    /// Whether it holds the last record of `completion`.
    pub(super) last_piece: bool,
    pub(super) bytes: usize,
    pub(super) payload: Arc<Payload>,
    /// Given at the first attempt and kept for every further one.
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) attempts: u32,
    /// Whether an attempt ended without a definite answer: it may be in the log.
    pub(super) maybe_written: bool,
    pub(super) in_flight: bool,
    /// Whether it was refused for its own sake, which is no reason for what is behind it to fail.
    pub(super) fails_alone: bool,
    /// Decided, and waiting for the batches before it to be reported.
    pub(super) outcome: Option<Result<Acknowledged>>,
}

impl Batch {
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight && self.outcome.is_none()
    }

    /// Whether it may be in the log, as far as anybody can know.
    pub(super) fn written(&self) -> Written {
        if self.in_flight || self.maybe_written { Written::Maybe } else { Written::No }
    }
}

/// The bytes of a batch: sealed once, outside the producer's lock, and the same for every attempt.
#[derive(Debug)]
pub(super) struct Payload(Mutex<Stage>);

#[derive(Debug)]
enum Stage {
    Filled(BatchBuilder),
    Sealed(Records),
    Broken(Error),
}

impl Payload {
    pub(super) fn new(builder: BatchBuilder) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Stage::Filled(builder))))
    }

    pub(super) fn sealed(records: Records) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Stage::Sealed(records))))
    }

    /// The batch's bytes, sealed now if this is the first attempt.
    pub(super) fn seal(&self, producer: Option<ProducerStamp>, compressor: &mut Compressor) -> Result<Records> {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupted = Error::new(ErrorKind::Misuse, "sealing a record batch was interrupted");
        *stage = match std::mem::replace(&mut *stage, Stage::Broken(interrupted)) {
            Stage::Filled(builder) => match builder.seal(Stamp { producer, ..Stamp::default() }, compressor) {
                Ok(records) => Stage::Sealed(records),
                Err(error) => Stage::Broken(error),
            },
            stage => stage,
        };
        match &*stage {
            Stage::Sealed(records) => Ok(records.clone()),
            Stage::Broken(error) => Err(error.clone()),
            Stage::Filled(_) => Err(Error::new(ErrorKind::Misuse, "a record batch was not sealed")),
        }
    }

    /// The sealed bytes, if it was sealed.
    pub(super) fn records(&self) -> Option<Records> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Sealed(records) => Some(records.clone()),
            Stage::Filled(_) | Stage::Broken(_) => None,
        }
    }

    /// Whether sealing it is still to be done.
    pub(super) fn is_unsealed(&self) -> bool {
        matches!(&*self.0.lock().unwrap_or_else(PoisonError::into_inner), Stage::Filled(_))
    }
}

impl Producer {
    /// Accepts a record: encodes it into the open batch of its partition.
    ///
    /// Without `partition` a record with a key goes where Java's client puts it and one without a key to the
    /// partition records stick to at the moment. `timestamp_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. A record larger than `max.request.size` is refused with `MESSAGE_TOO_LARGE`, a partition
    /// that does not exist with `Misuse`.
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
    ) -> std::result::Result<Appended, AppendError> {
        if let Some(error) = &self.refusal {
            return Err(AppendError::Refused(error.clone()));
        }
        if self.config.max_queued_records.is_some_and(|limit| self.queued_records >= limit) {
            return Err(AppendError::TooManyRecords);
        }
        self.check_size(topic, key, value, headers)?;
        let id = self.choose_partition(topic, partition, key)?;
        let Some(state) = self.partitions.get_mut(id.index()) else { return Err(AppendError::NoMetadata) };
        let mut wake = false;
        if let Some(open) = &mut state.open {
            match open.builder.append(timestamp_ms, key, value, headers) {
                Ok(index) => {
                    let completion = Arc::clone(&open.completion);
                    self.queued_records += 1;
                    return Ok(Appended { completion, index, wake: false });
                }
                Err(records::AppendError::PoolExhausted) => return Err(self.buffer_full(now)),
                Err(records::AppendError::Full | records::AppendError::TooLarge) => {
                    self.close_open(id);
                    wake = self.consider(now, id);
                }
            }
        }
        self.append_to_new(now, id, wake, |builder| builder.append(timestamp_ms, key, value, headers))
    }

    /// Opens a batch with the record that `append` puts into it.
    #[inline(never)]
    fn append_to_new(
        &mut self,
        now: Instant,
        id: PartitionId,
        wake: bool,
        append: impl FnOnce(&mut BatchBuilder) -> std::result::Result<u32, records::AppendError>,
    ) -> std::result::Result<Appended, AppendError> {
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
        let Some(state) = self.partitions.get_mut(id.index()) else { return Err(AppendError::NoMetadata) };
        let name = self.topics.get(state.topic.index()).map(|topic| Arc::clone(&topic.name));
        let completion = Arc::new(Completion::new(name.unwrap_or_default(), state.index));
        let is_alone = self.ledger.is_empty();
        let ripe = self.config.linger.is_zero() || is_alone;
        let number = self.ledger.open(id, now + self.config.delivery_timeout);
        state.open = Some(Open { number, builder, completion: Arc::clone(&completion), ripe });
        self.queued_records += 1;
        let wake = if ripe {
            // While nothing is unreported no alarm is set, not even that of the delivery timeout.
            self.consider(now, id) || is_alone || wake
        } else {
            self.lingering.push_back((now + self.config.linger, id, number));
            // With more than one entry the sending task has an earlier alarm set already.
            self.lingering.len() == 1 || wake
        };
        Ok(Appended { completion, index, wake })
    }

    fn check_size(
        &self,
        topic: TopicIndex,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> std::result::Result<(), AppendError> {
        const OVERHEAD_BYTES: usize = 128;
        let payload_bytes = key.map_or(0, <[u8]>::len).saturating_add(value.map_or(0, <[u8]>::len));
        if headers.is_empty() && payload_bytes.saturating_add(OVERHEAD_BYTES) <= self.config.max_request_size {
            return Ok(());
        }
        let bytes = records::record_bytes(0, 0, key, value, headers).saturating_add(HEADER_BYTES);
        if bytes <= self.config.max_request_size {
            // It may still be more than could ever be buffered: waiting for that would not end.
            if bytes <= self.pool.capacity() {
                return Ok(());
            }
            let what = format!("the record takes {bytes} bytes, more than buffer.memory ({})", self.pool.capacity());
            return Err(AppendError::Refused(self.too_large(topic, what)));
        }
        let limit = self.config.max_request_size;
        let what = format!("the record takes {bytes} bytes, more than max.request.size ({limit})");
        Err(AppendError::Refused(self.too_large(topic, what)))
    }

    #[cold]
    fn too_large(&self, topic: TopicIndex, what: String) -> Error {
        let error = Error::new(ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), what).with_written(Written::No);
        let place = crate::error::Place {
            topic: self.topics.get(topic.index()).map(|topic| Arc::clone(&topic.name)),
            ..Default::default()
        };
        error.at(place)
    }

    /// Nothing can be added to the pool by waiting for batches to linger: all of them go now.
    #[cold]
    fn buffer_full(&mut self, now: Instant) -> AppendError {
        self.ripen_all(now);
        AppendError::BufferFull
    }

    #[inline]
    fn choose_partition(
        &mut self,
        topic: TopicIndex,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> std::result::Result<PartitionId, AppendError> {
        let Some(state) = self.topics.get_mut(topic.index()) else { return Err(AppendError::NoMetadata) };
        if state.partition_count == 0 {
            return Err(AppendError::NoMetadata);
        }
        let index = match (partition, key) {
            (Some(partition), _) => u32::try_from(partition).unwrap_or(u32::MAX),
            (None, Some(key)) => partition_for_key(key, state.partition_count),
            (None, None) => match state.sticky {
                Some(sticky) => sticky,
                None => choose_sticky(state, &self.partitions),
            },
        };
        let known = state.partitions.get(index as usize).filter(|_| index < state.partition_count);
        known.copied().ok_or_else(|| no_such_partition(state, partition))
    }

    /// Ends the open batch of a partition, if there is one: it takes no more records.
    pub(super) fn close_open(&mut self, id: PartitionId) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        let Some(open) = state.open.take() else { return };
        self.next_batch_id += 1;
        state.queue.push_back(Batch {
            id: self.next_batch_id,
            number: open.number,
            completion: open.completion,
            first_index: 0,
            count: open.builder.record_count(),
            last_piece: true,
            bytes: open.builder.encoded_bytes(),
            payload: Payload::new(open.builder),
            stamp: None,
            attempts: 0,
            maybe_written: false,
            in_flight: false,
            fails_alone: false,
            outcome: None,
        });
        if let Some(topic) = self.topics.get_mut(state.topic.index())
            && topic.sticky == u32::try_from(state.index).ok()
        {
            topic.sticky = None;
        }
    }

    /// Lets every open batch go, however young.
    pub(super) fn ripen_all(&mut self, now: Instant) {
        while let Some((_, id, number)) = self.lingering.pop_front() {
            self.ripen(now, id, number);
        }
    }

    /// Lets the batches go that have lingered long enough.
    pub(super) fn ripen_due(&mut self, now: Instant) {
        while let Some((due, id, number)) = self.lingering.front().copied() {
            let open = self.partitions.get(id.index()).and_then(|state| state.open.as_ref());
            let waits = open.is_some_and(|open| open.number == number && !open.ripe);
            if waits && due > now {
                return;
            }
            self.lingering.pop_front();
            self.ripen(now, id, number);
        }
    }

    fn ripen(&mut self, now: Instant, id: PartitionId, number: u64) {
        let Some(state) = self.partitions.get_mut(id.index()) else { return };
        if let Some(open) = state.open.as_mut().filter(|open| open.number == number) {
            open.ripe = true;
            self.consider(now, id);
        }
    }
}

/// The next partition in turn, preferably one that has a leader.
fn choose_sticky(topic: &mut TopicState, partitions: &[Partition]) -> u32 {
    let has_leader = |index: u32| {
        let id = topic.partitions.get(index as usize);
        id.and_then(|id| partitions.get(id.index())).is_some_and(|state| state.leader.is_some())
    };
    let count = topic.partition_count.max(1);
    let first = topic.next_sticky % count;
    let index = (first..count).chain(0..first).find(|index| has_leader(*index)).unwrap_or(first);
    topic.next_sticky = (index + 1) % count;
    topic.sticky = Some(index);
    index
}

#[cold]
fn no_such_partition(topic: &TopicState, partition: Option<i32>) -> AppendError {
    let count = topic.partition_count;
    let what = format!("there is no such partition: the topic has {count}, numbered from 0");
    let error = Error::new(ErrorKind::Misuse, what).with_written(Written::No);
    AppendError::Refused(error.at_partition(&topic.name, partition.unwrap_or(-1)))
}

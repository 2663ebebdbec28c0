//! One partition of a consumer: where it stands and what is buffered of it.
//!
//! Two offsets: `fetched`, the next to ask the broker for, and the position in the [`Lease`], the next to hand out,
//! which alone is shown and committed. A change of `stamp` makes every answer that is on its way stale.
//!
//! Invariant: while fetching, position <= offsets of the buffer < `fetched`, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::time::Instant;
use crate::wire::primitives::Uuid;
use crate::wire::records::RawBatch;

use super::TopicPartition;
use super::handout::{FetchedBatch, Pinned};
use super::lease::{Lease, OpenLease};

/// What a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// It needs an offset from its leader: that of a timestamp, or of one of the two special ones.
    Locating { timestamp: i64, out_of_range: Option<i64> },
    /// The leader changed, or says that the offset is out of range: is the log still the one we read (KIP-320)?
    Validating { out_of_range: bool },
    /// Fetching whenever there is room.
    Fetching,
    /// Something is wrong that only a seek can mend; it was reported.
    Parked,
}

/// Something in the order of offsets that is not yet behind the position.
#[derive(Debug)]
pub(super) struct Buffered {
    pub(super) last_offset: i64,
    pub(super) bytes: usize,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Batch(RawBatch, Arc<Pinned>),
    /// A control batch, or one of an aborted transaction: the position moves over it.
    Hidden,
    /// From here on nothing can be read.
    Bad(Error),
}

/// What the front of the buffer is, once what is behind the position is gone.
#[derive(Debug, PartialEq)]
pub(super) enum Front {
    Nothing,
    /// Its turn has not come: somebody holds the batch before it.
    Taken,
    Batch,
    Bad,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own: any of them goes with any other")]
pub(super) struct Partition {
    pub(super) stamp: u64,
    pub(super) topic_id: Uuid,
    pub(super) state: State,
    pub(super) is_paused: bool,
    /// None as long as no position is known.
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) fetched: i64,
    /// The leader epoch of the last batch before `fetched`, or a later one that was fetched already.
    pub(super) fetched_epoch: Option<i32>,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: Option<i32>,
    /// The broker that the leader told us to read from instead (KIP-392).
    pub(super) preferred_replica: Option<i32>,
    pub(super) buffer: VecDeque<Buffered>,
    pub(super) buffered_bytes: usize,
    /// What the next fetch asks for; more than usual while a batch is larger than that.
    pub(super) max_bytes: i32,
    pub(super) retry_at: Instant,
    pub(super) failures: u32,
    /// Whether a question about its offset is on its way.
    pub(super) is_asking: bool,
    /// Whether it waits in the queue of those with something to hand out.
    pub(super) is_queued: bool,
    /// The fetched offset is out of range, but what is buffered comes first.
    pub(super) drains_first: bool,
    pub(super) high_watermark: Option<i64>,
    pub(super) last_stable_offset: Option<i64>,
    pub(super) log_start_offset: Option<i64>,
}

impl Partition {
    pub(super) fn new(max_bytes: i32) -> Self {
        Self {
            stamp: 0,
            topic_id: Uuid::ZERO,
            state: State::Parked,
            is_paused: false,
            lease: None,
            fetched: 0,
            fetched_epoch: None,
            leader: None,
            leader_epoch: None,
            preferred_replica: None,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            max_bytes,
            retry_at: Instant::default(),
            failures: 0,
            is_asking: false,
            is_queued: false,
            drains_first: false,
            high_watermark: None,
            last_stable_offset: None,
            log_start_offset: None,
        }
    }

    /// The offset of the next record to hand out, if it is known.
    pub(super) fn position(&self) -> Option<i64> {
        self.lease.as_ref().and_then(|lease| lease.position())
    }

    /// Ends the hand-out of what is out now; the position stays.
    pub(super) fn renew_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            *lease = Lease::new(lease.end());
        }
    }

    /// Ends the hand-out of what is out now; the position is this one, or unknown.
    pub(super) fn replace_lease(&mut self, position: Option<i64>) {
        if let Some(lease) = std::mem::replace(&mut self.lease, position.map(Lease::new)) {
            lease.end();
        }
    }

    /// Forgets what is buffered; it will be fetched again.
    pub(super) fn drop_buffer(&mut self) {
        self.buffer.clear();
        self.buffered_bytes = 0;
        self.drains_first = false;
        if let Some(position) = self.position() {
            // The epoch may be newer than that of the record before the position. As a question it is as good: where the
            // log ends for it or an older one shows what is missing before the position, too.
            self.fetched = position;
        }
    }

    pub(super) fn push(&mut self, last_offset: i64, content: Content) {
        let bytes = if let Content::Batch(batch, _) = &content { batch.bytes().len() } else { 0 };
        self.buffered_bytes += bytes;
        self.buffer.push_back(Buffered { last_offset, bytes, content });
    }

    /// Lets go of what is behind the position, and moves the position over what is hidden.
    pub(super) fn settle(&mut self) -> Front {
        let Some(lease) = &self.lease else { return Front::Nothing };
        while let Some(front) = self.buffer.front() {
            let Some(position) = lease.position() else { return Front::Nothing };
            match front.content {
                Content::Batch(..) if front.last_offset >= position => {
                    return if lease.is_open() { Front::Taken } else { Front::Batch };
                }
                Content::Bad(_) => return if lease.is_open() { Front::Taken } else { Front::Bad },
                Content::Batch(..) => {}
                Content::Hidden => {
                    if lease.is_open() {
                        return Front::Taken;
                    }
                    lease.claim(position, position.max(front.last_offset.saturating_add(1)));
                }
            }
            self.buffered_bytes = self.buffered_bytes.saturating_sub(front.bytes);
            self.buffer.pop_front();
        }
        Front::Nothing
    }

    /// Whether it has something buffered that may be handed out now.
    pub(super) fn is_waiting(&self) -> bool {
        let is_open = self.lease.as_ref().is_some_and(|lease| lease.is_open());
        !self.is_paused && !is_open && !self.buffer.is_empty()
    }

    /// The batch at the front of the buffer, if that is what [`Partition::settle`] found.
    pub(super) fn take(&self, key: TopicPartition) -> Option<FetchedBatch> {
        let lease = Arc::clone(self.lease.as_ref()?);
        let position = lease.position()?;
        let Content::Batch(batch, pinned) = &self.buffer.front()?.content else { return None };
        let (batch, pinned) = (batch.clone(), Arc::clone(pinned));
        Some(FetchedBatch { key, batch, lease: OpenLease::new(lease), pinned, position })
    }

    /// Whether its buffer ends with something that cannot be read: there is nothing to fetch behind it.
    pub(super) fn is_at_bad_batch(&self) -> bool {
        self.buffer.back().is_some_and(|back| matches!(back.content, Content::Bad(_)))
    }

    /// The broker to fetch from.
    pub(super) fn source(&self) -> Option<i32> {
        self.preferred_replica.or(self.leader)
    }
}

//! Which batches are compressed before they go into a request, and by whom.
//!
//! Compressing a megabyte takes up to 50 ms, in which neither the other partitions nor the other handles may have to
//! wait. So the machine hands out what is large ([`Producer::poll_compression`]), to be compressed on other threads. A
//! partition whose next batch is being compressed sends nothing, and so keeps its order; all others go on. What is
//! small is compressed when its request is sealed, because handing it out would cost more than that.
//!
//! A large batch is handed out when it is closed, before it can be sent, so several batches of one partition are
//! compressed at once.

use std::sync::Arc;

use super::partition::{Partition, Payload, Unsealed};
use super::{PartitionId, Producer};
use crate::time::Instant;
use crate::wire::records::{CompressionType, Compressor, Format};

/// How many bytes may be left to compress when a request is sealed: about a millisecond's work with the slowest codec.
const COMPRESSED_LATE_BYTES: usize = 64 << 10;

/// Batches to be compressed before they can be sent, on any thread.
#[derive(Debug)]
pub struct BatchesToCompress {
    bytes: usize,
    batches: Vec<Batch>,
}

#[derive(Debug)]
struct Batch {
    partition: PartitionId,
    payload: Arc<Payload>,
    /// `None` once it is compressed.
    records: Option<Unsealed>,
    /// What its leader reads.
    format: Format,
}

impl BatchesToCompress {
    /// Compresses them. Takes time: call it outside all locks.
    pub fn compress(&mut self, compressor: &mut Compressor) {
        for batch in &mut self.batches {
            if let Some(records) = batch.records.take() {
                batch.payload.put_compressed(records, batch.format, compressor);
            }
        }
    }
}

/// How many bytes one request still may leave to be compressed when it is sealed.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(COMPRESSED_LATE_BYTES)
    }
}

impl Allowance {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

impl Producer {
    /// The next batches to compress; call it until it returns `None`, after the requests. Pass them to
    /// [`handle_compressed`](Self::handle_compressed) when [`BatchesToCompress::compress`] has returned, or has failed.
    pub fn poll_compression(&mut self) -> Option<BatchesToCompress> {
        self.to_compress.pop_front()
    }

    /// Notes that batches are compressed, so that they can be sent. A batch that was left uncompressed fails.
    pub fn handle_compressed(&mut self, now: Instant, batches: BatchesToCompress) {
        for Batch { partition, payload, .. } in batches.batches {
            payload.end_compressing();
            // If the partition is gone, its records are reported; a new one with its number is not harmed.
            if self.partitions.find(partition).is_some() {
                self.consider(now, partition);
            }
        }
        self.check();
    }

    fn compresses(&self) -> bool {
        self.config.compression.compression_type() != CompressionType::None
    }

    /// Hands out the large batches that a partition can send soon. Returns whether there are any.
    pub(super) fn compress_ahead(&mut self, id: PartitionId) -> bool {
        if !self.compresses() {
            return false;
        }
        let partition = self.partitions.get(id);
        let format = self.format_for(partition);
        let next = partition.next_batches().take(self.config.max_in_flight);
        let large: Vec<_> = next
            .filter(|(bytes, payload)| *bytes > COMPRESSED_LATE_BYTES && payload.is_unsealed())
            // A leader that is too old for what is in this batch is not sent it, but the next leader may be newer.
            .filter(|(_, payload)| payload.needs().most() <= format)
            .map(|(bytes, payload)| (bytes, Arc::clone(payload)))
            .collect();
        for (bytes, payload) in &large {
            self.hand_out(id, *bytes, payload);
        }
        !large.is_empty()
    }

    /// Hands out the next batch of a partition, of this size, if its request cannot take it uncompressed. Returns
    /// whether it did.
    pub(super) fn compress_first(&mut self, id: PartitionId, bytes: usize, allowance: &mut Allowance) -> bool {
        let is_done = |(_, payload): (usize, &Arc<Payload>)| !payload.is_unsealed();
        let next_is_done = |partition: &Partition| partition.next_batches().next().is_some_and(is_done);
        if !self.compresses() || next_is_done(self.partitions.get(id)) || allowance.take(bytes) {
            return false;
        }
        if self.partitions.get(id).sends_open_batch() {
            self.close_open(id);
        }
        let payload = self.partitions.get(id).next_batches().next().map(|(_, payload)| Arc::clone(payload));
        if let Some(payload) = &payload {
            self.hand_out(id, bytes, payload);
        }
        payload.is_some()
    }

    /// Lets small batches go together, so that many small ones do not cost more than one large.
    fn hand_out(&mut self, id: PartitionId, bytes: usize, payload: &Arc<Payload>) {
        let format = self.format_for(self.partitions.get(id));
        let batch = Batch { partition: id, payload: Arc::clone(payload), records: payload.take_unsealed(), format };
        match self.to_compress.back_mut() {
            Some(last) if last.bytes.saturating_add(bytes) <= COMPRESSED_LATE_BYTES => {
                last.bytes += bytes;
                last.batches.push(batch);
            }
            _ => self.to_compress.push_back(BatchesToCompress { bytes, batches: vec![batch] }),
        }
    }
}

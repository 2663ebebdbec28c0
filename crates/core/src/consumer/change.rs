//! The one place where a partition is changed, and the changes that several files make: start, back off, fail, queue.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Hint, Place, Result};
use crate::time::Instant;
use crate::wire::messages::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

use super::lease::Lease;
use super::partition::{Partition, State};
use super::partitions::PartitionId;
use super::returned::Note;
use super::{Consumer, ConsumerEvent, StartPosition, TopicPartition};

impl Consumer {
    /// Changes a partition, then updates lists and counts accordingly.
    pub(super) fn change<T>(&mut self, id: PartitionId, change: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let changed = change(self.partitions.get_mut(id)?);
        self.reindex(id);
        Some(changed)
    }

    /// Puts a partition into the lists that its state calls for, and takes it out of all others.
    pub(super) fn reindex(&mut self, id: PartitionId) {
        let enough = self.enough();
        if let Some((old, new)) = self.partitions.update(id, self.now, enough) {
            self.brokers.reindex(id, &old, &new, self.now);
        }
    }

    /// The partition, if its stamp is still the same: if not, it has changed since the question was asked.
    pub(super) fn unchanged(&self, id: PartitionId, stamp: u64) -> Option<&Partition> {
        self.partitions.get(id).filter(|partition| partition.stamp() == stamp)
    }

    pub(super) fn find(&self, key: &TopicPartition) -> Option<PartitionId> {
        self.partitions.find(&key.topic, key.partition)
    }

    pub(super) fn consumed(&self, key: &TopicPartition) -> Result<PartitionId> {
        self.find(key).ok_or_else(|| misuse("the partition is not consumed by this consumer", key))
    }

    pub(super) fn partition(&self, key: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(self.find(key)?)
    }

    pub(super) fn new_stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Changes the state of a partition; responses to what it asked before are ignored.
    pub(super) fn set_state(&mut self, id: PartitionId, state: State) {
        let stamp = self.new_stamp();
        self.change(id, |partition| partition.set_state(stamp, state));
    }

    /// Starts a partition at `start` and discards everything else about it.
    pub(super) fn start(&mut self, id: PartitionId, start: StartPosition) {
        let locate = |timestamp| State::Locating { timestamp, out_of_range: None };
        let (state, position) = match start {
            StartPosition::Offset(offset) | StartPosition::Committed { offset, .. } => (State::Fetching, Some(offset)),
            StartPosition::Earliest => (locate(EARLIEST_TIMESTAMP), None),
            StartPosition::Latest => (locate(LATEST_TIMESTAMP), None),
            StartPosition::Timestamp(timestamp) => (locate(timestamp), None),
        };
        self.changed.insert(id);
        let stamp = self.new_stamp();
        let max_bytes = self.config.max_partition_fetch_bytes as i32;
        self.change(id, |partition| partition.start(stamp, state, position, max_bytes));
        if let StartPosition::Committed { leader_epoch, .. } = start {
            self.change(id, |partition| partition.set_fetched_epoch(leader_epoch));
        }
        self.update_leader(id);
    }

    /// Parks a partition and reports the error, once.
    pub(super) fn fail(&mut self, id: PartitionId, error: Error) {
        let stamp = self.new_stamp();
        self.change(id, |partition| partition.park(stamp));
        self.report(id, error);
    }

    /// Reports an error of a partition to the application.
    pub(super) fn report(&mut self, id: PartitionId, error: Error) {
        let Some(partition) = self.partitions.get(id) else { return };
        let key = partition.key().clone();
        let offset = error.place().offset.or_else(|| partition.offset());
        let error = error.at(Place { offset, ..Place::default() }).at_partition(&key.topic, key.partition);
        self.events.push_back(ConsumerEvent::PartitionError { topic_partition: key, error });
    }

    /// Appends a partition that has something to hand out to the queue, unless it is queued already.
    pub(super) fn enqueue(&mut self, id: PartitionId) {
        if self.change(id, Partition::enqueue) == Some(true) {
            self.queue.push_back(id);
        }
    }

    /// Looks at the partitions whose batches the application has given back: there may be room for more of them, and
    /// more of them to hand out.
    pub(super) fn handle_returned(&mut self) {
        for note in self.returned.take() {
            match note {
                Note::Dropped(id) => self.handle_dropped(id),
                Note::Unreadable(id, lease, error) => self.fail_at_batch(id, &lease, error),
            }
        }
    }

    fn handle_dropped(&mut self, id: PartitionId) {
        let settled = self.change(id, |partition| {
            partition.settle();
            (partition.is_out(), partition.is_held())
        });
        // It may have been removed before its batch was dropped.
        if let Some((is_out, is_held)) = settled {
            self.changed.insert(id);
            // A seek or a pause ends a lease at once, so the application may hold other batches of the partition.
            if !is_held {
                self.out.remove(&id);
            }
            if !is_out {
                self.enqueue(id);
            }
        }
    }

    /// The batch that was handed out under `lease` cannot be read: parks the partition, if the batch is still the
    /// current one.
    pub(super) fn fail_at_batch(&mut self, id: PartitionId, lease: &Arc<Lease>, error: Error) {
        if self.partitions.get(id).is_some_and(|partition| partition.has_lease(lease)) {
            self.fail(id, error.with_hint(Hint::SeekPast));
        }
    }

    /// Sends nothing for this partition until its back-off has ended.
    pub(super) fn back_off(&mut self, now: Instant, id: PartitionId) {
        let Some(failures) = self.partitions.get(id).map(Partition::failures) else { return };
        let retry_at = now + self.backoff.delay(failures.saturating_add(1), &mut self.random);
        self.change(id, |partition| partition.back_off(retry_at));
    }
}

/// Refuses a negative offset or timestamp.
pub(super) fn check_start(key: &TopicPartition, start: StartPosition) -> Result<()> {
    match start {
        StartPosition::Offset(number)
        | StartPosition::Committed { offset: number, .. }
        | StartPosition::Timestamp(number)
            if number < 0 =>
        {
            Err(misuse("an offset or timestamp to begin at must not be negative", key))
        }
        StartPosition::Offset(_)
        | StartPosition::Committed { .. }
        | StartPosition::Timestamp(_)
        | StartPosition::Earliest
        | StartPosition::Latest => Ok(()),
    }
}

pub(super) fn misuse(what: &str, key: &TopicPartition) -> Error {
    Error::new(ErrorKind::Misuse, what).at_partition(&key.topic, key.partition)
}

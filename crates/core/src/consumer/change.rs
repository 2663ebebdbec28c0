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
    pub(super) fn change<T>(&mut self, id: PartitionId, change: impl FnOnce(&mut Partition) -> T) -> T {
        let changed = change(self.partitions.get_mut(id));
        self.reindex(id);
        changed
    }

    /// Puts a partition into the lists that its state calls for, and takes it out of all others.
    pub(super) fn reindex(&mut self, id: PartitionId) {
        let enough = self.enough();
        let (old, new) = self.partitions.update(id, self.now, enough);
        self.brokers.reindex(id, &old, &new, self.now);
    }

    /// The partition, unless it was removed or has changed since it had this stamp.
    pub(super) fn unchanged(&self, id: PartitionId, stamp: u64) -> Option<&Partition> {
        self.partitions.find(id).filter(|partition| partition.stamp() == stamp)
    }

    pub(super) fn find(&self, key: &TopicPartition) -> Option<PartitionId> {
        self.partitions.id_of(&key.topic, key.partition)
    }

    pub(super) fn consumed(&self, key: &TopicPartition) -> Result<PartitionId> {
        self.find(key).ok_or_else(|| misuse("the partition is not consumed by this consumer", key))
    }

    pub(super) fn partition(&self, key: &TopicPartition) -> Option<&Partition> {
        Some(self.partitions.get(self.find(key)?))
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
        if let StartPosition::Committed { leader_epoch, topic_id, .. } = start {
            self.change(id, |partition| partition.set_fetched(topic_id, leader_epoch));
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
        let partition = self.partitions.get(id);
        let key = partition.key().clone();
        let offset = error.place().offset.or_else(|| partition.offset());
        let error = error.at(Place { offset, ..Place::default() }).at_partition(&key.topic, key.partition);
        self.events.push_back(ConsumerEvent::PartitionError { topic_partition: key, error });
    }

    /// Appends a partition that has something to hand out to the queue, unless it is queued already.
    pub(super) fn enqueue(&mut self, id: PartitionId) {
        if self.change(id, Partition::enqueue) {
            self.queue.push_back(id);
        }
    }

    /// Looks at the partitions whose batches the application has given back: there may be room for more of them, and
    /// more of them to hand out.
    pub(super) fn handle_returned(&mut self) {
        for note in self.returned.take() {
            match note {
                // Its partition may have been removed while the application held the batch.
                Note::Dropped(id) if self.partitions.find(id).is_none() => {}
                Note::Dropped(id) => self.handle_dropped(id),
                Note::Unreadable(id, lease, error) => self.fail_at_batch(id, &lease, error),
            }
        }
    }

    fn handle_dropped(&mut self, id: PartitionId) {
        self.changed.insert(id);
        // A seek or a pause ends a lease at once, so the application may hold other batches of the partition.
        let (is_out, is_held) = self.change(id, |partition| {
            partition.settle();
            (partition.is_out(), partition.is_held())
        });
        if !is_held {
            self.out.remove(&id);
        }
        if !is_out {
            self.enqueue(id);
        }
    }

    /// The front of a partition's buffer cannot be read: parks the partition.
    pub(super) fn fail_at_bad_front(&mut self, id: PartitionId) {
        match self.change(id, Partition::take_bad_front) {
            Some(error) => self.fail(id, error.with_hint(Hint::SeekPast)),
            None => self.poison("it lost the error of a batch that cannot be read"),
        }
    }

    /// The batch that was handed out under `lease` cannot be read: parks the partition, if the batch is still the
    /// current one.
    pub(super) fn fail_at_batch(&mut self, id: PartitionId, lease: &Arc<Lease>, error: Error) {
        if self.partitions.find(id).is_some_and(|partition| partition.has_lease(lease)) {
            self.fail(id, error.with_hint(Hint::SeekPast));
        }
    }

    /// Sends nothing for this partition until its back-off has ended.
    pub(super) fn back_off(&mut self, now: Instant, id: PartitionId) {
        let failures = self.partitions.get(id).failures().saturating_add(1);
        let retry_at = now + self.backoff.delay(failures, &mut self.random);
        self.change(id, |partition| partition.back_off(retry_at));
    }

    /// Refuses a negative offset or timestamp, and any start after the machine has stopped itself.
    pub(super) fn check_start(&self, key: &TopicPartition, start: StartPosition) -> Result<()> {
        let is_negative = match start {
            StartPosition::Offset(number)
            | StartPosition::Committed { offset: number, .. }
            | StartPosition::Timestamp(number) => number < 0,
            StartPosition::Earliest | StartPosition::Latest => false,
        };
        match &self.failure {
            Some(error) => Err(error.clone()),
            None if is_negative => Err(misuse("an offset or timestamp to begin at must not be negative", key)),
            None => Ok(()),
        }
    }

    /// Stops the machine if it lost track of a partition, which is a bug.
    pub(super) fn check(&mut self) {
        if self.partitions.is_broken() {
            self.poison("it lost track of a partition");
        }
    }

    /// Stops the machine because of a bug: it sends and hands out nothing more. Parks every partition, reports why for
    /// each, and fails every pending commit.
    #[cold]
    pub(super) fn poison(&mut self, what: &str) {
        if self.failure.is_some() {
            return;
        }
        let error = Error::new(ErrorKind::Internal, format!("the consumer stopped itself, because {what}"));
        let error = error.with_hint("this is a bug in kavka: please report it");
        self.failure = Some(error.clone());
        for id in self.partitions.ids().collect::<Vec<_>>() {
            self.fail(id, error.clone());
        }
        self.commits.iter_mut().for_each(|commits| commits.fail(&error));
        self.tell_outcomes();
    }
}

pub(super) fn misuse(what: &str, key: &TopicPartition) -> Error {
    Error::new(ErrorKind::Misuse, what).at_partition(&key.topic, key.partition)
}

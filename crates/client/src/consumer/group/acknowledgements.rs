//! Records that are processed in any order: what to commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use kavka_core::consumer::{CommittedOffset, Offsets, PartitionId, TopicPartition};
use kavka_core::wire::Uuid;

use crate::consumer::record::ReadAs;
use crate::consumer::{Batch, ConsumerRecord, lock};

/// Commits records once they are acknowledged, one by one and in any order, by any thread.
///
/// Given to [`GroupOptions::acknowledgements`](super::GroupOptions::acknowledgements), it decides what is committed
/// automatically (`enable.auto.commit`): in each partition the offset of the first record that is not acknowledged, or
/// the offset after the last one if all are. A record that is never acknowledged is read again by the partition's next
/// owner, and so are those after it.
///
/// The thread that reads calls [`track`](Self::track) for each record, in order, before it hands the record on. Of a
/// partition without tracked records nothing is committed.
///
/// Clones share their state. When the member gives up or loses a partition its records are forgotten: tracking and
/// acknowledging them has no effect any more, even if the member gets the partition back.
#[derive(Debug, Clone, Default)]
pub struct Acknowledgements {
    partitions: Arc<Mutex<BTreeMap<TopicPartition, Assigned>>>,
    changed: Changed,
}

/// The partitions whose offset may have changed since they were last taken from here.
type Changed = Arc<Mutex<Vec<TopicPartition>>>;

/// A partition that is assigned to the member at present.
#[derive(Debug)]
struct Assigned {
    /// Tells its records from those that were handed out under an earlier assignment.
    id: PartitionId,
    /// Replaced after a seek backwards, and with the first record of a topic that was created again, so that the
    /// acknowledgements of the records before it have no effect.
    tracked: Arc<Mutex<Tracked>>,
}

/// The records of one partition.
#[derive(Debug)]
struct Tracked {
    topic_partition: TopicPartition,
    /// The topic that the records were read of.
    topic_id: Uuid,
    /// Of two topics, the newer one has the greater stamp.
    stamp: u64,
    changed: Changed,
    /// The offsets that are not acknowledged.
    open: BTreeSet<i64>,
    /// The offset after the last tracked record; `None` before the first.
    next: Option<i64>,
    /// Whether the partition is in the list of changed ones.
    is_listed: bool,
}

impl Tracked {
    fn new(topic_partition: &TopicPartition, topic_id: Uuid, stamp: u64, changed: &Changed) -> Arc<Mutex<Self>> {
        let (topic_partition, changed) = (topic_partition.clone(), Arc::clone(changed));
        let (open, next, is_listed) = (BTreeSet::new(), None, false);
        Arc::new(Mutex::new(Self { topic_partition, topic_id, stamp, changed, open, next, is_listed }))
    }

    fn offset(&self) -> Option<CommittedOffset> {
        let offset = self.open.first().copied().or(self.next)?;
        Some(CommittedOffset { topic_id: self.topic_id, ..CommittedOffset::new(offset) })
    }

    /// Puts the partition into the list of changed ones if it is not there.
    fn list(&mut self) {
        if !std::mem::replace(&mut self.is_listed, true) {
            lock(&self.changed).push(self.topic_partition.clone());
        }
    }
}

/// A record that is being worked on. Dropped without [`acknowledge`](Self::acknowledge), it stays unacknowledged.
#[derive(Debug)]
#[must_use = "a record that is not acknowledged holds up all commits of its partition"]
pub struct Acknowledgement {
    tracked: Arc<Mutex<Tracked>>,
    offset: i64,
}

impl Acknowledgement {
    /// The work on the record is done.
    pub fn acknowledge(self) {
        let mut tracked = lock(&self.tracked);
        tracked.open.remove(&self.offset);
        tracked.list();
    }
}

impl Acknowledgements {
    /// Nothing is tracked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a record that was read, in the order of offsets. After a seek backwards, the partition starts afresh.
    ///
    /// If the member has given up or lost the record's partition in the meantime, the handle has no effect.
    pub fn track(&self, record: &ConsumerRecord) -> Acknowledgement {
        self.note(&record.topic_partition, record.read_as, record.offset)
    }

    /// As [`track`](Self::track), for the record at this offset of a batch.
    pub fn track_offset(&self, batch: &Batch, offset: i64) -> Acknowledgement {
        self.note(batch.topic_partition(), ReadAs::of(batch), offset)
    }

    fn note(&self, topic_partition: &TopicPartition, read_as: ReadAs, offset: i64) -> Acknowledgement {
        let ReadAs { partition_id, topic_id, stamp } = read_as;
        let without_effect = || {
            let tracked = Tracked::new(topic_partition, topic_id, stamp, &Arc::default());
            Acknowledgement { tracked, offset }
        };
        let mut partitions = lock(&self.partitions);
        let assigned = partitions.get_mut(topic_partition).filter(|assigned| assigned.id == partition_id);
        let Some(assigned) = assigned else { return without_effect() };
        let (known, known_stamp, next) = {
            let tracked = lock(&assigned.tracked);
            (tracked.topic_id, tracked.stamp, tracked.next)
        };
        let is_of_another = ![known, topic_id].contains(&Uuid::ZERO) && known != topic_id;
        if is_of_another && stamp < known_stamp {
            // Its topic was replaced by the one that is known. Threads may track the records of both in any order.
            return without_effect();
        }
        if is_of_another || next.is_some_and(|next| next > offset) {
            assigned.tracked = Tracked::new(topic_partition, topic_id, stamp, &self.changed);
        } else if known.is_zero() {
            let mut tracked = lock(&assigned.tracked);
            (tracked.topic_id, tracked.stamp) = (topic_id, stamp);
        }
        let tracked = Arc::clone(&assigned.tracked);
        drop(partitions);
        let mut state = lock(&tracked);
        state.open.insert(offset);
        state.next = Some(offset.saturating_add(1));
        state.list();
        drop(state);
        Acknowledgement { tracked, offset }
    }

    /// What can be committed: of each partition with tracked records, the offset up to which all are acknowledged.
    pub fn offsets(&self) -> Offsets {
        let offset =
            |(key, assigned): (&TopicPartition, &Assigned)| Some((key.clone(), lock(&assigned.tracked).offset()?));
        lock(&self.partitions).iter().filter_map(offset).collect()
    }

    /// What can be committed for one partition.
    pub(super) fn offset(&self, topic_partition: &TopicPartition) -> Option<CommittedOffset> {
        let partitions = lock(&self.partitions);
        let tracked = lock(&partitions.get(topic_partition)?.tracked);
        tracked.offset()
    }

    /// The partitions for which [`offset`](Self::offset) may have changed since the last call.
    pub(super) fn take_changed(&self) -> Vec<TopicPartition> {
        let partitions = lock(&self.partitions);
        let changed = std::mem::take(&mut *lock(&self.changed));
        for assigned in changed.iter().filter_map(|key| partitions.get(key)) {
            lock(&assigned.tracked).is_listed = false;
        }
        changed
    }

    /// The number of tracked records that are not acknowledged.
    pub fn open(&self) -> usize {
        lock(&self.partitions).values().map(|assigned| lock(&assigned.tracked).open.len()).sum()
    }

    /// Begins to count the records of a partition that the member now owns; `id` is the one in its consumer.
    pub(super) fn begin(&self, topic_partition: &TopicPartition, id: PartitionId) {
        let tracked = Tracked::new(topic_partition, Uuid::ZERO, 0, &self.changed);
        lock(&self.partitions).insert(topic_partition.clone(), Assigned { id, tracked });
    }

    /// The partition is no longer the member's.
    pub(super) fn forget(&self, topic_partition: &TopicPartition) {
        lock(&self.partitions).remove(topic_partition);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kavka_core::backoff::Backoff;
    use kavka_core::config::ConsumerConfig;
    use kavka_core::consumer::{Consumer, StartPosition};

    use super::*;

    const OLD: Uuid = Uuid([1; 16]);
    const NEW: Uuid = Uuid([2; 16]);

    fn key() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    /// The ids of a partition that is assigned, given up and assigned again.
    fn ids() -> [PartitionId; 2] {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut consumer = Consumer::new(ConsumerConfig::default(), backoff, 0, 0);
        [(); 2].map(|()| {
            consumer.add(&key(), StartPosition::Earliest).unwrap();
            let id = consumer.partition_id(&key()).unwrap();
            consumer.remove(&key()).unwrap();
            id
        })
    }

    /// Those of a member to which the partition was just assigned, and the partition's id.
    fn assigned() -> (Acknowledgements, PartitionId) {
        let (acknowledgements, [id, _]) = (Acknowledgements::new(), ids());
        acknowledgements.begin(&key(), id);
        (acknowledgements, id)
    }

    /// Tracks a record of the topic with this id.
    fn note(acknowledgements: &Acknowledgements, id: PartitionId, topic_id: Uuid, offset: i64) -> Acknowledgement {
        let stamp = if topic_id == NEW { 20 } else { 10 };
        acknowledgements.note(&key(), ReadAs { partition_id: id, topic_id, stamp }, offset)
    }

    fn committed(acknowledgements: &Acknowledgements) -> Option<i64> {
        acknowledgements.offsets().get(&key()).map(|committed| committed.offset)
    }

    #[test]
    fn the_first_record_that_is_not_acknowledged_holds_up_the_commit() {
        let (acknowledgements, id) = assigned();
        assert_eq!(committed(&acknowledgements), None);
        let [first, second, third] = [3, 5, 6].map(|offset| note(&acknowledgements, id, OLD, offset));
        third.acknowledge();
        first.acknowledge();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (Some(5), 1));
        second.acknowledge();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (Some(7), 0));
    }

    #[test]
    fn acknowledging_a_record_of_a_partition_that_was_given_up_has_no_effect_when_it_is_back() {
        let (acknowledgements, [first, second]) = (Acknowledgements::new(), ids());
        acknowledgements.begin(&key(), first);
        let old = note(&acknowledgements, first, OLD, 3);
        acknowledgements.forget(&key());
        assert_eq!(committed(&acknowledgements), None);
        acknowledgements.begin(&key(), second);
        let _again = note(&acknowledgements, second, OLD, 3);
        old.acknowledge();
        assert_eq!(committed(&acknowledgements), Some(3));
    }

    #[test]
    fn records_tracked_after_their_partition_was_given_up_are_not_committed_when_it_comes_back_further_on() {
        let (acknowledgements, [first, second]) = (Acknowledgements::new(), ids());
        acknowledgements.begin(&key(), first);
        let _old: Vec<_> = (0..200).map(|offset| note(&acknowledgements, first, OLD, offset)).collect();
        acknowledgements.forget(&key());
        let _late: Vec<_> = (200..300).map(|offset| note(&acknowledgements, first, OLD, offset)).collect();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (None, 0));
        acknowledgements.begin(&key(), second);
        let _later: Vec<_> = (300..400).map(|offset| note(&acknowledgements, first, OLD, offset)).collect();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (None, 0));
        note(&acknowledgements, second, OLD, 5_000).acknowledge();
        note(&acknowledgements, first, OLD, 400).acknowledge();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (Some(5_001), 0));
    }

    #[test]
    fn after_a_seek_backwards_what_is_read_again_counts_alone() {
        let (acknowledgements, id) = assigned();
        let old: Vec<_> = (0..10).map(|offset| note(&acknowledgements, id, OLD, offset)).collect();
        note(&acknowledgements, id, OLD, 2).acknowledge();
        assert_eq!(committed(&acknowledgements), Some(3));
        old.into_iter().for_each(Acknowledgement::acknowledge);
        assert_eq!(committed(&acknowledgements), Some(3));
    }

    #[test]
    fn what_was_read_of_a_topic_that_was_created_again_does_not_count_for_the_new_one() {
        let (acknowledgements, id) = assigned();
        let late = note(&acknowledgements, id, OLD, 3);
        note(&acknowledgements, id, OLD, 4).acknowledge();
        assert_eq!(acknowledgements.offset(&key()).unwrap().topic_id, OLD);
        // The new topic may be the longer one already.
        let open = note(&acknowledgements, id, NEW, 9);
        late.acknowledge();
        let offset = acknowledgements.offset(&key()).unwrap();
        assert_eq!((offset.topic_id, offset.offset, acknowledgements.open()), (NEW, 9, 1));
        note(&acknowledgements, id, OLD, 5).acknowledge();
        assert_eq!((committed(&acknowledgements), acknowledgements.open()), (Some(9), 1), "it was tracked too late");
        open.acknowledge();
        assert_eq!(committed(&acknowledgements), Some(10));
    }

    #[test]
    fn the_new_topic_counts_although_its_first_record_is_tracked_before_the_last_one_of_the_old_topic() {
        for known_before in [None, Some(4)] {
            let (acknowledgements, id) = assigned();
            if let Some(offset) = known_before {
                note(&acknowledgements, id, OLD, offset).acknowledge();
            }
            let first = note(&acknowledgements, id, NEW, 0);
            note(&acknowledgements, id, OLD, 5).acknowledge();
            let second = note(&acknowledgements, id, NEW, 1);
            let offset = acknowledgements.offset(&key()).unwrap();
            assert_eq!((offset.topic_id, offset.offset, acknowledgements.open()), (NEW, 0, 2));
            first.acknowledge();
            second.acknowledge();
            assert_eq!(committed(&acknowledgements), Some(2));
        }
    }

    #[test]
    fn an_id_that_becomes_known_after_an_upgrade_of_the_brokers_does_not_make_a_topic_another_one() {
        let (acknowledgements, id) = assigned();
        let open = note(&acknowledgements, id, Uuid::ZERO, 3);
        note(&acknowledgements, id, OLD, 4).acknowledge();
        let offset = acknowledgements.offset(&key()).unwrap();
        assert_eq!((offset.topic_id, offset.offset, acknowledgements.open()), (OLD, 3, 1));
        open.acknowledge();
        assert_eq!(committed(&acknowledgements), Some(5));
    }

    #[test]
    fn only_partitions_of_which_something_was_acknowledged_are_looked_at_for_the_next_commit() {
        let (acknowledgements, id) = assigned();
        for partition in 1..10_000 {
            acknowledgements.begin(&TopicPartition::new("orders", partition), id);
        }
        assert!(acknowledgements.take_changed().is_empty());
        let records = [3, 4, 5].map(|offset| note(&acknowledgements, id, OLD, offset));
        for record in records {
            assert_eq!(acknowledgements.take_changed(), [key()]);
            record.acknowledge();
        }
        assert_eq!((acknowledgements.take_changed(), committed(&acknowledgements)), (vec![key()], Some(6)));
        assert!(acknowledgements.take_changed().is_empty());
    }

    #[test]
    fn many_threads_acknowledge() {
        let (acknowledgements, id) = assigned();
        let mut open: Vec<_> = (0..1_000).map(|offset| note(&acknowledgements, id, OLD, offset)).collect();
        let held = open.remove(700);
        std::thread::scope(|scope| {
            while !open.is_empty() {
                let some = open.split_off(open.len().saturating_sub(250));
                scope.spawn(move || some.into_iter().for_each(Acknowledgement::acknowledge));
            }
        });
        assert_eq!(committed(&acknowledgements), Some(700));
        held.acknowledge();
        assert_eq!(committed(&acknowledgements), Some(1_000));
    }
}

//! All partitions of a consumer: an arena, the look-up by topic and number, and counts.
//!
//! A [`PartitionId`] is an index into the arena plus a generation, so the id of a removed partition finds nothing, even
//! if its slot is used again. Lists and requests in flight hold ids instead of names.
//!
//! What may hold the id of a removed partition (the queue, requests in flight, batches that come back) asks
//! [`Partitions::find`]. Everything else uses [`Partitions::get`], which cannot fail. If a bug makes it miss all the
//! same, it returns a blank partition, and [`Partitions::is_broken`] says so: the consumer then stops itself.
//!
//! [`Partitions::update`] keeps the counts and the ends of back-offs up to date with each partition's [`IndexKeys`], so
//! a wake-up need not walk over all partitions.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::Topic;
use crate::time::Instant;
use crate::wire::primitives::Uuid;

use super::partition::{Class, IndexKeys, NextStep, Partition};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Names a partition of one consumer, from when it is added until it is removed. When it is added again it has another
/// id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    index: u32,
    generation: u32,
}

#[cfg(test)]
impl PartitionId {
    pub(super) fn numbered(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    /// The partition, and the keys under which it is in the lists and counts.
    used: Option<(Partition, IndexKeys)>,
}

/// The partitions of one topic.
#[derive(Debug, Default)]
struct TopicEntry {
    partitions: BTreeMap<i32, PartitionId>,
    topic_id: Uuid,
}

#[derive(Debug)]
pub(super) struct Partitions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    topics: BTreeMap<Arc<str>, TopicEntry>,
    names: BTreeMap<Uuid, Arc<str>>,
    backing_off: BTreeSet<(Instant, PartitionId)>,
    paused_with_buffer: BTreeSet<PartitionId>,
    fetching: usize,
    leaderless: BTreeSet<PartitionId>,
    /// What a look-up returns if it finds nothing.
    blank: (Partition, IndexKeys),
    broken: Cell<bool>,
    /// How many partitions were looked at; tests use it to measure work.
    #[cfg(test)]
    pub(super) visits: Cell<usize>,
}

impl Default for Partitions {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            paused_with_buffer: BTreeSet::new(),
            fetching: 0,
            leaderless: BTreeSet::new(),
            blank: (Partition::new(TopicPartition::new("", -1), 0), IndexKeys::default()),
            broken: Cell::new(false),
            #[cfg(test)]
            visits: Cell::new(0),
        }
    }
}

impl Partitions {
    /// Adds a partition. `None` if it is there already.
    pub(super) fn insert(&mut self, partition: Partition) -> Option<PartitionId> {
        let key = partition.key();
        let entry = self.topics.entry(Arc::clone(&key.topic)).or_default();
        let std::collections::btree_map::Entry::Vacant(vacant) = entry.partitions.entry(key.partition) else {
            return None;
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len()).unwrap_or(u32::MAX).saturating_sub(1)
        });
        let slot = self.slots.get_mut(index as usize)?;
        slot.used = Some((partition, IndexKeys::default()));
        Some(*vacant.insert(PartitionId { index, generation: slot.generation }))
    }

    /// Removes a partition, which must be in no list or count any more (see [`Partitions::unindex`]).
    pub(super) fn remove(&mut self, id: PartitionId) -> Option<Partition> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let (partition, _) = slot.used.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        let key = partition.key();
        match self.topics.get_mut(&key.topic) {
            Some(entry) => {
                entry.partitions.remove(&key.partition);
                if entry.partitions.is_empty() {
                    self.names.remove(&entry.topic_id);
                    self.topics.remove(&key.topic);
                }
            }
            None => self.broken.set(true),
        }
        Some(partition)
    }

    fn slot_mut(&mut self, id: PartitionId) -> &mut (Partition, IndexKeys) {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.used.as_mut()).unwrap_or_else(|| {
            self.broken.set(true);
            &mut self.blank
        })
    }

    /// The partition with this id, unless it was removed.
    pub(super) fn find(&self, id: PartitionId) -> Option<&Partition> {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.used.as_ref().map(|(partition, _)| partition)
    }

    /// The partition with this id, which must exist.
    pub(super) fn get(&self, id: PartitionId) -> &Partition {
        self.find(id).unwrap_or_else(|| {
            self.broken.set(true);
            &self.blank.0
        })
    }

    /// The partition with this id, which must exist. Call [`Partitions::update`] after changing it.
    pub(super) fn get_mut(&mut self, id: PartitionId) -> &mut Partition {
        &mut self.slot_mut(id).0
    }

    /// Whether a partition that must exist was not found, which is a bug.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// The id of the partition with this topic and number.
    pub(super) fn id_of(&self, topic: &str, partition: i32) -> Option<PartitionId> {
        self.topics.get(topic)?.partitions.get(&partition).copied()
    }

    /// The name of the topic with this id, if one of its partitions is consumed.
    pub(super) fn topic_name(&self, topic_id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&topic_id)
    }

    /// The stored `Arc` of this topic's name, if one of its partitions is consumed.
    pub(super) fn own_name(&self, topic: &str) -> Option<Arc<str>> {
        self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name))
    }

    /// The ids of all partitions, in the order of their topics and numbers.
    pub(super) fn ids(&self) -> impl Iterator<Item = PartitionId> {
        self.topics.values().flat_map(|entry| entry.partitions.values()).copied()
    }

    /// All partitions, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.ids().map(|id| self.get(id))
    }

    /// The partitions of one topic.
    pub(super) fn of_topic(&self, topic: &str) -> Vec<PartitionId> {
        self.topics.get(topic).map(|entry| entry.partitions.values().copied().collect()).unwrap_or_default()
    }

    /// The partitions of a topic that new metadata describes in another way than the metadata before.
    pub(super) fn changed(&self, name: &str, before: Option<&Topic>, topic: Option<&Topic>) -> Vec<PartitionId> {
        let Some(entry) = self.topics.get(name) else { return Vec::new() };
        match (before, topic) {
            (Some(before), Some(topic)) if before.topic_id == topic.topic_id && before.error == topic.error => {
                let numbers = topic.partitions.changed(&before.partitions);
                numbers.filter_map(|number| entry.partitions.get(&i32::try_from(number).ok()?).copied()).collect()
            }
            _ => entry.partitions.values().copied().collect(),
        }
    }

    /// Remembers the topic's id. During an upgrade some brokers send none; that does not remove a known id.
    pub(super) fn name_topic(&mut self, key: &TopicPartition, topic_id: Uuid) {
        match self.topics.get_mut(&key.topic) {
            Some(entry) if !topic_id.is_zero() && entry.topic_id != topic_id => {
                self.names.remove(&entry.topic_id);
                entry.topic_id = topic_id;
                self.names.insert(topic_id, Arc::clone(&key.topic));
            }
            Some(_) => {}
            None => self.broken.set(true),
        }
    }

    /// Updates the counts and times for a partition; returns its keys before and now.
    pub(super) fn update(&mut self, id: PartitionId, now: Instant, enough: usize) -> (IndexKeys, IndexKeys) {
        let (partition, keys) = self.slot_mut(id);
        let new = partition.index_keys(now, enough);
        let old = std::mem::replace(keys, new);
        self.recount(id, &old, &new);
        (old, new)
    }

    /// Removes a partition from all lists and counts; returns the keys it had.
    pub(super) fn unindex(&mut self, id: PartitionId) -> IndexKeys {
        let (_, keys) = self.slot_mut(id);
        let old = std::mem::take(keys);
        self.recount(id, &old, &IndexKeys::default());
        old
    }

    fn recount(&mut self, id: PartitionId, old: &IndexKeys, new: &IndexKeys) {
        let is_fetching = |keys: &IndexKeys| usize::from(keys.class == Class::Fetching);
        self.fetching = self.fetching.saturating_add(is_fetching(new)).saturating_sub(is_fetching(old));
        if new.class == Class::Leaderless {
            self.leaderless.insert(id);
        } else if old.class == Class::Leaderless {
            self.leaderless.remove(&id);
        }
        if old.next_step != new.next_step {
            if let NextStep::Later(at) = old.next_step {
                self.backing_off.remove(&(at, id));
            }
            if let NextStep::Later(at) = new.next_step {
                self.backing_off.insert((at, id));
            }
        }
        if new.is_paused_with_buffer {
            self.paused_with_buffer.insert(id);
        } else if old.is_paused_with_buffer {
            self.paused_with_buffer.remove(&id);
        }
    }

    /// A partition whose back-off has ended.
    pub(super) fn due(&self, now: Instant) -> Option<PartitionId> {
        self.backing_off.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// When the next back-off ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _)| *at)
    }

    /// The paused partitions that have records buffered.
    pub(super) fn paused_with_buffer(&self) -> Vec<PartitionId> {
        self.paused_with_buffer.iter().copied().collect()
    }

    /// How many partitions have a position and a leader.
    pub(super) fn fetching(&self) -> usize {
        self.fetching
    }

    /// Whether any partition has no leader.
    pub(super) fn lacks_leader(&self) -> bool {
        !self.leaderless.is_empty()
    }

    /// The topic of each partition without a leader.
    pub(super) fn leaderless_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.leaderless.iter().map(|id| &self.get(*id).key().topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_partition_that_was_removed_finds_nothing() {
        let mut partitions = Partitions::default();
        let key = TopicPartition::new("orders", 3);
        let old = partitions.insert(Partition::new(key.clone(), 1)).unwrap();
        assert!(partitions.insert(Partition::new(key.clone(), 1)).is_none(), "it is there already");
        partitions.remove(old).unwrap();
        let new = partitions.insert(Partition::new(key, 1)).unwrap();
        assert!(partitions.find(old).is_none() && partitions.find(new).is_some());
        assert_eq!(partitions.id_of("orders", 3), Some(new));
        assert!(partitions.get(new).key().partition == 3 && !partitions.is_broken());
        assert!(partitions.get(old).key().partition == -1 && partitions.is_broken());
    }
}

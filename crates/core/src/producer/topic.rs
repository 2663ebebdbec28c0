//! The topics of a producer: their partitions, and what the metadata says about them.

use std::sync::Arc;
use std::time::Duration;

use super::arena::Arena;
use super::partition::Partition;
use super::{HandleId, LaneId, PartitionId, Producer, TopicIndex};
use crate::cluster::{self, Metadata};
use crate::error::{Error, ErrorKind, Place, Written};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::Uuid;

/// A topic of one handle.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) handle: HandleId,
    pub(super) lane: LaneId,
    /// [`Uuid::ZERO`] while unknown.
    pub(super) id: Uuid,
    /// Every partition ever seen. Those from `partition_count` on are no longer in the metadata.
    pub(super) partitions: Vec<PartitionId>,
    pub(super) partition_count: u32,
    /// The metadata that was last applied, to see whether a new snapshot changes anything.
    seen: Option<Arc<cluster::Topic>>,
    /// The sticky partition, and how many batches it had closed when it was chosen.
    sticky: Option<(u32, u64)>,
    next_sticky: u32,
    /// Whether its handle is gone. The topic stays until its last request is answered.
    is_orphan: bool,
    presence: Presence,
}

/// Whether the topic exists in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It exists, as far as is known.
    There,
    /// The metadata says that it does not exist, which may only mean that the broker lags behind. The time is since
    /// when one of its leaders says so, too; `None` while no leader does.
    Unseen(Option<Instant>),
    /// It was deleted.
    Deleted,
}

/// How long both a leader and the metadata must say that a topic is unknown before it counts as deleted. After a
/// restart the metadata does not say so for a while (`cluster/doubt`).
pub const DELETED_AFTER: Duration = Duration::from_secs(5);

/// How often to check whether they still say so.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn deleted() -> Error {
    Error::new(ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "the topic was deleted")
}

impl Topic {
    pub(super) fn new(name: Arc<str>, handle: HandleId, lane: LaneId, next_sticky: u32) -> Self {
        Self {
            name,
            handle,
            lane,
            id: Uuid::ZERO,
            partitions: Vec::new(),
            partition_count: 0,
            seen: None,
            sticky: None,
            next_sticky,
            is_orphan: false,
            presence: Presence::There,
        }
    }

    /// The partition with this partition number.
    #[inline]
    pub(super) fn partition(&self, index: u32) -> Option<PartitionId> {
        self.partitions.get(index as usize).copied().filter(|_| index < self.partition_count)
    }

    /// The partition for a record without a key: the sticky partition until its batch is closed, then the next one in
    /// turn, preferably one that has a leader (KIP-480).
    #[inline]
    pub(super) fn choose_sticky(&mut self, partitions: &Arena<PartitionId, Partition>) -> u32 {
        if let Some((sticky, closed)) = self.sticky
            && self.partition(sticky).is_some_and(|id| partitions.get(id).closed_batches() == closed)
        {
            return sticky;
        }
        self.choose_next_sticky(partitions)
    }

    fn choose_next_sticky(&mut self, partitions: &Arena<PartitionId, Partition>) -> u32 {
        let at = |index: u32| self.partition(index).map(|id| partitions.get(id));
        let count = self.partition_count.max(1);
        let first = self.next_sticky % count;
        let has_leader = |index: &u32| at(*index).is_some_and(|partition| partition.leader().is_some());
        let index = (first..count).chain(0..first).find(has_leader).unwrap_or(first);
        self.sticky = at(index).map(|partition| (index, partition.closed_batches()));
        self.next_sticky = (index + 1) % count;
        index
    }

    /// The error for new records, if the topic was deleted.
    #[inline]
    pub(super) fn refusal(&self) -> Option<Error> {
        (self.presence == Presence::Deleted).then(|| {
            let topic = Some(Arc::clone(&self.name));
            deleted().with_written(Written::No).at(Place { topic, ..Place::default() })
        })
    }

    /// Whether the snapshot changes anything about the topic.
    fn has_news(&self, metadata: &Metadata) -> bool {
        metadata.topic(&self.name).map(Arc::as_ptr) != self.seen.as_ref().map(Arc::as_ptr)
    }

    #[cold]
    pub(super) fn no_such_partition(&self, partition: Option<i32>) -> Error {
        let count = self.partition_count;
        let what = format!("there is no such partition: the topic has {count}, numbered from 0");
        let error = Error::new(ErrorKind::Misuse, what).with_written(Written::No);
        error.at_partition(&self.name, partition.unwrap_or(-1))
    }
}

impl Producer {
    /// The index of a topic of a handle, for [`append`](Self::append); the same name always gives the same index. If
    /// `metadata`, the newest snapshot, has the topic, records can be appended at once.
    pub fn topic(&mut self, now: Instant, handle: HandleId, name: &str, metadata: &Metadata) -> TopicIndex {
        self.handle_metadata(now, metadata);
        let known = self.handles.get(handle).topics.get(name).copied();
        known.unwrap_or_else(|| {
            let index = self.add_topic(handle, name);
            self.update_topic(now, index, metadata);
            index
        })
    }

    fn add_topic(&mut self, handle: HandleId, name: &str) -> TopicIndex {
        let name: Arc<str> = name.into();
        let lane = self.lanes.without_topic(&name);
        let next_sticky = self.random.next_u64() as u32 & 0xffff;
        let index = self.topics.insert(|_| Topic::new(Arc::clone(&name), handle, lane, next_sticky));
        self.lanes.add_topic(lane, Arc::clone(&name), index);
        self.handles.get_mut(handle).topics.insert(name, index);
        index
    }

    /// The name of a topic if the newest metadata lacks it: look it up before waiting for anything else, because there
    /// may be no such topic any more.
    pub fn missing_topic(&self, topic: TopicIndex) -> Option<Arc<str>> {
        let topic = self.topics.find(topic)?;
        let is_missing = topic.partition_count == 0 || matches!(topic.presence, Presence::Unseen(_));
        is_missing.then(|| Arc::clone(&topic.name))
    }

    /// How many partitions a topic has; 0 while that is unknown.
    pub fn partition_count(&self, topic: TopicIndex) -> u32 {
        self.topics.find(topic).map_or(0, |topic| topic.partition_count)
    }

    /// Applies a snapshot: new partitions, new leaders, topics that were created again. A snapshot older than the last
    /// one (several threads pass them in) is ignored.
    pub fn handle_metadata(&mut self, now: Instant, metadata: &Metadata) {
        if self.metadata_version.is_some_and(|known| known >= metadata.version) {
            return;
        }
        self.metadata_version = Some(metadata.version);
        let changed = self.topics.keys().filter(|index| self.topics.get(*index).has_news(metadata));
        for index in changed.collect::<Vec<_>>() {
            self.update_topic(now, index, metadata);
        }
        self.check();
    }

    fn update_topic(&mut self, now: Instant, index: TopicIndex, metadata: &Metadata) {
        self.update_presence(now, index, metadata);
        let topic = self.topics.get_mut(index);
        if is_planted(Bug::SequencesStartOver) && topic.presence != Presence::There {
            for id in &topic.partitions {
                self.partitions.get_mut(*id).start_sequences_over();
            }
        }
        // A topic that is missing from the metadata for a moment keeps its partitions and sequences.
        let Some(news) = metadata.topic(&topic.name).filter(|news| !news.partitions.is_empty()) else { return };
        let made_anew = topic.id != Uuid::ZERO && news.topic_id != Uuid::ZERO && topic.id != news.topic_id;
        if news.topic_id != Uuid::ZERO {
            topic.id = news.topic_id;
        }
        let before = topic.seen.replace(Arc::clone(news));
        topic.partition_count = news.partitions.len() as u32;
        while topic.partitions.len() < news.partitions.len() {
            let number = topic.partitions.len() as i32;
            let (name, handle, lane) = (Arc::clone(&topic.name), topic.handle, topic.lane);
            topic.partitions.push(self.partitions.insert(|_| Partition::new(index, name, number, handle, lane)));
        }
        let numbers: Vec<usize> = match &before {
            Some(before) if !made_anew => news.partitions.changed(&before.partitions).collect(),
            Some(_) | None => (0..topic.partitions.len()).collect(),
        };
        let changed = numbers.into_iter().filter_map(|number| Some((number, *topic.partitions.get(number)?)));
        for (number, id) in changed.collect::<Vec<_>>() {
            let partition = self.partitions.get_mut(id);
            if made_anew {
                partition.handle_made_anew();
            }
            let leader = news.partitions.get(number).and_then(|partition| partition.leader);
            let moved_to = leader.filter(|leader| partition.leader().is_some_and(|before| before != *leader));
            let is_new = partition.handle_leader(leader);
            if let Some(broker_id) = moved_to {
                // The leader moves while brokers are restarted, perhaps to be upgraded.
                self.older.forget(broker_id);
            }
            if is_new || made_anew {
                self.advance(now, id);
            }
        }
    }

    fn update_presence(&mut self, now: Instant, index: TopicIndex, metadata: &Metadata) {
        let topic = self.topics.get_mut(index);
        let is_unseen = match metadata.topic(&topic.name) {
            Some(news) => news.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            None => topic.seen.is_some(),
        };
        match topic.presence {
            _ if !is_unseen => topic.presence = Presence::There,
            Presence::There => {
                topic.presence = Presence::Unseen(None);
                self.unseen.insert((now + LOOK_EVERY, index));
                // A topic whose producer is gone waits only for the answers that are still due.
                if !topic.is_orphan {
                    self.handles.get_mut(topic.handle).handle_missing_topic();
                    self.progressed.insert(topic.handle);
                }
            }
            Presence::Unseen(_) | Presence::Deleted => {}
        }
    }

    /// Fails the records of topics that neither the metadata nor a leader has known for a while.
    pub(super) fn give_up_deleted(&mut self, now: Instant) {
        while let Some((_, index)) = self.unseen.first().copied().filter(|(due, _)| *due <= now) {
            self.unseen.pop_first();
            // Since the check was scheduled, the topic may have been removed, or have appeared in the metadata.
            let presence = self.topics.find(index).map(|topic| topic.presence);
            if let Some(Presence::Unseen(since)) = presence {
                self.check_unseen(now, index, since);
            }
        }
    }

    fn check_unseen(&mut self, now: Instant, index: TopicIndex, since: Option<Instant>) {
        let partitions = self.topics.get(index).partitions.clone();
        let is_unknown = partitions.iter().any(|id| self.partitions.get(*id).is_unknown_to_leader());
        let since = is_unknown.then(|| since.unwrap_or(now));
        if since.is_none_or(|since| since + DELETED_AFTER > now) {
            self.topics.get_mut(index).presence = Presence::Unseen(since);
            self.unseen.insert((now + LOOK_EVERY, index));
            return;
        }
        self.topics.get_mut(index).presence = Presence::Deleted;
        for id in partitions {
            self.partitions.get_mut(id).fail_all(deleted());
            self.advance(now, id);
        }
    }

    /// Removes the topics of a handle that is gone, each as soon as none of its batches is in flight.
    pub(super) fn remove_topics(&mut self, now: Instant, topics: impl Iterator<Item = TopicIndex>) {
        for index in topics {
            self.topics.get_mut(index).is_orphan = true;
            self.remove_orphan(now, index);
        }
    }

    /// Removes a topic if its handle is gone and none of its batches is in flight.
    pub(super) fn remove_orphan(&mut self, now: Instant, index: TopicIndex) {
        let topic = self.topics.get(index);
        if !topic.is_orphan || !topic.partitions.iter().all(|id| self.partitions.get(*id).is_landed()) {
            return;
        }
        if let Some(topic) = self.topics.remove(index) {
            let lane_is_left = self.lanes.remove_topic(topic.lane, &topic.name);
            for id in topic.partitions {
                let used = self.partitions.remove(id).and_then(|partition| partition.producer_id());
                if let Some(used) = used.filter(|_| lane_is_left) {
                    self.lanes.update(topic.lane, |lane| lane.retire(now, used));
                }
            }
        }
    }
}

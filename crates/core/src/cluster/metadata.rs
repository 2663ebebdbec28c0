//! A snapshot of the cluster: brokers, topics, leaders.
//!
//! A [`Metadata`] never changes; a refresh makes a new one. Leader epochs only go forward: an answer from a broker that
//! lags behind cannot bring an older leader back (KIP-320).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::partition_list::PartitionList;
use crate::cluster::topic_map::TopicMap;
use crate::planted::{Bug, is_planted};
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::MetadataResponse;
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use crate::wire::primitives::Uuid;

/// A snapshot of brokers, topics and leaders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Grows with every change: two snapshots are equal if their versions are.
    pub version: u64,
    /// The cluster's id; brokers send it from Kafka 0.10.1 on.
    pub cluster_id: Option<String>,
    /// The broker that handles administrative requests.
    pub controller_id: Option<i32>,
    brokers: BTreeMap<i32, Broker>,
    topics: TopicMap,
    replaced: ReplacedIds,
}

/// The ids of earlier topics of the same name, which were deleted and created again.
///
/// Topic ids are random, so two ids do not tell which is newer. But a broker that names an id which was already
/// replaced must be lagging behind.
#[derive(Debug, Clone, Default, PartialEq)]
struct ReplacedIds(BTreeMap<Arc<str>, Replaced>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Replaced {
    /// Oldest first.
    ids: Vec<Uuid>,
    /// How many answers in a row named a replaced id.
    insisting: u32,
}

/// How many replaced ids are kept for one topic.
const MAX_REPLACED_IDS: usize = 4;

/// After this many answers in a row that name a replaced id, that id is taken as the current one: the answer that
/// replaced it must have come from the broker that lagged behind.
const MAX_INSISTING: u32 = 5;

impl ReplacedIds {
    /// Whether an answer with this topic id is older than what is known of the topic.
    fn is_outdated(&mut self, known: &Topic, id: Uuid) -> bool {
        if id == Uuid::ZERO || known.topic_id == Uuid::ZERO {
            return false;
        }
        if id == known.topic_id {
            if let Some(replaced) = self.0.get_mut(&known.name) {
                replaced.insisting = 0;
            }
            return false;
        }
        let replaced = self.0.entry(Arc::clone(&known.name)).or_default();
        if replaced.ids.contains(&id) && replaced.insisting < MAX_INSISTING {
            replaced.insisting += 1;
            return true;
        }
        replaced.insisting = 0;
        replaced.ids.retain(|replaced| *replaced != id);
        replaced.ids.push(known.topic_id);
        if replaced.ids.len() > MAX_REPLACED_IDS {
            replaced.ids.remove(0);
        }
        false
    }
}

/// One broker, as it advertises itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The broker's `broker.id` (`node.id` in KRaft).
    pub id: i32,
    /// The advertised host name or IP address.
    pub host: Arc<str>,
    /// The advertised port.
    pub port: u16,
    /// The broker's `broker.rack`.
    pub rack: Option<String>,
}

impl Broker {
    /// A broker, or `None` if its host or port cannot be dialled.
    pub fn new(id: i32, host: &str, port: i32, rack: Option<String>) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        (!host.is_empty() && id >= 0).then(|| Self { id, host: host.into(), port, rack })
    }
}

/// One topic and its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id (KIP-516); [`Uuid::ZERO`] from brokers before 2.8.
    pub topic_id: Uuid,
    /// The error code that the broker gave for the topic as a whole.
    pub error: ErrorCode,
    /// Whether it is an internal topic such as `__consumer_offsets`.
    pub is_internal: bool,
    /// The partitions, by number.
    pub partitions: PartitionList,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// The error code that the broker gave for this partition.
    pub error: ErrorCode,
    /// The broker that leads it; `None` while it has no leader.
    pub leader: Option<i32>,
    /// The leader epoch; brokers send it from Kafka 2.1 on.
    pub leader_epoch: Option<i32>,
    /// The brokers that hold a replica.
    pub replicas: Vec<i32>,
    /// The brokers whose replica is in sync.
    pub in_sync_replicas: Vec<i32>,
}

/// A new leader, named by the old one in its error response (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition number.
    pub partition: i32,
    /// The broker that leads the partition now.
    pub leader: i32,
    /// The new leader's epoch.
    pub leader_epoch: Option<i32>,
}

/// A metadata response lists every partition of a topic. If the highest partition number is more than this many times
/// the number of listed partitions, the response counts as damaged: we would have to allocate room for all the numbers
/// below it.
const MAX_NUMBER_PER_LISTED: usize = 16;

impl Metadata {
    /// The broker with this id, if it is known.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Every broker, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The topic with this name, if a metadata response described it.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// Every known topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter()
    }

    /// The broker id and leader epoch of a partition's leader, if it has one.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, Option<i32>)> {
        let topic = self.topics.get(topic)?;
        let partition = topic.partitions.get(usize::try_from(partition).ok()?)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// The snapshot after `response`. `all_topics`: the response lists every topic, so a topic that it leaves out is
    /// gone.
    ///
    /// If nothing changed, the version stays the same. A topic that did not change keeps its [`Arc`].
    ///
    /// A topic that comes back with an error keeps its partitions, so that a broker that cannot see the topic for a
    /// moment does not make a producer forget its leaders.
    #[must_use]
    pub fn merged(&self, response: MetadataResponse, all_topics: bool) -> Self {
        let brokers: BTreeMap<i32, Broker> = response
            .brokers
            .into_iter()
            .filter_map(|broker| Broker::new(broker.node_id, &broker.host, broker.port, broker.rack))
            .map(|broker| (broker.id, broker))
            .collect();
        let mut replaced = self.replaced.clone();
        let mut topics = if all_topics { TopicMap::default() } else { self.topics.clone() };
        let mut is_changed = false;
        for topic in response.topics {
            let known = topic.name.as_deref().and_then(|name| self.topics.get(name));
            let is_outdated = known.is_some_and(|known| replaced.is_outdated(known, topic.topic_id));
            let merged = if is_outdated { None } else { merged_topic(known, topic) };
            let topic = match (merged, known) {
                (Some(merged), Some(known)) if merged == **known => Arc::clone(known),
                (Some(merged), _) => Arc::new(merged),
                (None, Some(known)) => Arc::clone(known),
                (None, None) => continue,
            };
            is_changed |= known.is_none_or(|known| !Arc::ptr_eq(known, &topic));
            topics.insert(topic);
        }
        is_changed |= topics.len() != self.topics.len();
        let next = Self {
            version: self.version,
            cluster_id: response.cluster_id.or_else(|| self.cluster_id.clone()),
            controller_id: response.controller_id,
            brokers: if brokers.is_empty() { self.brokers.clone() } else { brokers },
            topics,
            replaced,
        };
        is_changed |= next.cluster_id != self.cluster_id
            || next.controller_id != self.controller_id
            || next.brokers != self.brokers;
        Self { version: self.version + u64::from(is_changed), ..next }
    }

    /// The names of the topics that are described in another way than in the snapshot `before`, or are in one of the
    /// two only.
    pub(crate) fn changed_topics(&self, before: &Self) -> BTreeSet<Arc<str>> {
        self.topics.changed(&before.topics)
    }

    /// Whether the snapshot `before` has the same brokers.
    pub(crate) fn has_brokers_of(&self, before: &Self) -> bool {
        self.brokers == before.brokers
    }

    /// Drops the topics for which `keep` returns false.
    pub(super) fn retain_topics(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.topics.len();
        self.topics.retain(keep);
        self.version += u64::from(self.topics.len() != before);
    }

    /// The snapshot after brokers named new leaders; hints with an older epoch are ignored. `None` if nothing changed.
    ///
    /// Costs as much as what changed, and nothing is copied for hints that say nothing new: every response to a request
    /// for a partition that has moved repeats its hint.
    #[must_use]
    pub fn with_leaders(&self, hints: &[LeaderHint], endpoints: Vec<Broker>) -> Option<Self> {
        let is_named = |id: i32| self.brokers.contains_key(&id) || endpoints.iter().any(|broker| broker.id == id);
        let news: Vec<&LeaderHint> = hints.iter().filter(|hint| self.is_news(hint) && is_named(hint.leader)).collect();
        if news.is_empty() {
            return None;
        }
        let mut next = self.clone();
        next.brokers.extend(endpoints.into_iter().map(|broker| (broker.id, broker)));
        for hint in news {
            // An earlier hint may have been about the same partition.
            if let Some(partition) = next.partition_mut(&hint.topic, hint.partition)
                && hint.leader_epoch > partition.leader_epoch
            {
                partition.leader = Some(hint.leader);
                partition.leader_epoch = hint.leader_epoch;
            }
        }
        next.version += 1;
        Some(next)
    }

    fn is_news(&self, hint: &LeaderHint) -> bool {
        let number = usize::try_from(hint.partition).ok();
        let known = number.and_then(|number| self.topic(&hint.topic)?.partitions.get(number));
        known.is_some_and(|known| hint.leader_epoch > known.leader_epoch)
    }

    fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        let number = usize::try_from(partition).ok()?;
        Arc::make_mut(self.topics.get_mut(topic)?).partitions.get_mut(number)
    }

    /// The snapshot with one more broker.
    #[must_use]
    pub fn with_broker(&self, broker: Broker) -> Self {
        let mut next = self.clone();
        next.brokers.insert(broker.id, broker);
        next.version += 1;
        next
    }

    /// The snapshot without brokers: the next request goes to a bootstrap server.
    #[must_use]
    pub fn without_brokers(&self) -> Self {
        Self { version: self.version + 1, brokers: BTreeMap::new(), ..self.clone() }
    }

    /// The snapshot without this topic.
    #[must_use]
    pub fn without_topic(&self, name: &str) -> Self {
        let mut next = self.clone();
        next.topics.retain(|topic| topic != name);
        next.version += 1;
        next
    }
}

/// The topic after merging one answer; `None` if the answer must be ignored.
fn merged_topic(known: Option<&Arc<Topic>>, topic: MetadataResponseTopic) -> Option<Topic> {
    let name: Arc<str> = topic.name?.into();
    if topic.error_code != ErrorCode::NONE && topic.partitions.is_empty() {
        let partitions = known.map(|topic| topic.partitions.clone()).unwrap_or_default();
        let topic_id = known.map_or(topic.topic_id, |known| known.topic_id);
        return Some(Topic { name, topic_id, error: topic.error_code, is_internal: topic.is_internal, partitions });
    }
    let numbers = topic.partitions.iter().filter_map(|partition| usize::try_from(partition.partition_index).ok());
    let count = numbers.max()?.saturating_add(1);
    if count > topic.partitions.len().saturating_mul(MAX_NUMBER_PER_LISTED) {
        return None;
    }
    // A topic that was created again starts with new epochs, so the old ones cannot be compared with them.
    let same_topic = known.filter(|known| known.topic_id == topic.topic_id);
    // Kafka never removes a partition from a topic, so partitions that the answer leaves out are kept. Without a topic
    // id it might be another topic of the same name.
    let kept = same_topic.filter(|known| known.topic_id != Uuid::ZERO).map(|known| known.partitions.iter().cloned());
    let mut partitions: Vec<Partition> = kept.into_iter().flatten().collect();
    let unknown = Partition { error: ErrorCode::LEADER_NOT_AVAILABLE, ..Partition::default() };
    partitions.resize(partitions.len().max(count), unknown);
    for partition in topic.partitions {
        // `count` left out negative numbers, too.
        let Ok(index) = usize::try_from(partition.partition_index) else { continue };
        let before = same_topic.and_then(|known| known.partitions.get(index));
        if let Some(slot) = partitions.get_mut(index) {
            *slot = merged_partition(before, partition);
        }
    }
    let partitions = PartitionList::from(partitions);
    let partitions = match known {
        Some(known) => partitions.sharing(&known.partitions),
        None => partitions,
    };
    Some(Topic { name, topic_id: topic.topic_id, error: topic.error_code, is_internal: topic.is_internal, partitions })
}

fn merged_partition(before: Option<&Partition>, partition: MetadataResponsePartition) -> Partition {
    let new = Partition {
        error: partition.error_code,
        leader: partition.leader_id.filter(|id| *id >= 0),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes,
        in_sync_replicas: partition.isr_nodes,
    };
    match before {
        Some(before)
            if new.leader_epoch.is_some()
                && before.leader_epoch > new.leader_epoch
                && !is_planted(Bug::OldLeaderReturns) =>
        {
            before.clone()
        }
        Some(_) | None => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::partition_list::WRITES;

    fn cluster(partitions: i32) -> Metadata {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: Some(1),
            leader_epoch: Some(5),
            ..Default::default()
        };
        let partitions = (0..partitions).map(partition).collect();
        let topic = MetadataResponseTopic { name: Some("orders".into()), partitions, ..Default::default() };
        let metadata =
            Metadata::default().merged(MetadataResponse { topics: vec![topic], ..Default::default() }, false);
        [1, 2]
            .into_iter()
            .fold(metadata, |metadata, id| metadata.with_broker(Broker::new(id, "kafka", 9092, None).unwrap()))
    }

    fn hint(partition: i32, leader: i32, epoch: i32) -> LeaderHint {
        LeaderHint { topic: "orders".into(), partition, leader, leader_epoch: Some(epoch) }
    }

    #[test]
    fn hints_that_say_nothing_new_copy_nothing_and_one_that_does_copies_only_its_partition() {
        let metadata = cluster(10_000);
        let before = WRITES.get();
        let old = [hint(7, 2, 5), hint(8, 2, 4), hint(9, 3, 6), hint(10_000, 2, 6), hint(-1, 2, 6)];
        assert!(metadata.with_leaders(&old, vec![]).is_none());
        assert_eq!(WRITES.get(), before);
        let hints: Vec<_> = old.into_iter().chain([hint(7_777, 2, 6)]).collect();
        let moved = metadata.with_leaders(&hints, vec![]).unwrap();
        assert_eq!(WRITES.get() - before, 1);
        let (old, new) = (metadata.topic("orders").unwrap(), moved.topic("orders").unwrap());
        assert_eq!(new.partitions.changed(&old.partitions).collect::<Vec<_>>(), [7_777]);
        assert_eq!(moved.leader("orders", 7_777), Some((2, Some(6))));
    }

    #[test]
    fn of_several_hints_about_a_partition_the_newest_epoch_wins() {
        for hints in [[hint(0, 1, 7), hint(0, 2, 6)], [hint(0, 2, 6), hint(0, 1, 7)]] {
            assert_eq!(cluster(1).with_leaders(&hints, vec![]).unwrap().leader("orders", 0), Some((1, Some(7))));
        }
    }
}

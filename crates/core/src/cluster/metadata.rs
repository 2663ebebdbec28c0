//! What is known of the cluster at one moment.
//!
//! A [`Metadata`] never changes; a refresh makes a new one. Leader epochs only go forward: an
//! answer from a broker that lags behind cannot bring an older leader back (KIP-320).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::messages::MetadataResponse;
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use crate::wire::primitives::Uuid;

/// A snapshot of brokers, topics and leaders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Grows with every change, so that two snapshots can be told apart in one comparison.
    pub version: u64,
    /// The cluster's id, from Kafka 0.10.1 on.
    pub cluster_id: Option<String>,
    /// The broker that answers administrative requests.
    pub controller_id: Option<i32>,
    brokers: BTreeMap<i32, Broker>,
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    replaced: ReplacedIds,
}

/// The ids that topics had before they were deleted and made anew.
///
/// Ids are random: of two of them nobody can tell which is the newer one. But a broker that lags behind names one that was
/// replaced already.
#[derive(Debug, Clone, Default, PartialEq)]
struct ReplacedIds(BTreeMap<Arc<str>, Replaced>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Replaced {
    /// The newest last.
    ids: Vec<Uuid>,
    /// How many answers in a row named one of them.
    insisting: u32,
}

/// How many replaced ids of a topic are kept.
const MAX_REPLACED_IDS: usize = 4;

/// After so many answers in a row that name a replaced id, it is believed: then it was the other one that came from a
/// broker that lagged behind.
const MAX_INSISTING: u32 = 5;

impl ReplacedIds {
    /// Whether an answer that gives a topic this id is older than what is known of the topic.
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
    /// Its `broker.id` (`node.id` in KRaft).
    pub id: i32,
    /// The advertised host name or address.
    pub host: Arc<str>,
    /// The advertised port.
    pub port: u16,
    /// Its `broker.rack`.
    pub rack: Option<String>,
}

impl Broker {
    /// A broker, unless the peer names a host or port that cannot be dialled.
    pub fn new(id: i32, host: &str, port: i32, rack: Option<String>) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        (!host.is_empty() && id >= 0).then(|| Self { id, host: host.into(), port, rack })
    }
}

/// One topic and its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516), or [`Uuid::ZERO`] from brokers before 2.8.
    pub topic_id: Uuid,
    /// What the broker says of the topic as a whole.
    pub error: ErrorCode,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// The partitions; the index is the partition's number.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// What the broker says of the partition.
    pub error: ErrorCode,
    /// The broker that leads it, if there is one.
    pub leader: Option<i32>,
    /// The epoch of that leadership, from Kafka 2.1 on.
    pub leader_epoch: Option<i32>,
    /// The brokers that should hold it.
    pub replicas: Vec<i32>,
    /// The brokers that do hold it, up to date.
    pub in_sync_replicas: Vec<i32>,
}

/// A new leader, named in the answer to a request that went to the old one (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The broker that leads it now.
    pub leader: i32,
    /// The epoch of that leadership.
    pub leader_epoch: Option<i32>,
}

/// A broker lists every partition. An answer whose highest number is more than this many times what it lists is taken
/// for damaged, before room is made for all the partitions below it.
const MAX_NUMBER_PER_LISTED: usize = 16;

impl Metadata {
    /// The broker with this id.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Every broker, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The topic with this name, if it was asked for and the cluster answered.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// Every known topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The leader of a partition and the epoch of its leadership.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, Option<i32>)> {
        let topic = self.topics.get(topic)?;
        let partition = topic.partitions.get(usize::try_from(partition).ok()?)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// The snapshot after `response`; `all_topics` says that topics it leaves out are gone.
    ///
    /// If nothing is different it has the same version, and a topic that is as it was stays the same [`Arc`].
    ///
    /// A topic that comes back with an error keeps its partitions: a broker that cannot see a topic for a moment must not
    /// make a producer forget where its records go.
    #[must_use]
    pub fn merged(&self, response: MetadataResponse, all_topics: bool) -> Self {
        let brokers: BTreeMap<i32, Broker> = response
            .brokers
            .into_iter()
            .filter_map(|broker| Broker::new(broker.node_id, &broker.host, broker.port, broker.rack))
            .map(|broker| (broker.id, broker))
            .collect();
        let mut replaced = self.replaced.clone();
        let mut topics = if all_topics { BTreeMap::new() } else { self.topics.clone() };
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
            topics.insert(Arc::clone(&topic.name), topic);
        }
        let next = Self {
            version: self.version,
            cluster_id: response.cluster_id.or_else(|| self.cluster_id.clone()),
            controller_id: response.controller_id,
            brokers: if brokers.is_empty() { self.brokers.clone() } else { brokers },
            topics,
            replaced,
        };
        let version = if next.shows_the_same(self) { self.version } else { self.version + 1 };
        Self { version, ..next }
    }

    fn shows_the_same(&self, other: &Self) -> bool {
        let same_topic = |(one, other): (&Arc<Topic>, &Arc<Topic>)| Arc::ptr_eq(one, other) || one == other;
        self.cluster_id == other.cluster_id
            && self.controller_id == other.controller_id
            && self.brokers == other.brokers
            && self.topics.len() == other.topics.len()
            && self.topics.values().zip(other.topics.values()).all(same_topic)
    }

    /// Forgets the topics of which `keep` says no.
    pub(super) fn retain_topics(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.topics.len();
        self.topics.retain(|name, _| keep(name));
        self.version += u64::from(self.topics.len() != before);
    }

    /// The snapshot after brokers named new leaders; older epochs are ignored.
    #[must_use]
    pub fn with_leaders(&self, hints: &[LeaderHint], endpoints: Vec<Broker>) -> Option<Self> {
        let mut next = self.clone();
        next.brokers.extend(endpoints.into_iter().map(|broker| (broker.id, broker)));
        let mut changed = false;
        for hint in hints {
            let Some(topic) = next.topics.get_mut(&hint.topic) else { continue };
            let Some(partition) =
                usize::try_from(hint.partition).ok().and_then(|index| Arc::make_mut(topic).partitions.get_mut(index))
            else {
                continue;
            };
            if hint.leader_epoch > partition.leader_epoch && next.brokers.contains_key(&hint.leader) {
                partition.leader = Some(hint.leader);
                partition.leader_epoch = hint.leader_epoch;
                changed = true;
            }
        }
        next.version += 1;
        changed.then_some(next)
    }

    /// The snapshot without its brokers, so that only the bootstrap servers are left to ask.
    #[must_use]
    pub fn without_brokers(&self) -> Self {
        Self { version: self.version + 1, brokers: BTreeMap::new(), ..self.clone() }
    }

    /// The snapshot without this topic.
    #[must_use]
    pub fn without_topic(&self, name: &str) -> Self {
        let mut next = self.clone();
        next.topics.remove(name);
        next.version += 1;
        next
    }
}

/// The topic as it is known after the answer; none if the answer says nothing that can be believed.
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
    // A re-created topic starts with new epochs: the old ones say nothing about it.
    let same_topic = known.filter(|known| known.topic_id == topic.topic_id);
    // Kafka takes no partition away, so what is left out is kept. Without an id it might be another topic.
    let kept = same_topic.filter(|known| known.topic_id != Uuid::ZERO).map(|known| known.partitions.clone());
    let mut partitions = kept.unwrap_or_default();
    let unknown = Partition { error: ErrorCode::LEADER_NOT_AVAILABLE, ..Partition::default() };
    partitions.resize(partitions.len().max(count), unknown);
    for partition in topic.partitions {
        let Ok(index) = usize::try_from(partition.partition_index) else { continue };
        let before = same_topic.and_then(|known| known.partitions.get(index));
        if let Some(slot) = partitions.get_mut(index) {
            *slot = merged_partition(before, partition);
        }
    }
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
        Some(before) if new.leader_epoch.is_some() && before.leader_epoch > new.leader_epoch => before.clone(),
        _ => new,
    }
}

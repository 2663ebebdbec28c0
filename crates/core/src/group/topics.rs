//! Which topics a member reads, and when a change of the cluster makes the group assign anew.
//!
//! A member subscribes to topics by name or to those that match a pattern. Without any topic it is not in the group. By
//! the consumer protocol the coordinator matches the pattern (`SubscribedTopicRegex`, from version 1 of the heartbeat
//! on); otherwise the member does, and subscribes to what it has found. Brokers read patterns as RE2/J, and let
//! internal topics match, which nobody wants to read by `.*`. So a pattern that they match is always matched by the
//! member. The leader watches the topics of all members: more partitions, and replicas in other racks if it has a rack
//! itself (KIP-881), make it join again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::cluster::{Metadata, Partition, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Instant;

use super::assignor::{PartitionCounts, PartitionRacks, Racks};
use super::release::Departure;
use super::{Member, MemberEvent, State};

/// Kafka's internal topics.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__share_group_state", "__transaction_state"];

/// A regular expression for names of topics. It must match the whole name.
#[derive(Debug, Clone)]
pub struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
}

impl TopicPattern {
    /// Reads a pattern in the syntax of the crate `regex`, without Unicode classes: names of topics are ASCII.
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not a regular expression.
    pub fn new(text: &str) -> Result<Self> {
        let regex = RegexBuilder::new(&format!("^(?:{text})$")).unicode(false).build();
        let invalid = |cause: regex::Error| {
            // The other lines of the cause point at the place with a picture.
            let cause = cause.to_string();
            let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Error::new(ErrorKind::Misuse, format!("invalid pattern for topics {text:?}: {cause}"))
        };
        Ok(Self { text: text.into(), regex: regex.map_err(invalid)? })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole name of the topic matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic.as_bytes())
    }

    fn matches_internal_topics(&self) -> bool {
        INTERNAL_TOPICS.iter().any(|topic| self.matches(topic))
    }
}

/// The topics that a leader assigned, as they were then. `None` for a topic that another leader assigned and this
/// member has not seen.
pub(super) type SharedOut = BTreeMap<Arc<str>, Option<Shape>>;

/// What an assignment of a topic depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    partitions: usize,
    /// Of each partition, `None` while some replica's broker is not in the metadata. Empty if the leader has no rack.
    racks: Vec<Option<Racks>>,
}

impl Member {
    /// Subscribes to these topics; replaces the previous subscription. With no topics the member leaves the group.
    pub fn subscribe(&mut self, now: Instant, topics: BTreeSet<Arc<str>>) {
        self.subscribe_anew(now, topics, None);
    }

    /// Subscribes to the topics that match the pattern, now and later; replaces the previous subscription. Internal
    /// topics do not match. The driver must keep the metadata of every topic fresh.
    pub fn subscribe_pattern(&mut self, now: Instant, pattern: TopicPattern) {
        let topics = matching(&self.metadata, &pattern);
        self.subscribe_anew(now, topics, Some(pattern));
    }

    fn subscribe_anew(&mut self, now: Instant, topics: BTreeSet<Arc<str>>, pattern: Option<TopicPattern>) {
        let before = self.pattern_of_coordinator();
        self.pattern = pattern;
        if (self.topics != topics || before != self.pattern_of_coordinator()) && !self.is_closing() {
            self.polled_at = now;
            self.is_idle = false;
            self.set_topics(topics);
        }
    }

    /// The pattern, if the coordinator matches it.
    pub(super) fn pattern_of_coordinator(&self) -> Option<Arc<str>> {
        self.consumer_group.as_ref().filter(|group| group.has_patterns())?;
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.matches_internal_topics())?;
        Some(Arc::clone(&pattern.text))
    }

    fn is_subscribed(&self) -> bool {
        !self.topics.is_empty() || self.pattern_of_coordinator().is_some()
    }

    pub(super) fn set_topics(&mut self, topics: BTreeSet<Arc<str>>) {
        self.topics = topics;
        self.learn_topic_ids(None);
        self.events.push_back(MemberEvent::Topics(self.topics.clone()));
        let is_subscribed = self.is_subscribed();
        match &mut self.state {
            State::Leaving | State::Ended => {}
            State::Away => self.state = self.outside(),
            State::Unjoined
            | State::Joining
            | State::Assigning(_)
            | State::Syncing
            | State::Releasing { .. }
            | State::Beginning { .. }
            | State::Stable => {
                if is_subscribed {
                    self.rejoin = Some("the subscription changed");
                } else {
                    self.depart(Departure::Withdrawing);
                }
            }
        }
    }

    /// What a member that is not in the group does: it joins, if it has topics and the application asks for records.
    pub(super) fn outside(&self) -> State {
        if !self.is_subscribed() || self.is_idle { State::Away } else { State::Unjoined }
    }

    /// Takes a new metadata snapshot.
    pub fn handle_metadata(&mut self, metadata: &Arc<Metadata>) {
        if Arc::ptr_eq(&self.metadata, metadata) {
            return;
        }
        let before = std::mem::replace(&mut self.metadata, Arc::clone(metadata));
        if self.pattern.is_none() && self.shared_out.is_none() && self.consumer_group.is_none() {
            return;
        }
        let changed = metadata.changed_topics(&before);
        self.learn_topic_ids(Some(&changed));
        if let Some(pattern) = &self.pattern {
            let topics = matching_now(&self.topics, metadata, pattern, &changed);
            if topics != self.topics && !self.is_closing() {
                if self.pattern_of_coordinator().is_some() {
                    // The subscription is the same, and the coordinator sees the new topics itself.
                    self.topics = topics;
                } else {
                    self.set_topics(topics);
                }
            }
        }
        self.watch_shapes(&before, &changed);
    }

    /// Joins again if topics of the group are to be assigned anew.
    fn watch_shapes(&mut self, before: &Metadata, changed: &BTreeSet<Arc<str>>) {
        let has_rack = self.client_rack.is_some();
        let may_all_differ = has_rack && !self.metadata.has_brokers_of(before);
        // Only the leader of a classic group watches.
        let Some(shared_out) = &mut self.shared_out else { return };
        let mut has_changed = false;
        for (name, shape) in shared_out.iter_mut().filter(|(name, _)| may_all_differ || changed.contains(*name)) {
            // A topic that is missing from one snapshot does not cause a rebalance.
            let Some(topic) = self.metadata.topic(name) else { continue };
            let seen = shape_of(&self.metadata, topic, has_rack);
            has_changed |= shape.as_ref().is_some_and(|before| before.differs_from(&seen));
            if shape.is_none() {
                *shape = Some(seen);
            }
        }
        if has_changed {
            self.rejoin = Some("the number of partitions of a topic changed, or their racks");
        }
    }

    /// Remembers the topics of the group as they are now. One that is not known yet has no partitions if this leader
    /// assigned them; if another one did, it may have known the topic.
    pub(super) fn note_shared_out(&mut self, topics: &BTreeSet<Arc<str>>, by_another: bool) {
        let has_rack = self.client_rack.is_some();
        let shape = |topic: &Arc<str>| {
            let seen = self.metadata.topic(topic).map(|topic| shape_of(&self.metadata, topic, has_rack));
            (Arc::clone(topic), seen.or_else(|| (!by_another).then(Shape::default)))
        };
        self.shared_out = Some(topics.iter().map(shape).collect());
    }
}

impl Shape {
    /// Whether the topic must be assigned anew.
    fn differs_from(&self, seen: &Self) -> bool {
        let moved =
            |(before, now): (&Option<Racks>, &Option<Racks>)| before.is_some() && now.is_some() && before != now;
        self.partitions != seen.partitions || self.racks.iter().zip(&seen.racks).any(moved)
    }
}

fn shape_of(metadata: &Metadata, topic: &Topic, with_racks: bool) -> Shape {
    let all_known = |partition: &Partition| partition.replicas.iter().all(|id| metadata.broker(*id).is_some());
    let racks = |partition: &Partition| all_known(partition).then(|| racks_of(metadata, partition));
    let racks = if with_racks { topic.partitions.iter().map(racks).collect() } else { Vec::new() };
    Shape { partitions: topic.partitions.len(), racks }
}

/// The topics that match the pattern.
fn matching(metadata: &Metadata, pattern: &TopicPattern) -> BTreeSet<Arc<str>> {
    metadata.topics().filter(|topic| is_match(topic, pattern)).map(|topic| Arc::clone(&topic.name)).collect()
}

/// The topics that match the pattern, if `topics` did before these topics changed.
fn matching_now(
    topics: &BTreeSet<Arc<str>>,
    metadata: &Metadata,
    pattern: &TopicPattern,
    changed: &BTreeSet<Arc<str>>,
) -> BTreeSet<Arc<str>> {
    let mut topics = topics.clone();
    for name in changed {
        match metadata.topic(name) {
            Some(topic) if is_match(topic, pattern) => topics.insert(Arc::clone(name)),
            _ => topics.remove(name),
        };
    }
    topics
}

fn is_match(topic: &Topic, pattern: &TopicPattern) -> bool {
    !topic.is_internal && !topic.partitions.is_empty() && pattern.matches(&topic.name)
}

/// The number of partitions of each of these topics, if known.
pub(super) fn counts(metadata: &Metadata, topics: &BTreeSet<Arc<str>>) -> PartitionCounts {
    let count = |topic: &Arc<str>| {
        let partitions = &metadata.topic(topic)?.partitions;
        Some((Arc::clone(topic), i32::try_from(partitions.len()).ok()?))
    };
    topics.iter().filter_map(count).collect()
}

/// The racks of the replicas of these topics, if the brokers name their racks.
pub(super) fn racks(metadata: &Metadata, topics: &BTreeSet<Arc<str>>) -> PartitionRacks {
    let topics = topics.iter().filter_map(|topic| metadata.topic(topic));
    let racks = |topic: &Topic| topic.partitions.iter().map(|partition| racks_of(metadata, partition)).collect();
    topics.map(|topic| (Arc::clone(&topic.name), racks(topic))).collect()
}

fn racks_of(metadata: &Metadata, partition: &Partition) -> Racks {
    let rack = |broker_id: &i32| metadata.broker(*broker_id)?.rack.as_deref().map(Arc::from);
    partition.replicas.iter().filter_map(rack).collect()
}

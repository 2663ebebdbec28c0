//! What keeps a whole topic from being read and may heal: no broker knows it, or we may not read it.
//!
//! Its partitions go on asking, about once a second, so that reading goes on by itself when the trouble is over. As long as
//! it lasts the application is told again and again, once for the topic and not once for each partition.
//!
//! A broker that lags behind may not know a topic for a moment. That it was deleted is believed when metadata says so,
//! leaders refuse its partitions for the same reason, none serves any, and that goes on for some seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Place};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;

use super::partition::{Class, Partition, State};
use super::{Consumer, ConsumerEvent};

/// How long no broker must know a topic before that is believed.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// How old the last refusal of a leader may be for that. Refused partitions are asked for about once a second.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// How often the application is told of a trouble that lasts.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is wrong with a topic, if the code says that something is which may heal.
pub(super) fn may_heal(code: ErrorCode) -> bool {
    code.is_unknown_topic() || is_refusal(code)
}

fn is_refusal(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
}

/// The topics that are in trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    topics: BTreeMap<Arc<str>, Trouble>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    code: ErrorCode,
    /// When a leader refused one of its partitions with such a code.
    refused_at: Option<Instant>,
    /// When to see what has become of it.
    due: Instant,
}

impl Troubles {
    fn set(&mut self, topic: &Arc<str>, trouble: Option<Trouble>) {
        let old = match trouble {
            Some(trouble) => {
                self.due.insert((trouble.due, Arc::clone(topic)));
                self.topics.insert(Arc::clone(topic), trouble)
            }
            None => self.topics.remove(topic),
        };
        if let Some(old) = old.filter(|old| trouble.is_none_or(|new| new.due != old.due)) {
            self.due.remove(&(old.due, Arc::clone(topic)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Consumer {
    /// Notes that metadata says that of a topic which [`may_heal`], or that a leader does (`is_leader`).
    pub(super) fn note_trouble(&mut self, now: Instant, topic: &Arc<str>, code: ErrorCode, is_leader: bool) {
        let known = self.troubles.topics.get(topic).copied();
        let refused_at = if is_leader { Some(now) } else { known.and_then(|known| known.refused_at) };
        let trouble = match known {
            // That we may not read it says more than that a broker does not know it.
            Some(known) if is_refusal(known.code) || !is_refusal(code) => Trouble { refused_at, ..known },
            _ => Trouble { code, refused_at, due: if is_refusal(code) { now } else { now + GONE_AFTER } },
        };
        self.troubles.set(topic, Some(trouble));
    }

    /// Sees what has become of the troubles whose time has come.
    pub(super) fn look_at_troubles(&mut self, now: Instant) {
        while let Some((_, topic)) = self.troubles.due.first().filter(|(at, _)| *at <= now).cloned() {
            let Some(trouble) = self.troubles.topics.get(&topic).copied() else { return };
            let next = self.look_at_trouble(now, &topic, trouble);
            let trouble = next.map(|delay| Trouble { due: now + delay, ..trouble });
            self.troubles.set(&topic, trouble);
        }
    }

    /// Tells the application of a trouble that lasts; the answer is when to look again, unless it is over.
    fn look_at_trouble(&mut self, now: Instant, topic: &Arc<str>, trouble: Trouble) -> Option<Duration> {
        let partitions = self.partitions.of_topic(topic);
        let all = || partitions.iter().filter_map(|id| self.partitions.get(*id));
        let mut wanted = all().filter(|partition| !partition.is_paused() && partition.state() != State::Parked);
        let is_served = wanted.any(|partition| self.is_served(now, partition));
        let is_refused = trouble.refused_at.is_some_and(|at| now.since(at) <= REFUSED_WITHIN);
        // A snapshot of every topic leaves out those that are gone.
        let told = self.metadata.topic(topic).map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
        let lasts = may_heal(told) || is_refused && is_refusal(trouble.code);
        if partitions.is_empty() || !lasts {
            return None;
        }
        if is_served || !is_refused && !is_refusal(told) {
            return Some(GONE_AFTER);
        }
        let error = if is_refusal(trouble.code) {
            Error::from_code(trouble.code)?.with_hint("reading goes on by itself once it is permitted")
        } else {
            Error::new(ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "the topic was deleted")
        };
        let error = error.at(Place { topic: Some(Arc::clone(topic)), ..Place::default() });
        self.events.push_back(ConsumerEvent::TopicError { topic: Arc::clone(topic), error });
        Some(TOLD_EVERY)
    }

    /// Whether fetches of a partition are answered as they should be.
    fn is_served(&self, now: Instant, partition: &Partition) -> bool {
        let standing = partition.standing(now, self.enough());
        let broker = standing.follows.or(standing.leader).and_then(|broker_id| self.brokers.get(broker_id));
        let is_up = broker.is_some_and(|broker| broker.versions().is_some() && broker.failures == 0);
        standing.class == Class::Fetching && partition.failures() == 0 && is_up
    }
}

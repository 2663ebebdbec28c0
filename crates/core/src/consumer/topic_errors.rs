//! Errors of a whole topic that may go away: no broker knows it, or we are not authorized to read it.
//!
//! The topic's partitions keep asking, about once a second, so that reading resumes by itself. While it lasts,
//! the application gets an error at intervals, one for the topic rather than one for each partition.
//!
//! A broker that lags behind may not know a topic for a moment. A topic counts as deleted only if the metadata says so,
//! leaders refuse its partitions with the same error, no partition is served, and all that lasts for some seconds.
//! After a restart the metadata does not say so for a while (`cluster/doubt`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Place};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;

use super::partition::{Class, Partition, State};
use super::{Consumer, ConsumerEvent};

/// How long a topic must be unknown before it counts as deleted.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// How recent a leader's refusal must be to count. Refused partitions ask again about once a second.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// How often the error is repeated while the error lasts.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Whether this error of a topic may go away by itself.
pub(super) fn may_heal(code: ErrorCode) -> bool {
    code.is_unknown_topic() || code.denies_topic()
}

/// The topics that have such an error.
#[derive(Debug, Default)]
pub(super) struct TopicErrors {
    topics: BTreeMap<Arc<str>, TopicError>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug, Clone, Copy)]
struct TopicError {
    code: ErrorCode,
    /// When a leader last refused one of the topic's partitions with such a code.
    refused_at: Option<Instant>,
    /// When to check the topic again.
    due: Instant,
}

impl TopicErrors {
    fn set(&mut self, topic: &Arc<str>, error: Option<TopicError>) {
        let old = match error {
            Some(error) => {
                self.due.insert((error.due, Arc::clone(topic)));
                self.topics.insert(Arc::clone(topic), error)
            }
            None => self.topics.remove(topic),
        };
        if let Some(old) = old.filter(|old| error.is_none_or(|new| new.due != old.due)) {
            self.due.remove(&(old.due, Arc::clone(topic)));
        }
    }

    /// A topic whose time has come, and its error, which it must have. It has no due time until [`TopicErrors::set`].
    fn take_due(&mut self, now: Instant) -> Option<(Arc<str>, Option<TopicError>)> {
        let (_, topic) = self.due.first().filter(|(at, _)| *at <= now)?;
        let (topic, error) = (Arc::clone(topic), self.topics.get(topic).copied());
        self.due.pop_first();
        Some((topic, error))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Consumer {
    /// Notes such an error of a topic, from the metadata or, with `is_leader`, from a leader.
    pub(super) fn note_topic_error(&mut self, now: Instant, topic: &Arc<str>, code: ErrorCode, is_leader: bool) {
        let known = self.topic_errors.topics.get(topic).copied();
        let refused_at = if is_leader { Some(now) } else { known.and_then(|known| known.refused_at) };
        let error = match known {
            // "Not authorized" is more specific than "unknown topic", so it stays.
            Some(known) if known.code.denies_topic() || !code.denies_topic() => TopicError { refused_at, ..known },
            Some(_) | None => {
                TopicError { code, refused_at, due: if code.denies_topic() { now } else { now + GONE_AFTER } }
            }
        };
        self.topic_errors.set(topic, Some(error));
    }

    /// Checks the topics whose time has come.
    pub(super) fn check_topic_errors(&mut self, now: Instant) {
        while let Some((topic, error)) = self.topic_errors.take_due(now) {
            let Some(error) = error else {
                return self.poison("a topic was to be checked although it has no error");
            };
            let next = self.check_topic_error(now, &topic, error);
            let error = next.map(|delay| TopicError { due: now + delay, ..error });
            self.topic_errors.set(&topic, error);
        }
    }

    /// Reports the topic's error if it lasts. Returns when to check again; `None` if the error is over.
    fn check_topic_error(&mut self, now: Instant, topic: &Arc<str>, error: TopicError) -> Option<Duration> {
        let partitions = self.partitions.of_topic(topic);
        let all = || partitions.iter().map(|id| self.partitions.get(*id));
        let mut wanted = all().filter(|partition| !partition.stands_still() && partition.state() != State::Parked);
        let is_served = wanted.any(|partition| self.is_served(now, partition));
        let is_refused = error.refused_at.is_some_and(|at| now.since(at) <= REFUSED_WITHIN);
        // A response that lists all topics leaves out deleted ones.
        let told = self.metadata.topic(topic).map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
        let lasts = may_heal(told) || is_refused && error.code.denies_topic();
        if partitions.is_empty() || !lasts {
            return None;
        }
        if is_served || !is_refused && !told.denies_topic() {
            return Some(GONE_AFTER);
        }
        let error = if error.code.denies_topic() {
            Error::from_code(error.code)?.with_hint("reading continues by itself once it is permitted")
        } else {
            Error::new(ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "the topic was deleted")
        };
        let error = error.at(Place { topic: Some(Arc::clone(topic)), ..Place::default() });
        self.events.push_back(ConsumerEvent::TopicError { topic: Arc::clone(topic), error });
        Some(TOLD_EVERY)
    }

    /// Whether fetches of a partition succeed.
    fn is_served(&self, now: Instant, partition: &Partition) -> bool {
        let keys = partition.index_keys(now, self.enough());
        let broker = keys.follows.or(keys.leader).and_then(|broker_id| self.brokers.get(broker_id));
        let is_up = broker.is_some_and(|broker| broker.versions().is_some() && broker.failures == 0);
        keys.class == Class::Fetching && partition.failures() == 0 && is_up
    }
}

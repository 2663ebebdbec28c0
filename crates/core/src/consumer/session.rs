//! One broker's fetch session: what the broker remembers of our last fetch (KIP-227).
//!
//! A session spares both sides the partitions that did not change: a request names what changed and what is to
//! be forgotten. It owns no position; it is told which partitions shall be fetched and from where, and answers
//! with the topics of the request. Before Fetch v7 every request is a full one.
//!
//! Invariant: `partitions` is what the broker was last asked for, so a response can be checked against it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use crate::wire::primitives::Uuid;

use super::TopicPartition;

/// The first version of Fetch with sessions.
const SESSIONS_SINCE: i16 = 7;
/// The first version of Fetch in which a topic is its id; before that it is its name.
const TOPIC_IDS_SINCE: i16 = 13;

/// What a broker was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) topic_id: Uuid,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    pub(super) leader_epoch: Option<i32>,
    /// The partition's stamp when it was asked for; the broker does not see it.
    pub(super) stamp: u64,
}

impl Wanted {
    fn looks_like(&self, other: &Self) -> bool {
        Self { stamp: other.stamp, ..self.clone() } == *other
    }

    fn to_wire(&self, partition: i32) -> FetchPartition {
        FetchPartition {
            partition,
            current_leader_epoch: self.leader_epoch,
            fetch_offset: self.offset,
            partition_max_bytes: self.max_bytes,
            ..FetchPartition::default()
        }
    }
}

/// What a fetch request says of its session and its partitions.
#[derive(Debug, Default)]
pub(super) struct SessionFetch {
    pub(super) session_id: i32,
    pub(super) session_epoch: Option<i32>,
    pub(super) topics: Vec<FetchTopic>,
    pub(super) forgotten: Vec<ForgottenTopic>,
}

#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "they are the names of the fields in Kafka's messages")]
pub(super) struct Session {
    session_id: i32,
    /// The epoch of the next request; 0 asks for a new session.
    session_epoch: i32,
    partitions: BTreeMap<TopicPartition, Wanted>,
    topics_by_id: BTreeMap<Uuid, Arc<str>>,
    /// Full requests begin with another partition each time, so that a response that is full before its last
    /// partition does not leave out the same ones for ever.
    turn: usize,
}

impl Session {
    /// The next request, for exactly these partitions.
    pub(super) fn next(&mut self, version: i16, wanted: BTreeMap<TopicPartition, Wanted>) -> SessionFetch {
        let before = std::mem::replace(&mut self.partitions, wanted);
        self.topics_by_id =
            self.partitions.iter().map(|(key, wanted)| (wanted.topic_id, Arc::clone(&key.topic))).collect();
        if version < SESSIONS_SINCE {
            return SessionFetch { session_epoch: None, topics: self.all_topics(), ..SessionFetch::default() };
        }
        let (topics, forgotten) = if self.session_epoch == 0 {
            (self.all_topics(), Vec::new())
        } else {
            let changed = self
                .partitions
                .iter()
                .filter(|(key, wanted)| before.get(*key).is_none_or(|before| !wanted.looks_like(before)));
            // Brokers forget last: by name, a topic that was created again is the one just asked for.
            let is_gone = |wanted: &Wanted, old: &Wanted| version >= TOPIC_IDS_SINCE && wanted.topic_id != old.topic_id;
            let gone =
                before.iter().filter(|(key, old)| self.partitions.get(*key).is_none_or(|wanted| is_gone(wanted, old)));
            (topics_of(changed), forgotten_of(gone))
        };
        SessionFetch { session_id: self.session_id, session_epoch: Some(self.session_epoch), topics, forgotten }
    }

    /// What the broker was asked for in the request that is being answered.
    pub(super) fn wanted(&self, key: &TopicPartition) -> Option<&Wanted> {
        self.partitions.get(key)
    }

    /// The topic that a response names, by name or (from v13 on) by id.
    pub(super) fn topic(&self, name: &str, topic_id: Uuid) -> Option<Arc<str>> {
        if !name.is_empty() {
            return Some(name.into());
        }
        self.topics_by_id.get(&topic_id).map(Arc::clone)
    }

    /// The broker answered, with this session id (0: it keeps no session).
    pub(super) fn handle_answer(&mut self, session_id: i32) {
        if session_id == 0 {
            self.session_id = 0;
            self.session_epoch = 0;
        } else {
            self.session_id = session_id;
            self.session_epoch = self.session_epoch.checked_add(1).unwrap_or(1);
        }
    }

    /// The broker refused the request as a whole, or nothing is known of its fate: the next one is a full one.
    ///
    /// A session that the broker may still hold is named, so that it is closed.
    pub(super) fn handle_failure(&mut self, code: Option<ErrorCode>) {
        self.session_epoch = 0;
        if code == Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) {
            self.session_id = 0;
        }
    }

    fn all_topics(&mut self) -> Vec<FetchTopic> {
        self.turn = self.turn.wrapping_add(1);
        let mut topics = topics_of(self.partitions.iter());
        for topic in &mut topics {
            let turn = self.turn.checked_rem(topic.partitions.len()).unwrap_or(0);
            topic.partitions.rotate_left(turn);
        }
        let turn = self.turn.checked_rem(topics.len()).unwrap_or(0);
        topics.rotate_left(turn);
        topics
    }
}

fn topics_of<'a>(wanted: impl Iterator<Item = (&'a TopicPartition, &'a Wanted)>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut current: Option<&Arc<str>> = None;
    for (key, wanted) in wanted {
        if current != Some(&key.topic) {
            current = Some(&key.topic);
            topics.push(FetchTopic { topic: key.topic.to_string(), topic_id: wanted.topic_id, partitions: Vec::new() });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(wanted.to_wire(key.partition));
        }
    }
    topics
}

fn forgotten_of<'a>(gone: impl Iterator<Item = (&'a TopicPartition, &'a Wanted)>) -> Vec<ForgottenTopic> {
    topics_of(gone)
        .into_iter()
        .map(|topic| ForgottenTopic {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|partition| partition.partition).collect(),
        })
        .collect()
}

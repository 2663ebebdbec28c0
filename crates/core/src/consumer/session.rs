//! One broker's fetch session: what the broker remembers of our last fetch (KIP-227).
//!
//! A session spares both sides the partitions that did not change: a request names what changed and what is to be
//! forgotten. The session is told which partitions shall be fetched and from where, and when that changes
//! ([`Session::want`]); a request costs as much as changed since the last one. Before Fetch v7 every request is a full
//! one.
//!
//! Invariant: `asked` is what the broker was last asked for, so a response can be checked against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::error_code::ErrorCode;
use crate::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic, SESSIONS_SINCE, TOPIC_IDS_SINCE};
use crate::wire::primitives::Uuid;

use super::TopicPartition;
use super::partitions::PartitionId;

/// What a broker is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
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
        Self { stamp: other.stamp, ..*self } == *other
    }

    fn to_wire(self, partition: i32) -> FetchPartition {
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

/// A partition and what is wanted, or was asked for, of it.
type Named = (TopicPartition, Wanted);

#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "they are the names of the fields in Kafka's messages")]
pub(super) struct Session {
    session_id: i32,
    /// The epoch of the next request; 0 asks for a new session.
    session_epoch: i32,
    /// What the next request is to ask for.
    wanted: BTreeMap<PartitionId, Wanted>,
    /// Partitions of which `wanted` may differ from `asked`.
    changed: BTreeSet<PartitionId>,
    asked: BTreeMap<PartitionId, Named>,
    /// What all that is wanted may bring, in bytes.
    wanted_bytes: usize,
    /// How many of those that are wanted are of topics without an id.
    without_topic_id: usize,
    /// Full requests begin with another partition each time, so that a response that is full before its last
    /// partition does not leave out the same ones for ever.
    turn: usize,
}

impl Session {
    /// Asks for a partition like this from the next request on, or no more.
    pub(super) fn want(&mut self, id: PartitionId, wanted: Option<Wanted>) {
        let old = match wanted {
            Some(wanted) => {
                self.wanted_bytes = self.wanted_bytes.saturating_add(wanted.max_bytes as usize);
                self.without_topic_id += usize::from(wanted.topic_id.is_zero());
                self.wanted.insert(id, wanted)
            }
            None => self.wanted.remove(&id),
        };
        if let Some(old) = old {
            self.wanted_bytes = self.wanted_bytes.saturating_sub(old.max_bytes as usize);
            self.without_topic_id = self.without_topic_id.saturating_sub(usize::from(old.topic_id.is_zero()));
        }
        self.changed.insert(id);
    }

    /// Whether there is nothing to ask for.
    pub(super) fn wants_nothing(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether something else is wanted than when the last request was made.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What all that is wanted may bring, in bytes.
    pub(super) fn wanted_bytes(&self) -> usize {
        self.wanted_bytes
    }

    /// Whether every topic that is wanted has an id: in the middle of an upgrade some have none.
    pub(super) fn knows_every_topic_id(&self) -> bool {
        self.without_topic_id == 0
    }

    /// The next request; `name` names a partition.
    pub(super) fn next(&mut self, version: i16, name: impl Fn(PartitionId) -> Option<TopicPartition>) -> SessionFetch {
        if version < SESSIONS_SINCE {
            let topics = self.everything(name, usize::MAX).0;
            return SessionFetch { session_epoch: None, topics, ..SessionFetch::default() };
        }
        let (topics, forgotten) = if self.session_epoch == 0 {
            (self.everything(name, usize::MAX).0, Vec::new())
        } else {
            self.changes(version, name)
        };
        SessionFetch { session_id: self.session_id, session_epoch: Some(self.session_epoch), topics, forgotten }
    }

    /// A request for as many partitions as may bring no more than `limit` bytes together, at least one, for a broker
    /// that knows no limit for a whole response; and what they may bring.
    pub(super) fn next_within(
        &mut self,
        limit: usize,
        name: impl Fn(PartitionId) -> Option<TopicPartition>,
    ) -> (SessionFetch, usize) {
        let (topics, bytes) = self.everything(name, limit);
        (SessionFetch { session_epoch: None, topics, ..SessionFetch::default() }, bytes)
    }

    /// What differs from what the broker was asked for last.
    fn changes(
        &mut self,
        version: i16,
        name: impl Fn(PartitionId) -> Option<TopicPartition>,
    ) -> (Vec<FetchTopic>, Vec<ForgottenTopic>) {
        let (mut asked, mut forgotten): (Vec<Named>, Vec<Named>) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.changed) {
            let old = self.asked.get(&id);
            let Some(&wanted) = self.wanted.get(&id) else {
                forgotten.extend(self.asked.remove(&id));
                continue;
            };
            let is_new = old.is_none_or(|(_, old)| !wanted.looks_like(old));
            forgotten.extend(old.filter(|(_, old)| old.topic_id != wanted.topic_id).cloned());
            let known = old.map(|(key, _)| key.clone());
            let Some(key) = known.or_else(|| name(id)) else { continue };
            if is_new {
                asked.push((key.clone(), wanted));
            }
            self.asked.insert(id, (key, wanted));
        }
        asked.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // Brokers forget last: what is asked for in the same request must not be named again as to be forgotten.
        forgotten.retain(|(key, old)| {
            let same = asked.binary_search_by(|(asked, _)| asked.cmp(key)).ok().and_then(|index| asked.get(index));
            same.is_none_or(|(_, wanted)| version >= TOPIC_IDS_SINCE && wanted.topic_id != old.topic_id)
        });
        forgotten.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        (topics_of(&asked), forgotten_of(&forgotten))
    }

    /// Everything that is wanted, or in turn as much of it as may bring `limit` bytes; and what it may bring.
    fn everything(
        &mut self,
        name: impl Fn(PartitionId) -> Option<TopicPartition>,
        limit: usize,
    ) -> (Vec<FetchTopic>, usize) {
        self.turn = self.turn.wrapping_add(1);
        self.changed.clear();
        let all = self.wanted.iter().filter_map(|(id, wanted)| Some((*id, (name(*id)?, *wanted))));
        let mut all: Vec<(PartitionId, Named)> = all.collect();
        all.sort_unstable_by(|(_, (one, _)), (_, (other, _))| one.cmp(other));
        let mut total: usize = 0;
        if limit < self.wanted_bytes {
            let turn = self.turn.checked_rem(all.len()).unwrap_or(0);
            all.rotate_left(turn);
            let fits = all.iter().take_while(|(_, (_, wanted))| {
                let is_first = total == 0;
                total = total.saturating_add(wanted.max_bytes as usize);
                is_first || total <= limit
            });
            let fits = fits.count();
            all.truncate(fits);
            all.sort_unstable_by(|(_, (one, _)), (_, (other, _))| one.cmp(other));
        }
        let total = all.iter().map(|(_, (_, wanted))| wanted.max_bytes as usize).fold(0, usize::saturating_add);
        let named: Vec<Named> = all.iter().map(|(_, named)| named.clone()).collect();
        let mut topics = topics_of(&named);
        for topic in &mut topics {
            let turn = self.turn.checked_rem(topic.partitions.len()).unwrap_or(0);
            topic.partitions.rotate_left(turn);
        }
        let turn = self.turn.checked_rem(topics.len()).unwrap_or(0);
        topics.rotate_left(turn);
        self.asked = all.into_iter().collect();
        (topics, total)
    }

    /// What the broker was asked for in the request that is being answered.
    pub(super) fn asked(&self, id: PartitionId) -> Option<Wanted> {
        self.asked.get(&id).map(|(_, wanted)| *wanted)
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
}

/// Groups partitions, which are in order, by topic.
fn topics_of(partitions: &[Named]) -> Vec<FetchTopic> {
    let same_topic = |(one, one_wanted): &Named, (other, other_wanted): &Named| {
        one.topic == other.topic && one_wanted.topic_id == other_wanted.topic_id
    };
    let topic = |partitions: &[Named]| {
        let (key, wanted) = partitions.first()?;
        let asked = partitions.iter().map(|(key, wanted)| wanted.to_wire(key.partition));
        Some(FetchTopic { topic: key.topic.to_string(), topic_id: wanted.topic_id, partitions: asked.collect() })
    };
    partitions.chunk_by(same_topic).filter_map(topic).collect()
}

fn forgotten_of(gone: &[Named]) -> Vec<ForgottenTopic> {
    let topics = topics_of(gone).into_iter().map(|topic| ForgottenTopic {
        topic: topic.topic,
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|partition| partition.partition).collect(),
    });
    topics.collect()
}

//! The fetch session with one broker: the broker remembers which partitions we fetch (KIP-227).
//!
//! Within a session, a request names only the partitions that changed and those that the broker is to forget; the
//! response names only the partitions with news. [`Session::want`] tells the session what to fetch, and from which
//! offset, whenever that changes, so building a request costs only as much as has changed. Before Fetch version 7 there
//! are no sessions: every request names everything.
//!
//! Invariant: `asked` is what the broker was last asked for, so that a response can be checked against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic, SESSIONS_SINCE, TOPIC_IDS_SINCE};
use crate::wire::primitives::Uuid;

use super::TopicPartition;
use super::partitions::PartitionId;

/// What a fetch asks for one partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    pub(super) topic_id: Uuid,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    pub(super) leader_epoch: Option<i32>,
    /// The partition's stamp at the time of the request; not sent.
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

/// The session and partition fields of a fetch request.
#[derive(Debug, Default)]
pub(super) struct SessionFetch {
    pub(super) session_id: i32,
    pub(super) session_epoch: Option<i32>,
    pub(super) topics: Vec<FetchTopic>,
    pub(super) forgotten: Vec<ForgottenTopic>,
}

/// A partition, and what is asked for it.
type Named = (TopicPartition, Wanted);

#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "they are the names of the fields in Kafka's messages")]
pub(super) struct Session {
    session_id: i32,
    /// The epoch of the next request; 0 starts a new session.
    session_epoch: i32,
    /// What the next request should ask for.
    wanted: BTreeMap<PartitionId, Wanted>,
    /// Partitions for which `wanted` may differ from `asked`.
    changed: BTreeSet<PartitionId>,
    asked: BTreeMap<PartitionId, Named>,
    /// How many bytes everything in `wanted` may bring.
    wanted_bytes: usize,
    /// How many partitions in `wanted` belong to topics without a known id.
    without_topic_id: usize,
    /// Where the next full request starts: one partition further each time, so that a response that is full before its
    /// last partition does not leave out the same partitions every time.
    turn: usize,
}

impl Session {
    /// Asks for a partition from the next request on, or with `None` no longer.
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
        if wanted.is_some() || self.asked.contains_key(&id) {
            self.changed.insert(id);
        } else {
            // Otherwise it would pile up partitions that come and go while the broker cannot be asked.
            self.changed.remove(&id);
        }
    }

    /// Whether there is nothing to ask for.
    pub(super) fn wants_nothing(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether `wanted` has changed since the last request.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// How many bytes everything that is wanted may bring.
    pub(super) fn wanted_bytes(&self) -> usize {
        self.wanted_bytes
    }

    /// Whether every wanted topic has a known id; during an upgrade some have none.
    pub(super) fn knows_every_topic_id(&self) -> bool {
        self.without_topic_id == 0
    }

    /// The next request; `name` gives the topic and number of a partition.
    pub(super) fn next(&mut self, version: i16, name: impl Fn(PartitionId) -> TopicPartition) -> SessionFetch {
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

    /// The next request for a broker that has no limit for a whole response: as many partitions as may bring at most
    /// `limit` bytes together, but at least one. Also returns how many bytes they may bring.
    pub(super) fn next_within(
        &mut self,
        limit: usize,
        name: impl Fn(PartitionId) -> TopicPartition,
    ) -> (SessionFetch, usize) {
        let (topics, bytes) = self.everything(name, limit);
        (SessionFetch { session_epoch: None, topics, ..SessionFetch::default() }, bytes)
    }

    /// The request for what differs from the last request.
    fn changes(
        &mut self,
        version: i16,
        name: impl Fn(PartitionId) -> TopicPartition,
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
            let key = known.unwrap_or_else(|| name(id));
            if is_new {
                asked.push((key.clone(), wanted));
            }
            self.asked.insert(id, (key, wanted));
        }
        asked.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // A broker handles the forgotten partitions last, so a partition in the request must not be listed as
        // forgotten, too.
        forgotten.retain(|(key, old)| {
            let same = asked.binary_search_by(|(asked, _)| asked.cmp(key)).ok().and_then(|index| asked.get(index));
            same.is_none_or(|(_, wanted)| version >= TOPIC_IDS_SINCE && wanted.topic_id != old.topic_id)
        });
        forgotten.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        (topics_of(&asked), forgotten_of(&forgotten))
    }

    /// The request for everything that is wanted, or for as much of it, in turn, as may bring at most `limit` bytes.
    fn everything(&mut self, name: impl Fn(PartitionId) -> TopicPartition, limit: usize) -> (Vec<FetchTopic>, usize) {
        self.turn = self.turn.wrapping_add(1);
        self.changed.clear();
        let all = self.wanted.iter().map(|(id, wanted)| (*id, (name(*id), *wanted)));
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

    /// The topics that the last request and the session asked for.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.asked.values().map(|(key, _)| Arc::clone(&key.topic)).collect()
    }

    /// What the last request asked for this partition.
    pub(super) fn asked(&self, id: PartitionId) -> Option<Wanted> {
        self.asked.get(&id).map(|(_, wanted)| *wanted)
    }

    /// The broker answered with this session id; 0 means that it keeps no session.
    pub(super) fn handle_answer(&mut self, session_id: i32) {
        if session_id == 0 {
            self.session_id = 0;
            self.session_epoch = 0;
        } else {
            self.session_id = session_id;
            self.session_epoch = self.session_epoch.checked_add(1).unwrap_or(1);
        }
    }

    /// The broker refused the whole request, or gave no response. The next request names everything.
    ///
    /// It also names the session that the broker may still have, which closes it.
    pub(super) fn handle_failure(&mut self, code: Option<ErrorCode>) {
        self.session_epoch = 0;
        self.asked.clear();
        self.changed.clear();
        if code == Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) {
            self.session_id = 0;
        }
    }
}

/// Groups partitions, which are sorted, by topic.
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

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { topic_id: Uuid::ZERO, offset: 0, max_bytes: 1, leader_epoch: None, stamp: 0 };

    #[test]
    fn partitions_that_come_and_go_while_the_broker_is_away_leave_nothing_behind() {
        let mut session = Session::default();
        for is_refused in [false, true] {
            for index in 0..100 {
                session.want(PartitionId::numbered(index), Some(WANTED));
                session.want(PartitionId::numbered(index), None);
            }
            assert!(!session.has_changed() && session.wants_nothing(), "after a refused request: {is_refused}");
            session.want(PartitionId::numbered(200), Some(WANTED));
            session.next(13, |_| TopicPartition::new("orders", 0));
            session.handle_failure(None);
            session.want(PartitionId::numbered(200), None);
        }
        assert!(!session.has_changed(), "what was asked of a session that is over");
    }

    #[test]
    fn a_session_forgets_what_it_was_asked_and_is_wanted_no_longer() {
        let mut session = Session::default();
        session.want(PartitionId::numbered(1), Some(WANTED));
        let name = |_| TopicPartition::new("orders", 0);
        session.next(12, name);
        session.handle_answer(7);
        session.want(PartitionId::numbered(1), None);
        assert_eq!(session.next(12, name).forgotten.len(), 1);
    }
}

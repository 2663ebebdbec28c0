//! Fetch sessions (KIP-227): the broker remembers what was fetched, so that later requests name only what has changed.
//!
//! A session belongs to a broker, not to a connection. Partitions take turns: one that returned records moves to the
//! end, so that a busy partition cannot starve the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::wire::Uuid;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::fetch::PartitionData;

/// How a fetch request names a topic: by name up to v12, by id since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicKey {
    pub(crate) name: Arc<str>,
    pub(crate) topic_id: Uuid,
}

/// What a fetch asks for one partition.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) current_leader_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
}

/// A partition of a session, and what the client knows about it.
#[derive(Debug, Clone)]
struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: Option<i64>,
}

impl Cached {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, high_watermark: -1, log_start_offset: None }
    }

    /// Whether `data` differs from what the client knows; remembers `data` as known.
    fn is_news(&mut self, data: &PartitionData) -> bool {
        let is_news = has_records(data)
            || self.high_watermark != data.high_watermark
            || self.log_start_offset != data.log_start_offset
            || data.error_code != ErrorCode::NONE
            || data.diverging_epoch.epoch.is_some();
        self.high_watermark = data.high_watermark;
        self.log_start_offset = data.log_start_offset;
        if data.error_code != ErrorCode::NONE {
            // Forget the offset, so that the first response without the error counts as news.
            self.high_watermark = -1;
        }
        is_news
    }
}

fn has_records(data: &PartitionData) -> bool {
    data.records.as_ref().is_some_and(|records| !records.is_empty())
}

/// One fetch session.
#[derive(Debug)]
struct Session {
    session_epoch: i32,
    uses_topic_ids: bool,
    /// In the order in which they are read.
    order: BTreeMap<u64, Cached>,
    places: BTreeMap<(TopicKey, i32), u64>,
    next_place: u64,
    last_used: u64,
}

impl Session {
    fn new(uses_topic_ids: bool) -> Self {
        let (order, places) = (BTreeMap::new(), BTreeMap::new());
        Self { session_epoch: 1, uses_topic_ids, order, places, next_place: 0, last_used: 0 }
    }

    fn push(&mut self, cached: Cached) {
        let key = (cached.wanted.topic.clone(), cached.wanted.partition);
        let place = self.next_place;
        self.next_place = place.saturating_add(1);
        self.order.insert(place, cached);
        self.places.insert(key, place);
    }

    fn take(&mut self, topic: &TopicKey, partition: i32) -> Option<Cached> {
        let place = self.places.remove(&(topic.clone(), partition))?;
        self.order.remove(&place)
    }

    fn want(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        match self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            Some(cached) => cached.wanted = wanted,
            None => self.push(Cached::new(wanted)),
        }
    }
}

/// How a fetch uses sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionUse {
    /// It uses none: it names everything, and the response contains everything.
    None,
    /// It names everything; the response opens a session if there is room.
    Full,
    /// It names only changes; the response contains only news.
    Incremental {
        /// The id of the session.
        session_id: i32,
    },
}

/// A fetch after its session was looked up.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) session_use: SessionUse,
    pub(crate) wanted: Vec<Wanted>,
}

/// The fetch sessions of all brokers.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: BTreeMap<(i32, i32), Session>,
    max: usize,
    clock: u64,
}

impl Sessions {
    /// At most `max` sessions in the cluster (Kafka: `max.incremental.fetch.session.cache.slots`, per broker).
    pub(crate) fn new(max: usize) -> Self {
        Self { sessions: BTreeMap::new(), max, clock: 0 }
    }

    pub(crate) fn forget_broker(&mut self, broker_id: i32) {
        self.sessions.retain(|(broker, _), _| *broker != broker_id);
    }

    /// Looks up the session of a fetch, and lists all partitions to read.
    ///
    /// Session epoch 0 asks for a new session, -1 (`None`) for none; both end the session that the request names.
    pub(crate) fn begin(
        &mut self,
        broker_id: i32,
        session_id: i32,
        session_epoch: Option<i32>,
        uses_topic_ids: bool,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicKey, i32)],
    ) -> Result<Begun, ErrorCode> {
        let Some(epoch) = session_epoch.filter(|epoch| *epoch != 0) else {
            self.sessions.remove(&(broker_id, session_id));
            let session_use = if session_epoch.is_none() { SessionUse::None } else { SessionUse::Full };
            return Ok(Begun { session_use, wanted });
        };
        let key = (broker_id, session_id);
        let session = self.sessions.get_mut(&key).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.session_epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        for wanted in wanted {
            session.want(wanted);
        }
        for (topic, partition) in forgotten {
            session.take(topic, *partition);
        }
        if session.order.is_empty() {
            self.sessions.remove(&key);
            return Ok(Begun { session_use: SessionUse::None, wanted: Vec::new() });
        }
        session.session_epoch = session.session_epoch.checked_add(1).unwrap_or(1);
        self.clock = self.clock.saturating_add(1);
        session.last_used = self.clock;
        let wanted = session.order.values().map(|cached| cached.wanted.clone()).collect();
        Ok(Begun { session_use: SessionUse::Incremental { session_id }, wanted })
    }

    /// Opens a session for a full fetch with the response `answered`; returns its id. `new_id` is not 0.
    ///
    /// If there is no room, it replaces the session that was used least recently.
    pub(crate) fn open(
        &mut self,
        broker_id: i32,
        new_id: i32,
        uses_topic_ids: bool,
        answered: &[(Wanted, PartitionData)],
    ) -> i32 {
        if self.max == 0 {
            return 0;
        }
        if self.sessions.len() >= self.max {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used).map(|(key, _)| *key);
            oldest.and_then(|key| self.sessions.remove(&key));
        }
        let mut session = Session::new(uses_topic_ids);
        self.clock = self.clock.saturating_add(1);
        session.last_used = self.clock;
        for (wanted, data) in answered {
            let mut cached = Cached::new(wanted.clone());
            cached.is_news(data);
            session.push(cached);
        }
        self.sessions.insert((broker_id, new_id), session);
        new_id
    }

    /// Removes from an incremental response what the client already knows.
    pub(crate) fn retain_news(&mut self, broker_id: i32, session_id: i32, answered: &mut Vec<(Wanted, PartitionData)>) {
        let Some(session) = self.sessions.get_mut(&(broker_id, session_id)) else { return };
        answered.retain(|(wanted, data)| {
            let place = session.places.get(&(wanted.topic.clone(), wanted.partition));
            let Some(cached) = place.and_then(|place| session.order.get_mut(place)) else { return true };
            let is_news = cached.is_news(data);
            if has_records(data)
                && let Some(cached) = session.take(&wanted.topic, wanted.partition)
            {
                session.push(cached);
            }
            is_news
        });
    }
}

//! What the consumer knows of each broker, and what it can send to each broker now.
//!
//! Each broker has three lists of partitions: those whose offset it must look up, those whose log it must validate, and
//! (in its [`Session`]) those to fetch. [`Brokers::reindex`] keeps a partition in the lists that its [`IndexKeys`]
//! name. Sets over all brokers name those that can be sent something now, and hold the times at which back-offs end. So
//! a wake-up need not walk over all brokers and partitions to find what to send.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

use super::BrokerVersions;
use super::partition::{IndexKeys, NextStep};
use super::partitions::PartitionId;
use super::session::Session;

/// The state of the connection to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Link {
    /// The negotiated versions are not known, or no longer valid.
    #[default]
    Unknown,
    /// The negotiated versions were asked for.
    Connecting,
    Ready(BrokerVersions),
}

/// What can be sent to a broker now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Due {
    connect: bool,
    question: bool,
    /// A fetch. Holds `last_fetch`, so that the broker that has waited longest comes first.
    fetch: Option<u64>,
    /// Something, once a back-off has ended at this time.
    later: Option<Instant>,
    /// A fetch, if the application made room by taking some of the buffered records.
    has_full: bool,
}

#[derive(Debug, Default)]
pub(super) struct BrokerState {
    pub(super) link: Link,
    pub(super) session: Session,
    pub(super) is_fetching: bool,
    /// The id of the last request that was sent before this broker's last fetch: the lower, the longer ago that was.
    pub(super) last_fetch: u64,
    pub(super) retry_at: Instant,
    pub(super) failures: u32,
    /// How many fetches in a row returned no records.
    pub(super) empty_answers: u32,
    /// When an error of this broker was last reported, if no fetch has succeeded since.
    pub(super) reported_at: Option<Instant>,
    to_locate: BTreeSet<PartitionId>,
    to_validate: BTreeSet<PartitionId>,
    /// How many partitions are left out of its fetches because enough of them is buffered.
    full: usize,
    /// How many partitions it leads, not counting parked ones.
    led: usize,
    /// Partitions that are read from this broker although another one leads them (KIP-392).
    followers: BTreeSet<PartitionId>,
    due: Due,
}

impl BrokerState {
    pub(super) fn versions(&self) -> Option<BrokerVersions> {
        if let Link::Ready(versions) = self.link { Some(versions) } else { None }
    }

    /// Whether its next fetch leaves out a partition because too much of it is buffered.
    pub(super) fn leaves_out(&self) -> bool {
        self.full > 0
    }

    fn due(&self, now: Instant) -> Due {
        let is_needed = self.led > 0 || !self.followers.is_empty() || !self.session.wants_nothing();
        if self.retry_at > now {
            return Due { later: is_needed.then_some(self.retry_at), ..Due::default() };
        }
        match self.link {
            Link::Unknown => Due { connect: is_needed && !self.is_fetching, ..Due::default() },
            Link::Connecting => Due::default(),
            Link::Ready(_) => Due {
                question: !self.to_locate.is_empty() || !self.to_validate.is_empty(),
                fetch: (!self.is_fetching && !self.session.wants_nothing()).then_some(self.last_fetch),
                has_full: !self.is_fetching && self.full > 0,
                ..Due::default()
            },
        }
    }
}

/// What partitions ask their leader about offsets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Question {
    Locate,
    Validate,
}

#[derive(Debug, Default)]
pub(super) struct Brokers {
    states: BTreeMap<i32, BrokerState>,
    to_connect: BTreeSet<i32>,
    to_question: BTreeSet<i32>,
    to_fetch: BTreeSet<(u64, i32)>,
    backing_off: BTreeSet<(Instant, i32)>,
    /// How many brokers could be sent a fetch if the application made room.
    with_full: usize,
    /// How many brokers partitions are read from.
    sources: usize,
}

impl Brokers {
    pub(super) fn get(&self, broker_id: i32) -> Option<&BrokerState> {
        self.states.get(&broker_id)
    }

    /// Changes the state of a broker, and updates the sets over all brokers.
    pub(super) fn change<T>(&mut self, broker_id: i32, now: Instant, change: impl FnOnce(&mut BrokerState) -> T) -> T {
        let broker = self.states.entry(broker_id).or_default();
        let was_source = broker.led > 0 || !broker.followers.is_empty();
        let changed = change(broker);
        let is_source = broker.led > 0 || !broker.followers.is_empty();
        self.sources = self.sources.saturating_add(usize::from(is_source)).saturating_sub(usize::from(was_source));
        let new = broker.due(now);
        let old = std::mem::replace(&mut broker.due, new);
        if old != new {
            self.list_broker(broker_id, &old, &new);
        }
        changed
    }

    fn list_broker(&mut self, broker_id: i32, old: &Due, new: &Due) {
        for (set, is_in) in [(&mut self.to_connect, new.connect), (&mut self.to_question, new.question)] {
            if is_in {
                set.insert(broker_id);
            } else {
                set.remove(&broker_id);
            }
        }
        if old.fetch != new.fetch {
            old.fetch.map(|last_fetch| self.to_fetch.remove(&(last_fetch, broker_id)));
            new.fetch.map(|last_fetch| self.to_fetch.insert((last_fetch, broker_id)));
        }
        if old.later != new.later {
            old.later.map(|at| self.backing_off.remove(&(at, broker_id)));
            new.later.map(|at| self.backing_off.insert((at, broker_id)));
        }
        self.with_full =
            self.with_full.saturating_add(usize::from(new.has_full)).saturating_sub(usize::from(old.has_full));
    }

    /// Moves a partition from the lists that its `old` keys name to those that its `new` keys name.
    pub(super) fn reindex(&mut self, id: PartitionId, old: &IndexKeys, new: &IndexKeys, now: Instant) {
        if old.leader != new.leader {
            if let Some(broker_id) = old.leader {
                self.change(broker_id, now, |broker| broker.led = broker.led.saturating_sub(1));
            }
            if let Some(broker_id) = new.leader {
                self.change(broker_id, now, |broker| broker.led += 1);
            }
        }
        if old.follows != new.follows {
            if let Some(broker_id) = old.follows {
                self.change(broker_id, now, |broker| broker.followers.remove(&id));
            }
            if let Some(broker_id) = new.follows {
                self.change(broker_id, now, |broker| broker.followers.insert(id));
            }
        }
        if old.next_step == new.next_step {
            return;
        }
        match (old.next_step, new.next_step) {
            // Only the position or stamp in the fetch has changed.
            (NextStep::Fetch(before, _), NextStep::Fetch(after, _)) if before == after => {}
            (NextStep::Fetch(broker_id, _), _) => self.change(broker_id, now, |broker| broker.session.want(id, None)),
            (NextStep::Locate(broker_id), _) => self.change(broker_id, now, |broker| {
                broker.to_locate.remove(&id);
            }),
            (NextStep::Validate(broker_id), _) => self.change(broker_id, now, |broker| {
                broker.to_validate.remove(&id);
            }),
            (NextStep::Full(broker_id), _) => {
                self.change(broker_id, now, |broker| broker.full = broker.full.saturating_sub(1));
            }
            (NextStep::Nothing | NextStep::Later(_), _) => {}
        }
        match new.next_step {
            NextStep::Fetch(broker_id, wanted) => {
                self.change(broker_id, now, |broker| broker.session.want(id, Some(wanted)));
            }
            NextStep::Locate(broker_id) => self.change(broker_id, now, |broker| {
                broker.to_locate.insert(id);
            }),
            NextStep::Validate(broker_id) => self.change(broker_id, now, |broker| {
                broker.to_validate.insert(id);
            }),
            NextStep::Full(broker_id) => self.change(broker_id, now, |broker| broker.full += 1),
            NextStep::Nothing | NextStep::Later(_) => {}
        }
    }

    /// Handles the back-offs that have ended by `now`.
    pub(super) fn handle_time(&mut self, now: Instant) {
        while let Some(&(_, broker_id)) = self.backing_off.first().filter(|(at, _)| *at <= now) {
            self.change(broker_id, now, |_| ());
        }
    }

    /// When the next back-off ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _)| *at)
    }

    /// A broker whose negotiated versions must be asked for.
    pub(super) fn to_connect(&self) -> Option<i32> {
        self.to_connect.first().copied()
    }

    /// A broker that partitions have a question for, with the kind of question and the partitions.
    pub(super) fn to_question(&self) -> Option<(i32, Question, Vec<PartitionId>)> {
        let broker_id = *self.to_question.first()?;
        let broker = self.states.get(&broker_id)?;
        let (question, list) = if broker.to_locate.is_empty() {
            (Question::Validate, &broker.to_validate)
        } else {
            (Question::Locate, &broker.to_locate)
        };
        Some((broker_id, question, list.iter().copied().collect()))
    }

    /// Of the brokers that can be sent a fetch, the one whose last fetch is longest ago.
    pub(super) fn to_fetch(&self) -> Option<i32> {
        self.to_fetch.first().map(|(_, broker_id)| *broker_id)
    }

    /// Whether a broker could be sent a fetch if the application took some of the buffered records.
    pub(super) fn any_with_full(&self) -> bool {
        self.with_full > 0
    }

    /// How many brokers partitions are read from.
    pub(super) fn sources(&self) -> usize {
        self.sources
    }

    /// The partitions that are read from this broker although another one leads them.
    pub(super) fn followers(&self, broker_id: i32) -> Vec<PartitionId> {
        self.states.get(&broker_id).map(|broker| broker.followers.iter().copied().collect()).unwrap_or_default()
    }
}

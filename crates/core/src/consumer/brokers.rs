//! What is known of each broker, and what each of them can be asked now.
//!
//! A broker has three lists: the partitions whose offsets it is to locate, those whose log it is to validate, and (in
//! its [`Session`]) those that are to be fetched. [`Brokers::list`] puts a partition into them as its [`Standing`] says.
//! Over all brokers there are sets of those that can be asked something, and the times at which back-offs end, so that
//! nobody has to walk over all brokers, or over their partitions, to learn what to send.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

use super::BrokerVersions;
use super::partition::{Standing, Turn};
use super::partitions::PartitionId;
use super::session::Session;

/// What is known of the connection to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Link {
    /// Its versions are not known, or no longer.
    #[default]
    Unknown,
    /// Its versions were asked for.
    Connecting,
    Ready(BrokerVersions),
}

/// What a broker can be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Due {
    connect: bool,
    question: bool,
    /// With the number of the last request before its last fetch: the one that has waited longest is first.
    fetch: Option<u64>,
    /// Something waits for the end of its back-off.
    later: Option<Instant>,
    /// It could be asked for more if the application took something of what is buffered.
    has_full: bool,
}

#[derive(Debug, Default)]
pub(super) struct BrokerState {
    pub(super) link: Link,
    pub(super) session: Session,
    pub(super) is_fetching: bool,
    /// The number of the last request before its last fetch: the lower, the longer ago.
    pub(super) last_fetch: u64,
    pub(super) retry_at: Instant,
    pub(super) failures: u32,
    /// How many fetches in a row came back with nothing.
    pub(super) empty_answers: u32,
    /// Whether it was reported that it cannot be used.
    pub(super) has_failed: bool,
    to_locate: BTreeSet<PartitionId>,
    to_validate: BTreeSet<PartitionId>,
    /// Partitions that are left out of its fetches because enough of them is buffered.
    full: usize,
    /// Partitions that it leads, parked ones aside.
    led: usize,
    /// Partitions that are read from it although it does not lead them.
    followers: BTreeSet<PartitionId>,
    due: Due,
}

impl BrokerState {
    pub(super) fn versions(&self) -> Option<BrokerVersions> {
        if let Link::Ready(versions) = self.link { Some(versions) } else { None }
    }

    /// Whether its next fetch leaves out a partition for want of room.
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

/// A question about offsets that partitions of one broker have.
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
    /// Brokers that could be asked for more if the application took something.
    with_full: usize,
    /// Brokers that partitions are read from.
    sources: usize,
}

impl Brokers {
    pub(super) fn get(&self, broker_id: i32) -> Option<&BrokerState> {
        self.states.get(&broker_id)
    }

    /// Changes what is known of a broker.
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

    /// Moves a partition between the lists, from where it stood to where it stands.
    pub(super) fn list(&mut self, id: PartitionId, old: &Standing, new: &Standing, now: Instant) {
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
        if old.turn == new.turn {
            return;
        }
        match (old.turn, new.turn) {
            // Only what is wanted of it has changed.
            (Turn::Fetch(before, _), Turn::Fetch(after, _)) if before == after => {}
            (Turn::Fetch(broker_id, _), _) => self.change(broker_id, now, |broker| broker.session.want(id, None)),
            (Turn::Locate(broker_id), _) => self.change(broker_id, now, |broker| {
                broker.to_locate.remove(&id);
            }),
            (Turn::Validate(broker_id), _) => self.change(broker_id, now, |broker| {
                broker.to_validate.remove(&id);
            }),
            (Turn::Full(broker_id), _) => {
                self.change(broker_id, now, |broker| broker.full = broker.full.saturating_sub(1));
            }
            (Turn::Nothing | Turn::Later(_), _) => {}
        }
        match new.turn {
            Turn::Fetch(broker_id, wanted) => {
                self.change(broker_id, now, |broker| broker.session.want(id, Some(wanted)));
            }
            Turn::Locate(broker_id) => self.change(broker_id, now, |broker| {
                broker.to_locate.insert(id);
            }),
            Turn::Validate(broker_id) => self.change(broker_id, now, |broker| {
                broker.to_validate.insert(id);
            }),
            Turn::Full(broker_id) => self.change(broker_id, now, |broker| broker.full += 1),
            Turn::Nothing | Turn::Later(_) => {}
        }
    }

    /// Notices which back-offs are over.
    pub(super) fn handle_time(&mut self, now: Instant) {
        while let Some(&(_, broker_id)) = self.backing_off.first().filter(|(at, _)| *at <= now) {
            self.change(broker_id, now, |_| ());
        }
    }

    /// When the next back-off is over.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _)| *at)
    }

    /// A broker whose versions are needed.
    pub(super) fn to_connect(&self) -> Option<i32> {
        self.to_connect.first().copied()
    }

    /// A broker that partitions have a question for, which kind, and the partitions.
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

    /// Of the brokers that can be asked for records, the one whose last fetch is longest ago.
    pub(super) fn to_fetch(&self) -> Option<i32> {
        self.to_fetch.first().map(|(_, broker_id)| *broker_id)
    }

    /// Whether a broker could be asked for more if the application took something of what is buffered.
    pub(super) fn any_with_full(&self) -> bool {
        self.with_full > 0
    }

    /// How many brokers partitions are read from.
    pub(super) fn sources(&self) -> usize {
        self.sources
    }

    /// The partitions that are read from this broker although it does not lead them.
    pub(super) fn followers(&self, broker_id: i32) -> Vec<PartitionId> {
        self.states.get(&broker_id).map(|broker| broker.followers.iter().copied().collect()).unwrap_or_default()
    }
}

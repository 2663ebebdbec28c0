//! A lane: a producer id, and the topics whose batches carry it.
//!
//! The sequence numbers of a partition belong to one producer id. If two handles write to the same topic, their batches
//! are not ordered among each other, so they need two producer ids: the second handle's topic goes into the next lane.
//! A request carries batches of one lane, so it has no partition twice. Nearly always there is one lane.
//!
//! A lane is removed with its last topic. Its number may then be given to another lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::arena::Arena;
use super::identity::{Identity, ProducerId};
use super::{LaneId, PartitionId, TopicIndex};
use crate::error::{Error, ErrorKind, Phase};
use crate::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lane {
    identity: Identity,
    /// Whether to ask the leaders of the waiting partitions for it, because another broker cannot assign one.
    asks_leaders: bool,
    failures: u32,
    /// Why the last request for a producer id failed.
    last_error: Option<Error>,
    /// Partitions that have something to send and wait for the producer id.
    waiting: Vec<PartitionId>,
    names: BTreeMap<Arc<str>, TopicIndex>,
}

impl Lane {
    fn new(idempotent: bool) -> Self {
        let identity = if idempotent { Identity::Wanted(Instant::default()) } else { Identity::Off };
        let (last_error, waiting, names) = (None, Vec::new(), BTreeMap::new());
        Self { identity, asks_leaders: false, failures: 0, last_error, waiting, names }
    }

    /// The producer id, if known.
    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        match self.identity {
            Identity::Known(id) => Some(id),
            Identity::Off | Identity::Wanted(_) | Identity::Asked(_) => None,
        }
    }

    /// Whether there is no producer id yet, although one is needed.
    pub(super) fn lacks_identity(&self) -> bool {
        matches!(self.identity, Identity::Wanted(_) | Identity::Asked(_))
    }

    /// Whether the leaders of the partitions that wait are to be asked.
    pub(super) fn asks_leaders(&self) -> bool {
        self.asks_leaders
    }

    /// The partitions that have something to send and wait for the producer id.
    pub(super) fn waiting(&self) -> &[PartitionId] {
        &self.waiting
    }

    /// How many requests for a producer id in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Asks the leaders from now on.
    pub(super) fn ask_leaders(&mut self, now: Instant) {
        self.asks_leaders = true;
        self.identity = Identity::Wanted(now);
    }

    /// Lets some of the waiting partitions wait no longer, and asks another leader for the others. Returns the former.
    pub(super) fn release(&mut self, now: Instant, is_released: impl Fn(PartitionId) -> bool) -> Vec<PartitionId> {
        self.identity = Identity::Wanted(now);
        let (released, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|id| is_released(*id));
        self.waiting = waiting;
        released
    }

    /// Why there is no producer id yet.
    pub(super) fn hindrance(&self) -> Option<Error> {
        match (&self.last_error, &self.identity) {
            (Some(error), Identity::Wanted(_) | Identity::Asked(_)) => Some(error.clone()),
            (None, Identity::Asked(_)) => {
                Some(Error::new(ErrorKind::TimedOut(Phase::Request), "no broker has assigned a producer id yet"))
            }
            (None, Identity::Wanted(_)) | (_, Identity::Off | Identity::Known(_)) => None,
        }
    }

    /// Makes a partition wait for the producer id. Returns whether one must be requested first.
    pub(super) fn wait(&mut self, id: PartitionId) -> bool {
        self.waiting.push(id);
        matches!(self.identity, Identity::Wanted(_))
    }

    /// The topic of this name.
    pub(super) fn topic(&self, name: &str) -> Option<TopicIndex> {
        self.names.get(name).copied()
    }

    /// When to request a producer id.
    fn wanted_at(&self) -> Option<Instant> {
        match self.identity {
            Identity::Wanted(at) => Some(at).filter(|_| !self.waiting.is_empty()),
            Identity::Off | Identity::Asked(_) | Identity::Known(_) => None,
        }
    }

    /// Sets the producer id; returns the partitions that waited for it.
    pub(super) fn adopt(&mut self, id: ProducerId) -> Vec<PartitionId> {
        self.identity = Identity::Known(id);
        self.asks_leaders = false;
        self.failures = 0;
        self.last_error = None;
        std::mem::take(&mut self.waiting)
    }

    /// Notes that a request for a producer id failed. Returns how many requests in a row have failed.
    pub(super) fn handle_failure(&mut self, error: Error) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error);
        self.failures
    }

    pub(super) fn ask_again_at(&mut self, at: Instant) {
        self.identity = Identity::Wanted(at);
    }

    /// Asks for another producer id, because the epochs of this one are used up.
    pub(super) fn renew(&mut self, now: Instant) {
        if matches!(self.identity, Identity::Known(_)) {
            self.identity = Identity::Wanted(now);
        }
    }

    /// Makes sure that sequence numbers of a removed partition, which used epochs up to this one, are not used again: a
    /// broker would take new records for duplicates.
    pub(super) fn retire(&mut self, now: Instant, used: ProducerId) {
        if let Identity::Known(id) = &mut self.identity
            && id.producer_id == used.producer_id
            && id.producer_epoch <= used.producer_epoch
        {
            match used.next_epoch() {
                Some(next) => *id = next,
                None => self.identity = Identity::Wanted(now),
            }
        }
    }
}

/// All lanes of a machine. What a wake-up asks for needs no look at every lane.
#[derive(Debug)]
pub(super) struct Lanes {
    idempotent: bool,
    all: Arena<LaneId, Lane>,
    /// The lanes that want a producer id, and when to request it.
    wanting: BTreeSet<(Instant, LaneId)>,
    /// The lanes whose request for a producer id is in flight, by the id of the request, and the leader that was asked;
    /// `None` if any broker was.
    asking: BTreeMap<u64, (LaneId, Option<i32>)>,
    /// The lanes that have asked a leader from which a waiting partition has moved since.
    moved: BTreeSet<LaneId>,
    /// How many lanes have a topic of this name.
    named: BTreeMap<Arc<str>, usize>,
}

impl Lanes {
    pub(super) fn new(idempotent: bool) -> Self {
        Self {
            idempotent,
            all: Arena::new(Lane::new(false)),
            wanting: BTreeSet::new(),
            asking: BTreeMap::new(),
            moved: BTreeSet::new(),
            named: BTreeMap::new(),
        }
    }

    /// The lane with this number, which must exist.
    pub(super) fn get(&self, id: LaneId) -> &Lane {
        self.all.get(id)
    }

    /// Changes a lane, which must exist.
    pub(super) fn update<T>(&mut self, id: LaneId, change: impl FnOnce(&mut Lane) -> T) -> T {
        let lane = self.all.get_mut(id);
        let before = lane.wanted_at();
        let result = change(lane);
        let after = lane.wanted_at();
        if before != after {
            before.map(|at| self.wanting.remove(&(at, id)));
            self.wanting.extend(after.map(|at| (at, id)));
        }
        result
    }

    /// A lane that has no topic of this name.
    pub(super) fn without_topic(&mut self, name: &str) -> LaneId {
        let every_lane_has_one = self.named.get(name).is_some_and(|lanes| *lanes == self.all.len());
        let mut all = self.all.keys();
        if !every_lane_has_one && let Some(id) = all.find(|id| self.all.get(*id).topic(name).is_none()) {
            return id;
        }
        drop(all);
        self.all.insert(|_| Lane::new(self.idempotent))
    }

    pub(super) fn add_topic(&mut self, id: LaneId, name: Arc<str>, topic: TopicIndex) {
        *self.named.entry(Arc::clone(&name)).or_default() += 1;
        self.all.get_mut(id).names.insert(name, topic);
    }

    /// Removes a topic from its lane, and the lane if it was the last one. Returns whether the lane is still there.
    pub(super) fn remove_topic(&mut self, id: LaneId, name: &str) -> bool {
        let lane = self.all.get_mut(id);
        lane.names.remove(name);
        if let Some(lanes) = self.named.get_mut(name) {
            *lanes = lanes.saturating_sub(1);
            if *lanes == 0 {
                self.named.remove(name);
            }
        }
        if !lane.names.is_empty() {
            return true;
        }
        if let Identity::Asked(request) = lane.identity {
            self.asking.remove(&request);
        }
        lane.wanted_at().map(|at| self.wanting.remove(&(at, id)));
        self.all.remove(id);
        false
    }

    /// The lane that wants a producer id first, and when.
    pub(super) fn next_wanting(&self) -> Option<(Instant, LaneId)> {
        self.wanting.first().copied()
    }

    /// Notes that this request asks a leader, or any broker, for the producer id of a lane. Returns how many of its
    /// requests have failed in a row.
    pub(super) fn ask(&mut self, id: LaneId, request: u64, leader: Option<i32>) -> u32 {
        self.asking.insert(request, (id, leader));
        self.update(id, |lane| {
            lane.identity = Identity::Asked(request);
            lane.failures
        })
    }

    /// Notes that a partition which waits for the producer id of a lane has moved from this leader. Returns whether
    /// that leader is being asked for it.
    pub(super) fn handle_moved(&mut self, id: LaneId, leader: i32) -> bool {
        let Identity::Asked(request) = self.all.get(id).identity else { return false };
        let is_asked = self.asking.get(&request).is_some_and(|(_, asked)| *asked == Some(leader));
        is_asked && self.moved.insert(id)
    }

    /// Asks other leaders, instead of those that lead no waiting partition any more.
    pub(super) fn ask_instead_of_moved(&mut self, now: Instant, leads: impl Fn(i32, &Lane) -> bool) {
        while let Some(id) = self.moved.pop_first() {
            let Some(Identity::Asked(request)) = self.all.find(id).map(|lane| &lane.identity) else { continue };
            let request = *request;
            let asked = self.asking.get(&request).and_then(|(_, leader)| *leader);
            if asked.is_some_and(|leader| !leads(leader, self.all.get(id))) {
                self.asking.remove(&request);
                self.update(id, |lane| lane.ask_again_at(now));
            }
        }
    }

    /// The lane that this request asked for, and the leader that was asked; `None` if there is no such lane any more.
    pub(super) fn take_asking(&mut self, request: u64) -> Option<(LaneId, Option<i32>)> {
        self.asking.remove(&request)
    }

    /// Whether a look-up missed, which is a bug.
    pub(super) fn is_broken(&self) -> bool {
        self.all.is_broken()
    }

    /// How many lanes there are, and how many were looked at so far.
    #[cfg(test)]
    pub(super) fn count_and_visits(&self) -> (usize, usize) {
        (self.all.len(), self.all.visits())
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Key;
    use super::*;

    fn id(producer_epoch: i16) -> ProducerId {
        ProducerId { producer_id: 9, producer_epoch }
    }

    #[test]
    fn a_new_partition_begins_behind_the_epochs_of_those_that_were_forgotten() {
        let mut lane = Lane::new(true);
        lane.adopt(id(0));
        lane.retire(Instant(1), id(3));
        assert_eq!(lane.producer_id(), Some(id(4)));
        lane.retire(Instant(1), id(2));
        assert_eq!(lane.producer_id(), Some(id(4)));
        lane.retire(Instant(1), id(i16::MAX - 1));
        lane.wait(PartitionId::new(0));
        assert_eq!(lane.wanted_at(), Some(Instant(1)));
    }
}

//! A lane: a producer id, and the topics whose batches carry it.
//!
//! The sequence numbers of a partition belong to one producer id. If two handles write to the same topic, their batches
//! are not ordered among each other, so they need two producer ids: the second handle's topic goes into the next lane.
//! A request carries batches of one lane, so it has no partition twice. Nearly always there is one lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{Identity, ProducerId};
use super::{PartitionId, TopicIndex};
use crate::error::{Error, ErrorKind, Phase};
use crate::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lane {
    identity: Identity,
    failures: u32,
    /// Why the last request for a producer id failed.
    last_error: Option<Error>,
    /// Partitions that have something to send and wait for the producer id.
    waiting: Vec<PartitionId>,
    pub(super) names: BTreeMap<Arc<str>, TopicIndex>,
}

impl Lane {
    pub(super) fn new(idempotent: bool) -> Self {
        let identity = if idempotent { Identity::Wanted(Instant::default()) } else { Identity::Off };
        Self { identity, failures: 0, last_error: None, waiting: Vec::new(), names: BTreeMap::new() }
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

    /// Why there is no producer id yet.
    pub(super) fn hindrance(&self) -> Option<Error> {
        match (&self.last_error, &self.identity) {
            (Some(error), Identity::Wanted(_) | Identity::Asked(_)) => Some(error.clone()),
            (None, Identity::Asked(_)) => {
                Some(Error::new(ErrorKind::TimedOut(Phase::Request), "no broker has assigned a producer id yet"))
            }
            _ => None,
        }
    }

    /// Makes a partition wait for the producer id. Returns whether one must be requested first.
    pub(super) fn wait(&mut self, id: PartitionId) -> bool {
        self.waiting.push(id);
        matches!(self.identity, Identity::Wanted(_))
    }

    /// When to request a producer id.
    pub(super) fn wanted_at(&self) -> Option<Instant> {
        match self.identity {
            Identity::Wanted(at) if !self.waiting.is_empty() => Some(at),
            _ => None,
        }
    }

    /// Notes that this request asks for a producer id. Returns how many requests in a row have failed.
    pub(super) fn ask(&mut self, request_id: u64) -> u32 {
        self.identity = Identity::Asked(request_id);
        self.failures
    }

    pub(super) fn is_asked_by(&self, request_id: u64) -> bool {
        matches!(self.identity, Identity::Asked(id) if id == request_id)
    }

    /// Sets the producer id; returns the partitions that waited for it.
    pub(super) fn adopt(&mut self, id: ProducerId) -> Vec<PartitionId> {
        self.identity = Identity::Known(id);
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

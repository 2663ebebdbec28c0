//! What the machine does after something changed in a partition.
//!
//! A partition decides about its own batches. This file hands out and counts its reports, puts the partition on its
//! leader's list, or makes it wait for what it lacks: the end of its back-off, a leader, or a producer id.

use std::collections::BTreeSet;

use super::leaders::Destination;
use super::{PartitionId, Producer, ProducerEvent};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::planted::{Bug, is_planted};
use crate::random::Random;
use crate::time::Instant;

/// Partitions that have something to send but no leader. Metadata is requested repeatedly for them.
#[derive(Debug, Default)]
pub(super) struct Leaderless {
    partitions: BTreeSet<PartitionId>,
    /// How many metadata refreshes were asked for in a row.
    asked: u32,
    at: Instant,
}

impl Leaderless {
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.partitions.is_empty()).then_some(self.at)
    }

    fn schedule(&mut self, now: Instant, backoff: Backoff, random: &mut Random) {
        self.asked = self.asked.saturating_add(1);
        self.at = now + backoff.delay(self.asked, random);
    }
}

impl Producer {
    /// Restarts a partition if it has drained, reports what can be reported, and lists it if it can send. Returns
    /// whether to wake the sending task.
    pub(super) fn advance(&mut self, now: Instant, id: PartitionId) -> bool {
        self.report(id);
        // Reporting a failure fails the batches behind it, which may break the sequence again.
        while self.partitions.get(id).is_drained() {
            let rules = self.rules_for(self.partitions.get(id));
            let partition = self.partitions.get_mut(id);
            let is_used_up = partition.restart(rules);
            if is_used_up {
                self.lanes.update(partition.lane(), |lane| lane.renew(now));
            }
            self.report(id);
        }
        if self.partitions.get(id).is_broken() {
            self.poison("a partition lost track of its batches");
        }
        self.consider(now, id)
    }

    /// Puts a partition on its leader's list if it has something to send now, and hands out what must be compressed
    /// first. Returns whether to wake the sending task.
    pub(super) fn consider(&mut self, now: Instant, id: PartitionId) -> bool {
        if self.partitions.get(id).next_bytes().is_none() {
            return false;
        }
        let compresses = self.compress_ahead(id);
        self.consider_sending(now, id) || compresses
    }

    fn consider_sending(&mut self, now: Instant, id: PartitionId) -> bool {
        let partition = self.partitions.get(id);
        let Some(broker_id) = partition.leader() else { return self.ask_for_leader(now, id) };
        let (lane, rules) = (partition.lane(), self.rules_for(partition));
        if rules.idempotent && partition.must_restart() {
            self.partitions.get_mut(id).drain();
            return self.advance(now, id);
        }
        if rules.idempotent && self.lacks_identity(partition) {
            return match self.partitions.get_mut(id).wait_for_identity(broker_id) {
                None => self.lanes.update(lane, |lane| lane.wait(id)),
                Some(before) => before != broker_id && self.lanes.handle_moved(lane, before),
            };
        }
        if partition.is_listed(broker_id) || !partition.can_send(now, rules) {
            return false;
        }
        self.partitions.get_mut(id).list(broker_id);
        self.leaders.push(Destination { broker_id, lane }, id)
    }

    fn ask_for_leader(&mut self, now: Instant, id: PartitionId) -> bool {
        if self.leaderless.partitions.is_empty() {
            self.leaderless.asked = 0;
            self.leaderless.schedule(now, self.backoff, &mut self.random);
        }
        let is_new = self.leaderless.partitions.insert(id);
        if is_new {
            self.outdated.add_topic(self.partitions.get(id).topic_name());
        }
        is_new
    }

    /// Asks for metadata again while partitions have no leader.
    pub(super) fn ask_for_leaders(&mut self, now: Instant) {
        if self.leaderless.due().is_none_or(|at| at > now) {
            return;
        }
        let partitions = &self.partitions;
        let waits = |id: &PartitionId| {
            let partition = partitions.find(*id);
            partition.is_some_and(|partition| partition.leader().is_none() && partition.next_bytes().is_some())
        };
        self.leaderless.partitions.retain(waits);
        for id in &self.leaderless.partitions {
            self.outdated.add_topic(self.partitions.get(*id).topic_name());
        }
        self.leaderless.schedule(now, self.backoff, &mut self.random);
    }

    /// Makes a partition wait for its back-off.
    pub(super) fn retry_later(&mut self, now: Instant, id: PartitionId) {
        let partition = self.partitions.get_mut(id);
        let at = now + self.backoff.delay(partition.failures(), &mut self.random);
        partition.back_off(at);
        self.retries.insert((at, id));
    }

    /// Lets the partitions continue whose back-off has ended.
    pub(super) fn retry_due(&mut self, now: Instant) {
        while let Some((_, id)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.pop_first();
            if self.partitions.find(id).is_some() {
                self.partitions.get_mut(id).end_back_off(now);
                self.consider(now, id);
            }
        }
    }

    /// Fails batches that were not acknowledged within `delivery.timeout.ms`.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((number, id, _)) = self.ledger.front().filter(|(.., deadline)| *deadline <= now) {
            let partition = self.partitions.get_mut(id);
            let no_identity = self.lanes.get(partition.lane()).hindrance();
            self.lingering.remove(&number);
            if !partition.expire(number, no_identity.as_ref()) {
                return self.poison("a record that was not reported cannot be found");
            }
            self.advance(now, id);
        }
    }

    /// Hands out the reports that are due at the front of a partition.
    fn report(&mut self, id: PartitionId) {
        let handle = self.partitions.get(id).handle();
        while let Some((completed, settled)) = self.partitions.get_mut(id).take_report() {
            self.handles.get_mut(handle).handle_reported(completed.count(), settled);
            if let Some(number) = settled {
                self.ledger.settle(number);
                self.lingering.remove(&number);
            }
            self.progressed.insert(handle);
            let is_expired = completed.error().is_some_and(|error| matches!(error.kind(), ErrorKind::TimedOut(_)));
            if is_expired && is_planted(Bug::NoReportOnExpiry) {
                continue;
            }
            self.events.push_back(ProducerEvent::Completed(completed));
        }
    }

    /// Fails everything undecided in a partition.
    pub(super) fn give_up(&mut self, now: Instant, id: PartitionId, cause: &Error) {
        let error = Error::new(cause.kind(), "the record was given up").with_source(cause.clone());
        self.partitions.get_mut(id).fail_all(error);
        self.advance(now, id);
    }

    /// Fails every undecided record.
    pub(super) fn fail_everything(&mut self, now: Instant, cause: &Error) {
        for id in self.ledger.partitions() {
            self.give_up(now, id, cause);
        }
    }

    /// Fails every record of every handle, and refuses further ones.
    pub fn fail_for_good(&mut self, now: Instant, error: &Error) {
        self.refusal.get_or_insert_with(|| error.clone());
        self.fail_everything(now, error);
    }

    /// Stops the machine if a look-up in an arena found nothing, which is a bug.
    pub(super) fn check(&mut self) {
        let broken = self.partitions.is_broken() || self.topics.is_broken();
        if broken || self.handles.is_broken() || self.lanes.is_broken() {
            self.poison("it lost track of its own records");
        }
    }

    /// Stops the machine because of a bug: it sends nothing more and fails every record.
    #[cold]
    pub(super) fn poison(&mut self, what: &str) {
        if self.refusal.is_some() {
            return;
        }
        let error = Error::new(ErrorKind::Internal, format!("the producer stopped itself, because {what}"))
            .with_hint("this is a bug in kavka: please report it");
        self.refusal = Some(error.clone());
        for id in self.partitions.keys().collect::<Vec<_>>() {
            let partition = self.partitions.get_mut(id);
            partition.fail_all(error.clone());
            while let Some((completed, _)) = partition.take_report() {
                self.events.push_back(ProducerEvent::Completed(completed));
            }
        }
        for handle in self.handles.keys().collect::<Vec<_>>() {
            self.handles.get_mut(handle).clear();
            self.progressed.insert(handle);
        }
        self.ledger.clear();
        self.lingering.clear();
    }
}

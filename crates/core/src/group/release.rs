//! Giving up partitions: in order, with the application's consent, or all at once because they are lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::consumer::TopicPartition;
use crate::error::{Error, ErrorKind};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::messages::OffsetCommitRequest;
use crate::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};

use super::assignor::RebalanceProtocol;
use super::{Member, MemberEvent, State};

/// What to do once the application has given up partitions.
#[derive(Debug)]
pub(super) enum Then {
    /// Join again.
    Join,
    /// Start what is new in this share; then, because the cooperative protocol made it give something up, join again.
    Begin(BTreeSet<TopicPartition>),
    /// Act on the newest target of the coordinator (consumer protocol).
    Reconcile,
    /// Leave the group, and be away until there are topics again.
    Withdraw,
    /// Leave the group for good.
    Leave,
}

/// Whether the member is about to leave the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// It stays, or is away already.
    None,
    /// It unsubscribed from all topics, and has partitions to give up or commits pending.
    Withdrawing,
    /// It was closed, or has failed for good.
    Closing,
}

impl Departure {
    fn then(self) -> Then {
        match self {
            Self::None | Self::Withdrawing => Then::Withdraw,
            Self::Closing => Then::Leave,
        }
    }
}

impl Member {
    /// Says that no more records of the partitions in the last [`MemberEvent::Revoked`] are handed out, and that the
    /// application has asked for its last commits.
    pub fn handle_released(&mut self) {
        self.releases_wanted = self.releases_wanted.saturating_sub(1);
        if self.releases_wanted > 0 {
            return;
        }
        let is_departing = self.is_departing();
        match &mut self.state {
            State::Releasing { gone, is_released, .. } => {
                *is_released = true;
                self.owned.retain(|key| !gone.contains(key));
            }
            _ if is_departing => self.owned.clear(),
            _ => {}
        }
    }

    /// Asks the application to give up partitions.
    pub(super) fn release(&mut self, gone: BTreeSet<TopicPartition>, then: Then) {
        self.ask_to_give_up(&gone);
        self.state = State::Releasing { gone, then, is_released: false };
    }

    fn ask_to_give_up(&mut self, gone: &BTreeSet<TopicPartition>) {
        self.events.push_back(MemberEvent::Revoked { partitions: gone.iter().cloned().collect() });
        self.releases_wanted = self.releases_wanted.saturating_add(1);
    }

    /// Asks the application to give up all partitions, in order to leave the group afterwards.
    ///
    /// If a `JoinGroup` is in flight, the member still takes its answer: once the coordinator has begun the next
    /// generation, it accepts the last commits in that one only.
    pub(super) fn depart(&mut self, departure: Departure) {
        let is_under_way = self.is_departing();
        self.departure = departure;
        match &mut self.state {
            State::Releasing { then, .. } => *then = departure.then(),
            _ if is_under_way => {}
            State::Joining | State::Assigning(_) | State::Syncing if !self.owned.is_empty() => {
                self.ask_to_give_up(&self.owned.clone());
            }
            _ => self.release_all(departure.then()),
        }
    }

    /// Whether the member gives up all that it owns in order to leave, so that it takes part in no further rebalance.
    pub(super) fn is_departing(&self) -> bool {
        self.departure != Departure::None
    }

    pub(super) fn is_closing(&self) -> bool {
        self.departure == Departure::Closing
    }

    /// The member is in the group no more. Only a closed one stays outside for good.
    pub(super) fn note_departed(&mut self) {
        if !self.is_closing() {
            self.departure = Departure::None;
        }
    }

    /// Asks the application to give up all partitions; continues at once if there are none.
    pub(super) fn release_all(&mut self, then: Then) {
        if matches!(then, Then::Leave | Then::Withdraw) {
            // A `JoinGroup` in flight must not bring the member back.
            self.attempt += 1;
        }
        match (self.owned.is_empty(), then) {
            (false, then) => self.release(self.owned.clone(), then),
            (true, Then::Leave) => self.leave("the consumer was closed"),
            (true, Then::Withdraw) => self.leave("the consumer unsubscribed from all topics"),
            (true, Then::Join | Then::Begin(_) | Then::Reconcile) => self.state = State::Unjoined,
        }
    }

    /// Whether the group rebalances, and the next generation will accept the commits that the coordinator refuses now.
    pub(super) fn is_between(&self) -> bool {
        match self.state {
            State::Unjoined => !self.is_departing() && !self.owned.is_empty(),
            State::Joining | State::Assigning(_) | State::Syncing => self.is_departing() || !self.owned.is_empty(),
            _ => false,
        }
    }

    /// Continues once the application has given up the partitions and no commit for them is pending.
    ///
    /// A commit without an answer is pending even if its time is over and the application was told so: the request
    /// may still reach the coordinator, on another connection than the `JoinGroup`, and be applied after the next owner
    /// has read the committed offset. Its answer, or its failure, comes soon: the request has a time limit, too.
    pub(super) fn go_on(&mut self) {
        let is_released = match &self.state {
            State::Releasing { is_released, .. } => *is_released,
            State::Leaving | State::Ended => false,
            // See `depart`.
            _ => self.is_departing() && self.owned.is_empty() && self.releases_wanted == 0,
        };
        if !is_released || (self.is_committing_for_others() && !is_planted(Bug::JoinsTooEarly)) {
            return;
        }
        let then = match &mut self.state {
            State::Releasing { then, .. } => std::mem::replace(then, Then::Join),
            _ => self.departure.then(),
        };
        match then {
            Then::Begin(share) => {
                self.rejoin.get_or_insert("partitions were given up for other members");
                self.begin(&share);
            }
            Then::Reconcile => {
                self.must_acknowledge();
                self.state = State::Stable;
            }
            then => self.release_all(then),
        }
    }

    /// Whether a commit is pending for a partition that the member does not own.
    fn is_committing_for_others(&self) -> bool {
        self.commits.names_others_than(&self.owned) || !self.committing.is_subset(&self.owned)
    }

    /// The member was removed from the group, and has lost all it owned. It joins again, with `reason`.
    pub(super) fn lose(&mut self, error: &Error, reason: &'static str) {
        self.attempt += 1;
        self.note_departed();
        self.shared_out = None;
        self.follow_up_at = None;
        if let Some(group) = &mut self.consumer_group {
            group.forget();
        }
        self.lose_partitions(error);
        self.rejoin = Some(reason);
        self.retry_at = Instant::default();
        self.state = if self.is_closing() { State::Ended } else { self.outside() };
    }

    /// Ends at once, without leaving the group: nobody is there to give up its partitions in order. The coordinator
    /// removes it at the end of its session.
    pub fn abandon(&mut self, error: &Error) {
        self.departure = Departure::Closing;
        self.lose(error, "the member has failed");
    }

    /// Ends the member because of a bug: what it owns is lost, and the application is told.
    #[cold]
    pub(super) fn poison(&mut self, what: &str) {
        let error = Error::new(ErrorKind::Internal, format!("the group member stopped itself, because {what}"));
        let error = error.at(self.place()).with_hint("this is a bug in kavka: please report it");
        self.departure = Departure::Closing;
        self.lose_and_tell(&error, "the member has failed");
    }

    /// As [`lose`](Self::lose), and tells the application once: also if the member owned nothing.
    pub(super) fn lose_and_tell(&mut self, error: &Error, reason: &'static str) {
        let owned_nothing = self.owned.is_empty();
        self.lose(error, reason);
        if owned_nothing {
            self.events.push_back(MemberEvent::Failed(error.clone()));
        }
    }

    pub(super) fn lose_partitions(&mut self, error: &Error) {
        let error = error.clone().at(self.place());
        self.membership.lose();
        self.commits.fail(&error);
        self.tell_outcomes();
        let partitions: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        if !partitions.is_empty() {
            self.events.push_back(MemberEvent::Lost { partitions, error });
        }
    }

    /// Joins again if there is a reason to; with the eager protocol it first gives up all partitions.
    pub(super) fn join_if_due(&mut self) {
        // New partitions are not started in a generation that has ended.
        let can_join = match self.state {
            State::Stable => true,
            State::Beginning { asked, .. } => !asked && self.failures > 0,
            State::Away
            | State::Unjoined
            | State::Joining
            | State::Assigning(_)
            | State::Syncing
            | State::Releasing { .. }
            | State::Leaving
            | State::Ended => false,
        };
        if self.consumer_group.is_none() && can_join && self.rejoin.is_some() && !self.is_departing() {
            match self.protocol() {
                RebalanceProtocol::Eager => self.release_all(Then::Join),
                RebalanceProtocol::Cooperative => self.state = State::Unjoined,
            }
        }
    }
}

/// The partitions that a commit names.
pub(super) fn partitions_of(request: &OffsetCommitRequest) -> BTreeSet<TopicPartition> {
    let of_topic = |topic: &OffsetCommitRequestTopic| {
        let name: Arc<str> = topic.name.as_str().into();
        let key = |partition: &OffsetCommitRequestPartition| {
            TopicPartition::new(Arc::clone(&name), partition.partition_index)
        };
        topic.partitions.iter().map(key).collect::<Vec<_>>()
    };
    request.topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backoff::Backoff;
    use crate::config::{ConsumerConfig, GroupConfig};
    use crate::consumer::Offsets;
    use crate::group::Strategy;
    use crate::group::assignor::Assignor;

    #[test]
    fn a_member_in_a_state_that_only_a_bug_explains_loses_everything_says_so_and_ends() {
        let consumer = ConsumerConfig::default().group_id(Some("billing".to_owned()));
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let strategies = vec![Strategy::BuiltIn(Assignor::Range)];
        let mut member = Member::new(GroupConfig::default(), &consumer, strategies, backoff, 1, 1).unwrap();
        member.state = State::Stable;
        member.owned.insert(TopicPartition::new("orders", 0));
        member.handle_begun(Offsets::new());
        let Some(MemberEvent::Lost { error, .. }) = member.poll_event() else { panic!("it is not told") };
        assert!(member.poll_event().is_none(), "it is told once");
        assert!(error.kind() == ErrorKind::Internal && error.to_string().contains("billing"), "{error}");
        assert!(member.has_ended() && member.poll_request(Instant(0)).is_none() && member.poll_timeout().is_none());
    }
}

//! The classic group protocol: members join, the leader assigns the partitions, and each member gets its share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Call, Owner};
use crate::config::GroupConfig;
use crate::consumer::{Offsets, TopicPartition};
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::ErrorCode;
use crate::wire::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember, STATIC_MEMBERS_SINCE};
use crate::wire::messages::sync_group::SyncGroupRequestAssignment;
use crate::wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::assignor::{Assignment, RebalanceProtocol, Subscriber, as_claimed};
use super::topics::{counts, racks};
use super::{
    InFlight, Member, MemberEvent, MemberRequest, State, Strategy, Subscription, TOLD_EVERY, decode_assignment,
    encode_assignment,
};

/// The `protocol_type` of consumer groups.
const PROTOCOL_TYPE: &str = "consumer";

/// How much longer than `max.poll.interval.ms` the coordinator may take to answer a `JoinGroup`.
const JOIN_MARGIN: Duration = Duration::from_secs(5);

/// The longest `session.timeout.ms` that Kafka before 0.10.1 allows by default.
const LONGEST_OLD_SESSION: Duration = Duration::from_secs(30);

/// How long a leader waits for the metadata of topics that another member wants.
const METADATA_WAIT: Duration = Duration::from_secs(5);

/// What the leader needs in order to assign the partitions.
#[derive(Debug)]
pub(super) struct Assigning {
    strategy: Strategy,
    members: Vec<Subscriber>,
    topics: BTreeSet<Arc<str>>,
    /// When to go on without the topics that are still unknown.
    metadata_by: Instant,
    /// Whether the application's strategy was asked.
    is_asked: bool,
    shares: Option<Assignment>,
}

impl Member {
    /// The next request about the membership.
    pub(super) fn poll_membership(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if let Some(call) = self.send_leave(now) {
            return Some(call);
        }
        if self.consumer_group.is_some() {
            return self.poll_consumer_group(now);
        }
        if let Some(call) = self.ask_committed(now) {
            return Some(call);
        }
        let can_join = self.retry_at <= now && self.may_join();
        match &mut self.state {
            State::Unjoined if can_join => return self.join(now),
            State::Assigning(_) => {
                if let Some(call) = self.assign(now) {
                    return Some(call);
                }
            }
            State::Away
            | State::Unjoined
            | State::Joining
            | State::Syncing
            | State::Releasing { .. }
            | State::Beginning { .. }
            | State::Stable
            | State::Leaving
            | State::Ended => {}
        }
        self.heartbeat(now)
    }

    /// Asks for the committed offsets of the partitions that are to be started.
    pub(super) fn ask_committed(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if let State::Beginning { added, asked } = &mut self.state
            && !*asked
            && self.retry_at <= now
        {
            *asked = true;
            let added = added.iter().cloned().collect();
            return Some(self.send(InFlight::Committed, MemberRequest::Committed(added)));
        }
        None
    }

    /// Whether something is to be sent at `retry_at`.
    pub(super) fn waits_for_retry(&self) -> bool {
        match &self.state {
            State::Unjoined => self.may_join(),
            State::Beginning { asked, .. } => !asked,
            State::Assigning(assigning) => !assigning.is_asked,
            State::Away
            | State::Joining
            | State::Syncing
            | State::Releasing { .. }
            | State::Stable
            | State::Leaving
            | State::Ended => false,
        }
    }

    /// What the application says while it still gives up earlier partitions is not about those of a new generation. A
    /// member that is about to leave does not begin to join: it would claim nothing while its last commits are pending.
    fn may_join(&self) -> bool {
        self.releases_wanted == 0 && !self.is_departing()
    }

    fn join(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if self.membership.is_behind() {
            // The last `JoinGroup` was in vain, and others may have read and committed in a generation that this member
            // has missed. If it kept its partitions, it would commit its old offsets over theirs.
            let what = "the group has moved on while this member tried to join";
            self.lose_partitions(&Error::new(ErrorKind::Fenced, what));
        }
        let reason = self.rejoin.take().filter(|reason| !reason.is_empty());
        let protocols = self.offers().unwrap_or_else(|error| {
            self.events.push_back(MemberEvent::Failed(error));
            Vec::new()
        });
        if protocols.is_empty() {
            self.state = State::Ended;
            return None;
        }
        self.attempt += 1;
        self.state = State::Joining;
        let rebalance_timeout = self.config.max_poll_interval;
        let request = JoinGroupRequest {
            group_id: self.group_id.to_string(),
            session_timeout_ms: milliseconds(self.config.session_timeout),
            rebalance_timeout_ms: Some(milliseconds(rebalance_timeout)),
            member_id: self.membership.member_id().to_owned(),
            group_instance_id: self.membership.group_instance_id().cloned(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols,
            reason: reason.map(Into::into),
        };
        self.expect_signs_of_life(now);
        let call = self.send(InFlight::Join, MemberRequest::Join(request));
        let is_static = self.membership.group_instance_id().is_some();
        let min_version = if is_static { STATIC_MEMBERS_SINCE } else { 0 };
        Some(Call { min_version, timeout: Some(rebalance_timeout.saturating_add(JOIN_MARGIN)), ..call })
    }

    /// The `JoinGroup` protocols: for each strategy, the member's subscription.
    fn offers(&self) -> Result<Vec<JoinGroupRequestProtocol>> {
        let offer = |strategy: &Strategy| {
            let user_data = match strategy {
                Strategy::BuiltIn(assignor) => {
                    let share = self.last_share.as_ref();
                    assignor.user_data(share.map(|(share, generation_id)| (share.as_slice(), *generation_id)))?
                }
                Strategy::Custom { user_data, .. } => user_data.clone(),
            };
            let subscription = Subscription {
                topics: self.topics.iter().cloned().collect(),
                user_data,
                owned: self.claims(),
                generation_id: self.membership.generation_id().or(Some(-1)),
                rack: self.client_rack.clone(),
            };
            Ok(JoinGroupRequestProtocol { name: strategy.name().into(), metadata: subscription.encode()? })
        };
        self.strategies.iter().map(offer).collect()
    }

    fn claims(&self) -> Vec<TopicPartition> {
        if is_planted(Bug::OldClaims) {
            return self.last_share.iter().flat_map(|(share, _)| share).cloned().collect();
        }
        self.owned.iter().cloned().collect()
    }

    /// The coordinator answered at `since` or later.
    pub(super) fn handle_joined(&mut self, now: Instant, since: Instant, response: JoinGroupResponse) {
        match response.error_code {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED if response.member_id.is_empty() => {
                return self.handle_nameless(now, "member id");
            }
            // The coordinator assigned a member id; join again with it (KIP-394).
            ErrorCode::MEMBER_ID_REQUIRED => {
                if !self.membership.member_id().is_empty() {
                    self.pause(now);
                }
                self.membership.name(response.member_id);
                self.state = State::Unjoined;
                return;
            }
            code => return self.handle_refusal(now, InFlight::Join, code),
        }
        let generation_id = match response.generation_id {
            Some(_) if response.member_id.is_empty() => return self.handle_nameless(now, "member id"),
            Some(generation_id) => generation_id,
            None => return self.handle_nameless(now, "generation"),
        };
        // A response to a heartbeat of the previous generation no longer applies.
        self.attempt += 1;
        self.shared_out = None;
        self.follow_up_at = None;
        self.chosen.clone_from(&response.protocol_name);
        let is_leader = response.leader == response.member_id;
        self.membership.join(since, response.member_id.clone(), generation_id, self.config.heartbeat_interval);
        if self.is_departing() {
            // It claimed the partitions that it commits, so nobody else has them in this generation.
            self.commits.stamp(self.membership.stamp());
        }
        if !is_leader {
            self.watch(&BTreeSet::new());
            self.state = State::Syncing;
            return;
        }
        let name = response.protocol_name.as_deref().unwrap_or_default();
        let Some(strategy) = self.strategies.iter().find(|strategy| strategy.name() == name).cloned() else {
            let what = format!("a coordinator chose the assignor {name:?}, which this member did not offer");
            return self.handle_failure(now, InFlight::Join, Error::new(ErrorKind::Malformed, what));
        };
        let is_settled = response.skip_assignment;
        self.lead(now, strategy, subscribers(response), is_settled);
    }

    /// The answer to the request to join leaves out what every member has.
    fn handle_nameless(&mut self, now: Instant, what: &str) {
        let error = Error::new(ErrorKind::Malformed, format!("a coordinator named no {what}"));
        self.handle_failure(now, InFlight::Join, error);
    }

    /// Starts the work of the group's leader. With `is_settled`, the assignment stays as it is, and it only watches
    /// topics (KIP-814).
    fn lead(&mut self, now: Instant, strategy: Strategy, members: Vec<Subscriber>, is_settled: bool) {
        let topics: BTreeSet<Arc<str>> =
            members.iter().flat_map(|member| member.subscription.topics.iter().cloned()).collect();
        self.watch(&topics);
        if is_settled {
            self.note_shared_out(&topics, true);
            // An earlier leader assigned the partitions, so this one cannot know whether some are between two owners.
            let is_cooperative = [strategy.protocol(), self.protocol()] == [RebalanceProtocol::Cooperative; 2];
            self.follow_up_at = self.follow_up(now, is_cooperative);
            self.state = State::Syncing;
            return;
        }
        self.retry_at = now + METADATA_WAIT;
        let metadata_by = self.retry_at;
        let assigning = Assigning { strategy, members, topics, metadata_by, is_asked: false, shares: None };
        self.state = State::Assigning(Box::new(assigning));
    }

    /// When to join again if partitions may be between two owners, and no other member joins.
    fn follow_up(&self, now: Instant, is_between: bool) -> Option<Instant> {
        (is_between && !is_planted(Bug::Orphans)).then(|| now + self.config.session_timeout)
    }

    /// Asks for the metadata of the topics of others, beside its own; no longer of those that are not named any more.
    fn watch(&mut self, topics: &BTreeSet<Arc<str>>) {
        let watches_others = !topics.is_subset(&self.topics);
        if std::mem::replace(&mut self.watches_others, watches_others) || watches_others {
            self.events.push_back(MemberEvent::Topics(&self.topics | topics));
        }
    }

    /// Assigns the partitions once the topics are known; returns the `SyncGroup` once the assignment is done.
    fn assign(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        let State::Assigning(mut assigning) = std::mem::replace(&mut self.state, State::Syncing) else {
            self.poison("it was to assign the partitions of a group that it does not lead");
            return None;
        };
        if assigning.shares.is_none() && !assigning.is_asked && self.has_metadata_for(now, &assigning) {
            self.share_out(&mut assigning);
        }
        let Some(shares) = assigning.shares.take() else {
            self.state = State::Assigning(assigning);
            return None;
        };
        // The owner of such a partition gives it up and joins again. A static member that crashes meanwhile and is back
        // soon does not: it gets its share of this generation, which no longer names the partition.
        self.retry_at = Instant::default();
        let is_between = is_between_owners(&assigning.members, &shares);
        self.follow_up_at = self.follow_up(now, is_between);
        let share = |(member_id, partitions): (String, Vec<TopicPartition>)| {
            let assignment = encode_assignment(&partitions)?;
            Ok(SyncGroupRequestAssignment { member_id, assignment })
        };
        match shares.into_iter().map(share).collect::<Result<Vec<_>>>() {
            Ok(assignments) => Some(self.sync(assignments)),
            Err(error) => {
                self.handle_failure(now, InFlight::Sync, error);
                None
            }
        }
    }

    /// Whether the topics are known, or have been waited for long enough.
    fn has_metadata_for(&self, now: Instant, assigning: &Assigning) -> bool {
        let is_known = |topic: &Arc<str>| self.metadata.topic(topic).is_some();
        now >= assigning.metadata_by || assigning.topics.iter().all(is_known)
    }

    /// Assigns the partitions, or asks the application to.
    fn share_out(&mut self, assigning: &mut Assigning) {
        let counts = counts(&self.metadata, &assigning.topics);
        match &assigning.strategy {
            Strategy::BuiltIn(assignor) => {
                let racks = racks(&self.metadata, &assigning.topics);
                assigning.shares = Some(assignor.assign(&counts, &racks, &assigning.members));
            }
            Strategy::Custom { .. } if self.is_departing() => assigning.shares = Some(as_claimed(&assigning.members)),
            Strategy::Custom { name, .. } => {
                assigning.is_asked = true;
                let (strategy, members) = (Arc::clone(name), assigning.members.clone());
                self.assignments_wanted = self.assignments_wanted.saturating_add(1);
                self.events.push_back(MemberEvent::AssignmentWanted { strategy, members, counts });
            }
        }
        self.note_shared_out(&assigning.topics, false);
    }

    /// Takes the assignment of the application's strategy, or its error. If the member has lost its place since, or was
    /// asked again, nobody waits for it any more.
    pub fn handle_assignment(&mut self, now: Instant, shares: Result<Assignment>) {
        self.assignments_wanted = self.assignments_wanted.saturating_sub(1);
        if let State::Assigning(assigning) = &mut self.state
            && self.assignments_wanted == 0
        {
            match shares {
                Ok(shares) => assigning.shares = Some(shares),
                Err(error) => self.handle_failure(now, InFlight::Sync, error),
            }
        }
    }

    fn sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) -> Call<MemberRequest> {
        let request = SyncGroupRequest {
            group_id: self.group_id.to_string(),
            generation_id: self.membership.generation_id().unwrap_or(-1),
            member_id: self.membership.member_id().to_owned(),
            group_instance_id: self.membership.group_instance_id().cloned(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: self.chosen.clone(),
            assignments,
        };
        let call = self.send(InFlight::Sync, MemberRequest::Sync(request));
        Call { timeout: Some(self.config.max_poll_interval.saturating_add(JOIN_MARGIN)), ..call }
    }

    /// The coordinator answered at `since` or later.
    pub(super) fn handle_synced(&mut self, now: Instant, since: Instant, response: &SyncGroupResponse) {
        if response.error_code != ErrorCode::NONE {
            return self.handle_refusal(now, InFlight::Sync, response.error_code);
        }
        self.membership.note_answer(since, self.config.heartbeat_interval);
        match decode_assignment(&response.assignment) {
            Ok(share) => {
                self.failures = 0;
                self.told_at = None;
                let share: BTreeSet<_> = share.into_iter().filter(|key| key.partition >= 0).collect();
                let generation_id = self.membership.generation_id();
                self.last_share = generation_id.map(|number| (share.iter().cloned().collect(), number));
                self.take_share(share);
            }
            Err(error) => self.handle_failure(now, InFlight::Sync, error),
        }
    }

    /// Takes the member's share of this generation. Partitions that are not in it are given up first.
    fn take_share(&mut self, share: BTreeSet<TopicPartition>) {
        self.commits.stamp(self.membership.stamp());
        if self.is_departing() {
            self.state = State::Stable;
            return;
        }
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&share).cloned().collect();
        if gone.is_empty() {
            self.begin(&share);
        } else {
            self.release(gone, super::release::Then::Begin(share));
        }
    }

    /// Starts the partitions of the share that are new.
    pub(super) fn begin(&mut self, share: &BTreeSet<TopicPartition>) {
        let added: BTreeSet<TopicPartition> = share.difference(&self.owned).cloned().collect();
        if added.is_empty() {
            self.events.push_back(MemberEvent::Assigned { partitions: Vec::new(), committed: Offsets::new() });
            self.state = State::Stable;
        } else {
            self.retry_at = Instant::default();
            self.state = State::Beginning { added, asked: false };
        }
    }

    /// Takes the committed offsets of the new partitions, and hands them to the driver.
    pub(super) fn handle_begun(&mut self, committed: Offsets) {
        let State::Beginning { added, .. } = std::mem::replace(&mut self.state, State::Stable) else {
            return self.poison("it was told of committed offsets without starting any partition");
        };
        self.failures = 0;
        self.must_acknowledge();
        let partitions: Vec<_> = added.into_iter().collect();
        self.owned.extend(partitions.iter().cloned());
        self.events.push_back(MemberEvent::Assigned { partitions, committed });
    }

    /// Whether heartbeats are needed. They are not while the member joins without any partitions.
    pub(super) fn must_prove_itself(&self) -> bool {
        match self.state {
            State::Away | State::Leaving | State::Ended => false,
            State::Unjoined | State::Joining => !self.owned.is_empty(),
            State::Assigning(_)
            | State::Syncing
            | State::Releasing { .. }
            | State::Beginning { .. }
            | State::Stable => true,
        }
    }

    fn heartbeat(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if matches!(self.state, State::Syncing) && !self.is_in_flight(InFlight::Sync) {
            return Some(self.sync(Vec::new()));
        }
        let is_due = self.must_prove_itself() && self.membership.must_beat(now);
        if !is_due || self.is_in_flight(InFlight::Heartbeat) {
            return self.probe(now);
        }
        self.membership.beat(now, self.config.heartbeat_interval);
        let request = HeartbeatRequest {
            group_id: self.group_id.to_string(),
            generation_id: self.membership.generation_id()?,
            member_id: self.membership.member_id().to_owned(),
            group_instance_id: self.membership.group_instance_id().cloned(),
        };
        let must_not_wait = self.is_waiting_for_others();
        let call = self.send(InFlight::Heartbeat, MemberRequest::Heartbeat(request));
        let owner = if must_not_wait { Owner::Control } else { call.owner };
        Some(Call { owner, timeout: Some(self.heartbeat_timeout()), ..call })
    }

    pub(super) fn handle_heartbeat(&mut self, now: Instant, refusal: Option<Error>) {
        let is_joining = matches!(self.state, State::Unjoined | State::Joining);
        if !refusal.as_ref().and_then(Error::code).is_some_and(ErrorCode::moves_coordinator) {
            self.note_sign_of_life();
        }
        match refusal.and_then(|error| error.code()) {
            None => {
                self.failures = 0;
                self.membership.note_heartbeat_answer();
            }
            Some(ErrorCode::REBALANCE_IN_PROGRESS) => {
                self.membership.note_heartbeat_answer();
                if !is_joining {
                    self.rejoin.get_or_insert("the group rebalances");
                }
            }
            // The member is joining already, and the response to that decides, if there is one.
            Some(ErrorCode::ILLEGAL_GENERATION) if is_joining => self.membership.fall_behind(),
            Some(code) => self.handle_refusal(now, InFlight::Heartbeat, code),
        }
    }

    /// Handles an error code in a response about the membership.
    fn handle_refusal(&mut self, now: Instant, in_flight: InFlight, code: ErrorCode) {
        let Some(error) = Error::from_code(code) else {
            return self.poison("it took a success for a refusal");
        };
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                if code == ErrorCode::UNKNOWN_MEMBER_ID {
                    self.membership.forget_name();
                }
                let what = format!("the group has moved on without this member: the coordinator answered {code}");
                self.lose(&Error::new(ErrorKind::Fenced, what), "its place was gone");
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {
                self.attempt += 1;
                self.rejoin.get_or_insert("the group rebalances");
                self.state = State::Stable;
            }
            ErrorCode::FENCED_INSTANCE_ID => self.handle_taken_name(),
            ErrorCode::INVALID_SESSION_TIMEOUT if in_flight == InFlight::Join && self.shorten_session() => {
                self.attempt += 1;
                self.state = State::Unjoined;
            }
            _ if in_flight == InFlight::Heartbeat => return self.handle_silence(now, error),
            _ => return self.handle_failure(now, in_flight, error),
        }
        match in_flight {
            InFlight::Join => self.pause(now),
            // The group has moved on meanwhile, so the member joins again at once, but not again and again.
            InFlight::Sync if self.failures > 0 => self.pause(now),
            InFlight::Sync => self.failures = 1,
            InFlight::Committed | InFlight::Heartbeat | InFlight::Probe | InFlight::Leave | InFlight::Commit => {}
        }
    }

    /// Falls back from the default session time to the longest one that Kafka before 0.10.1 allows. Returns false if
    /// the application has chosen another time, or that was done before.
    fn shorten_session(&mut self) -> bool {
        let is_default = self.config.session_timeout == GroupConfig::default().session_timeout;
        if is_default {
            self.config.session_timeout = LONGEST_OLD_SESSION;
        }
        is_default
    }

    /// Another member took the name of this static member, which ends.
    pub(super) fn handle_taken_name(&mut self) {
        let what = "another member joined with the same group.instance.id";
        let error = Error::new(ErrorKind::Fenced, what).at(self.place());
        let error = error.with_hint("give every member its own group.instance.id");
        self.lose_and_tell(&error, "");
        self.state = State::Ended;
    }

    /// Waits for a back-off before the next attempt.
    pub(super) fn pause(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + self.backoff.delay(self.failures, &mut self.random);
    }

    /// A request about the membership failed: tries again after a back-off.
    pub(super) fn handle_failure(&mut self, now: Instant, in_flight: InFlight, error: Error) {
        self.pause(now);
        let is_lasting = !error.is_retriable();
        if is_lasting || error.kind() == ErrorKind::Malformed {
            let hint = error.code().and_then(hint);
            let error = hint.into_iter().fold(error.at(self.place()), Error::with_hint);
            self.report(now, error);
        }
        if is_lasting {
            self.retry_at = now + TOLD_EVERY;
        }
        match in_flight {
            InFlight::Committed => {
                if let State::Beginning { asked, .. } = &mut self.state {
                    *asked = false;
                }
            }
            InFlight::Join | InFlight::Sync => {
                self.attempt += 1;
                self.state = State::Unjoined;
            }
            // The next one is sent at its own time.
            InFlight::Heartbeat | InFlight::Probe | InFlight::Leave | InFlight::Commit => {}
        }
    }

    /// A heartbeat failed: sends another one after a short delay.
    pub(super) fn handle_silence(&mut self, now: Instant, error: Error) {
        let mut delay = self.backoff.delay(1, &mut self.random);
        if !error.is_retriable() {
            let error = error.at(self.place());
            self.report(now, error);
            delay = self.config.heartbeat_interval;
        }
        self.membership.beat_again_at(now + delay);
        self.note_silence(now);
    }
}

/// What to do about an error that lasts.
fn hint(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::INVALID_SESSION_TIMEOUT => Some(
            "set session.timeout.ms to what the broker allows (group.min.session.timeout.ms and group.max.session.timeout.ms)",
        ),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            Some("name an assignor in partition.assignment.strategy that every member of the group has")
        }
        code => super::consumer::hint(code),
    }
}

/// The members as listed in the leader's `JoinGroup` response. A member with an unreadable subscription gets nothing.
fn subscribers(response: JoinGroupResponse) -> Vec<Subscriber> {
    let subscriber = |member: JoinGroupResponseMember| {
        let subscription = Subscription::decode(member.metadata).unwrap_or_default();
        Subscriber { member_id: member.member_id, group_instance_id: member.group_instance_id, subscription }
    };
    response.members.into_iter().map(subscriber).collect()
}

/// Whether a member claims a partition that nobody gets.
fn is_between_owners(members: &[Subscriber], shares: &Assignment) -> bool {
    let given: BTreeSet<&TopicPartition> = shares.values().flatten().collect();
    members.iter().flat_map(|member| &member.subscription.owned).any(|claimed| !given.contains(claimed))
}

pub(super) fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

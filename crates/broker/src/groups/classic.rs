//! One classic group: its members, and how they agree on a generation.
//!
//! A rebalance has two phases. In *preparing*, all members join again; a dynamic member that has not done so within the
//! longest rebalance timeout is removed. In *completing*, the leader sends the assignment of all members. Then the
//! group is stable until a member joins, leaves, changes its subscription, misses its heartbeats, or does not ask for
//! its assignment within the rebalance timeout.
//!
//! A static member (KIP-345) that restarts takes over its place under a new member id, and the old member id is fenced.
//! A stable group rebalances for that only if its assignor changes.
//!
//! Not here: the delay of a group's first rebalance (as with `group.initial.rebalance.delay.ms=0`), and limits on group
//! size.

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use kavka_core::wire::messages::join_group::JoinGroupResponseMember;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use super::embedded;
use crate::ConnectionId;
use crate::waits::Wakes;

pub(super) use member::{Member, Waits};

/// The protocol type of groups of consumers.
pub(super) const CONSUMERS: &str = "consumer";

/// A member's `JoinGroup`.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) connection: ConnectionId,
    pub(crate) member_id: String,
    /// The member id was generated for this request, so no member has it.
    pub(crate) is_new: bool,
    /// A new dynamic member must join again with its member id (KIP-394).
    pub(crate) must_know_id: bool,
    pub(crate) group_instance_id: Option<String>,
    /// The leader's client supports keeping the assignment (KIP-814).
    pub(crate) can_skip_assignment: bool,
    pub(crate) client_id: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
}

/// A member's `SyncGroup`, with the assignments if it is the leader.
#[derive(Debug)]
pub(crate) struct Sync {
    pub(crate) connection: ConnectionId,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) generation_id: i32,
    /// The protocol that the member believes was chosen (KIP-559); `None` if it does not say.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The phase of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Empty,
    Preparing(Instant),
    Completing,
    Stable,
}

/// The members of one group.
#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    pub(super) members: BTreeMap<String, Member>,
    pub(super) protocol_type: String,
    pub(super) protocol_name: String,
    pub(super) generation_id: i32,
    leader: String,
    phase: Phase,
    /// When to remove the members that have not asked for their assignment; `None` once all have.
    syncs_due: Option<Instant>,
    /// Member ids that were assigned (KIP-394) but have not joined, and when to forget them.
    pending: BTreeMap<String, Instant>,
}

impl ClassicGroup {
    /// A stable group of consumers.
    pub(super) fn stable(generation_id: i32, members: BTreeMap<String, Member>) -> Self {
        let leader = members.keys().next().cloned().unwrap_or_default();
        let protocol_type = CONSUMERS.to_owned();
        let mut group = Self { members, protocol_type, generation_id, leader, phase: Phase::Stable, ..Self::default() };
        group.protocol_name = group.choose_protocol();
        group
    }

    /// Kafka's name for the group's state.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members' protocol type: "consumer" for consumers.
    pub(crate) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The description for `DescribeGroups`. While the group is stable, it includes the assignor and the members' data.
    pub(crate) fn describe(&self, group_id: &str) -> DescribedGroup {
        let is_stable = self.phase == Phase::Stable;
        let protocol_name = if is_stable { &*self.protocol_name } else { "" };
        let members = self.members.iter().map(|(member_id, member)| DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: "/127.0.0.1".to_owned(),
            member_metadata: member.metadata(protocol_name),
            member_assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        DescribedGroup {
            group_id: group_id.to_owned(),
            group_state: self.state_name().to_owned(),
            protocol_type: self.protocol_type.clone(),
            protocol_data: protocol_name.to_owned(),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }

    /// Handles a `JoinGroup`, which is answered once all members have joined. With `MEMBER_ID_REQUIRED` the id is
    /// reserved.
    pub(crate) fn join(&mut self, now: Instant, join: Join, wakes: &mut Wakes) -> Result<(), ErrorCode> {
        self.check_join(&join)?;
        if join.is_new && join.must_know_id && join.group_instance_id.is_none() {
            self.pending.insert(join.member_id, now + join.session_timeout);
            return Err(ErrorCode::MEMBER_ID_REQUIRED);
        }
        self.pending.remove(&join.member_id);
        let instance = join.group_instance_id.as_deref().filter(|_| join.is_new);
        let replaced = instance.and_then(|instance| self.static_member(instance)).map(str::to_owned);
        let leader_before = self.leader.clone();
        if let Some(old) = &replaced {
            self.replace_static(old, &join.member_id, wakes);
        }
        let is_unchanged = self.members.get(&join.member_id).is_some_and(|member| member.protocols == join.protocols);
        let (connection, member_id, can_skip) = (join.connection, join.member_id.clone(), join.can_skip_assignment);
        self.update_member(now, join);
        let keeps_generation = match self.phase {
            Phase::Stable if replaced.is_some() => self.choose_protocol() == self.protocol_name,
            Phase::Stable => is_unchanged && self.leader != member_id,
            Phase::Completing => is_unchanged && replaced.is_none(),
            Phase::Empty | Phase::Preparing(_) => false,
        };
        if keeps_generation {
            let mut response = self.joined(&member_id);
            if replaced.is_some() && can_skip {
                response.skip_assignment = self.leader == member_id;
            } else if replaced.is_some() {
                // A leader with an older client would assign again; telling it that its old member id leads prevents
                // that.
                (response.leader, response.members) = (leader_before, Vec::new());
            }
            wakes.join(connection, response);
            return Ok(());
        }
        if let Some(member) = self.members.get_mut(&member_id) {
            member.end_sync(ErrorCode::REBALANCE_IN_PROGRESS, wakes);
            member.waits = Waits::Join(connection);
        }
        self.prepare(now, wakes);
        Ok(())
    }

    fn check_join(&self, join: &Join) -> Result<(), ErrorCode> {
        let is_common = |name: &str| self.members.values().all(|member| member.supports(name));
        let is_same_type = self.members.is_empty() || self.protocol_type == join.protocol_type;
        if join.protocol_type.is_empty() || !is_same_type || !join.protocols.iter().any(|(name, _)| is_common(name)) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if join.is_new || (join.group_instance_id.is_none() && self.pending.contains_key(&join.member_id)) {
            return Ok(());
        }
        self.check_member(&join.member_id, join.group_instance_id.as_deref())
    }

    /// Updates a member from its `JoinGroup`; a new one is added.
    fn update_member(&mut self, now: Instant, join: Join) {
        let (waits, has_synced, assignment) = match self.members.remove(&join.member_id) {
            Some(member) => (member.waits, member.has_synced, member.assignment),
            None => (Waits::No, false, Bytes::new()),
        };
        let member = Member {
            group_instance_id: join.group_instance_id,
            client_id: join.client_id,
            assignment,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            waits,
            has_synced,
            expires: now + join.session_timeout,
        };
        self.protocol_type = join.protocol_type;
        self.members.insert(join.member_id, member);
    }

    /// The current member id of a static member.
    fn static_member(&self, instance: &str) -> Option<&str> {
        let is_meant = |(_, member): &(&String, &Member)| member.group_instance_id.as_deref() == Some(instance);
        self.members.iter().find(is_meant).map(|(member_id, _)| member_id.as_str())
    }

    /// Checks the member. `FENCED_INSTANCE_ID`: another member id has taken over this static member's place.
    fn check_member(&self, member_id: &str, group_instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            let current = self.static_member(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if current != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// A static member has restarted: moves its place to the new member id, which fences the old one.
    fn replace_static(&mut self, old: &str, new: &str, wakes: &mut Wakes) {
        let Some(mut member) = self.members.remove(old) else { return };
        member.refuse(old, ErrorCode::FENCED_INSTANCE_ID, wakes);
        if self.leader == old {
            new.clone_into(&mut self.leader);
        }
        self.members.insert(new.to_owned(), member);
    }

    fn remove(&mut self, member_id: &str, error_code: ErrorCode, wakes: &mut Wakes) {
        if let Some(mut member) = self.members.remove(member_id) {
            member.refuse(member_id, error_code, wakes);
        }
    }

    /// Starts a rebalance, or continues the running one.
    pub(super) fn prepare(&mut self, now: Instant, wakes: &mut Wakes) {
        if !matches!(self.phase, Phase::Preparing(_)) {
            for member in self.members.values_mut() {
                if self.phase == Phase::Completing {
                    member.assignment = Bytes::new();
                }
                member.end_sync(ErrorCode::REBALANCE_IN_PROGRESS, wakes);
            }
            self.syncs_due = None;
            self.phase = Phase::Preparing(now + self.rebalance_timeout());
        }
        self.complete_if_all_joined(now, wakes);
    }

    fn complete_if_all_joined(&mut self, now: Instant, wakes: &mut Wakes) {
        let have_all_joined = self.pending.is_empty() && self.members.values().all(Member::is_joining);
        if have_all_joined && matches!(self.phase, Phase::Preparing(_)) {
            self.complete_join(now, wakes);
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Continues with the members that have joined. Static members that have not keep their place until their session
    /// ends.
    fn complete_join(&mut self, now: Instant, wakes: &mut Wakes) {
        self.members.retain(|_, member| member.is_joining() || member.group_instance_id.is_some());
        let mut joined = self.members.iter().filter(|(_, member)| member.is_joining()).map(|(member_id, _)| member_id);
        let first = joined.next().cloned();
        if first.is_none() && !self.members.is_empty() {
            self.phase = Phase::Preparing(now + self.rebalance_timeout());
            return;
        }
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        let Some(first) = first else {
            self.phase = Phase::Empty;
            return;
        };
        if !self.members.get(&self.leader).is_some_and(Member::is_joining) {
            self.leader = first;
        }
        self.protocol_name = self.choose_protocol();
        self.phase = Phase::Completing;
        self.syncs_due = Some(now + self.rebalance_timeout());
        let joined: Vec<_> = self.members.keys().map(|member_id| self.joined(member_id)).collect();
        for (member, response) in self.members.values_mut().zip(joined) {
            member.heard_from(now);
            member.has_synced = false;
            if let Waits::Join(connection) = std::mem::replace(&mut member.waits, Waits::No) {
                wakes.join(connection, response);
            }
        }
    }

    /// Among the assignors that every member supports, the one that most members prefer.
    fn choose_protocol(&self) -> String {
        let is_common = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| is_common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.iter().max_by_key(|(_, votes)| **votes).map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }

    fn joined(&self, member_id: &str) -> JoinGroupResponse {
        let describe = |(id, member): (&String, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(&self.protocol_name),
        };
        let is_leader = self.leader == member_id;
        JoinGroupResponse {
            generation_id: Some(self.generation_id),
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: Some(self.protocol_name.clone()),
            leader: self.leader.clone(),
            member_id: member_id.to_owned(),
            members: if is_leader { self.members.iter().map(describe).collect() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    /// The member, whose session is renewed. Errors: `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`.
    fn member(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: Option<i32>,
    ) -> Result<&mut Member, ErrorCode> {
        self.check_member(member_id, group_instance_id)?;
        if generation_id != Some(self.generation_id) {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        member.heard_from(now);
        Ok(member)
    }

    /// Handles a `SyncGroup`, which is answered once the leader has sent the assignments.
    pub(crate) fn sync(&mut self, now: Instant, sync: Sync, wakes: &mut Wakes) -> Result<(), ErrorCode> {
        let phase = self.phase;
        let is_same = |said: Option<&str>, agreed: &str| said.is_none_or(|said| said == agreed);
        let is_consistent = is_same(sync.protocol_type.as_deref(), &self.protocol_type)
            && is_same(sync.protocol_name.as_deref(), &self.protocol_name);
        let instance = sync.group_instance_id.as_deref();
        let member = self.member(now, &sync.member_id, instance, Some(sync.generation_id))?;
        if !is_consistent {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match phase {
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Preparing(_) => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::Completing | Phase::Stable => {
                member.waits = Waits::Sync(sync.connection);
                member.has_synced = true;
            }
        }
        if phase == Phase::Completing && self.leader == sync.member_id {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            for (member_id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.assignment = assignment;
                }
            }
            self.phase = Phase::Stable;
        }
        if self.phase == Phase::Stable {
            self.answer_syncs(now, wakes);
        }
        if self.members.values().all(|member| member.has_synced) {
            self.syncs_due = None;
        }
        Ok(())
    }

    fn answer_syncs(&mut self, now: Instant, wakes: &mut Wakes) {
        for member in self.members.values_mut() {
            if let Waits::Sync(connection) = member.waits {
                member.waits = Waits::No;
                member.heard_from(now);
                let response = SyncGroupResponse {
                    protocol_type: Some(self.protocol_type.clone()),
                    protocol_name: Some(self.protocol_name.clone()),
                    assignment: member.assignment.clone(),
                    ..SyncGroupResponse::default()
                };
                wakes.sync(connection, response);
            }
        }
    }

    /// Handles a heartbeat; `REBALANCE_IN_PROGRESS` tells the member to join again.
    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        let is_preparing = matches!(self.phase, Phase::Preparing(_));
        self.member(now, member_id, group_instance_id, Some(generation_id))?;
        if is_preparing { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// Removes a member, named by its id, by its instance id (while its id is empty), or by both.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        if self.pending.remove(member_id).is_some() {
            if self.phase != Phase::Empty {
                self.prepare(now, wakes);
            }
            return Ok(());
        }
        let by_instance = || group_instance_id.and_then(|instance| self.static_member(instance)).map(str::to_owned);
        let leaver = if member_id.is_empty() {
            by_instance().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
        } else {
            self.check_member(member_id, group_instance_id)?;
            member_id.to_owned()
        };
        self.remove(&leaver, ErrorCode::UNKNOWN_MEMBER_ID, wakes);
        self.prepare(now, wakes);
        Ok(())
    }

    /// Whether offsets may be committed now, by a member or by a consumer that is not a member.
    pub(crate) fn check_commit(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: Option<i32>,
    ) -> Result<(), ErrorCode> {
        if generation_id.is_none() && self.is_empty() {
            return Ok(());
        }
        if generation_id.is_none() && member_id.is_empty() && group_instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let is_completing = self.phase == Phase::Completing;
        self.member(now, member_id, group_instance_id, generation_id)?;
        if is_completing { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// The topics to which members are subscribed; `None` if their data does not say.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = embedded::subscription(&member.metadata(&self.protocol_name))?;
            topics.extend(subscription.topics);
        }
        Some(topics)
    }

    /// The connection was closed: its member no longer waits, and its session ends unless it comes back.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for member in self.members.values_mut() {
            if matches!(member.waits, Waits::Join(waiting) | Waits::Sync(waiting) if waiting == connection) {
                member.waits = Waits::No;
            }
        }
    }

    /// When the next session or rebalance ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let preparing = match self.phase {
            Phase::Preparing(deadline) => Some(deadline),
            Phase::Empty | Phase::Completing | Phase::Stable => None,
        };
        let is_silent = |member: &&Member| member.waits == Waits::No;
        let sessions = self.members.values().filter(is_silent).map(|member| member.expires);
        sessions.chain(self.pending.values().copied()).chain(preparing).chain(self.syncs_due).min()
    }

    /// Removes members whose session has ended or who have not asked for their assignment, and ends a rebalance whose
    /// time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant, wakes: &mut Wakes) {
        self.pending.retain(|_, expires| *expires > now);
        let are_syncs_due = self.syncs_due.is_some_and(|due| due <= now);
        let is_gone = |member: &Member| member.is_expired(now) || (are_syncs_due && !member.has_synced);
        let gone: Vec<_> =
            self.members.iter().filter(|(_, member)| is_gone(member)).map(|(member_id, _)| member_id.clone()).collect();
        for member_id in &gone {
            self.remove(member_id, ErrorCode::UNKNOWN_MEMBER_ID, wakes);
        }
        if !gone.is_empty() {
            self.prepare(now, wakes);
        }
        match self.phase {
            Phase::Preparing(deadline) if deadline <= now => self.complete_join(now, wakes),
            _ => self.complete_if_all_joined(now, wakes),
        }
    }
}

/// The response to a refused `JoinGroup`.
pub(crate) fn refused_join(error_code: ErrorCode, member_id: &str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        member_id: member_id.to_owned(),
        protocol_name: Some(String::new()),
        ..JoinGroupResponse::default()
    }
}

/// The response to a refused `SyncGroup`.
pub(crate) fn refused_sync(error_code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code, ..SyncGroupResponse::default() }
}

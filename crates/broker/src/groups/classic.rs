//! One classic group: its members, and how they agree on a generation.
//!
//! A rebalance has two rounds. *Preparing*: every member joins again, and one that has not when the longest rebalance
//! timeout ends is dropped. *Completing*: the leader sends the assignment of every member. Then the group is stable
//! until a member joins, leaves, changes its subscription or misses its heartbeats.
//!
//! Not here: the delay of a group's first rebalance (`group.initial.rebalance.delay.ms` is 0), static members that
//! come back without a rebalance (KIP-345: they keep their place but the group rebalances), group size limits.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use kavka_core::wire::messages::join_group::JoinGroupResponseMember;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use crate::ConnectionId;
use crate::waits::Wakes;

/// Kafka's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<i32> = 6_000..=1_800_000;

/// Who asks to be in the group.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) connection: ConnectionId,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
}

/// For what a member waits, and on which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    No,
    /// For everyone to have joined.
    Join(ConnectionId),
    /// For its assignment.
    Sync(ConnectionId),
}

/// One member of the group.
#[derive(Debug)]
struct Member {
    group_instance_id: Option<String>,
    client_id: String,
    assignment: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    waits: Waits,
    /// When its session ends unless it is heard from.
    expires: Instant,
}

impl Member {
    fn metadata(&self, protocol_name: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol_name).map(|(_, data)| data.clone()).unwrap_or_default()
    }

    fn is_joining(&self) -> bool {
        matches!(self.waits, Waits::Join(_))
    }

    /// Answers its sync, if it waits for one, with an error.
    fn end_sync(&mut self, error_code: ErrorCode, wakes: &mut Wakes) {
        if let Waits::Sync(connection) = self.waits {
            self.waits = Waits::No;
            wakes.sync(connection, refused_sync(error_code));
        }
    }

    fn heard_from(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.waits == Waits::No && self.expires <= now
    }
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Empty,
    Preparing(Instant),
    Completing(Instant),
    Stable,
}

/// The members of one group.
#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    members: BTreeMap<String, Member>,
    protocol_type: String,
    protocol_name: String,
    generation_id: i32,
    leader: String,
    phase: Phase,
    /// Member ids that were given out (KIP-394) and have not joined, with the time they are forgotten.
    pending: BTreeMap<String, Instant>,
}

impl ClassicGroup {
    /// Kafka's name for where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing(_) => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What the members call their protocol: "consumer" for consumers.
    pub(crate) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// What `DescribeGroups` tells of it. The assignor and what members sent for it are told while the group is stable.
    pub(crate) fn describe(&self, group_id: &str) -> DescribedGroup {
        let protocol_name = if self.phase == Phase::Stable { &*self.protocol_name } else { "" };
        let members = self.members.iter().map(|(member_id, member)| DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: "/127.0.0.1".to_owned(),
            member_metadata: member.metadata(protocol_name),
            member_assignment: member.assignment.clone(),
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

    /// Reserves a member id for a member that was told to join with it (KIP-394).
    pub(crate) fn expect_member(&mut self, now: Instant, member_id: String, session_timeout_ms: i32) {
        self.pending.insert(member_id, now + millis(session_timeout_ms));
    }

    /// A member joins; it is answered when everyone has.
    pub(crate) fn join(&mut self, now: Instant, join: Join, wakes: &mut Wakes) -> Result<(), ErrorCode> {
        self.check_join(&join)?;
        let Join { member_id, connection, group_instance_id, client_id, protocols, .. } = join;
        let session_timeout = millis(join.session_timeout_ms);
        let rebalance_timeout = millis(join.rebalance_timeout_ms);
        self.pending.remove(&member_id);
        self.replace_static(group_instance_id.as_deref(), &member_id, wakes);
        if let Some(member) = self.members.get_mut(&member_id) {
            let is_unchanged = member.protocols == protocols;
            (member.protocols, member.session_timeout, member.rebalance_timeout) =
                (protocols, session_timeout, rebalance_timeout);
            member.heard_from(now);
            let keeps_generation = match self.phase {
                Phase::Stable => is_unchanged && self.leader != member_id,
                Phase::Completing(_) => is_unchanged,
                Phase::Empty | Phase::Preparing(_) => false,
            };
            if keeps_generation {
                wakes.join(connection, self.joined(&member_id));
                return Ok(());
            }
            member.end_sync(ErrorCode::REBALANCE_IN_PROGRESS, wakes);
            member.waits = Waits::Join(connection);
        } else {
            let member = Member {
                group_instance_id,
                client_id,
                assignment: Bytes::new(),
                session_timeout,
                rebalance_timeout,
                protocols,
                waits: Waits::Join(connection),
                expires: now + session_timeout,
            };
            self.protocol_type = join.protocol_type;
            self.members.insert(member_id, member);
        }
        self.prepare(now, wakes);
        Ok(())
    }

    fn check_join(&self, join: &Join) -> Result<(), ErrorCode> {
        if !SESSION_TIMEOUT_MS.contains(&join.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        let others = || self.members.iter().filter(|(member_id, _)| **member_id != join.member_id);
        let is_common =
            |name: &str| others().all(|(_, other)| other.protocols.iter().any(|(theirs, _)| theirs == name));
        let is_same_type = others().next().is_none() || self.protocol_type == join.protocol_type;
        if join.protocol_type.is_empty() || !is_same_type || !join.protocols.iter().any(|(name, _)| is_common(name)) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let instance = join.group_instance_id.as_deref();
        match self.members.get(&join.member_id) {
            Some(member) if instance.is_some() && member.group_instance_id.as_deref() != instance => {
                Err(ErrorCode::FENCED_INSTANCE_ID)
            }
            _ => Ok(()),
        }
    }

    /// Whether a member of this id is in the group or was promised a place.
    pub(crate) fn knows(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id) || self.pending.contains_key(member_id)
    }

    /// A static member that starts again has a new member id and fences its old one.
    fn replace_static(&mut self, group_instance_id: Option<&str>, member_id: &str, wakes: &mut Wakes) {
        let Some(instance) = group_instance_id else { return };
        let is_old = |(id, member): &(&String, &Member)| {
            member.group_instance_id.as_deref() == Some(instance) && id.as_str() != member_id
        };
        if let Some(old) = self.members.iter().find(is_old).map(|(id, _)| id.clone()) {
            self.remove(&old, ErrorCode::FENCED_INSTANCE_ID, wakes);
        }
    }

    fn remove(&mut self, member_id: &str, error_code: ErrorCode, wakes: &mut Wakes) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        member.end_sync(error_code, wakes);
        if let Waits::Join(connection) = member.waits {
            wakes.join(connection, refused_join(error_code, member_id));
        }
    }

    /// Starts a rebalance, or goes on with the one that runs.
    fn prepare(&mut self, now: Instant, wakes: &mut Wakes) {
        if !matches!(self.phase, Phase::Preparing(_)) {
            for member in self.members.values_mut() {
                member.end_sync(ErrorCode::REBALANCE_IN_PROGRESS, wakes);
            }
            self.phase = Phase::Preparing(now + self.rebalance_timeout());
        }
        if self.pending.is_empty() && self.members.values().all(Member::is_joining) {
            self.complete_join(now, wakes);
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn complete_join(&mut self, now: Instant, wakes: &mut Wakes) {
        self.pending.clear();
        self.members.retain(|_, member| member.is_joining());
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        let Some(first) = self.members.keys().next().cloned() else {
            self.phase = Phase::Empty;
            return;
        };
        if !self.members.contains_key(&self.leader) {
            self.leader = first;
        }
        self.protocol_name = self.choose_protocol();
        self.phase = Phase::Completing(now + self.rebalance_timeout());
        let joined: Vec<_> = self.members.keys().map(|member_id| self.joined(member_id)).collect();
        for (member, response) in self.members.values_mut().zip(joined) {
            member.heard_from(now);
            if let Waits::Join(connection) = std::mem::replace(&mut member.waits, Waits::No) {
                wakes.join(connection, response);
            }
        }
    }

    /// Of the assignors that every member supports, the one that most members prefer.
    fn choose_protocol(&self) -> String {
        let has = |member: &Member, name: &str| member.protocols.iter().any(|(theirs, _)| theirs == name);
        let is_common = |name: &str| self.members.values().all(|member| has(member, name));
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

    fn member(&mut self, now: Instant, member_id: &str, generation_id: i32) -> Result<&mut Member, ErrorCode> {
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        member.heard_from(now);
        Ok(member)
    }

    /// A member asks for its assignment; the leader brings everyone's. Answered when the leader's is there.
    pub(crate) fn sync(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        member_id: &str,
        generation_id: i32,
        assignments: Vec<(String, Bytes)>,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        let phase = self.phase;
        let member = self.member(now, member_id, generation_id)?;
        match phase {
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Preparing(_) => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::Completing(_) | Phase::Stable => member.waits = Waits::Sync(connection),
        }
        if matches!(phase, Phase::Completing(_)) && self.leader == member_id {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            for (member_id, assignment) in assignments {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.assignment = assignment;
                }
            }
            self.phase = Phase::Stable;
        }
        if self.phase == Phase::Stable {
            self.answer_syncs(now, wakes);
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

    /// A member is alive; `REBALANCE_IN_PROGRESS` tells it to join again.
    pub(crate) fn heartbeat(&mut self, now: Instant, member_id: &str, generation_id: i32) -> Result<(), ErrorCode> {
        let is_preparing = matches!(self.phase, Phase::Preparing(_));
        self.member(now, member_id, generation_id)?;
        if is_preparing { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// A member, named by id or by instance, goes.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        if self.pending.remove(member_id).is_none() {
            let is_meant = |(id, member): &(&String, &Member)| match group_instance_id {
                Some(instance) => member.group_instance_id.as_deref() == Some(instance),
                None => id.as_str() == member_id,
            };
            let found = self.members.iter().find(is_meant).map(|(id, _)| id.clone());
            let found = found.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if !member_id.is_empty() && found != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
            self.remove(&found, ErrorCode::UNKNOWN_MEMBER_ID, wakes);
        }
        self.prepare(now, wakes);
        Ok(())
    }

    /// Whether a member may commit offsets now.
    pub(crate) fn check_commit(&mut self, now: Instant, member_id: &str, generation_id: i32) -> Result<(), ErrorCode> {
        let is_completing = matches!(self.phase, Phase::Completing(_));
        self.member(now, member_id, generation_id)?;
        if is_completing { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// The connection is gone: its member waits no longer, and its session ends unless it comes back.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for member in self.members.values_mut() {
            if matches!(member.waits, Waits::Join(waiting) | Waits::Sync(waiting) if waiting == connection) {
                member.waits = Waits::No;
            }
        }
    }

    /// The next time something ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Preparing(deadline) | Phase::Completing(deadline) => Some(deadline),
            Phase::Empty | Phase::Stable => None,
        };
        let is_silent = |member: &&Member| member.waits == Waits::No;
        let sessions = self.members.values().filter(is_silent).map(|member| member.expires);
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    /// Drops members whose session has ended and ends rebalances that took too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, wakes: &mut Wakes) {
        let known = self.members.len().saturating_add(self.pending.len());
        self.pending.retain(|_, expires| *expires > now);
        self.members.retain(|_, member| !member.is_expired(now));
        match self.phase {
            Phase::Preparing(deadline) if deadline <= now => self.complete_join(now, wakes),
            Phase::Completing(deadline) if deadline <= now => {
                self.members.retain(|_, member| matches!(member.waits, Waits::Sync(_)));
                self.prepare(now, wakes);
            }
            _ if self.members.len().saturating_add(self.pending.len()) < known => self.prepare(now, wakes),
            _ => {}
        }
    }
}

fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// The answer to a join that was refused.
pub(crate) fn refused_join(error_code: ErrorCode, member_id: &str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        member_id: member_id.to_owned(),
        protocol_name: Some(String::new()),
        ..JoinGroupResponse::default()
    }
}

/// The answer to a request for an assignment that was refused.
pub(crate) fn refused_sync(error_code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code, ..SyncGroupResponse::default() }
}

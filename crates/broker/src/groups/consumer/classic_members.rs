//! Members of a consumer group that still use the classic protocol (KIP-848).
//!
//! The coordinator assigns to them as to all others, and tells them in classic terms. Their generation is the member
//! epoch. `Heartbeat` tells a member to join again when it has something to give up or to get; `JoinGroup` says what it
//! still has, and moves it towards its target; `SyncGroup` tells it what it may read. All are answered at once, and
//! nobody leads.
//!
//! A member that does not join within its rebalance timeout after it was told to, or does not sync after it has joined,
//! is removed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use super::super::classic::{CONSUMERS, Join, Sync};
use super::super::embedded;
use super::{ConsumerGroup, Member, Topics};

/// What a member has told of itself by the classic protocol.
#[derive(Debug)]
pub(in super::super) struct Classic {
    pub(in super::super) session_timeout: Duration,
    /// The assignors that it supports, with its subscription.
    pub(in super::super) protocols: Vec<(String, Bytes)>,
}

impl Classic {
    /// The assignor that the member prefers, and its subscription. The assignor has no effect, but the answers name it.
    fn protocol(&self) -> (&str, &Bytes) {
        static NOTHING: Bytes = Bytes::new();
        self.protocols.first().map_or(("", &NOTHING), |(name, metadata)| (name, metadata))
    }
}

impl Member {
    /// The member is told to join again.
    fn must_join(&mut self, now: Instant) {
        self.join_by.get_or_insert(now + self.rebalance_timeout);
    }
}

impl ConsumerGroup {
    /// Handles a `JoinGroup`, which is answered at once.
    ///
    /// Errors: `INCONSISTENT_GROUP_PROTOCOL`; `MEMBER_ID_REQUIRED` for a new dynamic member; `UNKNOWN_MEMBER_ID` or
    /// `FENCED_INSTANCE_ID` for a static one.
    pub(in super::super) fn join(
        &mut self,
        now: Instant,
        join: Join,
        topics: &Topics,
    ) -> Result<JoinGroupResponse, ErrorCode> {
        let others = || self.members.values().filter_map(|member| member.classic.as_ref());
        let is_common = |name: &str| others().all(|member| member.protocols.iter().any(|(other, _)| other == name));
        if join.protocol_type != CONSUMERS || !join.protocols.iter().any(|(name, _)| is_common(name)) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if join.is_new && join.must_know_id && join.group_instance_id.is_none() {
            return Err(ErrorCode::MEMBER_ID_REQUIRED);
        }
        let classic = Classic { session_timeout: join.session_timeout, protocols: join.protocols };
        let (protocol_name, metadata) = classic.protocol();
        let subscription = embedded::subscription(metadata).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let (member_id, protocol_name) = (join.member_id, protocol_name.to_owned());
        self.admit_classic(&member_id, join.is_new, join.group_instance_id)?;
        let member = self.members.get_mut(&member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let topic_names = subscription.topics.into_iter().collect();
        let is_changed = member.topic_names != topic_names;
        member.topic_names = topic_names;
        if subscription.rack_id.is_some() {
            member.rack_id = subscription.rack_id;
        }
        member.client_id = join.client_id;
        member.rebalance_timeout = join.rebalance_timeout;
        member.expires = now + classic.session_timeout;
        (member.join_by, member.sync_by) = (None, Some(now + member.rebalance_timeout));
        member.classic = Some(Arc::new(classic));
        self.bump_epoch_if(is_changed, topics);
        self.assign(topics);
        self.reconcile(now, &member_id, Some(&embedded::by_id(&subscription.owned_partitions, topics)));
        Ok(JoinGroupResponse {
            generation_id: self.members.get(&member_id).map(|member| member.epoch),
            protocol_type: Some(CONSUMERS.to_owned()),
            protocol_name: Some(protocol_name),
            member_id,
            ..JoinGroupResponse::default()
        })
    }

    /// Finds or makes the member's place. A static member that comes anew takes that of its predecessor.
    fn admit_classic(&mut self, member_id: &str, is_new: bool, instance_id: Option<String>) -> Result<(), ErrorCode> {
        let Some(instance) = instance_id else {
            self.members.entry(member_id.to_owned()).or_default();
            return Ok(());
        };
        match self.static_member(&instance).cloned() {
            Some(current) if is_new => self.replace_static(&current, member_id),
            None if is_new => {
                let member = Member { instance_id: Some(instance), ..Member::default() };
                self.members.insert(member_id.to_owned(), member);
            }
            None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(_) => {}
        }
        Ok(())
    }

    /// Handles a `SyncGroup`, which is answered at once.
    ///
    /// Errors: `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`, `INCONSISTENT_GROUP_PROTOCOL`, and
    /// `REBALANCE_IN_PROGRESS` if there is a newer group epoch.
    pub(in super::super) fn sync(
        &mut self,
        now: Instant,
        sync: Sync,
        topics: &Topics,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let group_epoch = self.epoch;
        let instance = sync.group_instance_id.as_deref();
        let (member, classic) = self.classic_member(&sync.member_id, instance, sync.generation_id)?;
        let (agreed_name, metadata) = classic.protocol();
        let is_same = |said: Option<&str>, agreed: &str| said.is_none_or(|said| said == agreed);
        if !is_same(sync.protocol_type.as_deref(), CONSUMERS) || !is_same(sync.protocol_name.as_deref(), agreed_name) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if group_epoch > member.epoch && member.revoking.is_empty() {
            member.must_join(now);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let assignment = embedded::encode_assignment(&member.assigned, metadata, topics);
        member.expires = now + classic.session_timeout;
        member.sync_by = None;
        let (protocol_type, protocol_name) = (sync.protocol_type, sync.protocol_name);
        Ok(SyncGroupResponse { protocol_type, protocol_name, assignment, ..SyncGroupResponse::default() })
    }

    /// Handles a `Heartbeat`.
    ///
    /// Errors: `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`, and `REBALANCE_IN_PROGRESS` if the
    /// member has to join again.
    pub(in super::super) fn heartbeat_classic(
        &mut self,
        now: Instant,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        let group_epoch = self.epoch;
        let held = self.held_by_others(member_id);
        let (member, classic) = self.classic_member(member_id, group_instance_id, generation_id)?;
        member.expires = now + classic.session_timeout;
        let is_released = || member.target.difference(&member.assigned).all(|partition| !held.contains(partition));
        if member.epoch < group_epoch || !member.revoking.is_empty() || (member.waits_for_others && is_released()) {
            member.must_join(now);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Removes a member, named by its id, by its instance id (while its id is empty), or by both.
    pub(in super::super) fn leave_classic(
        &mut self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let named =
            group_instance_id.filter(|_| member_id.is_empty()).and_then(|instance| self.static_member(instance));
        let leaver = named.map_or(member_id, String::as_str).to_owned();
        self.check_classic(&leaver, group_instance_id)?;
        self.remove(&leaver);
        Ok(())
    }

    /// The member, if this is its generation. Errors: those of `check_classic`, and `ILLEGAL_GENERATION`.
    fn classic_member(
        &mut self,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(&mut Member, Arc<Classic>), ErrorCode> {
        self.check_classic(member_id, group_instance_id)?;
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let classic = member.classic.clone().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == generation_id { Ok((member, classic)) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    /// `UNKNOWN_MEMBER_ID` unless there is such a member that uses the classic protocol; `FENCED_INSTANCE_ID` if
    /// another member id has taken over its place.
    fn check_classic(&self, member_id: &str, group_instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            let current = self.static_member(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if current != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        let is_classic = self.members.get(member_id).is_some_and(|member| member.classic.is_some());
        if is_classic { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }
}

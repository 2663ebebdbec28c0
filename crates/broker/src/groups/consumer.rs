//! Consumer groups (KIP-848): the coordinator assigns the partitions, and every member moves to its share by itself.
//!
//! The *group epoch* counts changes of members, subscriptions and topics. Each change has a new target assignment
//! computed. A member moves to its target by heartbeats: it is told what to give up, and stays in its *member epoch*
//! until it says that it has; then it gets the new epoch, and what nobody else holds any more.
//!
//! Some members may still use the classic protocol: see [`classic_members`].
//!
//! Not here: racks.

mod classic_members;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kavka_core::time::Instant;
use kavka_core::wire::Uuid;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::consumer_group_describe::{self, DescribedGroup};
use kavka_core::wire::messages::consumer_group_heartbeat::{Assignment, TopicPartitions};
use kavka_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use regex::Regex;

use super::assignor::{Assignor, Partitions, Subscriber};
use crate::configs::{self, Configs};
use crate::state::Topic;

pub(super) use classic_members::Classic;

/// The member epoch with which a member joins.
const JOINS: i32 = 0;
/// The member epoch with which a static member leaves for a while. With -1 a member leaves for good.
const LEAVES_FOR_A_WHILE: i32 = -2;

/// Every topic of the cluster.
pub(crate) type Topics = BTreeMap<Arc<str>, Topic>;

/// One member of the group.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) rebalance_timeout: Duration,
    pub(super) topic_names: BTreeSet<String>,
    pub(super) topic_regex: Option<String>,
    pub(super) assignor: Option<Assignor>,
    /// `None` if it uses the consumer protocol.
    pub(super) classic: Option<Arc<Classic>>,
    pub(super) epoch: i32,
    /// The epoch before: a member whose answer was lost still comes with it.
    pub(super) previous_epoch: i32,
    /// What it may read.
    pub(super) assigned: Partitions,
    /// What it was told to give up and has not yet.
    pub(super) revoking: Partitions,
    /// Others hold something that it shall have.
    pub(super) waits_for_others: bool,
    pub(super) target: Partitions,
    pub(super) expires: Instant,
    /// When it must have given up what it was told to.
    pub(super) revoke_by: Option<Instant>,
    /// When a member that uses the classic protocol must have joined again, if it was told to.
    pub(super) join_by: Option<Instant>,
    /// When such a member must have asked for its assignment.
    pub(super) sync_by: Option<Instant>,
}

impl Member {
    /// When it is removed unless it does something before.
    fn due(&self) -> Instant {
        [self.revoke_by, self.join_by, self.sync_by].into_iter().flatten().fold(self.expires, Instant::min)
    }

    fn subscribed(&self, topics: &Topics) -> BTreeMap<Uuid, i32> {
        // The whole name has to fit, as in Kafka.
        let regex = self.topic_regex.as_ref().and_then(|regex| Regex::new(&format!("^(?:{regex})$")).ok());
        let is_wanted =
            |name: &str| self.topic_names.contains(name) || regex.as_ref().is_some_and(|regex| regex.is_match(name));
        let wanted = topics.iter().filter(|(name, _)| is_wanted(name));
        wanted.map(|(_, topic)| (topic.topic_id, topic.partitions.len() as i32)).collect()
    }
}

/// The members of one group, and what they shall read.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    pub(super) members: BTreeMap<String, Member>,
    pub(super) epoch: i32,
    assignment_epoch: i32,
    assignor: Assignor,
    /// The topics that the target assignment shares out, with their numbers of partitions.
    shared_out: BTreeMap<Uuid, i32>,
}

impl ConsumerGroup {
    /// A group whose members have what they shall have.
    pub(super) fn stable(epoch: i32, members: BTreeMap<String, Member>) -> Self {
        Self { members, epoch, assignment_epoch: epoch, ..Self::default() }
    }

    /// Whether it has members, all of which use the classic protocol. Such a group becomes a classic one.
    pub(super) fn is_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    /// Whether every member has what it shall have.
    pub(super) fn is_stable(&self) -> bool {
        let is_there = |member: &Member| {
            member.epoch == self.assignment_epoch && member.revoking.is_empty() && !member.waits_for_others
        };
        self.epoch == self.assignment_epoch && self.members.values().all(is_there)
    }

    /// Kafka's name for where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.is_stable() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a member reads this topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str, topics: &Topics) -> bool {
        let topic_id = topics.get(topic).map(|topic| topic.topic_id);
        topic_id.is_some_and(|id| self.members.values().any(|member| member.subscribed(topics).contains_key(&id)))
    }

    /// A member joins, is alive, or leaves.
    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        request: &ConsumerGroupHeartbeatRequest,
        client_id: &str,
        configs: &Configs,
        topics: &Topics,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        let told = |member_epoch| ConsumerGroupHeartbeatResponse {
            member_id: Some(request.member_id.clone()),
            member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        if request.member_epoch < JOINS {
            self.leave(request)?;
            return Ok(told(request.member_epoch));
        }
        let owned = request.topic_partitions.as_ref().map(|owned| flat(owned));
        self.admit(request, owned.as_ref())?;
        let session_timeout_ms = configs::group_number(configs, configs::CONSUMER_SESSION_TIMEOUT_MS);
        let expires = now + Duration::from_millis(session_timeout_ms.into());
        self.update_member(expires, request, client_id, topics);
        self.assign(topics);
        let member_id = &request.member_id;
        let before = self.members.get(member_id).map(|member| member.assigned.clone()).unwrap_or_default();
        self.reconcile(now, member_id, owned.as_ref());
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let is_full = request.rebalance_timeout_ms.is_some()
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && owned.is_some();
        let is_told = request.member_epoch == JOINS || is_full || member.assigned != before;
        let heartbeat_interval_ms = configs::group_number(configs, configs::CONSUMER_HEARTBEAT_INTERVAL_MS);
        Ok(ConsumerGroupHeartbeatResponse {
            heartbeat_interval_ms: heartbeat_interval_ms.cast_signed(),
            assignment: is_told.then(|| Assignment { topic_partitions: by_topic(&member.assigned) }),
            ..told(member.epoch)
        })
    }

    fn static_member(&self, instance: &str) -> Option<&String> {
        let is_meant = |(_, member): &(&String, &Member)| member.instance_id.as_deref() == Some(instance);
        self.members.iter().find(is_meant).map(|(member_id, _)| member_id)
    }

    /// Finds or makes the member's place. A static member that left for a while gets its old one.
    fn admit(&mut self, request: &ConsumerGroupHeartbeatRequest, owned: Option<&Partitions>) -> Result<(), ErrorCode> {
        let (member_id, joins) = (&request.member_id, request.member_epoch == JOINS);
        let Some(instance) = &request.instance_id else {
            if joins && !self.members.contains_key(member_id) {
                self.members.insert(member_id.clone(), Member::default());
            }
            return self.check_epoch(member_id, request.member_epoch, owned);
        };
        let current = self.static_member(instance).cloned();
        match current {
            None if joins => {
                let member = Member { instance_id: Some(instance.clone()), ..Member::default() };
                self.members.insert(member_id.clone(), member);
                Ok(())
            }
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(current) if joins => {
                let is_released = |member: &Member| member.epoch == LEAVES_FOR_A_WHILE || member.classic.is_some();
                if !self.members.get(&current).is_some_and(is_released) {
                    return Err(ErrorCode::UNRELEASED_INSTANCE_ID);
                }
                self.replace_static(&current, member_id);
                Ok(())
            }
            Some(current) if current != *member_id => Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(_) => self.check_epoch(member_id, request.member_epoch, owned),
        }
    }

    /// A static member has restarted: moves its place to the new member id.
    fn replace_static(&mut self, old: &str, new: &str) {
        if let Some(mut member) = self.members.remove(old) {
            (member.epoch, member.previous_epoch) = (JOINS, JOINS);
            self.members.insert(new.to_owned(), member);
        }
    }

    /// `UNKNOWN_MEMBER_ID`; `FENCED_MEMBER_EPOCH` unless it comes with its epoch, or with the one before and nothing
    /// that it may not read.
    fn check_epoch(&self, member_id: &str, epoch: i32, owned: Option<&Partitions>) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let is_repeated =
            epoch == member.previous_epoch && owned.is_some_and(|owned| owned.is_subset(&member.assigned));
        if epoch == member.epoch || (epoch < member.epoch && is_repeated) {
            Ok(())
        } else {
            Err(ErrorCode::FENCED_MEMBER_EPOCH)
        }
    }

    fn leave(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<(), ErrorCode> {
        let member_id = &request.member_id;
        if let Some(instance) = &request.instance_id {
            let current = self.static_member(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if current != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if request.member_epoch == LEAVES_FOR_A_WHILE {
            member.epoch = LEAVES_FOR_A_WHILE;
        } else {
            self.remove(member_id);
        }
        Ok(())
    }

    fn remove(&mut self, member_id: &str) {
        // The members of a group that becomes a classic one find their generation in it.
        if self.members.remove(member_id).is_some() && !self.is_classic() {
            self.epoch = self.epoch.saturating_add(1);
        }
    }

    /// Takes over what changed. A new subscription begins a new group epoch.
    fn update_member(
        &mut self,
        expires: Instant,
        request: &ConsumerGroupHeartbeatRequest,
        client_id: &str,
        topics: &Topics,
    ) {
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        let before = (member.topic_names.clone(), member.topic_regex.clone());
        client_id.clone_into(&mut member.client_id);
        if let Some(timeout_ms) = request.rebalance_timeout_ms {
            member.rebalance_timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        }
        if let Some(names) = &request.subscribed_topic_names {
            member.topic_names = names.iter().cloned().collect();
        }
        if let Some(regex) = &request.subscribed_topic_regex {
            member.topic_regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        if request.rack_id.is_some() {
            member.rack_id.clone_from(&request.rack_id);
        }
        if let Some(name) = &request.server_assignor {
            member.assignor = Assignor::from_name(name);
        }
        (member.expires, member.classic, member.join_by, member.sync_by) = (expires, None, None, None);
        let is_changed = (&member.topic_names, &member.topic_regex) != (&before.0, &before.1);
        self.bump_epoch_if(is_changed, topics);
    }

    /// Begins a new group epoch if a subscription `is_changed`, or if topics have.
    fn bump_epoch_if(&mut self, is_changed: bool, topics: &Topics) {
        let subscribed: BTreeMap<Uuid, i32> =
            self.members.values().flat_map(|member| member.subscribed(topics)).collect();
        if is_changed || subscribed != self.shared_out {
            self.shared_out = subscribed;
            self.epoch = self.epoch.saturating_add(1);
        }
    }

    /// Computes the target assignment of a new group epoch.
    fn assign(&mut self, topics: &Topics) {
        if self.assignment_epoch == self.epoch {
            return;
        }
        self.assignment_epoch = self.epoch;
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let chosen = votes.iter().max_by_key(|(_, votes)| **votes).map(|(assignor, _)| *assignor);
        self.assignor = chosen.unwrap_or_default();
        let subscriber = |(member_id, member): (&String, &Member)| {
            let subscriber = Subscriber { topics: member.subscribed(topics), has: member.target.clone() };
            (member_id.clone(), subscriber)
        };
        let targets = self.assignor.assign(&self.members.iter().map(subscriber).collect());
        for (member_id, target) in targets {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.target = target;
            }
        }
    }

    /// Moves a member towards its target, as far as what it owns and what others hold allow.
    fn reconcile(&mut self, now: Instant, member_id: &str, owned: Option<&Partitions>) {
        let held = self.held_by_others(member_id);
        let Some(member) = self.members.get_mut(member_id) else { return };
        let still_owns = |partitions: &Partitions| {
            !partitions.is_empty() && owned.is_none_or(|owned| !owned.is_disjoint(partitions))
        };
        if still_owns(&member.revoking) {
            return;
        }
        let is_there = member.epoch == self.assignment_epoch && member.revoking.is_empty();
        if is_there && !member.waits_for_others {
            return;
        }
        let to_revoke: Partitions = member.assigned.difference(&member.target).copied().collect();
        member.assigned = member.assigned.intersection(&member.target).copied().collect();
        if still_owns(&to_revoke) {
            if member.classic.is_none() {
                member.revoke_by.get_or_insert(now + member.rebalance_timeout);
            }
            member.revoking = to_revoke;
            return;
        }
        (member.revoking, member.revoke_by) = (Partitions::new(), None);
        member.assigned.extend(member.target.difference(&held).copied());
        member.waits_for_others = member.assigned != member.target;
        if member.epoch != self.assignment_epoch {
            (member.previous_epoch, member.epoch) = (member.epoch, self.assignment_epoch);
        }
    }

    /// What others may read or have yet to give up.
    fn held_by_others(&self, member_id: &str) -> Partitions {
        let others = self.members.iter().filter(|(other, _)| *other != member_id);
        others.flat_map(|(_, other)| other.assigned.union(&other.revoking)).copied().collect()
    }

    /// Whether the member commits with its member epoch, which old versions of `OffsetCommit` do not have.
    pub(super) fn has_member_epoch(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| member.classic.is_none())
    }

    /// Whether offsets may be committed now, by a member or by a consumer that is none. `ILLEGAL_GENERATION` if the
    /// member uses the classic protocol. `STALE_MEMBER_EPOCH` asks to try again with the epoch of the next heartbeat.
    pub(crate) fn check_commit(&self, member_id: &str, member_epoch: Option<i32>) -> Result<(), ErrorCode> {
        if member_epoch.is_none() && self.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match member.classic {
            _ if member_epoch == Some(member.epoch) => Ok(()),
            Some(_) => Err(ErrorCode::ILLEGAL_GENERATION),
            None => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    /// The next time a member's session, or its time to do what it was told to, ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.members.values().map(Member::due).min()
    }

    /// Drops members whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let is_over = |member: &Member| member.due() <= now;
        let over: Vec<_> =
            self.members.iter().filter(|(_, member)| is_over(member)).map(|(member_id, _)| member_id.clone()).collect();
        for member_id in over {
            self.remove(&member_id);
        }
    }

    /// The description for `ConsumerGroupDescribe`.
    pub(crate) fn describe(&self, group_id: &str, topics: &Topics) -> DescribedGroup {
        let named = |partitions: &Partitions| {
            let name = |topic_id| topics.values().find(|topic| topic.topic_id == topic_id);
            let convert = |topic: TopicPartitions| consumer_group_describe::TopicPartitions {
                topic_id: topic.topic_id,
                topic_name: name(topic.topic_id).map(|topic| topic.name.to_string()).unwrap_or_default(),
                partitions: topic.partitions,
            };
            let topic_partitions = by_topic(partitions).into_iter().map(convert).collect();
            consumer_group_describe::Assignment { topic_partitions }
        };
        let describe = |(member_id, member): (&String, &Member)| consumer_group_describe::Member {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: "/127.0.0.1".to_owned(),
            subscribed_topic_names: member.topic_names.iter().cloned().collect(),
            subscribed_topic_regex: member.topic_regex.clone(),
            assignment: named(&member.assigned),
            target_assignment: named(&member.target),
            member_type: Some(i8::from(member.classic.is_none())),
        };
        DescribedGroup {
            group_id: group_id.to_owned(),
            group_state: self.state_name().to_owned(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.assignor.name().to_owned(),
            members: self.members.iter().map(describe).collect(),
            ..DescribedGroup::default()
        }
    }
}

/// What is wrong with a heartbeat in itself, whatever the group.
pub(crate) fn check_heartbeat(request: &ConsumerGroupHeartbeatRequest) -> Result<(), (ErrorCode, &'static str)> {
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    let joins = request.member_epoch == JOINS;
    let invalid = if request.group_id.is_empty() {
        "GroupId can't be empty."
    } else if request.member_id.is_empty() {
        "MemberId can't be empty."
    } else if is_empty(&request.instance_id) {
        "InstanceId can't be empty."
    } else if is_empty(&request.rack_id) {
        "RackId can't be empty."
    } else if joins && request.rebalance_timeout_ms.is_none() {
        "RebalanceTimeoutMs must be provided in first request."
    } else if joins && request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        "TopicPartitions must be empty when (re-)joining."
    } else if joins && request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
    } else if request.member_epoch == LEAVES_FOR_A_WHILE && request.instance_id.is_none() {
        "InstanceId can't be null."
    } else if request.member_epoch < LEAVES_FOR_A_WHILE {
        "MemberEpoch is invalid."
    } else {
        ""
    };
    if !invalid.is_empty() {
        return Err((ErrorCode::INVALID_REQUEST, invalid));
    }
    if request.server_assignor.as_deref().is_some_and(|name| Assignor::from_name(name).is_none()) {
        return Err((ErrorCode::UNSUPPORTED_ASSIGNOR, "the assignors are uniform and range"));
    }
    if request.subscribed_topic_regex.as_deref().is_some_and(|regex| Regex::new(regex).is_err()) {
        return Err((ErrorCode::INVALID_REGULAR_EXPRESSION, "SubscribedTopicRegex is not a valid regular expression."));
    }
    Ok(())
}

fn flat(topics: &[TopicPartitions]) -> Partitions {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
}

fn by_topic(partitions: &Partitions) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for (topic_id, partition) in partitions {
        match topics.last_mut() {
            Some(topic) if topic.topic_id == *topic_id => topic.partitions.push(*partition),
            _ => topics.push(TopicPartitions { topic_id: *topic_id, partitions: vec![*partition] }),
        }
    }
    topics
}

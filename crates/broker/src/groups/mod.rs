//! What the group coordinators know: committed offsets, and the members of groups.
//!
//! One store for all brokers: a coordinator that moves takes everything along. A [`Group`] is of one kind, and what is
//! asked of every kind is asked here. Members of a [`classic`] group choose an assignor and a leader among themselves;
//! in a [`consumer`] group (KIP-848) the coordinator assigns. A group without members takes the kind of its next
//! member, and keeps its offsets; one with members can change its kind, too: see [`migration`].

mod assignor;
mod classic;
mod consumer;
mod embedded;
mod migration;

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::describe_groups::DescribedGroup;
use kavka_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use crate::ConnectionId;
use crate::KafkaVersion;
use crate::configs::Configs;
use crate::waits::Wakes;

pub(crate) use classic::{ClassicGroup, Join, Sync, refused_join, refused_sync};
pub(crate) use consumer::{ConsumerGroup, Topics, check_heartbeat};

/// The settings of a group for which none was changed.
static DEFAULTS: Configs = Configs::new();

/// The longest metadata of a committed offset, in bytes (Kafka: `offset.metadata.max.bytes`).
pub(crate) const MAX_OFFSET_METADATA: usize = 4096;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: String,
}

/// The committed offsets of a group, by topic and partition.
pub(crate) type Offsets = BTreeMap<(Arc<str>, i32), Committed>;

/// Who commits: a member with its generation or member epoch, or a consumer that is not a member and has neither.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committer<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) group_instance_id: Option<&'a str>,
    pub(crate) generation_id: Option<i32>,
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    offsets: Offsets,
    kind: Kind,
}

/// The members of a group, by protocol.
#[derive(Debug)]
enum Kind {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Classic(ClassicGroup::default())
    }
}

impl Group {
    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Kafka's name for the type of group.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Classic(_) => "classic",
            Kind::Consumer(_) => "consumer",
        }
    }

    /// Kafka's name for the group's state.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(group) => group.state_name(),
            Kind::Consumer(group) => group.state_name(),
        }
    }

    /// The members' protocol type: "consumer" for consumers.
    pub(crate) fn protocol_type(&self) -> &str {
        match &self.kind {
            Kind::Classic(group) => group.protocol_type(),
            Kind::Consumer(_) => "consumer",
        }
    }

    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_empty(),
            Kind::Consumer(group) => group.is_empty(),
        }
    }

    /// The description for `DescribeGroups`; `None` for a consumer group.
    pub(crate) fn describe(&self, group_id: &str) -> Option<DescribedGroup> {
        match &self.kind {
            Kind::Classic(group) => Some(group.describe(group_id)),
            Kind::Consumer(_) => None,
        }
    }

    /// The consumer group, if it is one.
    pub(crate) fn as_consumer(&self) -> Option<&ConsumerGroup> {
        match &self.kind {
            Kind::Classic(_) => None,
            Kind::Consumer(group) => Some(group),
        }
    }

    fn check_commit(&mut self, now: Instant, committer: &Committer) -> Result<(), ErrorCode> {
        let Committer { member_id, group_instance_id, generation_id } = *committer;
        match &mut self.kind {
            Kind::Classic(group) => group.check_commit(now, member_id, group_instance_id, generation_id),
            Kind::Consumer(group) => group.check_commit(member_id, generation_id),
        }
    }

    /// Whether any member may be subscribed to this topic.
    fn is_subscribed_to(&self, topic: &str, topics: &Topics) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.subscribed_topics().is_none_or(|topics| topics.contains(topic)),
            Kind::Consumer(group) => group.is_subscribed_to(topic, topics),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Classic(group) => group.poll_timeout(),
            Kind::Consumer(group) => group.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Instant, topics: &Topics, wakes: &mut Wakes) {
        match &mut self.kind {
            Kind::Classic(group) => group.handle_timeout(now, wakes),
            Kind::Consumer(group) => group.handle_timeout(now),
        }
        self.downgrade_and_rebalance(now, topics, wakes);
    }

    fn join(&mut self, now: Instant, join: Join, topics: &Topics, wakes: &mut Wakes) -> Result<(), ErrorCode> {
        if self.is_empty() && self.as_consumer().is_some() {
            self.kind = Kind::default();
        }
        match &mut self.kind {
            Kind::Classic(group) => group.join(now, join, wakes),
            Kind::Consumer(group) => {
                let connection = join.connection;
                wakes.join(connection, group.join(now, join, topics)?);
                // A static member may have taken the place of the last one that used the consumer protocol. If
                // everybody has what it shall have, nobody else has to join. Kafka rebalances only if the subscription
                // has changed: there, a member that waits for the predecessor's partitions never learns that they are
                // free.
                if group.is_stable() {
                    self.downgrade(now, topics);
                } else {
                    self.downgrade_and_rebalance(now, topics, wakes);
                }
                Ok(())
            }
        }
    }

    fn sync(&mut self, now: Instant, sync: Sync, topics: &Topics, wakes: &mut Wakes) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.sync(now, sync, wakes),
            Kind::Consumer(group) => {
                let connection = sync.connection;
                wakes.sync(connection, group.sync(now, sync, topics)?);
                Ok(())
            }
        }
    }

    fn heartbeat_consumer(
        &mut self,
        now: Instant,
        request: &ConsumerGroupHeartbeatRequest,
        client_id: &str,
        configs: &Configs,
        topics: &Topics,
        wakes: &mut Wakes,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        match &mut self.kind {
            Kind::Classic(_) if request.member_epoch != 0 => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Kind::Classic(group) if group.is_empty() => self.kind = Kind::Consumer(ConsumerGroup::default()),
            Kind::Classic(group) => {
                let upgraded = migration::upgrade(group, now, topics, wakes);
                self.kind = Kind::Consumer(upgraded.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?);
            }
            Kind::Consumer(_) => {}
        }
        let Kind::Consumer(group) = &mut self.kind else { return Err(ErrorCode::GROUP_ID_NOT_FOUND) };
        let response = group.heartbeat(now, request, client_id, configs, topics)?;
        self.downgrade_and_rebalance(now, topics, wakes);
        Ok(response)
    }

    /// Makes it a classic group if nobody is left that uses the consumer protocol. Returns whether it was done.
    fn downgrade(&mut self, now: Instant, topics: &Topics) -> bool {
        match &self.kind {
            Kind::Consumer(group) if group.is_classic() => {
                self.kind = Kind::Classic(migration::downgrade(group, now, topics));
                true
            }
            _ => false,
        }
    }

    /// After a member has gone or was replaced: partitions have to be shared out, if need be by the members themselves.
    fn downgrade_and_rebalance(&mut self, now: Instant, topics: &Topics, wakes: &mut Wakes) {
        if self.downgrade(now, topics)
            && let Kind::Classic(group) = &mut self.kind
        {
            group.prepare(now, wakes);
        }
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        match &mut self.kind {
            Kind::Classic(group) => group.forget_connection(connection),
            // Nobody waits in it.
            Kind::Consumer(_) => {}
        }
    }
}

/// All groups, by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
    /// The settings of groups that are not at their default. A group need not exist to have some.
    configs: BTreeMap<String, Configs>,
    members_named: u64,
}

impl Groups {
    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(group_id, group)| (group_id.as_str(), group))
    }

    /// The group's settings that are not at their default.
    pub(crate) fn configs(&self, group_id: &str) -> &Configs {
        self.configs.get(group_id).unwrap_or(&DEFAULTS)
    }

    pub(crate) fn configs_mut(&mut self, group_id: &str) -> &mut Configs {
        self.configs.entry(group_id.to_owned()).or_default()
    }

    fn group(&mut self, group_id: &str) -> Result<&mut Group, ErrorCode> {
        self.groups.get_mut(group_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    /// Handles a `JoinGroup`; its answer is put into `wakes`. The first member creates the group.
    pub(crate) fn join(
        &mut self,
        now: Instant,
        group_id: &str,
        join: Join,
        topics: &Topics,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        let group =
            if join.is_new { self.groups.entry(group_id.to_owned()).or_default() } else { self.group(group_id)? };
        group.join(now, join, topics, wakes)
    }

    /// Handles a `SyncGroup`; its answer is put into `wakes`.
    pub(crate) fn sync(
        &mut self,
        now: Instant,
        group_id: &str,
        sync: Sync,
        topics: &Topics,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        self.group(group_id)?.sync(now, sync, topics, wakes)
    }

    /// Handles a `Heartbeat`; `REBALANCE_IN_PROGRESS` tells the member to join again.
    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        group_id: &str,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        match &mut self.group(group_id)?.kind {
            Kind::Classic(group) => group.heartbeat(now, member_id, group_instance_id, generation_id),
            Kind::Consumer(group) => group.heartbeat_classic(now, member_id, group_instance_id, generation_id),
        }
    }

    /// Removes a member that uses the classic protocol, named by its id, by its instance id (while its id is empty), or
    /// by both.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        group_id: &str,
        member_id: &str,
        group_instance_id: Option<&str>,
        wakes: &mut Wakes,
    ) -> Result<(), ErrorCode> {
        match &mut self.group(group_id)?.kind {
            Kind::Classic(group) => group.leave(now, member_id, group_instance_id, wakes),
            Kind::Consumer(group) => group.leave_classic(member_id, group_instance_id),
        }
    }

    /// Handles a `ConsumerGroupHeartbeat`. A member that joins creates the group, or makes a classic group a consumer
    /// group. `GROUP_ID_NOT_FOUND` if there is no group, or if it is of another kind.
    pub(crate) fn heartbeat_consumer(
        &mut self,
        now: Instant,
        request: &ConsumerGroupHeartbeatRequest,
        client_id: &str,
        topics: &Topics,
        wakes: &mut Wakes,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        let group_id = &request.group_id;
        if request.member_epoch == 0 {
            self.groups.entry(group_id.clone()).or_default();
        }
        let group = self.groups.get_mut(group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        let configs = self.configs.get(group_id).unwrap_or(&DEFAULTS);
        group.heartbeat_consumer(now, request, client_id, configs, topics, wakes)
    }

    /// Whether offsets may be fetched with this member epoch. A request without a member id always may.
    pub(crate) fn check_fetch(
        &self,
        group_id: &str,
        member_id: Option<&str>,
        member_epoch: Option<i32>,
    ) -> Result<(), ErrorCode> {
        let consumer = self.get(group_id).and_then(Group::as_consumer);
        match (consumer, member_id) {
            (Some(group), Some(member_id)) => group.check_commit(member_id, member_epoch),
            _ => Ok(()),
        }
    }

    /// Whether the member commits with its member epoch, which old versions of `OffsetCommit` do not have.
    pub(crate) fn has_member_epoch(&self, group_id: &str, member_id: &str) -> bool {
        self.get(group_id).and_then(Group::as_consumer).is_some_and(|group| group.has_member_epoch(member_id))
    }

    /// A member id that was never used.
    pub(crate) fn new_member_id(&mut self, prefix: &str) -> String {
        self.members_named = self.members_named.saturating_add(1);
        format!("{prefix}-{:08}", self.members_named)
    }

    /// Whether offsets may be committed now. `GROUP_ID_NOT_FOUND` for a member of a group that does not exist.
    pub(crate) fn check_commit(
        &mut self,
        now: Instant,
        group_id: &str,
        committer: &Committer,
    ) -> Result<(), ErrorCode> {
        match self.groups.get_mut(group_id) {
            Some(group) => group.check_commit(now, committer),
            None if committer.generation_id.is_none() => Ok(()),
            None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        }
    }

    /// Whether offsets may be deleted. `GROUP_ID_NOT_FOUND`; `NON_EMPTY_GROUP` if it has members that are not
    /// consumers.
    pub(crate) fn check_offset_delete(&self, group_id: &str) -> Result<(), ErrorCode> {
        let group = self.get(group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if group.is_empty() || group.protocol_type() == "consumer" { Ok(()) } else { Err(ErrorCode::NON_EMPTY_GROUP) }
    }

    /// Deletes the offset of a partition, if there is one. `GROUP_SUBSCRIBED_TO_TOPIC` while members are subscribed to
    /// the topic.
    pub(crate) fn delete_offset(
        &mut self,
        group_id: &str,
        topic: &Arc<str>,
        partition: i32,
        topics: &Topics,
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get_mut(group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if group.is_subscribed_to(topic, topics) {
            return Err(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
        }
        group.offsets.remove(&(topic.clone(), partition));
        Ok(())
    }

    /// The group's offsets; creates the group if necessary.
    pub(crate) fn offsets_mut(&mut self, group_id: &str) -> &mut Offsets {
        &mut self.groups.entry(group_id.to_owned()).or_default().offsets
    }

    /// Deletes a group and its offsets. `GROUP_ID_NOT_FOUND`; `NON_EMPTY_GROUP` while it has members.
    pub(crate) fn delete(&mut self, group_id: &str) -> Result<(), ErrorCode> {
        let group = self.get(group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if !group.is_empty() {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        self.groups.remove(group_id);
        Ok(())
    }

    /// Deletes all committed offsets of a topic. Before Kafka 4, a coordinator takes the occasion to forget every group
    /// that has neither members nor offsets.
    pub(crate) fn forget_topic(&mut self, topic: &str, kafka_version: KafkaVersion) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|(name, _), _| &**name != topic);
        }
        if kafka_version <= KafkaVersion::V3_9 {
            self.groups.retain(|_, group| !group.is_empty() || !group.offsets.is_empty());
        }
    }

    /// Forgets waits on this connection, which was closed.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for group in self.groups.values_mut() {
            group.forget_connection(connection);
        }
    }

    /// When the next session or rebalance ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.groups.values().filter_map(Group::poll_timeout).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, topics: &Topics, wakes: &mut Wakes) {
        for group in self.groups.values_mut() {
            group.handle_timeout(now, topics, wakes);
        }
    }
}

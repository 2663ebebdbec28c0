//! What the group coordinators know: committed offsets, and the members of groups.
//!
//! One store for all brokers: a coordinator that moves takes everything along. A [`Group`] is of one kind, and what
//! is asked of every kind is asked here. There is one kind, whose members choose an assignor and a leader among
//! themselves ([`classic`]).

mod classic;

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::describe_groups::DescribedGroup;

use crate::ConnectionId;
use crate::waits::Wakes;

pub(crate) use classic::{ClassicGroup, Join, refused_join, refused_sync};

/// The longest metadata of a committed offset, in bytes (Kafka: `offset.metadata.max.bytes`).
pub(crate) const MAX_OFFSET_METADATA: usize = 4096;

/// An offset that a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: String,
}

/// What a group committed, by topic and partition.
pub(crate) type Offsets = BTreeMap<(Arc<str>, i32), Committed>;

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    offsets: Offsets,
    kind: Kind,
}

/// The members of a group, by the protocol that they speak.
#[derive(Debug)]
enum Kind {
    Classic(ClassicGroup),
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

    /// Kafka's name for the kind of group.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Classic(_) => "classic",
        }
    }

    /// Kafka's name for where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(group) => group.state_name(),
        }
    }

    /// What the members call their protocol: "consumer" for consumers.
    pub(crate) fn protocol_type(&self) -> &str {
        match &self.kind {
            Kind::Classic(group) => group.protocol_type(),
        }
    }

    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_empty(),
        }
    }

    /// What `DescribeGroups` tells of it.
    pub(crate) fn describe(&self, group_id: &str) -> DescribedGroup {
        match &self.kind {
            Kind::Classic(group) => group.describe(group_id),
        }
    }

    /// Whether a member of this generation may commit; `None` stands for a consumer that is no member.
    fn check_commit(&mut self, now: Instant, member_id: &str, generation_id: Option<i32>) -> Result<(), ErrorCode> {
        let Some(generation_id) = generation_id else {
            return if self.is_empty() { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        };
        match &mut self.kind {
            Kind::Classic(group) => group.check_commit(now, member_id, generation_id),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Classic(group) => group.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Instant, wakes: &mut Wakes) {
        match &mut self.kind {
            Kind::Classic(group) => group.handle_timeout(now, wakes),
        }
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        match &mut self.kind {
            Kind::Classic(group) => group.forget_connection(connection),
        }
    }
}

/// Every group, by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
    members_named: u64,
}

impl Groups {
    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(group_id, group)| (group_id.as_str(), group))
    }

    /// The group for members of the classic protocol, if there is one.
    pub(crate) fn classic(&mut self, group_id: &str) -> Option<&mut ClassicGroup> {
        let Kind::Classic(group) = &mut self.groups.get_mut(group_id)?.kind;
        Some(group)
    }

    /// The group for members of the classic protocol; it is made if there is none.
    pub(crate) fn classic_or_new(&mut self, group_id: &str) -> &mut ClassicGroup {
        let Kind::Classic(group) = &mut self.groups.entry(group_id.to_owned()).or_default().kind;
        group
    }

    /// A member id that no member has had.
    pub(crate) fn new_member_id(&mut self, prefix: &str) -> String {
        self.members_named = self.members_named.saturating_add(1);
        format!("{prefix}-{:08}", self.members_named)
    }

    /// Whether a member of this generation may commit; `None` stands for a consumer that is no member.
    pub(crate) fn check_commit(
        &mut self,
        now: Instant,
        group_id: &str,
        member_id: &str,
        generation_id: Option<i32>,
    ) -> Result<(), ErrorCode> {
        match self.groups.get_mut(group_id) {
            Some(group) => group.check_commit(now, member_id, generation_id),
            None if generation_id.is_none() => Ok(()),
            None => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// Where the group keeps its offsets; the group is made if there is none.
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

    /// A topic is gone, and with it every offset that was committed for it.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|(name, _), _| &**name != topic);
        }
    }

    /// Nobody waits on this connection any more.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for group in self.groups.values_mut() {
            group.forget_connection(connection);
        }
    }

    /// The next time a member's session or a rebalance ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.groups.values().filter_map(Group::poll_timeout).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, wakes: &mut Wakes) {
        for group in self.groups.values_mut() {
            group.handle_timeout(now, wakes);
        }
    }
}

//! What the group coordinators know: committed offsets, and the members of classic groups.
//!
//! One store for all brokers: a coordinator that moves takes everything along.

mod classic;

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::{JoinGroupResponse, SyncGroupResponse};

use crate::ConnectionId;

pub(crate) use classic::{Group, Join, refused_join, refused_sync};

/// The longest metadata of a committed offset, in bytes (Kafka: `offset.metadata.max.bytes`).
pub(crate) const MAX_OFFSET_METADATA: usize = 4096;

/// An offset that a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: String,
}

/// An answer to a request that waited for the other members of its group.
#[derive(Debug)]
pub(crate) enum GroupAnswer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

/// Every group, by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
    /// Answers for connections that waited, to be sent now.
    pub(crate) answers: Vec<(ConnectionId, GroupAnswer)>,
    members_named: u64,
}

impl Groups {
    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(group_id, group)| (group_id.as_str(), group))
    }

    /// The group and where its answers go; the group is made if there is none.
    pub(crate) fn entry(&mut self, group_id: &str) -> (&mut Group, &mut Vec<(ConnectionId, GroupAnswer)>) {
        (self.groups.entry(group_id.to_owned()).or_default(), &mut self.answers)
    }

    /// The group and where its answers go, if there is such a group.
    pub(crate) fn get_mut(&mut self, group_id: &str) -> Option<(&mut Group, &mut Vec<(ConnectionId, GroupAnswer)>)> {
        Some((self.groups.get_mut(group_id)?, &mut self.answers))
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
    ) -> Result<&mut BTreeMap<(Arc<str>, i32), Committed>, ErrorCode> {
        match generation_id {
            None if self.get(group_id).is_none_or(Group::is_empty) => {}
            None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(generation_id) => {
                let (group, _) = self.get_mut(group_id).ok_or(ErrorCode::ILLEGAL_GENERATION)?;
                group.check_commit(now, member_id, generation_id)?;
            }
        }
        Ok(&mut self.entry(group_id).0.offsets)
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

    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|(name, _), _| &**name != topic);
        }
    }

    /// The next time a member's session or a rebalance ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.groups.values().filter_map(Group::poll_timeout).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.handle_timeout(now, &mut self.answers);
        }
    }
}

impl Groups {
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for group in self.groups.values_mut() {
            group.forget_connection(connection);
        }
        self.answers.retain(|(waiting, _)| *waiting != connection);
    }
}

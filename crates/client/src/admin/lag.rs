//! The lag of a group: its committed offsets beside the ends of the partitions. Also commits offsets for a group.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use kavka_core::config::IsolationLevel;
use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::Result;
use kavka_core::wire::ErrorCode;

use super::{Admin, GroupMember};

/// The lag of a group in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The group's committed offset; `None` if it has not committed one.
    pub committed: Option<CommittedOffset>,
    /// The last stable offset, up to which `read_committed` consumers can read; `None` if the partition no longer
    /// exists.
    pub end: Option<i64>,
    /// The member that the partition is assigned to, if any.
    pub member: Option<Arc<GroupMember>>,
}

impl PartitionLag {
    /// How many offsets the group has yet to commit; `None` if the committed offset or the end is unknown.
    pub fn lag(&self) -> Option<i64> {
        let committed = self.committed.as_ref()?;
        Some(self.end?.saturating_sub(committed.offset).max(0))
    }
}

impl Admin {
    /// All committed offsets of a group.
    ///
    /// # Errors
    ///
    /// `Broker` with the coordinator's error code.
    pub fn group_offsets(&self, group_id: &str) -> impl Future<Output = Result<Offsets>> + Send + 'static + use<> {
        let (admin, group_id) = (self.clone(), Arc::<str>::from(group_id));
        async move { admin.0.committed(&group_id, None, admin.0.max_block()).await }
    }

    /// Commits offsets for a group, so that its members start from there. The group must not have live members.
    ///
    /// # Errors
    ///
    /// `Broker` with `UNKNOWN_MEMBER_ID` if the group has members; those of
    /// [`Client::commit_offsets`](crate::Client::commit_offsets).
    pub fn alter_group_offsets(
        &self,
        group_id: &str,
        offsets: &Offsets,
    ) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.0.commit_offsets(group_id, offsets, self.0.max_block())
    }

    /// The lag of a group in each partition for which it has a committed offset or that is assigned to a member.
    ///
    /// # Errors
    ///
    /// `Broker` with `GROUP_ID_NOT_FOUND` if there is no such group.
    pub fn group_lag(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<Vec<PartitionLag>>> + Send + 'static + use<> {
        let (admin, group_id) = (self.clone(), group_id.to_owned());
        async move {
            let mut committed = admin.group_offsets(&group_id).await?;
            let mut members = match admin.describe_group(&group_id).await {
                Ok(group) => owners(group.members),
                // A group without a description may still have committed offsets.
                Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) && !committed.is_empty() => {
                    BTreeMap::new()
                }
                Err(error) => return Err(error),
            };
            let keys: BTreeSet<TopicPartition> = committed.keys().chain(members.keys()).cloned().collect();
            let ends = admin.ends(&keys).await?;
            let lag = keys.into_iter().map(|key| PartitionLag {
                committed: committed.remove(&key),
                end: ends.get(&key).copied(),
                member: members.remove(&key),
                topic_partition: key,
            });
            Ok(lag.collect())
        }
    }

    /// The last stable offsets of those of the partitions that exist.
    async fn ends(&self, keys: &BTreeSet<TopicPartition>) -> Result<BTreeMap<TopicPartition, i64>> {
        let metadata = self.0.refresh_metadata().await?;
        let exists = |key: &&TopicPartition| {
            let count = metadata.topic(&key.topic).map_or(0, |topic| topic.partitions.len());
            usize::try_from(key.partition).is_ok_and(|index| index < count)
        };
        let keys: Vec<_> = keys.iter().filter(exists).cloned().collect();
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.0.end_offsets(&keys, IsolationLevel::ReadCommitted, self.0.max_block()).await
    }
}

/// The member that each partition is assigned to.
fn owners(members: Vec<GroupMember>) -> BTreeMap<TopicPartition, Arc<GroupMember>> {
    let mut owners = BTreeMap::new();
    for member in members.into_iter().map(Arc::new) {
        owners.extend(member.assignment.iter().map(|key| (key.clone(), Arc::clone(&member))));
    }
    owners
}

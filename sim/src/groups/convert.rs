//! Converts what a member asks and is told, and stands in for the assignor of an application.

use std::collections::BTreeMap;
use std::sync::Arc;

use kavka_core::cluster::Metadata;
use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::{Error, Result};
use kavka_core::group::assignor::{
    Assignment, Assignor, PartitionCounts, PartitionRacks, RebalanceProtocol, Subscriber,
};
use kavka_core::group::{MemberResponse, Strategy};
use kavka_core::wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponsePartition,
};
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
};
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use super::member::GROUP;
use crate::adapter::{Reply, decode};

/// The names of topics, also of those that are gone, by their ids.
pub(super) type Names = BTreeMap<Uuid, Arc<str>>;

/// By these codes the coordinator says that the member is not in the group.
pub(super) const REMOVED: [ErrorCode; 5] = [
    ErrorCode::UNKNOWN_MEMBER_ID,
    ErrorCode::ILLEGAL_GENERATION,
    ErrorCode::FENCED_INSTANCE_ID,
    ErrorCode::FENCED_MEMBER_EPOCH,
    ErrorCode::GROUP_ID_NOT_FOUND,
];

pub(super) fn offset_fetch(keys: &[TopicPartition]) -> OffsetFetchRequest {
    let mut topics: Vec<OffsetFetchRequestTopic> = Vec::new();
    for key in keys {
        match topics.last_mut() {
            Some(topic) if *topic.name == *key.topic => topic.partition_indexes.push(key.partition),
            _ => topics
                .push(OffsetFetchRequestTopic { name: key.topic.to_string(), partition_indexes: vec![key.partition] }),
        }
    }
    OffsetFetchRequest { group_id: GROUP.into(), topics: Some(topics), ..Default::default() }
}

/// The same by topic ids, for topics that are there; `None` if there is none.
pub(super) fn offset_fetch_by_id(keys: &[TopicPartition], metadata: &Metadata) -> Option<OffsetFetchRequest> {
    let mut topics: Vec<OffsetFetchRequestTopics> = Vec::new();
    for key in keys {
        let there = metadata.topic(&key.topic).filter(|topic| !topic.error.is_unknown_topic());
        let Some(topic_id) = there.map(|topic| topic.topic_id).filter(|topic_id| !topic_id.is_zero()) else { continue };
        match topics.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partition_indexes.push(key.partition),
            _ => topics.push(OffsetFetchRequestTopics {
                topic_id,
                partition_indexes: vec![key.partition],
                ..Default::default()
            }),
        }
    }
    let is_empty = topics.is_empty();
    let group = OffsetFetchRequestGroup { group_id: GROUP.into(), topics: Some(topics), ..Default::default() };
    (!is_empty).then(|| OffsetFetchRequest { groups: vec![group], ..Default::default() })
}

/// Converts an answer; `names` has the topics by their ids.
pub(super) fn decode_for_member(reply: Reply, names: &Names) -> Result<MemberResponse> {
    let Reply::Message(answer) = &reply else { unreachable!("a member asks for no versions") };
    match answer.key {
        ApiKey::JoinGroup => decode::<JoinGroupRequest>(reply).map(MemberResponse::Join),
        ApiKey::SyncGroup => decode::<SyncGroupRequest>(reply).map(MemberResponse::Sync),
        ApiKey::Heartbeat => decode::<HeartbeatRequest>(reply).map(MemberResponse::Heartbeat),
        ApiKey::ConsumerGroupHeartbeat => {
            decode::<ConsumerGroupHeartbeatRequest>(reply).map(MemberResponse::ConsumerGroupHeartbeat)
        }
        ApiKey::LeaveGroup => decode::<LeaveGroupRequest>(reply).map(MemberResponse::Leave),
        ApiKey::OffsetCommit => decode::<OffsetCommitRequest>(reply).map(MemberResponse::OffsetCommit),
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(reply)
            .and_then(|response| committed(response, names))
            .map(MemberResponse::Committed),
        other => unreachable!("a member does not ask {other:?}"),
    }
}

fn committed(response: OffsetFetchResponse, names: &Names) -> Result<Offsets> {
    let groups = response.groups.iter().map(|group| group.error_code);
    if let Some(error) = groups.chain([response.error_code]).find_map(Error::from_code) {
        return Err(error);
    }
    let by_name = response.topics.into_iter().flat_map(|topic| {
        let name: Arc<str> = topic.name.into();
        topic.partitions.into_iter().map(move |partition| (Arc::clone(&name), Uuid::ZERO, partition))
    });
    let by_id = response.groups.into_iter().flat_map(|group| group.topics).flat_map(|topic| {
        let name = names.get(&topic.topic_id).expect("it was asked for");
        topic.partitions.into_iter().map(move |partition| {
            let partition = OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            };
            (Arc::clone(name), topic.topic_id, partition)
        })
    });
    let mut committed = Offsets::new();
    for (name, topic_id, partition) in by_name.chain(by_id) {
        if let Some(error) = Error::from_code(partition.error_code) {
            return Err(error);
        }
        if let Some(offset) = partition.committed_offset {
            let key = TopicPartition::new(name, partition.partition_index);
            let leader_epoch = partition.committed_leader_epoch;
            committed.insert(key, CommittedOffset { leader_epoch, topic_id, ..CommittedOffset::new(offset) });
        }
    }
    Ok(committed)
}

pub(super) fn code(response: &MemberResponse) -> ErrorCode {
    match response {
        MemberResponse::Join(response) => response.error_code,
        MemberResponse::Sync(response) => response.error_code,
        MemberResponse::Heartbeat(response) => response.error_code,
        MemberResponse::ConsumerGroupHeartbeat(response) => response.error_code,
        MemberResponse::Leave(response) => response.error_code,
        MemberResponse::OffsetCommit(response) => {
            let first = response.topics.iter().flat_map(|topic| &topic.partitions).next();
            first.map_or(ErrorCode::NONE, |partition| partition.error_code)
        }
        MemberResponse::Committed(_) => ErrorCode::NONE,
    }
}

/// The assignor of the application.
pub(super) fn rounds(members: &[Subscriber], counts: &PartitionCounts) -> Assignment {
    Assignor::CooperativeSticky.assign(counts, &PartitionRacks::new(), members)
}

pub(super) fn is_eager(strategy: &Strategy) -> bool {
    let protocol = match strategy {
        Strategy::BuiltIn(assignor) => assignor.protocol(),
        Strategy::Custom { protocol, .. } => *protocol,
    };
    protocol == RebalanceProtocol::Eager
}

//! Converts what a member asks and is told, and stands in for the assignor of an application.

use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::{Error, Result};
use kavka_core::group::assignor::{
    Assignment, Assignor, PartitionCounts, PartitionRacks, RebalanceProtocol, Subscriber,
};
use kavka_core::group::{MemberResponse, Strategy};
use kavka_core::wire::messages::offset_fetch::OffsetFetchRequestTopic;
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
};
use kavka_core::wire::{ApiKey, ErrorCode};

use super::member::GROUP;
use crate::adapter::{Reply, decode};

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

pub(super) fn decode_for_member(reply: Reply) -> Result<MemberResponse> {
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
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(reply).and_then(committed).map(MemberResponse::Committed),
        other => unreachable!("a member does not ask {other:?}"),
    }
}

fn committed(response: OffsetFetchResponse) -> Result<Offsets> {
    if let Some(error) = Error::from_code(response.error_code) {
        return Err(error);
    }
    let mut committed = Offsets::new();
    for topic in response.topics {
        for partition in topic.partitions {
            if let Some(error) = Error::from_code(partition.error_code) {
                return Err(error);
            }
            if let Some(offset) = partition.committed_offset {
                let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                let leader_epoch = partition.committed_leader_epoch;
                committed.insert(key, CommittedOffset { leader_epoch, ..CommittedOffset::new(offset) });
            }
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

//! `OffsetCommit` v0-10 and `OffsetFetch` v0-10: the committed offsets of groups.
//!
//! A consumer that is not a member commits with generation -1, which is refused while the group has members. Version 0,
//! which once meant offsets in ZooKeeper, uses the same store. Offsets are kept until their topic is deleted.
//!
//! A member of a consumer group (KIP-848) commits with its member epoch, and may name it in `OffsetFetch`.
//!
//! Not here: transactional commits, so `require_stable` has no effect.

use std::sync::Arc;

use kavka_core::wire::Uuid;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kavka_core::wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kavka_core::wire::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};

use super::{Answer, Context, Handle};
use crate::KafkaVersion;
use crate::groups::{Committed, Committer, Group, MAX_OFFSET_METADATA};
use crate::state::State;

/// The first version of `OffsetCommit` with member epochs (KIP-848).
const MEMBER_EPOCHS_SINCE: i16 = 9;

impl Handle for OffsetCommitRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<OffsetCommitResponse> {
        if let Err(error_code) = check_coordinator(state, context, &self.group_id) {
            return self.refuse(error_code).into();
        }
        if context.version() < MEMBER_EPOCHS_SINCE && state.groups.has_member_epoch(&self.group_id, &self.member_id) {
            return self.refuse(ErrorCode::UNSUPPORTED_VERSION).into();
        }
        let committer = Committer {
            member_id: &self.member_id,
            group_instance_id: self.group_instance_id.as_deref(),
            generation_id: self.generation_id_or_member_epoch,
        };
        let has_groups = state.config.kafka_version >= KafkaVersion::V0_9;
        let checked = state.groups.check_commit(context.now, &self.group_id, &committer);
        let checked = checked.or_else(|error_code| if has_groups { Err(error_code) } else { Ok(()) });
        // Kafka 3 does not have this code for an unknown group, and clients before v9 do not expect it.
        let has_code = context.version() >= MEMBER_EPOCHS_SINCE && state.config.kafka_version > KafkaVersion::V3_9;
        let checked = checked.map_err(|error_code| match error_code {
            ErrorCode::GROUP_ID_NOT_FOUND if !has_code => ErrorCode::ILLEGAL_GENERATION,
            error_code => error_code,
        });
        let uses_topic_ids = context.version() >= 10;
        answered(&self, |name, topic_id, asked| {
            let topic = if uses_topic_ids { state.topic_by_id(topic_id) } else { state.topic(name) };
            let Some(topic) = topic else {
                let by_id = ErrorCode::UNKNOWN_TOPIC_ID;
                return Err(if uses_topic_ids { by_id } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION });
            };
            if topic.partition(asked.partition_index).is_none() {
                return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
            // The group is asked only about partitions that exist.
            checked?;
            let metadata = asked.committed_metadata.clone().unwrap_or_default();
            if metadata.len() > MAX_OFFSET_METADATA {
                return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
            }
            let (offset, leader_epoch) = (asked.committed_offset, asked.committed_leader_epoch);
            let key = (topic.name.clone(), asked.partition_index);
            state.groups.offsets_mut(&self.group_id).insert(key, Committed { offset, leader_epoch, metadata });
            Ok(())
        })
        .into()
    }

    fn refuse(&self, error_code: ErrorCode) -> OffsetCommitResponse {
        answered(self, |_, _, _| Err(error_code))
    }
}

fn answered(
    request: &OffsetCommitRequest,
    mut answer: impl FnMut(&str, Uuid, &OffsetCommitRequestPartition) -> Result<(), ErrorCode>,
) -> OffsetCommitResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let answer = |asked: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
            partition_index: asked.partition_index,
            error_code: answer(&topic.name, topic.topic_id, asked).err().unwrap_or(ErrorCode::NONE),
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// Whether this broker coordinates the group.
pub(super) fn check_coordinator(state: &State, context: &Context, group_id: &str) -> Result<(), ErrorCode> {
    let is_here = state.coordinator(group_id).is_some_and(|broker| broker.id == context.broker_id);
    if is_here { Ok(()) } else { Err(ErrorCode::NOT_COORDINATOR) }
}

impl Handle for OffsetFetchRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<OffsetFetchResponse> {
        let groups = asked_groups(&self, context.version());
        let answer = |asked: OffsetFetchRequestGroup| fetch_group(state, context, asked);
        shaped(groups.into_iter().map(answer).collect(), context.version()).into()
    }

    fn refuse(&self, error_code: ErrorCode) -> OffsetFetchResponse {
        let version = if self.groups.is_empty() { 7 } else { 8 };
        let groups = asked_groups(self, version);
        let refuse = |asked: OffsetFetchRequestGroup| OffsetFetchResponseGroup {
            group_id: asked.group_id,
            error_code,
            ..OffsetFetchResponseGroup::default()
        };
        shaped(groups.into_iter().map(refuse).collect(), version)
    }
}

/// The request in the form of v8 and newer, which can name several groups.
fn asked_groups(request: &OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= 8 {
        return request.groups.clone();
    }
    let topics = request.topics.as_ref().map(|topics| {
        let convert = |topic: &kavka_core::wire::messages::offset_fetch::OffsetFetchRequestTopic| {
            let (name, partition_indexes) = (topic.name.clone(), topic.partition_indexes.clone());
            OffsetFetchRequestTopics { name, partition_indexes, ..OffsetFetchRequestTopics::default() }
        };
        topics.iter().map(convert).collect()
    });
    vec![OffsetFetchRequestGroup { group_id: request.group_id.clone(), topics, ..OffsetFetchRequestGroup::default() }]
}

/// The response in the form of its version.
fn shaped(mut groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    if version >= 8 {
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let OffsetFetchResponseGroup { topics, error_code, .. } = groups.pop().unwrap_or_default();
    let convert = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let convert = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(convert).collect(),
    };
    let topics = topics.into_iter().map(convert).collect();
    OffsetFetchResponse { topics, error_code, ..OffsetFetchResponse::default() }
}

fn fetch_group(state: &State, context: &Context, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics } = asked;
    let checked = check_coordinator(state, context, &group_id);
    let checked = checked.and_then(|()| state.groups.check_fetch(&group_id, member_id.as_deref(), member_epoch));
    if let Err(error_code) = checked {
        return OffsetFetchResponseGroup { group_id, error_code, ..OffsetFetchResponseGroup::default() };
    }
    let group = state.groups.get(&group_id);
    let topics = topics.unwrap_or_else(|| every_topic(state, group));
    let uses_topic_ids = context.version() >= 10;
    let answer = |asked: OffsetFetchRequestTopics| {
        let topic = if uses_topic_ids { state.topic_by_id(asked.topic_id) } else { state.topic(&asked.name) };
        let is_unknown = uses_topic_ids && topic.is_none();
        let name: Arc<str> = topic.map_or_else(|| asked.name.as_str().into(), |topic| topic.name.clone());
        let answer = |partition_index| {
            let committed = group.and_then(|group| group.offsets().get(&(name.clone(), partition_index)));
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: committed.map(|committed| committed.offset),
                committed_leader_epoch: committed.and_then(|committed| committed.leader_epoch),
                metadata: Some(committed.map_or_else(String::new, |committed| committed.metadata.clone())),
                error_code: if is_unknown { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::NONE },
            }
        };
        let partitions = asked.partition_indexes.into_iter().map(answer).collect();
        OffsetFetchResponseTopics { name: name.to_string(), topic_id: asked.topic_id, partitions }
    };
    let topics = topics.into_iter().map(answer).collect();
    OffsetFetchResponseGroup { group_id, topics, error_code: ErrorCode::NONE }
}

/// All partitions for which the group has a committed offset, as if the request had named them.
fn every_topic(state: &State, group: Option<&Group>) -> Vec<OffsetFetchRequestTopics> {
    let mut topics: Vec<OffsetFetchRequestTopics> = Vec::new();
    for (name, partition) in group.into_iter().flat_map(|group| group.offsets().keys()) {
        match topics.last_mut() {
            Some(topic) if *topic.name == **name => topic.partition_indexes.push(*partition),
            _ => topics.push(OffsetFetchRequestTopics {
                name: name.to_string(),
                topic_id: state.topic(name).map_or(Uuid::ZERO, |topic| topic.topic_id),
                partition_indexes: vec![*partition],
            }),
        }
    }
    topics
}

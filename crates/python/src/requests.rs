//! The methods of `Broker`: each sends one request to one broker, and returns the response as plain tuples. Nothing is
//! retried, and error codes are returned as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kavka::wire::messages::consumer_group_describe::{self, Assignment};
use kavka::wire::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolTopic,
};
use kavka::wire::messages::describe_groups::DescribedGroupMember;
use kavka::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kavka::wire::messages::metadata::{MetadataRequestTopic, MetadataResponsePartition};
use kavka::wire::messages::offset_commit::{COMMIT_BY_NAME, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka::wire::messages::offset_fetch::{FETCH_ONE_GROUP, OffsetFetchRequestTopic};
use kavka::wire::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest, ListOffsetsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kavka::wire::{Encoder, ErrorCode, Message, Request};
use kavka::{Call, Target};
use pyo3::prelude::*;

use crate::client::Client;
use crate::errors;

/// The newest version of `ApiVersions` without the client's name and version, which it has sent already.
const ASK_FOR_VERSIONS_ONLY: i16 = 2;

/// The state that old versions report for a group that the broker does not know, for lack of an error code.
const DEAD: &str = "Dead";

/// A broker: id, host, port, rack.
type Node = (i32, String, i32, Option<String>);
/// A partition: error code, number, leader, replicas, in-sync replicas, offline replicas.
type Partition = (i16, i32, i32, Vec<i32>, Vec<i32>, Vec<i32>);
/// A topic: error code, name, whether it is internal, partitions.
type Topic = (i16, String, bool, Vec<Partition>);
/// An offset of a partition: topic, number, error code, offset.
type Limit = (String, i32, i16, Option<i64>);
/// A committed offset: topic, number, offset, metadata, error code.
type Committed = (String, i32, i64, String, i16);
/// A member: id, client id, host, metadata, assignment.
type Member = (String, String, String, Vec<u8>, Vec<u8>);
/// A group: error code, id, state, protocol type, protocol, members.
type Group = (i16, String, String, String, String, Vec<Member>);

fn ask<R: Request + Clone>(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    max_version: i16,
    timeout: Option<Duration>,
    request: R,
) -> PyResult<R::Response> {
    let client = client.get();
    let call = Call::new(Target::Broker(broker_id), request);
    let call = Call { max_version: max_version.min(call.max_version), timeout, ..call };
    client.run(py, client.engine(py)?.call(call))
}

/// Groups entries by their topic.
fn by_topic<T>(entries: impl IntoIterator<Item = (String, T)>) -> BTreeMap<String, Vec<T>> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, entry) in entries {
        topics.entry(topic).or_default().push(entry);
    }
    topics
}

/// False if the last attempt to reach the broker failed.
#[pyfunction]
pub(crate) fn is_reachable(py: Python<'_>, client: &Bound<'_, Client>, broker_id: i32) -> PyResult<bool> {
    Ok(client.get().engine(py)?.is_reachable(broker_id))
}

/// The APIs that a broker supports: number, oldest and newest version.
#[pyfunction]
pub(crate) fn ask_api_versions(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
) -> PyResult<Vec<(i16, i16, i16)>> {
    let answer = ask(py, client, broker_id, ASK_FOR_VERSIONS_ONLY, None, ApiVersionsRequest::default())?;
    Ok(answer.api_keys.into_iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect())
}

/// A broker's metadata: brokers, controller, cluster id, topics. `None` asks for all topics.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub(crate) fn ask_metadata(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    topics: Option<Vec<String>>,
) -> PyResult<(Vec<Node>, Option<i32>, Option<String>, Vec<Topic>)> {
    let named = |name| MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: topics.map(|names| names.into_iter().map(named).collect()),
        ..MetadataRequest::default()
    };
    let answer = ask(py, client, broker_id, i16::MAX, None, request)?;
    let brokers = answer.brokers.into_iter().map(|broker| (broker.node_id, broker.host, broker.port, broker.rack));
    let topics = answer.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(described_partition).collect();
        (topic.error_code.0, topic.name.unwrap_or_default(), topic.is_internal, partitions)
    });
    Ok((brokers.collect(), answer.controller_id, answer.cluster_id, topics.collect()))
}

fn described_partition(partition: MetadataResponsePartition) -> Partition {
    let leader = partition.leader_id.unwrap_or(-1);
    let nodes = (partition.replica_nodes, partition.isr_nodes, partition.offline_replicas);
    (partition.error_code.0, partition.partition_index, leader, nodes.0, nodes.1, nodes.2)
}

/// For each `(topic, partition, time)`, where the broker leads the partition: error code and offset.
#[pyfunction]
pub(crate) fn ask_offset_limits(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    wanted: Vec<(String, i32, i64)>,
) -> PyResult<Vec<Limit>> {
    let asked = |(topic, partition_index, timestamp)| {
        (topic, ListOffsetsPartition { partition_index, timestamp, ..ListOffsetsPartition::default() })
    };
    let topics = by_topic(wanted.into_iter().map(asked));
    let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect();
    let request = ListOffsetsRequest { topics, ..ListOffsetsRequest::default() };
    let answer = ask(py, client, broker_id, i16::MAX, None, request)?;
    let found = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic
            .partitions
            .into_iter()
            .map(move |found| (name.clone(), found.partition_index, found.error_code.0, found.found()))
    });
    Ok(found.collect())
}

/// Commits `(topic, partition, offset, metadata)`; returns an error code for each.
#[pyfunction]
pub(crate) fn ask_to_commit(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    member: (String, i32, String),
    offsets: Vec<(String, i32, i64, String)>,
) -> PyResult<Vec<(String, i32, i16)>> {
    let (group_id, generation, member_id) = member;
    let committed = |(topic, partition_index, committed_offset, metadata)| {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_metadata: Some(metadata),
            ..OffsetCommitRequestPartition::default()
        };
        (topic, partition)
    };
    let topics = by_topic(offsets.into_iter().map(committed)).into_iter();
    let topics =
        topics.map(|(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() }).collect();
    let request = OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch: Some(generation).filter(|generation| *generation >= 0),
        member_id,
        topics,
        ..OffsetCommitRequest::default()
    };
    let limit = client.get().offsets_timeout();
    let answer = ask(py, client, broker_id, COMMIT_BY_NAME, Some(limit), request)?;
    let outcomes = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic
            .partitions
            .into_iter()
            .map(move |partition| (name.clone(), partition.partition_index, partition.error_code.0))
    });
    Ok(outcomes.collect())
}

/// The committed offsets of a group: its error code, and `(topic, partition, offset, metadata, error code)` for each
/// partition. The offset is -1 if none is committed.
#[pyfunction]
pub(crate) fn ask_for_committed(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    group_id: String,
    wanted: Vec<(String, i32)>,
) -> PyResult<(i16, Vec<Committed>)> {
    let topics = by_topic(wanted).into_iter();
    let topics = topics.map(|(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes }).collect();
    let request = OffsetFetchRequest { group_id, topics: Some(topics), ..OffsetFetchRequest::default() };
    let limit = client.get().offsets_timeout();
    let answer = ask(py, client, broker_id, FETCH_ONE_GROUP, Some(limit), request)?;
    let found = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |partition| {
            let metadata = partition.metadata.unwrap_or_default();
            let offset = partition.committed_offset.unwrap_or(-1);
            (name.clone(), partition.partition_index, offset, metadata, partition.error_code.0)
        })
    });
    Ok((answer.error_code.0, found.collect()))
}

/// The groups that a broker coordinates: an error code, and id and protocol type of each.
#[pyfunction]
pub(crate) fn ask_for_groups(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
) -> PyResult<(i16, Vec<(String, String)>)> {
    let answer = ask(py, client, broker_id, i16::MAX, None, ListGroupsRequest::default())?;
    let groups = answer.groups.into_iter().map(|group| (group.group_id, group.protocol_type)).collect();
    Ok((answer.error_code.0, groups))
}

/// The state and members of groups that a broker coordinates.
#[pyfunction]
pub(crate) fn ask_about_groups(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    broker_id: i32,
    groups: Vec<String>,
) -> PyResult<Vec<Group>> {
    let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
    let answer = ask(py, client, broker_id, i16::MAX, None, request)?;
    let groups = answer.groups.into_iter().map(|group| {
        let ErrorCode(code) = group.error_code;
        let members = group.members.into_iter().map(described_member).collect();
        (code, group.group_id, group.group_state, group.protocol_type, group.protocol_data, members)
    });
    let mut groups: Vec<Group> = groups.collect();
    // A broker also says so of a group in which it assigns the partitions (KIP-848).
    let is_unknown = |group: &Group| group.0 == ErrorCode::GROUP_ID_NOT_FOUND.0 || group.2 == DEAD;
    let group_ids: Vec<String> = groups.iter().filter(|group| is_unknown(group)).map(|group| group.1.clone()).collect();
    if !group_ids.is_empty() {
        let request = ConsumerGroupDescribeRequest { group_ids, ..ConsumerGroupDescribeRequest::default() };
        match ask(py, client, broker_id, i16::MAX, None, request) {
            Ok(answer) => {
                let is_found = |group: &consumer_group_describe::DescribedGroup| group.error_code == ErrorCode::NONE;
                for found in answer.groups.into_iter().filter(is_found) {
                    groups.retain(|group| group.1 != found.group_id);
                    groups.push(assigned_by_broker(found));
                }
            }
            Err(error) if errors::is_kafka_exception(py, &error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(groups)
}

/// A group in which the broker assigns the partitions; its members in the format of a classic group.
fn assigned_by_broker(group: consumer_group_describe::DescribedGroup) -> Group {
    let member = |member: consumer_group_describe::Member| {
        let subscription = ConsumerProtocolSubscription {
            topics: member.subscribed_topic_names,
            user_data: Some(Bytes::new()),
            ..ConsumerProtocolSubscription::default()
        };
        let assigned_partitions = assigned(member.assignment);
        let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: Some(Bytes::new()) };
        (member.member_id, member.client_id, member.client_host, encoded(&subscription), encoded(&assignment))
    };
    let members = group.members.into_iter().map(member).collect();
    (0, group.group_id, group.group_state, "consumer".to_owned(), group.assignor_name, members)
}

fn assigned(assignment: Assignment) -> Vec<ConsumerProtocolTopic> {
    let topics = assignment.topic_partitions.into_iter();
    topics.map(|topic| ConsumerProtocolTopic { topic: topic.topic_name, partitions: topic.partitions }).collect()
}

/// The message with its version, 0; empty if a name in it is too long for the format.
fn encoded(message: &impl Message) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.put_slice(&[0, 0]);
    match message.encode(0, &mut encoder) {
        Ok(()) => encoder.finish().concat(),
        Err(_) => Vec::new(),
    }
}

fn described_member(member: DescribedGroupMember) -> Member {
    (
        member.member_id,
        member.client_id,
        member.client_host,
        member.member_metadata.to_vec(),
        member.member_assignment.to_vec(),
    )
}

//! The methods of `Broker`: each sends one request to one broker, and returns the response as plain tuples. Nothing is
//! retried, and error codes are returned as they are.

use kavka::wire::messages::describe_groups::DescribedGroupMember;
use kavka::wire::messages::metadata::MetadataResponsePartition;
use kavka::{RawMember, RawOffset, SingleBroker, TopicPartition};
use pyo3::prelude::*;

use crate::client::Client;

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

fn broker(py: Python<'_>, client: &Bound<'_, Client>, broker_id: i32) -> PyResult<SingleBroker> {
    Ok(client.get().engine(py)?.admin().broker(broker_id))
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
    let answer = client.get().run(py, broker(py, client, broker_id)?.api_versions())?;
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
    let answer = client.get().run(py, broker(py, client, broker_id)?.metadata(topics))?;
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
    let asked = |(topic, partition, timestamp): (String, i32, i64)| (TopicPartition::new(topic, partition), timestamp);
    let wanted: Vec<_> = wanted.into_iter().map(asked).collect();
    let answer = client.get().run(py, broker(py, client, broker_id)?.list_offsets(&wanted))?;
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
    let (group_id, generation_id, member_id) = member;
    let committed = |(topic, partition, offset, metadata): (String, i32, i64, String)| RawOffset {
        topic_partition: TopicPartition::new(topic, partition),
        offset,
        metadata,
    };
    let offsets = offsets.into_iter().map(committed).collect();
    let broker = broker(py, client, broker_id)?.timeout(client.get().offsets_timeout());
    let member = RawMember { group_id, generation_id, member_id };
    let answer = client.get().run(py, broker.commit_offsets(member, offsets))?;
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
    let keys: Vec<_> = wanted.into_iter().map(|(topic, partition)| TopicPartition::new(topic, partition)).collect();
    let broker = broker(py, client, broker_id)?.timeout(client.get().offsets_timeout());
    let answer = client.get().run(py, broker.committed_offsets(group_id, &keys))?;
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
    let answer = client.get().run(py, broker(py, client, broker_id)?.list_groups())?;
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
    let groups = client.get().run(py, broker(py, client, broker_id)?.describe_groups(groups))?;
    let described = groups.into_iter().map(|group| {
        let members = group.members.into_iter().map(described_member).collect();
        (group.error_code.0, group.group_id, group.group_state, group.protocol_type, group.protocol_data, members)
    });
    Ok(described.collect())
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

//! Offsets that are committed without a membership, and groups that are deleted.

use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kavka_core::wire::messages::{
    DeleteGroupsRequest, FindCoordinatorRequest, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, Topic, unique, until};
use crate::connection::Connection;

on_every_broker!(
    a_committed_offset_is_fetched_back,
    a_partition_without_a_commit_has_no_offset,
    all_offsets_of_a_group_are_listed,
    a_commit_for_an_unknown_partition_is_refused,
    a_commit_of_a_member_that_does_not_exist_is_refused,
    metadata_over_4096_bytes_is_refused,
    a_broker_that_does_not_coordinate_the_group_refuses,
    a_group_without_members_is_deleted_with_its_offsets,
    a_group_with_members_is_not_deleted,
    only_the_coordinator_deletes_a_group_that_exists,
);

fn find_coordinator(cluster: &Cluster, group_id: &str) -> i32 {
    until("the group's coordinator", || {
        let coordinator_keys = vec![group_id.into()];
        let request = FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() };
        let found = cluster.connect(1).call(&request).coordinators.remove(0);
        // Kafka makes the topic of the offsets at the first question.
        (found.error_code == ErrorCode::NONE).then(|| {
            assert_eq!(format!("{}:{}", found.host, found.port), cluster.address(found.node_id));
            found.node_id
        })
    })
}

/// A new group and a connection to its coordinator, once that has loaded the group.
fn group(cluster: &Cluster) -> (String, Connection) {
    let group_id = unique("group");
    let mut connection = cluster.connect(find_coordinator(cluster, &group_id));
    until("the coordinator to serve", || {
        let (error_code, _) = fetch_all(&mut connection, &group_id);
        let not_yet = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
        (!not_yet.contains(&error_code)).then_some(())
    });
    (group_id, connection)
}

fn commit_request(group_id: &str, topic: &Topic, partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: Some(0),
        commit_timestamp: None,
        committed_metadata: Some(metadata.into()),
    };
    let topic = OffsetCommitRequestTopic { name: topic.name.clone(), topic_id: topic.id, partitions: vec![partition] };
    OffsetCommitRequest { group_id: group_id.into(), topics: vec![topic], ..OffsetCommitRequest::default() }
}

fn commit(connection: &mut Connection, request: &OffsetCommitRequest) -> ErrorCode {
    connection.call(request).topics[0].partitions[0].error_code
}

type Committed = (String, i32, Option<i64>, Option<String>);

fn fetch(
    connection: &mut Connection,
    group_id: &str,
    topics: Option<Vec<OffsetFetchRequestTopics>>,
) -> (ErrorCode, Vec<Committed>) {
    let group = OffsetFetchRequestGroup { group_id: group_id.into(), topics, ..OffsetFetchRequestGroup::default() };
    // The last version that goes by names.
    let answer =
        connection.call_version(9, &OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() });
    let group = &answer.groups[0];
    let committed = group.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            assert_eq!(partition.error_code, ErrorCode::NONE);
            (topic.name.clone(), partition.partition_index, partition.committed_offset, partition.metadata.clone())
        })
    });
    (group.error_code, committed.collect())
}

fn fetch_all(connection: &mut Connection, group_id: &str) -> (ErrorCode, Vec<Committed>) {
    fetch(connection, group_id, None)
}

fn fetch_one(connection: &mut Connection, group_id: &str, topic: &Topic) -> Committed {
    let topic = OffsetFetchRequestTopics { name: topic.name.clone(), partition_indexes: vec![0], ..Default::default() };
    fetch(connection, group_id, Some(vec![topic])).1.remove(0)
}

fn a_committed_offset_is_fetched_back(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    for version in connection.versions(ApiKey::OffsetCommit).filter(|version| *version >= 2) {
        let offset = i64::from(version) + 40;
        let request = commit_request(&group_id, &topic, 0, offset, "note");
        let answer = connection.call_version(version, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE, "v{version}");
        let (_, _, committed, note) = fetch_one(&mut connection, &group_id, &topic);
        assert_eq!((committed, note.as_deref()), (Some(offset), Some("note")));
    }
}

fn a_partition_without_a_commit_has_no_offset(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    assert_eq!(fetch_one(&mut connection, &group_id, &topic), (topic.name, 0, None, Some(String::new())));
}

fn all_offsets_of_a_group_are_listed(cluster: &Cluster) {
    let (first, second) = (cluster.topic(), cluster.topic());
    let (group_id, mut connection) = group(cluster);
    assert_eq!(fetch_all(&mut connection, &group_id), (ErrorCode::NONE, Vec::new()));
    commit(&mut connection, &commit_request(&group_id, &first, 0, 5, ""));
    commit(&mut connection, &commit_request(&group_id, &second, 0, 6, ""));
    let mut expected =
        vec![(first.name, 0, Some(5), Some(String::new())), (second.name, 0, Some(6), Some(String::new()))];
    expected.sort();
    let (error_code, mut listed) = fetch_all(&mut connection, &group_id);
    listed.sort();
    assert_eq!((error_code, listed), (ErrorCode::NONE, expected));
}

fn a_commit_for_an_unknown_partition_is_refused(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    let error_code = commit(&mut connection, &commit_request(&group_id, &topic, 7, 5, ""));
    assert_eq!(error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

fn a_commit_of_a_member_that_does_not_exist_is_refused(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    let request = OffsetCommitRequest {
        generation_id_or_member_epoch: Some(3),
        member_id: "nobody".into(),
        ..commit_request(&group_id, &topic, 0, 5, "")
    };
    // From v9 on Kafka 4 says GROUP_ID_NOT_FOUND instead.
    let answer = connection.call_version(8, &request);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::ILLEGAL_GENERATION);
}

fn metadata_over_4096_bytes_is_refused(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    let fits = commit_request(&group_id, &topic, 0, 5, &"x".repeat(4096));
    assert_eq!(commit(&mut connection, &fits), ErrorCode::NONE);
    let too_long = commit_request(&group_id, &topic, 0, 6, &"x".repeat(4097));
    assert_eq!(commit(&mut connection, &too_long), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(fetch_one(&mut connection, &group_id, &topic).2, Some(5));
}

fn a_broker_that_does_not_coordinate_the_group_refuses(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, _) = group(cluster);
    let mut other = cluster.connect(3 - find_coordinator(cluster, &group_id));
    let request = commit_request(&group_id, &topic, 0, 5, "");
    assert_eq!(commit(&mut other, &request), ErrorCode::NOT_COORDINATOR);
    assert_eq!(fetch_all(&mut other, &group_id).0, ErrorCode::NOT_COORDINATOR);
}

fn delete(connection: &mut Connection, group_id: &str) -> ErrorCode {
    let answer = connection.call(&DeleteGroupsRequest { groups_names: vec![group_id.into()] });
    assert_eq!(answer.results[0].group_id, group_id);
    answer.results[0].error_code
}

fn a_group_without_members_is_deleted_with_its_offsets(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    commit(&mut connection, &commit_request(&group_id, &topic, 0, 5, ""));
    assert_eq!(delete(&mut connection, &group_id), ErrorCode::NONE);
    assert_eq!(fetch_one(&mut connection, &group_id, &topic).2, None);
    assert_eq!(delete(&mut connection, &group_id), ErrorCode::GROUP_ID_NOT_FOUND);
}

fn a_group_with_members_is_not_deleted(cluster: &Cluster) {
    let (group_id, mut connection) = group(cluster);
    let join = JoinGroupRequest {
        group_id: group_id.clone(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: Some(10_000),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..JoinGroupRequestProtocol::default() }],
        ..JoinGroupRequest::default()
    };
    // Version 3 joins at once; later ones are first told their id.
    assert_eq!(connection.call_version(3, &join).error_code, ErrorCode::NONE);
    assert_eq!(delete(&mut connection, &group_id), ErrorCode::NON_EMPTY_GROUP);
}

fn only_the_coordinator_deletes_a_group_that_exists(cluster: &Cluster) {
    let (group_id, mut connection) = group(cluster);
    assert_eq!(delete(&mut connection, &group_id), ErrorCode::GROUP_ID_NOT_FOUND);
    let mut other = cluster.connect(3 - find_coordinator(cluster, &group_id));
    assert_eq!(delete(&mut other, &group_id), ErrorCode::NOT_COORDINATOR);
}

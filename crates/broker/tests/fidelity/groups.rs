//! Offset commits by clients that are not members, and deleting groups.

use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kavka_core::wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kavka_core::wire::messages::{DeleteGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, Topic};
use crate::connection::Connection;
use crate::group_kit::{Group, JOIN, find_coordinator};

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
    only_members_of_the_generation_commit_while_there_are_members,
    nobody_commits_between_a_join_and_the_assignment,
    offsets_of_a_topic_that_members_read_are_not_deleted,
    offsets_of_a_group_without_members_are_deleted,
    several_groups_are_asked_about_at_once,
    an_offset_belongs_to_the_id_of_its_topic,
);

/// A new group and a connection to its coordinator.
fn group(cluster: &Cluster) -> (String, Connection) {
    let group = Group::new(cluster);
    let connection = group.connect();
    (group.id, connection)
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
    // The newest version with topic names.
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
    // From v9 on, Kafka 4 answers GROUP_ID_NOT_FOUND instead.
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
    let group = Group::new(cluster);
    let mut member = group.lead();
    let (group_id, connection) = (&group.id, &mut member.connection);
    assert_eq!(delete(connection, group_id), ErrorCode::NON_EMPTY_GROUP);
}

fn only_the_coordinator_deletes_a_group_that_exists(cluster: &Cluster) {
    let (group_id, mut connection) = group(cluster);
    assert_eq!(delete(&mut connection, &group_id), ErrorCode::GROUP_ID_NOT_FOUND);
    let mut other = cluster.connect(3 - find_coordinator(cluster, &group_id));
    assert_eq!(delete(&mut other, &group_id), ErrorCode::NOT_COORDINATOR);
}

fn commit_as(
    connection: &mut Connection,
    request: OffsetCommitRequest,
    member_id: &str,
    generation_id: Option<i32>,
) -> ErrorCode {
    let member_id = member_id.into();
    commit(connection, &OffsetCommitRequest { member_id, generation_id_or_member_epoch: generation_id, ..request })
}

fn only_members_of_the_generation_commit_while_there_are_members(cluster: &Cluster) {
    let topic = cluster.topic();
    let group = Group::new(cluster);
    let mut leader = group.lead();
    let request = commit_request(&group.id, &topic, 0, 5, "");
    let mut commit =
        |member_id: &str, generation_id| commit_as(&mut leader.connection, request.clone(), member_id, generation_id);
    assert_eq!(commit("", None), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit("nobody", Some(1)), ErrorCode::UNKNOWN_MEMBER_ID);
    let member_id = leader.member_id.clone();
    assert_eq!(commit(&member_id, Some(2)), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&member_id, Some(1)), ErrorCode::NONE);
}

fn nobody_commits_between_a_join_and_the_assignment(cluster: &Cluster) {
    let topic = cluster.topic();
    let group = Group::new(cluster);
    let mut leader = group.lead();
    group.joined_by_another(&mut leader);
    let request = commit_request(&group.id, &topic, 0, 5, "");
    let refused = commit_as(&mut leader.connection, request.clone(), &leader.member_id, Some(2));
    assert_eq!(refused, ErrorCode::REBALANCE_IN_PROGRESS);
    group.sync(&mut leader, 2, "half");
    assert_eq!(commit_as(&mut leader.connection, request, &leader.member_id, Some(2)), ErrorCode::NONE);
}

fn delete_offset(connection: &mut Connection, group_id: &str, topic: &str) -> Result<ErrorCode, ErrorCode> {
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: topic.into(), partitions }];
    let answer = connection.call(&OffsetDeleteRequest { group_id: group_id.into(), topics });
    if answer.error_code != ErrorCode::NONE {
        return Err(answer.error_code);
    }
    Ok(answer.topics[0].partitions[0].error_code)
}

fn offsets_of_a_topic_that_members_read_are_not_deleted(cluster: &Cluster) {
    let (read, other) = (cluster.topic(), cluster.topic());
    let group = Group::new(cluster);
    let mut connection = group.connect();
    for topic in [&read, &other] {
        commit(&mut connection, &commit_request(&group.id, topic, 0, 5, ""));
    }
    let protocols = [("range", &*read.name)];
    let member_id = group.new_member_id(&mut connection, &protocols);
    connection.call_version(JOIN, &group.join_request(&member_id, &protocols));
    let group_id = &group.id;
    let refused = delete_offset(&mut connection, group_id, &read.name);
    assert_eq!(refused, Ok(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(delete_offset(&mut connection, group_id, &other.name), Ok(ErrorCode::NONE));
    assert_eq!(fetch_one(&mut connection, group_id, &read).2, Some(5));
    assert_eq!(fetch_one(&mut connection, group_id, &other).2, None);
}

fn offsets_of_a_group_without_members_are_deleted(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    assert_eq!(delete_offset(&mut connection, &group_id, &topic.name), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    commit(&mut connection, &commit_request(&group_id, &topic, 0, 5, ""));
    assert_eq!(delete_offset(&mut connection, &group_id, "missing"), Ok(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(delete_offset(&mut connection, &group_id, &topic.name), Ok(ErrorCode::NONE));
}

fn several_groups_are_asked_about_at_once(cluster: &Cluster) {
    let topic = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    commit(&mut connection, &commit_request(&group_id, &topic, 0, 5, ""));
    let ask = |group_id: &str| OffsetFetchRequestGroup { group_id: group_id.into(), ..Default::default() };
    let groups = vec![ask(&group_id), ask(&group_id)];
    let answer = connection.call_version(9, &OffsetFetchRequest { groups, require_stable: true, ..Default::default() });
    let offsets: Vec<_> = answer.groups.iter().map(|group| group.topics[0].partitions[0].committed_offset).collect();
    assert_eq!(offsets, [Some(5), Some(5)]);
}

fn fetch_by_id(connection: &mut Connection, group_id: &str, topic: &Topic) -> (ErrorCode, Option<i64>) {
    let topics = Some(vec![OffsetFetchRequestTopics {
        topic_id: topic.id,
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    }]);
    let group = OffsetFetchRequestGroup { group_id: group_id.into(), topics, ..OffsetFetchRequestGroup::default() };
    let answer =
        connection.call_version(10, &OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() });
    let topic_of_answer = &answer.groups[0].topics[0];
    assert_eq!(topic_of_answer.topic_id, topic.id);
    let partition = &topic_of_answer.partitions[0];
    (partition.error_code, partition.committed_offset)
}

fn an_offset_belongs_to_the_id_of_its_topic(cluster: &Cluster) {
    let old = cluster.topic();
    let (group_id, mut connection) = group(cluster);
    assert_eq!(commit(&mut connection, &commit_request(&group_id, &old, 0, 5, "")), ErrorCode::NONE);
    let new = cluster.create_again(&old);
    let late = commit_request(&group_id, &old, 0, 6, "");
    if !connection.versions(ApiKey::OffsetCommit).any(|version| version == 10) {
        // The names are the same.
        assert_eq!(commit(&mut connection, &late), ErrorCode::NONE);
        assert_eq!(fetch_one(&mut connection, &group_id, &new).2, Some(6));
        return;
    }
    assert_eq!(commit(&mut connection, &late), ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(fetch_by_id(&mut connection, &group_id, &old), (ErrorCode::UNKNOWN_TOPIC_ID, None));
    assert_eq!(fetch_by_id(&mut connection, &group_id, &new), (ErrorCode::NONE, None));
    // Only the topic that is gone is refused.
    let mut both = commit_request(&group_id, &new, 0, 7, "");
    both.topics.extend(late.topics);
    let answer = connection.call(&both);
    let code = |topic: &Topic| {
        answer.topics.iter().find(|answered| answered.topic_id == topic.id).unwrap().partitions[0].error_code
    };
    assert_eq!((code(&new), code(&old)), (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID));
    assert_eq!(fetch_by_id(&mut connection, &group_id, &new), (ErrorCode::NONE, Some(7)));
}

//! Consumer groups (KIP-848): the coordinator assigns the partitions, and members move to their shares.

use kavka_core::wire::messages::consumer_group_describe::DescribedGroup;
use kavka_core::wire::messages::consumer_group_heartbeat::TopicPartitions;
use kavka_core::wire::messages::list_groups::ListedGroup;
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ListGroupsRequest,
    OffsetCommitRequest,
};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, Topic, unique, until};
use crate::connection::Connection;
use crate::group_kit::Group;

on_every_broker!(
    a_second_member_gets_its_share_when_the_first_has_given_it_up,
    a_member_that_leaves_is_unknown_and_its_partitions_go_to_the_others,
    a_member_with_another_subscription_gets_the_other_topic,
    a_member_can_subscribe_by_a_pattern,
    a_static_id_is_in_use_until_its_member_leaves_for_a_while,
    a_heartbeat_that_makes_no_sense_is_refused,
    a_member_commits_with_its_member_epoch,
    a_consumer_group_is_listed_and_described_with_its_type,
    a_group_changes_its_protocol_when_it_is_empty,
);

/// A group, with a connection to its coordinator. `None` on Kafka 3, whose coordinators refuse such groups unless told
/// otherwise.
pub(crate) fn group_of(cluster: &Cluster) -> Option<(Group<'_>, Connection)> {
    let group = Group::new(cluster);
    let mut connection = group.connect();
    let is_kafka_3 = *connection.versions(ApiKey::Produce).end() < 13;
    if is_kafka_3 {
        let refused = beat(&group, &mut connection, "member", 0, None).error_code;
        assert_eq!(refused, ErrorCode::UNSUPPORTED_VERSION);
    }
    (!is_kafka_3).then_some((group, connection))
}

pub(crate) fn join(group: &Group, member_id: &str, topics: &[&Topic]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.id.clone(),
        member_id: member_id.into(),
        rebalance_timeout_ms: Some(30_000),
        subscribed_topic_names: Some(topics.iter().map(|topic| topic.name.clone()).collect()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

pub(crate) fn heartbeat(group: &Group, member_id: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.id.clone(),
        member_id: member_id.into(),
        member_epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn beat(
    group: &Group,
    connection: &mut Connection,
    member_id: &str,
    member_epoch: i32,
    owned: Option<Vec<TopicPartitions>>,
) -> ConsumerGroupHeartbeatResponse {
    connection
        .call(&ConsumerGroupHeartbeatRequest { topic_partitions: owned, ..heartbeat(group, member_id, member_epoch) })
}

pub(crate) fn partitions(topic: &Topic, partitions: &[i32]) -> Vec<TopicPartitions> {
    vec![TopicPartitions { topic_id: topic.id, partitions: partitions.to_vec() }]
}

/// Sends heartbeats until the member has these partitions; returns its epoch.
fn settle(
    group: &Group,
    connection: &mut Connection,
    member_id: &str,
    mut epoch: i32,
    wanted: &[TopicPartitions],
) -> i32 {
    until("the member to have its partitions", || {
        let told = beat(group, connection, member_id, epoch, None);
        assert_eq!(told.error_code, ErrorCode::NONE, "{told:?}");
        epoch = told.member_epoch;
        let owned = told.assignment?.topic_partitions;
        epoch = beat(group, connection, member_id, epoch, Some(owned.clone())).member_epoch;
        (owned == wanted).then_some(epoch)
    })
}

/// A new member that is alone in its group; returns its epoch once it has these partitions.
fn only_member(
    group: &Group,
    connection: &mut Connection,
    request: &ConsumerGroupHeartbeatRequest,
    wanted: &[TopicPartitions],
) -> i32 {
    let joined = connection.call(request);
    assert_eq!(joined.error_code, ErrorCode::NONE, "{joined:?}");
    if joined.assignment.is_some_and(|assignment| assignment.topic_partitions == wanted) {
        return joined.member_epoch;
    }
    settle(group, connection, &request.member_id, joined.member_epoch, wanted)
}

fn a_second_member_gets_its_share_when_the_first_has_given_it_up(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let has = partitions(&topic, &[0, 1]);
    let first_epoch = only_member(&group, &mut connection, &join(&group, "first", &[&topic]), &has);
    let second = connection.call(&join(&group, "second", &[&topic]));
    assert_eq!(second.error_code, ErrorCode::NONE);
    assert_eq!(second.assignment.unwrap().topic_partitions, []);
    let left = until("the first to be told", || {
        let told = beat(&group, &mut connection, "first", first_epoch, Some(has.clone()));
        assert_eq!((told.error_code, told.member_epoch), (ErrorCode::NONE, first_epoch));
        told.assignment.filter(|assignment| assignment.topic_partitions[0].partitions.len() == 1)
    });
    let acknowledged = beat(&group, &mut connection, "first", first_epoch, Some(left.topic_partitions));
    assert!(acknowledged.member_epoch > first_epoch, "{acknowledged:?}");
    let mut epoch = second.member_epoch;
    until("the second to get it", || {
        let told = beat(&group, &mut connection, "second", epoch, None);
        assert_eq!(told.error_code, ErrorCode::NONE);
        epoch = told.member_epoch;
        told.assignment.filter(|assignment| !assignment.topic_partitions.is_empty())
    });
    assert_eq!(beat(&group, &mut connection, "second", epoch + 1, None).error_code, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(beat(&group, &mut connection, "nobody", 1, None).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

fn a_member_that_leaves_is_unknown_and_its_partitions_go_to_the_others(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    let has = partitions(&topic, &[0]);
    let epoch = only_member(&group, &mut connection, &join(&group, "goes", &[&topic]), &has);
    let stays = connection.call(&join(&group, "stays", &[&topic])).member_epoch;
    let left = beat(&group, &mut connection, "goes", -1, None);
    assert_eq!((left.error_code, left.member_epoch), (ErrorCode::NONE, -1));
    assert_eq!(beat(&group, &mut connection, "goes", epoch, None).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    settle(&group, &mut connection, "stays", stays, &has);
}

fn a_member_with_another_subscription_gets_the_other_topic(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let (before, after) = (cluster.topic(), cluster.topic());
    let has = partitions(&before, &[0]);
    let epoch = only_member(&group, &mut connection, &join(&group, "member", &[&before]), &has);
    let changed = connection.call(&ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec![after.name.clone()]),
        topic_partitions: Some(has.clone()),
        ..heartbeat(&group, "member", epoch)
    });
    assert_eq!((changed.error_code, changed.member_epoch), (ErrorCode::NONE, epoch), "it has to give up first");
    let mut owned = changed.assignment.map_or(has, |assignment| assignment.topic_partitions);
    let epoch = until("the other topic to come", || {
        let told = beat(&group, &mut connection, "member", epoch, Some(owned.clone()));
        assert_eq!(told.error_code, ErrorCode::NONE);
        owned = told.assignment.map_or(std::mem::take(&mut owned), |assignment| assignment.topic_partitions);
        (owned == partitions(&after, &[0])).then_some(told.member_epoch)
    });
    let described = describe(&group, &mut connection);
    assert_eq!((described.group_epoch, described.assignment_epoch), (epoch, epoch));
    assert_eq!(described.members[0].subscribed_topic_names, [after.name.as_str()]);
    assert_eq!(described.members[0].assignment.topic_partitions[0].topic_name, after.name);
}

fn a_member_can_subscribe_by_a_pattern(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let by = |pattern: &str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..join(&group, "member", &[])
    };
    let refused = connection.call(&by("topic[")).error_code;
    assert_eq!(refused, ErrorCode::INVALID_REGULAR_EXPRESSION);
    // The pattern matches the whole name, and the dots are those of a pattern.
    let pattern = format!("{}..", &topic.name[..topic.name.len() - 2]);
    let joined = connection.call(&by(&pattern));
    assert_eq!(joined.error_code, ErrorCode::NONE, "{joined:?}");
    let mut epoch = joined.member_epoch;
    let mut assignment = joined.assignment;
    until("the topics to be found", || {
        let has = assignment.take().map(|assignment| assignment.topic_partitions).unwrap_or_default();
        let told = beat(&group, &mut connection, "member", epoch, None);
        (epoch, assignment) = (told.member_epoch, told.assignment);
        has.contains(&partitions(&topic, &[0, 1])[0]).then_some(())
    });
    assert_eq!(describe(&group, &mut connection).members[0].subscribed_topic_regex, Some(pattern));
}

fn a_static_id_is_in_use_until_its_member_leaves_for_a_while(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    let named = |request: ConsumerGroupHeartbeatRequest| ConsumerGroupHeartbeatRequest {
        instance_id: Some("instance".into()),
        ..request
    };
    let has = partitions(&topic, &[0]);
    let epoch = only_member(&group, &mut connection, &named(join(&group, "old", &[&topic])), &has);
    let takes_over = named(join(&group, "new", &[&topic]));
    assert_eq!(connection.call(&takes_over).error_code, ErrorCode::UNRELEASED_INSTANCE_ID);
    let left = connection.call(&named(heartbeat(&group, "old", -2)));
    assert_eq!((left.error_code, left.member_epoch), (ErrorCode::NONE, -2));
    let back = connection.call(&takes_over);
    assert_eq!((back.error_code, back.member_epoch), (ErrorCode::NONE, epoch), "nothing changed for the others");
    assert_eq!(back.assignment.unwrap().topic_partitions, has);
    let old = connection.call(&named(heartbeat(&group, "old", epoch)));
    assert_eq!(old.error_code, ErrorCode::FENCED_INSTANCE_ID);
}

fn a_heartbeat_that_makes_no_sense_is_refused(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    let joins = || join(&group, "member", &[&topic]);
    let mut refused = |request: &ConsumerGroupHeartbeatRequest| connection.call(request).error_code;
    let assignor = ConsumerGroupHeartbeatRequest { server_assignor: Some("nobody's".into()), ..joins() };
    assert_eq!(refused(&assignor), ErrorCode::UNSUPPORTED_ASSIGNOR);
    for request in [
        ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: None, ..joins() },
        ConsumerGroupHeartbeatRequest { topic_partitions: None, ..joins() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..joins() },
        ConsumerGroupHeartbeatRequest { member_id: String::new(), ..joins() },
        ConsumerGroupHeartbeatRequest { instance_id: Some(String::new()), ..joins() },
        heartbeat(&group, "member", -2),
    ] {
        assert_eq!(refused(&request), ErrorCode::INVALID_REQUEST, "{request:?}");
    }
    let late = heartbeat(&group, "member", 1);
    assert_eq!(refused(&late), ErrorCode::GROUP_ID_NOT_FOUND);
}

fn a_member_commits_with_its_member_epoch(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    let has = partitions(&topic, &[0]);
    let epoch = only_member(&group, &mut connection, &join(&group, "member", &[&topic]), &has);
    let mut commit = |member_id: &str, epoch| {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..OffsetCommitRequestPartition::default() };
        let topic = OffsetCommitRequestTopic {
            name: topic.name.clone(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.id.clone(),
            member_id: member_id.into(),
            generation_id_or_member_epoch: epoch,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        connection.call_version(9, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(commit("member", Some(epoch)), ErrorCode::NONE);
    assert_eq!(commit("member", Some(epoch + 1)), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(commit("nobody", Some(epoch)), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit("", None), ErrorCode::UNKNOWN_MEMBER_ID, "the group has members");
}

pub(crate) fn describe(group: &Group, connection: &mut Connection) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.id.clone()], ..Default::default() };
    connection.call(&request).groups.remove(0)
}

/// The group in a list of all groups of a type.
pub(crate) fn listed(group: &Group, connection: &mut Connection, group_type: &str) -> Option<ListedGroup> {
    let request = ListGroupsRequest { types_filter: vec![group_type.into()], ..ListGroupsRequest::default() };
    connection.call(&request).groups.into_iter().find(|listed| listed.group_id == group.id)
}

fn a_consumer_group_is_listed_and_described_with_its_type(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    assert_eq!(describe(&group, &mut connection).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let range =
        ConsumerGroupHeartbeatRequest { server_assignor: Some("range".into()), ..join(&group, "member", &[&topic]) };
    let epoch = only_member(&group, &mut connection, &range, &partitions(&topic, &[0]));
    let described = describe(&group, &mut connection);
    assert_eq!((described.group_state.as_str(), described.assignor_name.as_str()), ("Stable", "range"));
    let member = &described.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch), ("member", epoch));
    assert_eq!(member.assignment, member.target_assignment);
    let assigned = &member.assignment.topic_partitions[0];
    assert_eq!((assigned.topic_id, &assigned.topic_name, &assigned.partitions), (topic.id, &topic.name, &vec![0]));
    let found = listed(&group, &mut connection, "consumer").unwrap();
    let told = (found.group_state.as_str(), found.group_type.as_str(), found.protocol_type.as_str());
    assert_eq!(told, ("Stable", "consumer", "consumer"));
    assert_eq!(listed(&group, &mut connection, "classic"), None);
}

fn a_group_changes_its_protocol_when_it_is_empty(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    only_member(&group, &mut connection, &join(&group, "member", &[&topic]), &partitions(&topic, &[0]));
    beat(&group, &mut connection, "member", -1, None);
    let mut leader = group.lead();
    assert!(listed(&group, &mut connection, "classic").is_some());
    assert_eq!(group.leave(&mut leader.connection, &leader.member_id, None), ErrorCode::NONE);
    only_member(&group, &mut connection, &join(&group, &unique("member"), &[&topic]), &partitions(&topic, &[0]));
    assert!(listed(&group, &mut connection, "consumer").is_some());
}

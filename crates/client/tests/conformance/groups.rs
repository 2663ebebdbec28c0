//! Administration of groups: list, describe, reset, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kavka::{Call, Client, CommittedOffset, ErrorCode, Target, TopicPartition};
use kavka_core::cluster::CoordinatorKind;
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::leave_group::MemberIdentity;
use kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment;
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use kavka_test_support::rig::wait;
use kavka_test_support::{on_every_listener, unique};

use crate::cluster::{Cluster, Writer};

on_every_listener!(
    a_group_that_only_committed_is_listed_described_and_removed,
    a_group_with_a_member_shows_it_and_takes_no_offsets_from_others,
    a_group_whose_coordinator_assigns_shows_the_epochs_and_subscriptions_of_its_members,
    the_lag_of_a_group_counts_what_is_not_committed,
    a_group_that_does_not_exist_is_not_found,
);

/// A group's only member, which has one partition.
struct Joined {
    client: Client,
    target: Target,
    group_id: String,
    member_id: String,
}

impl Joined {
    fn join(cluster: &Cluster, group_id: &str, topic: &str, partition: u8) -> Self {
        let client = cluster.client();
        let target = Target::Coordinator(Arc::from(group_id), CoordinatorKind::Group);
        let mut member = Self { client, target, group_id: group_id.to_owned(), member_id: String::new() };
        let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(&[0; 10]) }];
        let mut generation = None;
        for _ in 0..2 {
            let request = JoinGroupRequest {
                group_id: group_id.into(),
                session_timeout_ms: 30_000,
                rebalance_timeout_ms: Some(30_000),
                member_id: member.member_id.clone(),
                protocol_type: "consumer".into(),
                protocols: protocols.clone(),
                ..JoinGroupRequest::default()
            };
            let joined = member.ask(request);
            (member.member_id, generation) = (joined.member_id, joined.generation_id);
        }
        let name = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes()].concat();
        let assignment = [&[0, 1, 0, 0, 0, 1][..], &name, &[0, 0, 0, 1, 0, 0, 0, partition], &[0xff; 4]].concat();
        let request = SyncGroupRequest {
            group_id: group_id.into(),
            generation_id: generation.unwrap(),
            member_id: member.member_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment.into(),
            }],
            ..SyncGroupRequest::default()
        };
        assert_eq!(member.ask(request).error_code, ErrorCode::NONE);
        member
    }

    fn leave(self) {
        let members = vec![MemberIdentity { member_id: self.member_id.clone(), ..MemberIdentity::default() }];
        let request = LeaveGroupRequest { group_id: self.group_id.clone(), members, ..LeaveGroupRequest::default() };
        assert_eq!(self.ask(request).error_code, ErrorCode::NONE);
    }

    fn ask<R: kavka::wire::Request>(&self, request: R) -> R::Response {
        let (client, call) = (self.client.clone(), Call::new(self.target.clone(), request));
        let coordinator = client.group_coordinator(&self.group_id, kavka_test_support::LIMIT);
        wait(&self.client, async move {
            coordinator.await.unwrap();
            client.call(call).await.unwrap()
        })
    }
}

/// Commits for partition 0 of a topic.
fn commit(client: &Client, group_id: &str, topic: &str, offset: i64) -> kavka::Result<()> {
    let offsets = BTreeMap::from([(TopicPartition::new(topic, 0), CommittedOffset::new(offset))]);
    wait(client, client.admin().alter_group_offsets(group_id, &offsets))
}

fn a_group_that_only_committed_is_listed_described_and_removed(cluster: &Cluster) {
    let (client, topic, group_id) = (cluster.client(), cluster.topic(1), unique("group"));
    commit(&client, &group_id, &topic, 0).unwrap();
    let listed = wait(&client, client.admin().list_groups()).unwrap();
    let group = listed.iter().find(|group| group.group_id == group_id).unwrap();
    assert_eq!((group.protocol_type.as_str(), group.state.as_deref()), ("", Some("Empty")));
    let described = wait(&client, client.admin().describe_group(&group_id)).unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
    wait(&client, client.admin().delete_group(&group_id)).unwrap();
    assert!(wait(&client, client.admin().list_groups()).unwrap().iter().all(|group| group.group_id != group_id));
    assert_eq!(wait(&client, client.admin().group_offsets(&group_id)).unwrap(), BTreeMap::new());
}

fn a_group_with_a_member_shows_it_and_takes_no_offsets_from_others(cluster: &Cluster) {
    let (client, topic, group_id) = (cluster.client(), cluster.topic(2), unique("group"));
    let member = Joined::join(cluster, &group_id, &topic, 1);
    let described = wait(&client, client.admin().describe_group(&group_id)).unwrap();
    assert_eq!(
        [&described.state, &described.protocol_type, &described.protocol, &described.group_type],
        ["Stable", "consumer", "range", "classic"]
    );
    assert_eq!(described.members.len(), 1);
    assert_eq!(described.members[0].member_id, member.member_id);
    assert_eq!(described.members[0].assignment, [TopicPartition::new(topic.as_str(), 1)]);
    let error = commit(&client, &group_id, &topic, 0).unwrap_err();
    assert!(error.to_string().contains("the group has live members"), "{error}");
    let error = wait(&client, client.admin().delete_group(&group_id)).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NON_EMPTY_GROUP), "{error}");
    member.leave();
    commit(&client, &group_id, &topic, 0).unwrap();
    wait(&client, client.admin().delete_group(&group_id)).unwrap();
}

fn a_group_whose_coordinator_assigns_shows_the_epochs_and_subscriptions_of_its_members(cluster: &Cluster) {
    let (client, topic, group_id) = (cluster.client(), cluster.topic(1), unique("group"));
    let heartbeat = |member_epoch, rebalance_timeout_ms| ConsumerGroupHeartbeatRequest {
        group_id: group_id.clone(),
        member_id: "member".into(),
        member_epoch,
        rebalance_timeout_ms,
        subscribed_topic_names: Some(vec![topic.clone()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let target = Target::Coordinator(Arc::from(group_id.as_str()), CoordinatorKind::Group);
    let ask = |request| {
        let (client, call) = (client.clone(), Call::new(target.clone(), request));
        let coordinator = client.group_coordinator(&group_id, kavka_test_support::LIMIT);
        wait(&client.clone(), async move {
            coordinator.await.unwrap();
            client.call(call).await
        })
    };
    let joined = ask(heartbeat(0, Some(30_000))).unwrap();
    if joined.error_code == ErrorCode::UNSUPPORTED_VERSION {
        // Kafka 3 has no such groups unless told otherwise.
        let error = wait(&client, client.admin().describe_group(&group_id)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
        return;
    }
    let described = wait(&client, client.admin().describe_group(&group_id)).unwrap();
    assert_eq!(
        [&described.protocol_type, &described.protocol, &described.group_type],
        ["consumer", "uniform", "consumer"]
    );
    let member = &described.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch), ("member", Some(joined.member_epoch)));
    assert_eq!((&member.subscribed_topics, &member.subscribed_pattern), (&Some(vec![topic.clone()]), &None));
    // Kafka may find the topic only after a while.
    let target = member.target_assignment.clone().unwrap();
    assert!(target.iter().all(|key| *key == TopicPartition::new(topic.as_str(), 0)), "{target:?}");
    assert_eq!(member.assignment, target);
    assert_eq!(ask(heartbeat(-1, None)).unwrap().member_epoch, -1);
    assert!(wait(&client, client.admin().describe_group(&group_id)).unwrap().members.is_empty());
    wait(&client, client.admin().delete_group(&group_id)).unwrap();
}

fn the_lag_of_a_group_counts_what_is_not_committed(cluster: &Cluster) {
    let (topic, group_id) = (cluster.topic(2), unique("group"));
    let writer = Writer::new(cluster, &topic);
    writer.write(["a", "b", "c"]);
    commit(&writer.client, &group_id, &topic, 1).unwrap();
    let member = Joined::join(cluster, &group_id, &topic, 1);
    let lag = wait(&writer.client, writer.client.admin().group_lag(&group_id)).unwrap();
    let found: Vec<_> = lag.iter().map(|lag| (lag.topic_partition.partition, lag.end, lag.lag())).collect();
    assert_eq!(found, [(0, Some(3), Some(2)), (1, Some(0), None)]);
    let owners: Vec<_> = lag.iter().map(|lag| lag.member.as_ref().map(|member| &member.member_id)).collect();
    assert_eq!(owners, [None, Some(&member.member_id)]);
    member.leave();
}

fn a_group_that_does_not_exist_is_not_found(cluster: &Cluster) {
    let (client, group_id) = (cluster.client(), unique("nobody"));
    let errors = [
        wait(&client, client.admin().describe_group(&group_id)).map(drop),
        wait(&client, client.admin().group_lag(&group_id)).map(drop),
        wait(&client, client.admin().delete_group(&group_id)),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND), "{error}");
        assert!(error.to_string().contains(&group_id), "{error}");
    }
}

//! Classic groups, tested on the cluster itself: which members are admitted, what they are told, and which are removed.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Harness;
use kavka_broker::{ClusterConfig, ConnectionId, KafkaVersion};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment;
use kavka_core::wire::messages::*;

const JOIN: i16 = 5;
const SYNC: i16 = 3;

/// A `JoinGroup`; with an empty member id, the first response only contains the id to use.
fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: Some(10_000),
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"t") }],
        ..JoinGroupRequest::default()
    }
}

fn new_member(harness: &mut Harness, connection: ConnectionId) -> String {
    let answer = harness.call(connection, JOIN, &join(""));
    assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    answer.member_id
}

fn sync(member_id: &str, generation_id: i32, assigned: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let assignment = |(member_id, assignment): &(&str, &'static [u8])| SyncGroupRequestAssignment {
        member_id: (*member_id).into(),
        assignment: Bytes::from_static(assignment),
    };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id,
        member_id: member_id.into(),
        assignments: assigned.iter().map(assignment).collect(),
        ..SyncGroupRequest::default()
    }
}

fn heartbeat(harness: &mut Harness, connection: ConnectionId, member_id: &str, generation_id: i32) -> ErrorCode {
    let (group_id, member_id) = ("g".into(), member_id.into());
    let request = HeartbeatRequest { group_id, generation_id, member_id, ..HeartbeatRequest::default() };
    harness.call(connection, 3, &request).error_code
}

/// Commits offset 3.
fn commit(
    harness: &mut Harness,
    connection: ConnectionId,
    generation_id_or_member_epoch: Option<i32>,
    member_id: &str,
) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: 3, ..OffsetCommitRequestPartition::default() };
    let partitions = vec![OffsetCommitRequestPartition { committed_metadata: Some(String::new()), ..partition }];
    let topics = vec![OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() }];
    let (group_id, member_id) = ("g".into(), member_id.into());
    let request = OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch,
        member_id,
        topics,
        ..OffsetCommitRequest::default()
    };
    harness.call(connection, 8, &request).topics[0].partitions[0].error_code
}

/// A stable group of one member, in generation 1.
fn stable(harness: &mut Harness) -> (ConnectionId, String) {
    let connection = harness.connect(1);
    let member = new_member(harness, connection);
    assert_eq!(harness.call(connection, JOIN, &join(&member)).generation_id, Some(1));
    let answer = harness.call(connection, SYNC, &sync(&member, 1, &[(&member, b"all")]));
    assert_eq!(answer.assignment, "all");
    (connection, member)
}

#[test]
fn two_members_share_what_the_leader_assigns() {
    let mut harness = Harness::new(1);
    let (leader_at, leader) = stable(&mut harness);
    let follower_at = harness.connect(1);
    let follower = new_member(&mut harness, follower_at);
    harness.send(follower_at, JOIN, &join(&follower));
    assert_eq!(harness.receive::<JoinGroupRequest>(follower_at, JOIN), None, "the leader has yet to join again");
    assert_eq!(heartbeat(&mut harness, leader_at, &leader, 1), ErrorCode::REBALANCE_IN_PROGRESS);

    let led = harness.call(leader_at, JOIN, &join(&leader));
    let other = harness.receive::<JoinGroupRequest>(follower_at, JOIN).unwrap();
    assert_eq!((led.generation_id, other.generation_id), (Some(2), Some(2)));
    assert_eq!((led.members.len(), other.members.len()), (2, 0), "only the leader learns of the others");

    harness.send(follower_at, SYNC, &sync(&follower, 2, &[]));
    assert_eq!(harness.receive::<SyncGroupRequest>(follower_at, SYNC), None, "the leader has yet to assign");
    let assigned: [(&str, &'static [u8]); 2] = [(&leader, b"half"), (&follower, b"rest")];
    assert_eq!(harness.call(leader_at, SYNC, &sync(&leader, 2, &assigned)).assignment, "half");
    assert_eq!(harness.receive::<SyncGroupRequest>(follower_at, SYNC).unwrap().assignment, "rest");
    assert_eq!(heartbeat(&mut harness, follower_at, &follower, 2), ErrorCode::NONE);
}

#[test]
fn a_member_that_falls_silent_is_dropped() {
    let mut harness = Harness::new(1);
    let (connection, member) = stable(&mut harness);
    harness.pass(Duration::from_millis(5_999));
    assert_eq!(heartbeat(&mut harness, connection, &member, 1), ErrorCode::NONE);
    harness.pass(Duration::from_secs(6));
    assert_eq!(heartbeat(&mut harness, connection, &member, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn who_does_not_join_again_in_time_is_left_out() {
    let mut harness = Harness::new(1);
    let (busy_at, busy) = stable(&mut harness);
    let connection = harness.connect(1);
    let member = new_member(&mut harness, connection);
    harness.send(connection, JOIN, &join(&member));
    harness.pass(Duration::from_secs(5));
    assert_eq!(heartbeat(&mut harness, busy_at, &busy, 1), ErrorCode::REBALANCE_IN_PROGRESS, "its session goes on");
    harness.pass(Duration::from_secs(5));
    let joined = harness.receive::<JoinGroupRequest>(connection, JOIN).unwrap();
    assert_eq!((joined.generation_id, joined.leader, joined.members.len()), (Some(2), member, 1));
    assert_eq!(heartbeat(&mut harness, busy_at, &busy, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn only_members_of_this_generation_commit_while_there_are_members() {
    let mut harness = Harness::new(1);
    let (connection, member) = stable(&mut harness);
    let mut commit = |generation_id, member_id: &str| commit(&mut harness, connection, generation_id, member_id);
    assert_eq!(commit(None, ""), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(Some(9), &member), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(Some(1), &member), ErrorCode::NONE);
    assert_eq!(harness.cluster.committed_offset("g", "t", 0), Some(3));
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again() {
    let mut harness = Harness::new(1);
    let (connection, member) = stable(&mut harness);
    let leave = LeaveGroupRequest { group_id: "g".into(), member_id: member.clone(), ..LeaveGroupRequest::default() };
    assert_eq!(harness.call(connection, 2, &leave).error_code, ErrorCode::NONE);
    assert_eq!(heartbeat(&mut harness, connection, &member, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let groups = harness.call(connection, 4, &ListGroupsRequest::default()).groups;
    assert_eq!(groups[0].group_state, "Empty");
}

#[test]
fn before_kafka_4_a_group_without_members_and_offsets_is_forgotten_when_any_topic_is_deleted() {
    for (kafka_version, is_forgotten) in [(KafkaVersion::V3_9, true), (KafkaVersion::V4_4, false)] {
        let mut harness = Harness::with(ClusterConfig { kafka_version, ..ClusterConfig::default() });
        harness.cluster.create_topic("other", 1, 1).unwrap();
        let connection = harness.connect(1);
        assert_eq!(commit(&mut harness, connection, None, ""), ErrorCode::NONE);
        let mut groups_after = |topic| {
            harness.cluster.delete_topic(harness.now, topic);
            harness.call(connection, 4, &ListGroupsRequest::default()).groups.len()
        };
        assert_eq!(groups_after("other"), 1, "it has an offset");
        assert_eq!(groups_after("t"), usize::from(!is_forgotten), "{kafka_version}");

        let mut harness = Harness::with(ClusterConfig { kafka_version, ..ClusterConfig::default() });
        let (connection, member) = stable(&mut harness);
        harness.cluster.delete_topic(harness.now, "t");
        assert_eq!(heartbeat(&mut harness, connection, &member, 1), ErrorCode::NONE, "it has a member");
    }
}

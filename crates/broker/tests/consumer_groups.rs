//! Consumer groups, tested on the cluster itself: members whose time is over, and groups that become classic ones.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Harness;
use kavka_broker::ConnectionId;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kavka_core::wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment;
use kavka_core::wire::messages::*;
use kavka_core::wire::{Encoder, Message};

const JOIN: i16 = 3;
/// The first version in which a member can be static.
const JOIN_STATIC: i16 = 5;
const SYNC: i16 = 3;

fn beat(
    harness: &mut Harness,
    connection: ConnectionId,
    member_id: &str,
    epoch: i32,
) -> ConsumerGroupHeartbeatResponse {
    let alive = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    harness.call(connection, 1, &if epoch == 0 { joining(member_id) } else { alive })
}

/// The first heartbeat of a member.
fn joining(member_id: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        rebalance_timeout_ms: Some(10_000),
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn embedded(message: &impl Message) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.put_slice(&[0, 0]);
    message.encode(0, &mut encoder).unwrap();
    encoder.finish().concat().into()
}

fn join(member_id: &str) -> JoinGroupRequest {
    let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: Some(10_000),
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: embedded(&subscription) }],
        ..JoinGroupRequest::default()
    }
}

fn sync(harness: &mut Harness, connection: ConnectionId, member_id: &str, generation_id: i32) -> ErrorCode {
    let nothing = embedded(&ConsumerProtocolAssignment::default());
    let request = SyncGroupRequest {
        group_id: "g".into(),
        generation_id,
        member_id: member_id.into(),
        assignments: vec![SyncGroupRequestAssignment { member_id: member_id.into(), assignment: nothing }],
        ..SyncGroupRequest::default()
    };
    harness.call(connection, SYNC, &request).error_code
}

fn heartbeat(harness: &mut Harness, connection: ConnectionId, member_id: &str, generation_id: i32) -> ErrorCode {
    let (group_id, member_id) = ("g".into(), member_id.into());
    let request = HeartbeatRequest { group_id, generation_id, member_id, ..HeartbeatRequest::default() };
    harness.call(connection, 3, &request).error_code
}

/// A consumer group of a member that uses the classic protocol, whose id is returned, and of `new`.
fn of_both(harness: &mut Harness) -> (ConnectionId, String) {
    let connection = harness.connect(1);
    let member_id = harness.call(connection, JOIN, &join("")).member_id;
    assert_eq!(sync(harness, connection, &member_id, 1), ErrorCode::NONE);
    assert_eq!(beat(harness, connection, "new", 0).error_code, ErrorCode::NONE);
    (connection, member_id)
}

/// Changes a setting of the group.
fn alter(harness: &mut Harness, connection: ConnectionId, name: &str, value: &str) {
    let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
    let resource = AlterConfigsResource { resource_type: 32, resource_name: "g".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(harness.call(connection, 1, &request).responses[0].error_code, ErrorCode::NONE);
}

#[test]
fn the_session_and_the_heartbeats_of_a_group_are_those_of_its_settings() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    for (name, value) in [("consumer.session.timeout.ms", "1"), ("session.timeout.ms", "6000")] {
        assert_eq!(harness.cluster.set_group_config("g", name, value), Err(ErrorCode::INVALID_CONFIG));
    }
    harness.cluster.set_group_config("g", "consumer.session.timeout.ms", "6000").unwrap();
    alter(&mut harness, connection, "consumer.heartbeat.interval.ms", "250");
    let joined = beat(&mut harness, connection, "new", 0);
    assert_eq!(joined.heartbeat_interval_ms, 250);
    harness.pass(Duration::from_millis(5_999));
    assert_eq!(beat(&mut harness, connection, "new", joined.member_epoch).error_code, ErrorCode::NONE);
    harness.pass(Duration::from_secs(6));
    assert_eq!(beat(&mut harness, connection, "new", joined.member_epoch).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_dropped_from_a_consumer_group() {
    let mut harness = Harness::new(1);
    let (connection, member_id) = of_both(&mut harness);
    assert_eq!(heartbeat(&mut harness, connection, &member_id, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    harness.pass(Duration::from_millis(9_999));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    harness.pass(Duration::from_millis(1));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_classic_member_that_never_asks_for_its_share_is_dropped_from_a_consumer_group() {
    let mut harness = Harness::new(1);
    let (connection, member_id) = of_both(&mut harness);
    let generation_id = harness.call(connection, JOIN, &join(&member_id)).generation_id.unwrap();
    harness.pass(Duration::from_millis(9_999));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
    harness.pass(Duration::from_millis(1));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_classic_member_that_has_joined_and_asked_for_its_share_stays_in_a_consumer_group() {
    let mut harness = Harness::new(1);
    let (connection, member_id) = of_both(&mut harness);
    assert_eq!(heartbeat(&mut harness, connection, &member_id, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let generation_id = harness.call(connection, JOIN, &join(&member_id)).generation_id.unwrap();
    assert_eq!(sync(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
    harness.pass(Duration::from_secs(10));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
}

#[test]
fn a_group_is_classic_again_when_the_last_member_of_the_consumer_protocol_falls_silent() {
    let mut harness = Harness::new(1);
    let (connection, member_id) = of_both(&mut harness);
    let generation_id = harness.call(connection, JOIN, &join(&member_id)).generation_id.unwrap();
    assert_eq!(sync(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
    harness.pass(Duration::from_secs(44));
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
    harness.pass(Duration::from_secs(1));
    assert_eq!(beat(&mut harness, connection, "new", 1).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = harness.call(connection, JOIN, &join(&member_id));
    assert_eq!((joined.leader, joined.generation_id), (member_id, Some(generation_id + 1)));
}

#[test]
fn who_waits_for_partitions_is_told_to_join_when_the_group_becomes_classic_by_a_replacement() {
    let mut harness = Harness::new(1);
    harness.cluster.add_partition("t").unwrap();
    let connection = harness.connect(1);
    let instance = || Some("one".to_owned());
    let joins = ConsumerGroupHeartbeatRequest { instance_id: instance(), ..joining("old") };
    let told = harness.call(connection, 1, &joins);
    assert_eq!(told.assignment.unwrap().topic_partitions[0].partitions, [0, 1]);
    let waiting = harness.call(connection, JOIN, &join(""));
    let (member_id, generation_id) = (waiting.member_id, waiting.generation_id.unwrap());
    assert_eq!(sync(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE);
    assert_eq!(heartbeat(&mut harness, connection, &member_id, generation_id), ErrorCode::NONE, "one has both");

    let replaces = JoinGroupRequest { group_instance_id: instance(), ..join("") };
    let joined = harness.call(connection, JOIN_STATIC, &replaces);
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let told = heartbeat(&mut harness, connection, &member_id, generation_id);
    assert_eq!(told, ErrorCode::REBALANCE_IN_PROGRESS, "the partition that it waits for is free");
    let synced = sync(&mut harness, connection, &joined.member_id, joined.generation_id.unwrap());
    assert_eq!(synced, ErrorCode::REBALANCE_IN_PROGRESS);
}

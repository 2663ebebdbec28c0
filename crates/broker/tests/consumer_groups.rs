//! Consumer groups, tested on the cluster itself: members whose time is over.

mod common;

use std::time::Duration;

use common::Harness;
use kavka_broker::ConnectionId;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kavka_core::wire::messages::*;

fn beat(
    harness: &mut Harness,
    connection: ConnectionId,
    member_id: &str,
    epoch: i32,
) -> ConsumerGroupHeartbeatResponse {
    let joins = ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: Some(10_000),
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let alive = ConsumerGroupHeartbeatRequest::default();
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        ..if epoch == 0 { joins } else { alive }
    };
    harness.call(connection, 1, &request)
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
    alter(&mut harness, connection, "consumer.session.timeout.ms", "6000");
    alter(&mut harness, connection, "consumer.heartbeat.interval.ms", "250");
    let joined = beat(&mut harness, connection, "new", 0);
    assert_eq!(joined.heartbeat_interval_ms, 250);
    harness.pass(Duration::from_millis(5_999));
    assert_eq!(beat(&mut harness, connection, "new", joined.member_epoch).error_code, ErrorCode::NONE);
    harness.pass(Duration::from_secs(6));
    assert_eq!(beat(&mut harness, connection, "new", joined.member_epoch).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

//! Rules of single APIs, tested on the cluster itself: frames in, frames out, with a clock of the test.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Harness, fetch_request, only_fetched, only_produced, produce_request};
use kavka_broker::{ClusterConfig, Fault, KafkaVersion};
use kavka_core::wire::api::{ApiKey, RequestHeader};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::*;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compression, CompressionType, Compressor, ControlType, ProducerStamp, Records, Stamp,
    end_transaction_marker,
};
use kavka_core::wire::{Encoder, Request};
use kavka_test_support::batches::{self, Batch, batch, sequenced};

/// Sends a request to every version of Kafka in every version that it has; each must be answered in that version.
fn is_answered_in_every_version<R: Request>(fill: impl Fn(i16, &mut R)) {
    for kafka_version in KafkaVersion::ALL {
        let Some((first, last)) = kafka_version.versions(R::KEY) else { continue };
        for version in first..=last {
            let mut harness =
                Harness::with(ClusterConfig { kafka_version: *kafka_version, ..ClusterConfig::default() });
            let connection = harness.connect(1);
            let mut request = R::default();
            fill(version, &mut request);
            harness.call(connection, version, &request);
        }
    }
}

#[test]
fn every_version_of_the_apis_of_topics_is_answered() {
    is_answered_in_every_version::<MetadataRequest>(|version, request| {
        request.topics = (version == 0).then(Vec::new);
    });
    is_answered_in_every_version::<FetchRequest>(|_, request| *request = fetch_request(9));
    is_answered_in_every_version::<ProduceRequest>(|version, request| {
        // A message set is empty, because this is about the answer.
        let records = if version < 3 { Records::default() } else { batch(&["a"]) };
        *request = produce_request(records);
    });
    is_answered_in_every_version::<ListOffsetsRequest>(|_, request| {
        let partition = list_offsets::ListOffsetsPartition { timestamp: -1, ..Default::default() };
        request.topics = vec![list_offsets::ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
    });
    is_answered_in_every_version::<DescribeConfigsRequest>(|_, request| {
        let resource = |resource_type, name: &str| describe_configs::DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        };
        request.resources = vec![resource(2, "t"), resource(4, "1"), resource(2, "none")];
    });
    is_answered_in_every_version::<CreateTopicsRequest>(|_, request| {
        request.topics = ["new", "t"]
            .map(|name| create_topics::CreatableTopic {
                name: name.into(),
                num_partitions: Some(1),
                replication_factor: Some(1),
                ..Default::default()
            })
            .into();
    });
    is_answered_in_every_version::<DeleteTopicsRequest>(|version, request| {
        if version < 6 {
            request.topic_names = vec!["t".into(), "none".into()];
        } else {
            let topic = delete_topics::DeleteTopicState { name: Some("t".into()), ..Default::default() };
            request.topics = vec![topic, delete_topics::DeleteTopicState::default()];
        }
    });
    is_answered_in_every_version::<ApiVersionsRequest>(|_, _| {});
    is_answered_in_every_version::<InitProducerIdRequest>(|_, _| {});
    is_answered_in_every_version::<OffsetForLeaderEpochRequest>(|_, _| {});
    is_answered_in_every_version::<CreatePartitionsRequest>(|_, request| request.topics = Vec::new());
    is_answered_in_every_version::<DeleteRecordsRequest>(|_, _| {});
    is_answered_in_every_version::<IncrementalAlterConfigsRequest>(|_, _| {});
}

#[test]
fn every_version_of_the_apis_of_groups_is_answered() {
    is_answered_in_every_version::<OffsetFetchRequest>(|version, request| {
        if version < 8 {
            request.topics = Some(Vec::new());
        } else {
            request.groups = vec![offset_fetch::OffsetFetchRequestGroup::default()];
        }
    });
    is_answered_in_every_version::<DescribeGroupsRequest>(|_, request| request.groups = vec!["none".into()]);
    is_answered_in_every_version::<OffsetCommitRequest>(|_, _| {});
    is_answered_in_every_version::<FindCoordinatorRequest>(|_, _| {});
    is_answered_in_every_version::<JoinGroupRequest>(|_, _| {});
    is_answered_in_every_version::<SyncGroupRequest>(|_, _| {});
    is_answered_in_every_version::<HeartbeatRequest>(|_, _| {});
    is_answered_in_every_version::<LeaveGroupRequest>(|_, _| {});
    is_answered_in_every_version::<ListGroupsRequest>(|_, _| {});
    is_answered_in_every_version::<DeleteGroupsRequest>(|_, request| request.groups_names = vec!["g".into()]);
}

/// After any other error, Java and librdkafka ask again until the application's own time limit.
#[test]
fn a_transactional_producer_learns_at_once_that_there_are_no_transactions() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    let (key_type, coordinator_keys) = (1, vec!["t".into()]);
    let request = FindCoordinatorRequest { key_type, coordinator_keys, ..FindCoordinatorRequest::default() };
    let found = harness.call(connection, 6, &request).coordinators.remove(0);
    assert_eq!(found.error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!(found.error_message.as_deref(), Some("this broker has no transactions"));
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.send(connection, 12, &FetchRequest { max_wait_ms: 500, ..fetch_request(0) });
    harness.send(connection, 12, &produce_request(batch(&["a"])));
    assert_eq!(harness.receive::<ProduceRequest>(connection, 12), None, "the fetch before it waits");
    harness.pass(Duration::from_millis(500));
    assert!(only_fetched(harness.receive::<FetchRequest>(connection, 12).unwrap()).records.unwrap().is_empty());
    assert_eq!(only_produced(harness.receive::<ProduceRequest>(connection, 12).unwrap()).base_offset, 0);
}

#[test]
fn a_waiting_fetch_is_answered_as_soon_as_there_are_records() {
    let mut harness = Harness::new(1);
    let (reader, writer) = (harness.connect(1), harness.connect(1));
    harness.send(reader, 12, &FetchRequest { max_wait_ms: 500, ..fetch_request(0) });
    assert_eq!(harness.receive::<FetchRequest>(reader, 12), None);
    harness.produce(writer, batch(&["a"]));
    let fetched = only_fetched(harness.receive::<FetchRequest>(reader, 12).unwrap());
    assert_eq!(fetched.high_watermark, 1);
    assert!(!fetched.records.unwrap().is_empty());
}

#[test]
fn a_waiting_fetch_keeps_waiting_for_min_bytes() {
    let mut harness = Harness::new(1);
    let (reader, writer) = (harness.connect(1), harness.connect(1));
    harness.send(reader, 12, &FetchRequest { max_wait_ms: 500, min_bytes: 100, ..fetch_request(0) });
    harness.produce(writer, batch(&["a"]));
    assert_eq!(harness.receive::<FetchRequest>(reader, 12), None);
    harness.produce(writer, batch(&["b"]));
    assert!(harness.receive::<FetchRequest>(reader, 12).is_some());
}

#[test]
fn what_is_fetched_is_what_was_produced_at_its_offset() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    let values: Vec<String> = (0..5_000).map(|index| format!("value {index}")).collect();
    for compression_type in [CompressionType::None, CompressionType::Zstd] {
        harness.produce(connection, Batch::of(&values).compressed(compression_type).build());
    }
    let fetched = only_fetched(harness.call(connection, 12, &fetch_request(5_001))).records.unwrap().into_bytes();
    assert_eq!(fetched, harness.cluster.batches("t", 0)[1], "a fetch begins with the batch that has the offset");
    let batch = kavka_core::wire::records::batches(fetched).next().unwrap().unwrap();
    assert_eq!((batch.header().base_offset, batch.header().last_offset), (5_000, 9_999));
    assert_eq!(batch.header().partition_leader_epoch, Some(0));
    assert!(batch.check_crc().is_ok());
}

#[test]
fn a_batch_larger_than_the_limits_is_still_served_alone() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    for _ in 0..2 {
        harness.produce(connection, batch(&["x".repeat(5_000)]));
    }
    let fetched = harness.call(connection, 12, &FetchRequest { max_bytes: 1, ..fetch_request(0) });
    let bytes = only_fetched(fetched).records.unwrap().into_bytes();
    assert_eq!(kavka_core::wire::records::batches(bytes).count(), 1);
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    let header = RequestHeader { key: ApiKey::ApiVersions, version: 99, correlation_id: 7, client_id: None };
    let mut encoder = Encoder::new();
    header.encode(&mut encoder).unwrap();
    harness.send_frame(connection, Bytes::from(encoder.finish().concat()));
    let response = harness.receive::<ApiVersionsRequest>(connection, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(response.api_keys.len(), 1, "only how to ask again");
}

#[test]
fn an_unknown_version_of_another_api_closes_the_connection() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.send_frame(connection, Bytes::from_static(b"\0\x03\0\x63\0\0\0\x07\xff\xff\0"));
    assert!(harness.is_closed(connection));
}

#[test]
fn a_request_that_cannot_be_decoded_closes_the_connection() {
    let mut harness = Harness::new(1);
    for frame in [&b""[..], b"\0\x03", b"\x7f\0\0\0\0\0\0\0\0\0", b"\0\x03\0\x01\0\0\0\x07\xff\xff\x7f\xff\xff\xff"] {
        let connection = harness.connect(1);
        harness.send_frame(connection, Bytes::from_static(frame));
        assert!(harness.is_closed(connection), "{frame:?}");
    }
}

#[test]
fn without_acknowledgement_there_is_no_answer_and_an_error_closes_the_connection() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.send(connection, 12, &ProduceRequest { acks: 0, ..produce_request(batch(&["a"])) });
    assert_eq!(harness.receive::<ProduceRequest>(connection, 12), None);
    assert_eq!(harness.cluster.offsets("t", 0), Some((0, 1)));
    let corrupt = batches::damaged(batch(&["a"]), 65);
    harness.send(connection, 12, &ProduceRequest { acks: 0, ..produce_request(corrupt) });
    assert!(harness.is_closed(connection));
}

#[test]
fn a_duplicate_is_answered_with_its_first_offset_and_not_written() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.produce(connection, sequenced(5, 0, 0, &["a", "b"]));
    harness.produce(connection, sequenced(5, 0, 2, &["c"]));
    let answer = harness.produce(connection, sequenced(5, 0, 0, &["a", "b"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
    assert_eq!(harness.cluster.offsets("t", 0), Some((0, 3)));
}

#[test]
fn a_leader_that_moved_is_named_with_its_address() {
    let mut harness = Harness::new(2);
    harness.cluster.set_port(2, 9_999);
    let connection = harness.connect(1);
    harness.cluster.move_leader(harness.now, "t", 0, 2).unwrap();
    let response = harness.call(connection, 12, &produce_request(batch(&["a"])));
    assert_eq!((response.node_endpoints[0].node_id, response.node_endpoints[0].port), (2, 9_999));
    let answer = only_produced(response);
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!((answer.current_leader.leader_id, answer.current_leader.leader_epoch), (Some(2), Some(1)));
}

#[test]
fn a_waiting_fetch_hears_that_its_leader_moved() {
    let mut harness = Harness::new(2);
    let connection = harness.connect(1);
    let mut request = FetchRequest { max_wait_ms: 500, ..fetch_request(0) };
    request.topics[0].partitions[0].current_leader_epoch = Some(0);
    harness.send(connection, 12, &request);
    harness.cluster.move_leader(harness.now, "t", 0, 2).unwrap();
    harness.collect();
    let fetched = only_fetched(harness.receive::<FetchRequest>(connection, 12).unwrap());
    assert_eq!(fetched.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

#[test]
fn a_leader_epoch_that_is_not_the_current_one_is_refused() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.cluster.move_leader(harness.now, "t", 0, 1).unwrap();
    for (epoch, error_code) in
        [(0, ErrorCode::FENCED_LEADER_EPOCH), (1, ErrorCode::NONE), (2, ErrorCode::UNKNOWN_LEADER_EPOCH)]
    {
        let mut request = fetch_request(0);
        request.topics[0].partitions[0].current_leader_epoch = Some(epoch);
        assert_eq!(only_fetched(harness.call(connection, 12, &request)).error_code, error_code);
    }
}

#[test]
fn a_client_that_fetched_what_was_lost_is_told_where_the_log_diverged() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.produce(connection, batch(&["a"]));
    harness.produce(connection, batch(&["b"]));
    harness.cluster.truncate(harness.now, "t", 0, 1).unwrap();
    let mut request = fetch_request(2);
    request.topics[0].partitions[0].last_fetched_epoch = Some(0);
    let fetched = only_fetched(harness.call(connection, 12, &request));
    assert_eq!((fetched.diverging_epoch.epoch, fetched.diverging_epoch.end_offset), (Some(0), Some(1)));
}

#[test]
fn a_stopped_broker_closes_its_connections_and_its_leaders_move() {
    let mut harness = Harness::new(3);
    harness.cluster.create_topic("replicated", 1, 3).unwrap();
    let connection = harness.connect(1);
    harness.cluster.set_broker_down(harness.now, 1);
    harness.collect();
    assert!(harness.is_closed(connection));
    assert_eq!(harness.cluster.handle_connect(1), None);
    assert_eq!(harness.cluster.leader("replicated", 0), Some((2, 1)));
    assert_eq!(harness.cluster.leader("t", 0), None, "it has no other replica");
    harness.cluster.set_broker_up(harness.now, 1);
    assert_eq!(harness.cluster.leader("t", 0), Some((1, 2)));
}

#[test]
fn retention_drops_the_oldest_batches() {
    let mut harness = Harness::with(ClusterConfig { max_partition_bytes: Some(12_000), ..ClusterConfig::default() });
    let connection = harness.connect(1);
    for _ in 0..5 {
        harness.produce(connection, batch(&["x".repeat(5_000)]));
    }
    assert_eq!(harness.cluster.offsets("t", 0), Some((3, 5)));
    let fetched = only_fetched(harness.call(connection, 12, &fetch_request(2)));
    assert_eq!(fetched.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn a_lost_answer_leaves_the_batch_in_the_log() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.cluster.faults().add(Fault::lose_answer().api(ApiKey::Produce));
    harness.send(connection, 12, &produce_request(batch(&["a"])));
    assert!(harness.is_closed(connection));
    assert_eq!(harness.cluster.offsets("t", 0), Some((0, 1)));
}

#[test]
fn a_failed_request_is_carried_out_only_when_the_fault_says_so() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.cluster.faults().add(Fault::fail(ErrorCode::REQUEST_TIMED_OUT).api(ApiKey::Produce));
    harness.cluster.faults().add(Fault::fail_after_applying(ErrorCode::REQUEST_TIMED_OUT).api(ApiKey::Produce));
    for end_offset in [0, 1] {
        assert_eq!(harness.produce(connection, batch(&["a"])).error_code, ErrorCode::REQUEST_TIMED_OUT);
        assert_eq!(harness.cluster.offsets("t", 0), Some((0, end_offset)));
    }
    assert_eq!(harness.produce(connection, batch(&["a"])).error_code, ErrorCode::NONE);
}

#[test]
fn a_delayed_answer_comes_when_its_time_has_come() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.cluster.faults().add(Fault::delay(Duration::from_secs(1)));
    harness.send(connection, 12, &produce_request(batch(&["a"])));
    harness.pass(Duration::from_millis(999));
    assert_eq!(harness.receive::<ProduceRequest>(connection, 12), None);
    harness.pass(Duration::from_millis(1));
    assert!(harness.receive::<ProduceRequest>(connection, 12).is_some());
}

#[test]
fn a_silent_broker_reads_nothing_more_from_that_connection() {
    let mut harness = Harness::new(1);
    let (silent, other) = (harness.connect(1), harness.connect(1));
    harness.cluster.faults().add(Fault::silence().connection(silent).after(1));
    for _ in 0..3 {
        harness.send(silent, 12, &produce_request(batch(&["a"])));
    }
    harness.pass(Duration::from_secs(3_600));
    assert!(harness.receive::<ProduceRequest>(silent, 12).is_some());
    assert_eq!(harness.receive::<ProduceRequest>(silent, 12), None);
    assert_eq!(harness.cluster.offsets("t", 0), Some((0, 1)));
    assert_eq!(harness.produce(other, batch(&["b"])).base_offset, 1);
}

#[test]
fn a_cluster_that_is_healed_closes_the_connections_whose_requests_it_left_without_an_answer() {
    let mut harness = Harness::new(1);
    let (silent, slow) = (harness.connect(1), harness.connect(1));
    harness.cluster.faults().add(Fault::silence().connection(silent));
    harness.cluster.faults().add(Fault::delay(Duration::from_secs(1)).connection(slow));
    for connection in [silent, slow] {
        harness.send(connection, 12, &produce_request(batch(&["a"])));
    }
    harness.cluster.heal();
    harness.pass(Duration::from_secs(1));
    assert!(harness.is_closed(silent) && !harness.is_closed(slow));
    assert!(harness.receive::<ProduceRequest>(slow, 12).is_some());
}

/// Writes the transactions of two producers into `t`: 7 aborts records 0 and 2, 8 commits record 1 and leaves 5 open.
fn write_transactions(harness: &mut Harness) {
    let stamp = |producer_id, is_marker: bool| Stamp {
        producer: Some(ProducerStamp { producer_id, producer_epoch: 0, base_sequence: if is_marker { -1 } else { 0 } }),
        transactional: true,
        control: is_marker,
    };
    let mut at = 0;
    let mut replicate = |records: Records| {
        let mut bytes = records.into_bytes().to_vec();
        kavka_core::wire::records::assign_offset(&mut bytes, at, 0);
        harness.cluster.replicate(harness.now, "t", 0, bytes.into()).unwrap();
        at += 1;
    };
    for producer_id in [7, 8, 7] {
        replicate(Batch::of(&["r"]).stamped(stamp(producer_id, false)).build());
    }
    for (producer_id, control_type) in [(7, ControlType::Abort), (8, ControlType::Commit)] {
        replicate(marker(stamp(producer_id, true), control_type));
    }
    replicate(Batch::of(&["r"]).stamped(stamp(8, false)).build());
}

fn marker(stamp: Stamp, control_type: ControlType) -> Records {
    let mut builder = BatchBuilder::new(&BufferPool::new(1 << 20, std::sync::Arc::new(|| {})), 1 << 20);
    builder.append(0, Some(&control_type.key()), Some(&end_transaction_marker(0)), &[]).unwrap();
    builder.seal(stamp, &mut Compressor::new(Compression::default()).unwrap()).unwrap()
}

#[test]
fn read_committed_ends_before_an_open_transaction_and_names_the_aborted_ones() {
    let mut harness = Harness::new(1);
    write_transactions(&mut harness);
    let connection = harness.connect(1);
    let request = FetchRequest { isolation_level: 1, ..fetch_request(1) };
    let data = only_fetched(harness.call(connection, 12, &request));
    assert_eq!((data.high_watermark, data.last_stable_offset), (6, Some(5)));
    let last = kavka_core::wire::records::batches(data.records.unwrap().into_bytes()).last().unwrap().unwrap();
    assert_eq!(last.header().last_offset, 4, "the marker before the open transaction");
    let aborted: Vec<_> = data.aborted_transactions.unwrap();
    assert_eq!(aborted, [fetch::AbortedTransaction { producer_id: 7, first_offset: 0 }]);
    let data = only_fetched(harness.call(connection, 12, &fetch_request(1)));
    assert_eq!(data.aborted_transactions, None);
    let last = kavka_core::wire::records::batches(data.records.unwrap().into_bytes()).last().unwrap().unwrap();
    assert_eq!(last.header().last_offset, 5, "read_uncommitted reads all");
}

#[test]
fn a_transaction_whose_marker_was_lost_is_open_again() {
    let mut harness = Harness::new(1);
    write_transactions(&mut harness);
    harness.cluster.truncate(harness.now, "t", 0, 3).unwrap();
    let connection = harness.connect(1);
    let request = FetchRequest { isolation_level: 1, ..fetch_request(0) };
    let data = only_fetched(harness.call(connection, 12, &request));
    assert_eq!((data.high_watermark, data.last_stable_offset), (3, Some(0)));
}

#[test]
fn a_broker_that_lags_behind_names_the_old_leader_and_may_lack_a_topic() {
    let mut harness = Harness::new(2);
    let connection = harness.connect(1);
    let topic = metadata::MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let ask = |harness: &mut Harness| {
        let response = harness.call(connection, 9, &request);
        let topic = &response.topics[0];
        (topic.error_code, topic.partitions.first().and_then(|partition| partition.leader_id))
    };
    harness.cluster.begin_lag(1, None);
    harness.cluster.move_leader(harness.now, "t", 0, 2).unwrap();
    assert_eq!(ask(&mut harness), (ErrorCode::NONE, Some(1)));
    harness.cluster.begin_lag(1, Some("t"));
    assert_eq!(ask(&mut harness), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
    harness.cluster.end_lag(1);
    assert_eq!(ask(&mut harness), (ErrorCode::NONE, Some(2)));
}

#[test]
fn brokers_of_another_version_close_all_connections_and_speak_other_versions() {
    let mut harness = Harness::new(1);
    let connection = harness.connect(1);
    harness.cluster.change_version(harness.now, KafkaVersion::V2_8);
    harness.collect();
    assert_eq!(harness.cluster.connections(), 0);
    assert!(harness.is_closed(connection));
    let connection = harness.connect(1);
    let response = harness.call(connection, 2, &ApiVersionsRequest::default());
    let produce = response.api_keys.iter().find(|api| api.api_key == ApiKey::Produce.number()).unwrap();
    assert_eq!(produce.max_version, 9);
}

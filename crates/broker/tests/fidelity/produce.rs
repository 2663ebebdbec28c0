//! Appending record batches.

use kavka_core::wire::messages::ProduceRequest;
use kavka_core::wire::records::{CompressionType, Records, batches};
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use crate::cluster::{Batch, Cluster, Topic, append, batch, end_offset, produce, produce_request, sequenced, unique};
use crate::fetch::fetch_all;

on_every_broker!(
    every_version_appends,
    offsets_follow_each_other,
    every_codec_is_kept_as_it_came,
    with_log_append_time_the_broker_sets_the_time,
    a_batch_over_max_message_bytes_is_too_large,
    a_wrong_crc_is_corrupt,
    a_batch_cut_short_is_no_batch,
    two_batches_for_one_partition_are_refused,
    an_idempotent_batch_needs_no_acks_all,
    an_unknown_topic_or_partition_is_told_apart_from_the_others,
    an_unknown_topic_id_is_named_so,
    a_broker_that_does_not_lead_names_the_leader,
    acks_other_than_all_0_and_1_are_refused,
    with_acks_0_there_is_no_answer,
    with_acks_0_an_error_closes_the_connection,
    min_insync_replicas_asks_for_no_more_than_there_are,
);

fn every_version_appends(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    for (offset, version) in connection.versions(ApiKey::Produce).filter(|version| *version >= 3).enumerate() {
        let answer = connection.call_version(version, &produce_request(&topic, 0, -1, batch(&["value"])));
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, offset as i64), "v{version}");
        assert_eq!(answer.log_append_time_ms, None);
        assert_eq!(answer.log_start_offset, (version >= 5).then_some(0));
    }
}

fn offsets_follow_each_other(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    assert_eq!(append(&mut connection, &topic, batch(&["a", "b", "c"])), 0);
    assert_eq!(append(&mut connection, &topic, batch(&["d"])), 3);
    assert_eq!(end_offset(&mut connection, &topic), 4);
}

fn every_codec_is_kept_as_it_came(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let long = "compressible ".repeat(100);
    let codecs = [CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4, CompressionType::Zstd];
    for codec in codecs {
        let sent = Batch::of(&[&long]).compressed(codec).build();
        let offset = append(&mut connection, &topic, sent.clone());
        let kept = fetch_all(&mut connection, &topic, offset);
        // The broker sets the offset and the leader epoch, in bytes 0 to 16.
        assert_eq!(kept[16..], sent.into_bytes()[16..], "{}", codec.name());
    }
}

fn with_log_append_time_the_broker_sets_the_time(cluster: &Cluster) {
    let topic = cluster.topic_with(&[("message.timestamp.type", "LogAppendTime")]);
    let mut connection = cluster.connect_to_leader(&topic);
    let answer = produce(&mut connection, &topic, batch(&["a", "b"]));
    let time = answer.log_append_time_ms.unwrap();
    assert!(time > 1001, "{answer:?}");
    let kept = batches(fetch_all(&mut connection, &topic, 0)).next().unwrap().unwrap();
    kept.check_crc().unwrap();
    assert_eq!(kept.header().max_timestamp, time);
}

fn a_batch_over_max_message_bytes_is_too_large(cluster: &Cluster) {
    let sent = batch(&[&"x".repeat(1000)]);
    for (room, error_code) in [(0, ErrorCode::NONE), (1, ErrorCode::MESSAGE_TOO_LARGE)] {
        let topic = cluster.topic_with(&[("max.message.bytes", &(sent.len() - room).to_string())]);
        let mut connection = cluster.connect_to_leader(&topic);
        let answer = produce(&mut connection, &topic, sent.clone());
        assert_eq!(answer.error_code, error_code);
        assert_eq!(end_offset(&mut connection, &topic), 1 - room as i64);
        assert_eq!(answer.base_offset, -(room as i64));
    }
}

fn a_wrong_crc_is_corrupt(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let mut bytes = batch(&["value"]).into_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let answer = produce(&mut connection, &topic, Records::from_segments(vec![bytes.into()]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::CORRUPT_MESSAGE, -1));
    assert_eq!(end_offset(&mut connection, &topic), 0);
}

fn a_batch_cut_short_is_no_batch(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let bytes = batch(&["value"]).into_bytes();
    let answer = produce(&mut connection, &topic, bytes.slice(..bytes.len() - 1).into());
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
}

fn two_batches_for_one_partition_are_refused(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let twice = Records::from_segments(vec![batch(&["a"]).into_bytes(), batch(&["b"]).into_bytes()]);
    assert_eq!(produce(&mut connection, &topic, twice).error_code, ErrorCode::INVALID_RECORD);
}

fn an_idempotent_batch_needs_no_acks_all(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let answer = connection.call(&produce_request(&topic, 0, 1, sequenced(12_345, 0, 0, &["a"])));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

fn an_unknown_topic_or_partition_is_told_apart_from_the_others(cluster: &Cluster) {
    let topic = cluster.topic();
    let nowhere = Topic { name: unique("nowhere"), ..topic.clone() };
    let mut connection = cluster.connect_to_leader(&topic);
    let mut request = produce_request(&topic, 0, -1, batch(&["a"]));
    request.topic_data.extend(produce_request(&topic, 7, -1, batch(&["b"])).topic_data);
    request.topic_data.extend(produce_request(&nowhere, 0, -1, batch(&["c"])).topic_data);
    // The newest version with topic names.
    let answer = connection.call_version(11, &request);
    let error_code = |name: &str, index| {
        let topics = answer.responses.iter().filter(|topic| topic.name == name);
        let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
        partitions.find(|partition| partition.index == index).unwrap().error_code
    };
    assert_eq!(error_code(&topic.name, 0), ErrorCode::NONE);
    assert_eq!(error_code(&topic.name, 7), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error_code(&nowhere.name, 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

fn an_unknown_topic_id_is_named_so(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    if *connection.versions(ApiKey::Produce).end() < 13 {
        // Kafka 3.9 has no topic ids here: its newest version uses names.
        assert_eq!(connection.versions(ApiKey::Produce), 0..=11);
        return;
    }
    let nowhere = Topic { name: String::new(), id: Uuid([9; 16]), leaders: vec![1] };
    assert_eq!(produce(&mut connection, &nowhere, batch(&["a"])).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

fn a_broker_that_does_not_lead_names_the_leader(cluster: &Cluster) {
    for replicas in [1, 2] {
        let topic = cluster.create(1, replicas, &[]);
        let leader = topic.leaders[0];
        let mut connection = cluster.connect(3 - leader);
        for version in connection.versions(ApiKey::Produce).filter(|version| *version >= 9) {
            let answer = connection.call_version(version, &produce_request(&topic, 0, -1, batch(&["a"])));
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            let named = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
            let endpoints: Vec<_> =
                answer.node_endpoints.iter().map(|end| (end.node_id, format!("{}:{}", end.host, end.port))).collect();
            if version >= 10 {
                assert_eq!(named, (Some(leader), Some(0)));
                assert_eq!(endpoints, [(leader, cluster.address(leader).to_owned())]);
            } else {
                assert_eq!((named, endpoints), ((None, None), vec![]));
            }
        }
    }
}

fn acks_other_than_all_0_and_1_are_refused(cluster: &Cluster) {
    let topic = cluster.create(1, 1, &[]);
    let leader = topic.leaders[0];
    for broker_id in [leader, 3 - leader] {
        let mut connection = cluster.connect(broker_id);
        for acks in [2, -2] {
            let answer = connection.call(&produce_request(&topic, 0, acks, batch(&["a"])));
            let answer = &answer.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS, "broker {broker_id}, leader {leader}");
            let unknown = connection.call(&produce_request(&topic, 9, acks, batch(&["a"])));
            let unknown = &unknown.responses[0].partition_responses[0];
            assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
    }
    assert_eq!(end_offset(&mut cluster.connect(leader), &topic), 0);
}

fn with_acks_0_there_is_no_answer(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let version = *connection.versions(ApiKey::Produce).end();
    connection.send(version, &produce_request(&topic, 0, 0, batch(&["silent"])));
    let heard = connection.send(version, &produce_request(&topic, 0, 1, batch(&["heard"])));
    let (id, answer) = connection.receive_with_id::<ProduceRequest>(version);
    assert_eq!((id, answer.responses[0].partition_responses[0].base_offset), (heard, 1));
}

fn with_acks_0_an_error_closes_the_connection(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect(3 - topic.leaders[0]);
    let version = *connection.versions(ApiKey::Produce).end();
    connection.send(version, &produce_request(&topic, 0, 0, batch(&["lost"])));
    assert!(connection.is_closed_by_the_broker());
}

fn min_insync_replicas_asks_for_no_more_than_there_are(cluster: &Cluster) {
    let topic = cluster.topic_with(&[("min.insync.replicas", "2")]);
    let answer = produce(&mut cluster.connect_to_leader(&topic), &topic, batch(&["a"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
}

//! Reading record batches.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kavka_core::wire::messages::FetchRequest;
use kavka_core::wire::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use kavka_core::wire::records::batches;
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use crate::cluster::{Cluster, Topic, append, batch, produce_request};
use crate::connection::Connection;

on_every_broker!(
    every_version_reads,
    a_fetch_returns_at_once_when_there_are_records,
    a_fetch_waits_for_records,
    a_fetch_without_records_returns_after_its_wait,
    a_fetch_waits_for_min_bytes,
    a_waiting_fetch_holds_up_its_own_connection_only,
    one_batch_comes_whatever_the_limits,
    only_whole_batches_come_within_the_limits_or_a_cut_one_at_the_end,
    an_offset_inside_a_batch_brings_the_whole_batch,
    the_end_of_the_log_is_in_range_and_what_lies_beyond_is_not,
    an_unknown_partition_is_named_so,
    an_unknown_topic_id_is_named_so,
    who_has_no_replica_names_the_leader,
    leader_epochs_are_compared,
    a_truncated_log_is_told_by_its_diverging_epoch,
);

fn partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() }
}

/// A fetch without a session that does not wait.
pub(crate) fn fetch_request(topic: &Topic, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: 0,
        session_epoch: None,
        topics: vec![FetchTopic { topic: topic.name.clone(), topic_id: topic.id, partitions }],
        ..FetchRequest::default()
    }
}

pub(crate) fn fetch_from(topic: &Topic, offset: i64) -> FetchRequest {
    fetch_request(topic, vec![partition(0, offset)])
}

/// The response for the only partition in the request.
fn fetch(connection: &mut Connection, request: &FetchRequest) -> PartitionData {
    let answer = connection.call(request);
    assert_eq!(answer.error_code, ErrorCode::NONE);
    only(answer)
}

fn only(mut answer: kavka_core::wire::messages::FetchResponse) -> PartitionData {
    answer.responses.remove(0).partitions.remove(0)
}

/// The records of partition 0 from an offset on, as bytes.
pub(crate) fn fetch_all(connection: &mut Connection, topic: &Topic, offset: i64) -> Bytes {
    let data = fetch(connection, &fetch_from(topic, offset));
    assert_eq!(data.error_code, ErrorCode::NONE);
    data.records.unwrap().into_bytes()
}

/// The base offsets of the batches in these bytes.
fn base_offsets(bytes: Bytes) -> Vec<i64> {
    batches(bytes).map(|batch| batch.unwrap().header().base_offset).collect()
}

fn bytes_of(data: PartitionData) -> Bytes {
    data.records.map_or(Bytes::new(), kavka_core::wire::records::Records::into_bytes)
}

fn every_version_reads(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    append(&mut connection, &topic, batch(&["a", "b"]));
    append(&mut connection, &topic, batch(&["c"]));
    for version in connection.versions(ApiKey::Fetch).filter(|version| *version >= 4) {
        let data = only(connection.call_version(version, &fetch_from(&topic, 0)));
        assert_eq!((data.error_code, data.high_watermark), (ErrorCode::NONE, 3), "v{version}");
        assert_eq!((data.last_stable_offset, data.log_start_offset), (Some(3), (version >= 5).then_some(0)));
        assert_eq!(data.aborted_transactions, None);
        assert_eq!(data.preferred_read_replica, None);
        assert_eq!(base_offsets(bytes_of(data)), [0, 2]);
    }
    let committed = FetchRequest { isolation_level: 1, ..fetch_from(&topic, 0) };
    let data = fetch(&mut connection, &committed);
    assert!(data.aborted_transactions.is_none_or(|aborted| aborted.is_empty()));
    assert_eq!(base_offsets(data.records.unwrap().into_bytes()), [0, 2]);
}

/// Longer than the test waits for an answer.
const TOO_LONG_MS: i32 = 300_000;

fn a_fetch_returns_at_once_when_there_are_records(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    append(&mut connection, &topic, batch(&["a"]));
    fetch(&mut connection, &FetchRequest { max_wait_ms: TOO_LONG_MS, ..fetch_from(&topic, 0) });
}

fn a_fetch_waits_for_records(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut reader = cluster.connect_to_leader(&topic);
    let version = *reader.versions(ApiKey::Fetch).end();
    reader.send(version, &FetchRequest { max_wait_ms: TOO_LONG_MS, ..fetch_from(&topic, 0) });
    append(&mut cluster.connect_to_leader(&topic), &topic, batch(&["late"]));
    let data = only(reader.receive::<FetchRequest>(version));
    assert_eq!(base_offsets(bytes_of(data)), [0]);
}

fn a_fetch_without_records_returns_after_its_wait(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let begin = Instant::now();
    let data = fetch(&mut connection, &FetchRequest { max_wait_ms: 300, ..fetch_from(&topic, 0) });
    assert!(begin.elapsed() >= Duration::from_millis(299), "{:?}", begin.elapsed());
    assert_eq!((data.error_code, data.high_watermark, bytes_of(data).len()), (ErrorCode::NONE, 0, 0));
}

fn a_fetch_waits_for_min_bytes(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut reader = cluster.connect_to_leader(&topic);
    let mut writer = cluster.connect_to_leader(&topic);
    let sent = batch(&["a"]);
    let version = *reader.versions(ApiKey::Fetch).end();
    let min_bytes = sent.len() as i32 + 1;
    reader.send(version, &FetchRequest { max_wait_ms: TOO_LONG_MS, min_bytes, ..fetch_from(&topic, 0) });
    append(&mut writer, &topic, sent.clone());
    assert!(!reader.has_answer());
    append(&mut writer, &topic, sent);
    assert_eq!(base_offsets(bytes_of(only(reader.receive::<FetchRequest>(version)))), [0, 1]);
}

fn a_waiting_fetch_holds_up_its_own_connection_only(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut reader = cluster.connect_to_leader(&topic);
    let (fetch, produce) = (*reader.versions(ApiKey::Fetch).end(), *reader.versions(ApiKey::Produce).end());
    reader.send(fetch, &FetchRequest { max_wait_ms: 400, ..fetch_from(&topic, 0) });
    reader.send(produce, &produce_request(&topic, 0, -1, batch(&["behind"])));
    let data = only(reader.receive::<FetchRequest>(fetch));
    assert_eq!(data.high_watermark, 0, "the record behind the fetch came after its answer");
    let answer = reader.receive::<kavka_core::wire::messages::ProduceRequest>(produce);
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 0);
}

fn one_batch_comes_whatever_the_limits(cluster: &Cluster) {
    let topic = cluster.create(2, 1, &[]);
    let topic = Topic { leaders: vec![topic.leaders[0]], ..topic };
    let mut connection = cluster.connect_to_leader(&topic);
    let sent = batch(&[&"x".repeat(5000)]);
    append(&mut connection, &topic, sent.clone());
    append(&mut connection, &topic, sent.clone());
    let tiny = FetchPartition { partition_max_bytes: 1, ..partition(0, 0) };
    for (max_bytes, asked) in [(1, partition(0, 0)), (1 << 20, tiny)] {
        let request = FetchRequest { max_bytes, ..fetch_request(&topic, vec![asked]) };
        assert_eq!(bytes_of(fetch(&mut connection, &request)).len(), sent.len());
    }
}

fn only_whole_batches_come_within_the_limits_or_a_cut_one_at_the_end(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let sent = batch(&[&"x".repeat(1000)]);
    for _ in 0..5 {
        append(&mut connection, &topic, sent.clone());
    }
    let asked = FetchPartition { partition_max_bytes: 3 * sent.len() as i32 + 10, ..partition(0, 1) };
    let data = fetch(&mut connection, &fetch_request(&topic, vec![asked]));
    assert_eq!(data.high_watermark, 5);
    assert_eq!(base_offsets(data.records.unwrap().into_bytes()), [1, 2, 3]);
}

fn an_offset_inside_a_batch_brings_the_whole_batch(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    append(&mut connection, &topic, batch(&["a", "b", "c"]));
    append(&mut connection, &topic, batch(&["d"]));
    assert_eq!(base_offsets(fetch_all(&mut connection, &topic, 2)), [0, 3]);
    assert_eq!(base_offsets(fetch_all(&mut connection, &topic, 3)), [3]);
}

fn the_end_of_the_log_is_in_range_and_what_lies_beyond_is_not(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    append(&mut connection, &topic, batch(&["a"]));
    assert_eq!(fetch_all(&mut connection, &topic, 1), "");
    for offset in [2, -1] {
        let request = FetchRequest { max_wait_ms: TOO_LONG_MS, ..fetch_from(&topic, offset) };
        let data = fetch(&mut connection, &request);
        assert_eq!((data.error_code, data.high_watermark), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
        assert_eq!(bytes_of(data).len(), 0);
    }
}

fn an_unknown_partition_is_named_so(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let data = fetch(&mut connection, &fetch_request(&topic, vec![partition(7, 0)]));
    assert_eq!((data.partition_index, data.error_code), (7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

fn an_unknown_topic_id_is_named_so(cluster: &Cluster) {
    let nowhere = Topic { name: "nowhere".into(), id: Uuid([9; 16]), leaders: vec![1] };
    let mut connection = cluster.connect(1);
    assert_eq!(fetch(&mut connection, &fetch_from(&nowhere, 0)).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let by_name = only(connection.call_version(12, &fetch_from(&nowhere, 0)));
    assert_eq!(by_name.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

fn who_has_no_replica_names_the_leader(cluster: &Cluster) {
    let topic = cluster.topic();
    let leader = topic.leaders[0];
    let mut connection = cluster.connect(3 - leader);
    for version in [15, 16] {
        let mut answer = connection.call_version(version, &fetch_from(&topic, 0));
        let data = answer.responses.remove(0).partitions.remove(0);
        assert_eq!(data.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        if version == 16 {
            assert_eq!((data.current_leader.leader_id, data.current_leader.leader_epoch), (Some(leader), Some(0)));
            let end = &answer.node_endpoints[0];
            assert_eq!((end.node_id, format!("{}:{}", end.host, end.port)), (leader, cluster.address(leader).into()));
        }
    }
}

fn leader_epochs_are_compared(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    let leader = cluster.move_leader(&topic);
    let epoch = crate::cluster::metadata_of(&mut cluster.connect(leader), &topic.name).partitions[0].leader_epoch;
    let epoch = epoch.unwrap();
    assert!(epoch >= 1);
    let mut connection = cluster.connect(leader);
    let expected = [
        (None, ErrorCode::NONE),
        (Some(epoch), ErrorCode::NONE),
        (Some(epoch - 1), ErrorCode::FENCED_LEADER_EPOCH),
        (Some(epoch + 1), ErrorCode::UNKNOWN_LEADER_EPOCH),
    ];
    for (current_leader_epoch, error_code) in expected {
        let asked = FetchPartition { current_leader_epoch, ..partition(0, 0) };
        let data = fetch(&mut connection, &fetch_request(&topic, vec![asked]));
        assert_eq!(data.error_code, error_code, "{current_leader_epoch:?}");
    }
}

fn a_truncated_log_is_told_by_its_diverging_epoch(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    append(&mut cluster.connect_to_leader(&topic), &topic, batch(&["a", "b"]));
    let leader = cluster.move_leader(&topic);
    let mut connection = cluster.connect(leader);
    append(&mut connection, &topic, batch(&["c"]));
    // The reader says that it has read up to 3 in epoch 0, which ended at 2.
    let asked = FetchPartition { last_fetched_epoch: Some(0), ..partition(0, 3) };
    let data = fetch(&mut connection, &fetch_request(&topic, vec![asked]));
    assert_eq!(data.error_code, ErrorCode::NONE);
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (Some(0), Some(2)));
    // A reader that stopped in time gets no diverging epoch.
    let asked = FetchPartition { last_fetched_epoch: Some(0), ..partition(0, 2) };
    let data = fetch(&mut connection, &fetch_request(&topic, vec![asked]));
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (None, None));
    assert_eq!(base_offsets(data.records.unwrap().into_bytes()), [2]);
}

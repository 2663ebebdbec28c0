//! Deleting records from the front of a partition.

use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::DeleteRecordsRequest;
use kavka_core::wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};

use crate::cluster::{Cluster, Topic, append, batch, offset_at, until};
use crate::connection::Connection;

on_every_broker!(
    records_before_the_offset_are_deleted,
    without_an_offset_every_record_is_deleted,
    an_offset_before_the_start_of_the_log_changes_nothing,
    an_offset_behind_the_end_is_out_of_range,
    a_partition_that_does_not_exist_is_unknown,
    only_the_leader_deletes_records,
);

const EARLIEST: i64 = -2;

fn delete(
    connection: &mut Connection,
    topic: &str,
    partition_index: i32,
    offset: Option<i64>,
) -> (ErrorCode, Option<i64>) {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    let answer = connection.call(&DeleteRecordsRequest { topics, timeout_ms: 10_000 });
    assert_eq!(answer.topics[0].name, topic);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.partition_index, partition_index);
    (partition.error_code, partition.low_watermark)
}

/// A topic with records at the offsets 0 to 4.
fn written(cluster: &Cluster) -> (Topic, Connection) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    for value in ["a", "b", "c", "d", "e"] {
        append(&mut connection, &topic, batch(&[value]));
    }
    // The high watermark follows the end of the log with a short delay.
    until("the records to be readable", || (offset_at(&mut connection, &topic, 0, -1).1 == Some(5)).then_some(()));
    (topic, connection)
}

fn records_before_the_offset_are_deleted(cluster: &Cluster) {
    let (topic, mut connection) = written(cluster);
    assert_eq!(delete(&mut connection, &topic.name, 0, Some(3)), (ErrorCode::NONE, Some(3)));
    assert_eq!(offset_at(&mut connection, &topic, 0, EARLIEST), (ErrorCode::NONE, Some(3)));
}

fn without_an_offset_every_record_is_deleted(cluster: &Cluster) {
    let (topic, mut connection) = written(cluster);
    assert_eq!(delete(&mut connection, &topic.name, 0, None), (ErrorCode::NONE, Some(5)));
    assert_eq!(offset_at(&mut connection, &topic, 0, EARLIEST), (ErrorCode::NONE, Some(5)));
}

fn an_offset_before_the_start_of_the_log_changes_nothing(cluster: &Cluster) {
    let (topic, mut connection) = written(cluster);
    delete(&mut connection, &topic.name, 0, Some(3));
    assert_eq!(delete(&mut connection, &topic.name, 0, Some(1)), (ErrorCode::NONE, Some(3)));
}

fn an_offset_behind_the_end_is_out_of_range(cluster: &Cluster) {
    let (topic, mut connection) = written(cluster);
    for offset in [6, -2] {
        let answer = delete(&mut connection, &topic.name, 0, Some(offset));
        assert_eq!(answer, (ErrorCode::OFFSET_OUT_OF_RANGE, None), "offset {offset}");
    }
}

fn a_partition_that_does_not_exist_is_unknown(cluster: &Cluster) {
    let (topic, mut connection) = written(cluster);
    assert_eq!(delete(&mut connection, &topic.name, 7, Some(0)), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
    assert_eq!(delete(&mut connection, "nowhere", 0, Some(0)), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
}

fn only_the_leader_deletes_records(cluster: &Cluster) {
    let (topic, _) = written(cluster);
    let mut other = cluster.connect(3 - topic.leaders[0]);
    assert_eq!(delete(&mut other, &topic.name, 0, Some(1)), (ErrorCode::NOT_LEADER_OR_FOLLOWER, None));
}

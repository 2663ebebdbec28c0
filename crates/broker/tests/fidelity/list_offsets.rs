//! Offsets by time, and where leader epochs end.

use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic};
use kavka_core::wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kavka_core::wire::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use kavka_core::wire::records::CompressionType;
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Batch, Cluster, Topic, append, batch, metadata_of};
use crate::connection::Connection;

on_every_broker!(
    earliest_and_latest_are_the_ends_of_the_log,
    a_time_finds_the_first_record_at_or_after_it,
    a_time_after_every_record_finds_nothing,
    the_largest_timestamp_is_found_with_its_record,
    an_unknown_partition_has_no_offsets,
    a_broker_that_does_not_lead_has_no_offsets,
    leader_epochs_are_compared,
    every_epoch_ends_where_the_next_one_begins,
);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

fn request(topic: &Topic, partition: i32, current_leader_epoch: Option<i32>, timestamp: i64) -> ListOffsetsRequest {
    let asked = ListOffsetsPartition {
        partition_index: partition,
        current_leader_epoch,
        timestamp,
        ..ListOffsetsPartition::default()
    };
    let topics = vec![ListOffsetsTopic { name: topic.name.clone(), partitions: vec![asked] }];
    ListOffsetsRequest { replica_id: None, topics, ..ListOffsetsRequest::default() }
}

fn list(connection: &mut Connection, topic: &Topic, timestamp: i64) -> ListOffsetsPartitionResponse {
    connection.call(&request(topic, 0, None, timestamp)).topics.remove(0).partitions.remove(0)
}

fn earliest_and_latest_are_the_ends_of_the_log(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    assert_eq!(list(&mut connection, &topic, EARLIEST).offset, Some(0));
    assert_eq!(list(&mut connection, &topic, LATEST).offset, Some(0));
    append(&mut connection, &topic, batch(&["a", "b", "c"]));
    for version in connection.versions(ApiKey::ListOffsets).filter(|version| *version >= 1) {
        for (timestamp, offset) in [(EARLIEST, 0), (LATEST, 3)] {
            let answer = connection.call_version(version, &request(&topic, 0, None, timestamp));
            let answer = &answer.topics[0].partitions[0];
            assert_eq!((answer.error_code, answer.offset), (ErrorCode::NONE, Some(offset)), "v{version}");
            assert_eq!(answer.timestamp, None);
            assert_eq!(answer.leader_epoch, (version >= 4).then_some(0));
        }
    }
}

fn times(cluster: &Cluster, codec: CompressionType) -> (Topic, Connection) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    append(&mut connection, &topic, Batch::at(&[(100, "a"), (300, "b"), (200, "c")]).compressed(codec).build());
    append(&mut connection, &topic, Batch::at(&[(250, "d"), (400, "e")]).compressed(codec).build());
    (topic, connection)
}

fn a_time_finds_the_first_record_at_or_after_it(cluster: &Cluster) {
    for codec in [CompressionType::None, CompressionType::Zstd] {
        let (topic, mut connection) = times(cluster, codec);
        for (time, found) in [(0, (0, 100)), (100, (0, 100)), (101, (1, 300)), (300, (1, 300)), (301, (4, 400))] {
            let answer = list(&mut connection, &topic, time);
            assert_eq!((answer.offset, answer.timestamp), (Some(found.0), Some(found.1)), "{time}");
            assert_eq!(answer.leader_epoch, Some(0));
        }
    }
}

fn a_time_after_every_record_finds_nothing(cluster: &Cluster) {
    let (topic, mut connection) = times(cluster, CompressionType::None);
    let answer = list(&mut connection, &topic, 401);
    assert_eq!((answer.error_code, answer.offset, answer.timestamp), (ErrorCode::NONE, None, None));
}

fn the_largest_timestamp_is_found_with_its_record(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let none = list(&mut connection, &topic, MAX_TIMESTAMP);
    assert_eq!((none.error_code, none.offset, none.timestamp), (ErrorCode::NONE, None, None));
    append(&mut connection, &topic, Batch::at(&[(100, "a"), (300, "b"), (200, "c")]).build());
    append(&mut connection, &topic, Batch::at(&[(250, "d")]).build());
    let answer = list(&mut connection, &topic, MAX_TIMESTAMP);
    assert_eq!((answer.offset, answer.timestamp), (Some(1), Some(300)));
}

fn an_unknown_partition_has_no_offsets(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let answer = connection.call(&request(&topic, 7, None, LATEST)).topics.remove(0).partitions.remove(0);
    assert_eq!((answer.error_code, answer.offset), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
}

fn a_broker_that_does_not_lead_has_no_offsets(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    let answer = list(&mut cluster.connect(3 - topic.leaders[0]), &topic, LATEST);
    assert_eq!((answer.error_code, answer.offset), (ErrorCode::NOT_LEADER_OR_FOLLOWER, None));
}

fn leader_epochs_are_compared(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    let leader = cluster.move_leader(&topic);
    let mut connection = cluster.connect(leader);
    let epoch = metadata_of(&mut connection, &topic.name).partitions[0].leader_epoch.unwrap();
    let expected = [
        (epoch, ErrorCode::NONE),
        (epoch - 1, ErrorCode::FENCED_LEADER_EPOCH),
        (epoch + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ];
    for (current, error_code) in expected {
        let answer = connection.call(&request(&topic, 0, Some(current), LATEST));
        assert_eq!(answer.topics[0].partitions[0].error_code, error_code);
    }
}

fn epoch_end(connection: &mut Connection, topic: &Topic, leader_epoch: i32) -> EpochEndOffset {
    let asked = OffsetForLeaderPartition { partition: 0, current_leader_epoch: None, leader_epoch };
    let topics = vec![OffsetForLeaderTopic { topic: topic.name.clone(), partitions: vec![asked] }];
    // Replica id -1 means a consumer.
    let answer = connection.call(&OffsetForLeaderEpochRequest { replica_id: -1, topics });
    answer.topics[0].partitions[0].clone()
}

fn every_epoch_ends_where_the_next_one_begins(cluster: &Cluster) {
    let topic = cluster.create(1, 2, &[]);
    append(&mut cluster.connect_to_leader(&topic), &topic, batch(&["a", "b"]));
    let leader = cluster.move_leader(&topic);
    let mut connection = cluster.connect(leader);
    let epoch = metadata_of(&mut connection, &topic.name).partitions[0].leader_epoch.unwrap();
    append(&mut connection, &topic, batch(&["c"]));
    let end = |answer: EpochEndOffset| (answer.error_code, answer.leader_epoch, answer.end_offset);
    assert_eq!(end(epoch_end(&mut connection, &topic, 0)), (ErrorCode::NONE, Some(0), Some(2)));
    assert_eq!(end(epoch_end(&mut connection, &topic, epoch)), (ErrorCode::NONE, Some(epoch), Some(3)));
    assert_eq!(end(epoch_end(&mut connection, &topic, epoch + 1)), (ErrorCode::NONE, None, None));
    let elsewhere = epoch_end(&mut cluster.connect(3 - leader), &topic, 0);
    assert_eq!(end(elsewhere), (ErrorCode::NOT_LEADER_OR_FOLLOWER, None, None));
}

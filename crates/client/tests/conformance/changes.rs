//! The cluster changes while clients use it.

use std::thread;
use std::time::Duration;

use kavka::{Call, ErrorCode, Record, StartPosition, Target, TopicPartition};
use kavka_core::wire::messages::OffsetFetchRequest;
use kavka_core::wire::messages::offset_fetch::FETCH_BY_ID;
use kavka_test_support::on_every_listener;
use kavka_test_support::rig::{find_topic, wait};
use kavka_test_support::{LIMIT, unique, until};

use crate::cluster::{Cluster, Owned, Writer, assert_nothing_comes, numbered, read_all, reader, take, values};
use crate::membership::{group, leave, member, read};

on_every_listener!(
    a_moved_leader_loses_and_repeats_nothing,
    added_partitions_are_written_and_read,
    a_topic_deleted_and_made_again_is_written_anew,
    a_topic_made_again_stops_its_readers_with_an_error,
    a_group_reads_a_topic_made_again_from_its_beginning_although_a_member_commits_what_it_read_before,
);

fn a_moved_leader_loses_and_repeats_nothing(cluster: &Cluster) {
    let topic = cluster.create(&unique("moving"), 1, 2, &[]);
    let writer = Writer::new(cluster, &topic);
    let consumer = reader(&writer.client, &topic, [0]);
    let sent = numbered(0..6000);
    thread::scope(|scope| {
        let reading = scope.spawn(|| values(&take(&consumer, sent.len())));
        let mut deliveries = Vec::new();
        for part in sent.chunks(2000) {
            deliveries.extend(part.iter().map(|value| writer.send(value)));
            // While some of the records are in flight.
            cluster.move_leader(&topic);
        }
        for (delivery, offset) in deliveries.into_iter().zip(0..) {
            assert_eq!(delivery.wait().unwrap().offset, Some(offset));
        }
        assert!(reading.join().unwrap() == sent);
    });
    assert_eq!(values(&read_all(cluster, &topic, 1, sent.len())[&0]), sent);
}

fn added_partitions_are_written_and_read(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(["before"]);
    cluster.add_partitions(&topic, 3);
    until("the producer to know", || {
        wait(&writer.client, writer.client.clone().refreshed()).unwrap();
        find_topic(&writer.client, &writer.producer, &topic, false).unwrap();
        (writer.producer.partition_count(writer.topic) == 3).then_some(())
    });
    for partition in 0..3 {
        let record = Record { value: Some(b"after"), partition: Some(partition), ..Record::default() };
        writer.send_record(&record).wait().unwrap();
    }
    let read = read_all(cluster, &topic, 3, 4);
    assert_eq!(read.values().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
}

/// Deletes a topic and creates it again; waits until the writer knows. Kafka 3.9 cannot tell records for the old topic
/// from records for the new one.
fn make_again(cluster: &Cluster, writer: &Writer, topic: &str) {
    let id = || writer.client.metadata().topic(topic).map(|topic| topic.topic_id);
    let old = id();
    cluster.delete(topic);
    cluster.create(topic, 1, 1, &[]);
    until("the writer to know", || {
        wait(&writer.client, writer.client.clone().refreshed()).unwrap();
        (id() != old && writer.client.metadata().leader(topic, 0).is_some()).then_some(())
    });
}

fn a_topic_deleted_and_made_again_is_written_anew(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..10));
    make_again(cluster, &writer, &topic);
    let deliveries: Vec<_> = numbered(10..20).iter().map(|value| writer.send(value)).collect();
    for (delivery, offset) in deliveries.into_iter().zip(0..) {
        assert_eq!(delivery.wait().unwrap().offset, Some(offset));
    }
    assert_eq!(values(&read_all(cluster, &topic, 1, 10)[&0]), numbered(10..20));
}

fn a_topic_made_again_stops_its_readers_with_an_error(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..10));
    let consumer = reader(&writer.client, &topic, [0]);
    take(&consumer, 5);
    make_again(cluster, &writer, &topic);
    writer.write(numbered(10..20));
    let partition = TopicPartition::new(topic.as_str(), 0);
    let error = until("the error", || match consumer.next_records(1, Duration::from_millis(500)) {
        Ok(records) => {
            // Records that were fetched before the topic was deleted may still be handed out.
            assert!(records.iter().all(|record| record.offset >= 5));
            assert!(values(&records).iter().all(|value| numbered(5..10).contains(value)), "{records:?}");
            None
        }
        Err(error) => Some(error),
    });
    let codes = [ErrorCode::INCONSISTENT_TOPIC_ID, ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert!(error.code().is_some_and(|code| codes.contains(&code)), "{error}");
    assert_nothing_comes(cluster, &consumer);
    consumer.seek(&partition, StartPosition::Earliest).unwrap();
    assert_eq!(values(&take(&consumer, 10)), numbered(10..20));
}

fn a_group_reads_a_topic_made_again_from_its_beginning_although_a_member_commits_what_it_read_before(
    cluster: &Cluster,
) {
    let (topic, group_id, client) = (cluster.topic(1), unique("group"), cluster.client());
    let partition = TopicPartition::new(topic.as_str(), 0);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..10));
    let often = group("cooperative-sticky").auto_commit_interval(Duration::from_millis(50));
    let first = member(&client, &group_id, often.clone(), &topic);
    read(&first, 10);
    let old = first.positions();
    make_again(cluster, &writer, &topic);
    // More than the old topic had.
    writer.write(numbered(0..30));

    let by_id = Call { min_version: FETCH_BY_ID, ..Call::new(Target::Any, OffsetFetchRequest::default()) };
    let asking = client.clone();
    if wait(&client, async move { asking.call(by_id).await }).is_err() {
        // An older coordinator would take these offsets for the new topic's until the member knows of that.
        until("the member to know", || {
            wait(&client, client.clone().refreshed()).unwrap();
            let known = client.metadata().topic(&topic).map(|topic| topic.topic_id);
            (known != Some(old[&partition].topic_id)).then_some(())
        });
    }
    let error = first.commit_sync(old, LIMIT).unwrap_err();
    let codes = [ErrorCode::INCONSISTENT_TOPIC_ID, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert!(error.code().is_some_and(|code| codes.contains(&code)), "{error}");
    let committed = || {
        let (asking, group_id, keys) = (client.clone(), group_id.clone(), [partition.clone()]);
        let asked = async move { asking.committed_offsets(&group_id, &keys, LIMIT).await };
        wait(&client, asked).unwrap().into_values().next().map(|committed| committed.offset)
    };
    assert_eq!(committed(), None);

    until("the error", || {
        let error = first.next_records(1, Duration::from_millis(500)).err()?;
        (error.code() == Some(ErrorCode::INCONSISTENT_TOPIC_ID)).then_some(())
    });
    first.seek(&partition, StartPosition::Earliest).unwrap();
    assert_eq!(read(&first, 5), (0..5).map(|offset| (0, offset)).collect::<Vec<_>>());
    leave(&first);
    assert_eq!(committed(), Some(5));
    let second = member(&client, &group_id, often, &topic);
    assert_eq!(read(&second, 25), (5..30).map(|offset| (0, offset)).collect::<Vec<_>>());
    leave(&second);
}

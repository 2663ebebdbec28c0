//! Where reading starts and continues.

use kavka::blocking::Consumer;
use kavka::{AutoOffsetReset, ConsumerConfig, ErrorCode, Record, StartPosition, TopicPartition};
use kavka_test_support::on_every_listener;
use kavka_test_support::until;

use crate::cluster::{Cluster, Writer, assert_nothing_comes, numbered, reader, reader_from, take, values};

on_every_listener!(
    reading_begins_at_the_earliest_offset,
    reading_begins_at_the_latest_offset,
    reading_begins_at_an_offset,
    reading_begins_at_a_time,
    a_seek_counts_from_the_next_record_on,
    a_paused_partition_gives_nothing_and_loses_nothing,
    the_position_is_behind_the_last_record_handed_out,
    out_of_range_begins_at_the_earliest_by_policy,
    out_of_range_begins_at_the_latest_by_policy,
    out_of_range_without_a_policy_is_an_error_once,
);

fn hundred(cluster: &Cluster) -> (Writer, String, TopicPartition) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..100));
    let partition = TopicPartition::new(topic.as_str(), 0);
    (writer, topic, partition)
}

fn reading_begins_at_the_earliest_offset(cluster: &Cluster) {
    let (writer, topic, _) = hundred(cluster);
    let consumer = reader_from(&writer.client, &topic, [0], StartPosition::Earliest);
    assert_eq!(values(&take(&consumer, 100)), numbered(0..100));
}

fn reading_begins_at_the_latest_offset(cluster: &Cluster) {
    let (writer, topic, partition) = hundred(cluster);
    let consumer = reader_from(&writer.client, &topic, [0], StartPosition::Latest);
    until("the end to be found", || consumer.position(&partition));
    writer.write(["new"]);
    assert_eq!(values(&take(&consumer, 1)), ["new"]);
}

fn reading_begins_at_an_offset(cluster: &Cluster) {
    let (writer, topic, _) = hundred(cluster);
    let consumer = reader_from(&writer.client, &topic, [0], StartPosition::Offset(37));
    let read = take(&consumer, 63);
    assert_eq!((read[0].offset, values(&read)), (37, numbered(37..100)));
}

fn reading_begins_at_a_time(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    for (value, time) in numbered(0..100).iter().zip((1000..).step_by(10)) {
        let record = Record { value: Some(value.as_bytes()), timestamp_ms: Some(time), ..Record::default() };
        writer.send_record(&record);
    }
    writer.flush();
    for (time, first) in [(0, 0), (1000, 0), (1001, 1), (1500, 50), (1501, 51), (1990, 99)] {
        let consumer = reader_from(&writer.client, &topic, [0], StartPosition::Timestamp(time));
        assert_eq!(take(&consumer, 1)[0].offset, first, "{time}");
    }
    let consumer = reader_from(&writer.client, &topic, [0], StartPosition::Timestamp(5000));
    let position = until("the end", || consumer.position(&TopicPartition::new(topic.as_str(), 0)));
    assert_eq!(position, 100);
}

fn a_seek_counts_from_the_next_record_on(cluster: &Cluster) {
    let (writer, topic, partition) = hundred(cluster);
    let consumer = reader(&writer.client, &topic, [0]);
    for (start, first) in [(StartPosition::Offset(80), 80), (StartPosition::Offset(5), 5), (StartPosition::Earliest, 0)]
    {
        // In the middle of the fetched records.
        take(&consumer, 3);
        consumer.seek(&partition, start).unwrap();
        assert_eq!(values(&take(&consumer, 10)), numbered(first..first + 10));
    }
    consumer.seek(&partition, StartPosition::Offset(100)).unwrap();
    assert_nothing_comes(cluster, &consumer);
}

fn a_paused_partition_gives_nothing_and_loses_nothing(cluster: &Cluster) {
    let (writer, topic, partition) = hundred(cluster);
    let consumer = reader(&writer.client, &topic, [0]);
    assert_eq!(values(&take(&consumer, 10)), numbered(0..10));
    consumer.pause(&partition).unwrap();
    assert!(consumer.is_paused(&partition));
    assert_nothing_comes(cluster, &consumer);
    consumer.resume(&partition).unwrap();
    assert_eq!(values(&take(&consumer, 90)), numbered(10..100));
}

fn the_position_is_behind_the_last_record_handed_out(cluster: &Cluster) {
    let (writer, topic, partition) = hundred(cluster);
    let consumer = reader(&writer.client, &topic, [0]);
    for read in 1..=10 {
        take(&consumer, 1);
        assert_eq!(consumer.position(&partition), Some(read));
    }
    take(&consumer, 90);
    assert_eq!((consumer.position(&partition), consumer.lag(&partition)), (Some(100), Some(0)));
    assert_eq!(consumer.high_watermark(&partition), Some(100));
}

fn out_of_range(cluster: &Cluster, auto_offset_reset: AutoOffsetReset) -> (Writer, Consumer, TopicPartition) {
    let (writer, _, partition) = hundred(cluster);
    let consumer =
        Consumer::from(writer.client.consumer(ConsumerConfig::default().auto_offset_reset(auto_offset_reset)).unwrap());
    consumer.add(&partition, StartPosition::Offset(5000)).unwrap();
    (writer, consumer, partition)
}

fn out_of_range_begins_at_the_earliest_by_policy(cluster: &Cluster) {
    let (_writer, consumer, _) = out_of_range(cluster, AutoOffsetReset::Earliest);
    assert_eq!(values(&take(&consumer, 100)), numbered(0..100));
    let resets: Vec<_> = consumer.take_resets().iter().map(|reset| (reset.from, reset.to)).collect();
    assert_eq!(resets, [(5000, 0)]);
}

fn out_of_range_begins_at_the_latest_by_policy(cluster: &Cluster) {
    let (writer, consumer, _) = out_of_range(cluster, AutoOffsetReset::Latest);
    until("the reset", || consumer.take_resets().pop().map(|reset| assert_eq!((reset.from, reset.to), (5000, 100))));
    writer.write(["new"]);
    assert_eq!(values(&take(&consumer, 1)), ["new"]);
}

fn out_of_range_without_a_policy_is_an_error_once(cluster: &Cluster) {
    let (_writer, consumer, partition) = out_of_range(cluster, AutoOffsetReset::None);
    let error = until("the error", || consumer.next_records(1, std::time::Duration::from_secs(1)).err());
    assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!((error.place().topic.as_deref(), error.place().partition), (Some(&*partition.topic), Some(0)));
    assert_nothing_comes(cluster, &consumer);
    consumer.seek(&partition, StartPosition::Offset(99)).unwrap();
    assert_eq!(values(&take(&consumer, 1)), numbered(99..100));
}

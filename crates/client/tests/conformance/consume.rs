//! Reading records, and what must not delay it.

use std::thread;
use std::time::{Duration, Instant};

use kavka::blocking::Consumer;
use kavka::{ConsumerConfig, ErrorKind, IsolationLevel, ProducerConfig, StartPosition, TopicPartition};
use kavka_test_support::on_every_listener;

use crate::cluster::{Cluster, Writer, assert_nothing_comes, numbered, reader, reader_from, take, values};

on_every_listener!(
    an_empty_topic_gives_nothing_until_something_is_written,
    records_come_while_they_are_written,
    both_isolation_levels_read_what_is_not_transactional,
    a_removed_partition_gives_nothing_more,
    a_partition_is_consumed_once,
    two_consumers_of_one_client_do_not_delay_each_other,
    a_lone_record_is_not_delayed_by_a_waiting_fetch,
    small_limits_still_read_everything,
    a_closed_consumer_refuses_to_read,
);

fn an_empty_topic_gives_nothing_until_something_is_written(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    let consumer = reader(&writer.client, &topic, [0]);
    assert_nothing_comes(cluster, &consumer);
    assert_eq!(consumer.position(&TopicPartition::new(topic.as_str(), 0)), Some(0));
    writer.write(["something"]);
    assert_eq!(values(&take(&consumer, 1)), ["something"]);
}

fn records_come_while_they_are_written(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let consumer = reader(&cluster.client(), &topic, [0]);
    let writer = Writer::new(cluster, &topic);
    thread::scope(|scope| {
        scope.spawn(|| writer.write(numbered(0..5000)));
        assert_eq!(values(&take(&consumer, 5000)), numbered(0..5000));
    });
    assert_nothing_comes(cluster, &consumer);
}

fn both_isolation_levels_read_what_is_not_transactional(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..100));
    for isolation_level in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
        let config = ConsumerConfig::default().isolation_level(isolation_level);
        let consumer = Consumer::from(writer.client.consumer(config).unwrap());
        consumer.add(&TopicPartition::new(topic.as_str(), 0), StartPosition::Earliest).unwrap();
        assert_eq!(values(&take(&consumer, 100)), numbered(0..100), "{isolation_level:?}");
    }
}

fn a_removed_partition_gives_nothing_more(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let writer = Writer::new(cluster, &topic);
    writer.write(numbered(0..100));
    let consumer = reader(&writer.client, &topic, [0]);
    take(&consumer, 10);
    let partition = TopicPartition::new(topic.as_str(), 0);
    assert_eq!(consumer.remove(&partition).unwrap(), Some(10));
    assert_nothing_comes(cluster, &consumer);
    consumer.add(&partition, StartPosition::Offset(10)).unwrap();
    assert_eq!(values(&take(&consumer, 90)), numbered(10..100));
}

fn a_partition_is_consumed_once(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let consumer = reader(&cluster.client(), &topic, [0]);
    let partition = TopicPartition::new(topic.as_str(), 0);
    assert_eq!(consumer.add(&partition, StartPosition::Earliest).unwrap_err().kind(), ErrorKind::Misuse);
    let other = TopicPartition::new(topic.as_str(), 1);
    assert_eq!(consumer.remove(&other).unwrap_err().kind(), ErrorKind::Misuse);
}

/// Much more than a delivery takes, and much less than the wait that must not delay it.
const AT_ONCE: Duration = Duration::from_secs(12);
const LONG_WAIT: Duration = Duration::from_secs(25);

/// A consumer whose fetch of an empty topic waits at the broker for a long time.
fn waiting(writer: &Writer, empty: &str) -> Consumer {
    let config = ConsumerConfig::default().fetch_max_wait(LONG_WAIT);
    let consumer = Consumer::from(writer.client.consumer(config).unwrap());
    consumer.add(&TopicPartition::new(empty, 0), StartPosition::Earliest).unwrap();
    assert!(consumer.next_batch(Duration::from_millis(300)).unwrap().is_none());
    consumer
}

fn two_consumers_of_one_client_do_not_delay_each_other(cluster: &Cluster) {
    // Each of the two brokers leads one partition of `busy`, so one of them also leads `empty`.
    let (empty, busy) = (cluster.topic(1), cluster.topic(2));
    let writer = Writer::new(cluster, &busy);
    let waiting = waiting(&writer, &empty);
    writer.write(numbered(0..100));
    let begin = Instant::now();
    let consumer = reader(&writer.client, &busy, [0, 1]);
    assert_eq!(values(&take(&consumer, 100)), numbered(0..100));
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    drop(waiting);
}

fn a_lone_record_is_not_delayed_by_a_waiting_fetch(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let linger = LONG_WAIT;
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().linger(linger));
    let waiting = waiting(&writer, &topic);
    let begin = Instant::now();
    writer.write(["lone"]);
    assert_eq!(values(&take(&waiting, 1)), ["lone"]);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

fn small_limits_still_read_everything(cluster: &Cluster) {
    let topic = cluster.topic(2);
    let writer = Writer::with(cluster, &topic, ProducerConfig::default().batch_size(2000));
    let sent: Vec<_> = (0..200).map(|number| format!("{number}-{}", "x".repeat(number * 20))).collect();
    writer.write(&sent);
    let config = ConsumerConfig::default().fetch_max_bytes(1000).max_partition_fetch_bytes(500).fetch_buffer(5000);
    let consumer = Consumer::from(writer.client.consumer(config).unwrap());
    for partition in [0, 1] {
        consumer.add(&TopicPartition::new(topic.as_str(), partition), StartPosition::Earliest).unwrap();
    }
    assert_eq!(values(&take(&consumer, 200)), sent);
}

fn a_closed_consumer_refuses_to_read(cluster: &Cluster) {
    let topic = cluster.topic(1);
    let consumer = reader_from(&cluster.client(), &topic, [0], StartPosition::Latest);
    consumer.close();
    assert_eq!(consumer.next_records(1, AT_ONCE).unwrap_err().kind(), ErrorKind::Closed);
}

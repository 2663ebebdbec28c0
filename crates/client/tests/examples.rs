//! Runs the programs in `examples/` against the embedded broker: they show the crate's public API.
#![allow(dead_code)] // The `main` of each example, and what a test does not look at.

use std::future::Future;
use std::time::Duration;

use kavka::blocking::{self, wait};
use kavka::{
    Client, ConsumerConfig, ErrorCode, NewTopic, ProducerConfig, Record, Records, StartPosition, TopicPartition,
};
use kavka_broker::serve::Broker;
use kavka_test_support::{LIMIT, brokers};

#[path = "../examples/consume.rs"]
mod consume;
#[path = "../examples/group.rs"]
mod group;
#[path = "../examples/groups.rs"]
mod groups;
#[path = "../examples/produce.rs"]
mod produce;
#[path = "../examples/resume.rs"]
mod resume;
#[path = "../examples/threads.rs"]
mod threads;
#[path = "../examples/topics.rs"]
mod topics;

/// A broker and its address.
fn broker() -> (Broker, String) {
    let broker = brokers::start(1);
    let servers = broker.bootstrap_servers();
    (broker, servers)
}

fn with_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// The number of records in the topic.
fn count(servers: &str, topic: &str) -> usize {
    let client = blocking::Client::connect(servers).unwrap();
    let keys = client.partitions(topic).unwrap();
    let isolation_level = kavka::IsolationLevel::ReadCommitted;
    let ends = wait(client.end_offsets(&keys, isolation_level, LIMIT)).unwrap();
    ends.values().map(|end| usize::try_from(*end).unwrap()).sum()
}

#[test]
fn what_is_produced_is_consumed_and_resumed_behind() {
    let (_broker, servers) = broker();
    with_runtime(produce::run(&servers, "letters")).unwrap();
    assert_eq!(count(&servers, "letters"), 10);
    with_runtime(consume::run(&servers, "letters")).unwrap();
    assert_eq!(with_runtime(resume::run(&servers, "letters", "readers")).unwrap(), 10);
    assert_eq!(with_runtime(resume::run(&servers, "letters", "readers")).unwrap(), 0);
}

#[test]
fn a_member_reads_what_its_group_has_not_acknowledged() {
    let (_broker, servers) = broker();
    with_runtime(produce::run(&servers, "letters")).unwrap();
    assert_eq!(with_runtime(group::run(&servers, "letters", "workers")).unwrap(), 10);
    assert_eq!(with_runtime(group::run(&servers, "letters", "workers")).unwrap(), 0);
}

#[test]
fn a_group_is_moved_to_the_end_of_what_it_reads() {
    let (_broker, servers) = broker();
    with_runtime(produce::run(&servers, "letters")).unwrap();
    let client = blocking::Client::connect(&servers).unwrap();
    let first = [(TopicPartition::new("letters", 0), kavka::CommittedOffset::new(0))];
    wait(client.admin().alter_group_offsets("readers", &first.into())).unwrap();
    let behind = with_runtime(groups::run(&servers, "readers")).unwrap();
    assert!(behind > 0);
    assert_eq!(with_runtime(groups::run(&servers, "readers")).unwrap(), 0);
}

#[test]
fn threads_write_and_read_without_async() {
    let (_broker, servers) = broker();
    threads::run(&servers, "letters").unwrap();
    assert_eq!(count(&servers, "letters"), 10);
}

#[test]
fn topics_are_made_described_listed_and_removed() {
    let (_broker, servers) = broker();
    with_runtime(topics::run(&servers, "letters")).unwrap();
    let client = blocking::Client::connect(&servers).unwrap();
    let admin = client.admin();
    let names = |topics: Vec<std::sync::Arc<kavka::Topic>>| topics.iter().map(|topic| topic.name.to_string()).collect();
    let listed: Vec<String> = names(wait(admin.list_topics()).unwrap());
    assert_eq!(listed, ["letters"]);
    let again = NewTopic { name: "letters".to_owned(), ..NewTopic::default() };
    let error = wait(admin.create_topic(&again)).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    wait(admin.delete_topic("letters")).unwrap();
    let listed: Vec<String> = names(wait(admin.list_topics()).unwrap());
    assert_eq!(listed, [""; 0]);
}

#[test]
fn a_stream_can_live_in_a_task_of_its_own_and_ends_with_its_consumer() {
    fn is_stream(records: &Records) -> &(dyn futures_core::Stream<Item = kavka::Result<kavka::ConsumerRecord>> + Send) {
        records
    }
    let (_broker, servers) = broker();
    with_runtime(async {
        let client = Client::connect(&servers).await.unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let topic = producer.topic("letters", true).await.unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        consumer.add(&TopicPartition::new("letters", 0), StartPosition::Earliest).unwrap();
        let mut records = consumer.records();
        is_stream(&records);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let first = records.next().await.unwrap().unwrap();
            sender.send(first).unwrap();
            records.next().await
        });
        producer.send(topic, &Record::new(b"hello").key(b"k").partition(0).timestamp_ms(7)).await.unwrap();
        let first = receiver.await.unwrap();
        assert_eq!(
            (first.value.as_deref(), first.key.as_deref(), first.timestamp_ms),
            (Some(&b"hello"[..]), Some(&b"k"[..]), 7)
        );
        assert_eq!(consumer.position(&first.topic_partition), Some(1));
        drop(consumer);
        assert!(task.await.unwrap().is_none());
    });
}

#[test]
fn a_record_is_accepted_by_send_itself_and_copied_only_to_wait_for_room() {
    let (_broker, servers) = broker();
    let client = wait(Client::connect(&servers)).unwrap();
    let producer =
        client.producer(ProducerConfig::default().max_queued_records(Some(1)).linger(Duration::from_secs(1))).unwrap();
    let topic = wait(producer.topic("letters", true)).unwrap();
    let first = producer.send(topic, &Record::new("first"));
    assert_eq!(producer.queued_records(), 1);
    let second = {
        let (key, value) = ("k".to_owned(), "second".to_owned());
        producer.send(topic, &Record::new(&value).key(&key))
    };
    let second = std::thread::spawn(|| wait(async { second.await?.await })).join().unwrap().unwrap();
    assert_eq!(wait(wait(first).unwrap()).unwrap().offset, Some(0));
    assert_eq!(second.offset, Some(1));
}

#[test]
fn a_server_that_cannot_be_read_is_named() {
    let error = blocking::Client::connect("127.0.0.1:9092,kafka:x\n").unwrap_err();
    assert!(error.to_string().contains("`kafka:x`"), "{error}");
}

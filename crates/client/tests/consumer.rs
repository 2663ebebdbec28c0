//! The consumer over sockets, against the embedded broker: tasks, threads and the role task together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kavka::blocking::{Consumer, GroupConsumer};
use kavka::{
    ClientConfig, CommittedOffset, ConsumerConfig, ErrorCode, ErrorKind, GroupConfig, GroupOptions, IsolationLevel,
    ProducerConfig, Record, StartPosition, TopicPartition, WireEvent, WireTap,
};
use kavka_broker::Fault;
use kavka_core::wire::ApiKey;
use kavka_test_support::rig::{Rig, TOPIC, cluster, key, wait};
use kavka_test_support::{LIMIT, until};

/// Reads `count` records; checks that offsets increase one by one and equal the values.
fn read(consumer: &Consumer, count: usize) -> BTreeMap<i32, i64> {
    let deadline = Instant::now() + LIMIT;
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut seen = 0;
    while seen < count {
        assert!(Instant::now() < deadline, "{seen} of {count} records came");
        let Some(mut batch) = consumer.next_batch(Duration::from_secs(1)).expect("no error") else { continue };
        let partition = batch.topic_partition().partition;
        while let Some(record) = batch.next_record() {
            let next = next.entry(partition).or_insert(record.offset);
            assert_eq!(record.offset, *next);
            assert_eq!(record.value.expect("a value").of(batch.data()), record.offset.to_string().as_bytes());
            *next += 1;
            seen += 1;
        }
    }
    next
}

#[test]
fn what_was_written_is_read_in_order_from_every_partition() {
    let rig = Rig::new(2, 3);
    rig.write(3, 0, 1_000);
    let consumer = rig.consumer(3, StartPosition::Earliest);
    assert_eq!(read(&consumer, 3_000).into_values().collect::<Vec<_>>(), [1_000; 3]);
    for partition in 0..3 {
        assert_eq!(consumer.position(&key(partition)), Some(1_000));
    }
}

#[test]
fn a_topic_that_the_same_client_deletes_is_told_within_seconds() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 10);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    read(&consumer, 10);
    let client = rig.client.clone();
    let outcomes =
        rig.wait(async move { client.admin().delete_topics(&[TOPIC.into()], LIMIT).await }).expect("an answer");
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    // Without the deletion, the client would ask for the topic again after metadata.max.age.ms: five minutes.
    let error = until("the error", || match consumer.next_batch(Duration::from_millis(500)) {
        Ok(batch) => {
            assert!(batch.is_none(), "a batch of a topic that is gone");
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(error.to_string().contains("the topic was deleted"), "{error}");
}

#[test]
fn a_leader_that_moves_is_followed_without_a_gap() {
    let rig = Rig::new(2, 1);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    for round in 0..4 {
        rig.write(1, round * 100, (round + 1) * 100);
        read(&consumer, 100);
        let next = 3 - rig.broker.with(|cluster, _| cluster.leader(TOPIC, 0)).expect("a leader").0;
        rig.broker.with(|cluster, now| cluster.move_leader(now, TOPIC, 0, next)).expect("the leader moves");
    }
    assert_eq!(consumer.position(&key(0)), Some(400));
}

#[test]
fn a_thread_that_waits_is_woken_by_the_record_it_waits_for() {
    let rig = Rig::new(2, 1);
    let consumer = Arc::new(rig.consumer(1, StartPosition::Earliest));
    let waiting = Arc::clone(&consumer);
    let thread = std::thread::spawn(move || waiting.next_record(LIMIT));
    rig.write(1, 0, 1);
    let record = thread.join().expect("no panic").expect("no error").expect("a record");
    assert_eq!((record.offset, record.value.as_deref()), (0, Some(&b"0"[..])));
}

#[test]
fn a_task_waits_for_batches_without_a_thread() {
    let rig = Rig::new(2, 1);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    let pending = rig.client.start(async move {
        let mut batch = (*consumer).next_batch().await.expect("no error");
        batch.next_record().map(|record| record.offset)
    });
    rig.write(1, 0, 1);
    assert_eq!(pending.wait(Some(LIMIT)), Some(Some(0)));
}

#[test]
fn a_task_that_stops_waiting_for_records_gets_them_with_its_next_call() {
    let rig = Rig::new(2, 1);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    let pending = rig.client.start(async move {
        let waiting = tokio::time::timeout(Duration::from_millis(10), (*consumer).next_records(7));
        assert!(waiting.await.is_err(), "nothing is written yet");
        consumer
    });
    let consumer = pending.wait(Some(LIMIT)).expect("the wait ends");
    rig.write(1, 0, 10);
    let reading = rig.client.start(async move {
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 10 {
            sizes.push((*consumer).next_records(7).await.expect("no error").len());
        }
        assert_eq!((*consumer).next_records(0).await.expect("no error"), []);
        (sizes, consumer.position(&key(0)))
    });
    let (sizes, position) = reading.wait(Some(LIMIT)).expect("the records come");
    assert!(sizes.iter().all(|size| (1..=7).contains(size)), "{sizes:?}");
    assert_eq!(position, Some(10));
}

#[test]
fn closing_wakes_who_waits_and_refuses_what_comes_later() {
    let rig = Rig::new(2, 1);
    let consumer = Arc::new(rig.consumer(1, StartPosition::Latest));
    let waiting = Arc::clone(&consumer);
    let thread = std::thread::spawn(move || waiting.next_batch(LIMIT).map(|batch| batch.is_some()));
    let begun = Instant::now();
    consumer.close();
    assert_eq!(thread.join().expect("no panic").unwrap_err().kind(), ErrorKind::Closed);
    assert!(begun.elapsed() < LIMIT / 2);
    assert_eq!(consumer.try_batch().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_few_records_at_a_time_come_in_order_and_none_is_lost_between_calls() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 100);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    let mut next = 0;
    while next < 100 {
        for record in consumer.next_records(7, LIMIT).expect("no error") {
            assert_eq!(record.offset, next);
            next += 1;
        }
        assert_eq!(consumer.position(&key(0)), Some(next));
    }
    assert_eq!(consumer.next_records(7, Duration::ZERO).expect("no error"), []);
}

#[test]
fn a_seek_is_followed_by_the_record_that_was_sought() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 100);
    let consumer = rig.consumer(1, StartPosition::Earliest);
    for offset in [50, 3, 99, 0] {
        consumer.seek(&key(0), StartPosition::Offset(offset)).expect("it is consumed");
        assert_eq!(consumer.next_record(LIMIT).expect("no error").expect("a record").offset, offset);
    }
}

#[test]
fn an_offset_that_is_gone_is_reset_and_the_reset_is_told() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 50);
    rig.write(1, 50, 100);
    rig.broker.with(|cluster, _| cluster.delete_records(TOPIC, 0, 50)).expect("the records are deleted");
    let consumer = rig.consumer(1, StartPosition::Offset(5));
    let first = consumer.next_record(LIMIT).expect("no error").expect("a record");
    let resets = consumer.take_resets();
    assert_eq!(resets.len(), 1);
    assert_eq!((resets[0].from, resets[0].to, first.offset), (5, 50, 50));
}

#[test]
fn a_consumer_with_nothing_to_read_does_not_delay_another_of_the_same_client() {
    let rig = Rig::new(2, 2);
    let config = ConsumerConfig::default().fetch_max_wait(Duration::from_secs(100));
    let idle = Consumer::from(rig.client.consumer(config).expect("a consumer"));
    idle.add(&key(0), StartPosition::Latest).expect("the partition is added");
    idle.add(&key(1), StartPosition::Latest).expect("the partition is added");
    assert!(idle.next_batch(Duration::from_millis(300)).expect("no error").is_none());
    idle.pause(&key(0)).expect("it is consumed");
    let busy = rig.consumer(1, StartPosition::Earliest);
    rig.write(1, 0, 100);
    read(&busy, 100);
}

#[test]
fn offsets_are_found_by_place_and_by_time() {
    let rig = Rig::new(2, 2);
    rig.write(2, 0, 100);
    rig.broker.with(|cluster, _| cluster.delete_records(TOPIC, 0, 40)).expect("the records are deleted");
    let client = rig.client.clone();
    wait(&rig.client, async move {
        let keys = [key(0), key(1)];
        let beginning = client.beginning_offsets(&keys, LIMIT).await.expect("beginnings");
        assert_eq!(beginning.into_values().collect::<Vec<_>>(), [40, 0]);
        let end = client.end_offsets(&keys, IsolationLevel::ReadCommitted, LIMIT).await.expect("ends");
        assert_eq!(end.into_values().collect::<Vec<_>>(), [100, 100]);
        let times = [(key(1), 0), (key(0), i64::MAX)];
        let found = client.offsets_for_times(&times, LIMIT).await.expect("times");
        assert_eq!(found.get(&key(1)).and_then(|found| found.map(|found| found.offset)), Some(0));
        assert_eq!(found.get(&key(0)), Some(&None));
        let unknown = client.end_offsets(&[key(9)], IsolationLevel::ReadCommitted, Duration::from_secs(1)).await;
        assert!(unknown.unwrap_err().to_string().contains("orders-9"));
    });
}

#[test]
fn what_a_group_commits_is_what_it_finds() {
    let rig = Rig::new(2, 2);
    let client = rig.client.clone();
    wait(&rig.client, async move {
        let nothing = client.committed_offsets("workers", &[key(0)], LIMIT).await.expect("an answer");
        assert!(nothing.is_empty());
        let committed = CommittedOffset { metadata: "by me".into(), ..CommittedOffset::new(42) };
        let offsets = BTreeMap::from([(key(0), committed.clone())]);
        client.commit_offsets("workers", &offsets, LIMIT).await.expect("the commit is taken");
        let found = client.committed_offsets("workers", &[key(0), key(1)], LIMIT).await.expect("an answer");
        assert_eq!(found, BTreeMap::from([(key(0), committed)]));
    });
}

#[test]
fn a_coordinator_that_says_nothing_is_waited_for_no_longer_than_asked() {
    let rig = Rig::new(2, 1);
    let client = rig.client.clone();
    let limit = Duration::from_millis(300);
    for api in [ApiKey::OffsetFetch, ApiKey::OffsetCommit, ApiKey::ListOffsets] {
        rig.broker.inject(Fault::silence().api(api).always());
    }
    let begun = Instant::now();
    wait(&rig.client, async move {
        let keys = [key(0)];
        let offsets = BTreeMap::from([(key(0), CommittedOffset::new(42))]);
        assert!(client.committed_offsets("workers", &keys, limit).await.unwrap_err().is_retriable());
        assert!(client.commit_offsets("workers", &offsets, limit).await.unwrap_err().is_retriable());
        assert!(client.beginning_offsets(&keys, limit).await.unwrap_err().is_retriable());
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "less than request.timeout.ms: {:?}", begun.elapsed());
}

/// A consumer that commits for the group "workers".
fn group_consumer(rig: &Rig) -> Consumer {
    let config = ConsumerConfig::default().group_id(Some("workers".into()));
    let consumer = Consumer::from(rig.client.consumer(config).expect("a consumer"));
    consumer.add(&key(0), StartPosition::Offset(0)).expect("the partition is added");
    consumer
}

fn committed(rig: &Rig) -> BTreeMap<TopicPartition, CommittedOffset> {
    let client = rig.client.clone();
    wait(&rig.client, async move { client.committed_offsets("workers", &[key(0)], LIMIT).await.expect("an answer") })
}

#[test]
fn positions_are_committed_as_they_are_even_when_the_consumer_is_closed_at_once() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 10);
    let consumer = group_consumer(&rig);
    read(&consumer, 10);
    let positions = consumer.positions();
    assert!(positions[&key(0)].leader_epoch.is_some(), "the leader epoch is kept: {positions:?}");
    let commit = consumer.commit(positions.clone(), LIMIT).expect("it has a group");
    consumer.close();
    wait(&rig.client, commit).expect("it is committed");
    let mut expected = positions.clone();
    // It was asked for by name.
    for committed in expected.values_mut() {
        committed.topic_id = kavka::Uuid::ZERO;
    }
    assert_eq!(committed(&rig), expected);
    assert_eq!(consumer.commit(positions, LIMIT).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_commit_without_an_answer_blocks_nobody_and_is_not_overtaken() {
    let rig = Rig::new(2, 1);
    rig.write(1, 0, 10);
    let consumer = group_consumer(&rig);
    rig.broker.inject(Fault::silence().api(ApiKey::OffsetCommit).always());
    let first = BTreeMap::from([(key(0), CommittedOffset::new(3))]);
    let first = consumer.commit(first, Duration::from_millis(500)).expect("it has a group");
    let second = BTreeMap::from([(key(0), CommittedOffset::new(7))]);
    let second = consumer.commit(second, LIMIT).expect("it has a group");
    read(&consumer, 10);
    let error = wait(&rig.client, first).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)) && error.to_string().contains("workers"), "{error}");
    rig.broker.with(|cluster, _| cluster.heal());
    wait(&rig.client, second).expect("it is committed over a new connection");
    assert_eq!(committed(&rig)[&key(0)].offset, 7);
}

#[test]
fn an_automatic_commit_that_failed_is_made_up_for_although_nothing_more_is_read() {
    let rig = Rig::with(2, 1, ClientConfig::default().request_timeout(Duration::from_secs(3)));
    rig.write(1, 0, 10);
    rig.broker.inject(Fault::silence().api(ApiKey::OffsetCommit).times(1));
    let config = ConsumerConfig::default().group_id(Some("workers".into()));
    let group = GroupConfig::default().auto_commit_interval(Duration::from_millis(200));
    let member = rig.client.group_consumer(config, group, GroupOptions::default()).expect("a member");
    let member = GroupConsumer::from(member);
    member.subscribe(&[TOPIC]).expect("it subscribes");
    until("what was read to be committed", || {
        member.next_records(10, Duration::from_millis(100)).expect("the next attempt makes up for it");
        let offset = committed(&rig).get(&key(0)).map(|committed| committed.offset);
        (offset == Some(10)).then_some(())
    });
}

#[test]
fn a_coordinator_is_looked_up_once_for_all_commits_and_again_when_it_moved() {
    let lookups = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&lookups);
    let tap: WireTap = Arc::new(move |event| {
        if matches!(event, WireEvent::Sent { key: ApiKey::FindCoordinator, .. }) {
            *counted.lock().expect("no panic") += 1;
        }
    });
    let rig = Rig::of(cluster(2, 1), ClientConfig::default(), Some(tap));
    let consumer = group_consumer(&rig);
    let commit = |offset| {
        let offsets = BTreeMap::from([(key(0), CommittedOffset::new(offset))]);
        wait(&rig.client, consumer.commit(offsets, LIMIT).expect("it has a group")).expect("it is committed");
    };
    (0..5).for_each(&commit);
    assert_eq!(*lookups.lock().expect("no panic"), 1);
    rig.broker.inject(Fault::fail(ErrorCode::NOT_COORDINATOR).api(ApiKey::OffsetCommit).times(1));
    commit(5);
    assert_eq!(*lookups.lock().expect("no panic"), 2);
}

#[test]
fn a_fetch_may_be_held_by_the_broker_for_longer_than_other_requests() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&frames);
    let tap: WireTap = Arc::new(move |event| match event {
        WireEvent::Sent { key: ApiKey::Fetch, .. } => seen.lock().expect("no panic").push("sent"),
        WireEvent::Received { key: ApiKey::Fetch, .. } => seen.lock().expect("no panic").push("answered"),
        _ => {}
    });
    let config = ClientConfig::default().request_timeout(Duration::from_secs(3));
    let rig = Rig::of(cluster(2, 1), config, Some(tap));
    let config = ConsumerConfig::default().fetch_max_wait(Duration::from_secs(4));
    let consumer = Consumer::from(rig.client.consumer(config).expect("a consumer"));
    consumer.add(&key(0), StartPosition::Offset(0)).expect("the partition is added");
    let first = until("the second fetch", || {
        assert!(consumer.try_batch().expect("no error").is_none());
        frames.lock().expect("no panic").first_chunk::<3>().copied()
    });
    assert_eq!(first, ["sent", "answered", "sent"]);
}

#[test]
fn a_record_that_is_kept_does_not_keep_a_response_many_times_its_size() {
    let rig = Rig::new(2, 1);
    let client = rig.client.clone();
    wait(&rig.client, async move {
        let producer = client.producer(ProducerConfig::default()).expect("a producer");
        let topic = producer.topic(TOPIC, false).await.expect("the topic is known");
        let value = vec![7; 20_000];
        for _ in 0..20 {
            let record = Record { partition: Some(0), value: Some(&value), ..Record::default() };
            producer.send(topic, &record).await.expect("the record is taken");
        }
        producer.flush().await;
    });
    let consumer = rig.consumer(1, StartPosition::Earliest);
    let record = consumer.next_record(LIMIT).expect("no error").expect("a record");
    assert!(record.value.expect("a value").is_unique(), "it was copied");
}

#[test]
fn fetches_larger_than_a_response_may_be_are_refused_before_anything_is_sent() {
    let rig = Rig::new(2, 1);
    let config = ConsumerConfig::default().fetch_buffer(1 << 30).fetch_max_bytes(1 << 30);
    let error = rig.client.consumer(config).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("fetch.max.bytes"), "{error}");
}

//! The producer over sockets, against the embedded broker, with injected faults.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use kavka::blocking::{Delivery, Producer};
use kavka::{
    Acks, Call, ClientConfig, Compression, CompressionType, ErrorCode, ErrorKind, ProducerConfig, ProducerTopic,
    Record, Target, WireEvent, WireTap, Written,
};
use kavka_broker::Fault;
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::CreatePartitionsRequest;
use kavka_core::wire::messages::create_partitions::CreatePartitionsTopic;
use kavka_test_support::rig::{Rig, TOPIC, cluster};
use kavka_test_support::{LIMIT, until};

const WAIT: Option<Duration> = Some(LIMIT);

/// The values in a partition's log.
fn values(rig: &Rig, partition: i32) -> Vec<Vec<u8>> {
    rig.log(partition).into_iter().map(|(_, value)| value).collect()
}

fn value(value: &[u8]) -> Record<'_> {
    Record { value: Some(value), ..Record::default() }
}

fn send(producer: &Producer, topic: ProducerTopic, bytes: &[u8]) -> Delivery {
    producer.send_within(topic, &value(bytes), LIMIT).unwrap()
}

#[test]
fn what_is_reported_as_stored_is_in_the_log_at_that_offset() {
    for compression in [CompressionType::None, CompressionType::Lz4] {
        let rig = Rig::new(3, 3);
        let (producer, topic) = rig.producer(ProducerConfig::default().compression(Compression::from(compression)));
        let deliveries: Vec<_> =
            (0..20_000).map(|i: u32| (i, send(&producer, topic, format!("{i:0100}").as_bytes()))).collect();
        producer.flush();
        let logs: Vec<_> = (0..3).map(|partition| values(&rig, partition)).collect();
        assert_eq!(logs.iter().map(Vec::len).sum::<usize>(), 20_000);
        for (i, delivery) in deliveries {
            let stored = delivery.outcome().unwrap().unwrap();
            let at = usize::try_from(stored.offset.unwrap()).unwrap();
            assert_eq!(logs[stored.partition as usize][at], format!("{i:0100}").as_bytes());
        }
        assert_eq!(producer.queued_records(), 0);
    }
}

#[test]
fn lost_answers_broken_connections_and_moved_leaders_neither_lose_nor_double() {
    let rig = Rig::with(
        3,
        1, // Faults are added faster than they hit, so one batch may be hit several times in a row.
        ClientConfig::default()
            .retry_backoff(Duration::from_millis(5))
            .retry_backoff_max(Duration::from_millis(20))
            .reconnect_backoff(Duration::from_millis(5)),
    );
    let (producer, topic) = rig.producer(ProducerConfig::default().linger(Duration::from_millis(1)).batch_size(2_000));
    let mut deliveries = Vec::new();
    for i in 0..6_000_u32 {
        match i % 1_000 {
            100 => rig.broker.inject(Fault::lose_answer().api(ApiKey::Produce)),
            300 => rig.broker.inject(Fault::close().api(ApiKey::Produce)),
            500 => {
                rig.broker.with(|cluster, now| cluster.move_leader(now, TOPIC, 0, (i / 1_000) as i32 % 3 + 1)).ok();
            }
            700 => rig.broker.inject(Fault::fail_after_applying(ErrorCode::REQUEST_TIMED_OUT).api(ApiKey::Produce)),
            _ => {}
        }
        deliveries.push(send(&producer, topic, &i.to_be_bytes()));
        if i % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    producer.flush();
    for delivery in &deliveries {
        delivery.outcome().unwrap().unwrap();
    }
    let log: Vec<u32> = values(&rig, 0).iter().map(|value| u32::from_be_bytes(value[..].try_into().unwrap())).collect();
    assert_eq!(log, (0..6_000).collect::<Vec<_>>());
}

#[test]
fn a_caller_waits_for_memory_and_gets_a_queue_full_error_in_words_when_there_is_none() {
    let rig = Rig::with(1, 1, ClientConfig::default().buffer_memory(128 << 10));
    let (producer, topic) = rig.producer(ProducerConfig::default().batch_size(32 << 10));
    rig.broker.inject(Fault::silence().api(ApiKey::Produce).always());
    let error = loop {
        if let Err(error) = producer.send_within(topic, &value(&[7; 1_000]), Duration::from_millis(50)) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BufferFull);
    assert!(error.to_string().contains("buffer.memory"), "{error}");
}

#[test]
fn memory_that_comes_back_lets_a_waiting_caller_go_on() {
    let rig = Rig::with(1, 1, ClientConfig::default().buffer_memory(128 << 10));
    let (producer, topic) = rig.producer(ProducerConfig::default().batch_size(32 << 10));
    for _ in 0..2_000 {
        send(&producer, topic, &[7; 1_000]);
    }
    producer.flush();
    assert_eq!(values(&rig, 0).len(), 2_000);
}

#[test]
fn closing_sends_what_is_buffered_and_then_refuses() {
    let rig = Rig::new(1, 2);
    let (producer, topic) = rig.producer(ProducerConfig::default().linger(Duration::from_secs(60)));
    let deliveries: Vec<_> = (0..100_u8).map(|i| send(&producer, topic, &[i])).collect();
    producer.close(Duration::from_secs(20)).unwrap();
    assert!(deliveries.iter().all(|delivery| delivery.offset().is_some()));
    assert_eq!(producer.try_send(topic, &value(b"late")).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn who_waits_for_memory_learns_at_once_that_the_producer_was_closed() {
    let rig = Rig::with(1, 1, ClientConfig::default().buffer_memory(128 << 10));
    let (holder, held) = rig.producer(ProducerConfig::default());
    let (producer, topic) = rig.producer(ProducerConfig::default());
    rig.broker.inject(Fault::silence().api(ApiKey::Produce).always());
    while holder.try_send(held, &value(&[7; 1_000])).is_ok() {}
    let sending = async move {
        // No small remainder is enough for it.
        let large = vec![7; 100_000];
        let record = value(&large);
        let mut sending = pin!((*producer).send(topic, &record));
        assert!(poll_fn(|context| Poll::Ready(sending.as_mut().poll(context).is_pending())).await);
        (*producer).close(Duration::from_secs(20)).await.unwrap();
        sending.await.unwrap_err()
    };
    let error = rig.client.start(sending).wait(WAIT).expect("long before max.block.ms");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

#[test]
fn who_waits_for_memory_learns_at_once_that_the_topic_is_gone() {
    let hour = Duration::from_secs(3_600);
    let rig = Rig::with(1, 1, ClientConfig::default().buffer_memory(128 << 10).max_block(hour));
    rig.create_topic("gone");
    let (holder, held) = rig.producer(ProducerConfig::default());
    let (producer, topic) = rig.producer_of("gone", ProducerConfig::default());
    rig.broker.inject(Fault::silence().api(ApiKey::Produce).always());
    while holder.try_send(held, &value(&[7; 1_000])).is_ok() {}
    let (admin, waiting) = (rig.client.admin(), producer.clone());
    let sending = async move {
        // No small remainder is enough for it.
        let large = vec![7; 100_000];
        let record = value(&large);
        let mut sending = pin!((*waiting).send(topic, &record));
        assert!(poll_fn(|context| Poll::Ready(sending.as_mut().poll(context).is_pending())).await);
        admin.delete_topic("gone").await.unwrap();
        sending.await.unwrap_err()
    };
    let error = rig.client.start(sending).wait(WAIT).expect("long before max.block.ms");
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");

    let (result, refused) = std::sync::mpsc::channel();
    let large = vec![7; 100_000];
    std::thread::spawn(move || result.send(producer.send(topic, &value(&large)).unwrap_err()));
    let error = refused.recv_timeout(LIMIT).expect("long before max.block.ms");
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
}

#[test]
fn closing_in_vain_raises_and_every_record_says_whether_it_may_be_written() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let first = send(&producer, topic, b"first");
    producer.flush();
    assert_eq!(first.offset(), Some(0));
    rig.broker.inject(Fault::silence_after_applying().api(ApiKey::Produce).always());
    let sent = send(&producer, topic, b"sent");
    until("the request", || rig.broker.with(|cluster, _| cluster.faults().injected() > 0).then_some(()));
    let error = producer.close(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error}");
    assert_eq!(error.written(), Written::Maybe, "one of them may be written");
    assert_eq!(sent.outcome().unwrap().unwrap_err().written(), Written::Maybe);
}

#[test]
fn a_producer_that_is_dropped_still_delivers() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default().linger(Duration::from_secs(60)));
    send(&producer, topic, b"lone");
    let delivery = send(&producer, topic, b"last");
    drop(producer);
    let stored = delivery.wait_for(LIMIT).unwrap().unwrap();
    assert_eq!((stored.partition, stored.offset), (0, Some(1)));
}

#[test]
fn a_record_the_broker_finds_too_large_fails_alone_over_the_wire() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default().max_request_size(8 << 20).batch_size(8 << 20));
    let before = send(&producer, topic, b"before");
    let large = send(&producer, topic, &vec![7; 2 << 20]);
    let after = send(&producer, topic, b"after");
    producer.flush();
    assert_eq!(large.outcome().unwrap().unwrap_err().code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!((before.offset(), after.offset()), (Some(0), Some(1)));
}

#[test]
fn weaker_acks_are_honoured() {
    for (acks, offset) in [(Acks::None, None), (Acks::Leader, Some(0))] {
        let rig = Rig::new(1, 1);
        let (producer, topic) = rig.producer(ProducerConfig::default().acks(acks));
        let delivery = send(&producer, topic, b"v");
        producer.flush();
        assert_eq!(delivery.outcome().unwrap().unwrap().offset, offset);
    }
}

#[test]
fn a_thousand_producers_of_equal_settings_share_their_requests() {
    const PRODUCERS: usize = 1_000;
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let tap: WireTap = Arc::new(move |event| {
        if matches!(event, WireEvent::Sent { key: ApiKey::Produce, .. }) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let rig = Rig::of(cluster(1, 1), ClientConfig::default(), Some(tap));
    for number in 0..PRODUCERS {
        rig.create_topic(&format!("topic-{number}"));
    }
    let open = |number: usize| {
        let producer = rig.client.producer(ProducerConfig::default()).unwrap();
        let opening = producer.clone();
        (
            Producer::from(producer),
            rig.client.start(async move { opening.topic(&format!("topic-{number}"), false).await }),
        )
    };
    let opening: Vec<_> = (0..PRODUCERS).map(open).collect();
    let opened = opening.into_iter().map(|(producer, topic)| (producer, topic.wait(WAIT).unwrap().unwrap()));
    let producers: Vec<_> = opened.collect();
    // While the first request waits for its answer, few others are sent, however long the calls take.
    rig.broker.inject(Fault::delay(Duration::from_secs(2)).api(ApiKey::Produce));
    let deliveries: Vec<_> =
        (0..10 * PRODUCERS).map(|number| &producers[number % PRODUCERS]).map(|(p, t)| send(p, *t, b"v")).collect();
    for (producer, _) in &producers {
        producer.flush();
    }
    assert!(deliveries.iter().all(|delivery| delivery.offset().is_some()));
    let requests = requests.load(Ordering::SeqCst);
    assert!(requests < PRODUCERS / 4, "{requests} requests for {PRODUCERS} partitions of one leader");
}

#[test]
fn a_topic_of_another_producer_is_refused() {
    let rig = Rig::new(1, 1);
    rig.create_topic("other");
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let (other, _) = rig.producer_of("other", ProducerConfig::default());
    let (third, _) = rig.producer_of("other", ProducerConfig::default().linger(Duration::from_millis(7)));
    for wrong in [&other, &third] {
        let error = wrong.try_send(topic, &value(b"stray")).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Misuse, Written::No), "{error}");
    }
    send(&producer, topic, b"v");
    producer.flush();
    assert_eq!(values(&rig, 0), [b"v"]);
}

#[test]
fn memory_that_lingers_in_other_producers_comes_back_when_it_is_needed() {
    let rig = Rig::with(1, 2, ClientConfig::default().buffer_memory(128 << 10));
    rig.create_topic("other");
    let hour = Duration::from_secs(3_600);
    let settings = |linger| ProducerConfig::default().linger(linger).delivery_timeout(2 * hour);
    let (holder, held) = rig.producer(settings(hour));
    let (producer, topic) = rig.producer_of("other", settings(Duration::ZERO));
    rig.broker.inject(Fault::delay(Duration::from_secs(1)).api(ApiKey::Produce));
    let to = |partition, bytes: &[u8]| {
        let record = Record { value: Some(bytes), partition: Some(partition), ..Record::default() };
        holder.try_send(held, &record).unwrap()
    };
    let first = to(0, b"lone, so it goes at once");
    for _ in 0..3 {
        to(1, &vec![7; 30_000]);
    }
    first.wait_for(LIMIT).unwrap().unwrap();
    // Those of the other linger for an hour.
    let deliveries: Vec<_> = (0..3).map(|_| send(&producer, topic, &vec![7; 60_000])).collect();
    producer.flush();
    assert!(deliveries.iter().all(|delivery| delivery.offset().is_some()));
}

#[test]
fn a_partition_that_has_just_appeared_can_be_named() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    for count in 2..=30 {
        let more = CreatePartitionsTopic { name: TOPIC.into(), count, assignments: None };
        let more = CreatePartitionsRequest { topics: vec![more], timeout_ms: 10_000, ..Default::default() };
        let client = rig.client.clone();
        let asked = rig.client.start(async move { client.call(Call::new(Target::Controller, more)).await });
        assert_eq!(asked.wait(WAIT).unwrap().unwrap().results[0].error_code, ErrorCode::NONE);
        let client = rig.client.clone();
        let metadata = rig.client.start(async move { client.refresh_metadata().await }).wait(WAIT).unwrap().unwrap();
        let newest = metadata.topic(TOPIC).unwrap().partitions.len() as i32 - 1;
        producer.try_send(topic, &Record { partition: Some(newest), ..value(b"v") }).unwrap();
    }
    producer.flush();
}

#[test]
fn a_partition_that_does_not_exist_is_refused_at_once_also_by_a_call_that_waits_for_room() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    let begun = Instant::now();
    let nowhere = Record { partition: Some(1), ..value(b"v") };
    let error = producer.send_within(topic, &nowhere, LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    let error = rig.wait((*producer).send(topic, &nowhere)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_topic_that_was_found_before_counts_as_deleted_only_if_brokers_lack_it_for_some_seconds() {
    let rig = Rig::new(3, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    send(&producer, topic, b"stored");
    producer.flush();
    assert!(rig.broker.with(|cluster, now| cluster.delete_topic(now, TOPIC)));
    let delivery = send(&producer, topic, b"lost");
    let found = until("metadata without the topic", || producer.find_missing_topic(topic));
    let began = Instant::now();
    let error = rig.wait(found).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(delivery.wait_for(LIMIT).expect("it fails").is_err());
}

#[test]
fn a_topic_that_brokers_do_not_know_after_they_were_lost_does_not_count_as_deleted_at_once() {
    let rig = Rig::new(1, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    send(&producer, topic, b"stored");
    producer.flush();
    let requests = || rig.broker.with(|cluster, _| cluster.requests(ApiKey::Produce));
    let before = requests();
    rig.broker.with(|cluster, now| {
        assert!(cluster.delete_topic(now, TOPIC));
        cluster.close_connections(1);
    });
    let delivery = send(&producer, topic, b"kept");
    // On a connection that did not break, half of them are enough to give up the record.
    until("a dozen attempts", || {
        assert!(delivery.outcome().is_none(), "{:?}", delivery.outcome());
        (requests() >= before + 12).then_some(())
    });
}

#[test]
fn records_for_a_topic_that_was_deleted_fail_within_seconds_and_say_so() {
    let rig = Rig::new(3, 1);
    let (producer, topic) = rig.producer(ProducerConfig::default());
    send(&producer, topic, b"stored");
    producer.flush();
    assert!(rig.broker.with(|cluster, now| cluster.delete_topic(now, TOPIC)));
    let delivery = send(&producer, topic, b"lost");
    let error = delivery.wait_for(LIMIT).expect("long before delivery.timeout.ms").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(error.to_string().contains("the topic was deleted"), "{error}");
}

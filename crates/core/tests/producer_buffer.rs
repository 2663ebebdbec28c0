//! What the producer machine buffers, how much of it, and when it goes.

mod producer_support;

use std::time::Duration;

use kavka_core::error::{ErrorKind, Phase};
use kavka_core::producer::{AppendError, Producer, ProducerResponse};
use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::InitProducerIdResponse;
use producer_support::{BACKOFF, Rig, TOPIC, config, failure, is_open, metadata, offset, pool, small_batches};

#[test]
fn a_lone_record_leaves_at_once_and_the_next_ones_linger() {
    let mut rig = Rig::warm(config());
    let lone = rig.append(0, "lone");
    assert!(lone.wake);
    assert_eq!(rig.sent().values(), ["lone"]);
    assert!(rig.append(0, "a").wake, "the alarm must be set");
    assert!(!rig.append(0, "b").wake);
    assert!(rig.poll().is_none());
    assert_eq!(rig.producer.poll_timeout(), Some(Instant(5)));
    rig.after(5);
    assert_eq!(rig.sent().values(), ["a", "b"]);
}

#[test]
fn a_full_batch_does_not_linger() {
    let mut rig = Rig::warm(small_batches(200));
    let lone = rig.append(0, "lone");
    let sent = rig.sent();
    assert!(!(0..3).any(|i| rig.append(0, &format!("{i:030}")).wake && i > 0));
    assert!(rig.append(0, &"x".repeat(30)).wake, "the fourth did not fit");
    assert_eq!(rig.sent().values().len(), 3);
    assert!(is_open(&lone));
    drop(sent);
}

#[test]
fn one_request_carries_every_ready_partition_of_its_leader() {
    let mut rig = Rig::new(config(), 4);
    rig.leaders(1, &[(1, 1), (2, 1), (1, 1), (2, 1)]);
    for partition in 0..4 {
        rig.append_alone(partition, "v");
    }
    let (first, second) = (rig.sent(), rig.sent());
    let partitions = |sent: &producer_support::Sent| sent.batches.iter().map(|b| b.partition).collect::<Vec<_>>();
    assert_eq!((first.broker_id, partitions(&first)), (1, vec![0, 2]));
    assert_eq!((second.broker_id, partitions(&second)), (2, vec![1, 3]));
}

#[test]
fn a_record_larger_than_a_request_is_refused_before_anything_changes() {
    let mut rig = Rig::new(config(), 1);
    let value = vec![0; 1 << 20];
    match rig.producer.append(rig.now, rig.topic, Some(0), 0, None, Some(&value), &[]) {
        Err(AppendError::Refused(error)) => assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.producer.queued_records(rig.handle), 0);
    assert!(rig.poll().is_none());
}

#[test]
fn a_partition_that_does_not_exist_is_refused() {
    let mut rig = Rig::new(config(), 2);
    for partition in [-1, 2, i32::MAX] {
        let refused = rig.producer.append(rig.now, rig.topic, Some(partition), 0, None, None, &[]);
        assert!(matches!(refused, Err(AppendError::NoSuchPartition(error)) if error.kind() == ErrorKind::Misuse));
    }
}

#[test]
fn when_memory_is_used_up_what_is_buffered_goes_without_linger() {
    let mut producer = Producer::new(config(), BACKOFF, pool(64 << 10), 1);
    let metadata = metadata(&kavka_core::cluster::Metadata::default(), 1, &[(1, 1); 3]);
    let handle = producer.open(None);
    let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
    let value = vec![7; 30_000];
    let mut append = |partition| producer.append(Instant(0), topic, Some(partition), 0, None, Some(&value), &[]);
    assert!(append(0).is_ok() && append(1).is_ok());
    assert!(matches!(append(2), Err(AppendError::BufferFull)));
    let asked = producer.poll_request(Instant(0)).unwrap().id;
    let response = InitProducerIdResponse { producer_id: Some(1), ..Default::default() };
    producer.handle_response(Instant(0), asked, Ok(ProducerResponse::InitProducerId(response)));
    assert!(producer.poll_request(Instant(0)).is_some());
    assert_eq!(producer.requests_in_flight(), 1);
}

#[test]
fn a_thousand_open_batches_of_a_few_records_take_a_small_part_of_the_memory() {
    let pool = pool(32 << 20);
    let mut producer = Producer::new(config(), BACKOFF, pool.clone(), 1);
    let leaders = vec![(1, 1); 1_000];
    let metadata = metadata(&kavka_core::cluster::Metadata::default(), 1, &leaders);
    let handle = producer.open(None);
    let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
    for number in 0..4_000 {
        producer.append(Instant(0), topic, Some(number % 1_000), 0, None, Some(&[7; 100]), &[]).unwrap();
    }
    assert!(pool.used() <= 1 << 20, "{} bytes", pool.used());
}

#[test]
fn the_number_of_queued_records_can_be_bounded() {
    let mut bounded = config();
    bounded.max_queued_records = Some(2);
    let mut rig = Rig::new(bounded, 1);
    let first = rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.append(0, "b");
    let full = rig.producer.append(rig.now, rig.topic, Some(0), 0, None, Some(b"c"), &[]);
    assert!(matches!(full, Err(AppendError::TooManyRecords(2))));
    rig.answer(&sent, ErrorCode::NONE, 0);
    assert_eq!(offset(&first), Some(0));
    rig.append(0, "c");
}

#[test]
fn keyless_records_stick_to_a_partition_until_its_batch_is_taken() {
    let mut rig = Rig::new(config(), 3);
    let mut partitions = Vec::new();
    for _ in 0..3 {
        for _ in 0..4 {
            let appended = rig.producer.append(rig.now, rig.topic, None, 0, None, Some(b"v"), &[]).unwrap();
            partitions.push(appended.completion.partition());
        }
        rig.producer.flush(rig.now, rig.handle);
        let sent = rig.sent();
        rig.answer(&sent, ErrorCode::NONE, 0);
    }
    partitions.dedup();
    assert_eq!(partitions.len(), 3, "{partitions:?}");
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
}

#[test]
fn keyless_records_avoid_partitions_without_a_leader() {
    let mut rig = Rig::new(config(), 3);
    rig.leaders(1, &[(-1, 1), (1, 1), (-1, 1)]);
    let appended = rig.producer.append(rig.now, rig.topic, None, 0, None, Some(b"v"), &[]).unwrap();
    assert_eq!(appended.completion.partition(), 1);
}

#[test]
fn a_request_stays_within_its_size_and_the_rest_follows_in_the_next() {
    let mut tight = config();
    tight.max_request_size = 300;
    tight.batch_size = 200;
    let mut rig = Rig::new(tight, 3);
    for partition in 0..3 {
        rig.append_alone(partition, &"x".repeat(80));
    }
    assert_eq!(rig.sent().batches.len() + rig.sent().batches.len(), 3);
    assert_eq!(Duration::from_millis(0), rig.now.since(Instant(0)));
}

#[test]
fn a_record_that_cannot_go_yet_still_sets_the_alarm_of_its_delivery_timeout() {
    let mut rig = Rig::warm(config().delivery_timeout(Duration::from_secs(1)));
    let first = rig.append(0, "first");
    let unanswered = rig.sent();
    rig.after(1_000);
    assert!(rig.poll().is_none());
    rig.events();
    assert_eq!(failure(&first).kind(), ErrorKind::TimedOut(Phase::Delivery));
    assert_eq!(rig.producer.poll_timeout(), None, "nothing is left to wait for");
    let second = rig.append(0, "second");
    assert!(second.wake, "the alarm is set too late for it");
    rig.after(1_000);
    assert!(rig.poll().is_none());
    rig.events();
    assert_eq!(failure(&second).kind(), ErrorKind::TimedOut(Phase::Delivery));
    drop(unanswered);
}

#[test]
fn a_record_that_never_fits_into_the_memory_is_refused_at_once_naming_the_limit_that_is_in_the_way() {
    let large = config().max_request_size(64 << 20);
    let mut producer = Producer::new(large, BACKOFF, pool(1 << 20), 1);
    let metadata = metadata(&kavka_core::cluster::Metadata::default(), 1, &[(1, 1)]);
    let handle = producer.open(None);
    let topic = producer.topic(Instant(0), handle, TOPIC, &metadata);
    for bytes in [1 << 20, 5 << 20] {
        match producer.append(Instant(0), topic, None, 0, None, Some(&vec![0; bytes]), &[]) {
            Err(AppendError::Refused(error)) => {
                assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
                assert!(error.to_string().contains("buffer.memory (1048576)"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(producer.append(Instant(0), topic, None, 0, None, Some(&vec![0; 1_000_000]), &[]).is_ok());
}

#[test]
fn a_record_appended_by_a_clock_that_lags_behind_the_end_of_the_back_off_is_sent() {
    let mut short = config();
    short.delivery_timeout = Duration::from_millis(50);
    let mut rig = Rig::warm(short);
    rig.append_alone(0, "a");
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::NOT_ENOUGH_REPLICAS, -1);
    rig.after(50);
    assert!(rig.poll().is_none(), "it is given up");
    let end = rig.producer.poll_timeout().expect("the partition backs off");
    rig.now = end;
    assert!(rig.poll().is_none());
    rig.now = Instant(end.0 - 4);
    rig.append_alone(0, "b");
    rig.now = end;
    assert_eq!(rig.sent().values(), ["b"]);
}

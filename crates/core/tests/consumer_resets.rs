//! The consumer machine when the log is not what it expects: positions out of range, logs that were cut off, topics
//! that were created again, and bad data.

mod consumer_kit;

use std::time::Duration;

use bytes::Bytes;
use consumer_kit::{Kit, TOPIC_ID, answer, asked, batch, config, data, epochless, key, kit, marker, metadata, refusal};
use kavka_core::config::{AutoOffsetReset, ConsumerConfig};
use kavka_core::consumer::{CommittedOffset, ConsumerEvent, ConsumerRequest, Offsets, StartPosition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::wire::records::{CompressionType, Stamp};
use kavka_core::wire::{ErrorCode, Uuid};

fn corrupt(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

// Out of range, truncation, and topics created again.

#[test]
fn out_of_range_resets_by_the_policy_with_one_warning_that_names_both_offsets() {
    let mut kit = kit(1);
    kit.consumer.seek(&key(0), StartPosition::Offset(5)).unwrap();
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    kit.answer_offset(0, 30);
    let events = kit.events();
    assert!(matches!(&events[..], [ConsumerEvent::Reset { from: 5, to: 30, .. }]), "{events:?}");
    kit.feed(vec![data(0, batch(30, &[b"a"]))]);
    assert_eq!(kit.offsets(), [30]);
}

#[test]
fn without_a_policy_out_of_range_is_an_error_and_the_position_stays() {
    let mut kit = Kit::of_partitions(config().auto_offset_reset(AutoOffsetReset::None), 1);
    kit.consumer.seek(&key(0), StartPosition::Offset(5)).unwrap();
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    let errors = kit.errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("auto.offset.reset is none: orders-0 at offset 5"), "{errors:?}");
    assert_eq!(kit.position(0), Some(5));
    assert!(kit.request().is_none());
}

#[test]
fn what_is_buffered_is_handed_out_before_a_reset() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, epochless(0, &[b"a", b"b"]))]);
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    assert!(kit.request().is_none(), "nothing to ask before the buffer is empty");
    assert_eq!(kit.offsets(), [0, 1]);
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    kit.answer_offset(0, 30);
    assert!(matches!(&kit.events()[..], [ConsumerEvent::Reset { from: 2, to: 30, .. }]));
}

/// A batch from a broker that does not write leader epochs.
#[test]
fn nothing_but_the_leaders_word_moves_the_position() {
    let mut kit = kit(1);
    kit.consumer.seek(&key(0), StartPosition::Offset(5)).unwrap();
    let causes =
        [ErrorKind::Disconnected, ErrorKind::TimedOut(kavka_core::error::Phase::Request), ErrorKind::Malformed];
    for cause in causes {
        let (id, _) = kit.fetch();
        kit.consumer.handle_response(kit.now, id, Err(Error::new(cause, "gone")));
        kit.pass(2_000);
        assert_eq!(kit.position(0), Some(5));
    }
    for code in
        [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::FENCED_LEADER_EPOCH]
    {
        kit.feed(vec![refusal(0, code)]);
        kit.pass(2_000);
        assert_eq!(kit.position(0), Some(5));
    }
    let resets = kit.events().into_iter().filter(|event| matches!(event, ConsumerEvent::Reset { .. })).count();
    assert_eq!(resets, 0);
    kit.feed(vec![data(0, batch(5, &[b"a"]))]);
    assert_eq!(kit.offsets(), [5]);
}

#[test]
fn a_log_cut_off_below_the_position_is_reported_and_not_passed_over() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a", b"b", b"c"]))]);
    assert_eq!(kit.offsets(), [0, 1, 2]);
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_epoch_end(0, Some(1));
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("truncated"), "{errors:?}");
    assert_eq!(kit.position(0), Some(3));
    assert!(kit.request().is_none());
    kit.consumer.seek(&key(0), StartPosition::Offset(1)).unwrap();
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_leader_that_does_not_know_our_epoch_has_lost_what_we_read() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    kit.offsets();
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_epoch_end(0, None);
    assert_eq!(kit.errors().len(), 1);
}

fn committed_in_epoch_3(leader_epoch: i32) -> Kit {
    let mut kit = Kit::new(ConsumerConfig::default());
    kit.leaders(&[(Some(1), leader_epoch)]);
    let start = StartPosition::Committed { offset: 10, leader_epoch: Some(3), topic_id: Uuid::ZERO };
    kit.consumer.add(&key(0), start).unwrap();
    kit
}

#[test]
fn a_log_cut_off_below_the_committed_offset_is_noticed_before_anything_is_read() {
    let mut kit = committed_in_epoch_3(4);
    kit.answer_epoch_end(0, Some(7));
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("truncated"), "{errors:?}");
    assert!(kit.request().is_none(), "nothing is fetched");
}

#[test]
fn from_a_committed_offset_that_the_log_still_has_is_read_on() {
    let mut kit = committed_in_epoch_3(4);
    kit.answer_epoch_end(0, Some(10));
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 10)]);
}

#[test]
fn a_leader_older_than_the_committed_epoch_is_not_believed_at_once() {
    let mut kit = committed_in_epoch_3(2);
    kit.answer_epoch_end(0, None);
    assert!(kit.errors().is_empty(), "the metadata may be old");
    kit.pass(1_000);
    kit.leaders(&[(Some(2), 4)]);
    kit.answer_epoch_end(0, Some(10));
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 10)]);
    let mut kit = committed_in_epoch_3(0);
    for _ in 0..9 {
        kit.answer_epoch_end(0, None);
        kit.pass(2_000);
    }
    assert_eq!(kit.errors().len(), 1, "a topic that was made anew is reported in the end");
}

#[test]
fn records_that_were_only_buffered_when_the_log_was_cut_off_are_fetched_again() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, [batch(0, &[b"a"]), batch(1, &[b"lost"])].concat())]);
    let mut cursor = kit.cursor();
    cursor.next_record().unwrap();
    drop(cursor);
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_epoch_end(0, Some(1));
    kit.feed(vec![data(0, batch(1, &[b"instead"]))]);
    let given = kit.take_all();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].value, b"instead");
    assert!(kit.errors().is_empty());
}

#[test]
fn a_log_that_is_the_same_under_a_new_leader_is_read_on() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    kit.offsets();
    kit.leaders(&[(Some(2), 1)]);
    kit.answer_epoch_end(0, Some(1));
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_topic_that_was_created_again_is_reported_and_not_read_with_the_old_offsets() {
    let mut kit = kit(1);
    let (id, _) = kit.fetch();
    kit.consumer.handle_metadata(kit.now, &metadata(&[(Some(1), 0)], Uuid([8; 16])));
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[b"old"]))]));
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("created again"), "{errors:?}");
    assert!(kit.request().is_none());
    kit.consumer.seek(&key(0), StartPosition::Offset(0)).unwrap();
    assert_eq!(kit.fetch().1.topics[0].topic_id, Uuid([8; 16]));
}

#[test]
fn offsets_of_a_topic_that_was_created_again_are_never_committed_for_the_new_one() {
    let mut kit = Kit::of_partitions(config().group_id(Some("billing".into())), 1);
    let (id, _) = kit.fetch();
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[b"a", b"b"]))]));
    assert_eq!(kit.offsets(), [0, 1]);
    let read = kit.consumer.positions();
    assert_eq!((read[&key(0)].offset, read[&key(0)].topic_id), (2, TOPIC_ID));

    let new = Uuid([8; 16]);
    kit.consumer.handle_metadata(kit.now, &metadata(&[(Some(1), 0)], new));
    kit.events();
    assert!(kit.consumer.positions().is_empty() && kit.consumer.done_position(&key(0)).is_none());
    // The second one does not say to which topic it belongs: to the one that was read.
    for offsets in [read, Offsets::from([(key(0), CommittedOffset::new(2))])] {
        kit.consumer.commit(kit.now, offsets, Duration::from_secs(10)).unwrap();
        assert!(kit.request().is_none());
        let told = kit.events();
        let [ConsumerEvent::Committed { outcome: Err(error), .. }] = &*told else { panic!("{told:?}") };
        assert_eq!(error.code(), Some(ErrorCode::INCONSISTENT_TOPIC_ID), "{error}");
    }

    kit.consumer.seek(&key(0), StartPosition::Offset(0)).unwrap();
    assert_eq!(kit.consumer.positions()[&key(0)].topic_id, new);
    kit.consumer.commit(kit.now, kit.consumer.positions(), Duration::from_secs(10)).unwrap();
    let call = kit.request().unwrap();
    let ConsumerRequest::OffsetCommit(request) = call.body else { panic!("{call:?}") };
    assert_eq!((request.topics[0].topic_id, call.max_version), (new, i16::MAX));
}

#[test]
fn an_offset_that_was_committed_for_an_earlier_topic_of_the_name_is_not_where_reading_starts() {
    let mut kit = Kit::new(config());
    kit.leaders(&[(Some(1), 0)]);
    let start = StartPosition::Committed { offset: 10, leader_epoch: None, topic_id: Uuid([6; 16]) };
    kit.consumer.add(&key(0), start).unwrap();
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("created again"), "{errors:?}");
    assert!(kit.request().is_none() && kit.consumer.positions().is_empty());
}

// Bad data.

#[test]
fn a_corrupt_batch_parks_its_partition_with_one_error_and_others_go_on() {
    let mut kit = kit(2);
    let bad = [batch(0, &[b"a"]), corrupt(&batch(1, &[b"b"])), batch(2, &[b"c"])].concat();
    kit.feed(vec![data(0, bad), data(1, batch(0, &[b"x"]))]);
    let given: Vec<(i32, i64)> = kit.take_all().iter().map(|given| (given.partition, given.offset)).collect();
    assert_eq!(given, [(0, 0), (1, 0)]);
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("CRC") && errors[0].contains("orders-0 at offset 1"), "{errors:?}");
    assert_eq!(asked(&kit.fetch().1.topics), [(1, 1)], "the other partition alone is fetched");
    kit.consumer.seek(&key(0), StartPosition::Offset(2)).unwrap();
    assert_eq!(kit.position(0), Some(2));
}

#[test]
fn bytes_that_are_no_batch_are_reported_after_the_batches_before_them() {
    for (rest, sentence) in
        [(batch(1, &[b"b"]).to_vec(), "unknown magic 9"), (batch(1, &[b"b"]).to_vec(), "negative length")]
    {
        let mut rest = rest;
        if sentence.contains("magic") {
            rest[16] = 9;
        } else {
            rest[8] = 0xff;
        }
        let mut kit = kit(1);
        kit.feed(vec![data(0, [batch(0, &[b"a"]).to_vec(), rest].concat())]);
        assert!(kit.events().is_empty());
        assert_eq!(kit.offsets(), [0]);
        let errors = kit.errors();
        assert!(errors.len() == 1 && errors[0].contains(sentence) && errors[0].contains("offset 1"), "{errors:?}");
        assert!(kit.request().is_none());
    }
}

#[test]
fn of_a_batch_with_a_broken_record_nothing_is_handed_out() {
    let mut bytes = batch(0, &[b"a", b"b"]).to_vec();
    let last = bytes.len() - 1;
    bytes[last] = 9;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut kit = kit(1);
    kit.feed(vec![data(0, bytes)]);
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    assert_eq!(kit.errors().len(), 1);
}

#[test]
fn a_bomb_is_stopped_at_the_cap_and_not_fetched_again() {
    let zeros = vec![0; 4 << 20];
    let bomb = consumer_kit::build(0, 0, &[&zeros], Stamp::default(), CompressionType::Gzip);
    let mut kit = kit(1);
    kit.feed(vec![data(0, bomb)]);
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    assert_eq!(kit.errors().len(), 1);
    kit.pass(60_000);
    assert!(kit.request().is_none());
}

#[test]
fn a_damaged_marker_does_not_hide_anything() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, [batch(0, &[b"a"]), corrupt(&marker(1, 4)), batch(2, &[b"b"])].concat())]);
    assert_eq!(kit.offsets(), [0]);
    assert_eq!(kit.errors().len(), 1);
}

#[test]
fn batches_wholly_below_the_position_are_dropped_at_five_fetches_a_second_at_most() {
    let mut kit = kit(1);
    kit.consumer.seek(&key(0), StartPosition::Offset(50)).unwrap();
    let mut fetches = 0;
    for _ in 0..1_000 {
        while let Some(request) = kit.request() {
            fetches += 1;
            assert!(fetches <= 5, "more than five fetches within {:?}", kit.now);
            kit.answer_fetch(request.id, answer(9, vec![data(0, batch(0, &[b"old"]))]));
        }
        kit.pass(1);
    }
    assert_eq!(kit.position(0), Some(50));
    assert!(kit.events().is_empty());
}

#[test]
fn a_broker_that_answers_with_nothing_at_once_is_asked_five_times_a_second_at_most() {
    let mut kit = kit(1);
    let mut fetches = 0;
    for _ in 0..1_000 {
        while let Some(request) = kit.request() {
            fetches += 1;
            assert!(fetches <= 5, "more than five fetches within {:?}", kit.now);
            kit.answer_fetch(request.id, answer(9, vec![]));
        }
        kit.pass(1);
    }
}

#[test]
fn a_broker_that_has_waited_and_has_nothing_is_asked_again_at_once() {
    let mut kit = kit(1);
    let (id, _) = kit.fetch();
    kit.pass(100);
    kit.answer_fetch(id, answer(9, vec![]));
    assert!(kit.request().is_some());
}

#[test]
fn a_batch_larger_than_the_limit_of_its_partition_is_asked_for_whole() {
    let config = config().max_partition_fetch_bytes(100);
    let mut kit = Kit::of_partitions(config, 1);
    kit.versions.fetch = 2;
    let large = batch(0, &[&[b'x'; 1_000]]);
    kit.feed(vec![data(0, large.slice(..100))]);
    kit.pass(200);
    let (id, request) = kit.fetch();
    assert!(request.topics[0].partitions[0].partition_max_bytes as usize >= large.len());
    kit.answer_fetch(id, answer(0, vec![data(0, large)]));
    assert_eq!(kit.offsets(), [0]);
}

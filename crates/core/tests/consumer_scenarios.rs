//! The consumer machine, one promise after the other: what it asks for, hands out and reports.

mod consumer_kit;

use std::sync::Arc;

use bytes::Bytes;
use consumer_kit::{Kit, TOPIC, TOPIC_ID, answer, batch, data, key, marker, metadata, refusal, transactional};
use kavka_core::cluster::Notice;
use kavka_core::config::{AutoOffsetReset, ConsumerConfig, IsolationLevel};
use kavka_core::consumer::{ConsumerEvent, ConsumerRequest, StartPosition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::time::Instant;
use kavka_core::wire::messages::MetadataResponse;
use kavka_core::wire::messages::fetch::{AbortedTransaction, FetchTopic, PartitionData};
use kavka_core::wire::records::{CompressionType, Stamp};
use kavka_core::wire::{ErrorCode, Uuid};

fn config() -> ConsumerConfig {
    ConsumerConfig::default()
}

fn kit(partitions: i32) -> Kit {
    Kit::of_partitions(config(), partitions)
}

fn asked(topics: &[FetchTopic]) -> Vec<(i32, i64)> {
    topics.iter().flat_map(|topic| &topic.partitions).map(|one| (one.partition, one.fetch_offset)).collect()
}

fn corrupt(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

// Positions and hand-out.

#[test]
fn records_are_handed_out_in_order_and_move_the_position_one_by_one() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, [batch(0, &[b"a", b"b"]), batch(2, &[b"c"])].concat())]);
    let mut cursor = kit.cursor();
    assert_eq!(kit.position(0), Some(0), "what is only fetched does not count");
    assert_eq!(cursor.next_record().unwrap().offset, 0);
    assert_eq!(kit.position(0), Some(1));
    assert_eq!(cursor.next_record().unwrap().offset, 1);
    drop(cursor);
    assert_eq!(kit.offsets(), [2]);
    assert_eq!(kit.position(0), Some(3));
}

#[test]
fn a_batch_that_was_dropped_half_read_is_continued_where_it_was_left() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a", b"b", b"c"]))]);
    kit.cursor().next_record().unwrap();
    assert_eq!(kit.offsets(), [1, 2]);
}

#[test]
fn two_threads_never_hold_batches_of_one_partition_at_once() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, [batch(0, &[b"a"]), batch(1, &[b"b"])].concat())]);
    let cursor = kit.cursor();
    assert!(kit.consumer.take_batch().is_none());
    drop(cursor);
    assert!(kit.consumer.take_batch().is_some());
}

#[test]
fn partitions_take_turns_batch_by_batch() {
    let mut kit = kit(2);
    let two = |partition| data(partition, [batch(0, &[b"a"]), batch(1, &[b"b"])].concat());
    kit.feed(vec![two(0), two(1)]);
    let order: Vec<i32> = kit.take_all().iter().map(|given| given.partition).collect();
    assert_eq!(order, [0, 1, 0, 1]);
}

#[test]
fn a_position_inside_a_batch_skips_what_is_before_it() {
    let mut kit = kit(1);
    kit.consumer.seek(&key(0), StartPosition::Offset(2)).unwrap();
    kit.feed(vec![data(0, batch(0, &[b"a", b"b", b"c", b"d"]))]);
    assert_eq!(kit.offsets(), [2, 3]);
}

#[test]
fn offsets_that_were_compacted_away_are_no_error_and_the_position_passes_them() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(10, &[b"a"]))]);
    assert_eq!(kit.offsets(), [10]);
    kit.feed(vec![data(0, empty_batch(11, 19))]);
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    assert_eq!(kit.position(0), Some(20), "an empty batch moves the position too");
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 20)]);
}

/// What compaction leaves of a batch whose records are all gone.
fn empty_batch(base_offset: i64, last_offset: i64) -> Bytes {
    let mut bytes = batch(base_offset, &[b""])[..61].to_vec();
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&((last_offset - base_offset) as i32).to_be_bytes());
    bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

// Starting positions.

#[test]
fn earliest_latest_and_timestamps_are_asked_of_the_leader() {
    for (start, timestamp) in
        [(StartPosition::Earliest, -2), (StartPosition::Latest, -1), (StartPosition::Timestamp(77), 77)]
    {
        let mut kit = Kit::new(config());
        kit.leaders(&[(Some(1), 0)]);
        kit.consumer.add(&key(0), start).unwrap();
        assert_eq!(kit.position(0), None);
        let ConsumerRequest::ListOffsets(request) = kit.request().unwrap().body else { panic!("not ListOffsets") };
        assert_eq!(request.topics[0].partitions[0].timestamp, timestamp);
        assert_eq!(request.isolation_level, 1);
    }
}

#[test]
fn an_old_broker_is_not_asked_about_transactions_it_does_not_know() {
    let mut kit = Kit::new(config());
    kit.versions.list_offsets = 1;
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Latest).unwrap();
    let ConsumerRequest::ListOffsets(request) = kit.request().unwrap().body else { panic!("not ListOffsets") };
    assert_eq!(request.isolation_level, 0);
}

#[test]
fn a_timestamp_newer_than_every_record_begins_at_the_end() {
    let mut kit = Kit::new(config());
    kit.leaders(&[(Some(1), 0)]);
    kit.consumer.add(&key(0), StartPosition::Timestamp(77)).unwrap();
    kit.answer_offset(0, -1);
    kit.answer_offset(0, 40);
    assert_eq!(kit.position(0), Some(40));
}

#[test]
fn partitions_are_added_and_removed_one_by_one() {
    let mut kit = kit(2);
    assert_eq!(kit.consumer.add(&key(0), StartPosition::Latest).unwrap_err().kind(), ErrorKind::Misuse);
    kit.feed(vec![data(0, batch(0, &[b"a", b"b"])), data(1, batch(0, &[b"x"]))]);
    let mut cursor = kit.cursor();
    cursor.next_record().unwrap();
    assert_eq!(kit.consumer.remove(&key(0)).unwrap(), Some(1));
    assert!(cursor.next_record().is_none(), "nothing is handed out after a removal");
    assert_eq!(kit.take_all().len(), 1);
    assert_eq!(kit.consumer.remove(&key(0)).unwrap_err().kind(), ErrorKind::Misuse);
}

// Seek and pause.

#[test]
fn a_seek_wins_over_the_answer_that_is_on_its_way() {
    let mut kit = kit(1);
    let (id, _) = kit.fetch();
    kit.consumer.seek(&key(0), StartPosition::Offset(100)).unwrap();
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[b"stale"]))]));
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    let (id, request) = kit.fetch();
    assert_eq!(asked(&request.topics), [(0, 100)]);
    kit.answer_fetch(id, answer(9, vec![data(0, batch(100, &[b"fresh"]))]));
    assert_eq!(kit.offsets(), [100]);
}

#[test]
fn a_seek_to_the_same_offset_ignores_the_answer_too() {
    let mut kit = kit(1);
    let (id, _) = kit.fetch();
    kit.consumer.seek(&key(0), StartPosition::Offset(0)).unwrap();
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[b"a"]))]));
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
}

#[test]
fn a_seek_takes_effect_on_the_very_next_record() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a", b"b"]))]);
    let mut cursor = kit.cursor();
    cursor.next_record().unwrap();
    kit.consumer.seek(&key(0), StartPosition::Offset(50)).unwrap();
    assert!(cursor.next_record().is_none());
    assert_eq!(kit.position(0), Some(50));
}

#[test]
fn a_paused_partition_hands_out_nothing_and_goes_on_at_its_position() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a", b"b", b"c"]))]);
    let mut cursor = kit.cursor();
    cursor.next_record().unwrap();
    kit.consumer.pause(&key(0)).unwrap();
    assert!(cursor.next_record().is_none());
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    assert!(kit.request().is_none(), "a paused partition is not fetched");
    kit.consumer.resume(&key(0)).unwrap();
    assert_eq!(kit.offsets(), [1, 2]);
}

#[test]
fn an_answer_that_arrives_during_a_pause_is_kept_for_later() {
    let mut kit = kit(1);
    let (id, _) = kit.fetch();
    kit.consumer.pause(&key(0)).unwrap();
    kit.answer_fetch(id, answer(9, vec![data(0, batch(0, &[b"a"]))]));
    assert_eq!(kit.offsets(), Vec::<i64>::new());
    kit.consumer.resume(&key(0)).unwrap();
    assert_eq!(kit.offsets(), [0]);
}

#[test]
fn what_the_old_leader_says_of_an_offset_that_was_read_in_the_meantime_is_ignored() {
    let mut kit = kit(1);
    let old = kit.request().unwrap();
    kit.leaders(&[(Some(2), 0)]);
    kit.feed(vec![data(0, build_epochless(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
    kit.answer_fetch(old.id, answer(9, vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

// Out of range, truncation, topics that come back.

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
    kit.feed(vec![data(0, build_epochless(0, &[b"a", b"b"]))]);
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    assert!(kit.request().is_none(), "nothing to ask before the buffer is empty");
    assert_eq!(kit.offsets(), [0, 1]);
    kit.feed(vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
    kit.answer_offset(0, 30);
    assert!(matches!(&kit.events()[..], [ConsumerEvent::Reset { from: 2, to: 30, .. }]));
}

/// A batch from a broker that does not write leader epochs.
fn build_epochless(base_offset: i64, values: &[&[u8]]) -> Bytes {
    consumer_kit::build(base_offset, -1, values, Stamp::default(), CompressionType::None)
}

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

// Transactions.

fn with_aborted(partition: i32, records: Bytes, aborted: &[(i64, i64)]) -> PartitionData {
    let aborted = aborted.iter().map(|&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
    PartitionData { aborted_transactions: Some(aborted.collect()), ..data(partition, records) }
}

#[test]
fn read_committed_hands_out_neither_aborted_records_nor_markers() {
    let mut kit = kit(1);
    let log = [
        transactional(0, 1, &[b"aborted", b"aborted"]),
        batch(2, &[b"plain"]),
        transactional(3, 2, &[b"committed"]),
        marker(4, 1),
        marker(5, 2),
        transactional(6, 1, &[b"committed"]),
        marker(7, 1),
    ];
    kit.feed(vec![with_aborted(0, log.concat().into(), &[(1, 0)])]);
    assert_eq!(kit.offsets(), [2, 3, 6]);
    assert_eq!(kit.position(0), Some(8), "markers move the position");
}

#[test]
fn read_uncommitted_hands_out_everything_but_markers() {
    let config = config().isolation_level(IsolationLevel::ReadUncommitted);
    let mut kit = Kit::of_partitions(config, 1);
    let (id, request) = kit.fetch();
    assert_eq!(request.isolation_level, 0);
    kit.answer_fetch(id, answer(9, vec![data(0, [transactional(0, 1, &[b"a"]), marker(1, 1)].concat())]));
    assert_eq!(kit.offsets(), [0]);
    assert_eq!(kit.position(0), Some(2));
}

// Fetch sessions.

#[test]
fn a_session_is_told_only_what_changed() {
    let mut kit = kit(3);
    let (id, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (0, Some(0)));
    assert_eq!(asked(&request.topics).len(), 3);
    kit.answer_fetch(id, answer(9, vec![data(1, batch(0, &[b"a"]))]));
    let (id, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (9, Some(1)));
    assert_eq!(asked(&request.topics), [(1, 1)]);
    assert!(request.forgotten_topics_data.is_empty());
    kit.consumer.pause(&key(2)).unwrap();
    kit.pass(100);
    kit.answer_fetch(id, answer(9, vec![]));
    let (_, request) = kit.fetch();
    assert_eq!((request.session_epoch, asked(&request.topics)), (Some(2), vec![]));
    assert_eq!(request.forgotten_topics_data[0].partitions, [2]);
    assert_eq!(request.forgotten_topics_data[0].topic_id, TOPIC_ID);
}

#[test]
fn a_lost_session_is_begun_anew_with_every_partition() {
    for (code, session_id) in [(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 9)]
    {
        let mut kit = kit(2);
        kit.feed(vec![data(0, batch(0, &[b"a"]))]);
        let (id, _) = kit.fetch();
        kit.answer_fetch(id, kavka_core::wire::messages::FetchResponse { error_code: code, ..answer(0, vec![]) });
        let (_, request) = kit.fetch();
        assert_eq!((request.session_id, request.session_epoch), (session_id, Some(0)));
        let mut all = asked(&request.topics);
        all.sort_unstable();
        assert_eq!(all, [(0, 1), (1, 0)]);
    }
}

#[test]
fn after_an_unanswered_fetch_the_session_is_not_trusted() {
    let mut kit = kit(2);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    let (id, _) = kit.fetch();
    kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    assert!(kit.request().is_none(), "a broker that failed is left alone for a while");
    kit.pass(200);
    let (_, request) = kit.fetch();
    assert_eq!((request.session_id, request.session_epoch), (9, Some(0)));
    assert_eq!(asked(&request.topics).len(), 2);
}

#[test]
fn a_broker_without_sessions_gets_every_partition_each_time() {
    let mut kit = kit(2);
    kit.versions.fetch = 4;
    for _ in 0..2 {
        let (id, request) = kit.fetch();
        assert_eq!(request.session_epoch, None);
        assert_eq!(asked(&request.topics).len(), 2);
        kit.pass(100);
        let mut response = answer(0, vec![]);
        response.responses[0].topic = consumer_kit::TOPIC.into();
        kit.answer_fetch(id, response);
    }
}

#[test]
fn a_broker_that_comes_back_older_is_not_sent_a_delta() {
    let mut kit = kit(2);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    let (id, _) = kit.fetch();
    kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Disconnected, "gone")));
    kit.versions.fetch = 4;
    kit.pass(200);
    let (_, request) = kit.fetch();
    assert_eq!(request.session_epoch, None);
    assert_eq!(asked(&request.topics).len(), 2);
}

// Leaders.

#[test]
fn a_new_leader_named_in_an_answer_is_passed_on() {
    let mut kit = kit(1);
    let mut moved = refusal(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    moved.current_leader.leader_id = Some(2);
    moved.current_leader.leader_epoch = Some(4);
    kit.feed(vec![moved]);
    let hints = kit.events().into_iter().find_map(|event| match event {
        ConsumerEvent::Notice(Notice::LeaderHints { hints, .. }) => Some(hints),
        _ => None,
    });
    let hints = hints.expect("the hint is an event");
    assert_eq!((hints[0].leader, hints[0].leader_epoch), (2, Some(4)));
    assert!(kit.request().is_none());
    kit.leaders(&[(Some(2), 4)]);
    assert_eq!(kit.request().unwrap().broker_id(), Some(2), "the new leader is asked without waiting for the back-off");
}

#[test]
fn a_partition_without_a_leader_asks_for_metadata_once_a_second() {
    let mut kit = kit(1);
    kit.leaders(&[(None, 0)]);
    let mut refreshes = 0;
    for _ in 0..10 {
        assert!(kit.request().is_none());
        while let Some(event) = kit.consumer.poll_event() {
            assert!(matches!(event, ConsumerEvent::Notice(Notice::RefreshMetadata)));
            refreshes += 1;
        }
        let next = kit.consumer.poll_timeout().expect("a timer is set");
        assert!(next > kit.now);
        kit.now = next;
    }
    assert!(kit.now >= Instant(9_000) && refreshes == 10, "{refreshes} until {:?}", kit.now);
}

#[test]
fn each_broker_has_one_fetch_on_its_way_and_does_not_wait_for_another() {
    let mut kit = kit(2);
    kit.leaders(&[(Some(1), 0), (Some(2), 0)]);
    let (first, second) = (kit.request().unwrap(), kit.request().unwrap());
    assert_eq!((first.broker_id(), second.broker_id()), (Some(1), Some(2)));
    assert!(kit.request().is_none());
    kit.answer_fetch(second.id, answer(9, vec![data(1, batch(0, &[b"a"]))]));
    assert_eq!(kit.request().unwrap().broker_id(), Some(2));
}

#[test]
fn a_follower_in_our_rack_is_read_and_its_word_on_offsets_is_not_trusted() {
    let mut kit = Kit::of_partitions(config().client_rack(Some("a".into())), 1);
    let (id, request) = kit.fetch();
    assert_eq!(request.rack_id, "a");
    let redirect = PartitionData { preferred_read_replica: Some(3), ..data(0, Bytes::new()) };
    kit.answer_fetch(id, answer(9, vec![redirect]));
    let request = kit.request().unwrap();
    assert_eq!(request.broker_id(), Some(3));
    kit.answer_fetch(request.id, answer(5, vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    kit.pass(200);
    assert_eq!(kit.request().unwrap().broker_id(), Some(1), "the leader decides what is out of range");
    assert!(kit.events().is_empty());
}

/// Lets time pass in small steps, answering each fetch with what `answer` says; the answer is the errors by time.
fn errors_over(kit: &mut Kit, millis: u64, mut answer_with: impl FnMut() -> ErrorCode) -> Vec<(u64, String)> {
    let (begun, mut errors) = (kit.now.0, Vec::new());
    while kit.now.0 < begun + millis {
        while let Some(request) = kit.request() {
            if let ConsumerRequest::Fetch(_) = request.body {
                kit.answer_fetch(request.id, answer(9, vec![refusal(0, answer_with())]));
            }
        }
        errors.extend(kit.errors().into_iter().map(|error| (kit.now.0 - begun, error)));
        kit.pass(100);
    }
    errors
}

#[test]
fn a_topic_that_was_deleted_is_told_within_seconds_and_again_while_it_lasts() {
    let mut kit = kit(1);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    let errors = errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(errors.iter().all(|(_, error)| error.contains("the topic was deleted") && error.contains(TOPIC)));
    assert!((2..=3).contains(&errors.len()) && errors[0].0 <= 5_000, "{errors:?}");
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), [], "it is back");
}

#[test]
fn a_topic_that_was_deleted_is_told_also_when_metadata_has_forgotten_its_partitions() {
    let mut kit = kit(1);
    // As after a look at every topic of the cluster, or when the same client deleted it.
    let left_out = metadata(&[(Some(1), 0)], TOPIC_ID).merged(MetadataResponse::default(), true);
    kit.consumer.handle_metadata(kit.now, &Arc::new(left_out.clone()));
    kit.unknown_topic(&left_out);
    let errors = errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!((2..=3).contains(&errors.len()) && errors[0].0 <= 5_000, "{errors:?}");
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), [], "it is back");
}

#[test]
fn one_broker_that_lags_behind_does_not_make_a_topic_deleted() {
    // In its metadata, while the leader serves the topic.
    let mut kit = kit(1);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), []);
    // As a leader, while the metadata has the topic.
    let mut kit = self::kit(1);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    // Both, for a moment.
    let mut kit = self::kit(1);
    kit.unknown_topic(&metadata(&[(Some(1), 0)], TOPIC_ID));
    assert_eq!(errors_over(&mut kit, 1_000, || ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), []);
    kit.leaders(&[(Some(1), 0)]);
    assert_eq!(errors_over(&mut kit, 30_000, || ErrorCode::NONE), []);
}

#[test]
fn permission_that_is_taken_away_is_told_at_intervals_and_reading_goes_on_when_it_is_back() {
    let mut kit = kit(1);
    let errors = errors_over(&mut kit, 25_000, || ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert!(errors.len() == 3 && errors.iter().all(|(_, error)| error.contains("TOPIC_AUTHORIZATION_FAILED")));
    assert_eq!(errors_over(&mut kit, 25_000, || ErrorCode::NONE), []);
    kit.feed(vec![data(0, batch(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0], "nobody had to seek");
}

#[test]
fn what_no_retry_can_mend_is_reported_once() {
    let mut kit = kit(1);
    kit.feed(vec![refusal(0, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)]);
    assert_eq!(kit.errors().len(), 1);
    assert!(kit.request().is_none());

    let mut kit = self::kit(1);
    for _ in 0..3 {
        let (id, _) = kit.fetch();
        kit.consumer.handle_response(kit.now, id, Err(Error::new(ErrorKind::Authentication, "wrong password")));
        kit.pass(2_000);
    }
    assert!(matches!(&kit.events()[..], [ConsumerEvent::Failed(error), ..] if error.is_fatal()));
}

// Memory.

#[test]
fn fetches_in_flight_and_buffers_together_stay_within_the_bound() {
    let value = vec![b'x'; 1 << 10];
    let config = config().fetch_buffer(64 << 10).max_partition_fetch_bytes(16 << 10);
    let mut kit = Kit::of_partitions(config, 12);
    kit.leaders(&(0..12).map(|index| (Some(1 + index % 3), 0)).collect::<Vec<_>>());
    let record_bytes = batch(0, &[&value]).len();
    let mut next = [0_i64; 12];
    let mut held = 0;
    for round in 0..200 {
        let requests: Vec<_> = std::iter::from_fn(|| kit.request()).collect();
        let fetches = requests.into_iter().map(|request| match request.body {
            ConsumerRequest::Fetch(fetch) => (request.id, *fetch),
            other => panic!("not a fetch: {other:?}"),
        });
        let fetches: Vec<_> = fetches.collect();
        let in_flight: usize = fetches.iter().map(|(_, fetch)| fetch.max_bytes as usize).sum();
        assert!(held + in_flight <= 64 << 10, "{held} bytes held and {in_flight} asked for in round {round}");
        for (id, fetch) in fetches {
            let mut room = fetch.max_bytes as usize / record_bytes;
            let mut answers = Vec::new();
            for (partition, offset) in asked(&fetch.topics) {
                let count = room.min(4);
                room -= count;
                let records: Vec<Bytes> = (0..count).map(|index| batch(offset + index as i64, &[&value])).collect();
                held += count * record_bytes;
                answers.push(data(partition, records.concat()));
            }
            kit.answer_fetch(id, answer(0, answers));
        }
        for given in kit.take_some(usize::MAX).unwrap_or_default() {
            assert_eq!(given.offset, next[given.partition as usize], "nothing is skipped");
            next[given.partition as usize] += 1;
            held -= record_bytes;
        }
        kit.pass(50);
    }
    assert!(next.iter().all(|next| *next > 5), "every partition gets its share: {next:?}");
}

#[test]
fn a_partition_with_enough_buffered_is_left_out_until_some_was_taken() {
    let config = config().max_partition_fetch_bytes(100);
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let (id, request) = kit.fetch();
    assert_eq!(request.forgotten_topics_data[0].partitions, [0]);
    kit.pass(100);
    kit.answer_fetch(id, answer(9, vec![]));
    assert!(kit.consumer.wants_poll(), "the broker can be asked for more once something was taken");
    kit.take_all();
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_buffer_that_turns_out_to_be_empty_when_the_next_batch_is_wanted_is_worth_a_poll() {
    let config = config().max_partition_fetch_bytes(100);
    let mut kit = Kit::of_partitions(config, 1);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let mut cursor = kit.cursor();
    // The engine looks when the batch was taken, and nothing of it is read yet.
    assert!(kit.request().is_none());
    assert!(cursor.next_record().is_some());
    drop(cursor);
    assert!(kit.consumer.take_batch().is_none());
    assert!(kit.consumer.wants_poll(), "only the engine can bring more");
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
}

#[test]
fn a_broker_does_not_hold_a_fetch_for_long_while_a_partition_is_left_out() {
    let config = config().max_partition_fetch_bytes(100);
    let full_wait = i32::try_from(config.fetch_max_wait.as_millis()).unwrap();
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 300]]))]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let (id, request) = kit.fetch();
        waits.push(request.max_wait_ms);
        kit.pass(u64::try_from(request.max_wait_ms).unwrap());
        kit.answer_fetch(id, answer(9, vec![]));
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, full_wait], "an application that takes nothing is not polled for");
    kit.take_all();
    assert_eq!(kit.fetch().1.max_wait_ms, full_wait, "nothing is left out");
}

#[test]
fn the_buffers_of_paused_partitions_make_room_for_others() {
    let config = config().fetch_buffer(4_000).max_partition_fetch_bytes(2_000);
    let mut kit = Kit::of_partitions(config, 2);
    kit.feed(vec![data(0, batch(0, &[&[b'x'; 3_000]]))]);
    kit.consumer.pause(&key(0)).unwrap();
    assert_eq!(kit.fetch().1.topics.len(), 0, "partition 1 is fetched in the session");
    kit.consumer.resume(&key(0)).unwrap();
    assert_eq!(kit.position(0), Some(0));
}

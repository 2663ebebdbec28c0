//! The consumer machine, one promise after the other: where it starts, what it hands out, seeks, pauses and
//! transactions.

mod consumer_kit;

use bytes::Bytes;
use consumer_kit::{Kit, answer, asked, batch, config, data, epochless, key, kit, marker, refusal, transactional};
use kavka_core::config::IsolationLevel;
use kavka_core::consumer::{ConsumerRequest, StartPosition};
use kavka_core::error::ErrorKind;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::fetch::{AbortedTransaction, PartitionData};

// Positions, and handing out.

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

/// A batch whose records were all removed by compaction.
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
    kit.feed(vec![data(0, epochless(0, &[b"a"]))]);
    assert_eq!(kit.offsets(), [0]);
    kit.answer_fetch(old.id, answer(9, vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    assert_eq!(asked(&kit.fetch().1.topics), [(0, 1)]);
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

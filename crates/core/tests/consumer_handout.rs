//! Batches with more records than a cursor reads at a time, and lists of messages of which one is damaged.

mod consumer_kit;

use bytes::Bytes;
use kavka_core::config::ConsumerConfig;
use kavka_core::consumer::StartPosition;
use kavka_core::wire::records::{CompressionType, Compressor, Decompressor, Format, batches, to_message_set};

use consumer_kit::{Kit, batch, data, key};

const MANY: i64 = 40_000;

fn many() -> Bytes {
    batch(0, &vec![&b"v"[..]; MANY as usize])
}

fn kit() -> Kit {
    Kit::of_partitions(ConsumerConfig::default(), 1)
}

#[test]
fn a_batch_of_forty_thousand_records_is_handed_out_in_order_and_continued_where_it_was_left() {
    let mut kit = kit();
    kit.feed(vec![data(0, many())]);
    let mut offsets = Vec::new();
    for taken in [1, 16_384, 16_385] {
        offsets.extend(kit.take_some(taken).unwrap().into_iter().map(|given| given.offset));
    }
    offsets.extend(kit.offsets());
    assert_eq!(offsets, (0..MANY).collect::<Vec<_>>());
}

#[test]
fn the_records_that_are_read_ahead_count_against_the_fetch_buffer_as_long_as_the_batch_is_open() {
    let mut kit = kit();
    kit.feed(vec![data(0, many())]);
    let before = kit.consumer.buffered_bytes();
    let cursor = kit.cursor();
    let views = 16_384 * size_of::<kavka_core::wire::records::RecordView>();
    assert_eq!(kit.consumer.buffered_bytes(), before + views);
    drop(cursor);
    assert_eq!(kit.consumer.buffered_bytes(), before);
}

#[test]
fn a_batch_that_is_broken_behind_the_records_read_first_hands_out_none_of_them() {
    let mut kit = kit();
    let mut broken = many().to_vec();
    // The last byte of the last record says how many headers it has.
    *broken.last_mut().unwrap() = 2;
    let crc = crc32c::crc32c(&broken[21..]);
    broken[17..21].copy_from_slice(&crc.to_be_bytes());
    kit.feed(vec![data(0, broken)]);
    assert_eq!(kit.offsets(), [] as [i64; 0]);
    let errors = kit.errors();
    assert!(errors.len() == 1 && errors[0].contains("record 39999 of the batch at offset 0 is broken"), "{errors:?}");
}

/// Plain messages of an old format with these values, as a leader returns them.
fn plain_messages(values: &[&[u8]], format: Format) -> Vec<u8> {
    let raw = batches(batch(0, values)).next().unwrap().unwrap();
    let opened = raw.open(&mut Decompressor::new(), 1 << 20).unwrap();
    let mut uncompressed = Compressor::new(CompressionType::None.into()).unwrap();
    to_message_set(opened, format, &mut uncompressed).unwrap().to_vec()
}

#[test]
fn plain_messages_before_a_damaged_one_are_handed_out_and_then_its_error() {
    let values: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];
    for format in [Format::V0, Format::V1] {
        for damaged in 0..4_usize {
            let mut messages = plain_messages(&values, format);
            let message_bytes = messages.len() / values.len();
            messages[(damaged + 1) * message_bytes - 1] ^= 1;
            let mut kit = kit();
            kit.feed(vec![data(0, messages)]);
            let before: Vec<_> = (0..damaged as i64).collect();
            assert_eq!(kit.offsets(), before);
            assert_eq!(kit.position(0), Some(damaged as i64));
            let errors = kit.errors();
            assert!(errors.len() == 1 && errors[0].contains(&format!("offset {damaged} is corrupt")), "{errors:?}");
            assert!(kit.take_all().is_empty() && kit.errors().is_empty(), "it is told once");
            kit.consumer.seek(&key(0), StartPosition::Offset(damaged as i64 + 1)).unwrap();
            kit.feed(vec![data(0, plain_messages(&values, format))]);
            assert_eq!(kit.offsets(), (damaged as i64 + 1..4).collect::<Vec<_>>());
        }
    }
}

#[test]
fn records_taken_many_at_a_time_come_in_order_and_mix_with_single_ones() {
    let mut kit = kit();
    kit.feed(vec![data(0, many())]);
    let mut cursor = kit.cursor();
    let mut offsets = Vec::new();
    while let Some(record) = cursor.next_record() {
        offsets.push(record.offset);
        assert!(cursor.next_records(0).0.is_empty());
        let (more, data) = cursor.next_records(9_999);
        assert!(more.iter().all(|record| record.value.unwrap().of(data) == b"v"));
        offsets.extend(more.iter().map(|record| record.offset));
    }
    assert!(cursor.next_records(1).0.is_empty());
    drop(cursor);
    assert_eq!(offsets, (0..MANY).collect::<Vec<_>>());
    assert_eq!(kit.consumer.position(&key(0)), Some(MANY));
}

#[test]
fn a_seek_takes_effect_on_the_next_records_and_what_was_taken_before_it_counts_as_handed_out() {
    let mut kit = kit();
    kit.feed(vec![data(0, many())]);
    let mut cursor = kit.cursor();
    assert_eq!(cursor.next_records(5).0.len(), 5);
    assert_eq!(kit.consumer.position(&key(0)), Some(5));
    kit.consumer.seek(&key(0), StartPosition::Offset(2)).unwrap();
    assert!(cursor.next_records(5).0.is_empty());
    assert_eq!(kit.consumer.position(&key(0)), Some(2));
}

#[test]
fn batches_of_one_response_share_it_and_others_do_not() {
    let mut kit = kit();
    let mut two = batch(0, &[b"a"]).to_vec();
    two.extend_from_slice(&batch(1, &[b"b"]));
    kit.feed(vec![data(0, two)]);
    let mut responses = Vec::new();
    for _ in 0..2 {
        let mut cursor = kit.cursor();
        assert!(cursor.next_record().is_some());
        responses.push(cursor.shared_response().unwrap());
    }
    kit.feed(vec![data(0, batch(2, &[b"c"]))]);
    let other = kit.cursor().shared_response().unwrap();
    assert!(responses[0] == responses[1] && responses[0] != other);
}

//! Batches with more records than a cursor reads at a time.

mod consumer_kit;

use bytes::Bytes;
use kavka_core::config::ConsumerConfig;

use consumer_kit::{Kit, batch, data};

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

//! Compressing large batches before they are sent, while everything else goes on.

mod producer_support;

use std::time::Duration;

use kavka_core::config::ProducerConfig;
use kavka_core::error::{ErrorKind, Phase};
use kavka_core::producer::{Appended, BatchesToCompress, ProducerRequest};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::records::{Compression, CompressionType, Compressor};
use producer_support::{Rig, config, failure, is_open, offset};

const CODEC: CompressionType = CompressionType::Lz4;

/// A value that fills a batch of [`compressed`] alone, and is too large to be compressed with its request.
fn large(letter: char) -> String {
    String::from(letter).repeat(80_000)
}

fn compressed() -> ProducerConfig {
    let mut config = config().compression(CODEC.into());
    config.batch_size = 100_000;
    config
}

fn compress(rig: &mut Rig, mut batches: BatchesToCompress) {
    batches.compress(&mut Compressor::new(Compression::from(CODEC)).unwrap());
    rig.producer.handle_compressed(rig.now, batches);
}

fn to_compress(rig: &mut Rig) -> BatchesToCompress {
    rig.producer.poll_compression().expect("there is something to compress")
}

fn first_letters(sent: &producer_support::Sent) -> String {
    sent.batches.iter().map(|batch| char::from(batch.values[0][0])).collect()
}

#[test]
fn while_a_batch_is_compressed_the_other_partitions_of_its_broker_go_on() {
    let mut rig = Rig::new(compressed(), 2);
    let (slow, quick) = (rig.append_alone(0, &large('a')), rig.append_alone(1, "b"));

    let sent = rig.sent();
    assert_eq!(first_letters(&sent), "b");
    rig.answer(&sent, ErrorCode::NONE, 7);
    assert_eq!((offset(&quick), is_open(&slow)), (Some(7), true));
    assert!(rig.poll().is_none());

    let batches = to_compress(&mut rig);
    compress(&mut rig, batches);
    let sent = rig.sent();
    assert_eq!(first_letters(&sent), "a");
    assert!(sent.batches[0].records.len() < 80_000, "it is compressed");
    rig.answer(&sent, ErrorCode::NONE, 8);
    assert_eq!(offset(&slow), Some(8));
}

#[test]
fn the_batches_of_a_partition_are_compressed_at_once_and_sent_in_order() {
    let mut rig = Rig::warm(compressed());
    for letter in ['a', 'b', 'c'] {
        rig.append(0, &large(letter));
    }
    rig.producer.flush(rig.now, rig.handle);
    assert!(rig.poll().is_none());
    let (first, second) = (to_compress(&mut rig), to_compress(&mut rig));

    compress(&mut rig, second);
    assert!(rig.poll().is_none(), "the second must not overtake the first");
    compress(&mut rig, first);
    assert_eq!((first_letters(&rig.sent()), first_letters(&rig.sent())), ("a".into(), "b".into()));
    // The last one was not full, so it stayed open until it could be sent.
    assert!(rig.poll().is_none());
    let third = to_compress(&mut rig);
    compress(&mut rig, third);
    assert_eq!(first_letters(&rig.sent()), "c");
}

#[test]
fn a_record_whose_time_is_up_while_its_batch_is_compressed_fails_as_not_written() {
    let mut rig = Rig::warm(compressed().delivery_timeout(Duration::from_secs(1)));
    let slow: Appended = rig.append_alone(0, &large('a'));
    assert!(rig.poll().is_none());
    let batches = to_compress(&mut rig);
    rig.after(1_000);
    assert!(rig.poll().is_none());
    rig.events();
    let error = failure(&slow);
    assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Delivery));
    assert!(error.to_string().contains("it was not written"), "{error}");

    let next = rig.append_alone(0, "b");
    let sent = rig.sent();
    compress(&mut rig, batches);
    assert!(rig.poll().is_none(), "nobody waits for it any more");
    rig.answer(&sent, ErrorCode::NONE, 9);
    assert_eq!(offset(&next), Some(9));
}

#[test]
fn what_a_request_cannot_compress_quickly_is_compressed_before_it_and_sent_together() {
    let mut rig = Rig::new(compressed(), 100);
    let value = "v".repeat(2_000);
    for partition in 0..100 {
        rig.append_alone(partition, &value);
    }
    assert_eq!(rig.sent().batches.len(), 31, "64 KiB");
    assert!(rig.poll().is_none());
    let batches: Vec<_> = std::iter::from_fn(|| rig.producer.poll_compression()).collect();
    assert_eq!(batches.len(), 3, "the others, 64 KiB each");
    for batches in batches {
        compress(&mut rig, batches);
    }
    assert_eq!(rig.sent().batches.len(), 69);
}

#[test]
fn a_batch_that_was_not_compressed_because_of_a_bug_fails_and_holds_nothing_up() {
    let mut rig = Rig::warm(compressed());
    let lost = rig.append_alone(0, &large('a'));
    assert!(rig.poll().is_none());
    let batches = to_compress(&mut rig);
    rig.producer.handle_compressed(rig.now, batches);
    let call = rig.producer.poll_request(rig.now).unwrap();
    let id = call.id;
    let ProducerRequest::Produce(request) = call.body else { panic!("it is known as a producer") };
    let error = request.seal(&mut Compressor::new(Compression::from(CODEC)).unwrap()).unwrap_err();
    rig.producer.handle_response(rig.now, id, Err(error));
    rig.events();
    assert_eq!(failure(&lost).kind(), ErrorKind::Internal);

    let next = rig.append_alone(0, "b");
    let sent = rig.sent();
    rig.answer(&sent, ErrorCode::NONE, 9);
    assert_eq!(offset(&next), Some(9));
}

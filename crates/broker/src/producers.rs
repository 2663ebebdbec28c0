//! The idempotent producers of one partition (KIP-98).
//!
//! For each producer id it stores the epoch, the last sequence number and the last five batches. From Kafka 2.5 on, a
//! producer that the partition does not know may start at any sequence number (KIP-360); before, only at 0.
//!
//! Not here: transactions, and forgetting producers that were silent for a day.

use std::collections::{BTreeMap, VecDeque};

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::records::ProducerStamp;

use crate::KafkaVersion;

/// How many batches of a producer are remembered: as many as it may have in flight.
const REMEMBERED_BATCHES: usize = 5;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Appended {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

#[derive(Debug)]
struct Producer {
    producer_epoch: i16,
    batches: VecDeque<Appended>,
}

/// Whether to append a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// It was already appended, at this offset.
    Duplicate(i64),
}

/// The idempotent producers that have written to one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    /// Whether a batch of `record_count` records may be appended.
    ///
    /// Errors: `INVALID_PRODUCER_EPOCH` if the producer has written with a newer epoch, `OUT_OF_ORDER_SEQUENCE_NUMBER`
    /// if the sequence number is not the next one. `UNKNOWN_PRODUCER_ID` if the producer has not written before and
    /// should begin at 0.
    pub(crate) fn check(
        &self,
        stamp: ProducerStamp,
        record_count: u32,
        kafka_version: KafkaVersion,
    ) -> Result<Verdict, ErrorCode> {
        let Some(producer) = self.0.get(&stamp.producer_id) else {
            if stamp.base_sequence == 0 || kafka_version >= KafkaVersion::V2_8 {
                return Ok(Verdict::New);
            }
            let is_first = kafka_version < KafkaVersion::V1_1;
            let error_code =
                if is_first { ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER } else { ErrorCode::UNKNOWN_PRODUCER_ID };
            return Err(error_code);
        };
        let last_sequence = last_sequence(stamp.base_sequence, record_count);
        if producer.producer_epoch == stamp.producer_epoch {
            let known = producer
                .batches
                .iter()
                .find(|batch| batch.base_sequence == stamp.base_sequence && batch.last_sequence == last_sequence);
            if let Some(batch) = known {
                return Ok(Verdict::Duplicate(batch.base_offset));
            }
        }
        if stamp.producer_epoch < producer.producer_epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let expected = match producer.batches.back() {
            Some(batch) if stamp.producer_epoch == producer.producer_epoch => next_sequence(batch.last_sequence),
            _ => 0,
        };
        if stamp.base_sequence == expected { Ok(Verdict::New) } else { Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) }
    }

    /// Remembers an appended batch.
    pub(crate) fn appended(&mut self, stamp: ProducerStamp, record_count: u32, base_offset: i64) {
        let ProducerStamp { producer_id, producer_epoch, base_sequence } = stamp;
        let producer =
            self.0.entry(producer_id).or_insert_with(|| Producer { producer_epoch, batches: VecDeque::new() });
        if producer.producer_epoch != producer_epoch {
            producer.producer_epoch = producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        let last_sequence = last_sequence(base_sequence, record_count);
        producer.batches.push_back(Appended { base_sequence, last_sequence, base_offset });
    }

    /// Forgets batches that were truncated; a producer without batches is unknown again.
    pub(crate) fn truncate(&mut self, end_offset: i64) {
        self.0.retain(|_, producer| {
            producer.batches.retain(|batch| batch.base_offset < end_offset);
            !producer.batches.is_empty()
        });
    }
}

/// Sequence numbers wrap around: 0 follows `i32::MAX`.
fn last_sequence(base_sequence: i32, record_count: u32) -> i32 {
    let last = i64::from(base_sequence).wrapping_add(i64::from(record_count)).wrapping_sub(1);
    (last & i64::from(i32::MAX)) as i32
}

fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer_epoch: i16, base_sequence: i32) -> ProducerStamp {
        ProducerStamp { producer_id: 7, producer_epoch, base_sequence }
    }

    /// A producer with `batches` batches of 10 records each, at sequence numbers 0, 10, ...
    fn after(batches: i32) -> Producers {
        let mut producers = Producers::default();
        for batch in 0..batches {
            producers.appended(stamp(0, batch * 10), 10, i64::from(batch) * 100);
        }
        producers
    }

    #[test]
    fn a_duplicate_among_the_last_five_batches_has_its_first_offset() {
        let producers = after(6);
        assert_eq!(producers.check(stamp(0, 50), 10, KafkaVersion::V4_4), Ok(Verdict::Duplicate(500)));
        assert_eq!(producers.check(stamp(0, 10), 10, KafkaVersion::V4_4), Ok(Verdict::Duplicate(100)));
    }

    #[test]
    fn a_duplicate_older_than_five_batches_is_out_of_order() {
        assert_eq!(after(6).check(stamp(0, 0), 10, KafkaVersion::V4_4), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_gap_in_the_sequence_is_out_of_order() {
        assert_eq!(after(1).check(stamp(0, 11), 10, KafkaVersion::V4_4), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(after(1).check(stamp(0, 10), 10, KafkaVersion::V4_4), Ok(Verdict::New));
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(Producers::default().check(stamp(3, 77), 1, KafkaVersion::V4_4), Ok(Verdict::New));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = after(1);
        assert_eq!(producers.check(stamp(1, 10), 1, KafkaVersion::V4_4), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(producers.check(stamp(1, 0), 1, KafkaVersion::V4_4), Ok(Verdict::New));
        producers.appended(stamp(1, 0), 1, 100);
        assert_eq!(producers.check(stamp(0, 10), 1, KafkaVersion::V4_4), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    }

    #[test]
    fn sequences_go_round_at_the_largest_integer() {
        let mut producers = Producers::default();
        producers.appended(stamp(0, i32::MAX - 1), 2, 0);
        assert_eq!(producers.check(stamp(0, 0), 1, KafkaVersion::V4_4), Ok(Verdict::New));
        producers.appended(stamp(0, i32::MAX), 3, 0);
        assert_eq!(producers.check(stamp(0, 2), 1, KafkaVersion::V4_4), Ok(Verdict::New));
    }
}

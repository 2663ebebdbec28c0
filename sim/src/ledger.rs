//! A topic written before the run, with committed, aborted and open transactions, and with the gaps that compaction
//! leaves. This file decides the fate of each transaction, so it knows what a reader with `read_committed` must see.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kavka_core::random::Random;
use kavka_core::wire::records::{
    BatchBuilder, BufferPool, Compression, CompressionType, Compressor, ControlType, ProducerStamp, Stamp,
    assign_offset, end_transaction_marker, set_log_append_time,
};

const BATCHES: usize = 60;
/// Fields of a record batch of magic 2.
const LENGTH: std::ops::Range<usize> = 8..12;
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;
const RECORD_COUNT: std::ops::Range<usize> = 57..61;
const HEADER_BYTES: usize = 61;

/// One partition of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    name: String,
    /// In order, with their offsets.
    pub(crate) batches: Vec<Bytes>,
    /// The records that a reader must see, by offset.
    pub(crate) visible: BTreeMap<i64, Vec<u8>>,
}

impl Ledger {
    /// `name` is in all values, so that the judge sees when a record of one ledger is taken for one of another.
    pub(crate) fn written(random: &mut Random, name: &str) -> Self {
        let mut ledger = Self { name: name.to_owned(), ..Self::default() };
        let mut end = 0;
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for _ in 0..BATCHES {
            end += if random.below(8) == 0 { random.below(5) as i64 } else { 0 };
            let producer_id = random.below(3) as i64;
            let count = 1 + random.below(4) as i64;
            match random.below(7) {
                0 | 1 => ledger.push(end, count, Stamp::default()),
                6 => {
                    ledger.push_compacted(end, random.below(count as usize + 1) as i64, count);
                }
                2..=4 => {
                    ledger.push(end, count, stamp(producer_id, false));
                    open.entry(producer_id).or_default().extend(end..end + count);
                }
                _ => {
                    // A marker may stand alone: its transaction has no records in this partition.
                    let is_aborted = random.below(2) == 0;
                    ledger.push_marker(end, producer_id, is_aborted);
                    for offset in open.remove(&producer_id).into_iter().flatten().filter(|_| is_aborted) {
                        ledger.visible.remove(&offset);
                    }
                    end += 1;
                    continue;
                }
            }
            end += count;
        }
        if let Some(last_stable_offset) = open.values().filter_map(|offsets| offsets.first().copied()).min() {
            ledger.visible.split_off(&last_stable_offset);
        }
        ledger
    }

    fn push(&mut self, base_offset: i64, count: i64, stamp: Stamp) {
        let name = &self.name;
        let values: Vec<_> = (base_offset..base_offset + count).map(|offset| format!("{name} {offset}")).collect();
        let records: Vec<_> = values.iter().map(|value| (None, value.as_bytes())).collect();
        let codec = if stamp.transactional { CompressionType::Lz4 } else { CompressionType::None };
        self.batches.push(sealed(base_offset, &records, stamp, codec));
        self.visible.extend((base_offset..).zip(values.into_iter().map(String::into_bytes)));
    }

    /// A batch of which compaction has left only the first records, or none.
    fn push_compacted(&mut self, base_offset: i64, left: i64, count: i64) {
        self.push(base_offset, left.max(1), Stamp::default());
        let mut bytes = self.batches.pop().unwrap_or_default().to_vec();
        bytes[LAST_OFFSET_DELTA].copy_from_slice(&(count as i32 - 1).to_be_bytes());
        if left == 0 {
            self.visible.remove(&base_offset);
            bytes.truncate(HEADER_BYTES);
            bytes[LENGTH].copy_from_slice(&((HEADER_BYTES - LENGTH.end) as u32).to_be_bytes());
            bytes[RECORD_COUNT].copy_from_slice(&[0; 4]);
        }
        // This also computes the checksum anew.
        set_log_append_time(&mut bytes, 0);
        self.batches.push(bytes.into());
    }

    fn push_marker(&mut self, offset: i64, producer_id: i64, is_aborted: bool) {
        let key = if is_aborted { ControlType::Abort } else { ControlType::Commit }.key();
        let value = end_transaction_marker(0);
        let record = (Some(&key[..]), &value[..]);
        self.batches.push(sealed(offset, &[record], stamp(producer_id, true), CompressionType::None));
    }
}

fn stamp(producer_id: i64, is_marker: bool) -> Stamp {
    let base_sequence = if is_marker { -1 } else { 0 };
    let producer = Some(ProducerStamp { producer_id, producer_epoch: 0, base_sequence });
    Stamp { producer, transactional: true, control: is_marker }
}

/// A batch as it is in the log.
pub(crate) fn sealed(
    base_offset: i64,
    records: &[(Option<&[u8]>, &[u8])],
    stamp: Stamp,
    codec: CompressionType,
) -> Bytes {
    let pool = BufferPool::new(1 << 20, Arc::new(|| ()));
    let mut builder = BatchBuilder::new(&pool, 1 << 20);
    for (key, value) in records {
        builder.append(0, *key, Some(value), &[]).expect("a small record");
    }
    let mut compressor = Compressor::new(Compression::from(codec)).expect("the codec is known");
    let batch = builder.seal(stamp, &mut compressor).expect("a small batch");
    let mut bytes = batch.into_bytes().to_vec();
    assign_offset(&mut bytes, base_offset, 0);
    bytes.into()
}

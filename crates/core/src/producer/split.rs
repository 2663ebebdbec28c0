//! Makes a new batch of records of a sealed one.
//!
//! Only for batches that were definitely rejected: a batch that may be in the log never changes. This is rare, so the
//! records are simply read and encoded again.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::records::{BatchBuilder, BufferPool, Decompressor, Header, Records, batches};

/// A new batch of this range of the records. Takes time: call it outside all locks.
///
/// Its memory does not come from the producer's pool: the old batch still holds its share, and the new one must neither
/// fail nor wait.
pub(super) fn rebuild(records: &Records, range: &Range<u32>) -> Result<BatchBuilder> {
    #[cfg(test)]
    tests::REBUILT.with(|count| count.set(count.get() + 1));
    let unreadable = || Error::new(ErrorKind::Internal, "a sealed record batch cannot be read back");
    let raw = batches(records.clone().into_bytes()).next().ok_or_else(unreadable)??;
    let mut batch = raw.open(&mut Decompressor::new(), usize::MAX)?;
    let data = batch.data().clone();
    let pool = BufferPool::new(usize::MAX, Arc::new(|| ()));
    let mut builder = BatchBuilder::new(&pool, i32::MAX as usize);
    let mut index = 0;
    while let Some(record) = batch.next_record() {
        let record = record?;
        if range.contains(&index) {
            let key = record.key.map(|span| span.of(&data));
            let value = record.value.map(|span| span.of(&data));
            let headers: Vec<Header<'_>> = record.headers(&data).collect();
            builder
                .append(record.timestamp_ms, key, value, &headers)
                .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        }
        index += 1;
    }
    Ok(builder)
}

#[cfg(test)]
pub(in crate::producer) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::wire::records::{Compression, Compressor, Stamp};

    thread_local! {
        /// How many batches this thread has made.
        pub(in crate::producer) static REBUILT: Cell<usize> = const { Cell::new(0) };
    }

    fn values(builder: BatchBuilder) -> Vec<Vec<u8>> {
        let records = builder.seal(Stamp::default(), &mut Compressor::new(Compression::default()).unwrap()).unwrap();
        let raw = batches(records.into_bytes()).next().unwrap().unwrap();
        let mut batch = raw.open(&mut Decompressor::new(), 1 << 20).unwrap();
        let data = batch.data().clone();
        std::iter::from_fn(|| batch.next_record()).map(|r| r.unwrap().value.unwrap().of(&data).to_vec()).collect()
    }

    #[test]
    fn a_range_becomes_a_batch_with_its_records_in_order() {
        let pool = BufferPool::new(1 << 20, Arc::new(|| ()));
        let mut builder = BatchBuilder::new(&pool, 1 << 20);
        for value in [b"a", b"b", b"c", b"d", b"e"] {
            let headers = [Header { key: b"h", value: None }];
            builder.append(7, Some(b"k"), Some(value), &headers).unwrap();
        }
        let records = builder.seal(Stamp::default(), &mut Compressor::new(Compression::default()).unwrap()).unwrap();
        let pieces = [0..1, 2..5].map(|range| values(rebuild(&records, &range).unwrap()));
        assert_eq!(pieces, [vec![b"a".to_vec()], vec![b"c".to_vec(), b"d".to_vec(), b"e".to_vec()]]);
    }
}

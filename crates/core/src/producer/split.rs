//! Splits a sealed batch.
//!
//! Only for batches that were definitely rejected: a batch that may be in the log never changes. This is rare, so the
//! records are simply read and encoded again.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::records::{BatchBuilder, BufferPool, Decompressor, Header, Records, batches};

/// New batches, one for each of `ranges` of the records. The ranges ascend and do not overlap.
///
/// Their memory does not come from the producer's pool: the batch that they replace still holds its share, and the
/// replacement must neither fail nor wait.
pub(super) fn rebuild(records: &Records, ranges: &[Range<u32>]) -> Result<Vec<BatchBuilder>> {
    let unreadable = || Error::new(ErrorKind::Internal, "a sealed record batch cannot be read back");
    let raw = batches(records.clone().into_bytes()).next().ok_or_else(unreadable)??;
    let mut batch = raw.open(&mut Decompressor::new(), usize::MAX)?;
    let data = batch.data().clone();
    let pool = BufferPool::new(usize::MAX, Arc::new(|| ()));
    let mut builders: Vec<BatchBuilder> = ranges.iter().map(|_| BatchBuilder::new(&pool, i32::MAX as usize)).collect();
    let mut targets = ranges.iter().zip(&mut builders).peekable();
    let mut index = 0;
    while let Some(record) = batch.next_record() {
        let record = record?;
        while targets.next_if(|(range, _)| range.end <= index).is_some() {}
        if let Some((range, builder)) = targets.peek_mut()
            && range.contains(&index)
        {
            let key = record.key.map(|span| span.of(&data));
            let value = record.value.map(|span| span.of(&data));
            let headers: Vec<Header<'_>> = record.headers(&data).collect();
            builder
                .append(record.timestamp_ms, key, value, &headers)
                .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        }
        index += 1;
    }
    Ok(builders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::records::{Compression, Compressor, Stamp};

    fn values(builder: BatchBuilder) -> Vec<Vec<u8>> {
        let records = builder.seal(Stamp::default(), &mut Compressor::new(Compression::default()).unwrap()).unwrap();
        let raw = batches(records.into_bytes()).next().unwrap().unwrap();
        let mut batch = raw.open(&mut Decompressor::new(), 1 << 20).unwrap();
        let data = batch.data().clone();
        std::iter::from_fn(|| batch.next_record()).map(|r| r.unwrap().value.unwrap().of(&data).to_vec()).collect()
    }

    #[test]
    fn each_range_becomes_a_batch_with_its_records_in_order() {
        let pool = BufferPool::new(1 << 20, Arc::new(|| ()));
        let mut builder = BatchBuilder::new(&pool, 1 << 20);
        for value in [b"a", b"b", b"c", b"d", b"e"] {
            let headers = [Header { key: b"h", value: None }];
            builder.append(7, Some(b"k"), Some(value), &headers).unwrap();
        }
        let records = builder.seal(Stamp::default(), &mut Compressor::new(Compression::default()).unwrap()).unwrap();
        let pieces = rebuild(&records, &[0..1, 2..5]).unwrap();
        let pieces: Vec<_> = pieces.into_iter().map(values).collect();
        assert_eq!(pieces, [vec![b"a".to_vec()], vec![b"c".to_vec(), b"d".to_vec(), b"e".to_vec()]]);
    }
}

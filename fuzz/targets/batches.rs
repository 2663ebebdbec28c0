//! Record batches and message sets, whose lengths and checksums are right, and the rest is anything.
//!
//! Reading them takes bounded memory, whatever they claim. No record has an offset behind its batch, and there are as
//! many as were announced, unless reading ends with an error. That offsets increase is checked later, when a consumer
//! hands them out: see the target `consumer`.
#![no_main]

use bytes::Bytes;
use kavka_core::wire::records::{Decompressor, RawBatch, batches};
use kavka_fuzz::records::some_records;
use kavka_fuzz::{Unstructured, arbitrary, within_memory};
use libfuzzer_sys::fuzz_target;

/// The most that a batch may become when it is decompressed.
const MOST_BYTES: usize = 256 << 10;

/// Reads all of a batch.
fn read(batch: &RawBatch) {
    let Ok(mut records) = batch.open(&mut Decompressor::new(), MOST_BYTES) else { return };
    let (data, last_offset, count) = (records.data().clone(), records.header().last_offset, records.remaining());
    assert!(data.len() <= MOST_BYTES.max(batch.bytes().len()));
    let mut read = 0;
    while let Some(record) = records.next_record() {
        let Ok(record) = record else { return };
        assert!(record.offset <= last_offset, "a record has an offset behind its batch");
        for span in [record.key, record.value].into_iter().flatten() {
            assert!(span.of(&data).len() <= data.len());
        }
        for header in record.headers(&data) {
            assert!(header.key.len() + header.value.unwrap_or_default().len() <= data.len());
        }
        read += 1;
    }
    assert_eq!(read, count, "the number of records is checked before the first is read");
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let bytes = Bytes::from(some_records(input)?);
    // A growing buffer is copied into one of twice its size.
    let work = || {
        for batch in batches(bytes.clone()) {
            let Ok(batch) = batch else { return };
            read(&batch);
        }
    };
    within_memory(bytes.len(), 3 * MOST_BYTES, work);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

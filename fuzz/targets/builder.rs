//! Records of any content, built into a batch: a reader that shares no code with the builder finds the same records,
//! once `kavka-core` has decompressed them.
#![no_main]

use std::sync::Arc;

use kavka_core::wire::records::{
    BatchBuilder, BufferPool, CompressionType, Compressor, Decompressor, Header, ProducerStamp, Stamp,
};
use kavka_fuzz::records::some_codec;
use kavka_fuzz::{Unstructured, arbitrary, some_bytes};
use libfuzzer_sys::fuzz_target;

/// A key, a value or the value of a header.
type Field = Option<Vec<u8>>;

#[derive(Debug, Clone, PartialEq)]
struct Record {
    timestamp_ms: i64,
    key: Field,
    value: Field,
    headers: Vec<(Vec<u8>, Field)>,
}

fn some_field(input: &mut Unstructured<'_>) -> arbitrary::Result<Field> {
    let is_null: bool = input.ratio(1, 4)?;
    let content = some_bytes(input, 200)?.repeat(input.int_in_range(0..=20_usize)?);
    Ok((!is_null).then_some(content))
}

fn some_record(input: &mut Unstructured<'_>) -> arbitrary::Result<Record> {
    let timestamp_ms = if input.ratio(1, 4)? { input.arbitrary()? } else { i64::from(input.arbitrary::<u16>()?) };
    let (key, value, mut headers) = (some_field(input)?, some_field(input)?, Vec::new());
    for _ in 0..input.int_in_range(0..=3_u8)? {
        headers.push((some_bytes(input, 20)?.to_vec(), some_field(input)?));
    }
    Ok(Record { timestamp_ms, key, value, headers })
}

/// Reads a batch by the protocol's description: bytes from the front, each read once.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> i64 {
        let taken = self.take(bytes);
        let sign = if taken[0] & 0x80 == 0 { 0 } else { -1 };
        taken.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
    }

    fn varint(&mut self) -> i64 {
        let (mut raw, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            raw |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (raw >> 1) as i64 ^ -((raw & 1) as i64);
            }
        }
    }

    fn field(&mut self) -> Field {
        let length = self.varint();
        (length >= 0).then(|| self.take(length as usize).to_vec())
    }

    fn record(&mut self, index: usize, base_timestamp: i64) -> Record {
        let length = self.varint() as usize;
        let mut body = Reader(self.take(length));
        assert_eq!(body.number(1), 0, "the attributes");
        let timestamp_ms = base_timestamp.wrapping_add(body.varint());
        assert_eq!(body.varint(), index as i64, "the offset");
        let (key, value) = (body.field(), body.field());
        let count = body.varint();
        let headers = (0..count).map(|_| (body.field().expect("a header has a key"), body.field())).collect();
        assert!(body.0.is_empty(), "bytes behind a record");
        Record { timestamp_ms, key, value, headers }
    }
}

/// Checks a whole batch of these records.
fn check(bytes: &[u8], records: &[Record], stamp: ProducerStamp) {
    let mut header = Reader(bytes);
    assert_eq!(header.number(8), 0, "the base offset");
    assert_eq!(header.number(4), bytes.len() as i64 - 12, "the length");
    assert_eq!(header.number(4), -1, "the leader epoch");
    assert_eq!(header.number(1), 2, "the magic");
    assert_eq!(header.number(4) as u32, crc32c::crc32c(&bytes[21..]), "the checksum");
    let attributes = header.number(2);
    assert_eq!(header.number(4), records.len() as i64 - 1, "the last offset");
    let (base, most) = (header.number(8), header.number(8));
    assert_eq!(base, records[0].timestamp_ms);
    assert_eq!(Some(most), records.iter().map(|record| record.timestamp_ms).max());
    assert_eq!(header.number(8), stamp.producer_id);
    assert_eq!(header.number(2), i64::from(stamp.producer_epoch));
    assert_eq!(header.number(4), i64::from(stamp.base_sequence));
    assert_eq!(header.number(4), records.len() as i64);
    let codec = CompressionType::from_id(attributes as u8 & 7).expect("we chose it");
    let body = Decompressor::new().decompress(codec, header.0, 64 << 20).expect("we wrote it");
    let mut body = Reader(&body);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(body.record(index, base), *record);
    }
    assert!(body.0.is_empty(), "bytes behind the last record");
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let codec = some_codec(input)?;
    let stamp = ProducerStamp {
        producer_id: i64::from(input.arbitrary::<u32>()?),
        producer_epoch: i16::from(input.arbitrary::<u8>()?),
        base_sequence: i32::from(input.arbitrary::<u16>()?),
    };
    let pool = BufferPool::new(4 << 20, Arc::new(|| ()));
    let (mut builder, mut records) = (BatchBuilder::new(&pool, 1 << 20), Vec::new());
    while !input.is_empty() {
        let record = some_record(input)?;
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if builder.append(record.timestamp_ms, key, value, &headers).is_ok() {
            records.push(record.clone());
        }
    }
    if records.is_empty() {
        return Ok(());
    }
    let mut compressor = Compressor::new(codec.into()).expect("it has a default level");
    let sealed = builder.seal(Stamp { producer: Some(stamp), ..Stamp::default() }, &mut compressor).expect("it fits");
    check(&sealed.into_bytes(), &records, stamp);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

//! Reads record batches of magic 2, for the judge only.
//!
//! It is simple, slow and independent of `kavka_core::wire`: a client whose decoder has a bug must not be judged by
//! that decoder. It supports no compression except LZ4, the only codec of the simulator, and panics on anything it does
//! not understand, because the broker has accepted everything in a log.

/// A record in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) value: Vec<u8>,
}

/// A batch in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn number<const N: usize>(&mut self) -> i64 {
        let bytes: [u8; N] = self.take(N).try_into().expect("as many bytes as were taken");
        let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
    }

    /// A zigzag varint.
    fn varint(&mut self) -> i64 {
        let (mut raw, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            raw |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return (raw >> 1) as i64 ^ -((raw & 1) as i64);
            }
        }
    }

    fn nullable(&mut self) -> Option<&'a [u8]> {
        usize::try_from(self.varint()).ok().map(|length| self.take(length))
    }
}

/// The numbers of a batch by which a broker recognises duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// -1 for a producer without an id.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

/// The numbers of the batch in `bytes`.
pub(crate) fn numbers(bytes: &[u8]) -> Numbers {
    let mut reader = Reader(bytes);
    // The base offset, the length, the leader epoch, the magic, the CRC, the attributes, the last offset delta and both
    // timestamps.
    reader.take(8 + 4 + 4 + 1 + 4 + 2 + 4 + 8 + 8);
    Numbers {
        producer_id: reader.number::<8>(),
        producer_epoch: reader.number::<2>() as i16,
        base_sequence: reader.number::<4>() as i32,
        record_count: reader.number::<4>() as i32,
    }
}

/// Decodes the single batch in `bytes`.
pub(crate) fn batch(bytes: &[u8]) -> Batch {
    let mut reader = Reader(bytes);
    let base_offset = reader.number::<8>();
    let length = reader.number::<4>();
    assert_eq!(length as usize, bytes.len() - 12, "a batch is as long as it says");
    reader.take(4); // the leader epoch
    assert_eq!(reader.number::<1>(), 2, "the magic byte");
    reader.take(4); // the CRC
    let attributes = reader.number::<2>();
    // The last offset delta, both timestamps, the producer's id and epoch, and the base sequence.
    reader.take(4 + 8 + 8 + 8 + 2 + 4);
    let count = reader.number::<4>();
    let records = match attributes & 7 {
        0 => reader.0.to_vec(),
        3 => lz4_frame(reader.0),
        codec => panic!("the simulator does not use the codec {codec}"),
    };
    let mut reader = Reader(&records);
    let records = (0..count).map(|_| record(&mut reader, base_offset)).collect();
    assert!(reader.0.is_empty(), "there are bytes behind the last record");
    Batch { records }
}

fn record(reader: &mut Reader<'_>, base_offset: i64) -> Record {
    let length = reader.varint() as usize;
    let mut reader = Reader(reader.take(length));
    reader.take(1); // the attributes
    reader.varint(); // the timestamp
    let offset = base_offset + reader.varint();
    reader.nullable(); // the key
    let value = reader.nullable().unwrap_or_default().to_vec();
    assert_eq!(reader.varint(), 0, "the simulator writes no headers");
    Record { offset, value }
}

/// Decompresses one LZ4 frame with independent blocks.
fn lz4_frame(bytes: &[u8]) -> Vec<u8> {
    const MOST_BYTES: usize = 64 << 10;
    let mut reader = Reader(bytes);
    assert_eq!(reader.take(4), [0x04, 0x22, 0x4d, 0x18], "the magic number of a frame");
    let (flags, _block_size) = (reader.take(1)[0], reader.take(1)[0]);
    let has = |bit: u8| flags & bit != 0;
    assert!(has(0x20), "blocks are independent");
    if has(0x08) {
        reader.take(8); // the size of the content
    }
    reader.take(1); // the header's checksum
    let mut content = Vec::new();
    loop {
        let size = u32::from_le_bytes(reader.take(4).try_into().expect("four bytes"));
        if size == 0 {
            return content;
        }
        let block = reader.take((size & 0x7fff_ffff) as usize);
        if size >> 31 == 1 {
            content.extend_from_slice(block);
        } else {
            let mut plain = vec![0; MOST_BYTES];
            let length = lz4_flex::block::decompress_into(block, &mut plain).expect("a whole block");
            content.extend_from_slice(&plain[..length]);
        }
        if has(0x10) {
            reader.take(4); // the block's checksum
        }
    }
}

//! Repairs the lengths and checksums of records, and compresses them, so that inputs get past the first checks.

use flate2::Crc;
use kavka_core::wire::records::{CompressionType, Compressor, HEADER_BYTES};

use crate::{Unstructured, arbitrary, below};

const MAGIC_AT: usize = 16;
/// The offset and the size of a batch or message.
const PREFIX_BYTES: usize = 12;
/// Up to the attributes, in magic 2.
const BEFORE_ATTRIBUTES_BYTES: usize = 21;

/// Makes the size and the checksum of every batch and message in `bytes` right. A size that exceeds the bytes that are
/// left becomes these.
pub fn repair(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() > BEFORE_ATTRIBUTES_BYTES {
        let claimed = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let least = BEFORE_ATTRIBUTES_BYTES - PREFIX_BYTES;
        let size =
            if claimed < least || claimed > rest.len() - PREFIX_BYTES { rest.len() - PREFIX_BYTES } else { claimed };
        rest[8..PREFIX_BYTES].copy_from_slice(&(size as u32).to_be_bytes());
        let (unit, behind) = rest.split_at_mut(PREFIX_BYTES + size);
        sum(unit);
        rest = behind;
    }
}

/// Writes the checksum of one batch or message.
fn sum(unit: &mut [u8]) {
    if unit[MAGIC_AT] == 2 {
        let crc = crc32c::crc32c(&unit[BEFORE_ATTRIBUTES_BYTES..]);
        unit[MAGIC_AT + 1..BEFORE_ATTRIBUTES_BYTES].copy_from_slice(&crc.to_be_bytes());
    } else {
        let mut crc = Crc::new();
        crc.update(&unit[MAGIC_AT..]);
        unit[PREFIX_BYTES..MAGIC_AT].copy_from_slice(&crc.sum().to_be_bytes());
    }
}

/// Batches or messages from the input, repaired. In half of all cases they are compressed, message sets up to nine
/// times over.
pub fn some_records(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let (magic, codec, depth) = (input.int_in_range(0..=3_u8)?, some_codec(input)?, 1 + below(input, 9)?);
    let mut bytes = input.bytes(input.len())?.to_vec();
    match magic {
        2 if codec != CompressionType::None && bytes.len() > HEADER_BYTES => {
            let records = compressed(codec, &bytes[HEADER_BYTES..]);
            bytes.truncate(HEADER_BYTES);
            bytes[MAGIC_AT] = 2;
            bytes[BEFORE_ATTRIBUTES_BYTES + 1] = bytes[BEFORE_ATTRIBUTES_BYTES + 1] & !7 | codec.id();
            bytes.extend(records);
            bytes[8..PREFIX_BYTES].fill(0xff);
            repair(&mut bytes);
        }
        0 | 1 if codec != CompressionType::None && codec != CompressionType::Zstd => {
            repair(&mut bytes);
            for _ in 0..depth {
                bytes = wrapper(magic, codec, &bytes);
            }
        }
        _ => repair(&mut bytes),
    }
    Ok(bytes)
}

/// A codec, or none.
pub fn some_codec(input: &mut Unstructured<'_>) -> arbitrary::Result<CompressionType> {
    Ok(CompressionType::from_id(input.int_in_range(0..=4)?).unwrap_or_default())
}

/// What the codec makes of `bytes`.
pub fn compressed(codec: CompressionType, bytes: &[u8]) -> Vec<u8> {
    Compressor::new(codec.into()).and_then(|mut compressor| compressor.compress(&[bytes], 0)).expect("it compresses")
}

/// A compressed message that holds a message set.
fn wrapper(magic: u8, codec: CompressionType, inner: &[u8]) -> Vec<u8> {
    let value = compressed(codec, inner);
    let mut message = i64::from(u8::MAX).to_be_bytes().to_vec();
    message.extend([0; 8]);
    message.extend([magic, codec.id()]);
    message.extend(if magic == 1 { &[0; 8][..] } else { &[] });
    message.extend((-1_i32).to_be_bytes());
    message.extend((value.len() as u32).to_be_bytes());
    message.extend(value);
    message[8..PREFIX_BYTES].fill(0xff);
    repair(&mut message);
    message
}

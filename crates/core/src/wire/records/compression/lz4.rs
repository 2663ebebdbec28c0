//! The LZ4 frame format around the block codec.
//!
//! Writes what Kafka's Java client writes: independent blocks of 64 KiB, and no checksum except that of the header.
//! Reads everything that the format allows except dictionaries: dependent blocks, checksums, sizes, several frames, and
//! skippable frames.
//!
//! Kafka 0.8 and 0.9 compute the checksum of the header over the frame's magic, too, and accept no other (KAFKA-3160).
//! Other clients of that time may have written the right one.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into_with_dict, get_maximum_output_size};
use twox_hash::XxHash32;

use super::{Fault, Output};
use crate::error::{Error, ErrorKind};

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// Version 1, independent blocks of up to 64 KiB; then the checksum of these two bytes.
const DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
/// The magic and the descriptor.
const HEADER_BYTES: usize = 4 + DESCRIPTOR.len();
const BLOCK_BYTES: usize = 64 * 1024;
const END: u32 = 0;
const NOT_COMPRESSED: u32 = 1 << 31;
/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 * 1024;
/// The highest expansion of a block: one byte can stand for at most 255.
const MOST_EXPANSION: usize = 256;

pub(super) struct Encoder {
    table: CompressTable,
    block: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { table: CompressTable::large(), block: Vec::new() }
    }

    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        self.block.resize(get_maximum_output_size(BLOCK_BYTES), 0);
        output.extend_from_slice(&MAGIC.to_le_bytes());
        output.extend_from_slice(&DESCRIPTOR);
        for block in input.chunks(BLOCK_BYTES) {
            let written = compress_into_with_table(block, &mut self.block, &mut self.table);
            let written =
                written.map_err(|error| Error::new(ErrorKind::Internal, "lz4 cannot compress").with_source(error))?;
            if let Some(compressed) = self.block.get(..written).filter(|_| written < block.len()) {
                output.extend_from_slice(&(written as u32).to_le_bytes());
                output.extend_from_slice(compressed);
            } else {
                output.extend_from_slice(&(block.len() as u32 | NOT_COMPRESSED).to_le_bytes());
                output.extend_from_slice(block);
            }
        }
        output.extend_from_slice(&END.to_le_bytes());
        Ok(())
    }
}

/// Replaces the checksum of the header of a frame, which [`Encoder`] wrote, by the one that Kafka 0.8 and 0.9 expect.
pub(in crate::wire::records) fn write_checksum_of_kafka_0_9(frame: &mut [u8]) {
    if let Some(([header @ .., checksum], _)) = frame.split_first_chunk_mut::<{ HEADER_BYTES }>() {
        *checksum = header_checksum(header);
    }
}

fn header_checksum(bytes: &[u8]) -> u8 {
    (XxHash32::oneshot(0, bytes) >> 8) as u8
}

/// Decompresses all frames of `input`.
pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    frames(input, output, |descriptor, checksum| checksum == header_checksum(descriptor))
}

/// Like [`decompress`], but a frame may also have the header checksum of Kafka 0.8 and 0.9.
pub(super) fn decompress_of_kafka_0_9(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    frames(input, output, |descriptor, checksum| {
        checksum == header_checksum(descriptor)
            || checksum == header_checksum(&[&MAGIC.to_le_bytes(), descriptor].concat())
    })
}

/// Says whether a descriptor may have this checksum.
type HeaderCheck = fn(&[u8], u8) -> bool;

fn frames(input: &[u8], output: &mut Output, check: HeaderCheck) -> Result<(), Fault> {
    let mut input = Input(input);
    loop {
        let magic = input.u32()?;
        if magic & !0xf == SKIPPABLE_MAGIC {
            let bytes = input.u32()? as usize;
            input.take(bytes)?;
        } else if magic == MAGIC {
            frame(&mut input, output, check)?;
        } else {
            return Err(Fault::Broken("it is not an lz4 frame"));
        }
        if input.0.is_empty() {
            return Ok(());
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Fault::Broken("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        let (taken, rest) = self.0.split_first_chunk::<4>().ok_or(Fault::Broken("it is cut off"))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }
}

/// The descriptor of a frame.
struct Descriptor {
    block_bytes: usize,
    content_bytes: Option<u64>,
    independent_blocks: bool,
    block_checksums: bool,
    content_checksum: bool,
}

impl Descriptor {
    fn read(input: &mut Input<'_>, check: HeaderCheck) -> Result<Self, Fault> {
        let whole = input.0;
        let [flags, block] = *input.take(2)? else { return Err(Fault::Broken("it is cut off")) };
        if flags >> 6 != 1 {
            return Err(Fault::Broken("its version is unknown"));
        }
        if flags & 1 != 0 {
            return Err(Fault::Broken("it needs a dictionary"));
        }
        if flags & 0x02 != 0 || block & 0x8f != 0 {
            return Err(Fault::Broken("reserved bits of its header are set"));
        }
        let content_bytes = if flags & 0x08 == 0 {
            None
        } else {
            let (low, high) = (input.u32()?, input.u32()?);
            Some(u64::from(high) << 32 | u64::from(low))
        };
        let descriptor = whole.get(..whole.len().saturating_sub(input.0.len())).unwrap_or_default();
        if !matches!(*input.take(1)?, [found] if check(descriptor, found)) {
            return Err(Fault::Broken("the checksum of its header differs"));
        }
        let size_class @ 4..=7 = block >> 4 else { return Err(Fault::Broken("its block size is unknown")) };
        Ok(Self {
            block_bytes: 1 << (8 + 2 * size_class),
            content_bytes,
            independent_blocks: flags & 0x20 != 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
        })
    }
}

fn frame(input: &mut Input<'_>, output: &mut Output, check: HeaderCheck) -> Result<(), Fault> {
    let descriptor = Descriptor::read(input, check)?;
    let start = output.bytes.len();
    loop {
        let length = input.u32()?;
        if length == END {
            break;
        }
        let block = input.take((length & !NOT_COMPRESSED) as usize)?;
        if descriptor.block_checksums && input.u32()? != XxHash32::oneshot(0, block) {
            return Err(Fault::Broken("the checksum of a block differs"));
        }
        if block.len() > descriptor.block_bytes {
            return Err(Fault::Broken("a block is longer than its frame allows"));
        }
        if length & NOT_COMPRESSED != 0 {
            output.extend(block)?;
            continue;
        }
        let most = descriptor.block_bytes.min(block.len().saturating_mul(MOST_EXPANSION));
        let bounded = output.room() < most;
        let done = output.extend_with(most, |before, space| {
            let from = if descriptor.independent_blocks { before.len() } else { start };
            let from = from.max(before.len().saturating_sub(WINDOW_BYTES));
            let window = before.get(from..).unwrap_or_default();
            decompress_into_with_dict(block, space, window).map_err(|_| Fault::Broken("a block is not lz4"))
        });
        // If less room was given than a block may take, the output was too long for that room.
        done.map_err(|fault| if bounded { Fault::TooLong } else { fault })?;
    }
    let content = output.bytes.get(start..).unwrap_or_default();
    if descriptor.content_bytes.is_some_and(|bytes| bytes != content.len() as u64) {
        return Err(Fault::Broken("its size differs"));
    }
    if descriptor.content_checksum && input.u32()? != XxHash32::oneshot(0, content) {
        return Err(Fault::Broken("its checksum differs"));
    }
    Ok(())
}

//! Snappy in the framing of the Xerial library, which Kafka's Java client writes and reads. Also reads raw Snappy
//! without framing, which some other clients write.
//!
//! The framing: 8 bytes of magic, two versions, then blocks of compressed bytes, each after its 32-bit length.

use super::{Fault, Output};
use crate::error::{Error, ErrorKind};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version of the framing, and the lowest version of a reader that supports it.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const BLOCK_BYTES: usize = 32 * 1024;
/// The highest expansion of a block: three bytes can stand for at most 64, whatever its header claims.
const MOST_EXPANSION: usize = 22;

pub(super) struct Encoder {
    snappy: snap::raw::Encoder,
    block: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { snappy: snap::raw::Encoder::new(), block: Vec::new() }
    }

    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        self.block.resize(snap::raw::max_compress_len(BLOCK_BYTES), 0);
        output.extend_from_slice(&MAGIC);
        output.extend_from_slice(&VERSIONS);
        for block in input.chunks(BLOCK_BYTES) {
            let written = self.snappy.compress(block, &mut self.block);
            let written = written
                .map_err(|error| Error::new(ErrorKind::Internal, "snappy cannot compress").with_source(error))?;
            output.extend_from_slice(&(written as u32).to_be_bytes());
            output.extend_from_slice(self.block.get(..written).unwrap_or_default());
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Decoder {
    snappy: snap::raw::Decoder,
}

impl Decoder {
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output) -> Result<(), Fault> {
        let Some(mut rest) = input.strip_prefix(&MAGIC) else { return self.block(input, output) };
        rest = rest.get(VERSIONS.len()..).ok_or(Fault::Broken("it is cut off"))?;
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<4>().ok_or(Fault::Broken("it is cut off"))?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, behind) = behind.split_at_checked(length).ok_or(Fault::Broken("it is cut off"))?;
            self.block(block, output)?;
            rest = behind;
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8], output: &mut Output) -> Result<(), Fault> {
        let broken = Fault::Broken("it is not snappy");
        let Ok(bytes) = snap::raw::decompress_len(block) else { return Err(broken) };
        if bytes > block.len().saturating_mul(MOST_EXPANSION) {
            return Err(broken);
        }
        if bytes > output.room() {
            return Err(Fault::TooLong);
        }
        output.extend_with(bytes, |_, space| self.snappy.decompress(block, space).map_err(|_| broken))
    }
}

//! Zstandard (KIP-110), with one call per batch.
//!
//! It decompresses straight into the output, without a window buffer, so a frame that asks for a huge window costs
//! nothing.

use zstd::bulk;
use zstd::zstd_safe::{self, DCtx};

use super::{Fault, Output};
use crate::error::{Error, ErrorKind};

/// The library's error `ZSTD_error_dstSize_tooSmall`, which it returns negated.
const OUTPUT_TOO_SMALL: usize = 0_usize.wrapping_sub(70);

pub(super) struct Encoder {
    zstd: bulk::Compressor<'static>,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Result<Self, Error> {
        let zstd = bulk::Compressor::new(level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)).map_err(failed)?;
        Ok(Self { zstd })
    }

    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        output.reserve(zstd_safe::compress_bound(input.len()));
        self.zstd.compress_to_buffer(input, output).map_err(failed)?;
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "zstd cannot compress").with_source(error)
}

#[derive(Default)]
pub(super) struct Decoder {
    zstd: Option<DCtx<'static>>,
}

impl Decoder {
    /// Decompresses all frames of `input`. Tries an output buffer of `guess` bytes first, then four times as much, and
    /// so on up to the limit.
    pub(super) fn decompress(&mut self, input: &[u8], guess: usize, output: &mut Output) -> Result<(), Fault> {
        if self.zstd.is_none() {
            self.zstd = Some(DCtx::try_create().ok_or(Fault::Broken("there is no memory for it"))?);
        }
        let Some(zstd) = &mut self.zstd else { return Err(Fault::Broken("there is no memory for it")) };
        let declared = zstd_safe::get_frame_content_size(input).ok().flatten();
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok()).filter(|&bytes| bytes > 0);
        let mut capacity = guess.min(declared.unwrap_or(usize::MAX));
        loop {
            output.bytes.clear();
            output.bytes.reserve_exact(capacity);
            match zstd.decompress(&mut output.bytes, input) {
                Ok(_) if output.bytes.len() > output.max_bytes => return Err(Fault::TooLong),
                Ok(_) => return Ok(()),
                Err(OUTPUT_TOO_SMALL) if output.bytes.capacity() >= output.max_bytes => return Err(Fault::TooLong),
                Err(OUTPUT_TOO_SMALL) => {
                    capacity = output.bytes.capacity().saturating_mul(4).min(output.max_bytes);
                }
                Err(code) => return Err(Fault::Broken(zstd_safe::get_error_name(code))),
            }
        }
    }
}

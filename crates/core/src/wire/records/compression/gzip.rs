//! gzip (RFC 1952) around raw deflate.
//!
//! The gzip members are parsed here, because the library's decoder for whole gzip streams creates a new context for
//! every batch.

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Fault, Output};
use crate::error::{Error, ErrorKind};

/// Without a name or a time; operating system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
/// Nothing is defined for these, so what follows may be anything.
const RESERVED_FLAGS: u8 = 0xe0;

pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.and_then(|level| u32::try_from(level).ok());
        let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
        Self { deflate: Compress::new(level, false) }
    }

    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        self.deflate.reset();
        output.extend_from_slice(&HEADER);
        let mut rest = input;
        loop {
            output.reserve((rest.len() / 2).max(1024));
            let before = self.deflate.total_in();
            let status = self
                .deflate
                .compress_vec(rest, output, FlushCompress::Finish)
                .map_err(|error| Error::new(ErrorKind::Internal, "gzip cannot compress").with_source(error))?;
            let read = self.deflate.total_in().wrapping_sub(before) as usize;
            rest = rest.get(read..).unwrap_or_default();
            if status == Status::StreamEnd {
                break;
            }
        }
        let mut crc = Crc::new();
        crc.update(input);
        output.extend_from_slice(&crc.sum().to_le_bytes());
        output.extend_from_slice(&(input.len() as u32).to_le_bytes());
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Decoder {
    inflate: Option<Decompress>,
}

impl Decoder {
    /// Decompresses all members of `input`.
    pub(super) fn decompress(&mut self, mut input: &[u8], guess: usize, output: &mut Output) -> Result<(), Fault> {
        output.bytes.reserve(guess);
        loop {
            input = header(input).ok_or(Fault::Broken("it has no gzip header"))?;
            let start = output.bytes.len();
            input = self.inflate(input, output)?;
            let Some((trailer, rest)) = input.split_first_chunk::<8>() else {
                return Err(Fault::Broken("it is cut off"));
            };
            let member = output.bytes.get(start..).unwrap_or_default();
            let mut crc = Crc::new();
            crc.update(member);
            let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
            if crc.sum() != u32::from_le_bytes([c0, c1, c2, c3])
                || member.len() as u32 != u32::from_le_bytes([l0, l1, l2, l3])
            {
                return Err(Fault::Broken("its checksum differs"));
            }
            if rest.is_empty() {
                return Ok(());
            }
            input = rest;
        }
    }

    /// Decompresses one deflate stream at the beginning of `input`; returns the bytes after it.
    fn inflate<'a>(&mut self, mut input: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        loop {
            let bytes = &mut output.bytes;
            if bytes.len() == bytes.capacity() {
                // One byte above the limit, to tell output that just fits from output that does not.
                let more = bytes.len().max(1024).min(output.max_bytes.saturating_add(1).saturating_sub(bytes.len()));
                bytes.reserve_exact(more);
            }
            let before = (inflate.total_in(), bytes.len());
            let status = inflate.decompress_vec(input, bytes, FlushDecompress::None);
            let status = status.map_err(|_| Fault::Broken("it is not deflated data"))?;
            let read = inflate.total_in().wrapping_sub(before.0) as usize;
            input = input.get(read..).unwrap_or_default();
            if bytes.len() > output.max_bytes {
                return Err(Fault::TooLong);
            }
            if status == Status::StreamEnd {
                return Ok(input);
            }
            if read == 0 && bytes.len() == before.1 {
                return Err(Fault::Broken("it is cut off"));
            }
        }
    }
}

/// Skips the header of a member.
fn header(input: &[u8]) -> Option<&[u8]> {
    let (fixed, mut rest) = input.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return None };
    if flags & RESERVED_FLAGS != 0 {
        return None;
    }
    if flags & FLAG_EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        let header = input.get(..input.len().saturating_sub(rest.len()))?;
        let (stored, behind) = rest.split_first_chunk::<2>()?;
        let mut crc = Crc::new();
        crc.update(header);
        // The lower half of the CRC.
        if crc.sum() as u16 != u16::from_le_bytes(*stored) {
            return None;
        }
        rest = behind;
    }
    Some(rest)
}

//! The formats of record batches, by their magic byte.
//!
//! All formats begin alike: a base offset, the length of the rest, four bytes that differ, and the magic. Only this
//! file turns a magic into a [`Format`]. Code that depends on the format matches on it without a wildcard, so the
//! compiler names every place that a new format must be added to.

use super::batch::{HEADER_BYTES, malformed};
use crate::error::{Error, ErrorKind, Result};

/// The base offset and the length field, which the length does not include.
pub(super) const PREFIX_BYTES: usize = 12;
/// The position of the magic, in every format.
pub(super) const MAGIC_AT: usize = 16;

const MAGIC_V2: u8 = 2;

/// The format of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Magic 2 (Kafka 0.11, KIP-98): one header, and records that count from it.
    V2,
}

impl Format {
    /// The format in which batches are built.
    pub(super) const BUILT: Self = Self::V2;

    /// The format with this magic.
    ///
    /// # Errors
    ///
    /// `Unsupported` for the formats before Kafka 0.11; `Malformed` if the magic is unknown.
    pub(super) fn from_magic(magic: u8) -> Result<Self> {
        match magic {
            MAGIC_V2 => Ok(Self::V2),
            0 | 1 => {
                let what = format!("the records are a message set of magic {magic}, the format before Kafka 0.11");
                Err(Error::new(ErrorKind::Unsupported, what))
            }
            _ => Err(malformed(format!("a record batch has the unknown magic {magic}"))),
        }
    }

    /// Its magic.
    pub(super) fn magic(self) -> u8 {
        match self {
            Self::V2 => MAGIC_V2,
        }
    }

    /// A header's worth of bytes to reserve.
    #[inline]
    pub(super) fn blank_header(self) -> &'static [u8] {
        match self {
            Self::V2 => &[0; HEADER_BYTES],
        }
    }

    /// The size of a batch header.
    #[inline]
    pub(super) fn header_bytes(self) -> usize {
        self.blank_header().len()
    }

    /// The size of the smallest record.
    pub(super) fn smallest_record_bytes(self) -> usize {
        match self {
            // A length, attributes, two deltas, two null fields and a header count.
            Self::V2 => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_magic_is_known_two_are_too_old_and_the_others_are_malformed() {
        for magic in 0..=u8::MAX {
            match (magic, Format::from_magic(magic).map_err(|error| error.kind())) {
                (2, Ok(Format::V2)) | (0 | 1, Err(ErrorKind::Unsupported)) | (3.., Err(ErrorKind::Malformed)) => {}
                (_, other) => panic!("magic {magic}: {other:?}"),
            }
        }
    }
}

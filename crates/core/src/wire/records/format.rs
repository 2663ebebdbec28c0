//! In which format records are kept: what the magic byte of a batch says.
//!
//! Every format begins alike: a base offset, the length of what follows it, four bytes of its own, and the magic. Here
//! alone a magic becomes a [`Format`]. Whatever depends on the format matches on it without a wildcard, so that the
//! compiler names each place that a further one must reach.

use super::batch::{HEADER_BYTES, malformed};
use crate::error::{Error, ErrorKind, Result};

/// The base offset and the length: what the length does not count.
pub(super) const PREFIX_BYTES: usize = 12;
/// Where the magic is, in every format.
pub(super) const MAGIC_AT: usize = 16;

const MAGIC_V2: u8 = 2;

/// The format of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Magic 2 (Kafka 0.11, KIP-98): one header, and records that count from it.
    V2,
}

impl Format {
    /// The one that batches are built in.
    pub(super) const BUILT: Self = Self::V2;

    /// The format that a magic stands for.
    ///
    /// # Errors
    ///
    /// `Unsupported` for the formats before Kafka 0.11, `Malformed` for what is none.
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

    /// What [`from_magic`](Self::from_magic) knows it by.
    pub(super) fn magic(self) -> u8 {
        match self {
            Self::V2 => MAGIC_V2,
        }
    }

    /// The bytes that a header is written over, as many as it has.
    #[inline]
    pub(super) fn blank_header(self) -> &'static [u8] {
        match self {
            Self::V2 => &[0; HEADER_BYTES],
        }
    }

    /// The size of a header, that is of a batch without records.
    #[inline]
    pub(super) fn header_bytes(self) -> usize {
        self.blank_header().len()
    }

    /// No record takes less.
    pub(super) fn smallest_record_bytes(self) -> usize {
        match self {
            // A length, attributes, two deltas, two null fields and no headers.
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

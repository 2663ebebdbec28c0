//! The formats of records, by their magic byte.
//!
//! All formats begin alike: an offset, the length of the rest, four bytes that differ, and the magic. Only this file
//! turns a magic into a [`Format`]. Code that depends on the format matches on it without a wildcard, so the compiler
//! names every place that a new format must be added to.

use super::batch::{HEADER_BYTES, malformed};
use super::message_set;
use crate::error::Result;

/// The offset and the length field, which the length does not include.
pub(super) const PREFIX_BYTES: usize = 12;
/// The position of the magic, in every format. A broker sets fields in front of it, which no CRC covers in magic 2.
pub const MAGIC_AT: usize = 16;

/// The format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Magic 0 (Kafka 0.8): a message set without timestamps, with absolute offsets inside compressed messages.
    V0,
    /// Magic 1 (Kafka 0.10.0, KIP-31 and KIP-32): a message set with timestamps, and with relative offsets inside
    /// compressed messages.
    V1,
    /// Magic 2 (Kafka 0.11, KIP-98): a batch with one header, and records that count from it.
    V2,
}

impl Format {
    /// The format with this magic.
    ///
    /// # Errors
    ///
    /// `Malformed` if the magic is unknown.
    pub(super) fn from_magic(magic: u8) -> Result<Self> {
        match magic {
            0 => Ok(Self::V0),
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err(malformed(format!("a record batch has the unknown magic {magic}"))),
        }
    }

    /// Its magic.
    pub fn magic(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The size of the smallest unit that can stand alone: a batch header, or a message without key and value.
    #[inline]
    pub(super) fn least_bytes(self) -> usize {
        match self {
            Self::V0 => message_set::OVERHEAD_V0,
            Self::V1 => message_set::OVERHEAD_V1,
            Self::V2 => HEADER_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn three_magics_are_known_and_the_others_are_malformed() {
        for magic in 0..=u8::MAX {
            match (magic, Format::from_magic(magic).map_err(|error| error.kind())) {
                (0..=2, Ok(format)) if format.magic() == magic => {}
                (3.., Err(ErrorKind::Malformed)) => {}
                (_, other) => panic!("magic {magic}: {other:?}"),
            }
        }
    }
}

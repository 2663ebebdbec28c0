//! Control records: the markers that end a transaction in the log (KIP-98). Brokers write them.
//!
//! A control record is alone in its batch ([`BatchHeader::is_control`](super::BatchHeader)) and has an offset, but is
//! never handed to the application. A consumer with `isolation.level=read_committed` must tell abort markers from
//! commit markers.

use super::batch::malformed;
use crate::error::Result;

/// The type of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction of the batch's producer was aborted.
    Abort,
    /// The transaction of the batch's producer was committed.
    Commit,
    /// A record that brokers write for each other; clients skip it.
    Other(i16),
}

impl ControlType {
    /// Reads the type from the key of a control record: a version and the type. Newer versions only add fields at the
    /// end.
    ///
    /// # Errors
    ///
    /// `Malformed` if the key is null or too short, or if its version is negative.
    pub fn parse(key: Option<&[u8]>) -> Result<Self> {
        let Some(&[v1, v0, t1, t0]) = key.and_then(<[u8]>::first_chunk) else {
            return Err(malformed("a control record has no readable key"));
        };
        if i16::from_be_bytes([v1, v0]) < 0 {
            return Err(malformed("the key of a control record has a negative version"));
        }
        Ok(match i16::from_be_bytes([t1, t0]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// The key of a control record of this type, in version 0.
    pub fn key(self) -> [u8; 4] {
        let [t1, t0] = match self {
            Self::Abort => 0_i16,
            Self::Commit => 1,
            Self::Other(other) => other,
        }
        .to_be_bytes();
        [0, 0, t1, t0]
    }
}

/// The value of an end-of-transaction marker, in version 0: the epoch of the coordinator that wrote it.
pub fn end_transaction_marker(coordinator_epoch: i32) -> [u8; 6] {
    let [e3, e2, e1, e0] = coordinator_epoch.to_be_bytes();
    [0, 0, e3, e2, e1, e0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_every_type_is_read_back() {
        for control in [ControlType::Abort, ControlType::Commit, ControlType::Other(5)] {
            assert_eq!(ControlType::parse(Some(&control.key())).unwrap(), control);
        }
        assert_eq!(ControlType::parse(Some(&[0, 9, 0, 1, 7])).unwrap(), ControlType::Commit, "a newer version");
    }

    #[test]
    fn a_key_that_is_null_short_or_negative_is_refused() {
        for key in [None, Some(&[][..]), Some(&[0, 0, 0]), Some(&[0xff, 0xff, 0, 0])] {
            assert!(ControlType::parse(key).is_err(), "{key:?}");
        }
    }
}

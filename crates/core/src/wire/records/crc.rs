//! The checksums of records: CRC-32C (Castagnoli) of batches, CRC-32 of messages before Kafka 0.11.
//!
//! The only place that knows which crate computes them.

/// The CRC-32 (as in gzip) of one piece of bytes.
#[inline]
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// The CRC-32C of several pieces of bytes.
pub(crate) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors are from RFC 3720 (iSCSI), appendix B.4.
    #[test]
    fn the_vectors_of_rfc_3720_hold() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c([&[0_u8; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff_u8; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([&ascending[..]]), 0x46dd_794e);
        assert_eq!(crc32c([&descending[..]]), 0x113f_db5c);
        assert_eq!(crc32c([&b"123456789"[..]]), 0xe306_9283);
        assert_eq!(crc32c([]), 0);
    }

    #[test]
    fn the_check_value_of_crc_32_holds() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn an_independent_implementation_agrees_however_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for cut in [0, 1, 7, 61, 63, 64, 65, 4_095, 9_999, 10_000] {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(crc32c([left, right]), crc32c::crc32c(&bytes), "cut at {cut}");
        }
    }
}

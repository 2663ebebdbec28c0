//! Chooses the partition of a record.
//!
//! A record with a key goes where Kafka's Java client sends it: murmur2 of the key, modulo the number of partitions. A
//! record without a key goes to the sticky partition, which changes when its batch is closed (KIP-480): spreading
//! single records over all partitions would make many tiny batches.

/// The partition for this key, as Kafka's Java client chooses it.
///
/// `partitions` is the number of partitions; 0 is treated as 1.
#[inline]
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Murmur2 with the seed of Kafka's Java client.
#[inline]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (shift, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * shift);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by `org.apache.kafka.common.utils.Utils.murmur2` of kafka-clients 4.4.0.
    const JAVA: [(&[u8], i32); 11] = [
        (b"", 275_646_681),
        (b"a", -1_563_381_124),
        (b"ab", 316_155_434),
        (b"abc", 479_470_107),
        (b"abcd", -1_323_649_548),
        (b"orders-17", -773_254_341),
        (b"kavka", -214_297_950),
        (b"a longer key with spaces in it", 1_620_997_987),
        (&[0xff, 0xfe, 0x80, 0, 1], -112_508_915),
        (&[0xff, 0xff, 0xff], 1_548_199_422),
        (&[0; 16], -1_795_725_688),
    ];

    #[test]
    fn the_hash_is_that_of_the_java_client() {
        for (key, hash) in JAVA {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert_eq!(partition_for_key(b"a", 1000), 524);
        assert_eq!(partition_for_key(&[0; 16], 1000), 960);
        assert_eq!(partition_for_key(b"abcd", 0), 0);
    }
}

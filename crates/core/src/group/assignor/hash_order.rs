//! The iteration order of Java's `HashMap` and `HashSet`. Among equal candidates, Java's sticky assignors take the
//! first one in that order, so a leader that is to give the same result as a Java leader needs it.

/// Java's `String.hashCode`.
pub(super) fn text(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The hash of a Java `TopicPartition`.
pub(super) fn partition(topic: &str, number: i32) -> i32 {
    31_i32.wrapping_add(number).wrapping_mul(31).wrapping_add(text(topic))
}

/// The number of buckets of a Java hash table that held at most `length` entries.
pub(super) fn buckets(length: usize) -> u32 {
    let mut buckets: u32 = 16;
    while length > buckets as usize / 4 * 3 && buckets < 1 << 30 {
        buckets *= 2;
    }
    buckets
}

/// The bucket of a hash. Iteration goes bucket by bucket, and within a bucket in the order of insertion.
pub(super) fn bucket(hash: i32, buckets: u32) -> u32 {
    let hash = hash.cast_unsigned();
    (hash ^ (hash >> 16)) & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_tables_are_those_of_java() {
        assert_eq!(text("consumer-1"), -166_239_206);
        assert_eq!((text(""), text("Aa"), text("BB")), (0, 2112, 2112));
        assert_eq!(partition("", 1), 32 * 31);
        assert_eq!([0, 12, 13, 24, 25].map(buckets), [16, 16, 32, 32, 64]);
    }
}

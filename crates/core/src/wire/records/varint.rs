//! The zigzag varints of records. (Messages use unsigned varints, which have their own module.)
//!
//! A 32-bit varint takes at most 5 bytes, a 64-bit one at most 10. More bytes, or bits that do not fit, are an error.

/// The encoded size of `value`. A 32-bit value has the same encoding as its 64-bit extension.
#[inline]
pub(super) fn size(value: i64) -> usize {
    match zigzag(value) {
        // Comparing is faster than computing, because small values are by far the most frequent.
        ..0x80 => 1,
        0x80..0x4000 => 2,
        value => (value.ilog2() as usize * 9 + 73) / 64,
    }
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The longest varint, in bytes.
pub(super) const MOST_BYTES: usize = 10;

/// Writes `value` to the beginning of `place`; returns how many bytes it took.
#[inline]
pub(super) fn put(place: &mut [u8; MOST_BYTES], value: i64) -> usize {
    let value = zigzag(value);
    // The index in a batch of more than 8,192 records takes three bytes; other numbers mostly take one or two.
    if value < 0x80 {
        place[0] = value as u8;
        return 1;
    }
    place[0] = value as u8 | 0x80;
    if value < 0x4000 {
        place[1] = (value >> 7) as u8;
        return 2;
    }
    if value < 0x20_0000 {
        place[1] = (value >> 7) as u8 | 0x80;
        place[2] = (value >> 14) as u8;
        return 3;
    }
    let mut rest = value;
    for (i, byte) in place.iter_mut().enumerate() {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
        if rest == 0 {
            *byte &= 0x7f;
            return i + 1;
        }
    }
    MOST_BYTES
}

/// Reads a 32-bit varint at the front of `bytes`; returns it with the rest. (Returning the rest, instead of updating a
/// reference, keeps it in registers: that halves the time.)
#[inline]
pub(super) fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (zigzag, rest) = match take_short(bytes) {
        Some(taken) => taken,
        None => take_long(bytes, 5).and_then(|(zigzag, rest)| Some((u32::try_from(zigzag).ok()?, rest)))?,
    };
    Some(((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32), rest))
}

/// Reads a 64-bit varint at the front of `bytes`; returns it with the rest.
#[inline]
pub(super) fn take_i64(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (zigzag, rest) = match take_short(bytes) {
        Some((zigzag, rest)) => (u64::from(zigzag), rest),
        None => take_long(bytes, MOST_BYTES)?,
    };
    Some(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), rest))
}

/// Reads a varint of up to three bytes, without a loop.
#[inline]
fn take_short(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes {
        [a @ ..0x80, rest @ ..] => Some((u32::from(*a), rest)),
        [a, b @ ..0x80, rest @ ..] => Some((u32::from(a & 0x7f) | u32::from(*b) << 7, rest)),
        [a, b, c @ ..0x80, rest @ ..] => {
            Some((u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(*c) << 14, rest))
        }
        _ => None,
    }
}

#[cold]
fn take_long(bytes: &[u8], most: usize) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().take(most).enumerate() {
        // The tenth byte of a 64-bit varint holds one bit.
        if i == MOST_BYTES - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, bytes.get(i + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut place = [0xaa; MOST_BYTES];
        let bytes = put(&mut place, value);
        place[..bytes].to_vec()
    }

    #[test]
    fn values_at_every_edge_survive_and_take_the_size_foretold() {
        let edges = (0..63).flat_map(|bit| [(1_i64 << bit) - 1, 1 << bit, -(1 << bit), -(1 << bit) - 1]);
        for value in edges.chain([i64::MAX, i64::MIN, i64::from(i32::MIN), i64::from(i32::MAX)]) {
            let bytes = encoded(value);
            assert_eq!(bytes.len(), size(value), "{value}");
            assert_eq!(take_i64(&bytes), Some((value, &[][..])));
            assert_eq!(take_i32(&bytes).map(|(value, _)| value), i32::try_from(value).ok(), "{value}");
        }
    }

    #[test]
    fn a_varint_that_is_cut_or_too_long_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 4], &[0x80; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert_eq!(take_i32(bytes), None, "{bytes:?}");
        }
        assert_eq!(take_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f, 7]), Some((i32::MIN, &[7][..])), "32 bits");
        assert_eq!(take_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None, "33 bits");
        let mut long = [0xff; 10];
        long[9] = 1;
        assert_eq!(take_i64(&long), Some((i64::MIN, &[][..])), "64 bits");
        long[9] = 2;
        assert_eq!(take_i64(&long), None, "65 bits");
        assert_eq!(take_i64(&[0x80; 12]), None);
    }
}

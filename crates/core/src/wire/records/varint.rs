//! The zigzag varints of records. (Messages have unsigned ones: they are elsewhere.)
//!
//! A 32-bit one takes at most 5 bytes and a 64-bit one at most 10; more, or bits that do not fit, are refused.

/// How many bytes [`put`] makes of `value`. A 32-bit value takes the same bytes as its 64-bit extension.
#[inline]
pub(super) fn size(value: i64) -> usize {
    ((zigzag(value) | 1).ilog2() as usize * 9 + 73) / 64
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The most bytes a varint takes.
pub(super) const MOST_BYTES: usize = 10;

/// Writes `value` to the beginning of `place` and returns how many bytes it took.
#[inline]
pub(super) fn put(place: &mut [u8; MOST_BYTES], value: i64) -> usize {
    let value = zigzag(value);
    // Nearly every length and delta takes one or two bytes.
    if value < 0x80 {
        place[0] = value as u8;
        return 1;
    }
    if value < 0x4000 {
        place[0] = value as u8 | 0x80;
        place[1] = (value >> 7) as u8;
        return 2;
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

/// Reads a 32-bit varint at `*at` and moves `*at` behind it.
#[inline]
pub(super) fn get_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    // Nearly every length and delta is one byte long.
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    let zigzag = get_unsigned(bytes, at, 5)?;
    let zigzag = u32::try_from(zigzag).ok()?;
    Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
}

/// Reads a 64-bit varint at `*at` and moves `*at` behind it.
#[inline]
pub(super) fn get_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    let zigzag = get_unsigned(bytes, at, 10)?;
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

#[inline]
fn get_unsigned(bytes: &[u8], at: &mut usize, most: usize) -> Option<u64> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.get(*at..)?.iter().take(most).enumerate() {
        // The tenth byte of a 64-bit varint has room for one bit.
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *at += i + 1;
            return Some(value);
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
            let mut at = 0;
            assert_eq!(get_i64(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            let mut at = 0;
            assert_eq!(get_i32(&bytes, &mut at), i32::try_from(value).ok(), "{value}");
        }
    }

    #[test]
    fn a_varint_that_is_cut_or_too_long_is_refused_and_moves_nothing() {
        for bytes in [&[][..], &[0x80], &[0xff; 4], &[0x80; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
            let mut at = 0;
            assert_eq!(get_i32(bytes, &mut at), None, "{bytes:?}");
            assert_eq!(at, 0);
        }
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f], &mut 0), Some(i32::MIN), "32 bits");
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f], &mut 0), None, "33 bits");
        let mut long = [0xff; 10];
        long[9] = 1;
        assert_eq!(get_i64(&long, &mut 0), Some(i64::MIN), "64 bits");
        long[9] = 2;
        assert_eq!(get_i64(&long, &mut 0), None, "65 bits");
    }
}

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

/// A few small fields, put together without touching the heap before they are copied in one go.
#[derive(Default)]
pub(super) struct Scratch {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Scratch {
    /// Room for all of a record before its key, and a length more: 5 + 1 + 10 + 5 + 5 + 5 bytes.
    pub(super) const CAPACITY: usize = 32;

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        } else {
            debug_assert!(false, "more fields than a scratch holds");
        }
    }

    #[inline]
    pub(super) fn put(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push(rest as u8);
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Every byte, also those not written: a copy of a constant size costs less than one of the right size.
    #[inline]
    pub(super) fn all(&self) -> (&[u8; Self::CAPACITY], usize) {
        (&self.bytes, self.len)
    }
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
        let mut scratch = Scratch::default();
        scratch.put(value);
        scratch.as_slice().to_vec()
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

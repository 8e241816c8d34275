//! Zigzag varints: seven bits a byte, the lowest first, the top bit set while more follow.
//!
//! Zigzag folds the sign into the lowest bit, so that −1 takes one byte. 32-bit values take at
//! most 5 bytes, 64-bit ones at most 10. Every value has exactly one encoding: one that ends in a
//! zero group, or does not fit its type, is refused.

use super::error::RecordFault;

/// Takes a 32-bit value off the front of `input`.
#[inline(always)]
pub(super) fn read_i32(input: &mut &[u8]) -> Result<i32, RecordFault> {
    let folded = u32::try_from(read_folded::<5>(input)?).map_err(|_| RecordFault::Varint)?;
    Ok((folded >> 1) as i32 ^ -((folded & 1) as i32))
}

/// Takes a 64-bit value off the front of `input`.
#[inline(always)]
pub(super) fn read_i64(input: &mut &[u8]) -> Result<i64, RecordFault> {
    let folded = read_folded::<10>(input)?;
    Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
}

/// Takes a value of at most `MAX_BYTES`, its sign still folded in. Almost all take one or two.
#[inline(always)]
fn read_folded<const MAX_BYTES: usize>(input: &mut &[u8]) -> Result<u64, RecordFault> {
    match **input {
        [a, ref rest @ ..] if a < 0x80 => {
            *input = rest;
            Ok(a.into())
        }
        [a, b, ref rest @ ..] if b < 0x80 && b != 0 => {
            *input = rest;
            Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
        }
        _ => read_long(input, MAX_BYTES),
    }
}

/// The general case, of at most `max_bytes`.
fn read_long(input: &mut &[u8], max_bytes: usize) -> Result<u64, RecordFault> {
    let mut folded = 0_u64;
    for (index, &byte) in input.iter().take(max_bytes).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        if group.leading_zeros() < shift {
            return Err(RecordFault::Varint);
        }
        folded |= group << shift;
        if byte < 0x80 {
            if byte == 0 && index > 0 {
                return Err(RecordFault::Varint);
            }
            *input = &input[index + 1..];
            return Ok(folded);
        }
    }
    Err(if input.len() < max_bytes {
        RecordFault::Truncated
    } else {
        RecordFault::Varint
    })
}

/// An encoded value in one machine word, its first byte the lowest, so that it is written at once.
///
/// Eight bytes hold what lies between −2^55 and 2^55: every length and count, and every timestamp
/// delta below a million years.
#[derive(Clone, Copy, Debug)]
pub(super) struct Varint {
    pub(super) word: u64,
    pub(super) bytes: usize,
}

impl Varint {
    /// What stands for an absent field in place of its length: −1.
    pub(super) const ABSENT: Self = Self { word: 1, bytes: 1 };

    /// A length, a count or an offset delta.
    #[inline]
    pub(super) fn unsigned(value: u32) -> Self {
        Self::from_folded(u64::from(value) << 1)
    }

    /// Any value; `None` when it takes more than eight bytes.
    #[inline]
    pub(super) fn signed(value: i64) -> Option<Self> {
        let folded = ((value << 1) ^ (value >> 63)) as u64;
        (folded >> 56 == 0).then(|| Self::from_folded(folded))
    }

    /// `folded` has at most 56 bits.
    #[inline]
    fn from_folded(folded: u64) -> Self {
        if folded < 1 << 7 {
            return Self {
                word: folded,
                bytes: 1,
            };
        }
        let (mut word, mut bytes, mut rest) = (folded & 0x7f | 0x80, 1, folded >> 7);
        while rest >= 0x80 {
            word |= (rest & 0x7f | 0x80) << (8 * bytes);
            rest >>= 7;
            bytes += 1;
        }
        Self {
            word: word | rest << (8 * bytes),
            bytes: bytes + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(value: i64) -> Vec<u8> {
        let varint = Varint::signed(value).unwrap();
        varint.word.to_le_bytes()[..varint.bytes].to_vec()
    }

    #[test]
    fn known_encodings() {
        let known: [(i64, &[u8]); 8] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i32::MAX.into(), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN.into(), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in known {
            assert_eq!(encode(value), bytes, "{value}");
            assert_eq!(read_i32(&mut &bytes[..]), Ok(value as i32));
            assert_eq!(read_i64(&mut &bytes[..]), Ok(value));
        }
    }

    #[test]
    fn absent_is_minus_one() {
        let absent = Varint::ABSENT;
        assert_eq!(
            encode(-1),
            absent.word.to_le_bytes()[..absent.bytes].to_vec()
        );
    }

    #[test]
    fn extremes_are_read() {
        let mut max = [0xff; 10];
        (max[0], max[9]) = (0xfe, 0x01);
        let mut min = [0xff; 10];
        min[9] = 0x01;
        assert_eq!(read_i64(&mut &max[..]), Ok(i64::MAX));
        assert_eq!(read_i64(&mut &min[..]), Ok(i64::MIN));
    }

    #[test]
    fn what_takes_more_than_a_word_is_not_written() {
        for fits in [(1 << 55) - 1, -(1 << 55)] {
            assert_eq!(read_i64(&mut &encode(fits)[..]), Ok(fits));
        }
        for beyond in [1 << 55, -(1 << 55) - 1, i64::MAX, i64::MIN] {
            assert!(Varint::signed(beyond).is_none());
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        let (varint, truncated) = (RecordFault::Varint, RecordFault::Truncated);
        let cases: [(&[u8], RecordFault, RecordFault); 9] = [
            (&[], truncated, truncated),
            (&[0x80], truncated, truncated),
            (&[0xff, 0xff, 0xff], truncated, truncated),
            // A zero group at the end.
            (&[0x80, 0x00], varint, varint),
            (&[0x80, 0x80, 0x00], varint, varint),
            (&[0x81, 0x80, 0x80, 0x80, 0x00], varint, varint),
            (
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
                varint,
                varint,
            ),
            // The 65th bit; an eleventh byte.
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
                varint,
                varint,
            ),
            (&[0xff; 11], varint, varint),
        ];
        for (bytes, as_32, as_64) in cases {
            assert_eq!(read_i32(&mut &bytes[..]), Err(as_32), "{bytes:x?}");
            assert_eq!(read_i64(&mut &bytes[..]), Err(as_64), "{bytes:x?}");
        }
        // The 33rd bit; a sixth byte. Both are well-formed in 64 bits.
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0x10][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert_eq!(read_i32(&mut &bytes[..]), Err(varint), "{bytes:x?}");
            assert!(read_i64(&mut &bytes[..]).is_ok(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in -(1_i64 << 55)..1 << 55, rest: Vec<u8>) {
            let mut bytes = encode(value);
            bytes.extend_from_slice(&rest);
            let mut input = &bytes[..];
            prop_assert_eq!(read_i64(&mut input), Ok(value));
            prop_assert_eq!(input, &rest[..]);
        }

        #[test]
        fn small_values_too(value: i32, unsigned in 0..=i32::MAX as u32) {
            prop_assert_eq!(read_i32(&mut &encode(value.into())[..]), Ok(value));
            let varint = Varint::unsigned(unsigned);
            let bytes = varint.word.to_le_bytes();
            prop_assert_eq!(read_i32(&mut &bytes[..varint.bytes]), Ok(unsigned as i32));
        }

        /// Every value has one encoding: what is read is what would be written.
        #[test]
        fn what_is_read_is_canonical(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            if let Ok(value) = read_i32(&mut input) {
                prop_assert_eq!(encode(value.into()), &bytes[..bytes.len() - input.len()]);
            }
        }
    }
}

//! Zigzag varints, read within bounds and written.

/// The longest varint of 64 bits.
pub(crate) const MAX_VARINT_BYTES: usize = 10;

/// Reads from the front of bytes. `None`: what is claimed is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// Nearly every varint of a record has one or two bytes.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Option<i64> {
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Some(unzigzag(low.into()))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Some(unzigzag(u64::from(low & 0x7f) | u64::from(high) << 7))
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Option<i64> {
        let mut zigzag = 0u64;
        for index in 0..MAX_VARINT_BYTES {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if index == MAX_VARINT_BYTES - 1 && bits > 1 {
                return None;
            }
            zigzag |= bits << (7 * index);
            if byte < 0x80 {
                return Some(unzigzag(zigzag));
            }
        }
        None
    }

    /// A length or a count.
    #[inline(always)]
    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// A length and as many bytes; the length -1 stands for nothing.
    #[inline(always)]
    pub(crate) fn optional_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            len => Some(Some(self.take(usize::try_from(len).ok()?)?)),
        }
    }
}

#[inline(always)]
fn unzigzag(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}

#[inline(always)]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// How many bytes [`write`] writes.
#[inline(always)]
pub(crate) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline(always)]
pub(crate) fn write(bytes: &mut Vec<u8>, value: i64) {
    let mut zigzag = zigzag(value);
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

/// Writes a length and the bytes, or the length -1.
pub(crate) fn write_optional(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => write(bytes, -1),
        Some(value) => {
            write(bytes, value.len() as i64);
            bytes.extend_from_slice(value);
        }
    }
}

/// How many bytes [`write_optional`] writes.
pub(crate) fn optional_len(value: Option<&[u8]>) -> usize {
    match value {
        None => len(-1),
        Some(value) => len(value.len() as i64) + value.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<i64>(), shift in 0u32..64) {
            for value in [value, value >> shift, 0, i64::MAX, i64::MIN] {
                let mut bytes = Vec::new();
                write(&mut bytes, value);
                prop_assert_eq!(bytes.len(), len(value));
                let mut reader = Reader::new(&bytes);
                prop_assert_eq!(reader.varint(), Some(value));
                prop_assert!(reader.is_empty());
                prop_assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).varint(), None);
            }
        }
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None);
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(Reader::new(&bytes).varint(), None);
        bytes[9] = 1;
        assert_eq!(Reader::new(&bytes).varint(), Some(i64::MIN));
    }
}

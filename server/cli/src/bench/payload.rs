//! What is sent: bytes that compress badly and are in memory before anything is timed.

use bytes::Bytes;

/// More than a processor's innermost caches hold, as an application's own data would be.
const POOL_BYTES: usize = 16 << 20;

/// The largest piece that is taken at once.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// A pool of bytes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Payload(Bytes);

impl Payload {
    /// Fills the pool, which touches all of its memory.
    pub(super) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            // xorshift64 (G. Marsaglia, "Xorshift RNGs")
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let pool: Vec<u8> = words
            .take((POOL_BYTES + MAX_PIECE_BYTES) / 8)
            .flatten()
            .collect();
        Self(pool.into())
    }

    /// A piece of `length` bytes, at most 1 MiB, for the place `position` of a stream.
    pub(super) fn bytes(&self, position: u64, length: usize) -> Bytes {
        let start = Self::start(position);
        self.0.slice(start..start + length.min(MAX_PIECE_BYTES))
    }

    /// The same, borrowed.
    pub(super) fn slice(&self, position: u64, length: usize) -> &[u8] {
        let start = Self::start(position);
        &self.0[start..start + length.min(MAX_PIECE_BYTES)]
    }

    fn start(position: u64) -> usize {
        (position % POOL_BYTES as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_anywhere_have_their_length() {
        let payload = Payload::new();
        for position in [0, 1, POOL_BYTES as u64 - 1, u64::MAX] {
            assert_eq!(
                payload.bytes(position, MAX_PIECE_BYTES).len(),
                MAX_PIECE_BYTES
            );
            assert_eq!(payload.bytes(position, 100), payload.slice(position, 100));
        }
        assert_ne!(payload.slice(0, 1024), payload.slice(1024, 1024));
    }
}

//! Mutation fuzzing that runs with the tests: on stable Rust, bounded and deterministic.
//!
//! A test starts from valid bytes, lets the [`Mutator`] damage them a few hundred thousand times,
//! and asserts that the reader neither panics nor gives more than its limits. The seed is fixed,
//! so that a failure comes back. This is a net against careless readers, not a search for deep
//! states: it is no substitute for coverage-guided fuzzing.
//!
//! # Layout
//!
//! - here: the [`Mutator`]
//! - `tests/`: one file per reader

/// The largest output of [`Mutator::mutate`].
pub const MAX_CASE_BYTES: usize = 64 * 1024;

/// Integers at which readers go wrong: around zero, around the edges of their types, and the
/// longest varints.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Damages valid bytes. Two of the same seed do the same.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator that does what `seed` says.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number of the sequence (SplitMix64).
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    /// One of `choices`, which is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A copy of `valid` with one to four changes, some of which take bytes from `other`. At most
    /// [`MAX_CASE_BYTES`].
    pub fn mutate(&mut self, valid: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes.truncate(MAX_CASE_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let (start, end) = self.range(bytes.len());
        match self.below(8) {
            // Flip a bit.
            0 => {
                let bit = 1 << self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
            // Set a byte.
            1 => {
                let set = self.number() as u8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = set;
                }
            }
            // Set an integer.
            2 => {
                let edge = self.pick(&EDGES).to_be_bytes();
                let width = 1 << self.below(4);
                for (byte, set) in bytes[at..].iter_mut().zip(&edge[8 - width..]) {
                    *byte = *set;
                }
            }
            // Cut the end off.
            3 => bytes.truncate(at),
            // Cut a piece out.
            4 => drop(bytes.drain(start..end)),
            // Repeat a piece.
            5 => bytes.extend_from_within(start..end),
            // Put a piece of the other in.
            6 => {
                let (from, to) = self.range(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            // Add noise at the end.
            _ => {
                for _ in 0..self.below(16) {
                    bytes.push(self.number() as u8);
                }
            }
        }
    }

    /// The start and end of a piece of `length` bytes.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length);
        (start, start + self.below(length - start + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_does_the_same() {
        let cases = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..100)
                .map(|_| mutator.mutate(b"some bytes", b"others"))
                .collect::<Vec<_>>()
        };
        assert_eq!(cases(7), cases(7));
        assert_ne!(cases(7), cases(8));
    }

    #[test]
    fn almost_every_case_is_another() {
        let mut mutator = Mutator::new(1);
        let valid: Vec<u8> = (0..100).collect();
        let mut cases: Vec<_> = (0..1_000)
            .map(|_| mutator.mutate(&valid, b"others"))
            .collect();
        cases.sort();
        cases.dedup();
        assert!(cases.len() > 900, "{}", cases.len());
    }

    #[test]
    fn a_case_is_bounded_and_nothing_is_too_short() {
        let mut mutator = Mutator::new(2);
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            bytes = mutator.mutate(&bytes, &bytes);
            assert!(bytes.len() <= MAX_CASE_BYTES);
        }
        let large = vec![0; 2 * MAX_CASE_BYTES];
        assert!(mutator.mutate(&large, &large).len() <= MAX_CASE_BYTES);
    }
}

//! How a key finds its partition.

use std::num::NonZeroU32;

use bytes::Bytes;

use crate::ids::PartitionIndex;

/// Decides which partition a record with a key goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By [`murmur2`] of the key, as Kafka's clients do: a key goes to the same partition from
    /// either of them. The default.
    #[default]
    KeyHash,
    /// By ranges of keys, in byte order.
    KeyRanges(KeyRanges),
}

impl Partitioner {
    /// The partition of `key` in a topic of `partitions` partitions.
    pub fn partition_for_key(&self, key: &[u8], partitions: NonZeroU32) -> PartitionIndex {
        match self {
            Self::KeyHash => (murmur2(key) as u32 & 0x7fff_ffff) % partitions,
            Self::KeyRanges(ranges) => ranges.partition_for_key(key).min(partitions.get() - 1),
        }
    }
}

/// Ranges of keys in byte order, one per partition.
///
/// Partition *i* takes the keys below split point *i* that no partition before it takes; the last
/// one takes the rest. One split point `N` sends names that begin with A–M to partition 0 and
/// those with N–Z to partition 1. In a topic with fewer partitions than ranges, the last partition
/// takes what lies beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRanges {
    split_points: Vec<Bytes>,
}

/// The split points are not strictly ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("split point {index} is not above the one before it")]
pub struct UnsortedSplitPoints {
    /// The first that is not above the one before it, counted from 0.
    pub index: usize,
}

impl KeyRanges {
    /// Ranges between `split_points`, strictly ascending in byte order: one range more than there
    /// are split points.
    pub fn new(split_points: Vec<Bytes>) -> Result<Self, UnsortedSplitPoints> {
        match split_points.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(before) => Err(UnsortedSplitPoints { index: before + 1 }),
            None => Ok(Self { split_points }),
        }
    }

    /// How many ranges there are: one more than split points.
    pub fn ranges(&self) -> usize {
        self.split_points.len() + 1
    }

    fn partition_for_key(&self, key: &[u8]) -> PartitionIndex {
        let index = self
            .split_points
            .partition_point(|split| split.as_ref() <= key);
        PartitionIndex::try_from(index).unwrap_or(PartitionIndex::MAX)
    }
}

/// Kafka's variant of [MurmurHash2](https://github.com/aappleby/smhasher): 32 bits,
/// little-endian, with a seed of its own (`Utils.murmur2` in Kafka's clients).
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let last = tail
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u32::from(byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWELVE: NonZeroU32 = NonZeroU32::new(12).unwrap();

    /// From `UtilsTest.testMurmur2` of Kafka's clients.
    #[test]
    fn hashes_like_kafka() {
        let known: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            ("abc", 479470107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_key_goes_where_kafkas_default_partitioner_sends_it() {
        let partition = |key: &str| Partitioner::KeyHash.partition_for_key(key.as_bytes(), TWELVE);
        // (murmur2(key) & 0x7fffffff) % 12
        assert_eq!(partition("abc"), 479470107 % 12);
        assert_eq!(partition("21"), ((1_u32 << 31) - 973932308) % 12);
        assert!((0..1000).all(|n| partition(&n.to_string()) < 12));
    }

    fn ranges(split_points: &[&'static str]) -> Result<KeyRanges, UnsortedSplitPoints> {
        KeyRanges::new(
            split_points
                .iter()
                .map(|split| Bytes::from_static(split.as_bytes()))
                .collect(),
        )
    }

    #[test]
    fn ranges_split_names() {
        let by_name = Partitioner::KeyRanges(ranges(&["N"]).unwrap());
        let partition = |key: &str| by_name.partition_for_key(key.as_bytes(), TWELVE);
        for name in ["", "Ada", "Mzzz", "M\u{10ffff}"] {
            assert_eq!(partition(name), 0, "{name}");
        }
        for name in ["N", "Nora", "Zoe", "ada"] {
            assert_eq!(partition(name), 1, "{name}");
        }
    }

    #[test]
    fn split_points_belong_to_the_range_above() {
        let four = Partitioner::KeyRanges(ranges(&["b", "c", "d"]).unwrap());
        let keys = ["a", "b", "bz", "c", "d", "e"];
        let partitions = keys.map(|key| four.partition_for_key(key.as_bytes(), TWELVE));
        assert_eq!(partitions, [0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn the_last_partition_takes_what_lies_beyond() {
        let four = Partitioner::KeyRanges(ranges(&["b", "c", "d"]).unwrap());
        let two = NonZeroU32::new(2).unwrap();
        assert_eq!(four.partition_for_key(b"e", two), 1);
        assert_eq!(four.partition_for_key(b"a", two), 0);
    }

    #[test]
    fn split_points_ascend() {
        assert_eq!(ranges(&[]).unwrap().ranges(), 1);
        assert_eq!(ranges(&["a", "b"]).unwrap().ranges(), 3);
        for (unsorted, index) in [
            (&["b", "a"][..], 1),
            (&["a", "a"], 1),
            (&["a", "c", "b"], 2),
        ] {
            assert_eq!(ranges(unsorted), Err(UnsortedSplitPoints { index }));
        }
    }
}

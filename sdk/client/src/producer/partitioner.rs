//! How a producer picks a record's partition.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::PartitionIndex;
use millstream_protocol::partitioner::{self as protocol, KeyRanges};

use super::record::ProduceRecord;
use crate::error::{Error, Result};

type Custom = dyn Fn(&ProduceRecord<'_>, u32) -> PartitionIndex + Send + Sync;

/// Picks the partition of a record that does not name one itself.
///
/// Records without a key go round robin, batch by batch: those sent while a batch is open go into
/// that batch, the next batch opens at the next partition.
#[derive(Clone)]
pub struct Partitioner(Rule);

#[derive(Clone)]
enum Rule {
    Keys(protocol::Partitioner),
    RoundRobin,
    Custom(Arc<Custom>),
}

impl Partitioner {
    /// By murmur2 of the key, as Kafka's clients do. The default.
    pub fn key_hash() -> Self {
        Self(Rule::Keys(protocol::Partitioner::KeyHash))
    }

    /// By ranges of keys in byte order: partition *i* takes the keys below `split_points[i]` that
    /// no partition before it takes, the last one takes the rest.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the split points are not strictly ascending.
    pub fn key_ranges<S: Into<Bytes>>(split_points: impl IntoIterator<Item = S>) -> Result<Self> {
        let split_points = split_points.into_iter().map(Into::into).collect();
        let ranges =
            KeyRanges::new(split_points).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Self(Rule::Keys(protocol::Partitioner::KeyRanges(ranges))))
    }

    /// Round robin by batch for every record, whatever its key.
    pub fn round_robin() -> Self {
        Self(Rule::RoundRobin)
    }

    /// By `pick`, which is given the record and the number of partitions. A number out of range is
    /// refused when the record is sent.
    pub fn custom(
        pick: impl Fn(&ProduceRecord<'_>, u32) -> PartitionIndex + Send + Sync + 'static,
    ) -> Self {
        Self(Rule::Custom(Arc::new(pick)))
    }

    /// The record's partition, or `None` for the one whose turn it is.
    pub(super) fn pick(
        &self,
        record: &ProduceRecord<'_>,
        partitions: NonZeroU32,
    ) -> Option<PartitionIndex> {
        if let Some(partition) = record.explicit_partition() {
            return Some(partition);
        }
        match &self.0 {
            Rule::Keys(rule) => record
                .key_bytes()
                .map(|key| rule.partition_for_key(key, partitions)),
            Rule::RoundRobin => None,
            Rule::Custom(pick) => Some(pick(record, partitions.get())),
        }
    }
}

impl Default for Partitioner {
    fn default() -> Self {
        Self::key_hash()
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Keys(rule) => rule.fmt(f),
            Rule::RoundRobin => f.write_str("RoundRobin"),
            Rule::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

    #[test]
    fn a_key_decides_and_a_named_partition_overrides() {
        let hash = Partitioner::key_hash();
        let keyed = ProduceRecord::new("v").key("21");
        // murmur2("21") = -973932308, as in Kafka's own test vectors.
        assert_eq!(
            hash.pick(&keyed, FOUR),
            Some((-973_932_308_i32 as u32 & 0x7fff_ffff) % 4)
        );
        assert_eq!(hash.pick(&keyed.partition(3), FOUR), Some(3));
        assert_eq!(hash.pick(&ProduceRecord::new("v"), FOUR), None);
    }

    #[test]
    fn ranges_round_robin_and_custom() {
        let ranges = Partitioner::key_ranges(["h", "p"]).unwrap();
        let picked = ["abel", "hugo", "otto", "zoe"]
            .map(|key| ranges.pick(&ProduceRecord::new("v").key(key), FOUR));
        assert_eq!(picked, [Some(0), Some(1), Some(1), Some(2)]);
        assert!(matches!(
            Partitioner::key_ranges(["p", "h"]),
            Err(Error::InvalidArgument(_))
        ));

        assert_eq!(
            Partitioner::round_robin().pick(&ProduceRecord::new("v").key("k"), FOUR),
            None
        );

        let by_length = Partitioner::custom(|record, partitions| {
            record.value().unwrap_or(b"").len() as u32 % partitions
        });
        assert_eq!(by_length.pick(&ProduceRecord::new("12345"), FOUR), Some(1));
    }
}

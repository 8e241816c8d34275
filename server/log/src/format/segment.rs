//! The header of a segment file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MSEG` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 2 | flags: bit 0 sparse, 1 has a predecessor, 2 compacted, 3 holds tombstones |
//! | 28 | 8 | base offset |
//! | 36 | 8 | base offset of the segment before it when it was created (flag 1) |
//! | 44 | 8 | created, milliseconds |
//! | 52 | 8 | the log's salt |
//! | 60 | 8 | the offset at which it ends, exclusive (flag 2) |
//! | 68 | 8 | the file's length, bytes (flag 2) |
//! | 76 | 8 | when its tombstones were first met by a compaction, milliseconds (flag 3) |
//! | 84 | 4 | CRC-32C of the above |
//! | 88 | … | entries, see [`super::entry`] |
//!
//! Fields whose flag is not set are zero; bits without a meaning are too.
//!
//! An ordinary segment says neither its length nor where it ends: it grows. It ends where the next
//! one begins, and the next one names its predecessor, so that a missing file is seen. A compacted
//! segment is written once and says both; it takes the place of every segment that begins
//! below its end, which is how an interrupted replacement is finished.

use millstream_protocol::{Offset, TimestampMs};

use super::{DecodeError, Decoder, Encoder};
use crate::config::{Cleanup, LogIdentity};

/// Bytes before the first entry.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 88;

const MAGIC: [u8; 4] = *b"MSEG";
const VERSION: u16 = 1;

const SPARSE: u16 = 1;
const HAS_PREVIOUS: u16 = 1 << 1;
const COMPACTED: u16 = 1 << 2;
const TOMBSTONES: u16 = 1 << 3;
const UNKNOWN: u16 = !0 << 4;

/// Whether offsets may be missing between a segment's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Density {
    /// Every batch begins where the one before it ends: anything else is damage.
    Dense,
    /// Compaction, here or at the leader, has taken batches away.
    Sparse,
}

impl Density {
    /// What a new segment needs: a follower of a compacted log takes batches with gaps.
    pub(crate) fn of(cleanup: Cleanup) -> Self {
        match cleanup {
            Cleanup::Delete => Self::Dense,
            Cleanup::Compact => Self::Sparse,
        }
    }
}

/// What a compacted segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactedPart {
    /// The offset at which the segment ends, exclusive.
    pub(crate) end_offset: Offset,
    /// The file's length, bytes.
    pub(crate) file_bytes: u64,
    /// When a compaction first met the tombstones that it still holds, if it holds any.
    pub(crate) tombstones_since_ms: Option<TimestampMs>,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) base_offset: Offset,
    pub(crate) previous_base: Option<Offset>,
    pub(crate) created_ms: TimestampMs,
    pub(crate) salt: u64,
    pub(crate) density: Density,
    pub(crate) compacted: Option<CompactedPart>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, identity: &LogIdentity) -> Vec<u8> {
        let tombstones = self.compacted.and_then(|part| part.tombstones_since_ms);
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let flags = flag(self.density == Density::Sparse, SPARSE)
            | flag(self.previous_base.is_some(), HAS_PREVIOUS)
            | flag(self.compacted.is_some(), COMPACTED)
            | flag(tombstones.is_some(), TOMBSTONES);
        Encoder::new(MAGIC, VERSION)
            .identity(identity)
            .u16(flags)
            .u64(self.base_offset)
            .u64(self.previous_base.unwrap_or_default())
            .i64(self.created_ms)
            .u64(self.salt)
            .u64(self.compacted.map_or(0, |part| part.end_offset))
            .u64(self.compacted.map_or(0, |part| part.file_bytes))
            .i64(tombstones.unwrap_or_default())
            .seal()
    }

    pub(crate) fn decode(bytes: &[u8], identity: &LogIdentity) -> Result<Self, DecodeError> {
        let bytes = bytes
            .get(..SEGMENT_HEADER_BYTES)
            .ok_or(DecodeError::Broken)?;
        let mut fields = Decoder::open(bytes, MAGIC, VERSION)?;
        fields.identity(identity)?;
        let flags = fields.u16()?;
        if flags & UNKNOWN != 0 {
            return Err(DecodeError::Broken);
        }
        let has = |bit: u16| flags & bit != 0;
        let base_offset = fields.u64()?;
        let previous_base = fields.u64()?;
        let created_ms = fields.i64()?;
        let salt = fields.u64()?;
        let compacted = CompactedPart {
            end_offset: fields.u64()?,
            file_bytes: fields.u64()?,
            tombstones_since_ms: Some(fields.i64()?).filter(|_| has(TOMBSTONES)),
        };
        fields.end()?;
        Ok(Self {
            base_offset,
            previous_base: Some(previous_base).filter(|_| has(HAS_PREVIOUS)),
            created_ms,
            salt,
            density: if has(SPARSE) {
                Density::Sparse
            } else {
                Density::Dense
            },
            compacted: Some(compacted).filter(|_| has(COMPACTED)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::identity;
    use proptest::prelude::*;

    fn compacted() -> impl Strategy<Value = CompactedPart> {
        (any::<u64>(), any::<u64>(), any::<Option<i64>>()).prop_map(
            |(end_offset, file_bytes, tombstones_since_ms)| CompactedPart {
                end_offset,
                file_bytes,
                tombstones_since_ms,
            },
        )
    }

    fn header() -> impl Strategy<Value = SegmentHeader> {
        (
            any::<u64>(),
            any::<Option<u64>>(),
            any::<i64>(),
            any::<u64>(),
            any::<bool>(),
            proptest::option::of(compacted()),
        )
            .prop_map(
                |(base_offset, previous_base, created_ms, salt, sparse, compacted)| SegmentHeader {
                    base_offset,
                    previous_base,
                    created_ms,
                    salt,
                    density: if sparse {
                        Density::Sparse
                    } else {
                        Density::Dense
                    },
                    compacted,
                },
            )
    }

    proptest! {
        #[test]
        fn a_header_reads_back(header in header()) {
            let bytes = header.encode(&identity());
            prop_assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
            prop_assert_eq!(SegmentHeader::decode(&bytes, &identity()), Ok(header));
        }

        #[test]
        fn a_flipped_bit_is_seen(header in header(), byte in 0..SEGMENT_HEADER_BYTES, bit in 0..8) {
            let mut bytes = header.encode(&identity());
            bytes[byte] ^= 1_u8 << bit;
            prop_assert_eq!(
                SegmentHeader::decode(&bytes, &identity()),
                Err(DecodeError::Broken)
            );
        }
    }

    #[test]
    fn a_header_belongs_to_one_partition() {
        let header = SegmentHeader {
            base_offset: 0,
            previous_base: None,
            created_ms: 1,
            salt: 2,
            density: Density::Dense,
            compacted: None,
        };
        let mut other = identity();
        other.partition += 1;
        assert_eq!(
            SegmentHeader::decode(&header.encode(&identity()), &other),
            Err(DecodeError::OtherPartition)
        );
    }
}

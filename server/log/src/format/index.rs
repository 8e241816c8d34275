//! The index file: a segment's sparse index. A cache: it is rebuilt when it is missing or wrong,
//! and a lookup checks the entry that it lands on.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MIDX` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 2 | flags: bit 0 has a highest timestamp |
//! | 28 | 8 | the log's salt |
//! | 36 | 8 | the segment's base offset |
//! | 44 | 8 | the offset behind the last batch covered |
//! | 52 | 8 | bytes of the segment covered |
//! | 60 | 8 | the highest timestamp, milliseconds (flag 0) |
//! | 68 | 4 | bytes between two entries, at least |
//! | 72 | 4 | count of entries |
//! | 76 | 16 each | entries: relative offset (4), position (4), highest timestamp before it (8) |
//! | … | 4 | CRC-32C of the above |

use super::{DecodeError, Decoder, Encoder};
use crate::config::LogIdentity;
use crate::index::{IndexEntry, SparseIndex};

const MAGIC: [u8; 4] = *b"MIDX";
const VERSION: u16 = 1;

const HAS_TIMESTAMP: u16 = 1;
const ENTRY_BYTES: usize = 16;

pub(crate) fn encode(index: &SparseIndex, identity: &LogIdentity, salt: u64) -> Vec<u8> {
    let has_timestamp = index.max_timestamp_ms.map_or(0, |_| HAS_TIMESTAMP);
    let fields = Encoder::new(MAGIC, VERSION)
        .identity(identity)
        .u16(has_timestamp)
        .u64(salt)
        .u64(index.base_offset)
        .u64(index.end_offset)
        .u64(index.end_position)
        .i64(index.max_timestamp_ms.unwrap_or_default())
        .u32(index.interval_bytes)
        .u32(index.entries.len() as u32);
    let entries = index.entries.iter().fold(fields, |fields, entry| {
        fields
            .u32(entry.relative_offset)
            .u32(entry.position)
            .i64(entry.max_timestamp_before_ms)
    });
    entries.seal()
}

pub(crate) fn decode(
    bytes: &[u8],
    identity: &LogIdentity,
    salt: u64,
) -> Result<SparseIndex, DecodeError> {
    let mut fields = Decoder::open(bytes, MAGIC, VERSION)?;
    fields.identity(identity)?;
    let flags = fields.u16()?;
    if fields.u64()? != salt {
        return Err(DecodeError::OtherPartition);
    }
    let mut index = SparseIndex::new(fields.u64()?, 1);
    index.end_offset = fields.u64()?;
    index.end_position = fields.u64()?;
    index.max_timestamp_ms = Some(fields.i64()?).filter(|_| flags & HAS_TIMESTAMP != 0);
    index.interval_bytes = fields.u32()?;
    let count = fields.count(ENTRY_BYTES)?;
    index.entries.reserve_exact(count);
    for _ in 0..count {
        index.entries.push(IndexEntry {
            relative_offset: fields.u32()?,
            position: fields.u32()?,
            max_timestamp_before_ms: fields.i64()?,
        });
    }
    fields.end()?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::identity;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_index_reads_back(
            (base_offset, end_offset, end_position) in any::<(u64, u64, u64)>(),
            (max_timestamp_ms, interval_bytes) in any::<(Option<i64>, u32)>(),
            entries in proptest::collection::vec(any::<(u32, u32, i64)>(), 0..20),
            flip in any::<(usize, u8)>(),
        ) {
            let entries = entries.into_iter().map(|(relative_offset, position, max)| IndexEntry {
                relative_offset, position, max_timestamp_before_ms: max,
            });
            let index = SparseIndex {
                base_offset,
                interval_bytes,
                entries: entries.collect(),
                end_offset,
                end_position,
                max_timestamp_ms,
            };
            let mut bytes = encode(&index, &identity(), 9);
            prop_assert_eq!(decode(&bytes, &identity(), 9), Ok(index));
            prop_assert_eq!(decode(&bytes, &identity(), 8), Err(DecodeError::OtherPartition));
            let byte = flip.0 % bytes.len();
            bytes[byte] ^= 1 << (flip.1 % 8);
            prop_assert_eq!(decode(&bytes, &identity(), 9), Err(DecodeError::Broken));
        }
    }
}

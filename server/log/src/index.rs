//! The sparse index of one segment: from offset and time to a position to read from.

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, TimestampMs};

use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::limits::MAX_INDEX_ENTRIES;

/// One batch in so many bytes of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub(crate) relative_offset: u32,
    /// Where its entry begins in the file.
    pub(crate) position: u32,
    /// The highest timestamp of all batches before it in the segment.
    pub(crate) max_timestamp_before_ms: TimestampMs,
}

/// Where a search in a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    /// The base offset of the batch there. At the segment's first position, its base offset.
    pub(crate) offset: Offset,
    /// Where its entry begins in the file.
    pub(crate) position: u64,
}

/// Knows a batch in every so many bytes of a segment, and the segment's highest timestamp.
///
/// It covers the segment's entries up to `end_position`. The first batch is known without an
/// entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    pub(crate) base_offset: Offset,
    pub(crate) interval_bytes: u32,
    pub(crate) entries: Vec<IndexEntry>,
    /// The offset behind the last batch covered.
    pub(crate) end_offset: Offset,
    /// Where the first entry that is not covered begins.
    pub(crate) end_position: u64,
    /// The highest timestamp of all batches covered.
    pub(crate) max_timestamp_ms: Option<TimestampMs>,
}

impl SparseIndex {
    pub(crate) fn new(base_offset: Offset, interval_bytes: u32) -> Self {
        Self {
            base_offset,
            interval_bytes: interval_bytes.max(1),
            entries: Vec::new(),
            end_offset: base_offset,
            end_position: SEGMENT_HEADER_BYTES as u64,
            max_timestamp_ms: None,
        }
    }

    /// Covers the batch whose entry lies at `position`, the next one in the segment.
    pub(crate) fn push(&mut self, batch: &BatchHeader, position: u64, entry_bytes: usize) {
        if let Some(max_timestamp_before_ms) = self.max_timestamp_ms
            && position >= self.next_position()
        {
            // What does not fit is found by a longer search.
            if let (Ok(relative_offset), Ok(position)) = (
                u32::try_from(batch.base_offset - self.base_offset),
                u32::try_from(position),
            ) {
                self.entries.push(IndexEntry {
                    relative_offset,
                    position,
                    max_timestamp_before_ms,
                });
                self.thin_out();
            }
        }
        let max = self.max_timestamp_ms.map_or(batch.max_timestamp_ms, |max| {
            max.max(batch.max_timestamp_ms)
        });
        self.max_timestamp_ms = Some(max);
        self.end_offset = batch.next_offset();
        self.end_position = position + entry_bytes as u64;
    }

    /// Covers no more than the batches below `offset`; fewer, if it does not know where that is.
    pub(crate) fn cut_at(&mut self, offset: Offset) {
        if offset >= self.end_offset {
            return;
        }
        let relative = offset.saturating_sub(self.base_offset);
        let known = self
            .entries
            .partition_point(|entry| u64::from(entry.relative_offset) <= relative);
        let landing = self.landing(known);
        self.end_offset = landing.offset;
        self.end_position = landing.position;
        self.max_timestamp_ms = known
            .checked_sub(1)
            .and_then(|last| self.entries.get(last))
            .map(|entry| entry.max_timestamp_before_ms);
        self.entries.truncate(known.saturating_sub(1));
    }

    /// The last known batch whose base offset is at or below `offset`.
    pub(crate) fn by_offset(&self, offset: Offset) -> Landing {
        let relative = offset.saturating_sub(self.base_offset);
        let known = self
            .entries
            .partition_point(|entry| u64::from(entry.relative_offset) <= relative);
        self.landing(known)
    }

    /// A known batch before which everything is older than `timestamp_ms`.
    pub(crate) fn by_time(&self, timestamp_ms: TimestampMs) -> Landing {
        let known = self
            .entries
            .partition_point(|entry| entry.max_timestamp_before_ms < timestamp_ms);
        self.landing(known)
    }

    /// The last of the first `known` entries.
    fn landing(&self, known: usize) -> Landing {
        let entry = known.checked_sub(1).and_then(|last| self.entries.get(last));
        entry.map_or(
            Landing {
                offset: self.base_offset,
                position: SEGMENT_HEADER_BYTES as u64,
            },
            |entry| Landing {
                offset: self.base_offset + u64::from(entry.relative_offset),
                position: entry.position.into(),
            },
        )
    }

    fn next_position(&self) -> u64 {
        let last = self
            .entries
            .last()
            .map_or(SEGMENT_HEADER_BYTES as u64, |entry| entry.position.into());
        last + u64::from(self.interval_bytes)
    }

    fn thin_out(&mut self) {
        if self.entries.len() <= MAX_INDEX_ENTRIES {
            return;
        }
        let mut even = false;
        self.entries.retain(|_| {
            even = !even;
            !even
        });
        self.interval_bytes = self.interval_bytes.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch_of;

    /// An index over `batches` of one record and 100 bytes each, with timestamps 0, 10, 20 ….
    fn index_over(batches: u64, interval_bytes: u32) -> SparseIndex {
        let mut index = SparseIndex::new(1000, interval_bytes);
        let mut header = batch_of(&["x"]).header;
        for i in 0..batches {
            header.base_offset = 1000 + i;
            header.max_timestamp_ms = 10 * i as i64;
            index.push(&header, SEGMENT_HEADER_BYTES as u64 + 100 * i, 100);
        }
        index
    }

    #[test]
    fn a_lookup_lands_at_most_an_interval_before_the_batch() {
        let index = index_over(100, 250);
        for offset in 1000..1100 {
            let landing = index.by_offset(offset);
            assert!(landing.offset <= offset && offset - landing.offset < 3);
            assert_eq!(
                landing.position,
                SEGMENT_HEADER_BYTES as u64 + 100 * (landing.offset - 1000)
            );
        }
        assert_eq!(index.end_offset, 1100);
        assert_eq!(index.max_timestamp_ms, Some(990));
    }

    #[test]
    fn everything_before_a_landing_by_time_is_older() {
        let index = index_over(100, 250);
        for timestamp_ms in -1..1000 {
            let landing = index.by_time(timestamp_ms);
            let newest_before = 10 * (landing.offset as i64 - 1000 - 1);
            assert!(landing.offset == 1000 || newest_before < timestamp_ms);
            assert!(timestamp_ms - newest_before <= 40 || landing.offset >= 1096);
        }
    }

    #[test]
    fn a_full_index_thins_out_and_goes_on() {
        let batches = 10 * MAX_INDEX_ENTRIES as u64;
        let index = index_over(batches, 100);
        assert!(index.entries.len() <= MAX_INDEX_ENTRIES);
        assert!(index.entries.len() > MAX_INDEX_ENTRIES / 2);
        for offset in (1000..1000 + batches).step_by(997) {
            let landing = index.by_offset(offset);
            assert!(landing.offset <= offset);
            assert!(100 * (offset - landing.offset) <= u64::from(index.interval_bytes));
        }
    }

    #[test]
    fn a_batch_beyond_32_bits_of_offsets_is_not_indexed() {
        let mut index = index_over(10, 100);
        let mut header = batch_of(&["x"]).header;
        header.base_offset = 1000 + (1 << 32);
        let entries = index.entries.len();
        index.push(&header, 1 << 20, 100);
        assert_eq!(index.entries.len(), entries);
        assert_eq!(index.end_offset, header.base_offset + 1);
        assert!(index.by_offset(header.base_offset).offset < header.base_offset);
    }
}

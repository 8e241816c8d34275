//! A segment that a round of compaction writes.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};

use super::waiting_path;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::entry::ENTRY_PREFIX_BYTES;
use crate::format::segment::{CompactedPart, Density, SegmentHeader};
use crate::index::SparseIndex;
use crate::limits::COMPACTION_WRITE_BYTES;
use crate::segment::Segment;
use crate::storage::StorageFile;

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) waiting: PathBuf,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) replaced: Vec<Arc<Segment>>,
    pub(super) index: SparseIndex,
    /// Entries that are not written yet.
    pub(super) pending: Vec<([u8; ENTRY_PREFIX_BYTES], Bytes)>,
    pub(super) pending_bytes: usize,
    /// When the tombstones of the replaced segments were first met.
    pub(super) tombstones_since_ms: Option<TimestampMs>,
    pub(super) holds_tombstones: bool,
    pub(super) records_dropped: u64,
    /// The last batch, if nothing is left of it: what its header says.
    pub(super) gone: Option<Written>,
    /// The epoch of the last batch that was looked at, if none was passed over since.
    pub(super) last_epoch: Option<LeaderEpoch>,
}

/// A batch that is written, or may be.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) header: BatchHeader,
    pub(super) prefix: [u8; ENTRY_PREFIX_BYTES],
    pub(super) bytes: Bytes,
}

/// What an output holds between two sources, to go back to.
pub(super) struct Mark {
    index: SparseIndex,
    replaced: usize,
    tombstones_since_ms: Option<TimestampMs>,
    holds_tombstones: bool,
    records_dropped: u64,
    gone: Option<Written>,
    last_epoch: Option<LeaderEpoch>,
}

impl Output {
    pub(super) fn create(
        files: &Files,
        base_offset: Offset,
        last_epoch: Option<LeaderEpoch>,
    ) -> Result<Self, StorageFailure> {
        let waiting = waiting_path(files, base_offset);
        Ok(Self {
            file: files.create(&waiting)?,
            waiting,
            replaced: Vec::new(),
            index: SparseIndex::new(base_offset, files.index_interval_bytes),
            pending: Vec::new(),
            pending_bytes: 0,
            tombstones_since_ms: None,
            holds_tombstones: false,
            records_dropped: 0,
            gone: None,
            last_epoch,
        })
    }

    pub(super) fn mark(&mut self) -> Result<Mark, StorageFailure> {
        self.write_pending()?;
        Ok(Mark {
            index: self.index.clone(),
            replaced: self.replaced.len(),
            tombstones_since_ms: self.tombstones_since_ms,
            holds_tombstones: self.holds_tombstones,
            records_dropped: self.records_dropped,
            gone: self.gone.clone(),
            last_epoch: self.last_epoch,
        })
    }

    pub(super) fn reset(&mut self, mark: Mark) -> Result<(), StorageFailure> {
        self.pending.clear();
        self.pending_bytes = 0;
        self.replaced.truncate(mark.replaced);
        self.index = mark.index;
        self.tombstones_since_ms = mark.tombstones_since_ms;
        self.holds_tombstones = mark.holds_tombstones;
        self.records_dropped = mark.records_dropped;
        self.gone = mark.gone;
        self.last_epoch = mark.last_epoch;
        let cut = self.file.set_length(self.index.end_position);
        cut.attempt("cut", &self.waiting)
    }

    pub(super) fn push(&mut self, batch: Written) -> Result<(), StorageFailure> {
        let Written {
            header,
            prefix,
            bytes,
        } = batch;
        let entry_bytes = ENTRY_PREFIX_BYTES + bytes.len();
        let position = self.index.end_position;
        self.index.push(&header, position, entry_bytes);
        self.pending_bytes += entry_bytes;
        self.pending.push((prefix, bytes));
        self.gone = None;
        if self.pending_bytes >= COMPACTION_WRITE_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    /// What was left out stays after all, as a header: logs may part behind it.
    pub(super) fn push_gone(&mut self) -> Result<(), StorageFailure> {
        match self.gone.take() {
            Some(gone) => self.push(gone),
            None => Ok(()),
        }
    }

    pub(super) fn write_pending(&mut self) -> Result<(), StorageFailure> {
        let position = self.index.end_position - self.pending_bytes as u64;
        let mut slices: Vec<_> = self
            .pending
            .iter()
            .flat_map(|(prefix, batch)| [IoSlice::new(prefix), IoSlice::new(batch)])
            .collect();
        let written = self.file.write_vectored_at(&mut slices, position);
        written.attempt("write", &self.waiting)?;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    pub(super) fn end_offset(&self) -> Offset {
        self.replaced
            .last()
            .map_or(self.index.base_offset, |last| last.extent().end_offset)
    }

    fn tombstones(&self) -> Option<TimestampMs> {
        self.tombstones_since_ms.filter(|_| self.holds_tombstones)
    }

    /// Whether it would be what it replaces.
    pub(super) fn is_in_vain(&self) -> bool {
        let [only] = self.replaced.as_slice() else {
            return false;
        };
        let known = only
            .header
            .compacted
            .and_then(|part| part.tombstones_since_ms);
        self.records_dropped == 0 && known == self.tombstones()
    }

    pub(super) fn header(&self, files: &Files) -> Result<SegmentHeader, StorageFailure> {
        let first = self.replaced.first().map(|first| first.header);
        Ok(SegmentHeader {
            base_offset: self.index.base_offset,
            previous_base: first.and_then(|first| first.previous_base),
            created_ms: first.map_or(0, |first| first.created_ms),
            salt: files.salt,
            density: Density::Sparse,
            compacted: Some(CompactedPart {
                end_offset: self.end_offset(),
                file_bytes: self.index.end_position,
                tombstones_since_ms: self.tombstones(),
            }),
        })
    }
}

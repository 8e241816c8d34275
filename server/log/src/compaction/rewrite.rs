//! Rewriting segments without what is superseded.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchHeader, RecordBatch, RecordView, retain};
use millstream_protocol::{Offset, TimestampMs};

use super::keys::LatestKeys;
use super::{CompactionError, TombstoneRule, waiting_path};
use crate::damage::Damage;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::entry::ENTRY_PREFIX_BYTES;
use crate::format::segment::{CompactedPart, Density, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::index::SparseIndex;
use crate::limits::{COMPACTION_WRITE_BYTES, SCAN_CHUNK_BYTES};
use crate::scan::{Entry, Scanner, Step};
use crate::segment::{Extent, Segment};
use crate::storage::StorageFile;

/// A new segment, and those whose place it takes.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) replaced: Vec<Arc<Segment>>,
    pub(super) segment: Arc<Segment>,
    /// Where its file waits to be renamed.
    pub(super) waiting: PathBuf,
    pub(super) records_dropped: u64,
}

impl Rewritten {
    pub(super) fn bytes_before(&self) -> u64 {
        self.replaced.iter().map(|old| old.extent().bytes).sum()
    }
}

/// Rewrites segments one after the other.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    files: &'a Arc<Files>,
    keys: &'a LatestKeys,
    rule: TombstoneRule,
    segment_bytes: u64,
    output: Option<Output>,
    done: Vec<Rewritten>,
    tombstones_gone_until: Offset,
}

/// A segment that is being written.
#[derive(Debug)]
struct Output {
    waiting: PathBuf,
    file: Arc<dyn StorageFile>,
    replaced: Vec<Arc<Segment>>,
    index: SparseIndex,
    /// Entries that are not written yet.
    pending: Vec<([u8; ENTRY_PREFIX_BYTES], Bytes)>,
    pending_bytes: usize,
    /// When the tombstones of the replaced segments were first met.
    tombstones_since_ms: Option<TimestampMs>,
    holds_tombstones: bool,
    records_dropped: u64,
}

/// How far a source was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Whole,
    /// The output would exceed the size of a segment.
    TooLarge,
}

/// What an output holds between two sources, to go back to.
struct Mark {
    index: SparseIndex,
    replaced: usize,
    tombstones_since_ms: Option<TimestampMs>,
    holds_tombstones: bool,
    records_dropped: u64,
}

/// What is left of a batch.
enum Left {
    All,
    Some {
        bytes: Bytes,
        header: BatchHeader,
        dropped: u32,
    },
    None {
        dropped: u32,
    },
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(
        files: &'a Arc<Files>,
        keys: &'a LatestKeys,
        rule: TombstoneRule,
        segment_bytes: u64,
    ) -> Self {
        Self {
            files,
            keys,
            rule,
            segment_bytes,
            output: None,
            done: Vec::new(),
            tombstones_gone_until: 0,
        }
    }

    /// Below, tombstones may have been left out. It errs upwards: a segment counts as a whole.
    pub(super) fn tombstones_gone_until(&self) -> Offset {
        self.tombstones_gone_until
    }

    /// Rewrites the next segment, behind the ones before it if they fit together.
    pub(super) fn segment(&mut self, source: &Arc<Segment>) -> Result<(), CompactionError> {
        let since_ms = source
            .header
            .compacted
            .and_then(|part| part.tombstones_since_ms);
        let expired = since_ms.is_some_and(|since_ms| self.rule.is_expired(since_ms));
        if self.keys.is_empty() && !expired {
            // Nothing in it can go.
            return self.finish_output();
        }
        if expired {
            let end_offset = source.extent().end_offset;
            self.tombstones_gone_until = self.tombstones_gone_until.max(end_offset);
        }
        let since_ms = self.tombstones_since(source, since_ms, expired);
        if let Some(mut output) = self.output.take() {
            let appended = self.append(source, since_ms, expired, &mut output);
            self.output = Some(output);
            if appended? == Copied::Whole {
                return Ok(());
            }
            self.finish_output()?;
        }
        let mut output = Output::create(self.files, source.base_offset())?;
        // On its own it fits, since it only shrinks.
        let copied = self.copy(source, since_ms, expired, &mut output);
        self.output = Some(output);
        copied.map(|_| ())
    }

    /// Puts a source behind what is there, unless it does not fit.
    fn append(
        &self,
        source: &Arc<Segment>,
        since_ms: Option<TimestampMs>,
        expired: bool,
        output: &mut Output,
    ) -> Result<Copied, CompactionError> {
        if !self.may_fit(output, source, since_ms) {
            return Ok(Copied::TooLarge);
        }
        let mark = output.mark()?;
        let copied = self.copy(source, since_ms, expired, output)?;
        if copied == Copied::TooLarge {
            output.reset(mark)?;
        }
        Ok(copied)
    }

    /// Since when the tombstones that stay in the segment will be known.
    fn tombstones_since(
        &self,
        source: &Segment,
        since_ms: Option<TimestampMs>,
        expired: bool,
    ) -> Option<TimestampMs> {
        let is_clean = source.extent().end_offset <= self.rule.compacted_until;
        match since_ms {
            // Some of them are met for the first time.
            _ if !is_clean => Some(self.rule.now_ms),
            Some(since_ms) if !expired => Some(since_ms),
            // All of them go, or there are none.
            _ => None,
        }
    }

    /// Whether it is worth a try to put the source behind what is there.
    fn may_fit(&self, output: &Output, source: &Segment, since_ms: Option<TimestampMs>) -> bool {
        let extent = source.extent();
        let same_time = match (output.tombstones_since_ms, since_ms) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        // Offsets within a segment are indexed in 32 bits.
        let offsets = extent.end_offset - output.index.base_offset;
        let bytes = output.index.end_position;
        let likely = bytes <= self.segment_bytes / 2 || bytes + extent.bytes <= self.segment_bytes;
        same_time && likely && u32::try_from(offsets).is_ok()
    }

    fn copy(
        &self,
        source: &Arc<Segment>,
        since_ms: Option<TimestampMs>,
        expired: bool,
        output: &mut Output,
    ) -> Result<Copied, CompactionError> {
        output.replaced.push(Arc::clone(source));
        output.tombstones_since_ms = output.tombstones_since_ms.or(since_ms);
        let (bytes, binding) = (source.bytes()?, self.files.binding());
        let start = (source.base_offset(), SEGMENT_HEADER_BYTES as u64);
        let density = source.header.density;
        let mut scanner = Scanner::new(&bytes, &binding, density, start, SCAN_CHUNK_BYTES);
        let path = source.path();
        let damaged = |offset, fault: &dyn std::fmt::Display| {
            CompactionError::Damaged(Damage {
                offset,
                what: format!("{} has {fault}", path.display()),
            })
        };
        loop {
            let entry = match scanner.step().attempt("read", path)? {
                Step::Entry(entry) => entry,
                Step::End if scanner.expected() < bytes.end_offset && density == Density::Dense => {
                    return Err(damaged(scanner.expected(), &"too few entries"));
                }
                Step::End => return Ok(Copied::Whole),
                Step::Fault(fault) => return Err(damaged(scanner.expected(), &fault)),
            };
            let batch = scanner
                .batch(&entry)
                .attempt("read", path)?
                .map_err(|fault| damaged(entry.header.batch.base_offset, &fault))?;
            let flushed_offset = entry.header.flushed_offset;
            match self.left_of(&entry, &batch, expired, output) {
                Left::All => {
                    let prefix = binding.prefix(flushed_offset, &batch);
                    output.push(&entry.header.batch, prefix, batch)?;
                }
                Left::Some {
                    bytes,
                    header,
                    dropped,
                } => {
                    output.records_dropped += u64::from(dropped);
                    let prefix = binding.prefix(flushed_offset, &bytes);
                    output.push(&header, prefix, bytes)?;
                }
                Left::None { dropped } => output.records_dropped += u64::from(dropped),
            }
            if output.index.end_position > self.segment_bytes && output.replaced.len() > 1 {
                return Ok(Copied::TooLarge);
            }
        }
    }

    /// Decides which records of a batch stay.
    fn left_of(&self, entry: &Entry, batch: &Bytes, expired: bool, output: &mut Output) -> Left {
        let header = &entry.header.batch;
        let parsed = RecordBatch::parse(batch.clone());
        let records = parsed.as_ref().map(RecordBatch::records);
        let (Ok(parsed), Ok(Ok(records)), false) = (&parsed, records, header.control) else {
            return Left::All;
        };
        if header.base_offset >= self.keys.until {
            // It comes in a later round.
            return Left::All;
        }
        let stays = |record: &RecordView<'_>| {
            let Some(key) = record.key else { return true };
            let met_before = record.offset < self.rule.compacted_until;
            let tombstone_goes = record.value.is_none() && expired && met_before;
            !tombstone_goes && !self.keys.supersede(key, record.offset)
        };
        let mut dropped = 0;
        for record in &records {
            match record {
                Ok(record) if !stays(&record) => dropped += 1,
                Ok(record) => output.holds_tombstones |= record.value.is_none(),
                // What cannot be read is kept.
                Err(_) => return Left::All,
            }
        }
        if dropped == 0 {
            return Left::All;
        }
        let Ok(retained) = retain(parsed, stays) else {
            // It compresses worse here than at its producer.
            return Left::All;
        };
        let Some(bytes) = retained else {
            return Left::None { dropped };
        };
        match BatchHeader::parse(&bytes) {
            Ok(header) => Left::Some {
                bytes,
                header,
                dropped,
            },
            Err(_) => Left::All,
        }
    }

    /// Makes all that was rewritten durable, under its waiting names.
    pub(super) fn finish(mut self) -> Result<Vec<Rewritten>, CompactionError> {
        match self.finish_output() {
            Ok(()) => Ok(self.done),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was written so far. What cannot be removed is overwritten by the next round,
    /// or removed when the log is opened.
    pub(super) fn abandon(self) {
        let waiting = self.done.into_iter().map(|rewritten| rewritten.waiting);
        for path in waiting.chain(self.output.map(|output| output.waiting)) {
            let _ = self.files.remove(&path);
        }
    }

    fn finish_output(&mut self) -> Result<(), CompactionError> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        output.write_pending()?;
        if output.is_in_vain() {
            self.files.remove(&output.waiting)?;
            self.output = None;
            return Ok(());
        }
        let header = output.header(self.files)?;
        let encoded = header.encode(&self.files.identity);
        let written = output
            .file
            .write_vectored_at(&mut [IoSlice::new(&encoded)], 0);
        written.attempt("write", &output.waiting)?;
        output.file.sync_data().attempt("sync", &output.waiting)?;
        let Some(output) = self.output.take() else {
            return Ok(());
        };
        let extent = Extent {
            bytes: output.index.end_position,
            end_offset: output.end_offset(),
        };
        let files = Arc::clone(self.files);
        let segment = Segment::sealed(files, header, extent, Some(output.index));
        self.done.push(Rewritten {
            replaced: output.replaced,
            segment: Arc::new(segment.with_file(output.file)),
            waiting: output.waiting,
            records_dropped: output.records_dropped,
        });
        Ok(())
    }
}

impl Output {
    fn create(files: &Files, base_offset: Offset) -> Result<Self, StorageFailure> {
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
        })
    }

    fn mark(&mut self) -> Result<Mark, StorageFailure> {
        self.write_pending()?;
        Ok(Mark {
            index: self.index.clone(),
            replaced: self.replaced.len(),
            tombstones_since_ms: self.tombstones_since_ms,
            holds_tombstones: self.holds_tombstones,
            records_dropped: self.records_dropped,
        })
    }

    fn reset(&mut self, mark: Mark) -> Result<(), StorageFailure> {
        self.pending.clear();
        self.pending_bytes = 0;
        self.replaced.truncate(mark.replaced);
        self.index = mark.index;
        self.tombstones_since_ms = mark.tombstones_since_ms;
        self.holds_tombstones = mark.holds_tombstones;
        self.records_dropped = mark.records_dropped;
        let cut = self.file.set_length(self.index.end_position);
        cut.attempt("cut", &self.waiting)
    }

    fn push(
        &mut self,
        header: &BatchHeader,
        prefix: [u8; ENTRY_PREFIX_BYTES],
        batch: Bytes,
    ) -> Result<(), StorageFailure> {
        let entry_bytes = ENTRY_PREFIX_BYTES + batch.len();
        let position = self.index.end_position;
        self.index.push(header, position, entry_bytes);
        self.pending_bytes += entry_bytes;
        self.pending.push((prefix, batch));
        if self.pending_bytes >= COMPACTION_WRITE_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), StorageFailure> {
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

    fn end_offset(&self) -> Offset {
        self.replaced
            .last()
            .map_or(self.index.base_offset, |last| last.extent().end_offset)
    }

    fn tombstones(&self) -> Option<TimestampMs> {
        self.tombstones_since_ms.filter(|_| self.holds_tombstones)
    }

    /// Whether it would be what it replaces.
    fn is_in_vain(&self) -> bool {
        let [only] = self.replaced.as_slice() else {
            return false;
        };
        let known = only
            .header
            .compacted
            .and_then(|part| part.tombstones_since_ms);
        self.records_dropped == 0 && known == self.tombstones()
    }

    fn header(&self, files: &Files) -> Result<SegmentHeader, StorageFailure> {
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

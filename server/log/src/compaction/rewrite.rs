//! Rewriting segments without what is superseded.

use std::collections::HashSet;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchHeader, RecordBatch, RecordView, emptied, retain};
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};

use super::keys::LatestKeys;
use super::output::{Output, Written};
use super::{CompactionError, TombstoneRule};
use crate::damage::Damage;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::segment::{Density, SEGMENT_HEADER_BYTES};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::scan::{Entry, Scanner, Step};
use crate::segment::{Extent, Segment};

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
    /// Where the batches begin by which producers are recognised.
    known_by: &'a HashSet<Offset>,
    rule: TombstoneRule,
    segment_bytes: u64,
    /// See [`Output::last_epoch`].
    last_epoch: Option<LeaderEpoch>,
    output: Option<Output>,
    done: Vec<Rewritten>,
    tombstones_gone_until: Offset,
}

/// How far a source was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Whole,
    /// The output would exceed the size of a segment.
    TooLarge,
}

/// What is left of a batch.
enum Left {
    All,
    Some {
        bytes: Bytes,
        dropped: u32,
    },
    /// No record; what its header says.
    None {
        empty: Bytes,
        dropped: u32,
    },
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(
        files: &'a Arc<Files>,
        keys: &'a LatestKeys,
        known_by: &'a HashSet<Offset>,
        rule: TombstoneRule,
        segment_bytes: u64,
    ) -> Self {
        Self {
            files,
            keys,
            known_by,
            rule,
            segment_bytes,
            last_epoch: None,
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
            self.finish_output()?;
            self.last_epoch = None;
            return Ok(());
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
        let mut output = Output::create(self.files, source.base_offset(), self.last_epoch)?;
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
            self.copy_batch(&entry, batch, expired, output)?;
            if output.index.end_position > self.segment_bytes && output.replaced.len() > 1 {
                return Ok(Copied::TooLarge);
            }
        }
    }

    fn copy_batch(
        &self,
        entry: &Entry,
        batch: Bytes,
        expired: bool,
        output: &mut Output,
    ) -> Result<(), StorageFailure> {
        let header = &entry.header.batch;
        let is_border = header.control && header.record_count > 0;
        if is_border || header.base_offset >= self.keys.until {
            output.push_gone()?;
        }
        let epoch = Some(header.leader_epoch);
        let begins_epoch = std::mem::replace(&mut output.last_epoch, epoch) != epoch;
        let written = |bytes: Bytes, header: BatchHeader| Written {
            prefix: self
                .files
                .binding()
                .prefix(entry.header.flushed_offset, &bytes),
            header,
            bytes,
        };
        let (bytes, dropped, is_empty) = match self.left_of(entry, &batch, expired, output) {
            Left::All => return output.push(written(batch, *header)),
            Left::Some { bytes, dropped } => (bytes, dropped, false),
            Left::None { empty, dropped } => (empty, dropped, true),
        };
        let Ok(left) = BatchHeader::parse(&bytes) else {
            return output.push(written(batch, *header));
        };
        output.records_dropped += u64::from(dropped);
        let is_known = begins_epoch || self.known_by.contains(&header.base_offset);
        if is_empty && !is_known {
            output.gone = Some(written(bytes, left));
            return Ok(());
        }
        output.push(written(bytes, left))
    }

    /// Decides which records of a batch stay.
    fn left_of(&self, entry: &Entry, batch: &Bytes, expired: bool, output: &mut Output) -> Left {
        let header = &entry.header.batch;
        let is_untouched = header.control && header.record_count > 0;
        if is_untouched || header.base_offset >= self.keys.until {
            // Or it comes in a later round.
            return Left::All;
        }
        let parsed = RecordBatch::parse(batch.clone());
        let records = parsed.as_ref().map(RecordBatch::records);
        let (Ok(parsed), Ok(Ok(records))) = (&parsed, records) else {
            return Left::All;
        };
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
        if dropped == 0 && header.record_count > 0 {
            return Left::All;
        }
        // What is kept may compress worse here than at its producer.
        match retain(parsed, stays) {
            Ok(Some(bytes)) => Left::Some { bytes, dropped },
            Ok(None) => emptied(parsed).map_or(Left::All, |empty| Left::None { empty, dropped }),
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
        output.push_gone()?;
        output.write_pending()?;
        self.last_epoch = output.last_epoch;
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

//! The scan: where the log ends, and whether it is damaged.

use std::sync::Arc;

use millstream_protocol::{Offset, TimestampMs};

use super::found::Found;
use crate::config::LogConfig;
use crate::damage::Damage;
use crate::derived::Derived;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::checkpoint::Checkpoint;
use crate::format::entry::Binding;
use crate::format::names;
use crate::format::segment::{Density, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::index::SparseIndex;
use crate::limits::SCAN_CHUNK_BYTES;
use crate::roll;
use crate::scan::{Access, Entry, Scanner, SegmentBytes, Step};
use crate::segment::load_index;

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The log's end.
    pub(super) end: Offset,
    pub(super) derived: Derived,
    pub(super) damage: Vec<Damage>,
    pub(super) scanned_bytes: u64,
    pub(super) cut_bytes: u64,
    /// Below, batches have come compacted from another log, as far as was scanned.
    pub(super) thinned_until: Offset,
}

/// Scans the log's end.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    files: &'a Arc<Files>,
    config: &'a LogConfig,
    checkpoint: &'a Checkpoint,
    now_ms: TimestampMs,
    binding: Binding,
    /// Everything below was durable once, as far as is known by now.
    flushed: Offset,
    found: Scanned,
}

/// Why the scan stops before the end of what is there.
#[derive(Debug)]
enum Torn {
    /// The segment does not follow the one before it.
    Segment,
    /// The segment's header was not written.
    Header,
    /// The entry at this position was not written.
    Entry(u64),
}

/// What a place that is not sound means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Torn,
    Damaged,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        files: &'a Arc<Files>,
        config: &'a LogConfig,
        checkpoint: &'a Checkpoint,
        derived: Derived,
        damage: Vec<Damage>,
        now_ms: TimestampMs,
    ) -> Self {
        Self {
            now_ms,
            files,
            config,
            checkpoint,
            binding: files.binding(),
            flushed: checkpoint.flushed_offset.max(derived.snapshot_offset),
            found: Scanned {
                end: 0,
                derived,
                damage,
                scanned_bytes: 0,
                cut_bytes: 0,
                thinned_until: 0,
            },
        }
    }

    /// Scans from the segment that holds what is known last, and cuts what is torn. `segments` has
    /// one at least.
    pub(super) fn run(mut self, segments: &mut Vec<Found>) -> Result<Scanned, StorageFailure> {
        let known = self.flushed.min(self.found.derived.offset);
        let first = segments
            .partition_point(|found| found.base_offset <= known)
            .saturating_sub(1);
        self.check_sealed(segments, first);
        self.found.end = segments.get(first).map_or(0, |found| found.base_offset);
        for i in first..segments.len() {
            let (_, rest) = segments.split_at_mut(i);
            let Some((found, later)) = rest.split_first_mut() else {
                break;
            };
            if let Some(torn) = self.segment(found, later, i > first)? {
                self.cut(segments, i, &torn)?;
                break;
            }
        }
        if self.found.end < self.flushed {
            let end = self.found.end;
            if self.found.damage.iter().all(|damage| damage.offset != end) {
                self.damaged(end, "the end of the log is missing".to_owned());
            }
            self.found.end = self.flushed;
        }
        Ok(self.found)
    }

    /// Checks what is not scanned: that headers are sound and no segment is missing.
    fn check_sealed(&mut self, segments: &[Found], last: usize) {
        let start = self.checkpoint.log_start_offset;
        if segments
            .first()
            .is_some_and(|found| found.base_offset > start)
        {
            self.damaged(start, "the first segment is missing".to_owned());
        }
        for found in segments.iter().take(last) {
            match found.header {
                None => self.found.damage.push(found.broken_header(self.files)),
                Some(header) => self.check_length(found, &header),
            }
        }
        for pair in segments.windows(2).take(last) {
            let [before, found] = pair else { continue };
            let (Some(before), Some(header)) = (before.header, found.header) else {
                continue;
            };
            if !follows(&before, &header) {
                let missing = header.previous_base.unwrap_or(found.base_offset);
                let path = found.path(self.files);
                self.damaged(missing, format!("no segment before {}", path.display()));
            }
        }
    }

    /// A compacted segment says how long it is.
    fn check_length(&mut self, found: &Found, header: &SegmentHeader) {
        if header
            .compacted
            .is_some_and(|part| part.file_bytes != found.file_bytes)
        {
            let path = found.path(self.files);
            self.damaged(
                found.base_offset,
                format!("{} has the wrong length", path.display()),
            );
        }
    }

    /// Scans one segment. `Some` when the log ends in it.
    fn segment(
        &mut self,
        found: &mut Found,
        later: &[Found],
        must_follow: bool,
    ) -> Result<Option<Torn>, StorageFailure> {
        if !self.checkpoint.clean_stop {
            found.read_again(self.files)?;
        }
        let path = found.path(self.files);
        if must_follow && found.base_offset != self.found.end {
            if self.judge(found, SEGMENT_HEADER_BYTES as u64, later)? == Verdict::Torn {
                return Ok(Some(Torn::Segment));
            }
            let end = self.found.end;
            self.damaged(end, format!("no segment before {}", path.display()));
            self.found.end = found.base_offset;
        }
        let Some(header) = found.header else {
            if self.judge(found, SEGMENT_HEADER_BYTES as u64, later)? == Verdict::Torn {
                return Ok(Some(Torn::Header));
            }
            self.found.damage.push(found.broken_header(self.files));
            self.skip_to(later);
            return Ok(None);
        };
        self.check_length(found, &header);
        self.entries(found, &header, later)
    }

    fn entries(
        &mut self,
        found: &mut Found,
        header: &SegmentHeader,
        later: &[Found],
    ) -> Result<Option<Torn>, StorageFailure> {
        let path = found.path(self.files);
        let bytes = self.bytes(found)?;
        let mut index = self.resume(header, &bytes)?;
        self.found.scanned_bytes += bytes.end.saturating_sub(index.end_position);
        let start = (index.end_offset, index.end_position);
        let (binding, density) = (self.binding, header.density);
        let mut scanner = Scanner::new(&bytes, &binding, density, start, SCAN_CHUNK_BYTES);
        loop {
            let step = scanner.step_verified().attempt("read", &path)?;
            self.found.end = scanner.expected();
            let fault = match step {
                Step::Entry(entry) => {
                    self.note(header, &entry, &mut index);
                    continue;
                }
                Step::End => break,
                Step::Fault(fault) => fault,
            };
            let position = scanner.position();
            if self.judge(found, position, later)? == Verdict::Torn {
                found.scanned = Some(index);
                return Ok(Some(Torn::Entry(position)));
            }
            let what = format!("{} has {fault} at byte {position}", path.display());
            self.damaged(self.found.end, what);
            match scanner.resync().attempt("read", &path)? {
                Some(entry) => self.note(header, &entry, &mut index),
                None => {
                    self.skip_to(later);
                    break;
                }
            }
        }
        found.scanned = Some(index);
        if let Some(part) = header.compacted {
            self.found.end = part.end_offset;
        }
        Ok(None)
    }

    fn note(&mut self, header: &SegmentHeader, entry: &Entry, index: &mut SparseIndex) {
        let batch = &entry.header.batch;
        let thinned = batch.is_compacted() || batch.base_offset > index.end_offset;
        // What was compacted here is in the checkpoint.
        if thinned && header.compacted.is_none() {
            self.found.thinned_until = batch.next_offset();
        }
        index.push(batch, entry.position, entry.header.entry_bytes());
        self.found.derived.note(batch, self.config.max_producers);
        self.found.end = batch.next_offset();
    }

    /// Goes on with the next segment after damage in one.
    fn skip_to(&mut self, later: &[Found]) {
        if let Some(next) = later.first() {
            self.found.end = next.base_offset;
        }
    }

    fn damaged(&mut self, offset: Offset, what: String) {
        self.found.damage.push(Damage { offset, what });
    }

    fn bytes(&self, found: &Found) -> Result<SegmentBytes, StorageFailure> {
        let path = found.path(self.files);
        Ok(SegmentBytes {
            file: self.files.storage.open(&path).attempt("open", &path)?,
            access: Access::Read,
            end: found.file_bytes,
            end_offset: Offset::MAX,
        })
    }

    /// Where to begin in a segment, and its index up to there: below, everything was durable and
    /// is taken into account already.
    fn resume(
        &self,
        header: &SegmentHeader,
        bytes: &SegmentBytes,
    ) -> Result<SparseIndex, StorageFailure> {
        let interval_bytes = self.files.index_interval_bytes;
        let from_start = SparseIndex::new(header.base_offset, interval_bytes);
        let known = self.flushed.min(self.found.derived.offset);
        if known <= header.base_offset {
            return Ok(from_start);
        }
        let Some(mut index) = load_index(self.files, header) else {
            return Ok(from_start);
        };
        index.cut_at(known);
        if index.end_position > bytes.end {
            return Ok(from_start);
        }
        // The index is not trusted: what it says must be where an entry begins.
        let start = (index.end_offset, index.end_position);
        let mut scanner = Scanner::new(bytes, &self.binding, header.density, start, 0);
        let path = self.files.path(&names::segment(header.base_offset));
        match scanner.step().attempt("read", &path)? {
            Step::Entry(_) | Step::End => Ok(index),
            Step::Fault(_) => Ok(from_start),
        }
    }

    /// What it means that no sound entry lies at `position`, where the log would go on.
    fn judge(
        &mut self,
        found: &Found,
        position: u64,
        later: &[Found],
    ) -> Result<Verdict, StorageFailure> {
        let expected = self.found.end;
        if self.flushed <= expected {
            let first = [(found, position)].into_iter();
            let others = later
                .iter()
                .map(|found| (found, SEGMENT_HEADER_BYTES as u64));
            for (found, position) in first.chain(others) {
                if let Some(flushed) = self.flush_beyond(found, position, expected)? {
                    self.flushed = flushed;
                    break;
                }
            }
        }
        Ok(if self.flushed > expected {
            Verdict::Damaged
        } else {
            Verdict::Torn
        })
    }

    /// Looks for an entry at `position` or behind it that records a flush beyond `expected`.
    fn flush_beyond(
        &self,
        found: &Found,
        position: u64,
        expected: Offset,
    ) -> Result<Option<Offset>, StorageFailure> {
        let bytes = self.bytes(found)?;
        let path = found.path(self.files);
        let start = (expected, position);
        let (binding, density) = (&self.binding, Density::Sparse);
        let mut scanner = Scanner::new(&bytes, binding, density, start, SCAN_CHUNK_BYTES);
        loop {
            let entry = match scanner.step().attempt("read", &path)? {
                Step::Entry(entry) => entry,
                Step::End => return Ok(None),
                Step::Fault(_) => match scanner.resync().attempt("read", &path)? {
                    Some(entry) => entry,
                    None => return Ok(None),
                },
            };
            if entry.header.flushed_offset > expected {
                return Ok(Some(entry.header.flushed_offset));
            }
        }
    }

    /// Lets the log end where it is torn. The files of a damaged log are not touched.
    fn cut(
        &mut self,
        segments: &mut Vec<Found>,
        i: usize,
        torn: &Torn,
    ) -> Result<(), StorageFailure> {
        let keep = match torn {
            Torn::Segment => i,
            Torn::Header | Torn::Entry(_) => i + 1,
        };
        let gone = segments.split_off(keep);
        if !self.found.damage.is_empty() {
            return Ok(());
        }
        for found in gone.iter().rev() {
            self.found.cut_bytes += found.file_bytes;
            self.files.remove(&found.path(self.files))?;
        }
        if !gone.is_empty() {
            self.files.sync_dir()?;
        }
        let Some((last, before)) = segments.split_last_mut() else {
            return Ok(());
        };
        let end = match torn {
            Torn::Segment => return Ok(()),
            Torn::Header => 0,
            Torn::Entry(position) => *position,
        };
        self.found.cut_bytes += last.file_bytes.saturating_sub(end);
        let path = last.path(self.files);
        let file = self.files.storage.open(&path).attempt("open", &path)?;
        file.set_length(end).attempt("cut", &path)?;
        last.file_bytes = end;
        if let Torn::Header = torn {
            let header = SegmentHeader {
                base_offset: last.base_offset,
                previous_base: before.last().map(|found| found.base_offset),
                created_ms: self.now_ms,
                salt: self.files.salt,
                density: Density::of(self.config.cleanup),
                compacted: None,
            };
            roll::write_header(self.files, &header, &file)?;
            *last = Found::new(header, self.files.index_interval_bytes);
        }
        file.sync_data().attempt("sync", &path)
    }
}

/// Whether a segment of this header is the one that came after `before`.
fn follows(before: &SegmentHeader, header: &SegmentHeader) -> bool {
    let Some(previous_base) = header.previous_base else {
        return false;
    };
    match before.compacted {
        None => previous_base == before.base_offset,
        // It stands for all segments that it took the place of.
        Some(part) => {
            (before.base_offset..part.end_offset).contains(&previous_base)
                && part.end_offset == header.base_offset
        }
    }
}

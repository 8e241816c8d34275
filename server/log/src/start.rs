//! What a log knows of where it starts: the border between batches there, and the producers as of it.
//!
//! A replica that begins late gets the log from there, and has to know what the producers of the log
//! had written before: otherwise it would append again, once it leads, what one of them sends again.
//!
//! That state is derived from the batches below, which are gone. So every segment begins with a
//! snapshot (see [`crate::roll`]) that stays as long as the segment does, and the state within a
//! segment is that of its snapshot and of the batches up to there. No segment is removed unless the
//! one behind it has its snapshot; if it has none, because the disk was full or the process died
//! before it was written, it is derived then. A segment at 0 needs none.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Offset;

use crate::atomic_file;
use crate::damage::Damage;
use crate::derived::Derived;
use crate::error::{Attempt, ProducersError, StorageFailure};
use crate::files::Files;
use crate::format::entry::Binding;
use crate::format::segment::{Density, SEGMENT_HEADER_BYTES};
use crate::format::{names, producers, snapshot};
use crate::limits::{HEADER_CHUNK_BYTES, MAX_PRODUCERS_BYTES, PRODUCERS};
use crate::log::Log;
use crate::reader::{LogReader, ReadError};
use crate::scan::{Scanner, Step};
use crate::segment::Segment;
use crate::view::{Shared, View};

impl LogReader {
    /// What the log knew of its producers at `at`, exactly: everything that the batches below say, and
    /// nothing that later ones do. `at` is a border between batches, [`Log::start_border`] or above.
    ///
    /// Where the log is compacted at `at`, batches that later ones have made needless may be missing:
    /// whoever also has all that follows knows as much as this log.
    ///
    /// It is for another replica, whose log is to begin there: see [`Log::restart`]. It has
    /// [`MAX_PRODUCERS_BYTES`] at most. A log remembers no more clients than fit, and should it have
    /// too many workers' producers besides, the clients that were not used for the longest time are
    /// left out: they are unknown at the replica that begins, as the log itself forgets whom it has
    /// no room for.
    ///
    /// It may block on the disk, and reads through one segment's headers if `at` lies within one.
    ///
    /// # Errors
    ///
    /// The log does not reach there, or it cannot be read or is damaged; `at` is no border; or the
    /// workers' producers alone do not fit.
    pub fn producers_at(&self, at: Offset) -> Result<Bytes, ProducersError> {
        let (derived, border) = self.in_view(|view| derive(&self.shared, view, at))?;
        if border != at {
            return Err(ProducersError::NoBorder { at, border });
        }
        let identity = &self.shared.files.identity;
        let encoded = producers::encode(at, &derived.producers, identity, MAX_PRODUCERS_BYTES);
        encoded.map(Bytes::from).ok_or(ProducersError::TooMany {
            limit: MAX_PRODUCERS_BYTES,
        })
    }

    /// See [`Log::start_border`].
    pub fn start_border(&self) -> Offset {
        self.shared.view.load().start_border
    }
}

impl Log {
    /// Where the batch begins that contains the log's start: the start itself, unless records were
    /// deleted up to the middle of a batch. Replicas compare their logs at borders between batches,
    /// so this is where the log begins for them.
    pub fn start_border(&self) -> Offset {
        self.shared.view.load().start_border
    }

    /// Sees to it that the producers of the segments below `start` are in a durable snapshot with
    /// which a segment begins: nothing else will know of them. Returns the base offset of the first
    /// segment that has to stay. If the disk has no room for the snapshot, that is an earlier one.
    pub(crate) fn cover_start(&mut self, start: Offset) -> Result<Offset, StorageFailure> {
        let view = self.shared.view.load_full();
        let Some(wanted) = view.segments_from(start).next().map(|it| it.base_offset()) else {
            return Ok(start);
        };
        let bases: Vec<Offset> = view.segments().map(|it| it.base_offset()).collect();
        if bases.first() == Some(&wanted) {
            return Ok(wanted);
        }
        if !has_snapshot(&self.shared.files, wanted)? {
            // It may be among what is to be flushed.
            self.unflushed.checkpoint = true;
            self.flush_now()?;
            if !has_snapshot(&self.shared.files, wanted)? {
                self.write_snapshot(&view, wanted)?;
            }
        }
        covered_from(&self.shared.files, &bases, wanted)
    }

    /// Writes the snapshot with which a segment begins, unless that is not possible now.
    fn write_snapshot(&mut self, view: &View, base: Offset) -> Result<(), StorageFailure> {
        let files = &self.shared.files;
        let derived = match derive(&self.shared, view, base) {
            Ok((derived, _)) => derived,
            Err(ReadError::Storage(failure)) => return Err(failure),
            Err(error) => {
                tracing::warn!(dir = %files.dir.display(), "segments stay: {error}");
                return Ok(());
            }
        };
        let (identity, salt) = (&files.identity, files.salt);
        let bytes = snapshot::encode(base, &derived.epochs, &derived.producers, identity, salt);
        match atomic_file::replace(files, &names::snapshot(base), &bytes) {
            Err(failure) if failure.is_full() => {
                tracing::warn!(dir = %files.dir.display(), "segments stay: {failure}");
                Ok(())
            }
            written => {
                written?;
                self.snapshot_offset = self.snapshot_offset.max(base);
                Ok(())
            }
        }
    }
}

/// The last of `bases` up to `wanted` that has a snapshot which can be read; the first one if none has.
pub(crate) fn covered_from(
    files: &Files,
    bases: &[Offset],
    wanted: Offset,
) -> Result<Offset, StorageFailure> {
    let candidates = bases.iter().skip(1).rev().filter(|base| **base <= wanted);
    for base in candidates {
        if has_snapshot(files, *base)? {
            return Ok(*base);
        }
    }
    Ok(bases.first().copied().unwrap_or(wanted))
}

fn has_snapshot(files: &Files, base: Offset) -> Result<bool, StorageFailure> {
    let found = Derived::from_snapshot(files, base, *PRODUCERS.end())?;
    Ok(found.is_some())
}

/// What the batches that end at or below `at` say of producers and epochs, and the border between
/// batches at `at` or below it.
pub(crate) fn derive(
    shared: &Shared,
    view: &View,
    at: Offset,
) -> Result<(Derived, Offset), ReadError> {
    let segments: Vec<&Arc<Segment>> = view
        .segments()
        .take_while(|segment| segment.base_offset() <= at)
        .collect();
    let (start, end) = (first_base(view), view.end_offset());
    if segments.is_empty() || at > end {
        return Err(ReadError::OutOfRange {
            offset: at,
            start,
            end,
        });
    }
    let mut walked = 0;
    for segment in segments.iter().rev() {
        walked += 1;
        let base = segment.base_offset();
        let Some(mut derived) = Derived::from_snapshot(&shared.files, base, *PRODUCERS.end())?
        else {
            continue;
        };
        let mut border = at;
        for segment in segments.iter().skip(segments.len() - walked) {
            border = walk(shared, segment, at, &mut derived)?;
        }
        return Ok((derived, border));
    }
    Err(ReadError::Damaged(unknown_producers(&shared.files, start)))
}

fn first_base(view: &View) -> Offset {
    let first = view.segments().next().unwrap_or(&view.active);
    first.base_offset()
}

/// Says that nothing is known of the producers before the log's first segment.
pub(crate) fn unknown_producers(files: &Files, base: Offset) -> Damage {
    let path = files.path(&names::snapshot(base));
    Damage {
        offset: base,
        what: format!("{} is missing or cannot be read", path.display()),
    }
}

/// Takes a segment's batches below `at` into account, and returns the border at `at` or below it.
fn walk(
    shared: &Shared,
    segment: &Segment,
    at: Offset,
    derived: &mut Derived,
) -> Result<Offset, ReadError> {
    if let Some(damage) = segment.damage() {
        return Err(ReadError::Damaged(damage.clone()));
    }
    if at <= segment.base_offset() {
        return Ok(at);
    }
    let bytes = segment.bytes()?;
    let (path, density) = (segment.path(), segment.header.density);
    let start = (segment.base_offset(), SEGMENT_HEADER_BYTES as u64);
    let mut scanner = Scanner::new(&bytes, &shared.binding, density, start, HEADER_CHUNK_BYTES);
    let damaged = |offset, what: &dyn std::fmt::Display| {
        let what = format!("{} has {what}", path.display());
        Err(ReadError::Damaged(Damage { offset, what }))
    };
    loop {
        let entry = match scanner.step().attempt("read", path)? {
            Step::Entry(entry) => entry,
            Step::End if density == Density::Dense && scanner.expected() < bytes.end_offset => {
                return damaged(scanner.expected(), &"too few entries");
            }
            Step::End => return Ok(at),
            Step::Fault(fault) => return damaged(scanner.expected(), &fault),
        };
        let batch = &entry.header.batch;
        if batch.next_offset() > at {
            return Ok(batch.base_offset.min(at));
        }
        derived.note(batch, *PRODUCERS.end());
        if batch.next_offset() == at {
            return Ok(at);
        }
    }
}

/// Where the batch begins that contains `offset`; `offset` itself if none does.
pub(crate) fn border_at(
    view: &View,
    binding: &Binding,
    offset: Offset,
) -> Result<Offset, StorageFailure> {
    let Some(segment) = view.segments_from(offset).next() else {
        return Ok(offset);
    };
    if segment.base_offset() >= offset || segment.damage().is_some() {
        return Ok(offset);
    }
    let landing = segment.by_offset(offset)?;
    // An index that leads astray is not relied upon.
    for start in [
        (landing.offset, landing.position),
        (segment.base_offset(), SEGMENT_HEADER_BYTES as u64),
    ] {
        let bytes = segment.bytes()?;
        let density = segment.header.density;
        let mut scanner = Scanner::new(&bytes, binding, density, start, HEADER_CHUNK_BYTES);
        while let Step::Entry(entry) = scanner.step().attempt("read", segment.path())? {
            let batch = &entry.header.batch;
            if batch.next_offset() > offset {
                return Ok(batch.base_offset.min(offset));
            }
        }
    }
    Ok(offset)
}

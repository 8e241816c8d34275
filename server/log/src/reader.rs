//! Reads, beside the writer: by offset. By time is in [`crate::time_lookup`].

use std::sync::{Arc, Weak};

use bytes::Bytes;
use millstream_protocol::Offset;
use millstream_protocol::limits::MAX_FETCH_BYTES;
use parking_lot::Mutex;

use crate::damage::Damage;
use crate::error::{Attempt, StorageFailure};
use crate::format::entry::EntryFault;
use crate::format::segment::{Density, SEGMENT_HEADER_BYTES};
use crate::index::Landing;
use crate::limits::HEADER_CHUNK_BYTES;
use crate::scan::{Entry, Scanner, SegmentBytes, Step};
use crate::segment::Segment;
use crate::view::{Shared, View};

/// Reads the log while its writer goes on: appends, rolls, deletes, cuts and compacts.
///
/// What a clone has read last it goes on from without a search, so a consumer should have its own.
#[derive(Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
    cursor: Mutex<Option<Cursor>>,
}

/// Where the last read from a segment ended.
#[derive(Clone, Debug)]
struct Cursor {
    segment: Weak<Segment>,
    landing: Landing,
}

/// Whole record batches, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatches {
    /// The batches. The first one contains the offset asked for, or is the next one where
    /// compaction has left a gap.
    pub batches: Vec<Bytes>,
    /// The offset to read from next.
    pub next_offset: Offset,
    /// The bytes of the batches together.
    pub bytes: usize,
}

impl ReadBatches {
    pub(crate) fn none_at(offset: Offset) -> Self {
        Self {
            batches: Vec::new(),
            next_offset: offset,
            bytes: 0,
        }
    }

    /// Whether a batch of `bytes` may be added: the first one always.
    pub(crate) fn has_room(&self, bytes: usize, max_bytes: usize) -> bool {
        self.batches.is_empty() || self.bytes + bytes <= max_bytes
    }

    pub(crate) fn push(&mut self, batch: Bytes, next_offset: Offset) {
        self.bytes += batch.len();
        self.batches.push(batch);
        self.next_offset = next_offset;
    }
}

/// Why nothing could be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies below the log's start or beyond its end.
    #[error("offset {offset} is out of range, {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's start.
        start: Offset,
        /// The log's end, exclusive.
        end: Offset,
    },
    /// What lies at the offset is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
}

impl Clone for LogReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            cursor: Mutex::new(None),
        }
    }

    /// Whole batches from the one that contains `offset`: one at least, more as long as they do
    /// not exceed `max_bytes` together, and none that reaches beyond `up_to` (exclusive; the high
    /// watermark). Nothing, and the offset to go on at, when there is no such batch below `up_to`.
    ///
    /// Checksums are verified, unless the batches are still in memory from their append. It may
    /// block on the disk.
    ///
    /// # Errors
    ///
    /// The offset lies outside the log, or what lies there cannot be read or is damaged. Where
    /// damage begins further on, the batches before it are returned.
    pub fn read(
        &self,
        offset: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, ReadError> {
        self.in_view(|view| self.read_in(view, offset, up_to, max_bytes))
    }

    /// The same, if that needs no look at the disk: when the log's tail in memory holds it, or there
    /// is nothing to read. Otherwise, an error among it, `None`.
    pub fn read_cached(
        &self,
        offset: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        let view = self.shared.view.load();
        let end = view.end_offset();
        if !(view.log_start_offset..=end).contains(&offset) {
            return None;
        }
        let up_to = up_to.min(end);
        if offset >= up_to {
            return Some(ReadBatches::none_at(offset));
        }
        let max_bytes = max_bytes.min(MAX_FETCH_BYTES);
        self.shared.cache.read(offset, up_to, max_bytes)
    }

    /// The first offset still there.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.view.load().log_start_offset
    }

    /// The next offset to be appended.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.view.load().end_offset()
    }

    /// The first damage that recovery or a read has met.
    pub fn damage(&self) -> Option<Damage> {
        self.shared.damage.lock().first().cloned()
    }

    /// Runs `read` in the present view of the log. If it fails and the view has changed meanwhile,
    /// the files may have been taken away under it, and it is run again.
    pub(crate) fn in_view<T>(
        &self,
        mut read: impl FnMut(&View) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut view = self.shared.view.load_full();
        loop {
            let error = match read(&view) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let latest = self.shared.view.load_full();
            if Arc::ptr_eq(&view, &latest) {
                if let ReadError::Damaged(damage) = &error {
                    self.shared.note_damage(damage);
                }
                return Err(error);
            }
            view = latest;
        }
    }

    fn read_in(
        &self,
        view: &View,
        offset: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, ReadError> {
        if let Some(read) = self.read_cached(offset, up_to, max_bytes) {
            return Ok(read);
        }
        let (start, end) = (view.log_start_offset, view.end_offset());
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        let up_to = up_to.min(end);
        if offset >= up_to {
            return Ok(ReadBatches::none_at(offset));
        }
        let max_bytes = max_bytes.min(MAX_FETCH_BYTES);
        let wanted = Wanted {
            offset,
            up_to,
            max_bytes,
        };
        let mut reached = offset;
        for segment in view.segments_from(offset) {
            if segment.base_offset() >= up_to {
                break;
            }
            if segment.base_offset() > reached {
                return Err(ReadError::Damaged(Damage {
                    offset: reached,
                    what: format!("no segment before {}", segment.path().display()),
                }));
            }
            if let Some(read) = self.read_segment(segment, &wanted)? {
                return Ok(read);
            }
            reached = reached.max(segment.extent().end_offset);
        }
        // Compaction has left nothing between here and there.
        Ok(ReadBatches::none_at(up_to))
    }

    /// `None` when the segment holds nothing at `offset` or behind it.
    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        wanted: &Wanted,
    ) -> Result<Option<ReadBatches>, ReadError> {
        if let Some(damage) = segment.damage() {
            return Err(ReadError::Damaged(damage.clone()));
        }
        let bytes = segment.bytes()?;
        let landing = match self.resume(segment, wanted.offset) {
            Some(landing) => landing,
            None => find_landing(&self.shared, segment, &bytes, |segment| {
                segment.by_offset(wanted.offset)
            })?,
        };
        let mut collect = Collect::new(&self.shared, segment, &bytes, landing, wanted);
        let read = collect.run()?;
        if let Some(landing) = collect.resume_at {
            *self.cursor.lock() = Some(Cursor {
                segment: Arc::downgrade(segment),
                landing,
            });
        }
        Ok(read)
    }

    /// Where the last read ended, if that is where this one begins.
    fn resume(&self, segment: &Arc<Segment>, offset: Offset) -> Option<Landing> {
        let cursor = self.cursor.lock().clone()?;
        let same_segment = std::ptr::eq(cursor.segment.as_ptr(), Arc::as_ptr(segment));
        (same_segment && cursor.landing.offset == offset).then_some(cursor.landing)
    }
}

/// Looks a position up, and checks that the entry is there: an index is never trusted. One that is
/// wrong is built anew.
pub(crate) fn find_landing(
    shared: &Shared,
    segment: &Segment,
    bytes: &SegmentBytes,
    look_up: impl Fn(&Segment) -> Result<Landing, StorageFailure>,
) -> Result<Landing, StorageFailure> {
    let landing = look_up(segment)?;
    if landing.position == SEGMENT_HEADER_BYTES as u64 {
        return Ok(landing);
    }
    let start = (landing.offset, landing.position);
    let mut scanner = Scanner::new(bytes, &shared.binding, segment.header.density, start, 0);
    let found = scanner.step().attempt("read", segment.path())?;
    if matches!(found, Step::Entry(entry) if entry.header.batch.base_offset == landing.offset) {
        return Ok(landing);
    }
    segment.rebuild_index()?;
    look_up(segment)
}

/// What a read asks of a segment.
struct Wanted {
    offset: Offset,
    up_to: Offset,
    max_bytes: usize,
}

/// Collects batches from one segment.
struct Collect<'a> {
    segment: &'a Segment,
    bytes: &'a SegmentBytes,
    wanted: &'a Wanted,
    scanner: Scanner<'a>,
    read: ReadBatches,
    /// Behind the last batch collected.
    resume_at: Option<Landing>,
}

impl<'a> Collect<'a> {
    fn new(
        shared: &'a Shared,
        segment: &'a Segment,
        bytes: &'a SegmentBytes,
        landing: Landing,
        wanted: &'a Wanted,
    ) -> Self {
        let start = (landing.offset, landing.position);
        // Room for what lies before the batch that is looked for, and for the entries' prefixes.
        let chunk_bytes = wanted.max_bytes + HEADER_CHUNK_BYTES;
        let density = segment.header.density;
        Self {
            segment,
            bytes,
            wanted,
            scanner: Scanner::new(bytes, &shared.binding, density, start, chunk_bytes),
            read: ReadBatches::none_at(wanted.offset),
            resume_at: None,
        }
    }

    fn run(&mut self) -> Result<Option<ReadBatches>, ReadError> {
        let path = self.segment.path();
        loop {
            let entry = match self.scanner.step().attempt("read", path)? {
                Step::Entry(entry) => entry,
                Step::End => return self.end(),
                Step::Fault(fault) => match self.skip_fault(&fault)? {
                    Some(entry) => entry,
                    None => return Ok(Some(self.take())),
                },
            };
            let batch = &entry.header.batch;
            if batch.next_offset() <= self.wanted.offset {
                continue;
            }
            let fits = self.read.has_room(batch.batch_bytes, self.wanted.max_bytes);
            // What is there is handed out before more is read.
            let at_hand = self.read.batches.is_empty() || self.scanner.has_read(&entry);
            if batch.next_offset() > self.wanted.up_to || !fits || !at_hand {
                return Ok(Some(self.take()));
            }
            match self.scanner.batch(&entry).attempt("read", path)? {
                Ok(bytes) => self.push(&entry, bytes),
                Err(_) if !self.read.batches.is_empty() => return Ok(Some(self.take())),
                Err(fault) => return Err(self.damaged(entry.position, &fault)),
            }
        }
    }

    fn push(&mut self, entry: &Entry, bytes: Bytes) {
        let next_offset = entry.header.batch.next_offset();
        self.read.push(bytes, next_offset);
        self.resume_at = Some(Landing {
            offset: next_offset,
            position: entry.end(),
        });
    }

    /// The segment's entries are over.
    fn end(&mut self) -> Result<Option<ReadBatches>, ReadError> {
        if !self.read.batches.is_empty() {
            return Ok(Some(self.take()));
        }
        let complete = self.segment.header.density == Density::Sparse
            || self.scanner.expected() >= self.bytes.end_offset;
        if complete {
            Ok(None)
        } else {
            Err(self.damaged(self.scanner.position(), &EntryFault::Incomplete))
        }
    }

    /// Looks for an entry behind a fault that is not beyond the offset wanted; `None` when there
    /// are batches to hand out already.
    fn skip_fault(&mut self, fault: &EntryFault) -> Result<Option<Entry>, ReadError> {
        if !self.read.batches.is_empty() {
            return Ok(None);
        }
        let position = self.scanner.position();
        let path = self.segment.path();
        match self.scanner.resync().attempt("read", path)? {
            Some(entry) if entry.header.batch.base_offset <= self.wanted.offset => Ok(Some(entry)),
            _ => Err(self.damaged(position, fault)),
        }
    }

    fn damaged(&self, position: u64, fault: &EntryFault) -> ReadError {
        ReadError::Damaged(Damage {
            offset: self.wanted.offset,
            what: format!(
                "{} has {fault} at byte {position}",
                self.segment.path().display()
            ),
        })
    }

    fn take(&mut self) -> ReadBatches {
        std::mem::replace(&mut self.read, ReadBatches::none_at(self.wanted.offset))
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

//! Cutting the log's end off.
//!
//! A truncation touches several files. What it is about to do goes into the checkpoint first, so
//! that one that a crash has interrupted is finished when the log is opened again, and what it was
//! to take away never comes back.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Offset;

use crate::damage::Damage;
use crate::derived::Derived;
use crate::error::{Attempt, ChangeError, StorageFailure};
use crate::files::Files;
use crate::format::checkpoint::Unfinished;
use crate::format::names::{self, FileKind};
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::index::{Landing, SparseIndex};
use crate::limits::{HEADER_CHUNK_BYTES, SCAN_CHUNK_BYTES};
use crate::log::Log;
use crate::roll::create_file;
use crate::scan::{Scanner, SegmentBytes, Step};
use crate::segment::{Extent, Segment};
use crate::storage::StorageFile;
use crate::view::View;

/// The segment that is cut becomes the active one again.
struct Replacement {
    active: Segment,
    file: Arc<dyn StorageFile>,
    /// Where the new file waits to be renamed; `None` when the old one is cut in place.
    waiting: Option<PathBuf>,
}

impl Log {
    /// Cuts the log so that it ends at `to`, or at the border of a batch below it, and returns its
    /// new end. (Compaction leaves a border before every control batch and where it ends.) That is
    /// durable, as is all that stays, when this returns; a ticket under way is taken over.
    ///
    /// A damaged log can be cut at the damage or below; what stays is sound then, and the log
    /// takes appends again.
    ///
    /// # Errors
    ///
    /// `to` lies outside the log or above damage; or the storage failed or is full.
    pub fn truncate(&mut self, to: Offset) -> Result<Offset, ChangeError> {
        if let Some(failure) = &self.poisoned {
            return Err(ChangeError::Poisoned(failure.clone()));
        }
        if let Some(damage) = self.damaged.as_ref().filter(|damage| damage.offset < to) {
            return Err(ChangeError::Damaged(damage.clone()));
        }
        let (start, end) = (self.log_start_offset(), self.end_offset());
        if to < start || to > end {
            return Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            });
        }
        if to == end && self.damaged.is_none() {
            let flushed = self.flush_now();
            return flushed
                .map(|()| end)
                .map_err(|failure| self.change_error(failure));
        }
        self.cut_to(to)
            .map_err(|failure| self.change_error(failure))
    }

    fn cut_to(&mut self, to: Offset) -> Result<Offset, StorageFailure> {
        self.note_use()?;
        self.cancel_ticket()?;
        let view = self.shared.view.load_full();
        let (mut kept, gone): (Vec<_>, Vec<_>) = view
            .segments()
            .cloned()
            .partition(|segment| segment.base_offset() <= to);
        let cut = kept.pop();
        let previous_base = kept.last().map(|segment| segment.base_offset());
        let replacement = match &cut {
            Some(cut) if !cut.is_sealed() => {
                self.keep_file(cut, find_cut(&self.shared.files, cut, to)?)?
            }
            Some(cut) => {
                self.copy_file(cut, find_cut(&self.shared.files, cut, to)?, previous_base)?
            }
            None => self.new_file(to)?,
        };
        let end = replacement.active.extent().end_offset;
        // From here on a failure leaves a truncation to be finished.
        let finished = self.finish_cut(&view, kept, &gone, replacement);
        finished.map_err(|failure| self.poison(failure))?;
        Ok(end)
    }

    /// The active segment's file is not mapped, and can be cut where it is.
    fn keep_file(&self, cut: &Segment, index: SparseIndex) -> Result<Replacement, StorageFailure> {
        let file = cut.file()?;
        let files = Arc::clone(&self.shared.files);
        Ok(Replacement {
            active: Segment::active(files, cut.header, Arc::clone(&file), index),
            file,
            waiting: None,
        })
    }

    /// A sealed segment's file may be mapped, and must not be cut: what stays is copied.
    fn copy_file(
        &self,
        cut: &Segment,
        index: SparseIndex,
        previous_base: Option<Offset>,
    ) -> Result<Replacement, StorageFailure> {
        let files = &self.shared.files;
        let header = SegmentHeader {
            previous_base,
            salt: files.salt,
            compacted: None,
            ..cut.header
        };
        let (file, waiting) = copy_entries(files, cut, &header, index.end_position)?;
        Ok(Replacement {
            active: Segment::active(Arc::clone(files), header, Arc::clone(&file), index),
            file,
            waiting: Some(waiting),
        })
    }

    /// Damage has left nothing at `to`: the log begins there anew.
    fn new_file(&self, to: Offset) -> Result<Replacement, StorageFailure> {
        let files = &self.shared.files;
        let header = SegmentHeader {
            base_offset: to,
            previous_base: None,
            compacted: None,
            ..self.active().header
        };
        let file = create_file(files, &header)?;
        let index = SparseIndex::new(to, files.index_interval_bytes);
        Ok(Replacement {
            active: Segment::active(Arc::clone(files), header, Arc::clone(&file), index),
            file,
            waiting: None,
        })
    }

    fn finish_cut(
        &mut self,
        old: &View,
        sealed: Vec<Arc<Segment>>,
        gone: &[Arc<Segment>],
        replacement: Replacement,
    ) -> Result<(), StorageFailure> {
        let Replacement {
            active,
            file,
            waiting,
        } = replacement;
        let path = active.path().to_owned();
        let Extent { bytes, end_offset } = active.extent();
        self.checkpoint.update(|checkpoint| {
            checkpoint.unfinished = Some(Unfinished::Truncation(end_offset));
            // Within a batch, the start may lie above the border that it is cut at.
            checkpoint.log_start_offset = checkpoint.log_start_offset.min(end_offset);
            checkpoint.flushed_offset = checkpoint.flushed_offset.min(end_offset);
            checkpoint.compacted_until = checkpoint.compacted_until.min(end_offset);
            checkpoint.tombstones_gone_until = checkpoint.tombstones_gone_until.min(end_offset);
        })?;
        let index = self.shared.files.path(&names::index(active.base_offset()));
        // Published before the files change, see [`Shared`](crate::view::Shared).
        self.shared.view.store(Arc::new(View {
            log_start_offset: old.log_start_offset.min(end_offset),
            start_border: old.start_border.min(end_offset),
            sealed,
            active: Arc::new(active),
        }));
        self.shared.cache.clear();
        let files = Arc::clone(&self.shared.files);
        match waiting {
            Some(waiting) => files
                .storage
                .rename(&waiting, &path)
                .attempt("rename", &path)?,
            None => file.set_length(bytes).attempt("cut", &path)?,
        }
        file.sync_data().attempt("sync", &path)?;
        files.remove(&index)?;
        self.remove_segments(gone)?;
        let snapshots = remove_snapshots_above(&files, end_offset)?;
        let waiting = &mut self.unflushed.snapshots;
        waiting.retain(|(offset, _)| *offset <= end_offset);
        for (path, file) in std::mem::take(&mut self.unflushed.files) {
            file.sync_data().attempt("sync", &path)?;
        }
        files.sync_dir()?;
        self.unflushed.dir = false;
        self.checkpoint
            .update(|checkpoint| checkpoint.unfinished = None)?;
        self.thinned_until = self.thinned_until.min(end_offset);
        self.forget_damage(end_offset);
        self.derive_again(&snapshots, end_offset)
    }

    /// Producers and epochs are those of what is left: of the newest snapshot that remains, and of
    /// the batches behind it.
    fn derive_again(&mut self, snapshots: &[Offset], end: Offset) -> Result<(), StorageFailure> {
        let view = self.shared.view.load_full();
        let max_producers = self.config.max_producers;
        let files = &self.shared.files;
        let known = snapshots.iter().copied();
        let mut derived = Derived::from_snapshots(files, known, end, max_producers)?;
        'segments: for segment in view.segments_from(derived.offset) {
            let bytes = segment.bytes()?;
            let Landing { offset, position } = segment.by_offset(derived.offset)?;
            let start = (offset, position);
            let density = segment.header.density;
            let binding = &self.shared.binding;
            let mut scanner = Scanner::new(&bytes, binding, density, start, HEADER_CHUNK_BYTES);
            loop {
                match scanner.step().attempt("read", segment.path())? {
                    Step::Entry(entry) => derived.note(&entry.header.batch, max_producers),
                    Step::End => break,
                    Step::Fault(fault) => {
                        // Not all epochs and producers are known any more.
                        let (offset, position) = scanner.place();
                        let path = segment.path().display();
                        let what = format!("{path} has {fault} at byte {position}");
                        let damage = Damage { offset, what };
                        self.shared.note_damage(&damage);
                        self.damaged = Some(damage);
                        break 'segments;
                    }
                }
            }
        }
        derived.epochs.forget_before(view.start_border);
        self.producers = derived.producers;
        self.epochs = derived.epochs;
        self.snapshot_offset = derived.snapshot_offset;
        self.flushed_offset = end;
        self.active_since_ms =
            Some(view.active.header.created_ms).filter(|_| !view.active.is_empty());
        Ok(())
    }

    fn forget_damage(&mut self, end: Offset) {
        self.damaged = None;
        let mut known = self.shared.damage.lock();
        known.retain(|damage| damage.offset < end);
    }
}

/// The index of what stays of `cut` when no batch may reach beyond `to`: it says where to cut.
pub(crate) fn find_cut(
    files: &Files,
    cut: &Segment,
    to: Offset,
) -> Result<SparseIndex, StorageFailure> {
    let mut index = SparseIndex::new(cut.base_offset(), files.index_interval_bytes);
    if cut.damage().is_some() {
        return Ok(index);
    }
    let (bytes, binding) = (cut.bytes()?, files.binding());
    let start = (cut.base_offset(), SEGMENT_HEADER_BYTES as u64);
    let density = cut.header.density;
    let mut scanner = Scanner::new(&bytes, &binding, density, start, HEADER_CHUNK_BYTES);
    // Ends at a fault too: there is none below `to`.
    while let Step::Entry(entry) = scanner.step().attempt("read", cut.path())? {
        if entry.header.batch.next_offset() > to {
            break;
        }
        let entry_bytes = entry.header.entry_bytes();
        index.push(&entry.header.batch, entry.position, entry_bytes);
    }
    Ok(index)
}

/// Copies a segment's entries up to `end` into a file that waits to take its place.
pub(crate) fn copy_entries(
    files: &Files,
    segment: &Segment,
    header: &SegmentHeader,
    end: u64,
) -> Result<(Arc<dyn StorageFile>, PathBuf), StorageFailure> {
    let name = names::unfinished(&names::segment(segment.base_offset()));
    let waiting = files.path(&name);
    let file = files.create(&waiting)?;
    let copied = segment
        .bytes()
        .and_then(|from| copy(files, &from, header, end, &*file, &waiting));
    match copied {
        Ok(()) => Ok((file, waiting)),
        Err(failure) => {
            // Gives back the space; if this fails too, the next opening removes it.
            let _ = files.remove(&waiting);
            Err(failure)
        }
    }
}

fn copy(
    files: &Files,
    from: &SegmentBytes,
    header: &SegmentHeader,
    end: u64,
    to: &dyn StorageFile,
    path: &std::path::Path,
) -> Result<(), StorageFailure> {
    let mut chunk = Bytes::from(header.encode(&files.identity));
    let mut position = 0;
    while !chunk.is_empty() {
        let written = to.write_vectored_at(&mut [IoSlice::new(&chunk)], position);
        written.attempt("write", path)?;
        position += chunk.len() as u64;
        let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let read = from.file.read_at(position, left.min(SCAN_CHUNK_BYTES));
        chunk = read.attempt("read", path)?;
    }
    to.sync_data().attempt("sync", path)
}

/// Removes the snapshots above `end`, and returns those that stay, in order.
pub(crate) fn remove_snapshots_above(
    files: &Files,
    end: Offset,
) -> Result<Vec<Offset>, StorageFailure> {
    let listed = files.storage.list(&files.dir).attempt("list", &files.dir)?;
    let mut kept = Vec::new();
    for name in listed {
        match names::kind(&name) {
            FileKind::Snapshot(offset) if offset > end => files.remove(&files.path(&name))?,
            FileKind::Snapshot(offset) => kept.push(offset),
            _ => {}
        }
    }
    kept.sort_unstable();
    Ok(kept)
}

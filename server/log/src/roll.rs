//! Beginning a new segment.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use millstream_protocol::TimestampMs;

use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::segment::{Density, SegmentHeader};
use crate::format::{names, snapshot};
use crate::index::SparseIndex;
use crate::log::Log;
use crate::segment::Segment;
use crate::storage::StorageFile;
use crate::view::View;

impl Log {
    /// Seals the active segment and begins one of this density. Nothing is synced here: the next flush
    /// makes the old file, the new one and its name durable before anything in the new one counts.
    ///
    /// What is derived from the batches before the new segment goes into a snapshot, so that it is
    /// known when they are gone.
    ///
    /// An empty active segment has its header written anew, to follow the log's settings.
    pub(crate) fn roll(
        &mut self,
        density: Density,
        now_ms: TimestampMs,
    ) -> Result<(), StorageFailure> {
        let view = self.shared.view.load_full();
        let old = &view.active;
        let files = &self.shared.files;
        let mut header = SegmentHeader {
            base_offset: old.extent().end_offset,
            previous_base: Some(old.base_offset()),
            created_ms: now_ms,
            salt: files.salt,
            density,
            compacted: None,
        };
        let mut sealed = view.sealed.clone();
        let file = if old.is_empty() {
            header.previous_base = old.header.previous_base;
            let file = old.file()?;
            write_header(files, &header, &file)?;
            file
        } else {
            let file = create_file(files, &header)?;
            let snapshot = snapshot::encode(
                header.base_offset,
                &self.epochs,
                &self.producers,
                &files.identity,
                files.salt,
            );
            self.unflushed
                .note_snapshot(header.base_offset, snapshot.into());
            old.seal();
            old.trim();
            sealed.push(Arc::clone(old));
            file
        };
        let index = SparseIndex::new(header.base_offset, files.index_interval_bytes);
        let active = Segment::active(Arc::clone(files), header, Arc::clone(&file), index);
        self.unflushed.note(active.path(), &file);
        self.unflushed.dir = true;
        self.unflushed.checkpoint = true;
        self.active_since_ms = None;
        self.shared.view.store(Arc::new(View {
            sealed,
            active: Arc::new(active),
            ..*view
        }));
        Ok(())
    }
}

/// Creates a segment's file with its header. On a failure none remains.
pub(crate) fn create_file(
    files: &Files,
    header: &SegmentHeader,
) -> Result<Arc<dyn StorageFile>, StorageFailure> {
    let path = files.path(&names::segment(header.base_offset));
    let file = files.create(&path)?;
    match write_header(files, header, &file) {
        Ok(()) => Ok(file),
        Err(failure) => {
            // If this fails too, the next attempt replaces it.
            let _ = files.remove(&path);
            Err(failure)
        }
    }
}

/// Writes a header over a file's first bytes.
pub(crate) fn write_header(
    files: &Files,
    header: &SegmentHeader,
    file: &Arc<dyn StorageFile>,
) -> Result<(), StorageFailure> {
    let path = files.path(&names::segment(header.base_offset));
    write_header_to(files, header, file, &path)
}

/// The same, to a file that has this name.
pub(crate) fn write_header_to(
    files: &Files,
    header: &SegmentHeader,
    file: &Arc<dyn StorageFile>,
    path: &Path,
) -> Result<(), StorageFailure> {
    let encoded = header.encode(&files.identity);
    let written = file.write_vectored_at(&mut [IoSlice::new(&encoded)], 0);
    written.attempt("write", path)
}

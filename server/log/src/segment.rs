//! One segment: a file of entries and its index. The last one of a log is active and grows; the
//! others are sealed and never change.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, TimestampMs};
use parking_lot::RwLock;

use crate::atomic_file;
use crate::damage::Damage;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{index as index_file, names};
use crate::index::{Landing, SparseIndex};
use crate::limits::{HEADER_CHUNK_BYTES, MAX_INDEX_FILE_BYTES};
use crate::scan::{Access, Scanner, SegmentBytes, Step};
use crate::storage::StorageFile;

/// One segment. Shared by the log that writes it and the readers; a segment whose file is
/// replaced is another segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    files: Arc<Files>,
    path: PathBuf,
    file: OnceLock<Arc<dyn StorageFile>>,
    state: RwLock<State>,
    /// The index file holds what the index in memory holds.
    index_saved: AtomicBool,
    /// The file's header could not be read: nothing in it can be trusted to be complete.
    broken: Option<Damage>,
}

#[derive(Debug)]
struct State {
    /// Where the last entry ends.
    bytes: u64,
    /// The offset at which the segment ends, exclusive.
    end_offset: Offset,
    sealed: bool,
    /// Always there for the active segment; for a sealed one once it was needed.
    index: Option<SparseIndex>,
}

/// How long a segment is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) end_offset: Offset,
}

impl Segment {
    /// A segment that grows; `index` covers all of it.
    pub(crate) fn active(
        files: Arc<Files>,
        header: SegmentHeader,
        file: Arc<dyn StorageFile>,
        index: SparseIndex,
    ) -> Self {
        let extent = Extent {
            bytes: index.end_position,
            end_offset: index.end_offset,
        };
        let segment = Self::new(files, header, extent, Some(index));
        segment.file.get_or_init(|| file);
        segment.state.write().sealed = false;
        segment
    }

    /// A segment that does not grow any more.
    pub(crate) fn sealed(
        files: Arc<Files>,
        header: SegmentHeader,
        extent: Extent,
        index: Option<SparseIndex>,
    ) -> Self {
        Self::new(files, header, extent, index)
    }

    /// A sealed segment whose file is open already.
    pub(crate) fn with_file(self, file: Arc<dyn StorageFile>) -> Self {
        self.file.get_or_init(|| file);
        self
    }

    /// A segment whose file's header is broken.
    pub(crate) fn broken(mut self, damage: Damage) -> Self {
        self.broken = Some(damage);
        self
    }

    fn new(
        files: Arc<Files>,
        header: SegmentHeader,
        extent: Extent,
        index: Option<SparseIndex>,
    ) -> Self {
        Self {
            path: files.path(&names::segment(header.base_offset)),
            header,
            files,
            file: OnceLock::new(),
            state: RwLock::new(State {
                bytes: extent.bytes,
                end_offset: extent.end_offset,
                sealed: true,
                index,
            }),
            index_saved: AtomicBool::new(false),
            broken: None,
        }
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    pub(crate) fn extent(&self) -> Extent {
        let state = self.state.read();
        Extent {
            bytes: state.bytes,
            end_offset: state.end_offset,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.extent().bytes <= SEGMENT_HEADER_BYTES as u64
    }

    /// Whether its file may be mapped, and must not change any more.
    pub(crate) fn is_sealed(&self) -> bool {
        self.state.read().sealed
    }

    /// What makes the segment unreadable as a whole.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.broken.as_ref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(crate) fn file(&self) -> Result<Arc<dyn StorageFile>, StorageFailure> {
        if let Some(file) = self.file.get() {
            return Ok(Arc::clone(file));
        }
        let file = self.files.storage.open(&self.path);
        let file = file.attempt("open", &self.path)?;
        // Another reader may have opened it meanwhile: then that one is used.
        Ok(Arc::clone(self.file.get_or_init(|| file)))
    }

    /// The entries there are now.
    pub(crate) fn bytes(&self) -> Result<SegmentBytes, StorageFailure> {
        let file = self.file()?;
        let state = self.state.read();
        Ok(SegmentBytes {
            file,
            access: if state.sealed {
                Access::Mapped
            } else {
                Access::Read
            },
            end: state.bytes,
            end_offset: state.end_offset,
        })
    }

    /// Takes in batches that were written behind the last entry, each with the bytes of its entry.
    pub(crate) fn grow<'a>(&self, written: impl Iterator<Item = (&'a BatchHeader, usize)>) {
        let mut state = self.state.write();
        let State {
            bytes,
            end_offset,
            index,
            ..
        } = &mut *state;
        for (batch, entry_bytes) in written {
            if let Some(index) = index {
                index.push(batch, *bytes, entry_bytes);
            }
            *bytes += entry_bytes as u64;
            *end_offset = batch.next_offset();
        }
    }

    /// Nothing will be written to the file any more.
    pub(crate) fn seal(&self) {
        self.state.write().sealed = true;
    }

    /// Gives back what was set aside for it to grow into. Nothing depends on that it works.
    pub(crate) fn trim(&self) {
        if let Some(file) = self.file.get()
            && let Err(error) = file.trim()
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot give back unused space");
        }
    }

    /// Where to begin to look for `offset`: at a batch at or below it.
    pub(crate) fn by_offset(&self, offset: Offset) -> Result<Landing, StorageFailure> {
        // Readers that come from the segment before need no index.
        if offset <= self.base_offset() {
            return Ok(Landing {
                offset: self.base_offset(),
                position: SEGMENT_HEADER_BYTES as u64,
            });
        }
        self.with_index(|index| index.by_offset(offset))
    }

    /// Where to begin to look for `timestamp_ms`; `None` when everything in the segment is older.
    pub(crate) fn by_time(
        &self,
        timestamp_ms: TimestampMs,
    ) -> Result<Option<Landing>, StorageFailure> {
        self.with_index(|index| {
            let newest = index.max_timestamp_ms?;
            (newest >= timestamp_ms).then(|| index.by_time(timestamp_ms))
        })
    }

    /// The highest timestamp of its batches; `None` when it has none.
    pub(crate) fn max_timestamp_ms(&self) -> Result<Option<TimestampMs>, StorageFailure> {
        self.with_index(|index| index.max_timestamp_ms)
    }

    /// Throws away an index that has led astray; the next use builds it from the entries.
    pub(crate) fn rebuild_index(&self) -> Result<(), StorageFailure> {
        let index = self.build_index()?;
        self.state.write().index = Some(index);
        self.index_saved.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the index file, if what it would hold is known and not in it yet. Not durable: it is
    /// a cache.
    pub(crate) fn save_index(&self) -> Result<(), StorageFailure> {
        if self.index_saved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (index, sealed) = {
            let state = self.state.read();
            match &state.index {
                Some(index) => (index.clone(), state.sealed),
                None => return Ok(()),
            }
        };
        let encoded = index_file::encode(&index, &self.files.identity, self.files.salt);
        let name = names::index(self.base_offset());
        atomic_file::write_cache(&self.files, &name, &encoded)?;
        if sealed {
            self.index_saved.store(true, Ordering::Relaxed);
            // Whoever needs it reads it again: most segments are never looked up in.
            self.state.write().index = None;
        }
        Ok(())
    }

    fn with_index<T>(&self, look: impl Fn(&SparseIndex) -> T) -> Result<T, StorageFailure> {
        if let Some(index) = &self.state.read().index {
            return Ok(look(index));
        }
        let extent = self.extent();
        let saved = load_index(&self.files, &self.header)
            .filter(|index| index.end_position == extent.bytes);
        let (index, is_saved) = match saved {
            Some(index) => (index, true),
            None => (self.build_index()?, false),
        };
        let found = look(&index);
        self.state.write().index.get_or_insert(index);
        self.index_saved.store(is_saved, Ordering::Relaxed);
        Ok(found)
    }

    /// Walks over all entries. Behind damage it goes on with the next entry that can be read.
    fn build_index(&self) -> Result<SparseIndex, StorageFailure> {
        let mut index = SparseIndex::new(self.base_offset(), self.files.index_interval_bytes);
        let bytes = self.bytes()?;
        let binding = self.files.binding();
        let mut scanner = Scanner::new(
            &bytes,
            &binding,
            self.header.density,
            (self.base_offset(), SEGMENT_HEADER_BYTES as u64),
            HEADER_CHUNK_BYTES,
        );
        let path = self.path();
        loop {
            let entry = match scanner.step().attempt("read", path)? {
                Step::Entry(entry) => entry,
                Step::End => return Ok(index),
                Step::Fault(_) => match scanner.resync().attempt("read", path)? {
                    Some(entry) => entry,
                    None => return Ok(index),
                },
            };
            index.push(
                &entry.header.batch,
                entry.position,
                entry.header.entry_bytes(),
            );
        }
    }
}

/// The index file of a segment, if it is there and sound.
pub(crate) fn load_index(files: &Files, header: &SegmentHeader) -> Option<SparseIndex> {
    let name = names::index(header.base_offset);
    let bytes = files.read(&name, MAX_INDEX_FILE_BYTES).ok()??;
    let index = index_file::decode(&bytes, &files.identity, files.salt).ok()?;
    (index.base_offset == header.base_offset).then_some(index)
}

//! Files mapped into memory. One of the two modules of the workspace with unsafe code.
//!
//! # Why this is sound
//!
//! A mapping is handed out as `&[u8]`, so the bytes behind it must not change and must not vanish
//! while it lives:
//!
//! - Only sealed segments are mapped. Their files are never written and never cut again, neither
//!   by appends (the active segment is read with `pread`) nor by truncation: a truncation that
//!   reaches into a sealed segment copies what stays into a new file and renames that over the old
//!   name. Compaction does the same. Retention and deletion unlink.
//! - A file that was unlinked or replaced by a rename keeps its pages until the last mapping of it
//!   is gone, so readers that still hold a slice go on reading the old bytes.
//! - The mapping is private and read-only, and shared through an [`Arc`]: it is unmapped when the
//!   last [`Bytes`] that points into it is dropped.
//!
//! Out of scope: another process that writes to or cuts the files of a running broker. The data
//! directory is locked against a second broker; whoever edits it by hand may get wrong bytes
//! (which the checksums show) or a bus error. A disk that fails under a mapped page also raises a
//! bus error; to meet that as an ordinary I/O error in nearly all cases, the pages of a range are
//! faulted in with `MADV_POPULATE_READ` before anybody looks at them.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A whole file, mapped read-only.
#[derive(Debug)]
pub(crate) struct FileMapping {
    map: Arc<Mmap>,
}

impl FileMapping {
    /// Maps `file` at its present length. The caller promises by the contract of
    /// [`StorageFile::map`](crate::storage::StorageFile::map) that it will not change any more.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: by the rules at the top of this module the file is sealed: nothing in this
        // process writes to it or cuts it while a mapping lives, and other processes are kept out
        // by the data directory's lock.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map: Arc::new(map) })
    }

    /// The bytes of `range`, faulted in; `None` if it reaches beyond the mapping.
    pub(crate) fn slice(&self, range: Range<u64>) -> io::Result<Option<Bytes>> {
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Ok(None);
        };
        if start > end || end > self.map.len() {
            return Ok(None);
        }
        if start == end {
            return Ok(Some(Bytes::new()));
        }
        self.populate(start, end - start)?;
        Ok(Some(Bytes::from_owner(MappedRange {
            map: Arc::clone(&self.map),
            range: start..end,
        })))
    }

    #[cfg(target_os = "linux")]
    fn populate(&self, start: usize, bytes: usize) -> io::Result<()> {
        match self
            .map
            .advise_range(memmap2::Advice::PopulateRead, start, bytes)
        {
            // Kernels before 5.14 do not know the advice.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn populate(&self, _start: usize, _bytes: usize) -> io::Result<()> {
        Ok(())
    }
}

/// A part of a mapping, which it keeps alive.
struct MappedRange {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl AsRef<[u8]> for MappedRange {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

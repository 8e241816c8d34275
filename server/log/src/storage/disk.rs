//! Real files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::fs::{Advice, StatVfs};

use super::{Storage, StorageFile, scarce_bytes};
use crate::mmap::FileMapping;

/// Slices that one `pwritev` takes (`IOV_MAX` of Linux, macOS and the BSDs).
const MAX_SLICES: usize = 1024;

/// A file of this size is about to grow further: blocks are set aside ahead of its end, which takes
/// a third off the processor time of a write. Smaller files are left alone, so that a thousand
/// quiet partitions take no more room than they need.
const GROWING_FILE_BYTES: u64 = 1 << 20;

/// What is set aside at once: as much as the file holds already, and no more than this.
const MAX_AHEAD_BYTES: u64 = 16 << 20;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

impl Storage for DiskStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // The directory of a relative path with one component is the working directory.
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        File::open(path)?.sync_all()
    }

    fn is_scarce(&self, dir: &Path) -> bool {
        !has_room(dir, 0)
    }
}

/// Whether room is not scarce where a directory is once so many bytes more are written there. A disk that cannot tell
/// has room.
pub fn has_room(dir: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(dir).map_or(true, |room| !is_scarce_after(&room, bytes))
}

/// Whether room is scarce once more bytes are taken.
fn is_scarce_after(room: &StatVfs, bytes: u64) -> bool {
    let all = room.f_blocks.saturating_mul(room.f_frsize);
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    free.saturating_sub(bytes) < scarce_bytes(all)
}

#[derive(Debug)]
struct DiskFile {
    file: File,
    /// Blocks are there, or were asked for in vain, for what is written up to here.
    allocated: AtomicU64,
    /// The whole file, mapped when it is first asked for.
    mapping: OnceLock<FileMapping>,
}

impl DiskFile {
    fn new(file: File) -> Self {
        Self {
            file,
            allocated: AtomicU64::new(0),
            mapping: OnceLock::new(),
        }
    }

    /// Sets blocks aside for a write and for what will follow it. The file's length stays. Best
    /// effort: a file system that cannot, or is full, says so when it is written to.
    fn allocate_ahead(&self, position: u64, end: u64) {
        let allocated = self.allocated.load(Ordering::Relaxed);
        if end <= allocated || end < GROWING_FILE_BYTES {
            return;
        }
        let target = end + end.min(MAX_AHEAD_BYTES);
        self.allocated.store(target, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
            let (from, keep) = (allocated.max(position), FallocateFlags::KEEP_SIZE);
            let room = fstatvfs(&self.file);
            if room.is_ok_and(|room| !is_scarce_after(&room, target - from)) {
                let _ = fallocate(&self.file, keep, from, target - from);
            }
        }
    }
}

impl StorageFile for DiskFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, position: u64, bytes: usize) -> io::Result<Bytes> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = Vec::with_capacity(bytes);
        while buffer.len() < bytes {
            let at = position + buffer.len() as u64;
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut buffer), at)
            })?;
            if read == 0 {
                break;
            }
        }
        // The allocator may have given more room than was asked for.
        buffer.truncate(bytes);
        Ok(buffer.into())
    }

    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        let mut rest = slices;
        // Takes empty slices off the front, so that a write of nothing means a full disk.
        IoSlice::advance_slices(&mut rest, 0);
        let bytes: usize = rest.iter().map(|slice| slice.len()).sum();
        self.allocate_ahead(position, position + bytes as u64);
        while !rest.is_empty() {
            let now = &rest[..rest.len().min(MAX_SLICES)];
            let written =
                rustix::io::retry_on_intr(|| rustix::io::pwritev(&self.file, now, position))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        // Cutting gives back what was set aside, too.
        self.allocated.store(0, Ordering::Relaxed);
        self.file.set_len(bytes)
    }

    fn trim(&self) -> io::Result<()> {
        self.set_length(self.length()?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget_cached(&self, position: u64) -> io::Result<()> {
        Ok(rustix::fs::fadvise(
            &self.file,
            position,
            None,
            Advice::DontNeed,
        )?)
    }

    fn map(&self, range: Range<u64>) -> io::Result<Option<Bytes>> {
        let mapping = match self.mapping.get() {
            Some(mapping) => mapping,
            None => {
                // The system may be out of mappings: the caller then reads.
                let Ok(mapping) = FileMapping::new(&self.file) else {
                    return Ok(None);
                };
                self.mapping.get_or_init(|| mapping)
            }
        };
        mapping.slice(range)
    }
}

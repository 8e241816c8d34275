//! The log's whole view of the disk.
//!
//! Everything that the log does with files goes through [`Storage`] and [`StorageFile`], so that
//! the crash tests can stand between the log and the disk. [`DiskStorage`] is the real one,
//! [`MemoryStorage`] the one that crashes.
//!
//! What the log assumes of a storage, and nothing more:
//!
//! - written bytes survive a power cut once [`StorageFile::sync_data`] has returned; before it, any
//!   part of them may, in any order, sector by sector;
//! - names (created, renamed, removed) survive once [`Storage::sync_dir`] of their directory has
//!   returned; before it, any of them may;
//! - a rename replaces its target as one step;
//! - nobody else changes the files. A broker locks its data directory for that.

mod disk;
mod memory;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::{MAX_SCARCE_BYTES, SCARCE_FRACTION};

pub use disk::{DiskStorage, has_room};
pub use memory::{MemoryStorage, SyncBehaviour};

/// A tree of directories and files.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Creates an empty file, to be read and written; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file, to be read and written.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// The names in a directory, in no order. [`io::ErrorKind::NotFound`] when there is none.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames a file within its directory, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Whoever has it open or mapped goes on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory in an existing one; fails if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: creations, renames and removals.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether there is so little room left where a directory is that what can wait should leave it to what cannot. A
    /// storage that cannot tell says no.
    fn is_scarce(&self, _dir: &Path) -> bool {
        false
    }
}

/// With less room left than this, of so much in all, room is scarce.
fn scarce_bytes(all: u64) -> u64 {
    (all / SCARCE_FRACTION).min(MAX_SCARCE_BYTES)
}

/// An open file, used from several threads at once.
pub trait StorageFile: Debug + Send + Sync + 'static {
    /// The file's length, bytes.
    fn length(&self) -> io::Result<u64>;

    /// Up to `bytes` bytes from `position`; fewer only where the file ends.
    fn read_at(&self, position: u64, bytes: usize) -> io::Result<Bytes>;

    /// Writes all of `slices`, one after the other, from `position`. On an error any part may
    /// have been written.
    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_length(&self, bytes: u64) -> io::Result<()>;

    /// Gives back what the storage has set aside for a file to grow into. The file may grow all the
    /// same.
    fn trim(&self) -> io::Result<()>;

    /// Makes content and length durable. After a failure nothing is known about what was written
    /// since the last success; a second attempt proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Drops what is cached in memory from `position` on and need not be written any more, so that
    /// reads see what the disk holds. Best effort, by whole pages: one that begins before `position`
    /// stays.
    fn forget_cached(&self, position: u64) -> io::Result<()>;

    /// The bytes of `range` without a copy, or `None` if the storage has no such way. Only for a
    /// file that will be neither written nor cut any more.
    fn map(&self, range: Range<u64>) -> io::Result<Option<Bytes>>;
}

//! A log's directory and what its files have in common.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use millstream_planted::planted;

use crate::config::LogIdentity;
use crate::error::{Attempt, StorageFailure};
use crate::format::entry::Binding;
use crate::storage::{Storage, StorageFile};

/// A log's directory.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: LogIdentity,
    /// See [`crate::format::entry`].
    pub(crate) salt: u64,
    /// For indexes that are built anew.
    pub(crate) index_interval_bytes: u32,
}

impl Files {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn binding(&self) -> Binding {
        Binding::new(&self.identity, self.salt)
    }

    /// All of a small file; `None` when there is none. One that exceeds `max_bytes` is read up to
    /// there, and does not pass its checksum then.
    pub(crate) fn read(
        &self,
        name: &str,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, StorageFailure> {
        let path = self.path(name);
        let file = match self.storage.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.attempt("open", &path)?,
        };
        let length = file.length().attempt("read", &path)?;
        let bytes = usize::try_from(length).map_or(max_bytes, |length| length.min(max_bytes));
        Ok(Some(file.read_at(0, bytes).attempt("read", &path)?))
    }

    /// Creates an empty file. What is there under the name is left from an attempt that failed,
    /// and is replaced.
    pub(crate) fn create(&self, path: &Path) -> Result<Arc<dyn StorageFile>, StorageFailure> {
        match self.storage.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(path)?;
                self.storage.create(path).attempt("create", path)
            }
            created => created.attempt("create", path),
        }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StorageFailure> {
        match self.storage.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.attempt("remove", path),
        }
    }

    pub(crate) fn sync_dir(&self) -> Result<(), StorageFailure> {
        if planted!(NoDirectorySync) {
            return Ok(());
        }
        let synced = self.storage.sync_dir(&self.dir);
        synced.attempt("sync directory", &self.dir)
    }
}

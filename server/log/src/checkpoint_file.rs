//! The checkpoint on the disk. The writer and the flush both change it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::atomic_file;
use crate::error::StorageFailure;
use crate::files::Files;
use crate::format::checkpoint::Checkpoint;
use crate::format::names;

/// The checkpoint, as it is on the disk.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    files: Arc<Files>,
    current: Mutex<Checkpoint>,
}

impl CheckpointFile {
    /// A checkpoint that is on the disk already.
    pub(crate) fn new(files: Arc<Files>, current: Checkpoint) -> Self {
        Self {
            files,
            current: Mutex::new(current),
        }
    }

    pub(crate) fn get(&self) -> Checkpoint {
        *self.current.lock()
    }

    /// Changes it; durable when this returns. On a failure it is as before, in memory in any case
    /// and on the disk unless the directory's sync has failed.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), StorageFailure> {
        let mut current = self.current.lock();
        let mut changed = *current;
        change(&mut changed);
        if changed != *current {
            let encoded = changed.encode(&self.files.identity);
            atomic_file::replace(&self.files, names::CHECKPOINT, &encoded)?;
            *current = changed;
        }
        Ok(())
    }
}

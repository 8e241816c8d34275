//! What can go wrong with a log. Reads have their own error, see [`ReadError`](crate::ReadError).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::batch::BatchError;
use millstream_protocol::{LeaderEpoch, Offset};

use crate::damage::Damage;
use crate::format::DecodeError;
use crate::reader::ReadError;

/// The storage failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct StorageFailure {
    /// What was being done, a verb.
    pub operation: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// What the storage said.
    pub source: Arc<io::Error>,
}

impl StorageFailure {
    /// Whether it failed for want of space: nothing is broken then.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Says of an I/O error what was attempted.
pub(crate) trait Attempt<T> {
    fn attempt(self, operation: &'static str, path: &Path) -> Result<T, StorageFailure>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, operation: &'static str, path: &Path) -> Result<T, StorageFailure> {
        self.map_err(|source| StorageFailure {
            operation,
            path: path.to_owned(),
            source: Arc::new(source),
        })
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
    /// The directory holds another partition's log.
    #[error("{} belongs to another partition", path.display())]
    OtherPartition {
        /// The file that says so.
        path: PathBuf,
    },
    /// A later release has written a file.
    #[error("{} has format version {version}, which this release does not know", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
}

/// Why batches were not appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full. Nothing of the batches was kept, and the log takes others when there is
    /// room again.
    #[error("the disk is full")]
    StorageFull,
    /// Recovery found damage below the flushed offset, so that where the log ends is in doubt. It
    /// takes no appends until it was truncated below the damage.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// A write or a flush failed, now or before. The log takes no more writes: the process has to
    /// stop, and finds out what is durable when it opens the log again.
    #[error("the log's storage has failed: {0}")]
    Poisoned(StorageFailure),
    /// The leader epoch lies below the log's last.
    #[error("leader epoch {got} is older than the log's {current}")]
    StaleEpoch {
        /// The log's last epoch.
        current: LeaderEpoch,
        /// The one given.
        got: LeaderEpoch,
    },
    /// A batch that carries its offset does not follow the log's end.
    #[error("a batch at offset {got} does not follow the log's end, {expected}")]
    NotContiguous {
        /// The log's end.
        expected: Offset,
        /// The batch's base offset.
        got: Offset,
    },
    /// The bytes are not the batch that the header describes, or cannot get their place.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Why a log was not thrown away and begun anew.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestartError {
    /// What it was to know of its producers cannot be used: ask for it again. The log is as before.
    #[error(transparent)]
    Producers(#[from] SnapshotError),
    /// The log could not be changed.
    #[error(transparent)]
    Log(#[from] ChangeError),
}

/// Why bytes are not what another replica knew of the log's producers at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// There are too many.
    #[error("a snapshot of producers of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// How many, bytes.
        bytes: usize,
        /// What is allowed, bytes.
        limit: usize,
    },
    /// They are not what was sent, or make no sense.
    #[error("a snapshot of producers that cannot be read")]
    Broken,
    /// They are about another partition.
    #[error("a snapshot of another partition's producers")]
    OtherPartition,
    /// A later release has made them.
    #[error("a snapshot of producers of version {version}, which this release does not know")]
    Version {
        /// The version.
        version: u16,
    },
    /// They are of another offset than the log is to begin at.
    #[error("a snapshot of the producers at offset {got}, and not at {expected}")]
    OtherOffset {
        /// Where the log is to begin.
        expected: Offset,
        /// What the snapshot is of.
        got: Offset,
    },
}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Broken => Self::Broken,
            DecodeError::OtherPartition => Self::OtherPartition,
            DecodeError::Version(version) => Self::Version { version },
        }
    }
}

/// Why a log cannot tell what it knew of its producers at an offset.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProducersError {
    /// The log does not reach there, or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Half a batch says nothing.
    #[error("offset {at} lies within the batch at {border}")]
    NoBorder {
        /// The offset asked for.
        at: Offset,
        /// Where the batch begins that contains it.
        border: Offset,
    },
    /// More workers' producers have written here than can be told.
    #[error("the producers of workers do not fit into {limit} bytes")]
    TooMany {
        /// What is allowed, bytes.
        limit: usize,
    },
}

/// Why retention, delete-records, truncation, closing or removal was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The disk is full. The log is as before.
    #[error("the disk is full")]
    StorageFull,
    /// The storage failed, now or before. The log takes no more writes: the process has to stop.
    /// What was begun is finished when the log is opened again.
    #[error("the log's storage has failed: {0}")]
    Poisoned(StorageFailure),
    /// The offset lies outside the log.
    #[error("offset {offset} lies outside the log, {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The bytes that say where to cut cannot be read.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
}

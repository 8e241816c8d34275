//! The log: its state, and the little operations.

use std::path::Path;
use std::sync::Arc;

use millstream_protocol::{LeaderEpoch, Offset, ProducerId, TimestampMs};

use crate::checkpoint_file::CheckpointFile;
use crate::config::{LogConfig, LogSetup};
use crate::damage::Damage;
use crate::epochs::EpochList;
use crate::error::{Attempt, ChangeError, OpenError, StorageFailure};
use crate::flush::{FlushError, FlushGate, Underway, Unflushed};
use crate::producers::ProducerTable;
use crate::reader::LogReader;
use crate::recovery::{self, Recovery};
use crate::segment::Segment;
use crate::storage::Storage;
use crate::view::Shared;

/// One partition's log. It has one writer, which owns it; any number of [`LogReader`]s read beside
/// it, and another thread flushes.
///
/// The order of calls: [`append`](Self::append), [`flush_ticket`](Self::flush_ticket),
/// [`FlushTicket::run`](crate::FlushTicket::run) elsewhere, [`flushed`](Self::flushed), and
/// [`close`](Self::close) in the end. A log that is dropped without being closed has crashed, as
/// far as the next opening can tell.
///
/// After a write or a sync has failed (for another reason than a full disk) the log is
/// _poisoned_: it takes no more writes, and the process has to stop, because what is durable is
/// only known after the log was opened again. When recovery finds _damage_, the log takes no
/// appends either, and can be read where it is sound.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: LogConfig,
    pub(crate) checkpoint: Arc<CheckpointFile>,
    /// Everything below is durable.
    pub(crate) flushed_offset: Offset,
    /// Everything derived from batches below is in a durable snapshot.
    pub(crate) snapshot_offset: Offset,
    pub(crate) producers: ProducerTable,
    pub(crate) epochs: EpochList,
    pub(crate) unflushed: Unflushed,
    pub(crate) underway: Option<Underway>,
    pub(crate) gate: Arc<FlushGate>,
    pub(crate) next_ticket: u64,
    pub(crate) bytes_since_checkpoint: u64,
    /// When the active segment got its first batch.
    pub(crate) active_since_ms: Option<TimestampMs>,
    /// The checkpoint says that the log was closed and not used since.
    pub(crate) clean_stop: bool,
    pub(crate) compacting: bool,
    /// Below, batches have come compacted from another log: tombstones may have gone there. What is
    /// not yet in the checkpoint; the log's end has it too.
    pub(crate) thinned_until: Offset,
    pub(crate) poisoned: Option<StorageFailure>,
    /// The lowest damage that recovery has found.
    pub(crate) damaged: Option<Damage>,
}

impl Log {
    /// Opens the log in the setup's directory, or creates it there. Says what was found and done.
    ///
    /// # Errors
    ///
    /// The storage failed, or the directory holds another log. Damage is no error here: the log
    /// opens, and [`Recovery::damage`] names it.
    pub fn create_or_open(
        setup: LogSetup,
        now_ms: TimestampMs,
    ) -> Result<(Self, Recovery), OpenError> {
        recovery::open(setup, now_ms)
    }

    /// A handle for readers.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The first offset still there.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.view.load().log_start_offset
    }

    /// The next offset to be appended.
    pub fn log_end_offset(&self) -> Offset {
        self.end_offset()
    }

    /// Everything below is durable.
    pub fn flushed_offset(&self) -> Offset {
        self.flushed_offset
    }

    /// Tombstones below may be gone, by a compaction here or where batches came from; none at or above is. Whoever keeps what the log's keys have come
    /// to, applied up to an offset below this one, may have missed a deletion.
    pub fn tombstones_gone_until(&self) -> Offset {
        let known = self.checkpoint.get().tombstones_gone_until;
        known.max(self.thinned_until)
    }

    /// Bytes of all segment files.
    pub fn size_bytes(&self) -> u64 {
        self.shared.view.load().size_bytes()
    }

    /// The first damage that recovery or a read has met. Only what recovery has found keeps the
    /// log from taking appends: it leaves in doubt where the log ends.
    pub fn damage(&self) -> Option<Damage> {
        self.shared.damage.lock().first().cloned()
    }

    /// The leader epoch of the last batch; `None` when there was none.
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last()
    }

    /// The highest leader epoch in the log at or below `epoch`, and the offset at which it ends
    /// (exclusive: where the next one begins, or the log's end); `None` when there is none.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset(epoch, self.end_offset())
    }

    /// Where each leader epoch begins, oldest first; both strictly increase. The first may begin
    /// below the log's start.
    pub fn epochs(&self) -> impl Iterator<Item = (LeaderEpoch, Offset)> + '_ {
        self.epochs.starts().iter().copied()
    }

    /// The last sequence that it has of a worker's producer
    /// ([`FIRST_WORKER_PRODUCER_ID`](millstream_protocol::FIRST_WORKER_PRODUCER_ID)), durable or not.
    pub fn last_worker_sequence(&self, producer_id: ProducerId) -> Option<u32> {
        self.producers.last_worker_sequence(producer_id)
    }

    /// How the log is kept.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes how the log is kept from now on. What is there changes at the next roll, retention
    /// or compaction.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config.bounded();
    }

    /// Flushes on this thread, writes a checkpoint and notes that the stop was clean. A ticket
    /// under way is taken over.
    ///
    /// # Errors
    ///
    /// The storage failed, now or before.
    pub fn close(mut self) -> Result<(), FlushError> {
        if let Some(failure) = self.poisoned {
            return Err(failure);
        }
        if self.clean_stop || self.damaged.is_some() {
            return Ok(());
        }
        self.active().trim();
        self.flush_and_stop()
    }

    /// Deletes the log: all its files and the directory. Readers fail from now on.
    ///
    /// # Errors
    ///
    /// The storage failed. The directory may be there in part: see [`delete_dir`].
    pub fn delete_all(mut self) -> Result<(), StorageFailure> {
        // Whether the flushes of what is deleted have failed does not matter.
        let _ = self.cancel_ticket();
        let files = &self.shared.files;
        delete_dir(&*files.storage, &files.dir)
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.shared.view.load().end_offset()
    }

    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(&self.shared.view.load().active)
    }

    /// Takes no more writes. Returns the failure, to be returned.
    pub(crate) fn poison(&mut self, failure: StorageFailure) -> StorageFailure {
        if self.poisoned.is_none() {
            tracing::error!(dir = %self.shared.files.dir.display(), "{failure}");
            self.poisoned = Some(failure.clone());
        }
        failure
    }

    pub(crate) fn change_error(&mut self, failure: StorageFailure) -> ChangeError {
        if failure.is_full() {
            ChangeError::StorageFull
        } else {
            ChangeError::Poisoned(self.poison(failure))
        }
    }

    /// Whether the log's shape may be changed.
    pub(crate) fn check_changeable(&self) -> Result<(), ChangeError> {
        if let Some(failure) = &self.poisoned {
            return Err(ChangeError::Poisoned(failure.clone()));
        }
        match &self.damaged {
            Some(damage) => Err(ChangeError::Damaged(damage.clone())),
            None => Ok(()),
        }
    }

    /// Notes in the checkpoint, once, that the log was not closed since something was written.
    pub(crate) fn note_use(&mut self) -> Result<(), StorageFailure> {
        if self.clean_stop {
            self.checkpoint
                .update(|checkpoint| checkpoint.clean_stop = false)?;
            self.clean_stop = false;
        }
        Ok(())
    }
}

/// Deletes a log's directory with all that is in it, whether it could be opened or not; durable
/// when this returns. Nothing happens if there is none.
///
/// # Errors
///
/// The storage failed. It can be done again.
pub fn delete_dir(storage: &dyn Storage, dir: &Path) -> Result<(), StorageFailure> {
    let names = match storage.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        listed => listed.attempt("list", dir)?,
    };
    for name in names {
        let path = dir.join(name);
        storage.remove(&path).attempt("remove", &path)?;
    }
    storage.remove_dir(dir).attempt("remove", dir)?;
    let parent = dir.parent().unwrap_or(dir);
    storage.sync_dir(parent).attempt("sync directory", parent)
}

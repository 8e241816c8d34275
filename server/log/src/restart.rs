//! Throwing the log away and beginning one further on.
//!
//! A follower whose log ends before its leader's begins cannot go on with what it has. It begins where
//! the leader's log does, with what the leader knew of the producers there.
//!
//! What the log is to know lies beside it first, in a file that does not count. Then the checkpoint
//! says that the log begins anew: from there on it does, whatever happens, and before that nothing has
//! changed. The old files go, the new ones get their names, and the checkpoint says that it is done. An
//! opening in between does the rest.

use std::path::Path;
use std::sync::Arc;

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};

use crate::atomic_file;
use crate::epochs::EpochList;
use crate::error::{Attempt, ChangeError, RestartError, SnapshotError, StorageFailure};
use crate::files::Files;
use crate::flush::Unflushed;
use crate::format::checkpoint::Unfinished;
use crate::format::names::{self, FileKind};
use crate::format::segment::{Density, SegmentHeader};
use crate::format::{producers, snapshot};
use crate::index::SparseIndex;
use crate::limits::MAX_PRODUCERS_BYTES;
use crate::log::Log;
use crate::producers::ProducerTable;
use crate::roll;
use crate::segment::Segment;
use crate::storage::StorageFile;
use crate::view::View;

/// What a log is to begin with.
struct Beginning {
    at: Offset,
    epochs: EpochList,
    producers: ProducerTable,
    /// The first segment.
    header: SegmentHeader,
}

impl Log {
    /// Throws the whole log away and begins one at `at`, behind an entry of `epoch_before`, with what
    /// another replica knew of its producers there ([`LogReader::producers_at`]): what a producer sends
    /// again is recognised, whether its first copy lies before `at` or behind. Of more clients than
    /// this log remembers, the most recently used are taken.
    ///
    /// That is durable when this returns. After a crash the log is either the old one or the new one.
    /// A ticket under way is taken over. A damaged log takes appends again: all of it is gone. Readers
    /// go on in the new log; to them all but `at` is out of range.
    ///
    /// # Errors
    ///
    /// The snapshot cannot be used, or the disk is full: the log is as before. Or the storage failed.
    ///
    /// [`LogReader::producers_at`]: crate::LogReader::producers_at
    pub fn restart(
        &mut self,
        at: Offset,
        epoch_before: LeaderEpoch,
        snapshot: &[u8],
        now_ms: TimestampMs,
    ) -> Result<(), RestartError> {
        let mut producers = self.read_producers(at, snapshot)?;
        if let Some(failure) = &self.poisoned {
            return Err(ChangeError::Poisoned(failure.clone()).into());
        }
        if planted!(RestartWithoutProducers) {
            producers = ProducerTable::default();
        }
        let beginning = Beginning {
            at,
            epochs: EpochList::beginning_at(at, epoch_before),
            producers,
            header: SegmentHeader {
                base_offset: at,
                previous_base: None,
                created_ms: now_ms,
                salt: self.shared.files.salt,
                density: Density::of(self.config.cleanup),
                compacted: None,
            },
        };
        let begun = self.begin_anew(beginning);
        Ok(begun.map_err(|failure| self.change_error(failure))?)
    }

    fn read_producers(&self, at: Offset, bytes: &[u8]) -> Result<ProducerTable, SnapshotError> {
        if bytes.len() > MAX_PRODUCERS_BYTES {
            return Err(SnapshotError::TooLarge {
                bytes: bytes.len(),
                limit: MAX_PRODUCERS_BYTES,
            });
        }
        let identity = &self.shared.files.identity;
        let (got, producers) = producers::decode(bytes, identity, self.config.max_producers)?;
        if got != at {
            return Err(SnapshotError::OtherOffset { expected: at, got });
        }
        Ok(producers)
    }

    fn begin_anew(&mut self, beginning: Beginning) -> Result<(), StorageFailure> {
        self.cancel_ticket()?;
        let files = Arc::clone(&self.shared.files);
        let waiting = files.path(&names::unfinished(&names::segment(beginning.at)));
        let prepared = self.prepare(&beginning, &waiting);
        let file = match prepared {
            Ok(file) => file,
            Err(failure) => {
                // Gives back the space; if this fails too, the next opening removes it.
                let _ = files.remove(&waiting);
                let _ = files.remove(&files.path(&names::restart(beginning.at)));
                return Err(failure);
            }
        };
        // From here on a failure leaves a restart to be finished.
        let finished = self.finish_restart(beginning, file, &waiting);
        finished.map_err(|failure| self.poison(failure))
    }

    /// Lays beside the log what it is to begin with, and says so in the checkpoint.
    fn prepare(
        &mut self,
        beginning: &Beginning,
        waiting: &Path,
    ) -> Result<Arc<dyn StorageFile>, StorageFailure> {
        let Beginning { at, header, .. } = beginning;
        let files = &self.shared.files;
        let file = files.create(waiting)?;
        roll::write_header_to(files, header, &file, waiting)?;
        file.sync_data().attempt("sync", waiting)?;
        let encoded = snapshot::encode(
            *at,
            &beginning.epochs,
            &beginning.producers,
            &files.identity,
            files.salt,
        );
        atomic_file::replace(files, &names::restart(*at), &encoded)?;
        self.checkpoint.update(|checkpoint| {
            checkpoint.unfinished = Some(Unfinished::Restart(*at));
            checkpoint.log_start_offset = *at;
            checkpoint.flushed_offset = *at;
            checkpoint.compacted_until = *at;
            checkpoint.tombstones_gone_until = *at;
            checkpoint.clean_stop = false;
        })?;
        Ok(file)
    }

    fn finish_restart(
        &mut self,
        beginning: Beginning,
        file: Arc<dyn StorageFile>,
        waiting: &Path,
    ) -> Result<(), StorageFailure> {
        let at = beginning.at;
        let files = Arc::clone(&self.shared.files);
        let index = SparseIndex::new(at, files.index_interval_bytes);
        let active = Segment::active(Arc::clone(&files), beginning.header, file, index);
        let path = active.path().to_owned();
        // Published before the files change, see [`Shared`](crate::view::Shared).
        self.shared.view.store(Arc::new(View {
            log_start_offset: at,
            start_border: at,
            sealed: Vec::new(),
            active: Arc::new(active),
        }));
        self.shared.cache.clear();
        clear(&files, at)?;
        let renamed = files.storage.rename(waiting, &path);
        renamed.attempt("rename", &path)?;
        files.sync_dir()?;
        self.checkpoint
            .update(|checkpoint| checkpoint.unfinished = None)?;
        self.producers = beginning.producers;
        self.epochs = beginning.epochs;
        (self.flushed_offset, self.snapshot_offset) = (at, at);
        self.unflushed = Unflushed::default();
        self.bytes_since_checkpoint = 0;
        self.thinned_until = at;
        self.active_since_ms = None;
        self.clean_stop = false;
        self.damaged = None;
        self.shared.damage.lock().clear();
        Ok(())
    }
}

/// Removes all of a log but the snapshot with which it is to begin at `at`, which gets its name. Each
/// step may have happened already.
pub(crate) fn clear(files: &Files, at: Offset) -> Result<(), StorageFailure> {
    let listed = files.storage.list(&files.dir).attempt("list", &files.dir)?;
    let kinds: Vec<FileKind> = listed.iter().map(|name| names::kind(name)).collect();
    let waits = kinds.contains(&FileKind::Restart(at));
    for (name, kind) in listed.iter().zip(kinds) {
        let goes = match kind {
            FileKind::Segment(_) | FileKind::Index(_) => true,
            FileKind::Snapshot(offset) => offset != at,
            FileKind::Restart(_)
            | FileKind::Checkpoint
            | FileKind::Unfinished
            | FileKind::Foreign => false,
        };
        if goes {
            files.remove(&files.path(name))?;
        }
    }
    if waits {
        // In the place of the old log's, if that had one there too.
        let name = files.path(&names::snapshot(at));
        let renamed = files
            .storage
            .rename(&files.path(&names::restart(at)), &name);
        renamed.attempt("rename", &name)?;
    }
    files.sync_dir()
}

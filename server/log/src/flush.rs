//! Making appended batches durable, off the writer's thread.
//!
//! The writer appends and takes a [`FlushTicket`]; another thread runs it; the writer hands the
//! outcome to [`Log::flushed`]. While a ticket is under way further batches gather, and the next
//! ticket covers them all: that is the group commit.
//!
//! A ticket also carries what a roll or a checkpoint has to write besides (index, snapshot,
//! checkpoint), so that the writer never waits for a disk on its common path. Where the writer
//! changes files itself (truncation, closing), it cancels the ticket first, which waits for one
//! that runs, and takes over its work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millstream_planted::planted;
use millstream_protocol::Offset;
use parking_lot::Mutex;

use crate::atomic_file;
use crate::checkpoint_file::CheckpointFile;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::names::{self, FileKind};
use crate::format::snapshot;
use crate::limits::{MAX_WAITING_SNAPSHOT_BYTES, SNAPSHOTS_KEPT};
use crate::log::Log;
use crate::segment::Segment;
use crate::storage::StorageFile;

/// A flush failed. Nothing is known about what was to be flushed, and a second attempt would prove
/// nothing: the process has to stop and recover.
pub type FlushError = StorageFailure;

/// What is to be flushed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unflushed {
    /// Files written since they were last synced.
    pub(crate) files: Vec<(PathBuf, Arc<dyn StorageFile>)>,
    /// Files were created.
    pub(crate) dir: bool,
    /// A checkpoint is due.
    pub(crate) checkpoint: bool,
    /// Snapshots to be written with it: as of the beginnings of segments, in order.
    pub(crate) snapshots: Vec<(Offset, Bytes)>,
}

impl Unflushed {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.dir && !self.checkpoint
    }

    /// Notes that a segment's file was written to.
    pub(crate) fn note(&mut self, path: &Path, file: &Arc<dyn StorageFile>) {
        // The file written last is the active one.
        let known = self
            .files
            .last()
            .is_some_and(|(_, last)| Arc::ptr_eq(last, file));
        if !known {
            self.files.push((path.to_owned(), Arc::clone(file)));
        }
    }

    /// Notes what a new segment begins with, if there is room.
    pub(crate) fn note_snapshot(&mut self, offset: Offset, snapshot: Bytes) {
        let waiting: usize = self.snapshots.iter().map(|(_, bytes)| bytes.len()).sum();
        if waiting + snapshot.len() <= MAX_WAITING_SNAPSHOT_BYTES {
            self.snapshots.push((offset, snapshot));
        }
    }

    /// Puts what an earlier ticket was to do before this.
    fn prepend(&mut self, mut earlier: Self) {
        earlier.files.append(&mut self.files);
        self.files = earlier.files;
        earlier.snapshots.append(&mut self.snapshots);
        self.snapshots = earlier.snapshots;
        self.dir |= earlier.dir;
        self.checkpoint |= earlier.checkpoint;
    }
}

/// A ticket that was given out.
#[derive(Debug)]
pub(crate) struct Underway {
    id: u64,
    work: Unflushed,
}

/// Where the writer and the tickets of one log agree on which ticket may still run.
#[derive(Debug, Default)]
pub(crate) struct FlushGate {
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    /// Tickets with a lower number do nothing any more.
    cancelled_below: u64,
    /// Nothing may be flushed after a failure.
    failed: Option<StorageFailure>,
}

impl FlushGate {
    /// Waits for a ticket that runs, and cancels those below `id`.
    fn cancel_below(&self, id: u64) -> Result<(), StorageFailure> {
        let mut state = self.state.lock();
        state.cancelled_below = id;
        state.failed.clone().map_or(Ok(()), Err)
    }
}

/// The right and the duty to flush what was appended so far.
///
/// A log gives out one at a time. It must be run, and its outcome handed to [`Log::flushed`];
/// until then the log gives out no other.
#[derive(Debug)]
#[must_use = "the log flushes nothing else until the ticket was run"]
pub struct FlushTicket {
    id: u64,
    gate: Arc<FlushGate>,
    files: Arc<Files>,
    work: Unflushed,
    up_to: Offset,
    checkpoint: Option<CheckpointWork>,
}

/// A flush has succeeded.
#[derive(Debug)]
pub struct Flushed {
    id: u64,
    up_to: Offset,
    checkpointed: bool,
}

impl Flushed {
    /// What was appended below this offset when the ticket was taken is durable now, unless it was
    /// cut off since: [`Log::flushed`] says what counts.
    pub fn up_to(&self) -> Offset {
        self.up_to
    }
}

impl FlushTicket {
    /// Flushes. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// The storage failed: hand the error to [`Log::flushed`] and stop.
    pub fn run(self) -> Result<Flushed, FlushError> {
        let mut gate = self.gate.state.lock();
        if let Some(failure) = &gate.failed {
            return Err(failure.clone());
        }
        let flushed = if self.id < gate.cancelled_below {
            Ok(false)
        } else {
            self.flush()
        };
        match flushed {
            Ok(checkpointed) => Ok(Flushed {
                id: self.id,
                up_to: self.up_to,
                checkpointed,
            }),
            Err(failure) => Err(gate.failed.insert(failure).clone()),
        }
    }

    fn flush(&self) -> Result<bool, StorageFailure> {
        for (path, file) in &self.work.files {
            let synced = match file.sync_data() {
                Err(_) if planted!(RetryFailedSync) => file.sync_data(),
                synced => synced,
            };
            synced.attempt("sync", path)?;
        }
        if self.work.dir {
            self.files.sync_dir()?;
        }
        let Some(checkpoint) = &self.checkpoint else {
            return Ok(false);
        };
        match checkpoint.write(&self.files, self.up_to, &self.work.snapshots) {
            // The batches are durable all the same.
            Err(failure) if failure.is_full() => {
                tracing::warn!(dir = %self.files.dir.display(), "no checkpoint: {failure}");
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }
}

/// What a ticket writes besides, once its batches are durable.
#[derive(Debug)]
struct CheckpointWork {
    checkpoint: Arc<CheckpointFile>,
    snapshot: Vec<u8>,
    segments: Vec<Arc<Segment>>,
    thinned_until: Offset,
    clean_stop: bool,
}

impl CheckpointWork {
    fn write(
        &self,
        files: &Files,
        up_to: Offset,
        of_segments: &[(Offset, Bytes)],
    ) -> Result<(), StorageFailure> {
        for segment in &self.segments {
            segment.save_index()?;
        }
        // Before the snapshot, behind which the next opening looks for nothing.
        self.checkpoint.update(|checkpoint| {
            let gone_until = checkpoint.tombstones_gone_until.max(self.thinned_until);
            checkpoint.tombstones_gone_until = gone_until;
        })?;
        for (offset, snapshot) in of_segments.iter().filter(|(offset, _)| *offset < up_to) {
            atomic_file::replace_unnamed(files, &names::snapshot(*offset), snapshot)?;
        }
        atomic_file::replace(files, &names::snapshot(up_to), &self.snapshot)?;
        self.checkpoint.update(|checkpoint| {
            checkpoint.flushed_offset = up_to;
            checkpoint.clean_stop = self.clean_stop;
        })?;
        let bases = self.segments.iter().map(|segment| segment.base_offset());
        remove_old_snapshots(files, &bases.collect())
    }
}

/// Keeps the newest, and those with which segments begin. Not durable: what comes back is removed
/// again.
fn remove_old_snapshots(files: &Files, bases: &BTreeSet<Offset>) -> Result<(), StorageFailure> {
    let listed = files.storage.list(&files.dir).attempt("list", &files.dir)?;
    let mut snapshots: Vec<Offset> = listed
        .iter()
        .filter_map(|name| match names::kind(name) {
            FileKind::Snapshot(offset) => Some(offset),
            _ => None,
        })
        .collect();
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    let old = snapshots.into_iter().skip(SNAPSHOTS_KEPT);
    for offset in old.filter(|offset| !bases.contains(offset)) {
        files.remove(&files.path(&names::snapshot(offset)))?;
    }
    Ok(())
}

impl Log {
    /// What was appended and is not yet durable, to be flushed by another thread. `None` when
    /// there is nothing to do, or while a ticket is under way; when that one's outcome has come,
    /// ask again.
    pub fn flush_ticket(&mut self) -> Option<FlushTicket> {
        self.ticket(false)
    }

    /// Asks that the next flush also writes a checkpoint, even if nothing was appended. It is
    /// done by itself every [`checkpoint_bytes`](crate::LogConfig::checkpoint_bytes) and at a
    /// roll; ask from time to time, so that damage to the end of an idle log is told from a torn
    /// write. Nothing happens if nothing was appended since the last one.
    pub fn request_checkpoint(&mut self) {
        if self.snapshot_offset < self.end_offset() && self.damaged.is_none() {
            self.unflushed.checkpoint = true;
        }
    }

    /// Takes the outcome of a ticket, and returns the flushed offset: everything below it is
    /// durable.
    ///
    /// # Errors
    ///
    /// The ticket has failed, or the log's storage has before. The log takes no more writes.
    pub fn flushed(&mut self, outcome: Result<Flushed, FlushError>) -> Result<Offset, FlushError> {
        let flushed = outcome.map_err(|failure| self.poison(failure))?;
        if let Some(failure) = &self.poisoned {
            return Err(failure.clone());
        }
        // The work of a cancelled ticket was taken over.
        if self
            .underway
            .as_ref()
            .is_some_and(|underway| underway.id == flushed.id)
        {
            self.underway = None;
            self.flushed_offset = flushed.up_to;
            if flushed.checkpointed {
                self.snapshot_offset = flushed.up_to;
            }
        }
        Ok(self.flushed_offset)
    }

    /// Flushes on this thread. Takes over the ticket under way, if there is one.
    pub(crate) fn flush_now(&mut self) -> Result<(), StorageFailure> {
        self.cancel_ticket()?;
        match self.ticket(false) {
            Some(ticket) => self.run_ticket(ticket),
            None => Ok(()),
        }
    }

    /// Flushes on this thread, and says in the checkpoint that the log was closed.
    pub(crate) fn flush_and_stop(&mut self) -> Result<(), StorageFailure> {
        self.cancel_ticket()?;
        self.unflushed.checkpoint = true;
        match self.ticket(true) {
            Some(ticket) => self.run_ticket(ticket),
            None => Ok(()),
        }
    }

    fn run_ticket(&mut self, ticket: FlushTicket) -> Result<(), StorageFailure> {
        let outcome = ticket.run();
        self.flushed(outcome).map(|_| ())
    }

    /// Takes back the ticket under way: its work is unflushed again, and its outcome will not
    /// count. Waits for it if it runs.
    pub(crate) fn cancel_ticket(&mut self) -> Result<(), StorageFailure> {
        if let Err(failure) = self.gate.cancel_below(self.next_ticket) {
            return Err(self.poison(failure));
        }
        if let Some(underway) = self.underway.take() {
            self.unflushed.prepend(underway.work);
        }
        Ok(())
    }

    fn ticket(&mut self, clean_stop: bool) -> Option<FlushTicket> {
        if self.underway.is_some() || self.poisoned.is_some() || self.unflushed.is_empty() {
            return None;
        }
        let up_to = self.end_offset();
        let work = std::mem::take(&mut self.unflushed);
        let checkpoint = work.checkpoint.then(|| {
            self.bytes_since_checkpoint = 0;
            // Unless it closes the log, it says that the log is in use.
            self.clean_stop = clean_stop;
            CheckpointWork {
                checkpoint: Arc::clone(&self.checkpoint),
                snapshot: snapshot::encode(
                    up_to,
                    &self.epochs,
                    &self.producers,
                    &self.shared.files.identity,
                    self.shared.files.salt,
                ),
                segments: self.shared.view.load().segments().cloned().collect(),
                thinned_until: self.thinned_until,
                clean_stop,
            }
        });
        let id = self.next_ticket;
        self.next_ticket += 1;
        self.underway = Some(Underway {
            id,
            work: work.clone(),
        });
        Some(FlushTicket {
            id,
            gate: Arc::clone(&self.gate),
            files: Arc::clone(&self.shared.files),
            work,
            up_to,
            checkpoint,
        })
    }
}

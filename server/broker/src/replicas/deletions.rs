//! Deleting records by request: on every replica, and acknowledged once a majority has that on its disks.

use millstream_log::ChangeError;
use millstream_protocol::{Offset, WireError};
use millstream_replication::{Input, Replica};
use tokio::sync::oneshot;

use super::actor::{Actor, Fault};
use super::steps::Trouble;
use crate::config::{COMMIT_PATIENCE_MS, FORGETS_EVERY_MS};
use crate::errors;
use crate::writer::Outside;

/// Where it is told where the log begins now.
pub(crate) type DeletionDone = oneshot::Sender<Result<Offset, WireError>>;

/// A deletion that waits for other replicas.
pub(super) struct Deletion {
    below: Offset,
    done: DeletionDone,
    /// Since when, on a clock that does not go back.
    since_ms: u64,
}

impl Deletion {
    pub(super) fn refuse(self, error: WireError) {
        // Who has given up waiting needs no answer.
        let _ = self.done.send(Err(error));
    }
}

impl Actor {
    /// Deletes the records below an offset. They are not seen any more from here on.
    pub(crate) fn delete_records(
        &mut self,
        outside: &Outside<'_>,
        below: Offset,
        done: DeletionDone,
    ) -> Result<(), Fault> {
        let since_ms = outside.elapsed_ms;
        let deletion = Deletion {
            below,
            done,
            since_ms,
        };
        let high_watermark = self.partition.visible().high_watermark;
        if below > high_watermark {
            let partition = &self.partition;
            deletion.refuse(errors::beyond_high_watermark(
                partition,
                below,
                high_watermark,
            ));
            return Ok(());
        }
        if self.replica.as_ref().and_then(Replica::leading).is_none() {
            deletion.refuse(self.leads_not());
            return Ok(());
        }
        if self.is_starved(outside) {
            deletion.refuse(errors::not_enough_replicas(&self.name()));
            return Ok(());
        }
        self.deletions.push(deletion);
        self.step(outside, Input::Delete { below }, Vec::new())
    }

    /// Tells whom it concerns what is deleted on a majority.
    pub(super) fn answer_deletions(&mut self, log_start_offset: Offset) {
        let Some(deleted) = self.replica.as_ref().map(Replica::deleted) else {
            return;
        };
        let done = self.deletions.extract_if(.., |it| it.below <= deleted);
        for Deletion { done, .. } in done {
            // Who has given up waiting needs no answer.
            let _ = done.send(Ok(log_start_offset));
        }
    }

    /// Tells who has waited for too long that too few replicas answer. They may delete it yet.
    pub(super) fn give_up_deletions(&mut self, outside: &Outside<'_>) {
        let is_late = |it: &mut Deletion| it.since_ms + COMMIT_PATIENCE_MS <= outside.elapsed_ms;
        let late: Vec<_> = self.deletions.extract_if(.., is_late).collect();
        for deletion in late {
            deletion.refuse(errors::not_enough_replicas(&self.name()));
        }
    }

    /// Has the log begin where its records are deleted up to, as the disk says. Returns what the core is
    /// to be told of it.
    pub(super) fn forget(&mut self, outside: &Outside<'_>) -> Result<Option<Input>, Trouble> {
        let deleted = self.replica.as_ref().map_or(0, |it| it.durable().deleted);
        if deleted <= self.log.log_start_offset() || outside.elapsed_ms < self.forgets_at_ms {
            return Ok(None);
        }
        match self.log.delete_records(deleted) {
            Ok(_) => Ok(Some(Input::Retained {
                start: self.log.start_border(),
            })),
            // They are hidden, and go when there is room.
            Err(ChangeError::StorageFull) => {
                self.forgets_at_ms = outside.elapsed_ms + FORGETS_EVERY_MS;
                self.note_full(true);
                Ok(None)
            }
            Err(ChangeError::Damaged(damage)) => Err(Trouble::Damaged(damage.to_string())),
            Err(error @ (ChangeError::Poisoned(_) | ChangeError::OutOfRange { .. })) => {
                Err(Trouble::Fault(self.fail(error.to_string())))
            }
        }
    }
}

//! The partition actor: the only place where what must happen to a partition meets its log.
//!
//! It lives on the writer's thread. Batches are staged, written together, and acknowledged in
//! order once the high watermark has passed them: at the flushed offset for `sync`, at the log's
//! end for `relaxed`.

use std::collections::VecDeque;

use millstream_log::{
    AppendError, AppendOutcome, ChangeError, Compacted, CompactionError, FlushError, FlushTicket,
    Flushed, Log, ProducedBatch,
};
use millstream_protocol::api::topic::{Durability, TopicConfig};
use millstream_protocol::{Offset, ProducerId, TimestampMs, TopicPartition, WireError};

use crate::errors;
use crate::partition::{
    AckSink, AppendResult, Appended, LogStatus, Partition, StagedBatch, Visible,
};
use crate::writer::{Writer, WriterCommand};

/// Something that the broker must not survive: it stops, and recovers from what is on disk.
#[derive(Debug, thiserror::Error)]
#[error("storage of partition {partition} failed: {reason}")]
pub(crate) struct Fault {
    pub(crate) partition: String,
    pub(crate) reason: String,
}

/// An outcome that waits for the high watermark.
struct Pending {
    /// It may be told once the high watermark is here.
    visible_at: Offset,
    result: AppendResult,
    ack: AckSink,
}

pub(crate) struct Actor {
    log: Log,
    partition: Partition,
    durability: Durability,
    /// Compaction may have taken tombstones below, or is about to.
    tombstones_gone_until: Offset,
    staged: Vec<StagedBatch>,
    pending: VecDeque<Pending>,
    /// The storage failed for good; every write is refused.
    failed: bool,
    /// The last write found the disk full.
    full: bool,
}

impl Actor {
    pub(crate) fn new(log: Log, partition: Partition) -> Self {
        let durability = partition.config().durability;
        let mut actor = Self {
            tombstones_gone_until: log.tombstones_gone_until(),
            log,
            partition,
            durability,
            staged: Vec::new(),
            pending: VecDeque::new(),
            failed: false,
            full: false,
        };
        actor.publish();
        actor
    }

    pub(crate) fn id(&self) -> TopicPartition {
        self.partition.id()
    }

    /// Keeps a batch for the next write. True when it is the first.
    pub(crate) fn stage(&mut self, batch: StagedBatch) -> bool {
        self.staged.push(batch);
        self.staged.len() == 1
    }

    /// Appends what is staged with one write.
    pub(crate) fn write(&mut self, now_ms: TimestampMs) -> Result<(), Fault> {
        let mut acks = Vec::with_capacity(self.staged.len());
        let mut batches = Vec::with_capacity(self.staged.len());
        for StagedBatch { bytes, header, ack } in self.staged.drain(..) {
            // Behind a batch that failed nothing of the same stream may be appended.
            if !ack.has_failed() {
                acks.push(ack);
                batches.push(ProducedBatch { bytes, header });
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        let mut outcomes = Vec::with_capacity(batches.len());
        let result = self.log.append(
            batches,
            self.partition.shared.leader_epoch,
            now_ms,
            &mut outcomes,
        );
        let mut acks = acks.into_iter();
        // The outcomes lead: they are fewer after an error, and no sink may be taken without one.
        for (outcome, ack) in outcomes.into_iter().zip(acks.by_ref()) {
            self.settle(ack, outcome, now_ms);
        }
        let full = matches!(result, Err(AppendError::StorageFull));
        if full != std::mem::replace(&mut self.full, full) {
            match full {
                true => tracing::error!(
                    partition = self.name(),
                    "the disk is full; writes are refused"
                ),
                false => tracing::info!(partition = self.name(), "there is room on the disk again"),
            }
        }
        let fault = match result {
            Ok(()) => None,
            Err(error) => {
                let refusal = errors::from_append(&self.partition, &error);
                for ack in acks {
                    self.refuse(ack, refusal.clone());
                }
                self.fault_of(error)
            }
        };
        self.publish();
        fault.map_or(Ok(()), Err)
    }

    fn settle(&mut self, ack: AckSink, outcome: AppendOutcome, appended_at_ms: TimestampMs) {
        match outcome {
            AppendOutcome::Appended {
                base_offset,
                next_offset,
            } => {
                let result = Ok(Appended {
                    base_offset,
                    appended_at_ms,
                });
                self.pending.push_back(Pending {
                    visible_at: next_offset,
                    result,
                    ack,
                });
            }
            // It may be a batch that still waits for its flush: no duplicate is acknowledged
            // before what it repeats.
            AppendOutcome::Duplicate {
                base_offset,
                next_offset,
            } => {
                let result = Ok(Appended {
                    base_offset,
                    appended_at_ms,
                });
                self.pending.push_back(Pending {
                    visible_at: next_offset,
                    result,
                    ack,
                });
            }
            AppendOutcome::Rejected(error) => {
                let refusal = errors::from_reject(&self.partition, &error);
                self.refuse(ack, refusal);
            }
        }
    }

    /// Tells an error in its place: behind the acknowledgements that still wait.
    fn refuse(&mut self, ack: AckSink, error: WireError) {
        if ack.has_failed() {
            return;
        }
        ack.mark_failed();
        self.pending.push_back(Pending {
            visible_at: 0,
            result: Err(error),
            ack,
        });
    }

    /// What the broker must not survive of an error: a storage that failed.
    fn fault_of(&mut self, error: AppendError) -> Option<Fault> {
        match error {
            AppendError::Poisoned(failure) => {
                self.failed = true;
                Some(self.fault(failure.to_string()))
            }
            AppendError::StorageFull
            | AppendError::Damaged(_)
            | AppendError::StaleEpoch { .. }
            | AppendError::NotContiguous { .. }
            | AppendError::Batch(_) => None,
        }
    }

    fn fault(&self, reason: String) -> Fault {
        Fault {
            partition: self.name(),
            reason,
        }
    }

    fn name(&self) -> String {
        self.partition.name()
    }

    /// The flush to start now, if one is needed for acknowledgements and none is under way.
    pub(crate) fn next_flush(&mut self) -> Option<FlushTicket> {
        match self.durability {
            Durability::Sync => self.background_flush(),
            Durability::Relaxed => None,
        }
    }

    /// The flush of everything not yet flushed, if none is under way.
    pub(crate) fn background_flush(&mut self) -> Option<FlushTicket> {
        if self.failed {
            None
        } else {
            self.log.flush_ticket()
        }
    }

    /// A flush has ended. A failed one is never tried again.
    pub(crate) fn flushed(&mut self, outcome: Result<Flushed, FlushError>) -> Result<(), Fault> {
        if let Err(error) = self.log.flushed(outcome) {
            self.failed = true;
            return Err(self.fault(error.to_string()));
        }
        self.publish();
        Ok(())
    }

    pub(crate) fn configure(&mut self, config: TopicConfig) {
        self.durability = config.durability;
        self.log.set_config(crate::storage::log_config(&config));
        *self.partition.shared.config.lock() = config;
        self.publish();
    }

    /// The last sequence of a worker's producer in the log.
    pub(crate) fn last_sequence(&self, producer_id: ProducerId) -> Option<u32> {
        self.log.last_worker_sequence(producer_id)
    }

    pub(crate) fn delete_records(&mut self, before: Offset) -> Result<Offset, WireError> {
        let visible = self.partition.visible();
        if before > visible.high_watermark {
            return Err(errors::beyond_high_watermark(
                &self.partition,
                before,
                visible.high_watermark,
            ));
        }
        let start = self
            .log
            .delete_records(before)
            .map_err(|error| errors::from_change(&self.partition, &error))?;
        self.publish();
        Ok(start)
    }

    /// Deletes the files. Readers are told that nothing more will come.
    pub(crate) fn remove(mut self) {
        let gone = errors::topic_deleted(&self.name());
        for pending in self.pending.drain(..) {
            pending.ack.send(Err(gone.clone()));
        }
        self.partition
            .shared
            .visible
            .send_modify(|visible| visible.closed = true);
        let name = self.name();
        if let Err(error) = self.log.delete_all() {
            tracing::error!(partition = name, %error, "files of a deleted partition remain");
        }
    }

    /// Retention and compaction, as they fall due.
    pub(crate) fn maintain(&mut self, now_ms: TimestampMs, writer: &Writer) -> Result<(), Fault> {
        if self.failed {
            return Ok(());
        }
        let high_watermark = self.partition.visible().high_watermark;
        if let Some(plan) = self.log.plan_retention(high_watermark, now_ms) {
            match self.log.apply_retention(plan, now_ms) {
                Ok(_) => {}
                Err(ChangeError::Poisoned(failure)) => {
                    self.failed = true;
                    return Err(self.fault(failure.to_string()));
                }
                Err(error) => tracing::error!(partition = %self.name(), %error, "retention failed"),
            }
        }
        if let Some(plan) = self.log.plan_compaction(high_watermark, now_ms)
            && let Some(task) = self.log.compaction_task(plan, now_ms)
        {
            let (writer, partition) = (writer.clone(), self.id());
            let run = move || {
                // The writer that is gone needs no result: leftovers are cleaned at the next open.
                let _ = writer.send(WriterCommand::Compacted {
                    partition,
                    outcome: task.run(),
                });
            };
            if let Err(error) = std::thread::Builder::new()
                .name("compaction".to_owned())
                .spawn(run)
            {
                tracing::error!(%error, "cannot start a compaction");
            }
        }
        self.publish();
        Ok(())
    }

    /// A compaction has ended: its segments take the place of the old.
    pub(crate) fn compacted(&mut self, outcome: Result<Compacted, CompactionError>) {
        if let Ok(compacted) = &outcome {
            // Told before it happens: whoever reads the log without them finds it told.
            let gone_until = compacted.tombstones_gone_until();
            self.tombstones_gone_until = self.tombstones_gone_until.max(gone_until);
            self.publish();
        }
        match self.log.install_compaction(outcome) {
            Ok(report) => tracing::debug!(partition = %self.name(), ?report, "compacted"),
            Err(error) => {
                tracing::error!(partition = %self.name(), %error, "compaction failed; the log is as it was")
            }
        }
        self.publish();
    }

    /// Flushes, tells what waits, and closes the log cleanly. No flush may be under way.
    pub(crate) fn close(mut self) -> Result<(), Fault> {
        if self.failed {
            return Ok(());
        }
        if let Some(ticket) = self.log.flush_ticket() {
            self.flushed(ticket.run())?;
        }
        self.publish();
        let partition = self.name();
        self.log.close().map_err(|error| Fault {
            partition,
            reason: error.to_string(),
        })
    }

    /// Makes visible what may be seen, and acknowledges what it covers.
    fn publish(&mut self) {
        let covered = match self.durability {
            Durability::Sync => self.log.flushed_offset(),
            Durability::Relaxed => self.log.log_end_offset(),
        };
        let log_start_offset = self.log.log_start_offset();
        let shared = &self.partition.shared;
        *shared.status.lock() = LogStatus {
            log_end_offset: self.log.log_end_offset(),
            flushed_offset: self.log.flushed_offset(),
            size_bytes: self.log.size_bytes(),
            tombstones_gone_until: self.tombstones_gone_until,
            damage: self.log.damage().map(|damage| damage.to_string()),
        };
        let mut high_watermark = covered;
        shared.visible.send_if_modified(|visible| {
            // It never goes back, whatever becomes of the topic's durability.
            high_watermark = visible.high_watermark.max(covered);
            let next = Visible {
                high_watermark,
                log_start_offset,
                closed: visible.closed,
            };
            let modified = next != *visible;
            *visible = next;
            modified
        });
        while self
            .pending
            .front()
            .is_some_and(|pending| pending.visible_at <= high_watermark)
        {
            if let Some(Pending { result, ack, .. }) = self.pending.pop_front() {
                ack.send(result);
            }
        }
    }
}

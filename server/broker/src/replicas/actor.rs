//! The partition actor: the only place where what must happen to a partition meets its log.
//!
//! It lives on the writer's thread. Batches are staged, written together, and acknowledged in
//! order once the high watermark has passed them. Where that is, the replica's core decides.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_log::{
    AppendError, AppendOutcome, ChangeError, Compacted, CompactionError, FlushError, FlushTicket,
    Flushed, Log, ProducedBatch, RejectReason, StorageFailure,
};
use millstream_metadata::beat::Leads;
use millstream_protocol::api::topic::{Durability, TopicConfig};
use millstream_protocol::{LeaderEpoch, Offset, ProducerId, TopicPartition, WireError};
use millstream_replication::{
    Appointment, BrokerId, Durable, Effect, FollowerStatus, Input, LogView, Message, Replica, Run,
};

use super::ReplicaEvent;
use super::deletions::Deletion;
use super::state::State;
use super::steps::Trouble;
use crate::config::{COMMIT_PATIENCE_MS, PRODUCERS_ASKED_EVERY_MS, WHOLE_LAG};
use crate::errors;
use crate::partition::{
    AckSink, AppendResult, Appended, Closed, LogStatus, Partition, ReplicaState, StagedBatch,
    Standing, Visible,
};
use crate::writer::{Outside, Writer, WriterCommand};

/// Something that the broker must not survive: it stops, and recovers from what is on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A partition's log.
    #[error("storage of partition {partition} failed: {reason}")]
    Storage { partition: String, reason: String },
    /// What is on the disk about the replicas here.
    #[error("the replicas of this broker cannot be kept: {0}")]
    Replicas(String),
    /// Its node of the metadata quorum.
    #[error("the metadata quorum: {0}")]
    Metadata(String),
    /// Another process is this broker, or none is.
    #[error("{0}")]
    Superseded(String),
    /// A part of the broker has ended by a panic: what it holds true does not hold.
    #[error("{0} has panicked")]
    Panicked(&'static str),
}

/// An outcome that waits for the high watermark.
struct Pending {
    /// It may be told once the high watermark is here.
    visible_at: Offset,
    result: AppendResult,
    ack: AckSink,
    /// Since when, on a clock that does not go back.
    since_ms: u64,
}

pub(crate) struct Actor {
    pub(super) log: Log,
    pub(super) partition: Partition,
    /// None if its log is damaged: what is sound of it can be read.
    pub(super) replica: Option<Replica>,
    pub(super) effects: Vec<Effect>,
    /// What is to be known of producers where the log is to begin.
    pub(super) producers: Option<(Offset, Bytes)>,
    /// The high watermark that has stood still for so long that writes are refused.
    starved_since: Option<Offset>,
    /// When that was last asked for.
    asked_ms: Option<u64>,
    /// There is no other replica.
    is_alone: bool,
    /// Its followers keep up: one that does not is seen at once, that all do now and then.
    is_whole: bool,
    /// What was last told of what it leads.
    told: Option<Leads>,
    /// The high watermark of a log without a replica.
    readable_until: Offset,
    durability: Durability,
    /// Compaction may have taken tombstones below, or is about to.
    tombstones_gone_until: Offset,
    staged: Vec<StagedBatch>,
    pending: VecDeque<Pending>,
    /// Deletions that wait for other replicas.
    pub(super) deletions: Vec<Deletion>,
    /// The disk was too full to delete records; it is not tried again before that.
    pub(super) forgets_at_ms: u64,
    /// The storage failed for good; every write is refused.
    failed: bool,
    /// The last write found the disk full.
    full: bool,
}

/// Whether a batch is refused for what the log does not have: one of a leader that others have replaced, and that
/// does not know it yet, lacks what the new one has.
fn rests_on_leading(outcome: &AppendOutcome) -> bool {
    use RejectReason::{OutOfOrder, UnknownProducer};
    matches!(
        outcome,
        AppendOutcome::Rejected(OutOfOrder { .. } | UnknownProducer)
    )
}

impl Actor {
    /// Takes over a log, and what is on the disk about its replica. Without that the log is only
    /// read.
    pub(crate) fn new(
        log: Log,
        durable: Option<Durable>,
        me: BrokerId,
        is_alone: bool,
        partition: Partition,
    ) -> Self {
        let mut effects = Vec::new();
        let replica = durable.map(|durable| {
            let runs = log.epochs().map(|(epoch, start)| Run { epoch, start });
            let view = LogView::new(
                log.start_border(),
                log.log_end_offset(),
                log.flushed_offset(),
                runs.collect(),
            );
            Replica::open(me, durable, view, &mut effects)
        });
        Self {
            tombstones_gone_until: log.tombstones_gone_until(),
            durability: partition.config().durability,
            readable_until: match replica.is_none() && is_alone {
                true => log.flushed_offset(),
                false => 0,
            },
            log,
            partition,
            replica,
            effects,
            producers: None,
            starved_since: None,
            asked_ms: None,
            is_alone,
            is_whole: is_alone,
            told: None,
            staged: Vec::new(),
            pending: VecDeque::new(),
            deletions: Vec::new(),
            forgets_at_ms: 0,
            failed: false,
            full: false,
        }
    }

    pub(crate) fn id(&self) -> TopicPartition {
        self.partition.id()
    }

    /// Keeps a batch for the next write. True when it is the first.
    pub(crate) fn stage(&mut self, batch: StagedBatch) -> bool {
        self.staged.push(batch);
        self.staged.len() == 1
    }

    /// The metadata quorum has decided something about the partition.
    pub(crate) fn appointed(
        &mut self,
        outside: &Outside<'_>,
        appointment: Appointment,
    ) -> Result<(), Fault> {
        self.is_alone = appointment.replicas.members().count() == 1;
        self.step(outside, Input::Appointed(appointment), Vec::new())
    }

    /// A peer has sent something.
    pub(crate) fn received(
        &mut self,
        outside: &Outside<'_>,
        from: BrokerId,
        message: Message,
        batches: Vec<ProducedBatch>,
    ) -> Result<(), Fault> {
        if let Some(at) = self.begins_at(&message)
            && self
                .producers
                .as_ref()
                .is_none_or(|(known, _)| *known != at)
        {
            // It is sent again, when they are here.
            self.ask_for_producers(outside, from, at);
            return Ok(());
        }
        self.step(outside, Input::Received { from, message }, batches)
    }

    /// Whether a message moves what is known of another replica, or adds to the log: what cuts it, or begins it anew,
    /// waits for the disk.
    pub(crate) fn is_brief(&self, message: &Message) -> bool {
        match message {
            Message::Ack(_) => true,
            Message::Append { span, .. } => {
                let replica = self.replica.as_ref();
                replica.is_some_and(|replica| replica.log().tip() == span.prev)
            }
            _ => false,
        }
    }

    /// Where the log is to begin anew by a message: its sender's begins there, and this one has nothing in
    /// common with it.
    fn begins_at(&self, message: &Message) -> Option<Offset> {
        let (Message::Append { span, .. } | Message::Fetched { span, .. }) = message else {
            return None;
        };
        let log = self.replica.as_ref()?.log();
        let (prev, at) = (span.prev, span.prev.offset);
        let is_known = at < log.start() || log.position(at) == Some(prev);
        (span.from_start && !is_known).then_some(at)
    }

    fn ask_for_producers(&mut self, outside: &Outside<'_>, leader: BrokerId, at: Offset) {
        let now_ms = outside.elapsed_ms;
        let is_due = |asked: u64| now_ms >= asked + PRODUCERS_ASKED_EVERY_MS;
        if self.asked_ms.is_none_or(is_due) {
            self.asked_ms = Some(now_ms);
            outside.tell(ReplicaEvent::Lacks {
                partition: self.id(),
                leader,
                at,
            });
        }
    }

    /// What the leader's log knows of its producers at an offset.
    pub(crate) fn producers_known(&mut self, at: Offset, producers: Bytes) {
        self.producers = Some((at, producers));
    }

    /// A promise is on the disk, or will never be.
    pub(crate) fn promised(
        &mut self,
        outside: &Outside<'_>,
        outcome: Result<State, StorageFailure>,
    ) -> Result<(), Fault> {
        let state = outcome.map_err(|failure| self.fail(failure.to_string()))?;
        let (State::Replica(durable), Some(replica)) = (state, &self.replica) else {
            return Ok(());
        };
        let known = replica.durable();
        // It may have been another replica's, in whose place this one is.
        if known.directory != durable.directory {
            return Ok(());
        }
        let is_trusted_again = durable.trusted && !known.trusted;
        self.step(outside, Input::Persisted(durable), Vec::new())?;
        // Whoever hears it finds it so.
        if is_trusted_again {
            outside.tell(ReplicaEvent::Trusted {
                partition: self.id(),
            });
        }
        Ok(())
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.replica.as_ref()?.deadline()
    }

    /// Appends what is staged with one write.
    pub(crate) fn write(&mut self, outside: &Outside<'_>) -> Result<(), Fault> {
        let staged = std::mem::take(&mut self.staged);
        if self.is_starved(outside) {
            let refusal = errors::not_enough_replicas(&self.name());
            for StagedBatch { ack, .. } in staged {
                self.refuse(ack, refusal.clone(), outside.elapsed_ms);
            }
            self.publish(outside);
            return Ok(());
        }
        let Some(epoch) = self.replica.as_ref().and_then(Replica::leading) else {
            let refusal = self.leads_not();
            for StagedBatch { ack, .. } in staged {
                self.refuse(ack, refusal.clone(), outside.elapsed_ms);
            }
            self.publish(outside);
            return Ok(());
        };
        let mut acks = Vec::with_capacity(staged.len());
        let mut batches = Vec::with_capacity(staged.len());
        for batch in staged {
            let StagedBatch {
                bytes,
                header,
                ack,
                only_in,
            } = batch;
            if only_in.is_some_and(|wanted| wanted != epoch) {
                self.refuse(ack, errors::led_anew(&self.name()), outside.elapsed_ms);
                continue;
            }
            // Behind a batch that failed nothing of the same stream may be appended.
            if !ack.has_failed() {
                acks.push(ack);
                batches.push(ProducedBatch { bytes, header });
            }
        }
        if batches.is_empty() {
            self.publish(outside);
            return Ok(());
        }
        let now_ms = outside.now_ms;
        let mut outcomes = Vec::with_capacity(batches.len());
        let result = self.log.append(batches, epoch, now_ms, &mut outcomes);
        let sure_at = match !self.is_alone && outcomes.iter().any(rests_on_leading) {
            true => self.prove_leading(outside, epoch)?,
            false => Some(0),
        };
        let mut acks = acks.into_iter();
        // The outcomes lead: they are fewer after an error, and no sink may be taken without one.
        for (outcome, ack) in outcomes.into_iter().zip(acks.by_ref()) {
            self.settle(ack, outcome, sure_at, outside);
        }
        self.note_full(matches!(result, Err(AppendError::StorageFull)));
        let fault = match result {
            Ok(()) => None,
            Err(error) => {
                let refusal = errors::from_append(&self.partition, &error);
                for ack in acks {
                    self.refuse(ack, refusal.clone(), outside.elapsed_ms);
                }
                self.fault_of(error)
            }
        };
        let end = self.log.log_end_offset();
        self.step(outside, Input::Written { end }, Vec::new())?;
        fault.map_or(Ok(()), Err)
    }

    /// Why nothing can be changed here.
    pub(super) fn leads_not(&self) -> WireError {
        match (self.log.damage(), &self.replica) {
            (Some(damage), None) => {
                errors::from_append(&self.partition, &AppendError::Damaged(damage))
            }
            _ => errors::not_leading(&self.name()),
        }
    }

    /// Whether what was appended has waited for other replicas for too long: nothing more is taken then.
    pub(super) fn is_starved(&self, outside: &Outside<'_>) -> bool {
        self.starved_since.is_some()
            || self.pending.front().is_some_and(|oldest| {
                oldest.visible_at > 0 && oldest.since_ms + COMMIT_PATIENCE_MS <= outside.elapsed_ms
            })
    }

    /// Tells who has waited for too long that too few replicas answer. It may be committed yet: who sends it
    /// again is told so, once it is.
    fn give_up_waiting(&mut self, outside: &Outside<'_>) {
        self.give_up_deletions(outside);
        let Some(replica) = &self.replica else { return };
        let is_behind = replica.high_watermark() < self.log.log_end_offset();
        if !is_behind {
            self.starved_since = None;
        } else if self.starved_since.is_none() && self.is_starved(outside) {
            tracing::error!(
                partition = self.name(),
                "too few replicas answer; writes are refused"
            );
            self.starved_since = Some(replica.high_watermark());
            self.refuse_all(&errors::not_enough_replicas(&self.name()));
        }
    }

    /// Says so when the disk has become full, or has room again.
    pub(super) fn note_full(&mut self, full: bool) {
        if full == std::mem::replace(&mut self.full, full) {
            return;
        }
        match full {
            true => tracing::error!(
                partition = self.name(),
                "the disk is full; writes are refused"
            ),
            false => tracing::info!(partition = self.name(), "there is room on the disk again"),
        }
    }

    /// A refusal that [rests on leading](rests_on_leading) is told once all below `sure_at` is committed.
    fn settle(
        &mut self,
        ack: AckSink,
        outcome: AppendOutcome,
        sure_at: Option<Offset>,
        outside: &Outside<'_>,
    ) {
        let is_sure = !rests_on_leading(&outcome);
        let (appended_at_ms, since_ms) = (outside.now_ms, outside.elapsed_ms);
        match outcome {
            // A duplicate may be of a batch that still waits for its flush: it is not acknowledged before
            // what it repeats.
            AppendOutcome::Appended {
                base_offset,
                next_offset,
            }
            | AppendOutcome::Duplicate {
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
                    since_ms,
                });
            }
            AppendOutcome::Rejected(error) => {
                let refusal = errors::from_reject(&self.partition, &error);
                match sure_at {
                    _ if is_sure => self.refuse(ack, refusal, since_ms),
                    Some(sure_at) => self.refuse_at(sure_at, ack, refusal, since_ms),
                    None => {
                        let refusal = errors::leads_perhaps(&self.name());
                        self.refuse(ack, refusal, since_ms);
                    }
                }
            }
        }
    }

    /// Tells an error in its place: behind the acknowledgements that still wait.
    fn refuse(&mut self, ack: AckSink, error: WireError, since_ms: u64) {
        self.refuse_at(0, ack, error, since_ms);
    }

    /// The same, once everything below an offset is committed; that this is not so is told otherwise.
    fn refuse_at(&mut self, visible_at: Offset, ack: AckSink, error: WireError, since_ms: u64) {
        if ack.has_failed() {
            return;
        }
        ack.mark_failed();
        self.pending.push_back(Pending {
            visible_at,
            result: Err(error),
            ack,
            since_ms,
        });
    }

    /// Appends another `EpochStart`, and returns where it ends, unless the disk is full: once it is committed, this
    /// broker has led when it was appended.
    fn prove_leading(
        &mut self,
        outside: &Outside<'_>,
        epoch: LeaderEpoch,
    ) -> Result<Option<Offset>, Fault> {
        let before = self.log.log_end_offset();
        match self.write_epoch_start(epoch, outside.now_ms) {
            Ok(()) => {}
            Err(Trouble::Damaged(reason)) => self.damaged(outside, &reason),
            Err(Trouble::Fault(fault)) => return Err(fault),
        }
        let end = self.log.log_end_offset();
        Ok((end > before).then_some(end))
    }

    /// What the broker must not survive of an error: a storage that failed.
    fn fault_of(&mut self, error: AppendError) -> Option<Fault> {
        match error {
            AppendError::Poisoned(failure) => Some(self.fail(failure.to_string())),
            AppendError::StorageFull
            | AppendError::Damaged(_)
            | AppendError::StaleEpoch { .. }
            | AppendError::NotContiguous { .. }
            | AppendError::Batch(_) => None,
        }
    }

    /// The storage failed for good.
    pub(super) fn fail(&mut self, reason: String) -> Fault {
        self.failed = true;
        Fault::Storage {
            partition: self.name(),
            reason,
        }
    }

    /// Tells everybody who waits for the high watermark that it does not come.
    pub(super) fn refuse_all(&mut self, error: &WireError) {
        for pending in std::mem::take(&mut self.pending) {
            let Pending {
                visible_at,
                result,
                ack,
                ..
            } = pending;
            let result = match result {
                // What is known to have failed keeps its own reason.
                Err(own) if visible_at == 0 => Err(own),
                Ok(_) | Err(_) => Err(error.clone()),
            };
            ack.mark_failed();
            ack.send(result);
        }
        for deletion in std::mem::take(&mut self.deletions) {
            deletion.refuse(error.clone());
        }
    }

    pub(super) fn name(&self) -> String {
        self.partition.name()
    }

    /// The flush to start now, if one is waited for and none is under way.
    pub(crate) fn next_flush(&mut self) -> Option<FlushTicket> {
        let replica = self.replica.as_ref()?;
        match self.durability {
            Durability::Relaxed if !replica.wants_flush() => None,
            Durability::Relaxed | Durability::Sync => self.background_flush(),
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
    pub(crate) fn flushed(
        &mut self,
        outside: &Outside<'_>,
        outcome: Result<Flushed, FlushError>,
    ) -> Result<(), Fault> {
        if let Err(error) = self.log.flushed(outcome) {
            return Err(self.fail(error.to_string()));
        }
        let offset = self.log.flushed_offset();
        self.step(outside, Input::Flushed { offset }, Vec::new())
    }

    pub(crate) fn configure(&mut self, config: TopicConfig) {
        self.durability = config.durability;
        self.log.set_config(crate::storage::log_config(&config));
        *self.partition.shared.config.lock() = config;
    }

    /// The last sequence of a worker's producer in the log.
    pub(crate) fn last_sequence(&self, producer_id: ProducerId) -> Option<u32> {
        self.log.last_worker_sequence(producer_id)
    }

    /// Records have outlived their retention. Replicas compare logs where batches begin.
    fn retained(&mut self, outside: &Outside<'_>) -> Result<(), Fault> {
        let start = self.log.start_border();
        self.step(outside, Input::Retained { start }, Vec::new())
    }

    /// Deletes the files. Readers are told that nothing more will come.
    pub(crate) fn remove(mut self, why: Closed) {
        self.partition.shared.rewritten();
        self.refuse_all(&errors::closed(&self.name(), why));
        self.partition
            .shared
            .visible
            .send_modify(|visible| visible.closed = Some(why));
        let name = self.name();
        if let Err(error) = self.log.delete_all() {
            tracing::error!(partition = name, %error, "files of a removed replica remain");
        }
    }

    /// Retention and compaction, as they fall due.
    pub(crate) fn maintain(&mut self, outside: &Outside<'_>, writer: &Writer) -> Result<(), Fault> {
        if self.failed || self.replica.is_none() {
            return Ok(());
        }
        self.give_up_waiting(outside);
        self.is_whole = self.followers_keep_up();
        let now_ms = outside.now_ms;
        let high_watermark = self.partition.visible().high_watermark;
        if let Some(plan) = self.log.plan_retention(high_watermark, now_ms) {
            match self.log.apply_retention(plan, now_ms) {
                Ok(_) => {
                    self.retained(outside)?;
                }
                Err(ChangeError::Poisoned(failure)) => return Err(self.fail(failure.to_string())),
                Err(error) => tracing::error!(partition = %self.name(), %error, "retention failed"),
            }
        }
        if let Some(plan) = self.log.plan_compaction(high_watermark, now_ms)
            && let Some(task) = self.log.compaction_task(plan, now_ms)
        {
            let (writer, partition) = (writer.clone(), self.id());
            let run = async move {
                // The writer that is gone needs no result: leftovers are cleaned at the next open.
                let _ = writer.send(WriterCommand::Compacted {
                    partition,
                    outcome: task.run(),
                });
            };
            if let Err(error) = outside.offload.host("compaction", run) {
                tracing::error!(%error, "cannot start a compaction");
            }
        }
        self.step(outside, Input::Remember, Vec::new())
    }

    /// A compaction has ended: its segments take the place of the old.
    pub(crate) fn compacted(
        &mut self,
        outside: &Outside<'_>,
        outcome: Result<Compacted, CompactionError>,
    ) {
        if let Ok(compacted) = &outcome {
            // Told before it happens: whoever reads the log without them finds it told.
            let gone_until = compacted.tombstones_gone_until();
            self.tombstones_gone_until = self.tombstones_gone_until.max(gone_until);
            self.publish(outside);
        }
        match self.log.install_compaction(outcome) {
            Ok(report) => tracing::debug!(partition = %self.name(), ?report, "compacted"),
            Err(error) => {
                tracing::error!(partition = %self.name(), %error, "compaction failed; the log is as it was")
            }
        }
        self.publish(outside);
    }

    /// Flushes, tells what waits, notes what is committed, and closes the log cleanly. No flush may be
    /// under way.
    pub(crate) fn close(mut self, outside: &Outside<'_>) -> Result<(), Fault> {
        if self.failed {
            return Ok(());
        }
        if let Some(ticket) = self.log.flush_ticket() {
            self.flushed(outside, ticket.run())?;
        }
        self.step(outside, Input::Remember, Vec::new())?;
        let partition = self.name();
        self.log.close().map_err(|error| Fault::Storage {
            partition,
            reason: error.to_string(),
        })
    }

    /// Makes visible what may be seen, and acknowledges what it covers.
    pub(crate) fn publish(&mut self, outside: &Outside<'_>) {
        let damage = self.log.damage();
        if let Some(damage) = &damage
            && !self.is_alone
        {
            // Others have what is damaged here.
            self.damaged(outside, &damage.to_string());
        }
        let replica = self.replica.as_ref();
        let committed = replica.map_or(self.readable_until, Replica::high_watermark);
        let standing = match replica {
            None if self.is_alone => Standing::ReadOnly,
            Some(replica) if replica.is_settled() => {
                let leading = replica.leading().map(Standing::Leading);
                leading.unwrap_or(Standing::Following)
            }
            None | Some(_) => Standing::Following,
        };
        let hidden = replica.map_or(0, Replica::hidden);
        let log_start_offset = self.log.log_start_offset().max(hidden);
        let state = match replica.map(Replica::durable) {
            Some(durable) if durable.trusted => ReplicaState::Trusted,
            Some(_) => ReplicaState::Untrusted,
            None => ReplicaState::Damaged,
        };
        self.tell_leads(outside, standing);
        // It moves again.
        if self
            .starved_since
            .is_some_and(|stood_at| stood_at < committed)
        {
            self.starved_since = None;
            tracing::info!(partition = self.name(), "enough replicas answer again");
        }
        let shared = &self.partition.shared;
        *shared.status.lock() = LogStatus {
            log_end_offset: self.log.log_end_offset(),
            flushed_offset: self.log.flushed_offset(),
            size_bytes: self.log.size_bytes(),
            tombstones_gone_until: self.tombstones_gone_until,
            damage: damage.map(|damage| damage.to_string()),
        };
        let mut high_watermark = committed;
        shared.visible.send_if_modified(|visible| {
            high_watermark = visible.high_watermark.max(committed);
            let next = Visible {
                high_watermark,
                log_start_offset,
                standing,
                replica: state,
                is_alone: self.is_alone,
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
        self.answer_deletions(log_start_offset);
    }

    /// Whether every follower answers, counts, and lacks little.
    fn followers_keep_up(&self) -> bool {
        let end = self.log.log_end_offset();
        let keeps_up = |it: FollowerStatus| {
            it.trusted && !it.silent && end.saturating_sub(it.verified) <= WHOLE_LAG
        };
        let replica = self.replica.as_ref();
        replica.is_some_and(|replica| replica.followers().all(keeps_up))
    }

    /// Tells what it leads, if that is news.
    fn tell_leads(&mut self, outside: &Outside<'_>, standing: Standing) {
        let leads = match standing {
            Standing::Leading(epoch) => {
                self.is_whole = self.is_whole && self.followers_keep_up();
                let is_whole = self.is_whole;
                Some(Leads { epoch, is_whole })
            }
            Standing::Following | Standing::ReadOnly => None,
        };
        if leads != self.told {
            self.told = leads;
            outside.tell(ReplicaEvent::Leads {
                partition: self.id(),
                leads,
            });
        }
    }
}

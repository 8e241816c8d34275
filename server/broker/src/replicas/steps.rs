//! Doing what a replica's core says, and telling it what came of it.

use std::sync::Arc;

use bytes::BytesMut;
use millstream_log::{AppendError, ChangeError, ProducedBatch, RestartError};
use millstream_peer::Entries;
use millstream_protocol::batch::{BatchHeader, epoch_start};
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};
use millstream_replication::{BrokerId, Deposition, Effect, Input, Message, Position};

use super::ReplicaEvent;
use super::actor::{Actor, Fault};
use super::entries::SharedEntries;
use super::state::State;
use crate::errors;
use crate::flusher::FlushJob;
use crate::writer::Outside;

/// What an effect has done to the log.
enum Done {
    Nothing,
    /// Its end is to be told.
    Written,
    /// There was no room to begin it anew.
    NotRestarted,
}

/// Why a step could not be done.
pub(super) enum Trouble {
    /// The broker must not survive it.
    Fault(Fault),
    /// The log is not what it was: the replica takes part no more.
    Damaged(String),
}

impl Actor {
    /// Gives the core an input, does what it says, and makes visible what came of it. `batches` are
    /// the entries of a message's span.
    pub(crate) fn step(
        &mut self,
        outside: &Outside<'_>,
        input: Input,
        batches: Vec<ProducedBatch>,
    ) -> Result<(), Fault> {
        let stepped = self.try_step(outside, input, batches);
        self.after(outside, stepped)
    }

    /// Does what the core has said already.
    pub(crate) fn begin(&mut self, outside: &Outside<'_>) -> Result<(), Fault> {
        let performed = self.perform(outside, Vec::new());
        self.after(outside, performed)
    }

    fn after(&mut self, outside: &Outside<'_>, stepped: Result<(), Trouble>) -> Result<(), Fault> {
        let outcome = match stepped {
            Ok(()) => Ok(()),
            Err(Trouble::Fault(fault)) => Err(fault),
            Err(Trouble::Damaged(reason)) => {
                self.damaged(outside, &reason);
                Ok(())
            }
        };
        self.publish(outside);
        outcome
    }

    fn try_step(
        &mut self,
        outside: &Outside<'_>,
        input: Input,
        batches: Vec<ProducedBatch>,
    ) -> Result<(), Trouble> {
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        replica.step(outside.elapsed_ms, input, &mut self.effects);
        self.perform(outside, batches)
    }

    fn perform(
        &mut self,
        outside: &Outside<'_>,
        mut batches: Vec<ProducedBatch>,
    ) -> Result<(), Trouble> {
        loop {
            let (mut wrote, mut restarts) = (false, true);
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                match self.effect(outside, effect, &mut batches)? {
                    Done::Nothing => {}
                    Done::Written => wrote = true,
                    Done::NotRestarted => {
                        restarts = false;
                        break;
                    }
                }
            }
            self.effects = effects;
            let (end, flushed) = (self.log.log_end_offset(), self.log.flushed_offset());
            let Some(replica) = &mut self.replica else {
                return Ok(());
            };
            if wrote || !restarts {
                let input = match restarts {
                    true => Input::Written { end },
                    false => Input::NotRestarted,
                };
                replica.step(outside.elapsed_ms, input, &mut self.effects);
                continue;
            }
            // What was written in place, or cut, may be on the disk already.
            if flushed > replica.log().flushed() {
                let input = Input::Flushed { offset: flushed };
                replica.step(outside.elapsed_ms, input, &mut self.effects);
            }
            let forgotten = self.forget(outside)?;
            if let (Some(input), Some(replica)) = (forgotten, &mut self.replica) {
                replica.step(outside.elapsed_ms, input, &mut self.effects);
            }
            if self.effects.is_empty() {
                return Ok(());
            }
        }
    }

    fn effect(
        &mut self,
        outside: &Outside<'_>,
        effect: Effect,
        batches: &mut Vec<ProducedBatch>,
    ) -> Result<Done, Trouble> {
        let partition = self.id();
        match effect {
            Effect::Persist(durable) => {
                let state = State::Replica(durable);
                // A flusher that is gone has gone with the broker.
                let _ = outside.flusher.send(FlushJob::Promise { partition, state });
            }
            Effect::Truncate { to } => self.cut(to)?,
            Effect::Restart { at } => return self.begin_at(at, outside.now_ms),
            Effect::Write { from } => {
                let mut wanted = std::mem::take(batches);
                wanted.retain(|batch| batch.header.base_offset >= from);
                self.write_as_follower(wanted, outside.now_ms)?;
                return Ok(Done::Written);
            }
            Effect::WriteEpochStart { epoch } => {
                self.write_epoch_start(epoch, outside.now_ms)?;
                return Ok(Done::Written);
            }
            Effect::Send { to, message } => self.send(outside, to, message),
            Effect::Activated { epoch } => {
                tracing::info!(partition = self.name(), epoch, "leads");
            }
            Effect::Deposed { epoch, reason } => self.deposed(epoch, reason),
            Effect::Finalise { epoch, version } => outside.tell(ReplicaEvent::Complete {
                partition,
                epoch,
                version,
            }),
            Effect::Refused { from, reason } => {
                tracing::warn!(
                    partition = self.name(),
                    broker = from,
                    "a message is ignored: {reason}"
                );
            }
        }
        Ok(Done::Nothing)
    }

    /// Cuts the log's end off. Readers that send it to others find that it is another one.
    fn cut(&mut self, to: Offset) -> Result<(), Trouble> {
        let from = self.log.log_end_offset();
        self.partition.shared.rewritten();
        let end = match self.log.truncate(to) {
            Ok(end) => end,
            Err(ChangeError::Damaged(damage)) => return Err(Trouble::Damaged(damage.to_string())),
            Err(error) => return Err(Trouble::Fault(self.fail(error.to_string()))),
        };
        if let Some(damage) = self.log.damage() {
            return Err(Trouble::Damaged(damage.to_string()));
        }
        if end != to {
            return Err(Trouble::Damaged(format!("no batch ends at offset {to}")));
        }
        tracing::info!(
            partition = self.name(),
            from,
            to,
            "cut off what was never committed"
        );
        Ok(())
    }

    /// Throws the log away, and begins one where the leader's begins.
    fn begin_at(&mut self, at: Position, now_ms: TimestampMs) -> Result<Done, Trouble> {
        let known = self.producers.take();
        let known = known.filter(|(known, _)| *known == at.offset);
        let Some((_, producers)) = known else {
            let reason = format!("nothing is known of its producers at offset {}", at.offset);
            return Err(Trouble::Damaged(reason));
        };
        self.partition.shared.rewritten();
        match self.log.restart(at.offset, at.epoch, &producers, now_ms) {
            Ok(()) => {
                tracing::info!(
                    partition = self.name(),
                    from = at.offset,
                    "its log begins anew where the leader's begins"
                );
                Ok(Done::Written)
            }
            // It is tried again, with what the leader sends again.
            Err(RestartError::Log(ChangeError::StorageFull)) => {
                self.note_full(true);
                Ok(Done::NotRestarted)
            }
            Err(RestartError::Log(ChangeError::Poisoned(failure))) => {
                Err(Trouble::Fault(self.fail(failure.to_string())))
            }
            Err(error) => Err(Trouble::Damaged(error.to_string())),
        }
    }

    fn write_as_follower(
        &mut self,
        batches: Vec<ProducedBatch>,
        now_ms: TimestampMs,
    ) -> Result<(), Trouble> {
        let appended = self.log.append_as_follower(batches, now_ms);
        let full = matches!(appended, Err(AppendError::StorageFull));
        self.note_full(full);
        match appended {
            Ok(_) | Err(AppendError::StorageFull) => Ok(()),
            Err(AppendError::Damaged(damage)) => Err(Trouble::Damaged(damage.to_string())),
            Err(AppendError::Poisoned(failure)) => {
                Err(Trouble::Fault(self.fail(failure.to_string())))
            }
            // The batches are not what was said of them: what was written of them is told.
            Err(
                error @ (AppendError::StaleEpoch { .. }
                | AppendError::NotContiguous { .. }
                | AppendError::Batch(_)),
            ) => {
                tracing::error!(partition = self.name(), %error, "a leader's entries do not follow");
                Ok(())
            }
        }
    }

    /// Appends what begins an epoch. Where the disk is full, nothing is.
    pub(super) fn write_epoch_start(
        &mut self,
        epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Result<(), Trouble> {
        let internal = |error: &dyn std::fmt::Display| Fault::Storage {
            partition: self.name(),
            reason: error.to_string(),
        };
        let bytes = epoch_start(now_ms).map_err(|error| Trouble::Fault(internal(&error)))?;
        let header =
            BatchHeader::parse(&bytes).map_err(|error| Trouble::Fault(internal(&error)))?;
        let batch = ProducedBatch {
            bytes: BytesMut::from(bytes),
            header,
        };
        let appended = self.log.append(vec![batch], epoch, now_ms, &mut Vec::new());
        self.note_full(matches!(appended, Err(AppendError::StorageFull)));
        match appended {
            Ok(()) | Err(AppendError::StorageFull) => Ok(()),
            Err(AppendError::Damaged(damage)) => Err(Trouble::Damaged(damage.to_string())),
            Err(error) => Err(Trouble::Fault(self.fail(error.to_string()))),
        }
    }

    fn send(&self, outside: &Outside<'_>, to: BrokerId, message: Message) {
        let Some(links) = outside.links else { return };
        let entries = match &message {
            Message::Append { span, .. } | Message::Fetched { span, .. }
                if span.until > span.prev.offset =>
            {
                let entries = SharedEntries::new(&self.partition);
                Some(Arc::new(entries) as Arc<dyn Entries>)
            }
            _ => None,
        };
        links.send(to, self.id(), message, entries);
    }

    /// It leads no longer: what waits for the high watermark is not known to be committed.
    fn deposed(&mut self, epoch: LeaderEpoch, reason: Deposition) {
        let reason = match reason {
            Deposition::Promised(newer) => format!("it has promised epoch {newer}"),
            Deposition::Appointed(newer) => format!("epoch {newer} was decided"),
            Deposition::NotWritten => "it could not write".to_owned(),
        };
        tracing::info!(partition = self.name(), epoch, reason, "leads no longer");
        let error = errors::not_leading(&self.name());
        self.refuse_all(&error);
    }

    pub(super) fn damaged(&mut self, outside: &Outside<'_>, reason: &str) {
        self.effects.clear();
        self.partition.shared.rewritten();
        let Some(replica) = self.replica.take() else {
            return;
        };
        tracing::error!(
            partition = self.name(),
            reason,
            "the replica is damaged, and takes part no more"
        );
        self.refuse_all(&errors::not_leading(&self.name()));
        outside.tell(ReplicaEvent::Damaged {
            partition: self.id(),
            directory: replica.durable().directory,
        });
    }
}

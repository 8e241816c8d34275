//! A worker's journal on its partition: read back, appended to, and what it says sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::api::topic::{Cleanup, Durability, TopicConfig};
use millstream_protocol::batch::{BatchHeader, sequence_after};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{
    ErrorCode, FIRST_WORKER_PRODUCER_ID, LeaderEpoch, Offset, TimestampMs, TopicPartition,
    WireError,
};
use millstream_state::{StandsFor, States, Store};
use millstream_worker::{Commit, CommitBuilder, CommitError, Journal, Sending};
use tokio::sync::mpsc::error::TryRecvError;

use crate::controller::Controller;
use crate::errors;
use crate::leaders::Leaders;
use crate::partition::Partition;
use crate::workers::outlets::{Lanes, Outcome, Target, outcome_of};
use crate::workers::state::read_back;

/// The settings of a topic with journals.
pub(crate) fn topic_config(durability: Durability) -> TopicConfig {
    TopicConfig {
        durability,
        cleanup: Cleanup::Compact,
        retention_ms: None,
        retention_bytes: None,
        max_batch_bytes: MAX_BATCH_BYTES as u32,
        segment_bytes: 32 << 20,
        ..TopicConfig::default()
    }
}

/// A commit that could not be put together.
pub(crate) fn refused(error: &CommitError) -> WireError {
    WireError::new(ErrorCode::Internal, error.to_string())
}

/// A commit whose outputs are on their way.
struct OnTheWay {
    commit: u64,
    /// Where it lies in the journal, or before that.
    journal_offset: Offset,
    /// The next input offset before it.
    offset: Offset,
    /// Parked records that are done with it.
    released: usize,
    acks: Vec<(TopicPartition, Outcome)>,
}

/// A worker's journal. After an error it is of no use any more: open it again.
pub(crate) struct WorkerJournal {
    partition: Partition,
    /// This broker leads the journal in this epoch. In a later one others may have written into it.
    epoch: LeaderEpoch,
    journal: Journal,
    on_the_way: VecDeque<OnTheWay>,
    lanes: Lanes,
    /// Where the partition ends.
    end_offset: Offset,
    /// Bytes of commits since it was opened.
    appended_bytes: u64,
}

impl WorkerJournal {
    /// Reads a journal back, with its guest's state, and sends what may not have arrived. A new one
    /// begins at `start`.
    ///
    /// # Errors
    ///
    /// This broker does not lead it (yet): its worker is on another one, or follows soon.
    pub(crate) async fn open(
        partition: Partition,
        leaders: &Arc<Leaders>,
        controller: &Controller,
        (states, limit_bytes): (Arc<States>, u64),
        start: Offset,
    ) -> Result<(Self, Store), WireError> {
        let epoch = partition.leading().ok_or_else(|| {
            let why = format!(
                "this broker does not lead the journal {} yet",
                partition.name()
            );
            WireError::new(ErrorCode::NotReady, why)
        })?;
        let reading = partition.clone();
        let read = move || read_back(&states, &reading, limit_bytes, start);
        let read = millstream_offload::run(read).await;
        let read = read.map_err(errors::unfinished)??;
        let (journal, sendings) = match read.journal {
            Some(recovered) => recovered,
            None => {
                let id = FIRST_WORKER_PRODUCER_ID | controller.next_producer_id().await?;
                (Journal::new(id, start), Vec::new())
            }
        };
        let mut opened = Self {
            partition,
            epoch,
            journal,
            on_the_way: VecDeque::new(),
            lanes: Lanes::new(Arc::clone(leaders)),
            end_offset: read.end_offset,
            appended_bytes: 0,
        };
        for sending in sendings {
            opened.send(sending, read.replayed_from, (start, 0))?;
        }
        Ok((opened, read.store))
    }

    /// Of these output partitions, those that have outputs of which it is not known what came of their
    /// commit, and the sequence that follows there.
    pub(crate) async fn in_doubt(
        &self,
        leaders: &Leaders,
        outputs: impl Iterator<Item = &Target>,
    ) -> Result<BTreeMap<TopicPartition, u32>, WireError> {
        let mut in_doubt = BTreeMap::new();
        let producer_id = self.journal.direct_producer_id();
        for target in outputs {
            if let Some(last) = leaders.last_sequence(target.id(), producer_id).await? {
                in_doubt.insert(target.id(), sequence_after(last, 1));
            }
        }
        self.settle_doubts(&mut in_doubt);
        Ok(in_doubt)
    }

    /// Forgets those doubts that a commit has settled.
    pub(crate) fn settle_doubts(&self, in_doubt: &mut BTreeMap<TopicPartition, u32>) {
        in_doubt.retain(|target, next| {
            // Sequences run around at 2^31.
            let ahead = next.wrapping_sub(self.journal.direct_sequence(target)) & (u32::MAX >> 1);
            (1..1 << 30).contains(&ahead)
        });
    }

    /// What it says.
    pub(crate) fn core(&self) -> &Journal {
        &self.journal
    }

    /// The moment that the guest's state is that of when all commits are in it.
    pub(crate) fn stands_for(&self) -> StandsFor {
        StandsFor {
            journal_offset: self.end_offset,
            input_offset: self.journal.next_offset(),
        }
    }

    /// From where on the journal holds all outputs that may not have arrived.
    pub(crate) fn replay_from(&self) -> Offset {
        let oldest = self.on_the_way.front();
        oldest.map_or(self.end_offset, |oldest| oldest.journal_offset)
    }

    /// Bytes of commits since it was opened.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// The next commit.
    pub(crate) fn commit(&self, now_ms: TimestampMs) -> CommitBuilder<'_> {
        CommitBuilder::new(&self.journal, now_ms)
    }

    /// Makes a commit count: waits until it is durable, and sends its outputs.
    pub(crate) async fn append(&mut self, commit: Commit) -> Result<(), WireError> {
        let mut commit = commit;
        let batch = std::mem::take(&mut commit.batch);
        let header = BatchHeader::parse(&batch).map_err(errors::from_batch)?;
        let batch_bytes = batch.len() as u64;
        let appended = self.partition.append_and_wait(batch, self.epoch).await?;
        self.end_offset = appended.base_offset + u64::from(header.record_count);
        self.appended_bytes += batch_bytes;
        let (offset, released) = (self.journal.next_offset(), commit.released());
        let sending = self.journal.committed(commit);
        if sending.outputs.is_empty() {
            return Ok(());
        }
        self.send(sending, appended.base_offset, (offset, released))
    }

    /// Sends outputs without the journal, and waits until all are acknowledged.
    pub(crate) async fn send_directly(
        &mut self,
        outputs: Vec<(Target, Bytes)>,
    ) -> Result<(), WireError> {
        let mut waiting = Vec::with_capacity(outputs.len());
        for (target, batch) in outputs {
            let outcome = self.lanes.send(target.id(), batch)?;
            waiting.extend(outcome.map(|outcome| (target.id(), outcome)));
        }
        for (target, mut outcome) in waiting {
            outcome_of(target, &mut outcome).await?;
        }
        Ok(())
    }

    /// The next input offset of which all outputs have arrived.
    pub(crate) fn arrived_offset(&self) -> Offset {
        let oldest = self.on_the_way.front();
        oldest.map_or(self.journal.next_offset(), |oldest| oldest.offset)
    }

    /// Parked records that are not done, or of which an output may not have arrived.
    pub(crate) fn parked(&self) -> usize {
        let on_the_way = self.on_the_way.iter().map(|it| it.released);
        self.journal.parked().len() + on_the_way.sum::<usize>()
    }

    /// Notes what has arrived, without waiting.
    pub(crate) fn look(&mut self) -> Result<(), WireError> {
        while let Some(oldest) = self.on_the_way.front_mut() {
            while let Some((target, ack)) = oldest.acks.last_mut() {
                match ack.try_recv() {
                    Ok(outcome) => {
                        outcome.map_err(|error| errors::at(&target.to_string(), error))?;
                    }
                    Err(TryRecvError::Empty) => return Ok(()),
                    Err(TryRecvError::Disconnected) => return Err(errors::shutting_down()),
                }
                oldest.acks.pop();
            }
            self.oldest_arrived();
        }
        Ok(())
    }

    /// Waits until the outputs of the oldest commit on its way have arrived; for ever when there is
    /// none. Cancel-safe.
    pub(crate) async fn settle_oldest(&mut self) -> Result<(), WireError> {
        let Some(oldest) = self.on_the_way.front_mut() else {
            return std::future::pending().await;
        };
        while let Some((target, ack)) = oldest.acks.last_mut() {
            outcome_of(*target, ack).await?;
            oldest.acks.pop();
        }
        self.oldest_arrived();
        Ok(())
    }

    fn oldest_arrived(&mut self) {
        if let Some(oldest) = self.on_the_way.pop_front() {
            self.journal.settled(oldest.commit);
        }
    }

    /// Waits until there is room for another commit.
    pub(crate) async fn make_room(&mut self) -> Result<(), WireError> {
        while !self.journal.has_room() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Waits until everything has arrived.
    pub(crate) async fn settle_all(&mut self) -> Result<(), WireError> {
        while !self.on_the_way.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        sending: Sending,
        journal_offset: Offset,
        (offset, released): (Offset, usize),
    ) -> Result<(), WireError> {
        let mut acks = Vec::with_capacity(sending.outputs.len());
        for output in sending.outputs {
            // A topic that was deleted takes what was meant for it along: one that an earlier revision
            // wrote, or that this one did while it was a shadow. Mostly it has arrived there before:
            // what the last commit held is sent again whenever a worker begins.
            match self.lanes.send(output.target, output.batch)? {
                Some(outcome) => acks.push((output.target, outcome)),
                None => {
                    tracing::debug!(partition = %output.target, "outputs for a deleted topic are not sent");
                }
            }
        }
        self.on_the_way.push_back(OnTheWay {
            commit: sending.commit,
            journal_offset,
            offset,
            released,
            acks,
        });
        Ok(())
    }
}

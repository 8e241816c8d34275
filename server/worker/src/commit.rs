//! One step of a worker.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millstream_protocol::api::plugin::TimerClock;
use millstream_protocol::batch::{
    AppendError, BatchBuilder, BatchError, Compression, ProducerStamp, sequence_after,
};
use millstream_protocol::{Offset, TimestampMs, TopicPartition};

use crate::journal::Journal;
use crate::limits::{MAX_COMMIT_BYTES, MAX_TIMER_BYTES, MAX_TIMERS, OUTPUT_PIECE_BYTES};
use crate::parked::ParkedRecord;
use crate::record::{
    Lane, LetterPlace, Position, encode_letter_place, encode_outputs, encode_parked, encode_timer,
    handed_back_key, parked_key, piece_key, piece_prefix, position_key, sequence_key, state_key,
    timer_key, writer_key,
};
use crate::timers::{OVERHEAD_BYTES, Timer, TimerId};
use crate::writer::StateWriter;

/// A batch for an output partition, stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputBatch {
    /// Where it goes.
    pub target: TopicPartition,
    /// The whole batch.
    pub batch: Bytes,
}

/// The outputs of a commit that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The commit.
    pub commit: u64,
    /// Its outputs, in the order in which they are to be appended.
    pub outputs: Vec<OutputBatch>,
}

/// A commit, ready to be appended to the journal.
#[derive(Debug)]
pub struct Commit {
    /// What is appended, all of it or nothing.
    pub batch: BytesMut,
    /// What is sent, and has arrived, before that.
    pub direct: Vec<OutputBatch>,
    pub(crate) position: Position,
    pub(crate) sequences: BTreeMap<(Lane, TopicPartition), u32>,
    pub(crate) parked: Vec<(Offset, Option<ParkedRecord>)>,
    pub(crate) timers: BTreeMap<TimerId, Option<Timer>>,
    pub(crate) writer: Option<StateWriter>,
    pub(crate) handed_back: Option<(TopicPartition, LetterPlace)>,
    pub(crate) outputs: Vec<OutputBatch>,
}

impl Commit {
    /// How many parked records are done with it.
    pub fn released(&self) -> usize {
        let parked = self.parked.iter();
        parked.filter(|(_, parked)| parked.is_none()).count()
    }
}

/// Why a turn does not make a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It is larger than a batch of the journal may be: take fewer records in one turn.
    #[error("its outputs and changes of state take more than {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// An output or a change of state cannot be written.
    #[error("it cannot be written to the journal: {0}")]
    Unwritable(String),
}

impl From<BatchError> for CommitError {
    fn from(error: BatchError) -> Self {
        Self::Unwritable(error.to_string())
    }
}

/// Puts a commit together.
#[derive(Debug)]
pub struct CommitBuilder<'a> {
    journal: &'a Journal,
    now_ms: TimestampMs,
    batch: BatchBuilder,
    position: Position,
    sequences: BTreeMap<(Lane, TopicPartition), u32>,
    direct: Vec<OutputBatch>,
    parked: Vec<(Offset, Option<ParkedRecord>)>,
    timers: BTreeMap<TimerId, Option<Timer>>,
    writer: Option<StateWriter>,
    handed_back: Option<(TopicPartition, LetterPlace)>,
    outputs: Vec<OutputBatch>,
    output_bytes: usize,
}

impl<'a> CommitBuilder<'a> {
    /// The next commit of a journal, which changes nothing yet.
    pub fn new(journal: &'a Journal, now_ms: TimestampMs) -> Self {
        let mut position = journal.position;
        position.commit += 1;
        Self {
            journal,
            now_ms,
            batch: BatchBuilder::new(Compression::None, MAX_COMMIT_BYTES),
            position,
            sequences: BTreeMap::new(),
            direct: Vec::new(),
            parked: Vec::new(),
            timers: BTreeMap::new(),
            writer: None,
            handed_back: None,
            outputs: Vec::new(),
            output_bytes: 0,
        }
    }

    /// Input records below `next_offset` are done, or parked.
    pub fn advance_to(&mut self, next_offset: Offset) {
        self.position.next_offset = next_offset;
    }

    /// The worker is at the first record of a partition again, as far as its clock of the records
    /// goes.
    pub fn forget_record_time(&mut self) {
        self.position.record_time_ms = TimestampMs::MIN;
    }

    /// Records up to this timestamp are done, or parked.
    pub fn reach(&mut self, record_time_ms: TimestampMs) {
        self.position.record_time_ms = self.position.record_time_ms.max(record_time_ms);
    }

    /// Notes what the group knows, or is to be told next.
    pub fn note_group_offset(&mut self, offset: Offset) {
        self.position.group_offset = offset;
    }

    /// A batch goes to an output partition.
    ///
    /// # Errors
    ///
    /// [`CommitError::TooLarge`]: what is in this commit does not fit into one.
    pub fn emit(&mut self, target: TopicPartition, batch: BatchBuilder) -> Result<(), CommitError> {
        let output = self.stamp(Lane::Journal, target, batch)?;
        self.output_bytes += output.batch.len();
        if self.output_bytes > MAX_COMMIT_BYTES {
            return Err(too_large());
        }
        self.outputs.push(output);
        Ok(())
    }

    /// A batch that goes to an output partition before this commit is made, and is not kept in it.
    /// After a crash it must be emitted again as it was, batch by batch, with the first commit that
    /// is made then: its sequences are what it is known by.
    ///
    /// # Errors
    ///
    /// [`CommitError::Unwritable`].
    pub fn emit_direct(
        &mut self,
        target: TopicPartition,
        batch: BatchBuilder,
    ) -> Result<(), CommitError> {
        let output = self.stamp(Lane::Direct, target, batch)?;
        self.direct.push(output);
        Ok(())
    }

    /// Takes up what lies in an output partition already: the next direct sequence there is this.
    pub fn skip_direct_to(&mut self, target: TopicPartition, sequence: u32) {
        self.sequences.insert((Lane::Direct, target), sequence);
    }

    fn stamp(
        &mut self,
        lane: Lane,
        target: TopicPartition,
        batch: BatchBuilder,
    ) -> Result<OutputBatch, CommitError> {
        let at = (lane, target);
        let known = || self.journal.sequences.get(&at).copied().unwrap_or(0);
        let first_sequence = self.sequences.get(&at).copied().unwrap_or_else(known);
        let next = sequence_after(first_sequence, batch.record_count());
        let batch = batch.finish(Some(ProducerStamp {
            producer_id: match lane {
                Lane::Journal => self.position.producer_id,
                Lane::Direct => self.journal.direct_producer_id(),
            },
            producer_epoch: self.position.producer_epoch,
            first_sequence,
        }))?;
        self.sequences.insert(at, next);
        Ok(OutputBatch { target, batch })
    }

    /// A record waits to be tried again, or has failed once more.
    ///
    /// # Errors
    ///
    /// As [`Self::emit`].
    pub fn park(&mut self, parked: ParkedRecord) -> Result<(), CommitError> {
        let value = encode_parked(&parked);
        self.put(&parked_key(parked.offset), Some(&value))?;
        self.parked.push((parked.offset, Some(parked)));
        Ok(())
    }

    /// A parked record is done.
    ///
    /// # Errors
    ///
    /// As [`Self::emit`].
    pub fn release(&mut self, offset: Offset) -> Result<(), CommitError> {
        self.put(&parked_key(offset), None)?;
        self.parked.push((offset, None));
        Ok(())
    }

    /// A timer waits from now on, in the place of the one of its clock and key.
    pub fn set_timer(&mut self, timer: Timer) {
        self.timers.insert(timer.id(), Some(timer));
    }

    /// A timer is done, or cancelled. That there is none is no error.
    pub fn remove_timer(&mut self, clock: TimerClock, key: Bytes) {
        self.timers.insert((clock, key), None);
    }

    /// The state is this version's from here on. It is written where that is news.
    pub fn note_writer(&mut self, writer: StateWriter) {
        self.writer = Some(writer).filter(|writer| self.journal.writer() != Some(writer));
    }

    /// The dead letters of a partition up to this one are handed back with this commit, as far as they
    /// are this worker's.
    ///
    /// # Errors
    ///
    /// As [`Self::emit`].
    pub fn hand_back(
        &mut self,
        letters: TopicPartition,
        last: LetterPlace,
    ) -> Result<(), CommitError> {
        self.put(
            &handed_back_key(&letters),
            Some(&encode_letter_place(&last)),
        )?;
        self.handed_back = Some((letters, last));
        Ok(())
    }

    /// A change of the guest's state; without a value the key is deleted.
    ///
    /// # Errors
    ///
    /// As [`Self::emit`].
    pub fn change_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CommitError> {
        self.put(&state_key(key), value)
    }

    /// Whether the commit would say nothing new.
    pub fn is_idle(&self) -> bool {
        self.position.next_offset == self.journal.position.next_offset
            && self.batch.is_empty()
            && self.timers.is_empty()
            && self.direct.is_empty()
            && self.outputs.is_empty()
    }

    /// The commit as a whole.
    ///
    /// # Errors
    ///
    /// As [`Self::emit`], or more timers would wait than may wait.
    pub fn finish(mut self) -> Result<Commit, CommitError> {
        self.put_timers()?;
        let encoded = self.position.encode();
        self.put(&position_key(), Some(&encoded))?;
        if let Some(writer) = self.writer.as_ref().map(StateWriter::encode) {
            self.put(&writer_key(), Some(&writer))?;
        }
        for ((lane, target), sequence) in &self.sequences {
            put(
                &mut self.batch,
                self.now_ms,
                &sequence_key(*lane, target),
                Some(&sequence.to_be_bytes()),
            )?;
        }
        if !self.outputs.is_empty() {
            self.put_outputs()?;
        }
        Ok(Commit {
            batch: self.batch.finish(None)?.into(),
            direct: self.direct,
            position: self.position,
            sequences: self.sequences,
            parked: self.parked,
            timers: self.timers,
            writer: self.writer,
            handed_back: self.handed_back,
            outputs: self.outputs,
        })
    }

    /// Puts those that change something.
    fn put_timers(&mut self) -> Result<(), CommitError> {
        let known = &self.journal.timers();
        self.timers
            .retain(|id, timer| timer.is_some() || known.contains(id));
        let (mut timers, mut bytes) = (known.len(), known.bytes());
        for (id, timer) in &self.timers {
            let value = timer.as_ref().map(encode_timer);
            put(
                &mut self.batch,
                self.now_ms,
                &timer_key(id),
                value.as_deref(),
            )?;
            if known.contains(id) {
                timers -= 1;
                bytes -= OVERHEAD_BYTES + id.1.len();
            }
            if timer.is_some() {
                timers += 1;
                bytes += OVERHEAD_BYTES + id.1.len();
            }
        }
        let more = timers > known.len() || bytes > known.bytes();
        if more && (timers > MAX_TIMERS || bytes > MAX_TIMER_BYTES) {
            let what = format!(
                "{timers} timers of {bytes} bytes would wait, more than {MAX_TIMERS} or \
                 {MAX_TIMER_BYTES} bytes"
            );
            return Err(CommitError::Unwritable(what));
        }
        Ok(())
    }

    fn put_outputs(&mut self) -> Result<(), CommitError> {
        let commit = self.journal.position.commit;
        let encoded = encode_outputs(&self.outputs);
        let pieces = encoded.len().div_ceil(OUTPUT_PIECE_BYTES);
        for (number, bytes) in encoded.chunks(OUTPUT_PIECE_BYTES).enumerate() {
            let prefix = piece_prefix(commit, number + 1 == pieces);
            let value = [&prefix[..], bytes].concat();
            self.put(&piece_key(commit, number as u16), Some(&value))?;
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CommitError> {
        put(&mut self.batch, self.now_ms, key, value)
    }
}

fn put(
    batch: &mut BatchBuilder,
    now_ms: TimestampMs,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), CommitError> {
    match batch.append(now_ms, Some(key), value, &[]) {
        Ok(_) => Ok(()),
        Err(AppendError::Full) => Err(too_large()),
        Err(error) => Err(CommitError::Unwritable(error.to_string())),
    }
}

fn too_large() -> CommitError {
    CommitError::TooLarge {
        limit: MAX_COMMIT_BYTES,
    }
}

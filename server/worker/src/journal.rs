//! What a worker's journal says: read back after a start, kept up with every commit.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use millstream_planted::planted;
use millstream_protocol::{
    DIRECT_WORKER_PRODUCER_ID, Offset, ProducerId, TimestampMs, TopicPartition,
};

use crate::commit::{Commit, Sending};
use crate::limits::MAX_UNSETTLED_COMMITS;
use crate::parked::ParkedRecords;
use crate::record::{
    Entry, Lane, LetterPlace, Position, decode_outputs, encode_letter_place, encode_parked,
    encode_timer, handed_back_key, parked_key, position_key, sequence_key, timer_key, writer_key,
};
use crate::timers::Timers;
use crate::writer::StateWriter;

/// Why a journal cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A record is not one of a journal.
    #[error("{0} in the journal cannot be read")]
    Malformed(&'static str),
    /// It was written by another version.
    #[error("the journal has format {0}, which this version does not read")]
    Version(u8),
    /// There are records, but not what says how far the worker is.
    #[error("the journal has no position")]
    NoPosition,
    /// Outputs that may not have arrived are not all there.
    #[error("the journal lacks outputs of commit {0}")]
    LostOutputs(u64),
}

/// What a worker's journal says.
#[derive(Debug)]
pub struct Journal {
    pub(crate) position: Position,
    /// The next of each, where it is not 0.
    pub(crate) sequences: HashMap<(Lane, TopicPartition), u32>,
    /// Commits with outputs that have not all arrived, oldest first.
    unsettled: VecDeque<u64>,
    parked: ParkedRecords,
    timers: Timers,
    pub(crate) writer: Option<StateWriter>,
    /// The last dead letter of each partition that was handed back.
    handed_back: HashMap<TopicPartition, LetterPlace>,
}

impl Journal {
    /// The journal of a worker that has none yet.
    pub fn new(producer_id: ProducerId, next_offset: Offset) -> Self {
        Self {
            position: Position::new(producer_id, next_offset),
            sequences: HashMap::new(),
            unsettled: VecDeque::new(),
            parked: ParkedRecords::default(),
            timers: Timers::default(),
            writer: None,
            handed_back: HashMap::new(),
        }
    }

    /// The first input record that is not done. Those that are [parked](Self::parked) lie before it.
    pub fn next_offset(&self) -> Offset {
        self.position.next_offset
    }

    /// What the group was last told, or was about to be told, when the last commit was made.
    pub fn group_offset(&self) -> Offset {
        self.position.group_offset
    }

    /// Whether it has no commit yet: a crash would forget under which ids the worker sends. A commit is
    /// made before anything goes out first.
    pub fn is_new(&self) -> bool {
        self.position.commit == 0
    }

    /// The producer under which outputs go out of the journal.
    pub fn producer_id(&self) -> ProducerId {
        self.position.producer_id
    }

    /// Under which outputs go out before they count.
    pub fn direct_producer_id(&self) -> ProducerId {
        self.position.producer_id | DIRECT_WORKER_PRODUCER_ID
    }

    /// The next sequence of an output partition for outputs that go out before they count. Of those
    /// of higher sequences that are there already, it is not known what came of their commit: the same
    /// records are handled again, and nothing else before.
    pub fn direct_sequence(&self, target: &TopicPartition) -> u32 {
        let known = self.sequences.get(&(Lane::Direct, *target));
        known.copied().unwrap_or(0)
    }

    /// The greatest timestamp of the records that are done; the least possible, if none is.
    pub fn record_time_ms(&self) -> TimestampMs {
        self.position.record_time_ms
    }

    /// The timers that wait.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The version of the plugin whose state it is; `None` before the first commit that has told it.
    pub fn writer(&self) -> Option<&StateWriter> {
        self.writer.as_ref()
    }

    /// The last dead letter of a partition that was handed back to this worker: it and those before are
    /// not to be handed back once more.
    pub fn handed_back(&self, letters: &TopicPartition) -> Option<LetterPlace> {
        self.handed_back.get(letters).copied()
    }

    /// The records that wait to be tried again.
    pub fn parked(&self) -> &ParkedRecords {
        &self.parked
    }

    /// What it says, as the records that would say it: all but outputs and state. Read into a
    /// [`Recovery`] before the records that have come since, and those of the
    /// [unsettled](Self::unsettled) commits, it spares the reading of all before.
    pub fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let sequences = self.sequences.iter();
        let sequences = sequences.map(|((lane, target), sequence)| {
            (sequence_key(*lane, target), sequence.to_be_bytes().to_vec())
        });
        let parked = self.parked.iter();
        let parked = parked.map(|parked| (parked_key(parked.offset), encode_parked(parked)));
        let timers = self.timers.iter();
        let timers = timers.map(|timer| (timer_key(&timer.id()), encode_timer(timer)));
        let writer = self.writer.iter();
        let writer = writer.map(|writer| (writer_key(), writer.encode()));
        let handed_back = self.handed_back.iter();
        let handed_back = handed_back
            .map(|(letters, last)| (handed_back_key(letters), encode_letter_place(last)));
        let position = (position_key(), self.position.encode());
        std::iter::once(position)
            .chain(writer)
            .chain(handed_back)
            .chain(sequences)
            .chain(parked)
            .chain(timers)
            .collect()
    }

    /// Whether another commit may be made before an older one is settled.
    pub fn has_room(&self) -> bool {
        // Commits without outputs count too: the slot of the oldest one must not be used again.
        self.position.commit - self.position.settled < MAX_UNSETTLED_COMMITS as u64
    }

    /// Commits whose outputs have not all arrived.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// A commit is durable: it counts, and its outputs are to be sent.
    pub fn committed(&mut self, commit: Commit) -> Sending {
        let number = self.position.commit;
        self.position = commit.position;
        if commit.writer.is_some() {
            self.writer = commit.writer;
        }
        self.sequences.extend(commit.sequences);
        self.handed_back.extend(commit.handed_back);
        for (offset, parked) in commit.parked {
            match parked {
                Some(parked) => self.parked.insert(parked),
                None => self.parked.remove(offset),
            }
        }
        for (id, timer) in commit.timers {
            match timer {
                Some(timer) => self.timers.set(timer),
                None => self.timers.remove(&id),
            }
        }
        if !commit.outputs.is_empty() && !planted!(SettleUnsent) {
            self.unsettled.push_back(number);
        }
        self.look_for_settled();
        Sending {
            commit: number,
            outputs: commit.outputs,
        }
    }

    /// All outputs of a commit have arrived.
    pub fn settled(&mut self, commit: u64) {
        self.unsettled.retain(|unsettled| *unsettled != commit);
        self.look_for_settled();
    }

    fn look_for_settled(&mut self) {
        let oldest = self.unsettled.front().copied();
        self.position.settled = oldest.unwrap_or(self.position.commit);
    }
}

/// Reads a journal back, record by record.
#[derive(Debug, Default)]
pub struct Recovery {
    position: Option<Position>,
    sequences: HashMap<(Lane, TopicPartition), u32>,
    /// What there is of the outputs of commits that are not known to be settled.
    outputs: BTreeMap<u64, Pieces>,
    parked: ParkedRecords,
    timers: Timers,
    writer: Option<StateWriter>,
    handed_back: HashMap<TopicPartition, LetterPlace>,
    records: u64,
}

#[derive(Debug, Default)]
struct Pieces {
    bytes: Vec<Bytes>,
    complete: bool,
}

impl Recovery {
    /// Takes the next record of the journal. What is a matter of the guest's state, its key and its
    /// value, is handed back.
    ///
    /// # Errors
    ///
    /// It is not a record of a journal, or one of another version.
    pub fn record(
        &mut self,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<Option<(Bytes, Option<Bytes>)>, JournalError> {
        self.records += 1;
        match Entry::decode(key, value)? {
            Entry::Position(position) => {
                self.outputs = self.outputs.split_off(&position.settled);
                self.position = Some(position);
            }
            Entry::Sequence(..) if planted!(ForgetSequences) => {}
            Entry::Sequence(lane, target, sequence) => {
                self.sequences.insert((lane, target), sequence);
            }
            Entry::Piece {
                piece,
                commit,
                last,
                bytes,
            } => {
                let pieces = self.outputs.entry(commit).or_default();
                // Where compaction has taken the first ones, the commit is long settled.
                if pieces.bytes.len() == usize::from(piece) {
                    pieces.bytes.push(bytes);
                    pieces.complete = last;
                }
            }
            Entry::Parked(_, Some(parked)) => self.parked.insert(parked),
            Entry::Parked(offset, None) => self.parked.remove(offset),
            Entry::Timer(_, Some(timer)) => self.timers.set(timer),
            Entry::Timer(id, None) => self.timers.remove(&id),
            Entry::Writer(writer) => self.writer = Some(writer),
            Entry::HandedBack(letters, last) => {
                self.handed_back.insert(letters, last);
            }
            Entry::State { key, value } => return Ok(Some((key, value))),
        }
        Ok(None)
    }

    /// The journal, and what has to be sent again, in order; `None` when it was empty.
    ///
    /// # Errors
    ///
    /// The journal is not whole.
    pub fn finish(self) -> Result<Option<(Journal, Vec<Sending>)>, JournalError> {
        let Some(position) = self.position else {
            return match self.records {
                0 => Ok(None),
                _ => Err(JournalError::NoPosition),
            };
        };
        let mut sendings = Vec::new();
        for (commit, pieces) in self.outputs {
            if !(position.settled..position.commit).contains(&commit) {
                continue;
            }
            if !pieces.complete {
                return Err(JournalError::LostOutputs(commit));
            }
            let outputs = decode_outputs(Bytes::from(pieces.bytes.concat()))?;
            sendings.push(Sending { commit, outputs });
        }
        let mut journal = Journal {
            position,
            sequences: self.sequences,
            unsettled: sendings.iter().map(|sending| sending.commit).collect(),
            parked: self.parked,
            timers: self.timers,
            writer: self.writer,
            handed_back: self.handed_back,
        };
        // A commit whose outputs are not asked for is settled, whatever its successors knew.
        journal.look_for_settled();
        Ok(Some((journal, sendings)))
    }
}

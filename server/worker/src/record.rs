//! What lies in a journal.
//!
//! A record's key says what it is about, so that compaction keeps the newest record of everything.
//! The first byte is the kind; integers are big-endian.
//!
//! | kind | key | value |
//! |---|---|---|
//! | 0 position | | [`Position`], postcard |
//! | 1 sequence | topic id (16), partition (4) | the next sequence of that output partition (4) |
//! | 2 outputs | slot (1), piece (2) | commit (8), 1 if this is its last piece (1), bytes |
//! | 3 parked | offset (8) | [`ParkedFields`], postcard, then the batch of that record; none: done |
//! | 4 state | the guest's key | the guest's value; none: deleted |
//! | 5 timer | clock (1), the guest's key | [`TimerFields`], postcard; none: done or cancelled |
//! | 6 direct sequence | topic id (16), partition (4) | as 1, of outputs that went out before their commit |
//! | 7 writer | | [`StateWriter`], postcard |
//! | 8 handed back | topic id (16), partition (4) | leader epoch (4), offset (8) of the last dead letter handed back from there |
//!
//! The pieces of a commit make up its outputs, one after the other: topic id (16), partition (4),
//! length (4), and the batch as it is to be appended. The slot is the commit's number modulo
//! [`MAX_UNSETTLED_COMMITS`], so that compaction finds a settled commit's outputs superseded.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_protocol::api::plugin::TimerClock;
use millstream_protocol::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicPartition,
};
use serde::{Deserialize, Serialize};

use crate::commit::OutputBatch;
use crate::journal::JournalError;
use crate::limits::MAX_UNSETTLED_COMMITS;
use crate::parked::ParkedRecord;
use crate::timers::{Timer, TimerId};
use crate::writer::StateWriter;

/// The version of the position's format that is written and read.
const FORMAT: u8 = 2;

const POSITION: u8 = 0;
const SEQUENCE: u8 = 1;
const OUTPUTS: u8 = 2;
const PARKED: u8 = 3;
const STATE: u8 = 4;
const TIMER: u8 = 5;
const DIRECT_SEQUENCE: u8 = 6;
const WRITER: u8 = 7;
const HANDED_BACK: u8 = 8;

const RECORD_TIME: u8 = 0;
const WALL_TIME: u8 = 1;

/// Bytes before each batch among a commit's outputs.
pub(crate) const OUTPUT_PREFIX_BYTES: usize = 16 + 4 + 4;

/// Bytes before the outputs in each piece.
pub(crate) const PIECE_PREFIX_BYTES: usize = 8 + 1;

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    format: u8,
    /// Under which the worker sends.
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    /// The first input record that is not done.
    pub(crate) next_offset: Offset,
    /// The number of the next commit.
    pub(crate) commit: u64,
    /// Outputs of commits below have arrived.
    pub(crate) settled: u64,
    /// What the group was last told, or was about to be told.
    pub(crate) group_offset: Offset,
    /// The greatest timestamp of the records that are done.
    pub(crate) record_time_ms: TimestampMs,
}

impl Position {
    pub(crate) fn new(producer_id: ProducerId, next_offset: Offset) -> Self {
        Self {
            format: FORMAT,
            producer_id,
            producer_epoch: 0,
            next_offset,
            commit: 0,
            settled: 0,
            group_offset: next_offset,
            record_time_ms: TimestampMs::MIN,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Into memory, and without a map or a sequence of unknown length: it cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct ParkedFields {
    attempts: u32,
    due_ms: TimestampMs,
    reason: String,
    has_key: bool,
    key_bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct TimerFields {
    at_ms: TimestampMs,
    attempts: u32,
    not_before_ms: TimestampMs,
}

/// The way that outputs take. Each has a producer, and sequences, of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// From the journal, once their commit is durable.
    Journal,
    /// Before their commit.
    Direct,
}

/// Where a dead letter lies in its partition. A log that has lost its end, with the machine, gives offsets
/// again, and each time in a later leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LetterPlace {
    /// The leader epoch in which it was appended.
    pub leader_epoch: LeaderEpoch,
    /// Its offset.
    pub offset: Offset,
}

/// One record of a journal, understood.
#[derive(Debug)]
pub(crate) enum Entry {
    Position(Position),
    Sequence(Lane, TopicPartition, u32),
    Piece {
        piece: u16,
        commit: u64,
        last: bool,
        bytes: Bytes,
    },
    Parked(Offset, Option<ParkedRecord>),
    State {
        key: Bytes,
        value: Option<Bytes>,
    },
    Timer(TimerId, Option<Timer>),
    Writer(StateWriter),
    HandedBack(TopicPartition, LetterPlace),
}

pub(crate) fn position_key() -> Vec<u8> {
    vec![POSITION]
}

pub(crate) fn writer_key() -> Vec<u8> {
    vec![WRITER]
}

pub(crate) fn handed_back_key(letters: &TopicPartition) -> Vec<u8> {
    let mut key = vec![HANDED_BACK];
    put_target(&mut key, letters);
    key
}

pub(crate) fn encode_letter_place(place: &LetterPlace) -> Vec<u8> {
    let mut encoded = place.leader_epoch.to_be_bytes().to_vec();
    encoded.put_u64(place.offset);
    encoded
}

pub(crate) fn sequence_key(lane: Lane, target: &TopicPartition) -> Vec<u8> {
    let mut key = vec![match lane {
        Lane::Journal => SEQUENCE,
        Lane::Direct => DIRECT_SEQUENCE,
    }];
    put_target(&mut key, target);
    key
}

pub(crate) fn piece_key(commit: u64, piece: u16) -> Vec<u8> {
    let mut key = vec![OUTPUTS, (commit % MAX_UNSETTLED_COMMITS as u64) as u8];
    key.put_u16(piece);
    key
}

pub(crate) fn piece_prefix(commit: u64, last: bool) -> [u8; PIECE_PREFIX_BYTES] {
    let mut prefix = [0; PIECE_PREFIX_BYTES];
    prefix[..8].copy_from_slice(&commit.to_be_bytes());
    prefix[8] = u8::from(last);
    prefix
}

pub(crate) fn parked_key(offset: Offset) -> Vec<u8> {
    let mut key = vec![PARKED];
    key.put_u64(offset);
    key
}

pub(crate) fn state_key(key: &[u8]) -> Vec<u8> {
    [&[STATE], key].concat()
}

pub(crate) fn timer_key((clock, key): &TimerId) -> Vec<u8> {
    let clock = match clock {
        TimerClock::RecordTime => RECORD_TIME,
        TimerClock::WallTime => WALL_TIME,
    };
    [&[TIMER, clock], &key[..]].concat()
}

fn put_target(into: &mut impl BufMut, target: &TopicPartition) {
    into.put_slice(target.topic_id.as_bytes());
    into.put_u32(target.partition);
}

fn get_target(from: &mut Bytes) -> Option<TopicPartition> {
    if from.len() < 20 {
        return None;
    }
    let mut id = [0; 16];
    from.copy_to_slice(&mut id);
    Some(TopicPartition {
        topic_id: TopicId::from_bytes(id),
        partition: from.get_u32(),
    })
}

/// All outputs of a commit in one piece.
pub(crate) fn encode_outputs(outputs: &[OutputBatch]) -> BytesMut {
    let bytes: usize = outputs
        .iter()
        .map(|output| OUTPUT_PREFIX_BYTES + output.batch.len())
        .sum();
    let mut encoded = BytesMut::with_capacity(bytes);
    for output in outputs {
        put_target(&mut encoded, &output.target);
        encoded.put_u32(output.batch.len() as u32);
        encoded.put_slice(&output.batch);
    }
    encoded
}

pub(crate) fn decode_outputs(mut bytes: Bytes) -> Result<Vec<OutputBatch>, JournalError> {
    let mut outputs = Vec::new();
    while !bytes.is_empty() {
        let target = get_target(&mut bytes).ok_or(JournalError::Malformed("outputs"))?;
        let length = bytes
            .try_get_u32()
            .map_err(|_| JournalError::Malformed("outputs"))? as usize;
        if length > bytes.len() {
            return Err(JournalError::Malformed("outputs"));
        }
        outputs.push(OutputBatch {
            target,
            batch: bytes.split_to(length),
        });
    }
    Ok(outputs)
}

pub(crate) fn encode_parked(parked: &ParkedRecord) -> Vec<u8> {
    let fields = ParkedFields {
        attempts: parked.attempts,
        due_ms: parked.due_ms,
        reason: parked.reason.clone(),
        has_key: parked.key.is_some(),
        key_bytes: parked.key.as_ref().map_or(0, Bytes::len) as u32,
    };
    let mut encoded = postcard::to_allocvec(&fields).unwrap_or_default();
    encoded.extend_from_slice(parked.key.as_deref().unwrap_or_default());
    encoded.extend_from_slice(&parked.batch);
    encoded
}

fn decode_parked(offset: Offset, value: Bytes) -> Option<ParkedRecord> {
    let (fields, rest) = postcard::take_from_bytes::<ParkedFields>(&value).ok()?;
    let mut rest = value.slice_ref(rest);
    let key_bytes = fields.key_bytes as usize;
    if key_bytes > rest.len() {
        return None;
    }
    let key = rest.split_to(key_bytes);
    Some(ParkedRecord {
        offset,
        key: fields.has_key.then_some(key),
        attempts: fields.attempts,
        due_ms: fields.due_ms,
        reason: fields.reason,
        batch: rest,
    })
}

pub(crate) fn encode_timer(timer: &Timer) -> Vec<u8> {
    let fields = TimerFields {
        at_ms: timer.at_ms,
        attempts: timer.attempts,
        not_before_ms: timer.not_before_ms,
    };
    postcard::to_allocvec(&fields).unwrap_or_default()
}

fn decode_timer((clock, key): &TimerId, value: &[u8]) -> Option<Timer> {
    let fields: TimerFields = postcard::from_bytes(value).ok()?;
    Some(Timer {
        clock: *clock,
        key: key.clone(),
        at_ms: fields.at_ms,
        attempts: fields.attempts,
        not_before_ms: fields.not_before_ms,
    })
}

impl Entry {
    pub(crate) fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Self, JournalError> {
        let kind = key
            .try_get_u8()
            .map_err(|_| JournalError::Malformed("a key"))?;
        let value_of = |what| value.clone().ok_or(JournalError::Malformed(what));
        match kind {
            POSITION => {
                let malformed = JournalError::Malformed("the position");
                let position: Position =
                    postcard::from_bytes(&value_of("the position")?).map_err(|_| malformed)?;
                if position.format != FORMAT {
                    return Err(JournalError::Version(position.format));
                }
                Ok(Self::Position(position))
            }
            SEQUENCE | DIRECT_SEQUENCE => {
                let lane = match kind {
                    SEQUENCE => Lane::Journal,
                    _ => Lane::Direct,
                };
                let malformed = || JournalError::Malformed("a sequence");
                let target = get_target(&mut key).ok_or_else(malformed)?;
                let sequence = value_of("a sequence")?
                    .try_get_u32()
                    .map_err(|_| malformed())?;
                Ok(Self::Sequence(lane, target, sequence))
            }
            OUTPUTS => {
                let malformed = || JournalError::Malformed("outputs");
                key.try_get_u8().map_err(|_| malformed())?;
                let piece = key.try_get_u16().map_err(|_| malformed())?;
                let mut value = value_of("outputs")?;
                Ok(Self::Piece {
                    piece,
                    commit: value.try_get_u64().map_err(|_| malformed())?,
                    last: value.try_get_u8().map_err(|_| malformed())? == 1,
                    bytes: value,
                })
            }
            PARKED => {
                let malformed = JournalError::Malformed("a parked record");
                let offset = key.try_get_u64().map_err(|_| malformed)?;
                let parked = value.map(|value| {
                    decode_parked(offset, value).ok_or(JournalError::Malformed("a parked record"))
                });
                Ok(Self::Parked(offset, parked.transpose()?))
            }
            STATE => Ok(Self::State { key, value }),
            TIMER => {
                let malformed = || JournalError::Malformed("a timer");
                let clock = match key.try_get_u8().map_err(|_| malformed())? {
                    RECORD_TIME => TimerClock::RecordTime,
                    WALL_TIME => TimerClock::WallTime,
                    _ => return Err(malformed()),
                };
                let id = (clock, key);
                let timer = value.map(|value| decode_timer(&id, &value).ok_or_else(malformed));
                let timer = timer.transpose()?;
                Ok(Self::Timer(id, timer))
            }
            WRITER => {
                let writer = StateWriter::decode(&value_of("the state's writer")?);
                let malformed = JournalError::Malformed("the state's writer");
                writer.map(Self::Writer).ok_or(malformed)
            }
            HANDED_BACK => {
                let malformed = || JournalError::Malformed("what was handed back");
                let letters = get_target(&mut key).ok_or_else(malformed)?;
                let mut value = value_of("what was handed back")?;
                let place = LetterPlace {
                    leader_epoch: value.try_get_u32().map_err(|_| malformed())?,
                    offset: value.try_get_u64().map_err(|_| malformed())?,
                };
                Ok(Self::HandedBack(letters, place))
            }
            _ => Err(JournalError::Malformed("a key of unknown kind")),
        }
    }
}

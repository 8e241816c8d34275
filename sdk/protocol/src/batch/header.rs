//! The 61 bytes before the records: read, checked, written, patched, checksummed.

use super::attributes::{Attributes, Compression, TimestampKind};
use super::error::BatchError;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};
use crate::limits::{MAX_BATCH_BYTES, MAX_RECORDS_PER_BATCH};

/// Bytes before the records.
pub const BATCH_HEADER_BYTES: usize = 61;

/// The header as it is stored.
pub(super) type RawHeader = [u8; BATCH_HEADER_BYTES];

/// The only format version spoken.
const MAGIC: u8 = 2;

/// Bytes up to and including the length field, which does not count them.
const LENGTH_PREFIX_BYTES: usize = 12;

/// The shortest record: length, attributes, two deltas, two absent fields, no headers.
const MIN_RECORD_BYTES: usize = 7;

/// Sequences run from 0 to `i32::MAX`.
const SEQUENCES: u64 = 1 << 31;

/// Where each field starts.
mod at {
    pub(super) const BASE_OFFSET: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const LEADER_EPOCH: usize = 12;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const BASE_TIMESTAMP: usize = 27;
    pub(super) const MAX_TIMESTAMP: usize = 35;
    pub(super) const PRODUCER_ID: usize = 43;
    pub(super) const PRODUCER_EPOCH: usize = 51;
    pub(super) const FIRST_SEQUENCE: usize = 53;
    pub(super) const RECORD_COUNT: usize = 57;
}

/// Who produced a batch and where it stands in that producer's order: what duplicates are
/// recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer, at most `i64::MAX`.
    pub producer_id: ProducerId,
    /// Its instance, at most `i16::MAX`.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the batch's first record, at most `i32::MAX`.
    pub first_sequence: u32,
}

/// The sequence that follows `records` records beginning at `first`: sequences run from 0 to
/// `i32::MAX` and then start again at 0.
pub fn sequence_after(first: u32, records: u32) -> u32 {
    ((u64::from(first) + u64::from(records)) % SEQUENCES) as u32
}

/// The header of a batch, every field checked against its range and against the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The whole batch with this header, bytes; at most [`MAX_BATCH_BYTES`] where it was parsed.
    pub batch_bytes: usize,
    /// The leadership that appended it.
    pub leader_epoch: LeaderEpoch,
    /// The CRC-32C that the batch claims.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// Whose clock the timestamps come from.
    pub timestamps: TimestampKind,
    /// Part of a user transaction. Millstream has none and takes none from a client.
    pub transactional: bool,
    /// Holds control records, which no consumer sees.
    pub control: bool,
    /// The last offset less the base offset, below [`MAX_RECORDS_PER_BATCH`].
    pub last_offset_delta: u32,
    /// What the records' timestamps are counted from, milliseconds.
    pub base_timestamp_ms: TimestampMs,
    /// The highest timestamp of the records that it was produced with, milliseconds.
    pub max_timestamp_ms: TimestampMs,
    /// Who produced it, if the producer is idempotent.
    pub producer: Option<ProducerStamp>,
    /// How many records it holds: `last_offset_delta + 1`, or fewer after compaction.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads and checks the header at the front of `bytes`, at least [`BATCH_HEADER_BYTES`].
    ///
    /// The batch may go on beyond `bytes`: compare [`batch_bytes`](Self::batch_bytes) with what is
    /// there. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let raw = raw(bytes)?;
        if raw[at::MAGIC] != MAGIC {
            return Err(BatchError::Magic {
                magic: raw[at::MAGIC],
            });
        }
        let attributes = attributes(raw);
        attributes.check_reserved()?;
        let header = Self {
            base_offset: unsigned("base offset", i64::from_be_bytes(get(raw, at::BASE_OFFSET)))?,
            batch_bytes: batch_bytes(raw)?,
            leader_epoch: unsigned("leader epoch", get_i32(raw, at::LEADER_EPOCH))?,
            crc: stored_crc(raw),
            compression: attributes.compression()?,
            timestamps: attributes.timestamps(),
            transactional: attributes.transactional(),
            control: attributes.control(),
            last_offset_delta: unsigned("last offset delta", get_i32(raw, at::LAST_OFFSET_DELTA))?,
            base_timestamp_ms: i64::from_be_bytes(get(raw, at::BASE_TIMESTAMP)),
            max_timestamp_ms: i64::from_be_bytes(get(raw, at::MAX_TIMESTAMP)),
            producer: producer(raw)?,
            record_count: unsigned("record count", get_i32(raw, at::RECORD_COUNT))?,
        };
        header.check_counts()?;
        Ok(header)
    }

    fn check_counts(&self) -> Result<(), BatchError> {
        if self.last_offset_delta as usize >= MAX_RECORDS_PER_BATCH {
            return Err(BatchError::Field {
                field: "last offset delta",
                value: self.last_offset_delta.into(),
            });
        }
        check_base_offset(self.base_offset, self.last_offset_delta)?;
        if self.record_count > self.last_offset_delta + 1 {
            return Err(BatchError::Field {
                field: "record count",
                value: self.record_count.into(),
            });
        }
        if self.compression == Compression::None {
            check_record_count(self.record_count, self.batch_bytes - BATCH_HEADER_BYTES)?;
        }
        Ok(())
    }

    /// The offset of the last record (of the last one there was, after compaction).
    pub fn last_offset(&self) -> Offset {
        self.base_offset + u64::from(self.last_offset_delta)
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// Whether compaction has taken records away.
    pub fn is_compacted(&self) -> bool {
        self.record_count <= self.last_offset_delta
    }

    /// The producer's sequence of the last record.
    pub fn last_sequence(&self) -> Option<u32> {
        let stamp = self.producer?;
        Some(sequence_after(stamp.first_sequence, self.last_offset_delta))
    }

    /// Writes all fields but length and checksum over the front of `batch`; [`seal`] completes it.
    pub(super) fn write(&self, batch: &mut [u8]) -> Result<(), BatchError> {
        let (producer_id, producer_epoch, first_sequence) = match self.producer {
            None => (-1, -1, -1),
            Some(stamp) => (
                signed::<_, i64>("producer id", stamp.producer_id)?,
                signed::<_, i16>("producer epoch", stamp.producer_epoch)?,
                signed::<_, i32>("first sequence", stamp.first_sequence)?,
            ),
        };
        let base_offset = signed::<_, i64>("base offset", self.base_offset)?;
        let leader_epoch = signed::<_, i32>("leader epoch", self.leader_epoch)?;
        let attributes = Attributes::of(self);
        let raw = raw_mut(batch)?;
        put(raw, at::BASE_OFFSET, base_offset.to_be_bytes());
        put(raw, at::LEADER_EPOCH, leader_epoch.to_be_bytes());
        put(raw, at::MAGIC, [MAGIC]);
        put(raw, at::ATTRIBUTES, attributes.0.to_be_bytes());
        put(
            raw,
            at::LAST_OFFSET_DELTA,
            self.last_offset_delta.to_be_bytes(),
        );
        put(
            raw,
            at::BASE_TIMESTAMP,
            self.base_timestamp_ms.to_be_bytes(),
        );
        put(raw, at::MAX_TIMESTAMP, self.max_timestamp_ms.to_be_bytes());
        put(raw, at::PRODUCER_ID, producer_id.to_be_bytes());
        put(raw, at::PRODUCER_EPOCH, producer_epoch.to_be_bytes());
        put(raw, at::FIRST_SEQUENCE, first_sequence.to_be_bytes());
        put(raw, at::RECORD_COUNT, self.record_count.to_be_bytes());
        Ok(())
    }
}

/// Checks the checksum of `batch`, exactly one whole batch.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let (stored, computed) = (stored_crc(raw(batch)?), compute_crc(batch));
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::Crc { stored, computed })
    }
}

/// Gives `batch` its place in the log: patches base offset and leader epoch. Both lie outside the
/// checksum, which stays valid.
///
/// # Errors
///
/// The offset of its last record, or the epoch, is beyond what the format holds; or `batch` is
/// shorter than a header. Nothing is changed then.
pub fn assign(
    batch: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    let raw = raw_mut(batch)?;
    let leader_epoch = signed::<_, i32>("leader epoch", leader_epoch)?;
    let last_offset_delta = unsigned("last offset delta", get_i32(raw, at::LAST_OFFSET_DELTA))?;
    check_base_offset(base_offset, last_offset_delta)?;
    put(raw, at::BASE_OFFSET, base_offset.to_be_bytes());
    put(raw, at::LEADER_EPOCH, leader_epoch.to_be_bytes());
    Ok(())
}

/// Describes records that were written anew behind another batch's header; [`seal`] completes it.
pub(super) fn describe_records(
    batch: &mut [u8],
    compression: Compression,
    record_count: u32,
) -> Result<(), BatchError> {
    let raw = raw_mut(batch)?;
    let attributes = attributes(raw).with_compression(compression);
    put(raw, at::ATTRIBUTES, attributes.0.to_be_bytes());
    put(raw, at::RECORD_COUNT, record_count.to_be_bytes());
    Ok(())
}

/// Makes a control batch of a batch; [`seal`] completes it.
pub(super) fn mark_as_control(batch: &mut [u8]) -> Result<(), BatchError> {
    let raw = raw_mut(batch)?;
    let attributes = attributes(raw).with_control();
    put(raw, at::ATTRIBUTES, attributes.0.to_be_bytes());
    Ok(())
}

/// Writes length and checksum of a batch that is otherwise complete; returns the checksum.
pub(super) fn seal(batch: &mut [u8]) -> Result<u32, BatchError> {
    let length = signed::<_, i32>("length", batch.len().saturating_sub(LENGTH_PREFIX_BYTES))?;
    let crc = compute_crc(batch);
    let raw = raw_mut(batch)?;
    put(raw, at::LENGTH, length.to_be_bytes());
    put(raw, at::CRC, crc.to_be_bytes());
    Ok(crc)
}

/// Refuses a count of records that cannot fit into `section_bytes` of uncompressed records, so
/// that a claimed count never leads to work or memory beyond the bytes that are there.
pub(super) fn check_record_count(
    record_count: u32,
    section_bytes: usize,
) -> Result<(), BatchError> {
    if record_count as usize <= section_bytes / MIN_RECORD_BYTES {
        return Ok(());
    }
    Err(BatchError::Field {
        field: "record count",
        value: record_count.into(),
    })
}

/// The offset behind the last record must be one that the format holds.
fn check_base_offset(base_offset: Offset, last_offset_delta: u32) -> Result<(), BatchError> {
    if base_offset < i64::MAX as u64 - u64::from(last_offset_delta) {
        return Ok(());
    }
    Err(BatchError::Field {
        field: "base offset",
        value: base_offset.try_into().unwrap_or(i64::MAX),
    })
}

pub(super) fn attributes(raw: &RawHeader) -> Attributes {
    Attributes(u16::from_be_bytes(get(raw, at::ATTRIBUTES)))
}

pub(super) fn raw(batch: &[u8]) -> Result<&RawHeader, BatchError> {
    batch.first_chunk().ok_or(BatchError::Length {
        expected: BATCH_HEADER_BYTES,
        actual: batch.len(),
    })
}

fn raw_mut(batch: &mut [u8]) -> Result<&mut RawHeader, BatchError> {
    let actual = batch.len();
    batch.first_chunk_mut().ok_or(BatchError::Length {
        expected: BATCH_HEADER_BYTES,
        actual,
    })
}

/// CRC-32C (CRC-32/ISCSI) of all that follows the checksum.
fn compute_crc(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(batch.get(at::ATTRIBUTES..).unwrap_or_default())
}

fn stored_crc(raw: &RawHeader) -> u32 {
    u32::from_be_bytes(get(raw, at::CRC))
}

fn batch_bytes(raw: &RawHeader) -> Result<usize, BatchError> {
    let length = get_i32(raw, at::LENGTH);
    let batch_bytes = unsigned::<_, usize>("length", length)?.saturating_add(LENGTH_PREFIX_BYTES);
    if batch_bytes < BATCH_HEADER_BYTES {
        return Err(BatchError::Field {
            field: "length",
            value: length.into(),
        });
    }
    if batch_bytes > MAX_BATCH_BYTES {
        return Err(BatchError::TooLarge {
            limit: MAX_BATCH_BYTES,
        });
    }
    Ok(batch_bytes)
}

/// A producer id of −1 means that there is none, whatever epoch and sequence say: clients differ
/// in what they write there.
fn producer(raw: &RawHeader) -> Result<Option<ProducerStamp>, BatchError> {
    let producer_id = i64::from_be_bytes(get(raw, at::PRODUCER_ID));
    if producer_id == -1 {
        return Ok(None);
    }
    let producer_epoch = i16::from_be_bytes(get(raw, at::PRODUCER_EPOCH));
    Ok(Some(ProducerStamp {
        producer_id: unsigned("producer id", producer_id)?,
        producer_epoch: unsigned("producer epoch", producer_epoch)?,
        first_sequence: unsigned("first sequence", get_i32(raw, at::FIRST_SEQUENCE))?,
    }))
}

/// The format's integers are signed, ours are not: a negative one is out of range.
fn unsigned<S, U>(field: &'static str, value: S) -> Result<U, BatchError>
where
    S: Copy + Into<i64> + TryInto<U>,
{
    value.try_into().map_err(|_| BatchError::Field {
        field,
        value: value.into(),
    })
}

/// The way back: what is above the format's range is out of range.
fn signed<U, S>(field: &'static str, value: U) -> Result<S, BatchError>
where
    U: Copy + TryInto<S> + TryInto<i64>,
{
    value.try_into().map_err(|_| BatchError::Field {
        field,
        value: value.try_into().unwrap_or(i64::MAX),
    })
}

/// `N` bytes of the header; the offsets are constants within it.
fn get<const N: usize>(raw: &RawHeader, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

fn get_i32(raw: &RawHeader, at: usize) -> i32 {
    i32::from_be_bytes(get(raw, at))
}

fn put<const N: usize>(raw: &mut RawHeader, at: usize, bytes: [u8; N]) {
    raw[at..at + N].copy_from_slice(&bytes);
}

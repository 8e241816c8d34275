//! What one call of a guest works on: whole batches, uncompressed.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use millstream_protocol::batch::{self, Record, RecordBatch};
use millstream_protocol::{Offset, TimestampMs, WireError};
use millstream_worker::ParkedRecord;
use millstream_worker::limits::MAX_PARKED_RECORD_BYTES;

use crate::errors;
use crate::partition::PartitionReader;

/// Bytes of input that one call of a guest works on, unless a single batch is larger.
pub(crate) const TURN_BYTES: usize = 1 << 20;

/// What a call may have.
pub(crate) struct Wanted {
    /// The first offset.
    pub(crate) offset: Offset,
    /// The offset behind the last one.
    pub(crate) until: Offset,
    /// At most so many records.
    pub(crate) records: u32,
    /// Records of these keys wait behind another one of theirs.
    pub(crate) held_keys: HashSet<Bytes>,
}

/// What a deterministic guest is to work on.
pub(crate) enum Stored {
    /// Batches as they were stored, and will be again after a crash: each is a call of its own.
    Whole(Vec<RecordBatch>),
    /// Records of the first batch, some of which are done, wait behind others, or are to be called
    /// apart.
    Part(Input),
}

/// The records of one call, in offset order.
#[derive(Default)]
pub(crate) struct Input {
    batches: Vec<RecordBatch>,
    /// Records that wait behind another one of their key.
    pub(crate) held: Vec<ParkedRecord>,
    /// The input is done up to here when these records are.
    pub(crate) next_offset: Offset,
    /// How many records were read for it, whatever has been taken out of the call since.
    pub(crate) taken: u32,
    /// The greatest timestamp of these.
    pub(crate) max_timestamp_ms: TimestampMs,
}

impl Input {
    /// Reads what is visible. It may block on the disk.
    pub(crate) fn read(reader: &PartitionReader, wanted: &Wanted) -> Result<Self, WireError> {
        let read = reader.read_blocking(wanted.offset, TURN_BYTES)?;
        let mut input = Self {
            batches: Vec::with_capacity(read.batches.len()),
            held: Vec::new(),
            next_offset: read.next_offset.min(wanted.until),
            taken: 0,
            max_timestamp_ms: TimestampMs::MIN,
        };
        let mut room = wanted.records;
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            let mut batch = batch.uncompressed().map_err(errors::from_batch)?;
            if batch.header().base_offset < wanted.offset {
                match keep(&batch, |offset| offset >= wanted.offset)? {
                    Some(rest) => batch = rest,
                    None => continue,
                }
            }
            if batch.header().next_offset() > wanted.until {
                match keep(&batch, |offset| offset < wanted.until)? {
                    Some(before) => batch = before,
                    None => break,
                }
            }
            if room == 0 {
                input.next_offset = first_offset(&batch)?;
                break;
            }
            if batch.header().record_count > room {
                input.next_offset = nth_offset(&batch, room)?;
                if let Some(first) = keep(&batch, |offset| offset < input.next_offset)? {
                    input.batches.push(first);
                }
                break;
            }
            room -= batch.header().record_count;
            input.batches.push(batch);
        }
        input.taken = input.records();
        let times = input.batches.iter().map(|it| it.header().max_timestamp_ms);
        input.max_timestamp_ms = times.max().unwrap_or(TimestampMs::MIN);
        if !wanted.held_keys.is_empty() {
            input.hold_back(|_, key| key.is_some_and(|key| wanted.held_keys.contains(key)))?;
        }
        Ok(input)
    }

    /// Reads what is visible, batch by batch. It may block on the disk.
    pub(crate) fn read_stored(
        reader: &PartitionReader,
        wanted: &Wanted,
    ) -> Result<Stored, WireError> {
        let read = reader.read_blocking(wanted.offset, TURN_BYTES)?;
        let mut whole = Vec::with_capacity(read.batches.len());
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            let batch = batch.uncompressed().map_err(errors::from_batch)?;
            let header = batch.header();
            if header.base_offset >= wanted.until {
                break;
            }
            let apart = header.base_offset < wanted.offset
                || header.next_offset() > wanted.until
                || header.record_count > wanted.records
                || holds_any(&batch, &wanted.held_keys)?;
            if !apart {
                whole.push(batch);
            } else if whole.is_empty() {
                let first = Wanted {
                    records: wanted.records.min(records_from(&batch, wanted.offset)?),
                    held_keys: wanted.held_keys.clone(),
                    ..*wanted
                };
                return Ok(Stored::Part(Self::read(reader, &first)?));
            } else {
                break;
            }
        }
        if whole.is_empty() {
            let next_offset = read.next_offset.min(wanted.until);
            return Ok(Stored::Part(Self {
                next_offset,
                ..Self::default()
            }));
        }
        Ok(Stored::Whole(whole))
    }

    /// A whole batch.
    pub(crate) fn whole(batch: RecordBatch) -> Self {
        let header = batch.header();
        Self {
            next_offset: header.next_offset(),
            taken: header.record_count,
            max_timestamp_ms: header.max_timestamp_ms,
            batches: vec![batch],
            held: Vec::new(),
        }
    }

    /// A parked record alone. Where only its offset was kept it is read again.
    pub(crate) fn parked(
        reader: &PartitionReader,
        parked: &ParkedRecord,
    ) -> Result<Self, WireError> {
        let next_offset = parked.offset.saturating_add(1);
        if parked.batch.is_empty() {
            let wanted = Wanted {
                offset: parked.offset,
                until: Offset::MAX,
                records: 1,
                held_keys: HashSet::new(),
            };
            return Ok(Self {
                next_offset,
                ..Self::read(reader, &wanted)?
            });
        }
        let batch = RecordBatch::parse(parked.batch.clone()).map_err(errors::from_batch)?;
        Ok(Self {
            batches: vec![batch.uncompressed().map_err(errors::from_batch)?],
            held: Vec::new(),
            next_offset,
            taken: 1,
            max_timestamp_ms: TimestampMs::MIN,
        })
    }

    /// Forgets the records, but not those that wait.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn records(&self) -> u32 {
        // A call has far fewer: its batches are bounded.
        self.batches
            .iter()
            .map(|batch| batch.header().record_count)
            .sum()
    }

    /// The batches in one piece. A single one, the common case of a busy topic, is not copied.
    pub(crate) fn bytes(&self) -> Bytes {
        match self.batches.as_slice() {
            [one] => one.bytes().clone(),
            many => {
                let mut all =
                    BytesMut::with_capacity(many.iter().map(|batch| batch.bytes().len()).sum());
                for batch in many {
                    all.extend_from_slice(batch.bytes());
                }
                all.freeze()
            }
        }
    }

    /// The first and the last offset of the call.
    pub(crate) fn range(&self) -> (Offset, Offset) {
        let first = self.batches.first().map(|it| it.header().base_offset);
        let last = self.batches.last().map(|it| it.header().last_offset());
        (first.unwrap_or_default(), last.unwrap_or_default())
    }

    /// Offset, and key, of every record.
    pub(crate) fn keys(&self) -> Result<Vec<(Offset, Option<Bytes>)>, WireError> {
        let mut keys = Vec::with_capacity(self.records() as usize);
        for batch in &self.batches {
            let records = batch.records().map_err(errors::from_batch)?;
            for record in records.into_owned() {
                let (offset, record) = record.map_err(errors::from_batch)?;
                keys.push((offset, record.key));
            }
        }
        Ok(keys)
    }

    /// The record at an offset, alone in a batch.
    pub(crate) fn alone(&self, offset: Offset) -> Result<Bytes, WireError> {
        for batch in &self.batches {
            let header = batch.header();
            if (header.base_offset..header.next_offset()).contains(&offset)
                && let Some(alone) = keep(batch, |it| it == offset)?
            {
                return Ok(alone.bytes().clone());
            }
        }
        Ok(Bytes::new())
    }

    /// Takes the records at these offsets out of the call.
    pub(crate) fn remove(&mut self, offsets: &HashSet<Offset>) -> Result<(), WireError> {
        self.retain(|offset| !offsets.contains(&offset))
    }

    /// Takes records out of the call that wait behind another.
    pub(crate) fn hold_back(
        &mut self,
        waits: impl Fn(Offset, Option<&[u8]>) -> bool,
    ) -> Result<(), WireError> {
        let mut held = HashSet::new();
        for (offset, key) in self.keys()? {
            if waits(offset, key.as_deref()) {
                let batch = self.alone(offset)?;
                held.insert(offset);
                self.held.push(parked(offset, key, batch));
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        self.remove(&held)
    }

    fn retain(&mut self, mut wanted: impl FnMut(Offset) -> bool) -> Result<(), WireError> {
        let mut kept = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            kept.extend(keep(batch, &mut wanted)?);
        }
        self.batches = kept;
        Ok(())
    }
}

/// A record that waits, and was not tried.
pub(crate) fn parked(offset: Offset, key: Option<Bytes>, batch: Bytes) -> ParkedRecord {
    ParkedRecord {
        offset,
        key,
        attempts: 0,
        due_ms: 0,
        reason: String::new(),
        batch,
    }
}

/// A parked record as the journal keeps it: one that is too large by its offset alone.
pub(crate) fn for_journal(mut parked: ParkedRecord) -> ParkedRecord {
    if parked.batch.len() > MAX_PARKED_RECORD_BYTES {
        parked.batch = Bytes::new();
    }
    parked
}

/// The only record of a batch.
pub(crate) fn only_record(batch: Bytes) -> Result<Option<Record>, WireError> {
    if batch.is_empty() {
        return Ok(None);
    }
    let batch = RecordBatch::parse(batch).map_err(errors::from_batch)?;
    let records = batch.records().map_err(errors::from_batch)?;
    let record = records.into_owned().next();
    let record = record.transpose().map_err(errors::from_batch)?;
    Ok(record.map(|(_, record)| record))
}

/// Whether a batch has a record of one of these keys.
fn holds_any(batch: &RecordBatch, keys: &HashSet<Bytes>) -> Result<bool, WireError> {
    if keys.is_empty() {
        return Ok(false);
    }
    let records = batch.records().map_err(errors::from_batch)?;
    for record in records.iter() {
        let record = record.map_err(errors::from_batch)?;
        if record.key.is_some_and(|key| keys.contains(key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many records of a batch lie at an offset or behind it.
fn records_from(batch: &RecordBatch, offset: Offset) -> Result<u32, WireError> {
    let records = batch.records().map_err(errors::from_batch)?;
    let mut count = 0;
    for record in records.iter() {
        count += u32::from(record.map_err(errors::from_batch)?.offset >= offset);
    }
    Ok(count)
}

fn keep(
    batch: &RecordBatch,
    mut wanted: impl FnMut(Offset) -> bool,
) -> Result<Option<RecordBatch>, WireError> {
    let kept = batch::retain(batch, |record| wanted(record.offset)).map_err(errors::from_batch)?;
    kept.map(|bytes| RecordBatch::parse(bytes).map_err(errors::from_batch))
        .transpose()
}

fn first_offset(batch: &RecordBatch) -> Result<Offset, WireError> {
    nth_offset(batch, 0)
}

/// The offset of the record of this number in the batch. A compacted batch has gaps, so that
/// records are asked.
fn nth_offset(batch: &RecordBatch, number: u32) -> Result<Offset, WireError> {
    let records = batch.records().map_err(errors::from_batch)?;
    match records.iter().nth(number as usize) {
        Some(record) => Ok(record.map_err(errors::from_batch)?.offset),
        None => Ok(batch.header().next_offset()),
    }
}

//! What one call of a guest works on: whole batches, uncompressed.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use millstream_protocol::batch::{self, BATCH_HEADER_BYTES, Record, RecordBatch};
use millstream_protocol::{Offset, TimestampMs, WireError};
use millstream_worker::ParkedRecord;
use millstream_worker::limits::{
    MAX_PARKED_RECORD_BYTES, MAX_SET_ASIDE_BYTES, SET_ASIDE_OVERHEAD_BYTES,
};

use crate::errors;
use crate::partition::{PartitionReader, ReadBatches};

/// Bytes of input that one call of a guest works on, after decompression. A turn ends with the batch
/// that reaches it; a batch that is larger by itself is a turn of its own.
pub(crate) const TURN_BYTES: usize = 1 << 20;

/// What a call may have.
#[derive(Clone)]
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
        Self::of(reader.read_blocking(wanted.offset, TURN_BYTES)?, wanted)
    }

    /// Takes what may be had of what was read.
    pub(crate) fn of(read: ReadBatches, wanted: &Wanted) -> Result<Self, WireError> {
        let mut input = Self {
            batches: Vec::with_capacity(read.batches.len()),
            held: Vec::new(),
            next_offset: read.next_offset.min(wanted.until),
            taken: 0,
            max_timestamp_ms: TimestampMs::MIN,
        };
        let (mut room, mut taken_bytes) = (wanted.records, 0);
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            let base_offset = batch.header().base_offset;
            if base_offset >= wanted.until {
                break;
            }
            if batch.header().control {
                continue;
            }
            if room == 0 || taken_bytes >= TURN_BYTES {
                input.next_offset = base_offset;
                break;
            }
            let mut batch = batch.uncompressed().map_err(errors::from_batch)?;
            if has_no_room(&batch, taken_bytes) {
                input.next_offset = base_offset;
                break;
            }
            taken_bytes += batch.bytes().len();
            if base_offset < wanted.offset {
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
        let waiting = input.cut_behind(&wanted.held_keys)?;
        input.taken = input.records();
        input.max_timestamp_ms = input.greatest_timestamp_ms()?;
        input.hold_back(waiting)?;
        Ok(input)
    }

    /// Reads what is visible, batch by batch. It may block on the disk.
    pub(crate) fn read_stored(
        reader: &PartitionReader,
        wanted: &Wanted,
    ) -> Result<Stored, WireError> {
        let read = reader.read_blocking(wanted.offset, TURN_BYTES)?;
        let mut whole = Vec::with_capacity(read.batches.len());
        let mut taken_bytes = 0;
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            if batch.header().base_offset >= wanted.until || taken_bytes >= TURN_BYTES {
                break;
            }
            let batch = batch.uncompressed().map_err(errors::from_batch)?;
            if has_no_room(&batch, taken_bytes) {
                break;
            }
            taken_bytes += batch.bytes().len();
            let header = batch.header();
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

    /// Takes in what follows it. Only where it ends is known then, and how much it was: all of it is handled.
    pub(crate) fn append(&mut self, next: Self) {
        self.clear();
        self.held.extend(next.held);
        self.next_offset = next.next_offset;
        self.taken += next.taken;
        self.max_timestamp_ms = self.max_timestamp_ms.max(next.max_timestamp_ms);
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

    /// A parked record alone. Where only its offset was kept it is read again; `None` when it is gone
    /// from its topic.
    pub(crate) fn parked(
        reader: &PartitionReader,
        parked: &ParkedRecord,
    ) -> Result<Option<Self>, WireError> {
        let next_offset = parked.offset.saturating_add(1);
        if parked.batch.is_empty() {
            let wanted = Wanted {
                offset: parked.offset,
                // Compaction may have taken it: the one behind it is another record.
                until: next_offset,
                records: 1,
                held_keys: HashSet::new(),
            };
            let input = Self::read(reader, &wanted)?;
            return Ok((!input.is_empty()).then_some(input));
        }
        let batch = RecordBatch::parse(parked.batch.clone()).map_err(errors::from_batch)?;
        Ok(Some(Self {
            batches: vec![batch.uncompressed().map_err(errors::from_batch)?],
            held: Vec::new(),
            next_offset,
            taken: 1,
            max_timestamp_ms: TimestampMs::MIN,
        }))
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

    /// The first and the last offset of the call; `None` when it has no record.
    pub(crate) fn range(&self) -> Result<Option<(Offset, Offset)>, WireError> {
        // Of a batch of which only some records are left, the header still says what it was.
        let mut range = None;
        for batch in self.batches.first().into_iter().chain(self.batches.last()) {
            let records = batch.records().map_err(errors::from_batch)?;
            for record in &records {
                let offset = record.map_err(errors::from_batch)?.offset;
                let (first, _) = *range.get_or_insert((offset, offset));
                range = Some((first, offset));
            }
        }
        Ok(range)
    }

    /// Every record, in offset order.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, WireError> {
        let mut entries = Vec::with_capacity(self.records() as usize);
        for batch in &self.batches {
            let section = batch.bytes();
            let records = batch.records().map_err(errors::from_batch)?;
            let mut iter = records.iter();
            let mut rest_bytes = iter.rest_bytes();
            while let Some(record) = iter.next() {
                let record = record.map_err(errors::from_batch)?;
                entries.push(Entry {
                    offset: record.offset,
                    // They are not compressed: it lies in the batch.
                    key: record.key.map(|key| section.slice_ref(key)),
                    bytes: BATCH_HEADER_BYTES + rest_bytes - iter.rest_bytes(),
                });
                rest_bytes = iter.rest_bytes();
            }
        }
        Ok(entries)
    }

    /// The records at these offsets, each alone in a batch.
    pub(crate) fn split(
        &self,
        offsets: &HashSet<Offset>,
    ) -> Result<HashMap<Offset, Bytes>, WireError> {
        let mut alone = HashMap::with_capacity(offsets.len());
        for batch in &self.batches {
            let split = batch::split(batch, |record| offsets.contains(&record.offset));
            alone.extend(split.map_err(errors::from_batch)?);
        }
        Ok(alone)
    }

    /// Leaves what there is from this offset on to be read again.
    pub(crate) fn cut(&mut self, next_offset: Offset) -> Result<(), WireError> {
        self.next_offset = next_offset;
        self.retain(|offset| offset < next_offset)?;
        self.held.retain(|it| it.offset < next_offset);
        self.max_timestamp_ms = self.greatest_timestamp_ms()?;
        Ok(())
    }

    /// Takes the records at these offsets out of the call.
    pub(crate) fn remove(&mut self, offsets: &HashSet<Offset>) -> Result<(), WireError> {
        self.retain(|offset| !offsets.contains(&offset))
    }

    /// The greatest timestamp of the records. A batch that was cut still tells that of all it had.
    fn greatest_timestamp_ms(&self) -> Result<TimestampMs, WireError> {
        let mut greatest_ms = TimestampMs::MIN;
        for batch in &self.batches {
            let header = batch.header();
            if header.next_offset() <= self.next_offset {
                greatest_ms = greatest_ms.max(header.max_timestamp_ms);
                continue;
            }
            let records = batch.records().map_err(errors::from_batch)?;
            for record in &records {
                let record = record.map_err(errors::from_batch)?;
                greatest_ms = greatest_ms.max(record.timestamp_ms);
            }
        }
        Ok(greatest_ms)
    }

    /// Finds the records that wait behind others of their key. Where they are too many for one commit,
    /// the call ends in front of the first that is one too many.
    fn cut_behind(&mut self, held_keys: &HashSet<Bytes>) -> Result<Vec<Entry>, WireError> {
        if held_keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut waiting = self.entries()?;
        waiting.retain(|it| it.key.as_ref().is_some_and(|key| held_keys.contains(key)));
        let bytes = waiting.iter().map(|it| (it.offset, it.set_aside_bytes(0)));
        if let Some(too_many) = first_too_many(bytes) {
            self.cut(too_many)?;
            waiting.retain(|it| it.offset < too_many);
        }
        Ok(waiting)
    }

    /// Takes records out of the call that wait behind others.
    fn hold_back(&mut self, waiting: Vec<Entry>) -> Result<(), WireError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let offsets = waiting.iter().map(|it| it.offset).collect();
        let mut alone = self.split(&offsets)?;
        for Entry { offset, key, .. } in waiting {
            let batch = alone.remove(&offset).unwrap_or_default();
            self.held.push(parked(offset, key, batch));
        }
        self.remove(&offsets)
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

/// What is known of a record of a call without a look at its content.
pub(crate) struct Entry {
    pub(crate) offset: Offset,
    /// Shares its batch's memory.
    pub(crate) key: Option<Bytes>,
    /// What it takes alone in a batch.
    bytes: usize,
}

impl Entry {
    /// What it counts among what is set aside, with why it failed.
    pub(crate) fn set_aside_bytes(&self, reason_bytes: usize) -> usize {
        let key_bytes = self.key.as_ref().map_or(0, Bytes::len);
        SET_ASIDE_OVERHEAD_BYTES + self.bytes + key_bytes + reason_bytes
    }
}

/// The same of a record that was set aside.
pub(crate) fn set_aside_bytes(record: &ParkedRecord) -> usize {
    let key_bytes = record.key.as_ref().map_or(0, Bytes::len);
    SET_ASIDE_OVERHEAD_BYTES + record.batch.len() + key_bytes + record.reason.len()
}

/// Of records that are set aside, in offset order and with what each counts, the first that has no
/// room in one commit with those before it.
pub(crate) fn first_too_many(records: impl Iterator<Item = (Offset, usize)>) -> Option<Offset> {
    let mut bytes = 0;
    let mut numbered = records.enumerate();
    let too_many = numbered.find(|(number, (_, more))| {
        bytes += more;
        *number > 0 && bytes > MAX_SET_ASIDE_BYTES
    });
    too_many.map(|(_, (offset, _))| offset)
}

/// A record that waits, and was not tried. It may wait for long: its key keeps no batch in memory.
pub(crate) fn parked(offset: Offset, key: Option<Bytes>, batch: Bytes) -> ParkedRecord {
    ParkedRecord {
        offset,
        key: key.map(|key| Bytes::copy_from_slice(&key)),
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

/// Whether a batch is a turn of its own, and does not end one that has begun.
fn has_no_room(batch: &RecordBatch, taken_bytes: usize) -> bool {
    taken_bytes > 0 && batch.bytes().len() > TURN_BYTES
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

/// The offset of the record of this number in the batch. A compacted batch has gaps, so that
/// records are asked.
fn nth_offset(batch: &RecordBatch, number: u32) -> Result<Offset, WireError> {
    let records = batch.records().map_err(errors::from_batch)?;
    match records.iter().nth(number as usize) {
        Some(record) => Ok(record.map_err(errors::from_batch)?.offset),
        None => Ok(batch.header().next_offset()),
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{BatchBuilder, Compression};

    use super::*;

    /// A batch of records with these keys, from an offset on, and from the time 0 on.
    fn batch(base_offset: Offset, keys: &[&str]) -> RecordBatch {
        let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
        for (timestamp_ms, key) in (0..).zip(keys) {
            builder
                .append(timestamp_ms, Some(key.as_bytes()), Some(b"value"), &[])
                .expect("room");
        }
        let mut bytes = BytesMut::from(builder.finish(None).expect("a batch"));
        batch::assign(&mut bytes, base_offset, 0).expect("an offset");
        RecordBatch::parse(bytes.freeze()).expect("a batch")
    }

    fn input(batches: Vec<RecordBatch>) -> Input {
        Input {
            batches,
            ..Input::default()
        }
    }

    #[test]
    fn the_range_is_that_of_the_records_that_are_left() {
        let batches = vec![batch(10, &["a", "b", "c"]), batch(13, &["d", "e", "f"])];
        let mut some = input(batches);
        assert_eq!(some.range(), Ok(Some((10, 15))));
        some.remove(&HashSet::from([10, 14, 15])).expect("batches");
        assert_eq!(some.range(), Ok(Some((11, 13))));
        some.remove(&HashSet::from([11, 12])).expect("batches");
        assert_eq!(some.range(), Ok(Some((13, 13))));
        some.clear();
        assert_eq!(some.range(), Ok(None));
    }

    #[test]
    fn what_is_cut_off_has_not_been_reached() {
        let mut some = input(vec![batch(10, &["a", "b", "c"]), batch(13, &["d"])]);
        some.next_offset = 14;
        assert_eq!(some.greatest_timestamp_ms(), Ok(2));
        some.retain(|offset| offset < 12).expect("batches");
        some.next_offset = 12;
        assert_eq!(some.greatest_timestamp_ms(), Ok(1));
    }

    #[test]
    fn records_that_wait_are_taken_out_each_with_memory_of_its_own() {
        let mut some = input(vec![batch(10, &["a", "b", "a"]), batch(13, &["c", "b"])]);
        let held_keys = HashSet::from([Bytes::from_static(b"a"), Bytes::from_static(b"c")]);
        let waiting = some.cut_behind(&held_keys).expect("batches");
        let known: Vec<_> = waiting.iter().map(|it| (it.offset, it.bytes)).collect();
        some.hold_back(waiting).expect("batches");
        assert_eq!(some.records(), 2);
        let held: Vec<_> = some.held.iter().map(|it| it.offset).collect();
        assert_eq!(held, [10, 12, 13]);
        for (held, known) in std::mem::take(&mut some.held).into_iter().zip(known) {
            let bytes = held.batch.len();
            assert_eq!((held.offset, bytes), known, "what was known before");
            let record = only_record(held.batch.clone()).expect("a batch");
            assert_eq!(record.and_then(|it| it.key), held.key);
            assert_eq!(Vec::from(held.batch).capacity(), bytes);
            assert_eq!(held.key.map(|key| Vec::from(key).capacity()), Some(1));
        }
    }

    #[test]
    fn what_waits_is_bounded_and_the_call_ends_in_front_of_the_rest() {
        let key = "k".repeat(100);
        let keys = vec![key.as_str(); 4_500];
        let held_keys = HashSet::from([Bytes::from(key.clone())]);
        let mut some = input(vec![batch(0, &keys), batch(4_500, &["other"])]);
        some.next_offset = 4_501;
        let waiting = some.cut_behind(&held_keys).expect("batches");
        let bytes: usize = waiting.iter().map(|it| it.set_aside_bytes(0)).sum();
        let one = waiting[0].set_aside_bytes(0);
        assert!((MAX_SET_ASIDE_BYTES - one..=MAX_SET_ASIDE_BYTES).contains(&bytes));
        assert_eq!(some.next_offset, waiting.len() as u64);
        assert_eq!(some.records() as usize, waiting.len());
    }

    #[test]
    fn the_first_has_room_however_large_it_is() {
        let too_many = |bytes: &[usize]| first_too_many((5..).zip(bytes.iter().copied()));
        assert_eq!(too_many(&[]), None);
        assert_eq!(too_many(&[MAX_SET_ASIDE_BYTES + 1]), None);
        assert_eq!(too_many(&[MAX_SET_ASIDE_BYTES, 0, 1]), Some(7));
        assert_eq!(too_many(&[MAX_SET_ASIDE_BYTES + 1, 0]), Some(6));
    }
}

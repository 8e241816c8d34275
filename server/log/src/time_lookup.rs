//! From a time to an offset.

use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{Offset, TimestampMs};

use crate::damage::Damage;
use crate::error::Attempt;
use crate::format::entry::EntryFault;
use crate::limits::HEADER_CHUNK_BYTES;
use crate::reader::{LogReader, ReadError, find_landing};
use crate::scan::{Entry, Scanner, Step};
use crate::segment::Segment;
use crate::view::View;

impl LogReader {
    /// The first record, by offset, whose timestamp is `timestamp_ms` or later, with its
    /// timestamp; `None` when there is none below `up_to` (exclusive). Control records are passed
    /// over. It may block on the disk.
    ///
    /// # Errors
    ///
    /// The segments that have to be looked at cannot be read or are damaged.
    pub fn offset_for_time(
        &self,
        timestamp_ms: TimestampMs,
        up_to: Offset,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        self.in_view(|view| {
            let search = Search {
                reader: self,
                timestamp_ms,
                from: view.log_start_offset,
                up_to: up_to.min(view.end_offset()),
            };
            search.in_view(view)
        })
    }
}

struct Search<'a> {
    reader: &'a LogReader,
    timestamp_ms: TimestampMs,
    from: Offset,
    up_to: Offset,
}

impl Search<'_> {
    fn in_view(&self, view: &View) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        for segment in view.segments_from(self.from) {
            if segment.base_offset() >= self.up_to {
                break;
            }
            if let Some(damage) = segment.damage() {
                return Err(ReadError::Damaged(damage.clone()));
            }
            if let Some(found) = self.in_segment(segment)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_segment(&self, segment: &Segment) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        // An index that misjudges the highest timestamp is possible only if its checksum is right
        // and it is wrong: then it was written so.
        if segment.by_time(self.timestamp_ms)?.is_none() {
            return Ok(None);
        }
        let shared = &self.reader.shared;
        let bytes = segment.bytes()?;
        let landing = find_landing(shared, segment, &bytes, |segment| {
            let landing = segment.by_time(self.timestamp_ms)?;
            landing.map_or_else(|| segment.by_offset(segment.base_offset()), Ok)
        })?;
        let start = (landing.offset, landing.position);
        let density = segment.header.density;
        let mut scanner = Scanner::new(&bytes, &shared.binding, density, start, HEADER_CHUNK_BYTES);
        let path = segment.path();
        loop {
            let entry = match scanner.step().attempt("read", path)? {
                Step::Entry(entry) => entry,
                Step::End => return Ok(None),
                Step::Fault(fault) => {
                    return Err(damaged(
                        segment,
                        scanner.expected(),
                        scanner.position(),
                        &fault,
                    ));
                }
            };
            if entry.header.batch.base_offset >= self.up_to {
                return Ok(None);
            }
            if !self.may_hold(&entry) {
                continue;
            }
            match scanner.batch(&entry).attempt("read", path)? {
                Ok(batch) => {
                    if let Some(found) = RecordBatch::parse(batch)
                        .ok()
                        .and_then(|b| self.in_batch(&b))
                    {
                        return Ok(Some(found));
                    }
                }
                Err(fault) => {
                    let offset = entry.header.batch.base_offset;
                    return Err(damaged(segment, offset, entry.position, &fault));
                }
            }
        }
    }

    fn may_hold(&self, entry: &Entry) -> bool {
        let batch = &entry.header.batch;
        batch.max_timestamp_ms >= self.timestamp_ms
            && batch.next_offset() > self.from
            && !batch.control
    }

    /// Looks into the batch. One whose records cannot be decompressed has none: consumers meet the
    /// error when they read it.
    fn in_batch(&self, batch: &RecordBatch) -> Option<(Offset, TimestampMs)> {
        let records = batch.records().ok()?;
        records
            .iter()
            .map_while(Result::ok)
            .filter(|record| (self.from..self.up_to).contains(&record.offset))
            .find(|record| record.timestamp_ms >= self.timestamp_ms)
            .map(|record| (record.offset, record.timestamp_ms))
    }
}

fn damaged(segment: &Segment, offset: Offset, position: u64, fault: &EntryFault) -> ReadError {
    ReadError::Damaged(Damage {
        offset,
        what: format!(
            "{} has {fault} at byte {position}",
            segment.path().display()
        ),
    })
}

//! Whole batches, and the records in them.

use bytes::Bytes;

use super::attributes::TimestampKind;
use super::compression;
use super::error::{BatchError, RecordFault};
use super::header::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::record::{EncodedRecord, Header, Record, RecordView};
use crate::ids::Offset;

/// One whole batch, its header checked and its checksum verified.
///
/// A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Reads `bytes`, exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.batch_bytes != bytes.len() {
            return Err(BatchError::Length {
                expected: header.batch_bytes,
                actual: bytes.len(),
            });
        }
        header::verify_crc(&bytes)?;
        Ok(Self { header, bytes })
    }

    /// Takes one batch off the front of `bytes`, batches one after the other; `None` when there
    /// are no more. On an error `bytes` stays as it was.
    pub fn parse_next(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let header = BatchHeader::parse(bytes)?;
        let Some(batch) = bytes.get(..header.batch_bytes) else {
            return Err(BatchError::Length {
                expected: header.batch_bytes,
                actual: bytes.len(),
            });
        };
        header::verify_crc(batch)?;
        Ok(Some(Self {
            header,
            bytes: bytes.split_to(header.batch_bytes),
        }))
    }

    /// A batch that was just written here: its header and checksum are known to be right.
    pub(super) fn written(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, decompressed if need be.
    ///
    /// # Errors
    ///
    /// They cannot be decompressed, or are larger then than
    /// [`MAX_DECOMPRESSED_BATCH_BYTES`](crate::limits::MAX_DECOMPRESSED_BATCH_BYTES): decompression
    /// stops at that limit, whatever the batch claims.
    pub fn records(&self) -> Result<Records, BatchError> {
        let section = compression::decompress(
            self.header.compression,
            self.bytes.slice(BATCH_HEADER_BYTES..),
        )?;
        header::check_record_count(self.header.record_count, section.len())?;
        if self.header.record_count == 0 && !section.is_empty() {
            return Err(BatchError::Field {
                field: "record count",
                value: 0,
            });
        }
        Ok(Records {
            section,
            cursor: Cursor::new(&self.header),
        })
    }
}

/// The records of one batch, decompressed. Owns their bytes.
#[derive(Clone, Debug)]
pub struct Records {
    section: Bytes,
    cursor: Cursor,
}

impl Records {
    /// The encoded records, one after the other.
    pub(super) fn section(&self) -> &Bytes {
        &self.section
    }

    /// The records where they lie. Ends after the first error.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            rest: &self.section,
            cursor: self.cursor,
        }
    }

    /// The records with their offsets, each field a slice of one shared buffer. Ends after the
    /// first error.
    pub fn into_owned(self) -> OwnedRecordIter {
        OwnedRecordIter {
            section: self.section,
            position: 0,
            cursor: self.cursor,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<RecordView<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// The records of a batch where they lie.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    cursor: Cursor,
}

impl RecordIter<'_> {
    /// Bytes of the records that are not yet read: what it falls by with a record is its size.
    pub fn rest_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.cursor.size_hint()
    }
}

/// The records of a batch with their offsets, each field a slice of one shared buffer.
#[derive(Clone, Debug)]
pub struct OwnedRecordIter {
    section: Bytes,
    position: usize,
    cursor: Cursor,
}

impl Iterator for OwnedRecordIter {
    type Item = Result<(Offset, Record), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = &self.section[self.position..];
        let item = self.cursor.next(&mut rest)?;
        self.position = self.section.len() - rest.len();
        Some(item.map(|view| (view.offset, to_owned(&self.section, &view))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.cursor.size_hint()
    }
}

/// The record that `view` shows, as slices of `section`, in which it lies.
fn to_owned(section: &Bytes, view: &RecordView<'_>) -> Record {
    let slice = |field: Option<&[u8]>| field.map(|bytes| section.slice_ref(bytes));
    // At most MAX_HEADERS_PER_RECORD. Most records have none: nothing is allocated then.
    let mut headers = Vec::new();
    for header in view.headers() {
        headers.push(Header {
            name: section.slice_ref(header.name),
            value: slice(header.value),
        });
    }
    Record {
        key: slice(view.key),
        value: slice(view.value),
        headers,
        timestamp_ms: view.timestamp_ms,
    }
}

/// Where a walk over the records stands, and what their deltas are counted from.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    base_offset: Offset,
    last_offset_delta: u32,
    base_timestamp_ms: i64,
    /// The timestamp of every record, if the broker's clock gave it.
    appended_at_ms: Option<i64>,
    /// The lowest offset delta the next record may have: compaction leaves gaps, never disorder.
    delta_floor: u32,
    /// The record to be read next, counted from 0.
    index: u32,
    /// The count of records; behind it, or after an error, the walk is over.
    end: u32,
}

impl Cursor {
    fn new(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp_ms: header.base_timestamp_ms,
            appended_at_ms: match header.timestamps {
                TimestampKind::Created => None,
                TimestampKind::Appended => Some(header.max_timestamp_ms),
            },
            delta_floor: 0,
            index: 0,
            end: header.record_count,
        }
    }

    #[inline]
    fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Option<Result<RecordView<'a>, BatchError>> {
        if self.index == self.end {
            return None;
        }
        Some(match self.read(rest) {
            Ok(view) => {
                self.index += 1;
                Ok(view)
            }
            Err(fault) => {
                let index = self.index;
                self.index = self.end;
                Err(BatchError::Record { index, fault })
            }
        })
    }

    #[inline]
    fn read<'a>(&mut self, rest: &mut &'a [u8]) -> Result<RecordView<'a>, RecordFault> {
        let record = EncodedRecord::read(rest)?;
        let delta = u32::try_from(record.offset_delta).map_err(|_| RecordFault::OffsetDelta)?;
        if delta < self.delta_floor || delta > self.last_offset_delta {
            return Err(RecordFault::OffsetDelta);
        }
        if self.index + 1 == self.end && !rest.is_empty() {
            return Err(RecordFault::Trailing);
        }
        self.delta_floor = delta + 1;
        let timestamp_ms = match self.appended_at_ms {
            Some(appended_at_ms) => appended_at_ms,
            None => self
                .base_timestamp_ms
                .checked_add(record.timestamp_delta)
                .ok_or(RecordFault::Timestamp)?,
        };
        Ok(RecordView {
            offset: self.base_offset + u64::from(delta),
            timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.end - self.index) as usize))
    }
}

//! What a broker checks of a produced batch before it appends.

use super::attributes::Compression;
use super::error::{BatchError, RecordFault};
use super::header::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::record::{EncodedRecord, HeaderIter};
use crate::limits::{MAX_HEADER_NAME_BYTES, MAX_RECORD_BYTES};

/// Checks a produced batch: `batch` is exactly one, of at most `max_batch_bytes`.
///
/// Checked are layout, version, checksum and codec, that no attribute is set that is not a
/// client's, and that the count of records is the last offset delta + 1. The records of an
/// uncompressed batch are walked: lengths and integers, offset deltas 0, 1, 2 …, the max
/// timestamp, record sizes, header names. Compressed ones are not decompressed here; whoever reads
/// them checks them then, within limits.
///
/// The fields that [`assign`](super::assign) writes may hold anything valid.
pub fn validate_produced(batch: &[u8], max_batch_bytes: usize) -> Result<BatchHeader, BatchError> {
    if batch.len() > max_batch_bytes {
        return Err(BatchError::TooLarge {
            limit: max_batch_bytes,
        });
    }
    let header = BatchHeader::parse(batch)?;
    if header.batch_bytes != batch.len() {
        return Err(BatchError::Length {
            expected: header.batch_bytes,
            actual: batch.len(),
        });
    }
    header::verify_crc(batch)?;
    header::attributes(header::raw(batch)?).check_produced()?;
    if header.record_count != header.last_offset_delta + 1 {
        return Err(BatchError::Field {
            field: "record count",
            value: header.record_count.into(),
        });
    }
    if header.compression == Compression::None {
        walk(&header, &batch[BATCH_HEADER_BYTES..])?;
    }
    Ok(header)
}

fn walk(header: &BatchHeader, mut section: &[u8]) -> Result<(), BatchError> {
    let mut max_timestamp_ms = i64::MIN;
    for index in 0..header.record_count {
        let timestamp_ms = check_record(header, index, &mut section)
            .map_err(|fault| BatchError::Record { index, fault })?;
        max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
    }
    if !section.is_empty() {
        return Err(BatchError::Record {
            index: header.last_offset_delta,
            fault: RecordFault::Trailing,
        });
    }
    // The time index and retention by time go by it.
    if max_timestamp_ms != header.max_timestamp_ms {
        return Err(BatchError::Field {
            field: "max timestamp",
            value: header.max_timestamp_ms,
        });
    }
    Ok(())
}

#[inline]
fn check_record(header: &BatchHeader, index: u32, section: &mut &[u8]) -> Result<i64, RecordFault> {
    let record = EncodedRecord::read(section)?;
    if record.attributes != 0 {
        return Err(RecordFault::Attributes);
    }
    if i64::from(record.offset_delta) != i64::from(index) {
        return Err(RecordFault::OffsetDelta);
    }
    if record.content_bytes() > MAX_RECORD_BYTES {
        return Err(RecordFault::TooLarge);
    }
    check_header_names(record.headers)?;
    header
        .base_timestamp_ms
        .checked_add(record.timestamp_delta)
        .ok_or(RecordFault::Timestamp)
}

fn check_header_names(headers: HeaderIter<'_>) -> Result<(), RecordFault> {
    for header in headers {
        if header.name.len() > MAX_HEADER_NAME_BYTES || std::str::from_utf8(header.name).is_err() {
            return Err(RecordFault::HeaderName);
        }
    }
    Ok(())
}

//! The same batch with fewer records or none, in single records, or without compression.

use bytes::Bytes;

use super::attributes::Compression;
use super::compression;
use super::error::BatchError;
use super::header::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::reader::RecordBatch;
use super::record::RecordView;
use crate::ids::Offset;
use crate::limits::MAX_BATCH_BYTES;

/// The batch without the records that `keep` does not want, for log compaction; `None` when it
/// wants none.
///
/// Every record keeps its offset, and the batch what stands in its header: base offset, last
/// offset delta, leader epoch, producer, timestamps. Records are copied as they are encoded, and
/// compressed as they were; gzip and snappy, which are only read, become zstd.
///
/// # Errors
///
/// The records cannot be read; or what is kept exceeds [`MAX_BATCH_BYTES`] because it compresses
/// worse here than at its producer: keep the batch as it is then.
pub fn retain(
    batch: &RecordBatch,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Option<Bytes>, BatchError> {
    let records = batch.records()?;
    let section = records.section();
    let mut kept = Vec::with_capacity(BATCH_HEADER_BYTES + section.len());
    kept.extend_from_slice(&batch.bytes()[..BATCH_HEADER_BYTES]);
    let mut kept_count = 0;
    let mut iter = records.iter();
    let mut start = 0;
    while let Some(record) = iter.next() {
        let end = section.len() - iter.rest_bytes();
        if keep(&record?) {
            kept.extend_from_slice(&section[start..end]);
            kept_count += 1;
        }
        start = end;
    }
    if kept_count == 0 {
        return Ok(None);
    }
    if kept_count == batch.header().record_count {
        return Ok(Some(batch.bytes().clone()));
    }
    let wanted = match batch.header().compression {
        written @ (Compression::None | Compression::Lz4 | Compression::Zstd) => written,
        Compression::Gzip | Compression::Snappy => Compression::Zstd,
    };
    let (mut kept, compression) = match compression::compress(wanted, &kept)? {
        Some(compressed) => (compressed, wanted),
        None => (kept, Compression::None),
    };
    if kept.len() > MAX_BATCH_BYTES {
        return Err(BatchError::TooLarge {
            limit: MAX_BATCH_BYTES,
        });
    }
    complete(&mut kept, compression, kept_count)?;
    // What is kept may be little, and may be kept for long.
    kept.shrink_to_fit();
    Ok(Some(kept.into()))
}

/// The batch without any of its records, for log compaction, where it has to be known that it was there.
///
/// What stands in its header stays: base offset, last offset delta, leader epoch, producer, timestamps.
/// It becomes a control batch, so that nobody looks for records in it.
pub fn emptied(batch: &RecordBatch) -> Result<Bytes, BatchError> {
    let mut empty = batch.bytes()[..BATCH_HEADER_BYTES].to_vec();
    header::mark_as_control(&mut empty)?;
    complete(&mut empty, Compression::None, 0)?;
    Ok(empty.into())
}

/// Each of the records that `wanted` wants, alone in a batch that is not compressed, with its offset.
///
/// As with [`retain`], offsets and headers stay as they are. Each result has memory of its own, of its
/// own size; the batch is walked through once.
///
/// # Errors
///
/// The records cannot be read.
pub fn split(
    batch: &RecordBatch,
    mut wanted: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Vec<(Offset, Bytes)>, BatchError> {
    let records = batch.records()?;
    let section = records.section();
    let header = &batch.bytes()[..BATCH_HEADER_BYTES];
    let mut alone = Vec::new();
    let mut iter = records.iter();
    let mut start = 0;
    while let Some(record) = iter.next() {
        let record = record?;
        let end = section.len() - iter.rest_bytes();
        if wanted(&record) {
            let mut single = [header, &section[start..end]].concat();
            complete(&mut single, Compression::None, 1)?;
            alone.push((record.offset, single.into()));
        }
        start = end;
    }
    Ok(alone)
}

impl RecordBatch {
    /// The same batch uncompressed, header rewritten and checksum recomputed; itself when it is
    /// not compressed.
    ///
    /// The result is for use in memory: it may exceed [`MAX_BATCH_BYTES`], up to
    /// [`MAX_DECOMPRESSED_BATCH_BYTES`](crate::limits::MAX_DECOMPRESSED_BATCH_BYTES), and would
    /// then be refused on the wire.
    pub fn uncompressed(&self) -> Result<RecordBatch, BatchError> {
        if self.header().compression == Compression::None {
            return Ok(self.clone());
        }
        let records = self.records()?;
        let mut batch = Vec::with_capacity(BATCH_HEADER_BYTES + records.section().len());
        batch.extend_from_slice(&self.bytes()[..BATCH_HEADER_BYTES]);
        batch.extend_from_slice(records.section());
        let crc = complete(&mut batch, Compression::None, self.header().record_count)?;
        let header = BatchHeader {
            compression: Compression::None,
            batch_bytes: batch.len(),
            crc,
            ..*self.header()
        };
        Ok(RecordBatch::written(header, batch.into()))
    }
}

/// Makes a batch of another batch's header and new records; returns its checksum.
fn complete(
    batch: &mut [u8],
    compression: Compression,
    record_count: u32,
) -> Result<u32, BatchError> {
    header::describe_records(batch, compression, record_count)?;
    header::seal(batch)
}

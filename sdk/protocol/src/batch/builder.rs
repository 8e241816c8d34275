//! Encodes records straight into one buffer, once.

use bytes::Bytes;

use super::attributes::{Compression, TimestampKind};
use super::compression;
use super::error::{AppendError, BatchError};
use super::header::{self, BATCH_HEADER_BYTES, BatchHeader, ProducerStamp};
use super::record::Header;
use super::varint::Varint;
use crate::ids::TimestampMs;
use crate::limits::{
    MAX_BATCH_BYTES, MAX_HEADER_NAME_BYTES, MAX_HEADERS_PER_RECORD, MAX_RECORD_BYTES,
    MAX_RECORDS_PER_BATCH,
};

/// What a new batch reserves before it is known how large it will be.
const FIRST_CAPACITY_BYTES: usize = 4 * 1024;

/// The attributes of a record.
const ATTRIBUTES_BYTES: usize = 1;

/// What the last varint of a batch may write beyond its own end before it is cut back.
const SLACK_BYTES: usize = 8;

/// Builds one batch out of records.
///
/// Records are encoded as they are appended, each once, into one buffer that grows up to
/// the limit given; nothing is allocated per record.
///
/// ```
/// use millstream_protocol::batch::{BatchBuilder, Compression, RecordBatch};
///
/// let mut builder = BatchBuilder::new(Compression::None, 16 * 1024);
/// builder.append(1_700_000_000_000, Some(b"user-1"), Some(b"signed in"), &[])?;
/// builder.append(1_700_000_000_004, Some(b"user-2"), Some(b"signed out"), &[])?;
/// let batch = RecordBatch::parse(builder.finish(None)?)?;
/// for record in batch.records()?.iter() {
///     let record = record?;
///     println!("{} {:?}", record.offset, record.key);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    compression: Compression,
    max_batch_bytes: usize,
    record_count: u32,
    base_timestamp_ms: TimestampMs,
    max_timestamp_ms: TimestampMs,
}

/// Whose the records of a batch are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Records,
    Control,
}

impl BatchBuilder {
    /// An empty batch of at most `max_batch_bytes` before compression, and never more than
    /// [`MAX_BATCH_BYTES`].
    pub fn new(compression: Compression, max_batch_bytes: usize) -> Self {
        Self::with_buffer(Vec::new(), compression, max_batch_bytes)
    }

    /// The same, in memory that is there already: that of an earlier batch, which has grown to the
    /// size that batches have. Its content does not matter.
    pub fn with_buffer(
        mut buffer: Vec<u8>,
        compression: Compression,
        max_batch_bytes: usize,
    ) -> Self {
        let max_batch_bytes = max_batch_bytes.clamp(BATCH_HEADER_BYTES, MAX_BATCH_BYTES);
        buffer.clear();
        buffer.reserve_exact(FIRST_CAPACITY_BYTES.min(max_batch_bytes));
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self {
            buffer,
            compression,
            max_batch_bytes,
            record_count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
        }
    }

    /// Appends one record and returns its number in the batch, counted from 0.
    ///
    /// # Errors
    ///
    /// [`AppendError::Full`] when it does not fit any more: finish this batch, and append it to
    /// the next. Everything else is the record's own fault, and will not fit anywhere. The batch
    /// stays as it was.
    pub fn append(
        &mut self,
        timestamp_ms: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<u32, AppendError> {
        let headers_bytes = check_headers(headers)?;
        let content_bytes = length(key)
            .saturating_add(length(value))
            .saturating_add(headers_bytes);
        if content_bytes > MAX_RECORD_BYTES {
            return Err(AppendError::RecordTooLarge {
                bytes: content_bytes,
                limit: MAX_RECORD_BYTES,
            });
        }
        if self.record_count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        // Only an empty batch takes a record that is ages away from the first.
        let timestamp_delta = timestamp_ms
            .checked_sub(self.base_timestamp_ms)
            .and_then(Varint::signed);
        let timestamp_delta = timestamp_delta.ok_or(AppendError::Full)?;
        let offset_delta = Varint::unsigned(self.record_count);
        let key_length = field_length(key);
        let value_length = field_length(value);
        let header_count = Varint::unsigned(headers.len() as u32);
        let body_bytes = ATTRIBUTES_BYTES
            + timestamp_delta.bytes
            + offset_delta.bytes
            + key_length.bytes
            + value_length.bytes
            + header_count.bytes
            + content_bytes;
        let length = Varint::unsigned(body_bytes as u32);
        let record_bytes = length.bytes + body_bytes;
        if !self.has_room(record_bytes) {
            let deltas_bytes = timestamp_delta.bytes + offset_delta.bytes;
            return Err(self.refusal(body_bytes - deltas_bytes + 2));
        }
        self.grow(record_bytes);

        self.put_varint(length);
        self.buffer.push(0);
        self.put_varint(timestamp_delta);
        self.put_varint(offset_delta);
        self.put_field(key_length, key);
        self.put_field(value_length, value);
        self.put_varint(header_count);
        for header in headers {
            self.put_field(field_length(Some(&header.name)), Some(&header.name));
            self.put_field(
                field_length(header.value.as_deref()),
                header.value.as_deref(),
            );
        }
        let delta = self.record_count;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        self.record_count += 1;
        Ok(delta)
    }

    /// Records appended so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch's size so far, header included, before compression.
    pub fn encoded_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The whole batch, at base offset 0 and leader epoch 0. It is compressed as asked, unless
    /// that would not make it smaller.
    ///
    /// # Errors
    ///
    /// The batch is empty, `producer` lies outside the format's range, or the compression is one
    /// that is only read.
    pub fn finish(self, producer: Option<ProducerStamp>) -> Result<Bytes, BatchError> {
        self.finish_as(producer, Content::Records)
    }

    /// The same as a control batch.
    pub(super) fn finish_control(self) -> Result<Bytes, BatchError> {
        self.finish_as(None, Content::Control)
    }

    fn finish_as(
        mut self,
        producer: Option<ProducerStamp>,
        content: Content,
    ) -> Result<Bytes, BatchError> {
        let Some(last_offset_delta) = self.record_count.checked_sub(1) else {
            return Err(BatchError::Field {
                field: "record count",
                value: 0,
            });
        };
        let mut compression = Compression::None;
        if let Some(compressed) = compression::compress(self.compression, &self.buffer)? {
            self.buffer = compressed;
            compression = self.compression;
        }
        let header = BatchHeader {
            base_offset: 0,
            batch_bytes: self.buffer.len(),
            leader_epoch: 0,
            crc: 0,
            compression,
            timestamps: TimestampKind::Created,
            transactional: false,
            control: content == Content::Control,
            last_offset_delta,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer,
            record_count: self.record_count,
        };
        header.write(&mut self.buffer)?;
        header::seal(&mut self.buffer)?;
        Ok(self.buffer.into())
    }

    #[inline]
    fn has_room(&self, record_bytes: usize) -> bool {
        self.buffer.len() + record_bytes <= self.max_batch_bytes
            && (self.record_count as usize) < MAX_RECORDS_PER_BATCH
    }

    /// Why there is no room for a record whose body takes `body_bytes` as the first of a batch,
    /// where both deltas are 0.
    fn refusal(&self, body_bytes: usize) -> AppendError {
        let alone = BATCH_HEADER_BYTES + Varint::unsigned(body_bytes as u32).bytes + body_bytes;
        if alone > self.max_batch_bytes {
            AppendError::RecordTooLarge {
                bytes: alone,
                limit: self.max_batch_bytes,
            }
        } else {
            AppendError::Full
        }
    }

    /// Grows the buffer if need be, twofold at a time.
    #[inline]
    fn grow(&mut self, record_bytes: usize) {
        let needed = self.buffer.len() + record_bytes;
        if needed + SLACK_BYTES > self.buffer.capacity() {
            let capacity = (2 * self.buffer.capacity()).clamp(needed, self.max_batch_bytes);
            self.buffer
                .reserve_exact(capacity + SLACK_BYTES - self.buffer.len());
        }
    }

    #[inline]
    fn put_field(&mut self, length: Varint, field: Option<&[u8]>) {
        self.put_varint(length);
        self.buffer.extend_from_slice(field.unwrap_or_default());
    }

    /// Writes a whole word and takes back what does not belong to the value.
    #[inline]
    fn put_varint(&mut self, value: Varint) {
        let end = self.buffer.len() + value.bytes;
        self.buffer.extend_from_slice(&value.word.to_le_bytes());
        self.buffer.truncate(end);
    }
}

/// Checks the headers and says how many bytes they take, encoded.
fn check_headers(headers: &[Header]) -> Result<usize, AppendError> {
    if headers.len() > MAX_HEADERS_PER_RECORD {
        return Err(AppendError::TooManyHeaders {
            count: headers.len(),
        });
    }
    let mut bytes = 0_usize;
    for (index, header) in headers.iter().enumerate() {
        if header.name.len() > MAX_HEADER_NAME_BYTES || std::str::from_utf8(&header.name).is_err() {
            return Err(AppendError::HeaderName { index });
        }
        let value = header.value.as_deref();
        bytes = bytes
            .saturating_add(field_length(Some(&header.name)).bytes + header.name.len())
            .saturating_add(field_length(value).bytes)
            .saturating_add(length(value));
    }
    Ok(bytes)
}

fn length(field: Option<&[u8]>) -> usize {
    field.map_or(0, <[u8]>::len)
}

/// The length of a field that is checked against the limits elsewhere.
fn field_length(field: Option<&[u8]>) -> Varint {
    field.map_or(Varint::ABSENT, |bytes| Varint::unsigned(bytes.len() as u32))
}

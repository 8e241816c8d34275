//! Records as they come in: borrowed from the batch, without a copy.
//!
//! The format is that of `wit/batch-handler.wit`.

use std::fmt;

use crate::varint::Reader;

/// Magic of the only batch format there is.
const MAGIC: u8 = 2;

/// Bytes of a batch before its length is complete: base offset and length.
const LENGTH_END: usize = 12;

/// Attribute bits: compression, records timed by the broker, control records.
const COMPRESSION_BITS: u16 = 0b111;
const APPEND_TIME_BIT: u16 = 1 << 3;
const CONTROL_BIT: u16 = 1 << 5;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    offset: u64,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// Takes one encoded record off the front of `section`.
    #[inline(always)]
    pub(crate) fn decode(
        section: &mut Reader<'a>,
        base_offset: u64,
        base_timestamp_ms: i64,
    ) -> Option<Self> {
        let len = section.length()?;
        let mut reader = Reader::new(section.take(len)?);
        let _attributes = reader.byte()?;
        let timestamp_ms = base_timestamp_ms.wrapping_add(reader.varint()?);
        let offset = base_offset.checked_add_signed(reader.varint()?)?;
        let key = reader.optional_bytes()?;
        let value = reader.optional_bytes()?;
        let headers = Headers {
            remaining: reader.length()?,
            bytes: reader.rest(),
        };
        for _ in 0..headers.remaining {
            read_header(&mut reader)?;
        }
        reader.is_empty().then_some(Self {
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        })
    }

    /// Its position in the partition.
    #[inline(always)]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its time, milliseconds since the Unix epoch.
    #[inline(always)]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Its key.
    #[inline(always)]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value.
    #[inline(always)]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Its headers, in order.
    #[inline(always)]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The value of the first header of this name. `Some(None)`: there is one, without a value.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers()
            .find(|header| header.name == name)
            .map(|header| header.value)
    }
}

/// A named value beside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name. Names may repeat.
    pub name: &'a str,
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in order.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    remaining: usize,
}

impl<'a> Headers<'a> {
    /// The headers as they are encoded, without their number.
    pub(crate) fn encoded(&self) -> (usize, &'a [u8]) {
        (self.remaining, self.bytes)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let mut reader = Reader::new(self.bytes);
        // They have been read once with their record: this does not fail.
        let header = read_header(&mut reader)?;
        self.bytes = reader.rest();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn read_header<'a>(reader: &mut Reader<'a>) -> Option<Header<'a>> {
    let name = str::from_utf8(reader.optional_bytes()??).ok()?;
    Some(Header {
        name,
        value: reader.optional_bytes()?,
    })
}

/// The bytes are not record batches as the host hands them over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedBatch {
    what: &'static str,
}

impl fmt::Display for MalformedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed batch: {}", self.what)
    }
}

impl std::error::Error for MalformedBatch {}

/// The records of one or more batches, one after the other, in offset order. Ends after an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    /// The records of the batch being read.
    section: Reader<'a>,
    remaining: u32,
    base_offset: u64,
    base_timestamp_ms: i64,
    append_time_ms: Option<i64>,
    /// The batches behind it.
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records of `batches`: whole, uncompressed, not of control records.
    pub fn new(batches: &'a [u8]) -> Self {
        let section = Reader::new(&[]);
        Self {
            section,
            remaining: 0,
            base_offset: 0,
            base_timestamp_ms: 0,
            append_time_ms: None,
            rest: batches,
        }
    }

    /// Opens the next batch that has records. `false`: there is none.
    fn open(&mut self) -> Result<bool, MalformedBatch> {
        while self.remaining == 0 {
            if !self.section.is_empty() {
                return Err(MalformedBatch {
                    what: "bytes behind the last record",
                });
            }
            if self.rest.is_empty() {
                return Ok(false);
            }
            self.open_one()?;
        }
        Ok(true)
    }

    fn open_one(&mut self) -> Result<(), MalformedBatch> {
        const SHORT: MalformedBatch = MalformedBatch {
            what: "it is not whole",
        };
        let mut reader = Reader::new(self.rest);
        let base_offset = reader.array().ok_or(SHORT)?;
        let length = u32::from_be_bytes(reader.array().ok_or(SHORT)?);
        let (batch, rest) = self
            .rest
            .split_at_checked(LENGTH_END + length as usize)
            .ok_or(SHORT)?;

        let mut reader = Reader::new(&batch[LENGTH_END..]);
        let [_epoch @ .., magic] = reader.array::<5>().ok_or(SHORT)?;
        let _crc = reader.array::<4>().ok_or(SHORT)?;
        let attributes = u16::from_be_bytes(reader.array().ok_or(SHORT)?);
        let _last_offset_delta = reader.array::<4>().ok_or(SHORT)?;
        let base_timestamp_ms = i64::from_be_bytes(reader.array().ok_or(SHORT)?);
        let max_timestamp_ms = i64::from_be_bytes(reader.array().ok_or(SHORT)?);
        let _producer = reader.array::<14>().ok_or(SHORT)?;
        let remaining = u32::from_be_bytes(reader.array().ok_or(SHORT)?);
        if magic != MAGIC {
            return Err(MalformedBatch {
                what: "unknown magic",
            });
        }
        if attributes & (COMPRESSION_BITS | CONTROL_BIT) != 0 {
            return Err(MalformedBatch {
                what: "it is compressed or of control records",
            });
        }
        let append_time_ms = (attributes & APPEND_TIME_BIT != 0).then_some(max_timestamp_ms);
        let base_offset = u64::from_be_bytes(base_offset);
        *self = Self {
            section: reader,
            remaining,
            base_offset,
            base_timestamp_ms,
            append_time_ms,
            rest,
        };
        Ok(())
    }

    #[inline(always)]
    fn read(&mut self) -> Option<Record<'a>> {
        let record = Record::decode(&mut self.section, self.base_offset, self.base_timestamp_ms)?;
        let timestamp_ms = self.append_time_ms.unwrap_or(record.timestamp_ms);
        Some(Record {
            timestamp_ms,
            ..record
        })
    }

    /// Nothing more is read.
    fn end(&mut self) {
        *self = Self::new(&[]);
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, MalformedBatch>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            match self.open() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.end();
                    return Some(Err(error));
                }
            }
        }
        self.remaining -= 1;
        let record = self.read();
        if record.is_none() {
            self.end();
        }
        Some(record.ok_or(MalformedBatch {
            what: "a record ends too early or too late",
        }))
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

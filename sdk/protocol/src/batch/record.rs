//! One record: owned, borrowed, and the walk over its encoded bytes.

use bytes::Bytes;

use super::error::RecordFault;
use super::varint;
use crate::ids::{Offset, TimestampMs};
use crate::limits::MAX_HEADERS_PER_RECORD;

/// A named value beside a record. Names may repeat; their order is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// UTF-8, at most [`MAX_HEADER_NAME_BYTES`](crate::limits::MAX_HEADER_NAME_BYTES).
    pub name: Bytes,
    /// The value, if it has one.
    pub value: Option<Bytes>,
}

/// An owned record, to produce or as consumed. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// What decides its partition, and what compaction keeps the last record of.
    pub key: Option<Bytes>,
    /// The payload. Absent in a compacted topic: the key's tombstone.
    pub value: Option<Bytes>,
    /// Named values, in order.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: TimestampMs,
}

/// A record where it lies in its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its position in the partition.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: TimestampMs,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    pub(super) headers: HeaderIter<'a>,
}

impl<'a> RecordView<'a> {
    /// The headers, in order.
    pub fn headers(&self) -> HeaderIter<'a> {
        self.headers
    }
}

/// A header where it lies in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The name. UTF-8 in what a broker took; a reader does not check it again.
    pub name: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers of one [`RecordView`].
#[derive(Clone, Copy, Debug)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
    remaining: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = HeaderView<'a>;

    #[inline]
    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        // The walk over the record has read them all once: this does not fail.
        read_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining as usize))
    }
}

/// One encoded record taken apart, its deltas not yet added to what they are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedRecord<'a> {
    pub(super) attributes: u8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: HeaderIter<'a>,
}

impl<'a> EncodedRecord<'a> {
    /// Takes one record off the front of `section` and walks all its fields.
    #[inline]
    pub(super) fn read(section: &mut &'a [u8]) -> Result<Self, RecordFault> {
        let length = read_length(section)?;
        let mut body = take(section, length)?;
        let (&attributes, rest) = body.split_first().ok_or(RecordFault::Truncated)?;
        body = rest;
        let timestamp_delta = varint::read_i64(&mut body)?;
        let offset_delta = varint::read_i32(&mut body)?;
        let key = read_optional(&mut body)?;
        let value = read_optional(&mut body)?;
        let header_count = read_length(&mut body)?;
        if header_count > MAX_HEADERS_PER_RECORD {
            return Err(RecordFault::TooManyHeaders);
        }
        let headers = HeaderIter {
            remaining: header_count as u32,
            rest: body,
        };
        for _ in 0..headers.remaining {
            read_header(&mut body)?;
        }
        if !body.is_empty() {
            return Err(RecordFault::Trailing);
        }
        Ok(Self {
            attributes,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        })
    }

    /// What [`MAX_RECORD_BYTES`](crate::limits::MAX_RECORD_BYTES) bounds: key, value and the
    /// headers as they are encoded.
    pub(super) fn content_bytes(&self) -> usize {
        let fields = self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len);
        fields + self.headers.rest.len()
    }
}

fn read_header<'a>(input: &mut &'a [u8]) -> Result<HeaderView<'a>, RecordFault> {
    let length = read_length(input)?;
    let name = take(input, length)?;
    Ok(HeaderView {
        name,
        value: read_optional(input)?,
    })
}

/// A length that may be −1, for "absent", and the bytes it counts.
#[inline]
fn read_optional<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match varint::read_i32(input)? {
        -1 => Ok(None),
        length => take(input, to_length(length)?).map(Some),
    }
}

#[inline]
fn read_length(input: &mut &[u8]) -> Result<usize, RecordFault> {
    to_length(varint::read_i32(input)?)
}

#[inline]
fn to_length(length: i32) -> Result<usize, RecordFault> {
    usize::try_from(length).map_err(|_| RecordFault::NegativeLength)
}

#[inline]
fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], RecordFault> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(RecordFault::Truncated)?;
    *input = rest;
    Ok(taken)
}

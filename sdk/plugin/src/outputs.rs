//! What goes out: outcomes, written straight into the buffer that the host reads.
//!
//! The format is that of `wit/batch-handler.wit`.

use crate::context::{Context, Output};
use crate::failure::{Failure, Kind};
use crate::record::{Header, Headers, Record};
use crate::varint;

/// The most that one emitted record may have, bytes: key, value, and names and values of headers.
pub const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// Headers that one emitted record may have.
const MAX_HEADERS: usize = 256;

/// The name of a header, bytes.
const MAX_HEADER_NAME_BYTES: usize = 1024;

/// The reason of a failure, bytes. What is longer is cut.
const MAX_REASON_BYTES: usize = 1024;

const EMIT: u8 = 0;
const REJECT: u8 = 1;
const RETRY: u8 = 2;

/// A record to emit.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: NewHeaders<'a>,
    timestamp_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum NewHeaders<'a> {
    Listed(&'a [Header<'a>]),
    Copied(Headers<'a>),
}

impl Default for NewHeaders<'_> {
    fn default() -> Self {
        Self::Listed(&[])
    }
}

impl<'a> NewRecord<'a> {
    /// A record with a value; without a key and headers, with the time of the input record.
    pub fn new(value: &'a [u8]) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }

    /// A record without a value: in a compacted topic, it deletes its key.
    pub fn tombstone(key: &'a [u8]) -> Self {
        Self {
            key: Some(key),
            ..Self::default()
        }
    }

    /// A copy of a record: key, value, headers and time.
    pub fn of(record: &Record<'a>) -> Self {
        Self {
            key: record.key(),
            value: record.value(),
            headers: NewHeaders::Copied(record.headers()),
            timestamp_ms: Some(record.timestamp_ms()),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(self, key: &'a [u8]) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// Sets the value.
    #[must_use]
    pub fn with_value(self, value: &'a [u8]) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    /// Sets the headers, instead of those it has.
    #[must_use]
    pub fn with_headers(self, headers: &'a [Header<'a>]) -> Self {
        Self {
            headers: NewHeaders::Listed(headers),
            ..self
        }
    }

    /// Sets the time, milliseconds since the Unix epoch.
    #[must_use]
    pub fn with_timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self {
            timestamp_ms: Some(timestamp_ms),
            ..self
        }
    }

    pub(crate) fn timestamp_ms_or(&self, default: i64) -> i64 {
        self.timestamp_ms.unwrap_or(default)
    }

    /// Refuses what the host would refuse.
    fn check(&self) -> Result<(), Failure> {
        let len = self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + self.headers.content_len();
        if len > MAX_RECORD_BYTES {
            return Err(Failure::reject(format_args!(
                "an output has {len} bytes, more than {MAX_RECORD_BYTES}"
            )));
        }
        let count = self.headers.count();
        if count > MAX_HEADERS {
            return Err(Failure::reject(format_args!(
                "an output has {count} headers, more than {MAX_HEADERS}"
            )));
        }
        if let NewHeaders::Listed(headers) = self.headers
            && let Some(header) = headers
                .iter()
                .find(|header| header.name.len() > MAX_HEADER_NAME_BYTES)
        {
            let len = header.name.len();
            return Err(Failure::reject(format_args!(
                "an output has a header's name of {len} bytes, more than {MAX_HEADER_NAME_BYTES}"
            )));
        }
        Ok(())
    }

    /// The record's length as it is encoded, without the length itself.
    fn encoded_len(&self, offset_delta: i64) -> usize {
        const ATTRIBUTES: usize = 1;
        ATTRIBUTES
            + varint::len(self.timestamp_ms_or(0))
            + varint::len(offset_delta)
            + varint::optional_len(self.key)
            + varint::optional_len(self.value)
            + varint::len(self.headers.count() as i64)
            + self.headers.encoded_len()
    }

    /// Writes the record, with its length in front, for a base timestamp of 0.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>, offset_delta: i64) {
        let len = self.encoded_len(offset_delta);
        bytes.reserve(varint::MAX_VARINT_BYTES + len);
        varint::write(bytes, len as i64);
        bytes.push(0);
        varint::write(bytes, self.timestamp_ms_or(0));
        varint::write(bytes, offset_delta);
        varint::write_optional(bytes, self.key);
        varint::write_optional(bytes, self.value);
        varint::write(bytes, self.headers.count() as i64);
        self.headers.write(bytes);
    }
}

impl NewHeaders<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Listed(headers) => headers.len(),
            Self::Copied(headers) => headers.encoded().0,
        }
    }

    /// Names and values, bytes.
    fn content_len(&self) -> usize {
        let len = |header: Header<'_>| header.name.len() + header.value.map_or(0, <[u8]>::len);
        match self {
            Self::Listed(headers) => headers.iter().copied().map(len).sum(),
            Self::Copied(headers) => headers.map(len).sum(),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Listed(headers) => {
                let len = |header: &Header<'_>| {
                    varint::optional_len(Some(header.name.as_bytes()))
                        + varint::optional_len(header.value)
                };
                headers.iter().map(len).sum()
            }
            Self::Copied(headers) => headers.encoded().1.len(),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Listed(headers) => {
                for header in *headers {
                    varint::write_optional(bytes, Some(header.name.as_bytes()));
                    varint::write_optional(bytes, header.value);
                }
            }
            Self::Copied(headers) => bytes.extend_from_slice(headers.encoded().1),
        }
    }
}

/// Takes what a handler emits for the record at hand.
#[derive(Debug)]
pub struct Outputs<'a> {
    context: &'a Context,
    bytes: &'a mut Vec<u8>,
    /// The record at hand.
    input: u32,
    timestamp_ms: i64,
    /// The record of the last entry.
    last_input: u32,
    /// Both as they were before the record at hand.
    begin: (usize, u32),
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(context: &'a Context, bytes: &'a mut Vec<u8>) -> Self {
        let begin = (bytes.len(), 0);
        Self {
            context,
            bytes,
            input: 0,
            timestamp_ms: 0,
            last_input: 0,
            begin,
        }
    }

    /// Turns to a record, or a timer, of this time.
    #[inline]
    pub(crate) fn begin(&mut self, timestamp_ms: i64) {
        self.timestamp_ms = timestamp_ms;
        self.begin = (self.bytes.len(), self.last_input);
    }

    /// Turns away from it.
    #[inline]
    pub(crate) fn end(&mut self) {
        // A call has fewer records than bytes, and a guest's memory has fewer than 2^32.
        self.input = self.input.wrapping_add(1);
    }

    /// The output of this name. Look it up once, in `init`, where there is one.
    ///
    /// # Errors
    ///
    /// The deployment declares none: the worker cannot go on.
    pub fn output(&self, name: &str) -> Result<Output, Failure> {
        self.context.output(name).map_err(Failure::abort)
    }

    /// Emits a record to an output. A handler may emit any number for one input record, up to the
    /// deployment's limit.
    ///
    /// # Errors
    ///
    /// The record has more than [`MAX_RECORD_BYTES`] or 256 headers, or a header's name more than
    /// 1024 bytes. Returned from the handler, this rejects the input record.
    pub fn emit(&mut self, output: Output, record: &NewRecord<'_>) -> Result<(), Failure> {
        record.check()?;
        let record = record.with_timestamp_ms(record.timestamp_ms_or(self.timestamp_ms));
        self.entry(EMIT);
        varint::write(self.bytes, output.0.into());
        record.encode(self.bytes, 0);
        Ok(())
    }

    /// Withdraws what was emitted for the record at hand and says why it failed. `Err`: the call
    /// fails.
    #[cold]
    pub(crate) fn fail(&mut self, failure: Failure) -> Result<(), String> {
        let (len, last_input) = self.begin;
        self.bytes.truncate(len);
        self.last_input = last_input;
        match failure.kind {
            Kind::Reject => self.entry(REJECT),
            Kind::Retry { after_ms } => {
                self.entry(RETRY);
                varint::write(self.bytes, after_ms.into());
            }
            Kind::Abort => return Err(failure.reason),
        }
        let reason = &failure.reason[..failure.reason.floor_char_boundary(MAX_REASON_BYTES)];
        varint::write_optional(self.bytes, Some(reason.as_bytes()));
        Ok(())
    }

    fn entry(&mut self, kind: u8) {
        varint::write(self.bytes, i64::from(self.input - self.last_input));
        self.bytes.push(kind);
        self.last_input = self.input;
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;

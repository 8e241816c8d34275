//! What a call of a guest's handler returned, checked.
//!
//! The format is that of `wit/batch-handler.wit`. A guest is not trusted: every length is compared
//! with what is there, every count with a named limit, before the broker sees any of it.

use std::{fmt, str};

use bytes::Bytes;
use millstream_protocol::TimestampMs;
use millstream_protocol::batch::Header;
use millstream_protocol::limits::{
    MAX_HEADER_NAME_BYTES, MAX_HEADERS_PER_RECORD, MAX_RECORD_BYTES,
};

use crate::mask::Masks;
use crate::records::Encoder;

/// Everything that one call may return, bytes.
pub const MAX_OUTPUT_BYTES: usize = 32 * 1024 * 1024;

/// The reason of a reject or a retry, bytes.
pub const MAX_REASON_BYTES: usize = 4 * 1024;

/// How far away a retry may be, milliseconds: a day.
pub const MAX_RETRY_MS: u32 = 86_400_000;

/// How far from 1970 an emitted timestamp may be, milliseconds: the end of the year 9999.
const MAX_TIMESTAMP_MS: TimestampMs = 253_402_300_799_999;

/// Kinds of entries.
pub(crate) const EMIT: u8 = 0;
pub(crate) const REJECT: u8 = 1;
pub(crate) const RETRY: u8 = 2;

/// What a guest returned breaks the format or a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad outcomes {at}: {what}")]
pub struct BadOutput {
    /// Where in what it returned.
    pub at: BadOutputPlace,
    /// What is wrong there.
    pub what: String,
}

/// A place in what a guest returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOutputPlace {
    /// Of a batch handler: the byte.
    Byte(usize),
    /// Of a record handler: the index of the input record among all records of the call.
    Input(u32),
}

impl fmt::Display for BadOutputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(at) => write!(f, "at byte {at}"),
            Self::Input(input) => write!(f, "for input {input}"),
        }
    }
}

/// The outcome of an input record. A record without one is dropped: done, with no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A record goes to an output. There may be more of the same input.
    Emit(Emit<'a>),
    /// The record is bad and will always be.
    Reject {
        /// The record's index in the call.
        input: u32,
        /// Why, at most [`MAX_REASON_BYTES`].
        reason: &'a str,
    },
    /// The record is to be handled again.
    Retry {
        /// The record's index in the call.
        input: u32,
        /// Not before this has passed, milliseconds; at most [`MAX_RETRY_MS`].
        after_ms: u32,
        /// Why, at most [`MAX_REASON_BYTES`].
        reason: &'a str,
    },
}

impl Outcome<'_> {
    /// The index of the input record among all records of the call.
    pub fn input(&self) -> u32 {
        match self {
            Self::Emit(emit) => emit.input,
            Self::Reject { input, .. } | Self::Retry { input, .. } => *input,
        }
    }
}

/// An emitted record, where it lies in what the guest returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emit<'a> {
    /// The index of the input record among all records of the call.
    pub input: u32,
    /// The index of the output among the deployment's.
    pub output: usize,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: TimestampMs,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: EmitHeaders<'a>,
}

impl Emit<'_> {
    /// The headers as a batch builder takes them, copied.
    pub fn to_headers(&self) -> Vec<Header> {
        let copy = Bytes::copy_from_slice;
        self.headers
            .map(|(name, value)| Header {
                name: copy(name.as_bytes()),
                value: value.map(copy),
            })
            .collect()
    }
}

/// The headers of an emitted record: name and value of each, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitHeaders<'a> {
    rest: &'a [u8],
    remaining: usize,
}

impl<'a> Iterator for EmitHeaders<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let mut cursor = Cursor {
            bytes: self.rest,
            at: 0,
        };
        // They have been read once when the call returned: this does not fail.
        let header = cursor.header().ok()?;
        self.rest = self.rest.get(cursor.at..)?;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining))
    }
}

/// The outcomes of one call, checked. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes {
    bytes: Bytes,
    records: u32,
    emitted: u32,
    rejected: u32,
    retried: u32,
}

/// What outcomes are checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Records that went into the call.
    pub(crate) records: u32,
    /// Outputs of the deployment.
    pub(crate) outputs: usize,
    /// Emits of one input record.
    pub(crate) outputs_per_record: u32,
}

impl Outcomes {
    pub(crate) fn check(bytes: Bytes, expected: Expected) -> Result<Self, BadOutput> {
        if bytes.len() > MAX_OUTPUT_BYTES {
            let what = format!(
                "{} bytes returned, more than {MAX_OUTPUT_BYTES}",
                bytes.len()
            );
            return Err(BadOutput {
                at: BadOutputPlace::Byte(MAX_OUTPUT_BYTES),
                what,
            });
        }
        let mut outcomes = Self {
            bytes: Bytes::new(),
            records: expected.records,
            emitted: 0,
            rejected: 0,
            retried: 0,
        };
        let mut walk = Walk::new(&bytes);
        let mut last: Option<(u32, Kind, u32)> = None;
        while walk.cursor.at < bytes.len() {
            let at = walk.cursor.at;
            let bad = |what| BadOutput {
                at: BadOutputPlace::Byte(at),
                what,
            };
            let outcome = walk.next_outcome().map_err(bad)?;
            let input = outcome.input();
            if input >= expected.records {
                return Err(bad(format!(
                    "input {input} of a call with {} records",
                    expected.records
                )));
            }
            let kind = outcomes.count(&outcome);
            let before = last.filter(|(before, ..)| *before == input);
            let emits = match before {
                Some((_, Kind::Emit, emits)) if kind == Kind::Emit => emits + 1,
                Some(_) => {
                    return Err(bad(format!(
                        "input {input} has outcomes that exclude each other"
                    )));
                }
                None => 1,
            };
            if let Outcome::Emit(emit) = outcome {
                check_emit(&emit, emits, expected).map_err(bad)?;
            }
            last = Some((input, kind, emits));
        }
        outcomes.bytes = bytes;
        Ok(outcomes)
    }

    /// The same with secrets masked in every reason. What is emitted is left as it is.
    pub(crate) fn masked(mut self, masks: &Masks) -> Self {
        let told = |outcome| match outcome {
            Outcome::Reject { reason, .. } | Outcome::Retry { reason, .. } => Some(reason),
            Outcome::Emit(_) => None,
        };
        if masks.is_empty()
            || self.rejected + self.retried == 0
            || !self.iter().filter_map(told).any(|it| masks.finds(it))
        {
            return self;
        }
        // A mask is shorter than what it stands for: every limit still holds.
        let mut encoder = Encoder::default();
        let mut walk = Walk::new(&self.bytes);
        while walk.cursor.at < self.bytes.len() {
            // They have been read once when the call returned: this does not fail.
            let Ok(outcome) = walk.next_outcome() else {
                break;
            };
            match outcome {
                Outcome::Emit(emit) => {
                    let fields = &self.bytes[walk.fields_at..walk.cursor.at];
                    encoder.emit_encoded(emit.input, fields);
                }
                Outcome::Reject { input, reason } => encoder.reject(input, &masks.text(reason)),
                Outcome::Retry {
                    input,
                    after_ms,
                    reason,
                } => encoder.retry(input, after_ms, &masks.text(reason)),
            }
        }
        self.bytes = encoder.bytes.into();
        self
    }

    fn count(&mut self, outcome: &Outcome<'_>) -> Kind {
        match outcome {
            Outcome::Emit(_) => {
                self.emitted += 1;
                Kind::Emit
            }
            Outcome::Reject { .. } => {
                self.rejected += 1;
                Kind::Final
            }
            Outcome::Retry { .. } => {
                self.retried += 1;
                Kind::Final
            }
        }
    }

    /// The outcomes, in the order of their input records.
    pub fn iter(&self) -> OutcomeIter<'_> {
        OutcomeIter {
            walk: Walk::new(&self.bytes),
        }
    }

    /// Records that went into the call.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Emits among the outcomes.
    pub fn emitted(&self) -> u32 {
        self.emitted
    }

    /// Rejects among the outcomes.
    pub fn rejected(&self) -> u32 {
        self.rejected
    }

    /// Retries among the outcomes.
    pub fn retried(&self) -> u32 {
        self.retried
    }
}

impl<'a> IntoIterator for &'a Outcomes {
    type Item = Outcome<'a>;
    type IntoIter = OutcomeIter<'a>;

    fn into_iter(self) -> OutcomeIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Outcomes`].
#[derive(Clone, Debug)]
pub struct OutcomeIter<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for OutcomeIter<'a> {
    type Item = Outcome<'a>;

    fn next(&mut self) -> Option<Outcome<'a>> {
        if self.walk.cursor.at == self.walk.cursor.bytes.len() {
            return None;
        }
        // The walk of the check has read them all: this does not fail.
        self.walk.next_outcome().ok()
    }
}

/// Whether further outcomes of the same record may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Emit,
    Final,
}

fn check_emit(emit: &Emit<'_>, emits: u32, expected: Expected) -> Result<(), String> {
    if emit.output >= expected.outputs {
        return Err(format!(
            "output {} of a deployment with {}",
            emit.output, expected.outputs
        ));
    }
    if emits > expected.outputs_per_record {
        return Err(format!(
            "input {} has more than {} outputs, the limit `outputs-per-record`",
            emit.input, expected.outputs_per_record
        ));
    }
    if emit.timestamp_ms.unsigned_abs() > MAX_TIMESTAMP_MS.unsigned_abs() {
        return Err(format!("timestamp {} is out of range", emit.timestamp_ms));
    }
    Ok(())
}

/// Reads entry after entry.
#[derive(Clone, Debug)]
struct Walk<'a> {
    cursor: Cursor<'a>,
    input: u32,
    /// Where what lies behind the last entry's kind begins.
    fields_at: usize,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor { bytes, at: 0 },
            input: 0,
            fields_at: 0,
        }
    }

    fn next_outcome(&mut self) -> Result<Outcome<'a>, String> {
        let delta = self.cursor.number("input index", u32::MAX)?;
        let input = self
            .input
            .checked_add(delta)
            .ok_or("input index is out of range")?;
        self.input = input;
        let kind = self.cursor.byte()?;
        self.fields_at = self.cursor.at;
        let outcome = match kind {
            EMIT => Outcome::Emit(self.emit(input)?),
            REJECT => Outcome::Reject {
                input,
                reason: self.reason()?,
            },
            RETRY => {
                let after_ms = self.cursor.number("retry time", MAX_RETRY_MS)?;
                Outcome::Retry {
                    input,
                    after_ms,
                    reason: self.reason()?,
                }
            }
            kind => return Err(format!("unknown kind {kind}")),
        };
        Ok(outcome)
    }

    fn reason(&mut self) -> Result<&'a str, String> {
        let len = self
            .cursor
            .number("reason length", MAX_REASON_BYTES as u32)?;
        let reason = self.cursor.take(len as usize)?;
        str::from_utf8(reason).map_err(|_| "a reason is not UTF-8".to_owned())
    }

    fn emit(&mut self, input: u32) -> Result<Emit<'a>, String> {
        let output = self.cursor.number("output", u32::MAX)? as usize;
        let len = self
            .cursor
            .number("record length", MAX_OUTPUT_BYTES as u32)?;
        let record = self.cursor.take(len as usize)?;
        let mut cursor = Cursor {
            bytes: record,
            at: 0,
        };
        if cursor.byte()? != 0 {
            return Err("record attributes are not 0".into());
        }
        let timestamp_ms = cursor.varint()?;
        if cursor.varint()? != 0 {
            return Err("offset delta is not 0".into());
        }
        let key = cursor.optional_bytes()?;
        let value = cursor.optional_bytes()?;
        let remaining = cursor.number("header count", MAX_HEADERS_PER_RECORD as u32)? as usize;
        let headers = EmitHeaders {
            rest: record.get(cursor.at..).unwrap_or_default(),
            remaining,
        };
        let mut content_bytes = length(key) + length(value);
        for _ in 0..remaining {
            let (name, value) = cursor.header()?;
            content_bytes += name.len() + length(value);
        }
        if content_bytes > MAX_RECORD_BYTES {
            return Err(format!(
                "a record of {content_bytes} bytes, more than {MAX_RECORD_BYTES}"
            ));
        }
        if cursor.at != record.len() {
            return Err(format!(
                "{} bytes too many in a record",
                record.len() - cursor.at
            ));
        }
        Ok(Emit {
            input,
            output,
            timestamp_ms,
            key,
            value,
            headers,
        })
    }
}

fn length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

/// A bounded reader. Its errors are the ends of sentences.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.bytes.get(self.at).ok_or("the end is missing")?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..len)
            .ok_or_else(|| format!("{len} bytes claimed, {} are there", rest.len()))?;
        self.at += len;
        Ok(taken)
    }

    /// A zigzag varint of at most 10 bytes.
    fn varint(&mut self) -> Result<i64, String> {
        let mut zigzag = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            zigzag |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err("a varint is too long".into())
    }

    /// A varint from 0 to `limit`.
    fn number(&mut self, name: &str, limit: u32) -> Result<u32, String> {
        let number = self.varint()?;
        u32::try_from(number)
            .ok()
            .filter(|number| *number <= limit)
            .ok_or_else(|| format!("{name} {number} is not within 0 to {limit}"))
    }

    fn optional_bytes(&mut self) -> Result<Option<&'a [u8]>, String> {
        match self.varint()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| format!("length {len} is negative"))?;
                self.take(len).map(Some)
            }
        }
    }

    fn header(&mut self) -> Result<(&'a str, Option<&'a [u8]>), String> {
        let name = self.optional_bytes()?.ok_or("a header has no name")?;
        if name.len() > MAX_HEADER_NAME_BYTES {
            return Err(format!(
                "a header's name has {} bytes, more than {MAX_HEADER_NAME_BYTES}",
                name.len()
            ));
        }
        let name = str::from_utf8(name).map_err(|_| "a header's name is not UTF-8".to_owned())?;
        Ok((name, self.optional_bytes()?))
    }
}

#[cfg(test)]
#[path = "outcomes_tests.rs"]
mod tests;

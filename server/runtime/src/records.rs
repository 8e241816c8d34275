//! The two ways between flat batches and the typed records of a `record-handler`.
//!
//! What such a guest returns is encoded as a `batch-handler` would have returned it, and then
//! checked as that: there is one set of rules, and callers see no difference.

use std::ops::Range;
use std::str;

use bytes::Bytes;
use millstream_protocol::TimestampMs;
use millstream_protocol::batch::{BatchError, RecordBatch, RecordView, Records};

use crate::bindings::typed::exports::millstream::plugin::record_handler::{
    HeaderParam, HeaderResult, InputRecord, Outcome, OutputRecord, Retry,
};
use crate::instance::CallError;
use crate::outcomes::{
    BadOutput, BadOutputPlace, EMIT, Expected, MAX_OUTPUT_BYTES, Outcomes, REJECT, RETRY,
};

/// The encoded records of a call.
pub(crate) struct Sections(Vec<Records>);

impl Sections {
    /// Takes batches apart, one after the other.
    pub(crate) fn read(batches: &[u8]) -> Result<Self, BatchError> {
        let mut rest = Bytes::copy_from_slice(batches);
        let mut sections = Vec::new();
        while let Some(batch) = RecordBatch::parse_next(&mut rest)? {
            sections.push(batch.records()?);
        }
        Ok(Self(sections))
    }

    /// The records where they lie.
    pub(crate) fn views(&self) -> Result<Views<'_>, CallError> {
        let mut views = Views {
            records: Vec::new(),
            headers: Vec::new(),
        };
        for section in &self.0 {
            for record in section {
                let record = record?;
                let begin = views.headers.len();
                for header in record.headers() {
                    // A broker takes no other, so this is no guest's fault.
                    let name = str::from_utf8(header.name).map_err(|_| {
                        let offset = record.offset;
                        CallError::BadInput(format!("a header's name at {offset} is not UTF-8"))
                    })?;
                    let value = header.value;
                    views.headers.push(HeaderParam { name, value });
                }
                views.records.push((record, begin..views.headers.len()));
            }
        }
        Ok(views)
    }
}

/// The records of a call, and the headers of all of them.
pub(crate) struct Views<'a> {
    records: Vec<(RecordView<'a>, Range<usize>)>,
    headers: Vec<HeaderParam<'a>>,
}

impl Views<'_> {
    /// The records as the guest takes them.
    pub(crate) fn records(&self) -> Vec<InputRecord<'_>> {
        self.records
            .iter()
            .map(|(view, headers)| InputRecord {
                offset: view.offset,
                timestamp_ms: view.timestamp_ms,
                key: view.key,
                value: view.value,
                headers: &self.headers[headers.clone()],
            })
            .collect()
    }
}

/// Checks the outcomes of records, or timers, of these times.
pub(crate) fn check(
    times_ms: impl ExactSizeIterator<Item = TimestampMs>,
    outcomes: &[Outcome],
    expected: Expected,
) -> Result<Outcomes, BadOutput> {
    let bad = |input: usize, what| BadOutput {
        at: BadOutputPlace::Input(input as u32),
        what,
    };
    if outcomes.len() != times_ms.len() {
        let (returned, inputs) = (outcomes.len(), times_ms.len());
        let what = format!("{returned} outcomes of a call with {inputs} inputs");
        return Err(bad(returned.min(inputs), what));
    }
    let mut encoder = Encoder::default();
    // Where each input's entries begin.
    let mut begins = Vec::with_capacity(outcomes.len());
    for (input, (timestamp_ms, outcome)) in times_ms.zip(outcomes).enumerate() {
        begins.push(encoder.bytes.len());
        encoder.outcome(input as u32, timestamp_ms, outcome);
        if encoder.bytes.len() > MAX_OUTPUT_BYTES {
            let what = format!("more than {MAX_OUTPUT_BYTES} bytes returned");
            return Err(bad(input, what));
        }
    }
    Outcomes::check(Bytes::from(encoder.bytes), expected).map_err(|error| match error.at {
        BadOutputPlace::Byte(at) => {
            let input = begins.partition_point(|begin| *begin <= at);
            bad(input.saturating_sub(1), error.what)
        }
        BadOutputPlace::Input(_) => error,
    })
}

/// Writes entries as `wit/batch-handler.wit` has them.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
    /// The input of the last entry.
    last_input: u32,
    /// The record being written; kept for its memory.
    record: Vec<u8>,
}

impl Encoder {
    fn outcome(&mut self, input: u32, timestamp_ms: i64, outcome: &Outcome) {
        match outcome {
            Outcome::Emit(records) => {
                for record in records {
                    self.entry(input, EMIT);
                    self.emit(timestamp_ms, record);
                }
            }
            Outcome::Drop => {}
            Outcome::Reject(reason) => self.reject(input, reason),
            Outcome::Retry(Retry { after_ms, reason }) => self.retry(input, *after_ms, reason),
        }
    }

    pub(crate) fn reject(&mut self, input: u32, reason: &str) {
        self.entry(input, REJECT);
        write_bytes(&mut self.bytes, Some(reason.as_bytes()));
    }

    pub(crate) fn retry(&mut self, input: u32, after_ms: u32, reason: &str) {
        self.entry(input, RETRY);
        write_varint(&mut self.bytes, after_ms.into());
        write_bytes(&mut self.bytes, Some(reason.as_bytes()));
    }

    /// Begins an entry.
    fn entry(&mut self, input: u32, kind: u8) {
        write_varint(&mut self.bytes, (input - self.last_input).into());
        self.bytes.push(kind);
        self.last_input = input;
    }

    /// Writes an emit as it was encoded: what lies behind its kind.
    pub(crate) fn emit_encoded(&mut self, input: u32, fields: &[u8]) {
        self.entry(input, EMIT);
        self.bytes.extend_from_slice(fields);
    }

    fn emit(&mut self, timestamp_ms: i64, emitted: &OutputRecord) {
        const ATTRIBUTES: u8 = 0;
        const OFFSET_DELTA: i64 = 0;
        write_varint(&mut self.bytes, emitted.output.into());
        let record = &mut self.record;
        record.clear();
        record.push(ATTRIBUTES);
        write_varint(record, emitted.timestamp_ms.unwrap_or(timestamp_ms));
        write_varint(record, OFFSET_DELTA);
        write_bytes(record, emitted.key.as_deref());
        write_bytes(record, emitted.value.as_deref());
        write_varint(record, emitted.headers.len() as i64);
        for HeaderResult { name, value } in &emitted.headers {
            write_bytes(record, Some(name.as_bytes()));
            write_bytes(record, value.as_deref());
        }
        write_bytes(&mut self.bytes, Some(record));
    }
}

/// Writes a length and the bytes, or the length -1.
fn write_bytes(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => write_varint(bytes, -1),
        Some(field) => {
            write_varint(bytes, field.len() as i64);
            bytes.extend_from_slice(field);
        }
    }
}

/// Writes a zigzag varint.
fn write_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;

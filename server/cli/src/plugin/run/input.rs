//! From the lines of a file to what a guest is called with.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use millstream_protocol::batch::{AppendError, BatchBuilder, Compression, assign};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES};
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};

use crate::errors::{Exit, Problem};
use crate::produce::lines::{self, Source};
use crate::produce::{BadLine, LineFormat};

/// Keys and values of one call, bytes, unless a single record has more: what a broker's worker reads
/// at a time.
const MAX_CALL_BYTES: usize = 1 << 20;

/// The first record's time, 2020-01-01T00:00:00Z, where lines tell none: always the same, so that two
/// runs over one file give the same. Each further record is a millisecond later.
pub(super) const FIRST_TIMESTAMP_MS: TimestampMs = 1_577_836_800_000;

const LEADER_EPOCH: LeaderEpoch = 0;

/// A record of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputRecord {
    /// Records before it.
    pub(super) offset: Offset,
    /// Its line, counted from 1.
    pub(super) line: u64,
    pub(super) timestamp_ms: TimestampMs,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

impl InputRecord {
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        len(&self.key) + len(&self.value)
    }
}

/// Reads a file to its end, and hands its records over, as many at a time as one call takes.
pub(super) fn read(
    path: &Path,
    format: &LineFormat,
    records_per_call: usize,
    mut call: impl FnMut(&[InputRecord]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut chunks = lines::read(vec![Source::of(path)]);
    let mut waiting = Vec::new();
    let (mut waiting_bytes, mut offset) = (0, 0);
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk
            .map_err(|(source, error)| anyhow!(error).context(format!("cannot read {source}")))?;
        for (line, text) in chunk.lines() {
            let record = text
                .map_err(BadLine::from)
                .and_then(|text| record(format, text, line, offset));
            let Some(record) = record.map_err(|bad| no_record(&chunk.source, line, &bad))? else {
                continue;
            };
            offset += 1;
            if waiting_bytes + record.bytes() > MAX_CALL_BYTES {
                flush(&mut waiting, &mut waiting_bytes, &mut call)?;
            }
            waiting_bytes += record.bytes();
            waiting.push(record);
            if waiting.len() >= records_per_call {
                flush(&mut waiting, &mut waiting_bytes, &mut call)?;
            }
        }
    }
    flush(&mut waiting, &mut waiting_bytes, &mut call)
}

/// Hands over what waits, if anything does.
fn flush(
    waiting: &mut Vec<InputRecord>,
    waiting_bytes: &mut usize,
    call: &mut impl FnMut(&[InputRecord]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    call(waiting)?;
    waiting.clear();
    *waiting_bytes = 0;
    Ok(())
}

pub(super) fn record(
    format: &LineFormat,
    text: &[u8],
    line: u64,
    offset: Offset,
) -> Result<Option<InputRecord>, BadLine> {
    let Some(record) = format.record(text)? else {
        return Ok(None);
    };
    let record = InputRecord {
        offset,
        line,
        timestamp_ms: record
            .explicit_timestamp_ms()
            .unwrap_or_else(|| FIRST_TIMESTAMP_MS.saturating_add_unsigned(offset)),
        key: record.key_bytes().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
    };
    if record.bytes() > MAX_RECORD_BYTES {
        return Err(BadLine::RecordTooLarge {
            bytes: record.bytes(),
            limit: MAX_RECORD_BYTES,
        });
    }
    Ok(Some(record))
}

fn no_record(source: &str, line: u64, bad: &BadLine) -> Problem {
    let message = format!("line {line} of {source} is no record: {bad}");
    Problem::new(Exit::Failure, message).advise(
        "a record is a line; with `--key-field` or `--timestamp-field` every line is a JSON object",
    )
}

/// The records as a guest is given them: whole batches, one after the other.
pub(super) fn batches(records: &[&InputRecord]) -> anyhow::Result<Vec<u8>> {
    let mut batches = Vec::new();
    let mut rest = records;
    while let Some(first) = rest.first() {
        let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
        let mut taken = 0;
        // The offsets of a batch have no gaps.
        for (record, offset) in rest.iter().zip(first.offset..) {
            if record.offset != offset {
                break;
            }
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            match builder.append(record.timestamp_ms, key, value, &[]) {
                Ok(_) => taken += 1,
                Err(AppendError::Full) if taken > 0 => break,
                Err(error) => {
                    return Err(
                        anyhow!(error).context(format!("offset {offset} fits into no batch"))
                    );
                }
            }
        }
        let batch = builder.finish(None).context("cannot make a batch")?;
        let start = batches.len();
        batches.extend_from_slice(&batch);
        assign(&mut batches[start..], first.offset, LEADER_EPOCH).context("cannot make a batch")?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream_protocol::batch::RecordBatch;

    use super::*;
    use crate::produce::parse_field;

    fn calls(
        text: &str,
        field: Option<&str>,
        records_per_call: usize,
    ) -> anyhow::Result<Vec<Vec<InputRecord>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        std::fs::write(&path, text).unwrap();
        let format = LineFormat::of_fields(field.map(|field| parse_field(field).unwrap()), None);
        let mut calls = Vec::new();
        read(&path, &format, records_per_call, |records| {
            calls.push(records.to_vec());
            Ok(())
        })?;
        Ok(calls)
    }

    fn record(offset: u64) -> InputRecord {
        InputRecord {
            offset,
            line: offset + 1,
            timestamp_ms: FIRST_TIMESTAMP_MS + offset as i64,
            key: None,
            value: Some(format!("v{offset}").into_bytes()),
        }
    }

    #[test]
    fn lines_become_calls() {
        assert!(calls("", None, 2).unwrap().is_empty());
        let calls = calls("v0\nv1\nv2\n", None, 2).unwrap();
        assert_eq!(calls, [vec![record(0), record(1)], vec![record(2)]]);
    }

    #[test]
    fn a_call_takes_only_so_many_bytes() {
        let line = "x".repeat(MAX_CALL_BYTES / 2 + 1);
        let calls = calls(&format!("{line}\n{line}\n"), None, 1_000).unwrap();
        assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn keys_come_from_a_field_and_empty_lines_are_no_records() {
        let calls = calls("{\"id\":\"a\"}\n\n{\"id\":7}\n", Some("id"), 10).unwrap();
        let [a, b] = &calls[0][..] else {
            panic!("{calls:?}")
        };
        assert_eq!(
            (a.key.as_deref(), a.offset, a.line),
            (Some(&b"a"[..]), 0, 1)
        );
        assert_eq!(
            (b.key.as_deref(), b.offset, b.line),
            (Some(&b"7"[..]), 1, 3)
        );
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let error = calls("{\"id\":1}\n{}\n", Some("id"), 10).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("records is no record: it has no field id"),
            "{error}"
        );
    }

    #[test]
    fn a_gap_begins_another_batch() {
        let records = [record(3), record(4), record(9)];
        let mut bytes = Bytes::from(batches(&records.iter().collect::<Vec<_>>()).unwrap());
        let mut read = Vec::new();
        while let Some(batch) = RecordBatch::parse_next(&mut bytes).unwrap() {
            let records = batch.records().unwrap();
            let offsets: Vec<_> = records
                .iter()
                .map(|record| {
                    let record = record.unwrap();
                    (record.offset, record.timestamp_ms - FIRST_TIMESTAMP_MS)
                })
                .collect();
            read.push(offsets);
        }
        assert_eq!(read, [vec![(3, 3), (4, 4)], vec![(9, 9)]]);
    }
}

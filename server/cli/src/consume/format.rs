//! How a record is written.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::ValueEnum;
use millstream::{HeaderIter, RecordView};
use serde::Serialize;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RecordFormat {
    /// The value, and a line's end
    Value,
    /// The key, the separator, the value, and a line's end
    KeyValue,
    /// One JSON object a line: topic, partition, offset, timestamp_ms, key, value, headers. Bytes that
    /// are no text come as `key_hex` and `value_hex`
    Json,
    /// The value's bytes and nothing else
    Raw,
}

/// Where a batch's records come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: u32,
}

/// A record as JSON.
#[derive(Serialize)]
struct RecordJson<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    /// `null`: there is none, or `key_hex` has it.
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    /// `null`: there is none (a tombstone), or `value_hex` has it.
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    headers: Vec<HeaderJson<'a>>,
}

/// A header as JSON.
#[derive(Serialize)]
pub(crate) struct HeaderJson<'a> {
    name: String,
    /// `null`: there is none, or `value_hex` has it.
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl<'a> HeaderJson<'a> {
    pub(crate) fn new(name: impl Into<String>, value: Option<&'a [u8]>) -> Self {
        let (value, value_hex) = text_or_hex(value);
        Self {
            name: name.into(),
            value,
            value_hex,
        }
    }
}

/// Writes a record.
pub(super) fn write(
    out: &mut impl Write,
    format: RecordFormat,
    separator: &[u8],
    origin: Origin<'_>,
    record: &RecordView<'_>,
) -> io::Result<()> {
    let value = record.value.unwrap_or_default();
    match format {
        RecordFormat::Value => out.write_all(value)?,
        RecordFormat::KeyValue => {
            out.write_all(record.key.unwrap_or_default())?;
            out.write_all(separator)?;
            out.write_all(value)?;
        }
        RecordFormat::Json => serde_json::to_writer(&mut *out, &json(origin, record))?,
        RecordFormat::Raw => return out.write_all(value),
    }
    out.write_all(b"\n")
}

fn json<'a>(origin: Origin<'a>, record: &RecordView<'a>) -> RecordJson<'a> {
    let (key, key_hex) = text_or_hex(record.key);
    let (value, value_hex) = text_or_hex(record.value);
    RecordJson {
        topic: origin.topic,
        partition: origin.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key,
        key_hex,
        value,
        value_hex,
        headers: headers(record.headers()),
    }
}

fn headers(headers: HeaderIter<'_>) -> Vec<HeaderJson<'_>> {
    headers
        .map(|header| HeaderJson::new(String::from_utf8_lossy(header.name), header.value))
        .collect()
}

/// The bytes as text, or in hexadecimal when they are none.
pub(crate) fn text_or_hex(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(bytes)) => (None, Some(hex(bytes))),
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{BatchBuilder, Compression, Header, RecordBatch};

    use super::*;

    /// What is written for a record.
    fn written(
        format: RecordFormat,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> String {
        let mut builder = BatchBuilder::new(Compression::None, 1024);
        builder
            .append(1_517_270_400_000, key, value, headers)
            .unwrap();
        let batch = RecordBatch::parse(builder.finish(None).unwrap()).unwrap();
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut out = Vec::new();
        write(
            &mut out,
            format,
            b"\t",
            Origin {
                topic: "orders",
                partition: 2,
            },
            &record,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_in_every_format() {
        let header = |name: &'static str, value: Option<&'static [u8]>| Header {
            name: name.into(),
            value: value.map(Into::into),
        };
        let headers = [
            header("trace", Some(b"4bf9")),
            header("raw", Some(b"\xff")),
            header("none", None),
        ];
        let all = [
            RecordFormat::Value,
            RecordFormat::KeyValue,
            RecordFormat::Json,
            RecordFormat::Raw,
        ];
        let text: String = all
            .map(|format| written(format, Some(b"k"), Some(b"{\"a\":1}"), &headers))
            .concat();
        insta::assert_snapshot!(text, @r#"
        {"a":1}
        k	{"a":1}
        {"topic":"orders","partition":2,"offset":0,"timestamp_ms":1517270400000,"key":"k","value":"{\"a\":1}","headers":[{"name":"trace","value":"4bf9"},{"name":"raw","value":null,"value_hex":"ff"},{"name":"none","value":null}]}
        {"a":1}
        "#);
    }

    #[test]
    fn absent_and_binary_bytes_are_told_apart() {
        insta::assert_snapshot!(written(RecordFormat::Json, None, None, &[]), @r#"{"topic":"orders","partition":2,"offset":0,"timestamp_ms":1517270400000,"key":null,"value":null,"headers":[]}"#);
        insta::assert_snapshot!(written(RecordFormat::Json, Some(b""), Some(b"\x00\xff"), &[]), @r#"{"topic":"orders","partition":2,"offset":0,"timestamp_ms":1517270400000,"key":"","value":null,"value_hex":"00ff","headers":[]}"#);
        assert_eq!(
            written(RecordFormat::KeyValue, Some(b"k"), None, &[]),
            "k\t\n"
        );
    }
}

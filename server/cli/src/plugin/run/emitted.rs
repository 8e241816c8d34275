//! How an emitted record is written.

use std::borrow::Cow;

use anyhow::Context as _;
use millstream_protocol::api::plugin::TimerClock;
use millstream_protocol::{Offset, TimestampMs};
use millstream_runtime::Emit;
use millstream_worker::Timer;
use serde::Serialize;

use super::cause::Cause;
use crate::consume::format::{HeaderJson, text_or_hex};
use crate::output::{OutputFormat, plain};

/// An emitted record as JSON.
#[derive(Serialize)]
struct EmittedJson<'a> {
    /// The plugin's name for it.
    output: &'a str,
    /// `null`: there is none, or `key_hex` has it.
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    /// `null`: there is none (a tombstone), or `value_hex` has it.
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    headers: Vec<HeaderJson<'a>>,
    timestamp_ms: i64,
    /// That of the input record.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    /// Emitted by a timer: there is no input record.
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<TimerJson<'a>>,
}

/// A timer as JSON.
#[derive(Serialize)]
struct TimerJson<'a> {
    clock: &'static str,
    /// `null`: `key_hex` has it.
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    /// The time it was set for.
    at_ms: TimestampMs,
}

impl<'a> TimerJson<'a> {
    fn new(timer: &'a Timer) -> Self {
        let (key, key_hex) = text_or_hex(Some(&timer.key));
        Self {
            clock: match timer.clock {
                TimerClock::RecordTime => "record-time",
                TimerClock::WallTime => "wall-time",
            },
            key,
            key_hex,
            at_ms: timer.at_ms,
        }
    }
}

/// One line, without its end: `OUTPUT<TAB>KEY<TAB>VALUE`, or a JSON object. Of the text, control
/// characters are escaped, and bytes that are no text come as `0x` and their hexadecimal digits; what
/// is absent looks as if it were empty.
pub(super) fn line(
    format: OutputFormat,
    output: &str,
    cause: Cause<'_>,
    emit: &Emit<'_>,
) -> anyhow::Result<String> {
    match format {
        OutputFormat::Table => Ok(format!(
            "{}\t{}\t{}",
            plain(output),
            field(emit.key),
            field(emit.value)
        )),
        OutputFormat::Json => {
            let (key, key_hex) = text_or_hex(emit.key);
            let (value, value_hex) = text_or_hex(emit.value);
            let headers = emit
                .headers
                .map(|(name, value)| HeaderJson::new(name, value));
            let (offset, timer) = match cause {
                Cause::Record(record) => (Some(record.offset), None),
                Cause::Timer(timer) => (None, Some(TimerJson::new(timer))),
            };
            let json = EmittedJson {
                output,
                key,
                key_hex,
                value,
                value_hex,
                headers: headers.collect(),
                timestamp_ms: emit.timestamp_ms,
                offset,
                timer,
            };
            serde_json::to_string(&json).context("cannot write a record as JSON")
        }
    }
}

fn field(bytes: Option<&[u8]>) -> Cow<'_, str> {
    match text_or_hex(bytes) {
        (_, Some(hex)) => format!("0x{hex}").into(),
        (Some(text), None) if text.chars().any(char::is_control) => plain(text).into(),
        (text, None) => text.unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_on_its_line() {
        assert_eq!(field(Some(b"{\"a\":1}")), "{\"a\":1}");
        assert_eq!(field(Some(b"a\tb\n")), "a\\tb\\n");
        assert_eq!(field(Some(b"\x00\xff")), "0x00ff");
        assert_eq!(field(Some(b"")), field(None));
    }
}

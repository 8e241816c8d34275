//! From a line to a record: its key and its value.

use std::borrow::Cow;

use bytes::Bytes;
use millstream::{Header, PartitionIndex, ProduceRecord, TimestampMs};
use serde_json::Value;

use super::args::Field;
use super::lines::TooLong;

/// Where a record's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyRule {
    /// Records have no key.
    None,
    /// All have this one.
    Fixed(Vec<u8>),
    /// It is a field of the line, which is JSON; the names lead to it from the outside in.
    Field(Vec<String>),
    /// It stands before the first of these in the line.
    Separator(Vec<u8>),
}

/// What an empty value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyValue {
    /// A value of no bytes.
    Kept,
    /// No value: the key's tombstone.
    Tombstone,
}

/// How lines become records.
#[derive(Clone, Debug)]
pub(crate) struct LineFormat {
    pub(super) key: KeyRule,
    /// The names that lead to the field of the value, which is JSON, that is the record's time.
    pub(super) timestamp: Option<Vec<String>>,
    pub(super) empty_value: EmptyValue,
    pub(super) headers: Vec<Header>,
    pub(super) partition: Option<PartitionIndex>,
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("it is longer than the largest record")]
    TooLong,
    #[error("it is not JSON: {0}")]
    NotJson(String),
    #[error("it has no field {0}")]
    NoField(String),
    #[error("its field {0} is {1}, which is no key: a string, a whole number or a boolean is")]
    NoKey(String, &'static str),
    #[error(
        "its field {0} is {1}, which is no time: a whole number is, of milliseconds since 1970"
    )]
    NoTime(String, &'static str),
    #[error("it has no {} between key and value", shown(.0))]
    NoSeparator(String),
    #[error("its value is empty and it has no key: there is nothing to delete")]
    TombstoneWithoutKey,
    #[error("its record has {bytes} bytes, the topic takes {limit}")]
    RecordTooLarge { bytes: usize, limit: usize },
}

/// A separator, so that it can be seen.
fn shown(separator: &str) -> String {
    match separator {
        "\t" => "tab".to_owned(),
        separator => format!("{separator:?}"),
    }
}

impl From<TooLong> for BadLine {
    fn from(TooLong: TooLong) -> Self {
        Self::TooLong
    }
}

impl LineFormat {
    /// Lines whose records have these fields as their key and their time, if any, and nothing else
    /// beside the value.
    pub(crate) fn of_fields(key: Option<Field>, timestamp: Option<Field>) -> Self {
        Self {
            key: key.map_or(KeyRule::None, |Field(path)| KeyRule::Field(path)),
            timestamp: timestamp.map(|Field(path)| path),
            empty_value: EmptyValue::Kept,
            headers: Vec::new(),
            partition: None,
        }
    }

    /// Lines of which each sets the value of a key, or takes it away: the key is this field of the line,
    /// which is JSON and the value as a whole, or stands before the first tab.
    pub(crate) fn of_entries(key: Option<Field>) -> Self {
        let separator = || KeyRule::Separator(b"\t".to_vec());
        Self {
            key: key.map_or_else(separator, |Field(path)| KeyRule::Field(path)),
            empty_value: EmptyValue::Tombstone,
            ..Self::of_fields(None, None)
        }
    }

    /// The record of a line; `None` for an empty line among lines of JSON.
    pub(crate) fn record<'a>(
        &'a self,
        line: &'a [u8],
    ) -> Result<Option<ProduceRecord<'a>>, BadLine> {
        if self.is_json() && line.trim_ascii().is_empty() {
            return Ok(None);
        }
        // A key that is a field and the time are read from the same JSON.
        let (key, value, json) = match &self.key {
            KeyRule::Field(path) => {
                let json = parse(line)?;
                (Some(Cow::Owned(key_of(&json, path)?)), line, Some(json))
            }
            rule => {
                let (key, value) = rule.split(line)?;
                let json = self.timestamp.as_ref().map(|_| parse(value)).transpose()?;
                (key, value, json)
            }
        };
        let record = match (self.empty_value, value.is_empty()) {
            (EmptyValue::Tombstone, true) => match key {
                Some(Cow::Borrowed(key)) => ProduceRecord::tombstone(key),
                Some(Cow::Owned(key)) => ProduceRecord::tombstone(key),
                None => return Err(BadLine::TombstoneWithoutKey),
            },
            _ => match key {
                Some(Cow::Borrowed(key)) => ProduceRecord::new(value).key(key),
                Some(Cow::Owned(key)) => ProduceRecord::new(value).key(key),
                None => ProduceRecord::new(value),
            },
        };
        let mut record = record.headers(self.headers.iter().cloned());
        if let (Some(path), Some(json)) = (&self.timestamp, &json) {
            record = record.timestamp_ms(time_of(json, path)?);
        }
        Ok(Some(match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }))
    }

    /// Whether a line is JSON as a whole.
    fn is_json(&self) -> bool {
        match self.key {
            KeyRule::Field(_) => true,
            KeyRule::None | KeyRule::Fixed(_) => self.timestamp.is_some(),
            KeyRule::Separator(_) => false,
        }
    }
}

/// A key, if there is one, and the value.
type KeyAndValue<'a> = (Option<Cow<'a, [u8]>>, &'a [u8]);

impl KeyRule {
    /// The key and the value of a line whose key is no field of it.
    fn split<'a>(&'a self, line: &'a [u8]) -> Result<KeyAndValue<'a>, BadLine> {
        match self {
            Self::None | Self::Field(_) => Ok((None, line)),
            Self::Fixed(key) => Ok((Some(Cow::Borrowed(key)), line)),
            Self::Separator(separator) => {
                let at = find(line, separator).ok_or_else(|| {
                    BadLine::NoSeparator(String::from_utf8_lossy(separator).into_owned())
                })?;
                Ok((
                    Some(Cow::Borrowed(&line[..at])),
                    &line[at + separator.len()..],
                ))
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len().max(1))
        .position(|window| window == needle)
}

fn parse(json: &[u8]) -> Result<Value, BadLine> {
    serde_json::from_slice(json).map_err(|error| BadLine::NotJson(error.to_string()))
}

/// The value that names lead to.
fn field<'v>(whole: &'v Value, path: &[String]) -> Result<&'v Value, BadLine> {
    path.iter()
        .try_fold(whole, |value, name| value.get(name))
        .ok_or_else(|| BadLine::NoField(path.join(".")))
}

/// A field as a key: a string's text, a number's or boolean's notation. Numbers with a fraction, and
/// those too large to be exact, are not taken: two of them could become one key.
fn key_of(whole: &Value, path: &[String]) -> Result<Vec<u8>, BadLine> {
    match field(whole, path)? {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string().into_bytes()),
        Value::Bool(value) => Ok(value.to_string().into_bytes()),
        other => Err(BadLine::NoKey(path.join("."), kind(other))),
    }
}

/// A field as a time.
fn time_of(whole: &Value, path: &[String]) -> Result<TimestampMs, BadLine> {
    let found = field(whole, path)?;
    found
        .as_i64()
        .ok_or_else(|| BadLine::NoTime(path.join("."), kind(found)))
}

/// What a value is that is neither key nor time.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "a number with a fraction or too large",
        Value::String(_) => "a string",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A header from its name and value.
pub(super) fn header(name: String, value: String) -> Header {
    Header {
        name: Bytes::from(name),
        value: Some(Bytes::from(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(key: KeyRule, empty_value: EmptyValue) -> LineFormat {
        LineFormat {
            key,
            timestamp: None,
            empty_value,
            headers: Vec::new(),
            partition: None,
        }
    }

    fn by_field(path: &str) -> LineFormat {
        format(
            KeyRule::Field(path.split('.').map(ToOwned::to_owned).collect()),
            EmptyValue::Kept,
        )
    }

    fn key(format: &LineFormat, line: &str) -> Result<String, String> {
        let record = format
            .record(line.as_bytes())
            .map_err(|bad| bad.to_string())?
            .unwrap();
        assert_eq!(record.value(), Some(line.as_bytes()));
        Ok(String::from_utf8(record.key_bytes().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn keys_are_fields_of_the_line() {
        let check = |path: &str, line: &str, expected: &str| {
            assert_eq!(key(&by_field(path), line), Ok(expected.to_owned()));
        };
        check("id", r#"{"id":"us1000"}"#, "us1000");
        check("id", r#"{"id":""}"#, "");
        check(
            "id",
            r#"{"id":18446744073709551615}"#,
            "18446744073709551615",
        );
        check("id", r#"{"id":-7}"#, "-7");
        check("id", r#"{"id":true}"#, "true");
        check(
            "properties.net.code",
            r#"{"properties":{"net":{"code":"us"}}}"#,
            "us",
        );
    }

    fn timed(key: KeyRule, path: &str) -> LineFormat {
        LineFormat {
            timestamp: Some(path.split('.').map(ToOwned::to_owned).collect()),
            ..format(key, EmptyValue::Kept)
        }
    }

    #[test]
    fn times_are_fields_of_the_value() {
        let time = |key, path, line: &'static str| {
            let format = timed(key, path);
            let record = format.record(line.as_bytes())?.unwrap();
            Ok::<_, BadLine>(record.explicit_timestamp_ms())
        };
        let (id, colon) = (KeyRule::Field(vec!["id".to_owned()]), b":".to_vec());
        assert_eq!(time(KeyRule::None, "t", r#"{"t":5}"#), Ok(Some(5)));
        assert_eq!(time(id, "a.t", r#"{"id":1,"a":{"t":-5}}"#), Ok(Some(-5)));
        assert_eq!(
            time(KeyRule::Separator(colon), "t", r#"k:{"t":7}"#),
            Ok(Some(7))
        );
        let bad = |line| time(KeyRule::None, "t", line).unwrap_err();
        insta::assert_snapshot!(bad("{}"), @"it has no field t");
        insta::assert_snapshot!(bad(r#"{"t":"5"}"#), @"its field t is a string, which is no time: a whole number is, of milliseconds since 1970");
        insta::assert_snapshot!(bad(r#"{"t":5.5}"#), @"its field t is a number with a fraction or too large, which is no time: a whole number is, of milliseconds since 1970");
        insta::assert_snapshot!(bad("t=5"), @"it is not JSON: expected ident at line 1 column 2");
        assert!(timed(KeyRule::None, "t").record(b" ").unwrap().is_none());
    }

    #[test]
    fn empty_lines_among_json_are_passed_over() {
        assert!(by_field("id").record(b" \r").unwrap().is_none());
        assert!(
            format(KeyRule::None, EmptyValue::Kept)
                .record(b"")
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let bad = |path: &str, line: &str| key(&by_field(path), line).unwrap_err();
        insta::assert_snapshot!(bad("id", "{\"id\":"), @"it is not JSON: EOF while parsing a value at line 1 column 6");
        insta::assert_snapshot!(bad("a.b", r#"{"a":{"c":1}}"#), @"it has no field a.b");
        insta::assert_snapshot!(bad("a.b", r#"{"a":5}"#), @"it has no field a.b");
        insta::assert_snapshot!(bad("id", r#"{"id":null}"#), @"its field id is null, which is no key: a string, a whole number or a boolean is");
        insta::assert_snapshot!(bad("id", r#"{"id":18446744073709551616}"#), @"its field id is a number with a fraction or too large, which is no key: a string, a whole number or a boolean is");
        insta::assert_snapshot!(bad("id", r#"{"id":[1]}"#), @"its field id is an array, which is no key: a string, a whole number or a boolean is");
    }

    #[test]
    fn the_first_separator_divides() {
        let format = format(KeyRule::Separator(b"::".to_vec()), EmptyValue::Tombstone);
        let record = format.record(b"k::v::w").unwrap().unwrap();
        assert_eq!(
            (record.key_bytes(), record.value()),
            (Some(&b"k"[..]), Some(&b"v::w"[..]))
        );
        let record = format.record(b"k::").unwrap().unwrap();
        assert_eq!(
            (record.key_bytes(), record.value()),
            (Some(&b"k"[..]), None)
        );
        assert_eq!(
            format.record(b"k:v").unwrap_err(),
            BadLine::NoSeparator("::".to_owned())
        );
    }

    #[test]
    fn an_empty_value_is_a_tombstone_only_when_asked() {
        let kept = format(KeyRule::Fixed(b"k".to_vec()), EmptyValue::Kept);
        assert_eq!(kept.record(b"").unwrap().unwrap().value(), Some(&b""[..]));
        let keyless = format(KeyRule::None, EmptyValue::Tombstone);
        assert_eq!(
            keyless.record(b"").unwrap_err(),
            BadLine::TombstoneWithoutKey
        );
        assert_eq!(
            keyless.record(b"v").unwrap().unwrap().value(),
            Some(&b"v"[..])
        );
    }
}

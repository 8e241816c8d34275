//! From a line to a record: its key and its value.

use std::borrow::Cow;

use bytes::Bytes;
use millstream::{Header, PartitionIndex, ProduceRecord};
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
    #[error("it has no {0:?} between key and value")]
    NoSeparator(String),
    #[error("its value is empty and it has no key: there is nothing to delete")]
    TombstoneWithoutKey,
    #[error("its record has {bytes} bytes, the topic takes {limit}")]
    RecordTooLarge { bytes: usize, limit: usize },
}

impl From<TooLong> for BadLine {
    fn from(TooLong: TooLong) -> Self {
        Self::TooLong
    }
}

impl LineFormat {
    /// Lines whose records have this field as their key, or none, and nothing else beside the value.
    pub(crate) fn keyed_by(field: Option<Field>) -> Self {
        Self {
            key: field.map_or(KeyRule::None, |Field(path)| KeyRule::Field(path)),
            empty_value: EmptyValue::Kept,
            headers: Vec::new(),
            partition: None,
        }
    }

    /// The record of a line; `None` for an empty line among lines of JSON.
    pub(crate) fn record<'a>(
        &'a self,
        line: &'a [u8],
    ) -> Result<Option<ProduceRecord<'a>>, BadLine> {
        if matches!(self.key, KeyRule::Field(_)) && line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let (key, value) = self.key.split(line)?;
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
        let record = record.headers(self.headers.iter().cloned());
        Ok(Some(match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }))
    }
}

/// A key, if there is one, and the value.
type KeyAndValue<'a> = (Option<Cow<'a, [u8]>>, &'a [u8]);

impl KeyRule {
    fn split<'a>(&'a self, line: &'a [u8]) -> Result<KeyAndValue<'a>, BadLine> {
        match self {
            Self::None => Ok((None, line)),
            Self::Fixed(key) => Ok((Some(Cow::Borrowed(key)), line)),
            Self::Field(path) => Ok((Some(Cow::Owned(field(line, path)?)), line)),
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

/// The field of a JSON line as a key: a string's text, a number's or boolean's notation. Numbers
/// with a fraction, and those too large to be exact, are not taken: two of them could become one key.
fn field(line: &[u8], path: &[String]) -> Result<Vec<u8>, BadLine> {
    let whole: Value =
        serde_json::from_slice(line).map_err(|error| BadLine::NotJson(error.to_string()))?;
    let name = || path.join(".");
    let found = path
        .iter()
        .try_fold(&whole, |value, name| value.get(name))
        .ok_or_else(|| BadLine::NoField(name()))?;
    match found {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string().into_bytes()),
        Value::Bool(value) => Ok(value.to_string().into_bytes()),
        Value::Number(_) => Err(BadLine::NoKey(
            name(),
            "a number with a fraction or too large",
        )),
        Value::Null => Err(BadLine::NoKey(name(), "null")),
        Value::Array(_) => Err(BadLine::NoKey(name(), "an array")),
        Value::Object(_) => Err(BadLine::NoKey(name(), "an object")),
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

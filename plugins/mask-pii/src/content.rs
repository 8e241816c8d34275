//! What a JSON value says.

use std::borrow::Cow;
use std::fmt;

/// What a string says; of any other value, how it is written. The value has been checked.
///
/// # Errors
///
/// The string is no text. What else serde_json could complain of has been checked, and its words
/// might cite the string.
pub(crate) fn content(value: &[u8]) -> Result<Cow<'_, str>, UnpairedSurrogate> {
    match value {
        [b'"', string @ .., b'"'] if string.contains(&b'\\') => serde_json::from_slice(value)
            .map(Cow::Owned)
            .map_err(|_| UnpairedSurrogate),
        [b'"', plain @ .., b'"'] | plain => Ok(String::from_utf8_lossy(plain)),
    }
}

/// A string has one half of a surrogate pair (`\ud800`), and so is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnpairedSurrogate;

impl fmt::Display for UnpairedSurrogate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string to redact has an unpaired surrogate")
    }
}

impl std::error::Error for UnpairedSurrogate {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_and_the_rest_is_not() {
        let check = |value: &str, expect| {
            assert_eq!(content(value.as_bytes()).as_deref(), expect, "{value}");
        };
        check(r#""""#, Ok(""));
        check(r#""Größe""#, Ok("Größe"));
        check(r#""\"\u00e9\ud83d\ude00\\""#, Ok("\"é😀\\"));
        check("-1.50", Ok("-1.50"));
        check(r#"{"a": "\n"}"#, Ok(r#"{"a": "\n"}"#));
        check(r#""\ud800 is half""#, Err(&UnpairedSurrogate));
    }
}

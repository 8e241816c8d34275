//! What becomes of a value: it is masked, dropped or hashed.

use std::error::Error;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use millstream_plugin::Context;
use sha2::Sha256;

use crate::content::{UnpairedSurrogate, content};

/// What stands where something was hidden.
const MASK: &str = "***";

/// The shortest salt, bytes. Names and numbers are few enough to try them all; what cannot be tried
/// is the salt.
const MIN_SALT_BYTES: usize = 16;

/// What becomes of a field that is redacted.
pub(crate) enum Method {
    /// It is gone, with its name.
    Drop,
    /// It has another value.
    Replace(Replacement),
}

/// The other value. `null` stays: it says of nobody anything.
pub(crate) enum Replacement {
    /// A mask, and the last characters behind it.
    Mask {
        /// How many, at most.
        keep_last: usize,
    },
    /// The keyed hash, with the key in it.
    Hash(Hmac<Sha256>),
}

impl Method {
    /// Reads `mode`, and `keep-last` or `salt` that go with one each.
    pub(crate) fn configured(context: &Context) -> Result<Self, Box<dyn Error>> {
        let mode = context.config("mode").unwrap_or("mask");
        let keep_last = context.config("keep-last");
        let salt = context.config("salt");
        if keep_last.is_some() && mode != "mask" {
            return Err("keep-last goes with mode `mask`".into());
        }
        if salt.is_some() && mode != "hash" {
            return Err("salt goes with mode `hash`".into());
        }
        match mode {
            "mask" => {
                let keep_last = keep_last.unwrap_or("0");
                let keep_last = keep_last.parse().map_err(|_| {
                    format!("keep-last must be a number of characters, not `{keep_last}`")
                })?;
                Ok(Self::Replace(Replacement::Mask { keep_last }))
            }
            "drop" => Ok(Self::Drop),
            "hash" => {
                let salt = salt.ok_or("mode `hash` needs a salt")?;
                if salt.len() < MIN_SALT_BYTES {
                    return Err(format!("salt must have {MIN_SALT_BYTES} bytes or more").into());
                }
                let keyed = Hmac::new_from_slice(salt.as_bytes())?;
                Ok(Self::Replace(Replacement::Hash(keyed)))
            }
            _ => Err(format!("mode must be `mask`, `drop` or `hash`, not `{mode}`").into()),
        }
    }
}

/// What it does, for the log. The key is not told.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("dropping"),
            Self::Replace(Replacement::Mask { .. }) => f.write_str("masking"),
            Self::Replace(Replacement::Hash(_)) => f.write_str("hashing"),
        }
    }
}

impl Replacement {
    /// Writes what replaces `value`, a JSON value as it is written.
    pub(crate) fn write(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), UnpairedSurrogate> {
        if value == b"null" {
            out.extend_from_slice(value);
            return Ok(());
        }
        out.push(b'"');
        match self {
            Self::Mask { keep_last } => {
                out.extend_from_slice(MASK.as_bytes());
                if *keep_last > 0 && matches!(value.first(), Some(b'"' | b'-' | b'0'..=b'9')) {
                    escape(last(&content(value)?, *keep_last), out);
                }
            }
            Self::Hash(keyed) => {
                let mut hash = keyed.clone();
                hash.update(content(value)?.as_bytes());
                for byte in hash.finalize().into_bytes() {
                    out.extend_from_slice(&hexadecimal(byte));
                }
            }
        }
        out.push(b'"');
        Ok(())
    }
}

/// The last `count` characters, or none where fewer than that would be hidden.
fn last(content: &str, count: usize) -> &str {
    let hidden = content.chars().count().saturating_sub(count);
    if hidden < count {
        return "";
    }
    let begin = content.char_indices().nth(hidden);
    begin.map_or("", |(begin, _)| &content[begin..])
}

/// Writes `text` as it stands in a JSON string.
fn escape(text: &str, out: &mut Vec<u8>) {
    let quoted = serde_json::Value::from(text).to_string();
    let inner = quoted.as_bytes();
    out.extend_from_slice(inner.get(1..inner.len() - 1).unwrap_or_default());
}

fn hexadecimal(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(replacement: &Replacement, value: &str) -> String {
        let mut out = Vec::new();
        replacement.write(value.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_mask_keeps_no_more_than_it_hides() {
        let check = |keep_last, value: &str, expect: &str| {
            let mask = Replacement::Mask { keep_last };
            assert_eq!(replaced(&mask, value), expect, "{value}");
        };
        check(0, r#""4111 1111 1111 1111""#, r#""***""#);
        check(4, r#""4111 1111 1111 1234""#, r#""***1234""#);
        check(4, r#""12345678""#, r#""***5678""#);
        check(4, r#""1234567""#, r#""***""#);
        check(4, r#""""#, r#""***""#);
        check(usize::MAX, r#""12345678""#, r#""***""#);
        check(2, r#""Größe""#, r#""***ße""#);
        check(2, r#""Stra\u00dfe\"\n""#, r#""***\"\n""#);
        check(2, "-12345.67", r#""***67""#);
        check(2, "false", r#""***""#);
        check(2, r#"{"a":"bcdef"}"#, r#""***""#);
        check(2, r#"["a","b"]"#, r#""***""#);
        check(2, "null", "null");
    }

    #[test]
    fn a_hash_is_that_of_what_is_said() {
        // RFC 4231, test case 1.
        let hash = Replacement::Hash(Hmac::new_from_slice(&[0x0b; 20]).unwrap());
        let expect = r#""b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7""#;
        assert_eq!(replaced(&hash, r#""Hi There""#), expect);
        assert_eq!(replaced(&hash, r#""Hi\u0020\u0054here""#), expect);
        assert_ne!(replaced(&hash, r#""Hi there""#), expect);
        assert_eq!(replaced(&hash, "7"), replaced(&hash, r#""7""#));
        assert_eq!(replaced(&hash, "null"), "null");
    }

    #[test]
    fn half_a_character_is_told_of_where_it_matters() {
        let value = br#""\ud800 is half""#;
        let keep = |keep_last| Replacement::Mask { keep_last }.write(value, &mut Vec::new());
        assert_eq!(keep(0), Ok(()));
        assert_eq!(keep(1), Err(UnpairedSurrogate));
    }
}

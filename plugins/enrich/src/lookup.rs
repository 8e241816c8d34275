//! What of a record is looked up.

use std::borrow::Cow;

use millstream_plugin::{Failure, Record};

/// Where a record's key in the table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It is the record's own key.
    Key,
    /// The field of this name, in the JSON object that the value is.
    Field(String),
}

impl Lookup {
    /// What is looked up for a record: `value` is that of the field, as it is written.
    ///
    /// # Errors
    ///
    /// There is nothing to be looked up, and the record is to be rejected.
    pub(crate) fn key<'a>(
        &self,
        record: &Record<'a>,
        value: Option<&'a str>,
    ) -> Result<Cow<'a, [u8]>, Failure> {
        match self {
            Self::Key => match record.key() {
                Some(key) => Ok(Cow::Borrowed(key)),
                None => Err(Failure::reject("the record has no key")),
            },
            Self::Field(name) => text(name, value.unwrap_or("null")),
        }
    }
}

/// A string without its quotes, a number or a boolean as it is written: what `millstream produce` makes a
/// key of.
fn text<'a>(name: &str, value: &'a str) -> Result<Cow<'a, [u8]>, Failure> {
    match value.as_bytes() {
        b"null" => Err(Failure::reject(format_args!("the record has no `{name}`"))),
        [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => Ok(Cow::Borrowed(plain)),
        [b'"', ..] => {
            let text: String = serde_json::from_str(value)?;
            Ok(Cow::Owned(text.into_bytes()))
        }
        [b'{' | b'[', ..] => Err(Failure::reject(format_args!(
            "`{name}` is neither a string nor a number nor a boolean"
        ))),
        value => Ok(Cow::Borrowed(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expect: &str) {
        let key = match text("net", value) {
            Ok(key) => String::from_utf8(key.into_owned()).unwrap(),
            Err(failure) => failure.reason().to_owned(),
        };
        assert_eq!(key, expect, "{value}");
    }

    #[test]
    fn a_key_is_what_produce_would_make_of_it() {
        check("\"us\"", "us");
        check("\"\"", "");
        check(r#""\u0075s\n""#, "us\n");
        check("7", "7");
        check("-1.50", "-1.50");
        check("true", "true");
        check("null", "the record has no `net`");
        check(
            "[1]",
            "`net` is neither a string nor a number nor a boolean",
        );
        check("{}", "`net` is neither a string nor a number nor a boolean");
    }
}

//! Where a record's id is.

use std::fmt;

use millstream_plugin::{Context, Failure, Record, json};

use crate::seen::MAX_ID_BYTES;

/// What makes two records the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdSource {
    /// The key.
    Key,
    /// The field of this name, in the JSON object that the value is.
    Field(String),
}

impl IdSource {
    /// Reads `field`.
    pub(crate) fn configured(context: &Context) -> Result<Self, &'static str> {
        match context.config("field") {
            None => Ok(Self::Key),
            Some("") => Err("field must be the name of a field, or not be set"),
            Some(name) => Ok(Self::Field(name.to_owned())),
        }
    }

    /// The id of a record: never empty, and at most [`MAX_ID_BYTES`] long.
    ///
    /// # Errors
    ///
    /// The record has none, and is to be rejected.
    pub(crate) fn of<'a>(&self, record: &Record<'a>) -> Result<&'a [u8], Failure> {
        let id = match self {
            Self::Key => record
                .key()
                .filter(|key| !key.is_empty())
                .ok_or_else(|| Failure::reject("the record has no key"))?,
            Self::Field(name) => field(record, name)?,
        };
        if id.len() > MAX_ID_BYTES {
            let len = id.len();
            return Err(Failure::reject(format_args!(
                "the id has {len} bytes, more than {MAX_ID_BYTES}"
            )));
        }
        Ok(id)
    }
}

/// The string or number of a field, as it is written.
fn field<'a>(record: &Record<'a>, name: &str) -> Result<&'a [u8], Failure> {
    let value = record
        .value()
        .ok_or_else(|| Failure::reject("the record has no value"))?;
    let [id] = json::fields(value, [name])?;
    match id.unwrap_or("null").as_bytes() {
        b"null" | br#""""# => Err(Failure::reject(format_args!("the record has no `{name}`"))),
        id @ [b'"' | b'-' | b'0'..=b'9', ..] => Ok(id),
        _ => Err(Failure::reject(format_args!(
            "`{name}` is neither a string nor a number"
        ))),
    }
}

/// Whose ids these are, for the log.
impl fmt::Display for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("each key"),
            Self::Field(name) => write!(f, "each `{name}`"),
        }
    }
}

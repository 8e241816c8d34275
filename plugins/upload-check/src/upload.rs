//! What is read of an upload: of its event, or of the compressed file.

use std::borrow::Cow;

use millstream_plugin::{Failure, Record};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Deserialize;

/// What a file may have, unpacked. A few bytes can claim gigabytes.
const MAX_CONTENT_BYTES: usize = 4 * 1024 * 1024;

/// An upload.
pub(crate) struct Upload<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) user: Cow<'a, str>,
    pub(crate) title: Cow<'a, str>,
    pub(crate) licensed: bool,
    /// What is in it, if this is the file.
    pub(crate) content: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    title: Cow<'a, str>,
    #[serde(borrow)]
    license: Option<Cow<'a, str>>,
}

impl<'a> Upload<'a> {
    /// Reads an event, or where there is a `content-encoding`, a file.
    ///
    /// # Errors
    ///
    /// It is neither, and is to be rejected.
    pub(crate) fn read(record: &Record<'a>) -> Result<Self, Failure> {
        let value = record
            .value()
            .ok_or_else(|| Failure::reject("the record has no value"))?;
        match record.header("content-encoding").flatten() {
            None => Self::of_event(value),
            Some(b"deflate") => Self::of_file(record, value),
            Some(other) => Err(Failure::reject(format_args!(
                "the file's encoding is `{}`, not `deflate`",
                other.escape_ascii()
            ))),
        }
    }

    fn of_event(value: &'a [u8]) -> Result<Self, Failure> {
        let event: Event<'_> = serde_json::from_slice(value)?;
        Ok(Self {
            id: event.id,
            user: event.user,
            title: event.title,
            licensed: event.license.is_some(),
            content: None,
        })
    }

    fn of_file(record: &Record<'a>, value: &[u8]) -> Result<Self, Failure> {
        let text = |name| {
            let value = record.header(name).flatten();
            let value = value.and_then(|value| str::from_utf8(value).ok());
            value.ok_or_else(|| Failure::reject(format_args!("the file has no `{name}`")))
        };
        let content = decompress_to_vec_zlib_with_limit(value, MAX_CONTENT_BYTES)
            .map_err(|error| Failure::reject(format_args!("the file is not unpacked: {error}")))?;
        let id = record.key().and_then(|key| str::from_utf8(key).ok());
        let id = id.ok_or_else(|| Failure::reject("the file has no id as its key"))?;
        Ok(Self {
            id: id.into(),
            user: text("user")?.into(),
            title: text("title")?.into(),
            licensed: record.header("license").is_some(),
            content: Some(String::from_utf8(content)?),
        })
    }
}

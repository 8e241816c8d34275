//! The same values as fields of a file: text, read as on the command line.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

use super::{PositionArg, parse_bytes, parse_duration};

/// A size in bytes, as [`parse_bytes`] reads it.
pub(crate) fn bytes_text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    text(field, parse_bytes)
}

/// A duration, as [`parse_duration`] reads it.
pub(crate) fn duration_text<'de, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<Duration>, D::Error> {
    text(field, parse_duration)
}

/// A place in a topic, as [`PositionArg`] reads it.
pub(crate) fn position_text<'de, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<PositionArg>, D::Error> {
    text(field, str::parse)
}

fn text<'de, D: Deserializer<'de>, T>(
    field: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(field)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}

//! What people type as a value, and what it means.

mod field;
mod pair;
mod place;
mod position;
mod quantity;

pub(crate) use field::{bytes_text, duration_text, position_text};
pub(crate) use pair::{Pair, pair};
pub(crate) use place::{parse_advertised, parse_rack};
pub(crate) use position::{PositionArg, now_ms};
pub(crate) use quantity::{Limit, parse_bytes, parse_duration};

//! The broker's clock: the one place where the shell asks for the time that cores are given.

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::TimestampMs;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> TimestampMs {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(elapsed) => i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

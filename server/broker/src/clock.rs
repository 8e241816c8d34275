//! The broker's clock: the one place where the shell asks for the time that cores are given.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::TimestampMs;

/// Where the time comes from, if not from the system.
static REPLACED: OnceLock<fn() -> TimestampMs> = OnceLock::new();

/// Has all brokers of this process take the time from `clock` (milliseconds since the Unix epoch) from now on: from
/// that of a simulation. The first one stays.
pub fn replace(clock: fn() -> TimestampMs) {
    let _ = REPLACED.set(clock);
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> TimestampMs {
    if let Some(clock) = REPLACED.get() {
        return clock();
    }
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(elapsed) => i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

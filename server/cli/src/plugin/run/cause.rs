//! What a guest is called with: records of the file, or timers that it has set.

use std::fmt;

use millstream_protocol::Offset;
use millstream_protocol::api::plugin::TimerClock;
use millstream_runtime::{CallError, FiredTimer, Handled, Instance};
use millstream_worker::Timer;

use super::input::{InputRecord, batches};
use super::log::At;

/// What an outcome is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    Record(&'a InputRecord),
    Timer(&'a Timer),
}

/// As a person finds it.
impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => write!(f, "offset {} (line {})", record.offset, record.line),
            Self::Timer(timer) => {
                let clock = match timer.clock {
                    TimerClock::RecordTime => "record time",
                    TimerClock::WallTime => "wall time",
                };
                let (key, at_ms) = (timer.key.escape_ascii(), timer.at_ms);
                write!(f, "timer \"{key}\" at {clock} {at_ms}")
            }
        }
    }
}

/// A kind of thing that one call has some of.
pub(super) trait Callable {
    fn cause(&self) -> Cause<'_>;

    /// Where the guest is when it is called with those from one to another.
    fn at(first: &Self, last: &Self) -> At;

    /// Has the guest handle some, in their order; `position` is the first offset that is not yet
    /// handled. The outer error: there can be no such call.
    fn call(
        instance: &mut Instance,
        these: &[&Self],
        position: Offset,
    ) -> anyhow::Result<Result<Handled, CallError>>;
}

impl Callable for InputRecord {
    fn cause(&self) -> Cause<'_> {
        Cause::Record(self)
    }

    fn at(first: &Self, last: &Self) -> At {
        At::Records {
            first: first.offset,
            last: last.offset,
        }
    }

    fn call(
        instance: &mut Instance,
        these: &[&Self],
        _: Offset,
    ) -> anyhow::Result<Result<Handled, CallError>> {
        Ok(instance.handle(&batches(these)?))
    }
}

impl Callable for Timer {
    fn cause(&self) -> Cause<'_> {
        Cause::Timer(self)
    }

    fn at(first: &Self, last: &Self) -> At {
        At::Timers {
            first_ms: first.at_ms,
            last_ms: last.at_ms,
        }
    }

    fn call(
        instance: &mut Instance,
        these: &[&Self],
        position: Offset,
    ) -> anyhow::Result<Result<Handled, CallError>> {
        let fired = |timer: &&Self| FiredTimer {
            clock: timer.clock,
            key: timer.key.to_vec(),
            at_ms: timer.at_ms,
        };
        let fired: Vec<_> = these.iter().map(fired).collect();
        Ok(instance.fire(&fired, position))
    }
}

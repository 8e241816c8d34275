//! `millstream:plugin/timers`: what the call has set and cancelled.

use millstream_protocol::TimestampMs;
use millstream_protocol::api::plugin::TimerClock;

use super::{Access, HostState};
use crate::bindings::millstream::plugin::timers::{self, Clock, Error};
use crate::timers::{MAX_TIMER_CHANGES, MAX_TIMER_KEY_BYTES, TimerChanges, TooManyChanges};

/// Timers that a call which takes over a part of a state may set and cancel.
const MAX_MIGRATION_TIMERS: usize = 1_000;

/// The timers as one call has changed them.
#[derive(Default)]
pub(super) struct CallTimers {
    changes: TimerChanges,
}

impl CallTimers {
    pub(super) fn begin_call(&mut self) {
        *self = Self::default();
    }

    pub(super) fn take_changes(&mut self) -> TimerChanges {
        std::mem::take(&mut self.changes)
    }
}

impl From<Clock> for TimerClock {
    fn from(clock: Clock) -> Self {
        match clock {
            Clock::RecordTime => Self::RecordTime,
            Clock::WallTime => Self::WallTime,
        }
    }
}

impl From<TimerClock> for Clock {
    fn from(clock: TimerClock) -> Self {
        match clock {
            TimerClock::RecordTime => Self::RecordTime,
            TimerClock::WallTime => Self::WallTime,
        }
    }
}

impl timers::Host for HostState {
    fn set(
        &mut self,
        clock: Clock,
        key: Vec<u8>,
        at_ms: TimestampMs,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.change_timer(clock, key, Some(at_ms))
    }

    fn cancel(&mut self, clock: Clock, key: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.change_timer(clock, key, None)
    }
}

impl HostState {
    fn change_timer(
        &mut self,
        clock: Clock,
        key: Vec<u8>,
        at_ms: Option<TimestampMs>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.count()?;
        if self.access == Access::ReadOnly {
            return Ok(Err(Error::ReadOnly));
        }
        if key.len() > MAX_TIMER_KEY_BYTES {
            return Ok(Err(Error::TooLarge(format!(
                "a key of {} bytes, more than {MAX_TIMER_KEY_BYTES}",
                key.len()
            ))));
        }
        if self.access == Access::Migration && self.timers.changes.len() >= MAX_MIGRATION_TIMERS {
            return Ok(Err(Error::QuotaExceeded(format!(
                "a call of `migrate` would set and cancel more than {MAX_MIGRATION_TIMERS} timers"
            ))));
        }
        let changed = self.timers.changes.set(clock.into(), key, at_ms);
        Ok(changed.map_err(|TooManyChanges| {
            Error::QuotaExceeded(format!(
                "the call would set and cancel more than {MAX_TIMER_CHANGES} timers"
            ))
        }))
    }
}

//! Timers: a plugin has itself called later, when records, or the clock on the wall, have reached a
//! time.
//!
//! A timer is known by its clock and its key: setting it again moves it. Timers outlive the instance
//! and are transactional with the call, as the [`state`](crate::state) is. The function that handles
//! them is named beside the handler:
//!
//! ```
//! use millstream_plugin::timers::{self, Clock, Timer};
//! use millstream_plugin::{Context, Failure, NewRecord, Outputs, Record, state, testing};
//!
//! const HOUR_MS: i64 = 3_600_000;
//!
//! struct Hourly;
//!
//! fn init(_context: &Context) -> Result<Hourly, std::convert::Infallible> {
//!     Ok(Hourly)
//! }
//!
//! /// Counts the records of each hour.
//! #[millstream_plugin::handler(init = init, timer = hour_over)]
//! fn handle(_: &mut Hourly, record: Record<'_>, _: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let hour = record.timestamp_ms().div_euclid(HOUR_MS);
//!     let key = hour.to_be_bytes();
//!     let count = match state::get(&key)? {
//!         Some(count) => u64::from_be_bytes(count.as_slice().try_into()?),
//!         None => 0,
//!     };
//!     state::put(&key, &(count + 1).to_be_bytes())?;
//!     timers::set(Clock::RecordTime, &key, (hour + 1) * HOUR_MS)?;
//!     Ok(())
//! }
//!
//! /// Tells the count of an hour when a record of a later one has come.
//! fn hour_over(_: &mut Hourly, timer: Timer<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let count = state::get(timer.key())?.unwrap_or_default();
//!     state::delete(timer.key())?;
//!     let counts = out.output("counts")?;
//!     out.emit(counts, &NewRecord::new(&count).with_key(timer.key()))
//! }
//!
//! # let context = Context::new("hourly", "records", 0).with_output("counts");
//! # testing::run(&context, &[NewRecord::new(b"").with_timestamp_ms(5)], |record, out| {
//! #     handle(&mut Hourly, record, out)
//! # })?;
//! let fire = |now_ms| {
//!     testing::fire(&context, Clock::RecordTime, now_ms, |timer, out| {
//!         hour_over(&mut Hourly, timer, out)
//!     })
//! };
//! assert_eq!(fire(HOUR_MS - 1)?, []);
//! assert_eq!(fire(HOUR_MS)?.len(), 1);
//! # Ok::<(), String>(())
//! ```
//!
//! Timers cannot be set in `init`. The clock of the records stands at the greatest timestamp that the
//! worker has handled: it never goes back, and stands still while no records come.

use std::error::Error;
use std::fmt;

use crate::failure::Failure;

#[cfg(target_arch = "wasm32")]
use self::guest as backend;
#[cfg(not(target_arch = "wasm32"))]
use self::memory as backend;

/// The longest key, bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// Timers that one call may set and cancel.
pub const MAX_CHANGES: usize = 10_000;

/// What a timer's time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// The greatest timestamp of all records that the worker has handled.
    RecordTime,
    /// The broker's clock.
    WallTime,
}

/// A timer whose time has come. It is gone, unless it is set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer<'a> {
    pub(crate) clock: Clock,
    pub(crate) key: &'a [u8],
    pub(crate) at_ms: i64,
}

impl<'a> Timer<'a> {
    /// The clock that has reached it.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The key it was set with.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The time it was set for, milliseconds since the Unix epoch.
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }
}

/// Why a timer was not set or cancelled.
///
/// As a [`Failure`] (the operator `?`), a key that is too large rejects the record: it always will
/// be. The others fail the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// The key has more than [`MAX_KEY_BYTES`].
    TooLarge(String),
    /// The call would set and cancel more than [`MAX_CHANGES`].
    QuotaExceeded(String),
    /// Timers cannot be changed in `init`.
    ReadOnly,
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(what) => write!(f, "too large for a timer: {what}"),
            Self::QuotaExceeded(what) => write!(f, "too many timers: {what}"),
            Self::ReadOnly => f.write_str("timers cannot be changed in init"),
        }
    }
}

// As with `StateError`: as an `Error`, it would always reject the record.
impl From<TimerError> for Failure {
    fn from(error: TimerError) -> Self {
        match error {
            TimerError::TooLarge(_) => Self::reject(error),
            TimerError::QuotaExceeded(_) | TimerError::ReadOnly => Self::abort(error),
        }
    }
}

/// For an `init` that returns any error.
impl From<TimerError> for Box<dyn Error> {
    fn from(error: TimerError) -> Self {
        error.to_string().into()
    }
}

/// Sets a timer: it fires once its clock has reached `at_ms`, milliseconds since the Unix epoch. In the
/// past is allowed: it fires soon.
///
/// # Errors
///
/// The key is too large, or the call changes too many timers; or this is `init`.
pub fn set(clock: Clock, key: &[u8], at_ms: i64) -> Result<(), TimerError> {
    backend::set(clock, key, at_ms)
}

/// Cancels a timer, if there is one.
///
/// # Errors
///
/// As those of [`set`].
pub fn cancel(clock: Clock, key: &[u8]) -> Result<(), TimerError> {
    backend::cancel(clock, key)
}

/// In a guest, the host has the timers.
#[cfg(target_arch = "wasm32")]
mod guest {
    use super::{Clock, TimerError};
    use crate::bindings::timed::millstream::plugin::timers;

    impl From<timers::Error> for TimerError {
        fn from(error: timers::Error) -> Self {
            match error {
                timers::Error::TooLarge(what) => Self::TooLarge(what),
                timers::Error::QuotaExceeded(what) => Self::QuotaExceeded(what),
                timers::Error::ReadOnly => Self::ReadOnly,
            }
        }
    }

    impl From<Clock> for timers::Clock {
        fn from(clock: Clock) -> Self {
            match clock {
                Clock::RecordTime => Self::RecordTime,
                Clock::WallTime => Self::WallTime,
            }
        }
    }

    impl From<timers::Clock> for Clock {
        fn from(clock: timers::Clock) -> Self {
            match clock {
                timers::Clock::RecordTime => Self::RecordTime,
                timers::Clock::WallTime => Self::WallTime,
            }
        }
    }

    pub(super) fn set(clock: Clock, key: &[u8], at_ms: i64) -> Result<(), TimerError> {
        Ok(timers::set(clock.into(), key, at_ms)?)
    }

    pub(super) fn cancel(clock: Clock, key: &[u8]) -> Result<(), TimerError> {
        Ok(timers::cancel(clock.into(), key)?)
    }
}

/// Timers in memory, for each thread its own: what a handler finds when it runs natively.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::{Clock, MAX_CHANGES, MAX_KEY_BYTES, TimerError};

    type Timers = BTreeMap<(Clock, Vec<u8>), i64>;

    thread_local! {
        static TIMERS: RefCell<Timers> = const { RefCell::new(Timers::new()) };
        /// What the call under way has changed.
        static CHANGES: RefCell<usize> = const { RefCell::new(0) };
    }

    /// A call under way: what it has changed is taken back when dropped, unless it is committed.
    pub(crate) struct Call {
        before: Option<Timers>,
    }

    impl Call {
        pub(crate) fn begin() -> Self {
            CHANGES.set(0);
            Self {
                before: Some(TIMERS.with_borrow(Timers::clone)),
            }
        }

        pub(crate) fn commit(mut self) {
            self.before = None;
        }
    }

    impl Drop for Call {
        fn drop(&mut self) {
            if let Some(before) = self.before.take() {
                TIMERS.set(before);
            }
            CHANGES.set(0);
        }
    }

    pub(super) fn set(clock: Clock, key: &[u8], at_ms: i64) -> Result<(), TimerError> {
        count(key)?;
        TIMERS.with_borrow_mut(|timers| timers.insert((clock, key.to_vec()), at_ms));
        Ok(())
    }

    pub(super) fn cancel(clock: Clock, key: &[u8]) -> Result<(), TimerError> {
        count(key)?;
        TIMERS.with_borrow_mut(|timers| timers.remove(&(clock, key.to_vec())));
        Ok(())
    }

    /// Unlike the host, counts a timer that is changed twice as two.
    fn count(key: &[u8]) -> Result<(), TimerError> {
        if key.len() > MAX_KEY_BYTES {
            let len = key.len();
            return Err(TimerError::TooLarge(format!(
                "a key of {len} bytes, more than {MAX_KEY_BYTES}"
            )));
        }
        CHANGES.with_borrow_mut(|changes| {
            if *changes >= MAX_CHANGES {
                return Err(TimerError::QuotaExceeded(format!(
                    "the call would set and cancel more than {MAX_CHANGES} timers"
                )));
            }
            *changes += 1;
            Ok(())
        })
    }

    /// Takes the timers of a clock that are due, those of an earlier time first.
    pub(crate) fn take_due(clock: Clock, now_ms: i64) -> Vec<(Vec<u8>, i64)> {
        TIMERS.with_borrow_mut(|timers| {
            let due = timers.extract_if(.., |(of, _), at_ms| *of == clock && *at_ms <= now_ms);
            let mut due: Vec<_> = due.map(|((_, key), at_ms)| (key, at_ms)).collect();
            due.sort_by_key(|(_, at_ms)| *at_ms);
            due
        })
    }

    /// All timers.
    pub(crate) fn list() -> Vec<(Clock, Vec<u8>, i64)> {
        let copy = |((clock, key), at_ms): (&(Clock, Vec<u8>), &i64)| (*clock, key.clone(), *at_ms);
        TIMERS.with_borrow(|timers| timers.iter().map(copy).collect())
    }

    /// Forgets all.
    pub(crate) fn clear() {
        TIMERS.with_borrow_mut(Timers::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, NewRecord, testing};

    fn run(values: &[&str], fail: bool) -> Result<Vec<testing::Outcome>, String> {
        let records: Vec<_> = values
            .iter()
            .map(|it| NewRecord::new(it.as_bytes()))
            .collect();
        testing::run(&Context::new("d", "t", 0), &records, |record, _| {
            let key = record.value().unwrap_or_default();
            set(Clock::WallTime, key, 7)?;
            if fail {
                return Err(Failure::abort("as told"));
            }
            Ok(())
        })
    }

    #[test]
    fn what_a_failed_call_has_set_is_taken_back() {
        testing::clear_timers();
        run(&["a", "b"], false).unwrap();
        run(&["c"], true).unwrap_err();
        cancel(Clock::WallTime, b"a").unwrap();
        cancel(Clock::RecordTime, b"b").unwrap();
        assert_eq!(testing::timers(), [(Clock::WallTime, b"b".to_vec(), 7)]);
    }

    #[test]
    fn timers_fire_in_order_and_are_gone() {
        testing::clear_timers();
        for (key, at_ms) in [(b"late", 9), (b"soon", 3), (b"next", 5)] {
            set(Clock::RecordTime, key, at_ms).unwrap();
        }
        let context = Context::new("d", "t", 0).with_output("o");
        let mut fired = Vec::new();
        let mut fire = |now_ms| {
            testing::fire(&context, Clock::RecordTime, now_ms, |timer, _| {
                fired.push((timer.key().to_vec(), timer.at_ms()));
                Ok(())
            })
        };
        assert_eq!(fire(5), Ok(Vec::new()));
        assert_eq!(fired, [(b"soon".to_vec(), 3), (b"next".to_vec(), 5)]);
        assert_eq!(testing::timers().len(), 1);
    }

    #[test]
    fn limits_are_told() {
        testing::clear_timers();
        let long = vec![0; MAX_KEY_BYTES + 1];
        assert!(matches!(
            set(Clock::WallTime, &long, 0),
            Err(TimerError::TooLarge(_))
        ));
    }
}

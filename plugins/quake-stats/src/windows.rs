//! The windows that are not over yet, as state, and the timers that end them.
//!
//! Time is that of the records: now is the time of the newest that there has been, `newest`. A window
//! is over when `newest` has reached its end.
//!
//! | key                            | value                                     |
//! | ------------------------------ | ----------------------------------------- |
//! | `w`, a window's beginning, net | the [`Figures`] of the network in it      |
//! | `n`                            | `newest`                                  |
//!
//! A time has 8 bytes, big-endian, the sign bit flipped, so that keys are in the order of time. For each
//! `w` key there is a timer with the same key, for the window's end. It takes the key away.

use millstream_plugin::timers::Clock;
use millstream_plugin::{Failure, state, timers};

use crate::figures::Figures;

const WINDOW: u8 = b'w';
const NEWEST: &[u8] = b"n";

/// Bytes of a time.
const TIME_BYTES: usize = 8;

/// The longest name of a network, bytes: a key has it, and a time.
pub(crate) const MAX_NET_BYTES: usize = state::MAX_KEY_BYTES - 1 - TIME_BYTES;

const _: () = assert!(state::MAX_KEY_BYTES <= timers::MAX_KEY_BYTES);

/// A window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_ms: i64,
    /// Not within it any more.
    pub(crate) to_ms: i64,
}

/// The windows of a partition.
pub(crate) struct Windows {
    window_ms: i64,
    /// The newest time of a record, if there has been one.
    newest_ms: Option<i64>,
}

impl Windows {
    /// Goes on with what is kept.
    pub(crate) fn open(window_ms: i64) -> Result<Self, Failure> {
        let newest = state::get(NEWEST)?
            .map(|time| <[u8; TIME_BYTES]>::try_from(time).map_err(|_| foreign()))
            .transpose()?;
        Ok(Self {
            window_ms,
            newest_ms: newest.map(decode),
        })
    }

    /// The window that a time is in. Windows begin at multiples of their length since 1970.
    pub(crate) fn of(&self, at_ms: i64) -> Window {
        let from_ms = at_ms.saturating_sub(at_ms.rem_euclid(self.window_ms));
        Window {
            from_ms,
            to_ms: from_ms.saturating_add(self.window_ms),
        }
    }

    /// Whether a record of a later window has come.
    pub(crate) fn is_over(&self, window: Window) -> bool {
        self.newest_ms
            .is_some_and(|newest_ms| newest_ms >= window.to_ms)
    }

    /// It is at least this time.
    pub(crate) fn reach(&mut self, at_ms: i64) -> Result<(), Failure> {
        if self.newest_ms.is_none_or(|newest_ms| newest_ms < at_ms) {
            state::put(NEWEST, &encode(at_ms))?;
            self.newest_ms = Some(at_ms);
        }
        Ok(())
    }

    /// Adds a magnitude to the figures of a window that is not over.
    pub(crate) fn add(&self, window: Window, net: &str, mag: f64) -> Result<(), Failure> {
        let key = [&[WINDOW], &encode(window.from_ms)[..], net.as_bytes()].concat();
        let figures = match state::get(&key)? {
            Some(figures) => Figures::decode(&figures).ok_or_else(foreign)?.add(mag),
            None => {
                timers::set(Clock::RecordTime, &key, window.to_ms)?;
                Figures::of(mag)
            }
        };
        Ok(state::put(&key, &figures.encode())?)
    }

    /// Takes the figures that are kept by this key: their window and network as well.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<(Window, String, Figures)>, Failure> {
        let Some(figures) = state::get(key)? else {
            return Ok(None);
        };
        let figures = Figures::decode(&figures).ok_or_else(foreign)?;
        let (from, net) = key
            .strip_prefix(&[WINDOW])
            .and_then(|key| key.split_first_chunk())
            .ok_or_else(foreign)?;
        let net = String::from_utf8(net.to_vec()).map_err(|_| foreign())?;
        state::delete(key)?;
        Ok(Some((self.of(decode(*from)), net, figures)))
    }
}

fn encode(at_ms: i64) -> [u8; TIME_BYTES] {
    (at_ms ^ i64::MIN).to_be_bytes()
}

fn decode(time: [u8; TIME_BYTES]) -> i64 {
    i64::from_be_bytes(time) ^ i64::MIN
}

/// It would be wrong for every record: the worker stops in front of it.
fn foreign() -> Failure {
    Failure::abort("the state was not written by this plugin: use a deployment's name of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_multiples_of_their_length() {
        let windows = Windows::open(10).unwrap();
        let from = [-11, -10, -1, 0, 9, 10].map(|at_ms| windows.of(at_ms).from_ms);
        assert_eq!(from, [-20, -10, -10, 0, 0, 10]);
        assert_eq!(windows.of(i64::MAX).to_ms, i64::MAX);
        assert_eq!(windows.of(i64::MIN).from_ms, i64::MIN);
    }
}

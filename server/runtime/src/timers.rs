//! Timers: what a call has set and cancelled, and those whose time has come.
//!
//! The runtime keeps none. It hands a call's changes back as [`TimerChanges`] when the call counts,
//! and is told which timers fire.

use std::collections::BTreeMap;

use millstream_protocol::TimestampMs;
use millstream_protocol::api::plugin::TimerClock;

/// The key of a timer, bytes.
pub const MAX_TIMER_KEY_BYTES: usize = 1024;

/// Timers that one call may set and cancel.
pub const MAX_TIMER_CHANGES: usize = 10_000;

/// A timer whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiredTimer {
    /// The clock that has reached it.
    pub clock: TimerClock,
    /// The key it was set with.
    pub key: Vec<u8>,
    /// The time it was set for.
    pub at_ms: TimestampMs,
}

/// What one call has set and cancelled: of each clock and key, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerChanges {
    changes: BTreeMap<(TimerClock, Vec<u8>), Option<TimestampMs>>,
}

/// The call would change more than [`MAX_TIMER_CHANGES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyChanges;

impl TimerChanges {
    /// Sets a timer, or cancels it.
    pub(crate) fn set(
        &mut self,
        clock: TimerClock,
        key: Vec<u8>,
        at_ms: Option<TimestampMs>,
    ) -> Result<(), TooManyChanges> {
        let room = self.changes.len() < MAX_TIMER_CHANGES;
        let key = (clock, key);
        if !room && !self.changes.contains_key(&key) {
            return Err(TooManyChanges);
        }
        self.changes.insert(key, at_ms);
        Ok(())
    }

    /// Each timer with the time it was set for, or with none if it was cancelled.
    pub fn iter(&self) -> impl Iterator<Item = (TimerClock, &[u8], Option<TimestampMs>)> {
        let changes = self.changes.iter();
        changes.map(|((clock, key), at_ms)| (*clock, key.as_slice(), *at_ms))
    }

    /// How many timers were set or cancelled.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_each_timer_counts() {
        let (record, wall) = (TimerClock::RecordTime, TimerClock::WallTime);
        let mut changes = TimerChanges::default();
        changes.set(wall, b"k".to_vec(), Some(1)).unwrap();
        changes.set(record, b"k".to_vec(), Some(2)).unwrap();
        changes.set(wall, b"k".to_vec(), None).unwrap();
        let found: Vec<_> = changes.iter().collect();
        assert_eq!(found, [(record, &b"k"[..], Some(2)), (wall, b"k", None)]);
    }

    #[test]
    fn a_call_changes_so_many_and_no_more() {
        let mut changes = TimerChanges::default();
        for number in 0..MAX_TIMER_CHANGES {
            let key = number.to_be_bytes().to_vec();
            changes.set(TimerClock::WallTime, key, Some(0)).unwrap();
        }
        let one_more = changes.set(TimerClock::WallTime, b"one more".to_vec(), Some(0));
        assert_eq!(one_more, Err(TooManyChanges));
        let known = 0usize.to_be_bytes().to_vec();
        assert_eq!(changes.set(TimerClock::WallTime, known, None), Ok(()));
    }
}

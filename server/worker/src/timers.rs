//! Timers that wait, by the clock that will reach them.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use millstream_protocol::TimestampMs;
use millstream_protocol::api::plugin::TimerClock;
use serde::{Deserialize, Serialize};

/// What a timer counts beside its key, bytes.
pub(crate) const OVERHEAD_BYTES: usize = 64;

/// A timer that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// What its time is measured by.
    pub clock: TimerClock,
    /// What it is known by, beside the clock.
    pub key: Bytes,
    /// The time it was set for.
    pub at_ms: TimestampMs,
    /// How often it has fired in vain.
    pub attempts: u32,
    /// It does not fire before this, by the clock on the wall.
    pub not_before_ms: TimestampMs,
}

impl Timer {
    /// One that has not fired yet.
    pub fn new(clock: TimerClock, key: Bytes, at_ms: TimestampMs) -> Self {
        Self {
            clock,
            key,
            at_ms,
            attempts: 0,
            not_before_ms: TimestampMs::MIN,
        }
    }

    /// What it is known by.
    pub fn id(&self) -> TimerId {
        (self.clock, self.key.clone())
    }
}

/// What a timer is known by.
pub type TimerId = (TimerClock, Bytes);

/// All timers of a worker.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    timers: HashMap<TimerId, Timer>,
    /// Those that wait for records, by their time.
    by_record_time: BTreeSet<(TimestampMs, TimerId)>,
    /// Those that wait for the clock on the wall, by when: its own, and what has fired in vain.
    by_wall_time: BTreeSet<(TimestampMs, TimerId)>,
    bytes: usize,
}

impl Timers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// What they take, bytes: their keys, and some for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// At most `most` of those that fire now, those of an earlier time first. Of more than that, which
    /// ones is not said.
    pub fn due(&self, record_time_ms: TimestampMs, now_ms: TimestampMs, most: usize) -> Vec<Timer> {
        let until = |queue: &BTreeSet<(TimestampMs, TimerId)>, time_ms| {
            let due = queue.iter().take_while(|(due_ms, _)| *due_ms <= time_ms);
            let due = due.filter_map(|(_, id)| self.timers.get(id).cloned());
            due.take(most).collect::<Vec<_>>()
        };
        let mut due = until(&self.by_record_time, record_time_ms);
        due.extend(until(&self.by_wall_time, now_ms));
        due.sort_by(|one, other| {
            let order = |timer: &Timer| (timer.at_ms, timer.clock, timer.key.clone());
            order(one).cmp(&order(other))
        });
        due.truncate(most);
        due
    }

    /// When the clock on the wall will reach the next one.
    pub fn next_due_ms(&self) -> Option<TimestampMs> {
        self.by_wall_time.first().map(|(due_ms, _)| *due_ms)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Timer> {
        self.timers.values()
    }

    pub(crate) fn contains(&self, id: &TimerId) -> bool {
        self.timers.contains_key(id)
    }

    /// Adds a timer, in the place of the one of its clock and key.
    pub fn set(&mut self, timer: Timer) {
        let id = timer.id();
        self.remove(&id);
        self.bytes += OVERHEAD_BYTES + timer.key.len();
        let (queue, due_ms) = self.queue(&timer);
        queue.insert((due_ms, id.clone()));
        self.timers.insert(id, timer);
    }

    /// Takes a timer out, if it is there.
    pub fn remove(&mut self, id: &TimerId) {
        let Some(timer) = self.timers.remove(id) else {
            return;
        };
        self.bytes -= OVERHEAD_BYTES + timer.key.len();
        let (queue, due_ms) = self.queue(&timer);
        queue.remove(&(due_ms, id.clone()));
    }

    /// Where a timer waits, and until when.
    fn queue(&mut self, timer: &Timer) -> (&mut BTreeSet<(TimestampMs, TimerId)>, TimestampMs) {
        match timer.clock {
            _ if timer.attempts > 0 => (&mut self.by_wall_time, timer.not_before_ms),
            TimerClock::RecordTime => (&mut self.by_record_time, timer.at_ms),
            TimerClock::WallTime => (&mut self.by_wall_time, timer.at_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timer(clock: TimerClock, key: &'static str, at_ms: TimestampMs) -> Timer {
        Timer::new(clock, Bytes::from_static(key.as_bytes()), at_ms)
    }

    fn keys(timers: &[Timer]) -> Vec<&str> {
        let key = |timer: &'_ Timer| str::from_utf8(&timer.key).unwrap().to_owned();
        let keys: Vec<_> = timers.iter().map(key).collect();
        keys.into_iter().map(|key| &*key.leak()).collect()
    }

    #[test]
    fn each_clock_fires_its_own() {
        let (record, wall) = (TimerClock::RecordTime, TimerClock::WallTime);
        let mut timers = Timers::default();
        timers.set(timer(record, "r", 10));
        timers.set(timer(wall, "w", 20));
        assert!(timers.due(9, 19, 10).is_empty());
        assert_eq!(keys(&timers.due(10, 0, 10)), ["r"]);
        assert_eq!(keys(&timers.due(10, 20, 10)), ["r", "w"]);
        assert_eq!(timers.due(10, 20, 1).len(), 1);
        assert_eq!(timers.next_due_ms(), Some(20));
    }

    #[test]
    fn what_has_fired_in_vain_waits_by_the_wall() {
        let mut timers = Timers::default();
        timers.set(Timer {
            attempts: 1,
            not_before_ms: 500,
            ..timer(TimerClock::RecordTime, "r", 10)
        });
        assert!(timers.due(10, 499, 10).is_empty());
        assert_eq!(keys(&timers.due(TimestampMs::MIN, 500, 10)), ["r"]);
        timers.set(timer(TimerClock::RecordTime, "r", 30));
        assert_eq!((timers.len(), timers.next_due_ms()), (1, None));
        timers.remove(&(TimerClock::RecordTime, Bytes::from_static(b"r")));
        assert!(timers.is_empty() && timers.bytes() == 0);
    }

    proptest! {
        /// What fires is what a plain search through all timers finds.
        #[test]
        fn the_due_are_found(
            steps in proptest::collection::vec((0..6_u8, any::<bool>(), 0..50_i64, 0..3_u32), 0..60),
            record_time_ms in 0..50_i64, now_ms in 0..50_i64,
        ) {
            let mut timers = Timers::default();
            let mut model = HashMap::new();
            for (key, wall, at_ms, attempts) in steps {
                let clock = if wall { TimerClock::WallTime } else { TimerClock::RecordTime };
                let timer = Timer {
                    clock,
                    key: Bytes::from(vec![key]),
                    at_ms,
                    attempts: attempts / 2,
                    not_before_ms: at_ms + 7,
                };
                if attempts == 1 {
                    timers.remove(&timer.id());
                    model.remove(&timer.id());
                } else {
                    model.insert(timer.id(), timer.clone());
                    timers.set(timer);
                }
            }
            let mut due: Vec<_> = model.values().filter(|timer| match timer.clock {
                _ if timer.attempts > 0 => timer.not_before_ms <= now_ms,
                TimerClock::RecordTime => timer.at_ms <= record_time_ms,
                TimerClock::WallTime => timer.at_ms <= now_ms,
            }).cloned().collect();
            due.sort_by_key(|timer| (timer.at_ms, timer.clock, timer.key.clone()));
            prop_assert_eq!(timers.due(record_time_ms, now_ms, usize::MAX), due);
            let bytes: usize = model.values().map(|it| OVERHEAD_BYTES + it.key.len()).sum();
            prop_assert_eq!(timers.bytes(), bytes);
        }
    }
}

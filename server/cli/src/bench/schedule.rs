//! The open-loop schedule of a latency run.
//!
//! Every request has a time at which it is due, whatever became of those before it, and its latency
//! counts from that time. A stall of the other side is therefore seen by every request that was due
//! during it, and not by one alone (coordinated omission: G. Tene, "How not to measure latency").

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A sleeping thread wakes this much late at worst, usually; the rest is spent spinning.
const SPIN: Duration = Duration::from_micros(100);

/// Requests at a constant rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// How many in a second, at least 1.
    pub(super) per_second: u32,
    /// The first requests, which are made and not counted.
    pub(super) warm_up: u64,
    /// The requests that are counted.
    pub(super) counted: u64,
}

impl Schedule {
    /// How many requests there are.
    pub(super) fn total(&self) -> u64 {
        self.warm_up + self.counted
    }

    /// How long the counted requests take.
    pub(super) fn counted_for(&self) -> Duration {
        self.due(self.total()) - self.due(self.warm_up)
    }

    /// When a request is due, from the start.
    pub(super) fn due(&self, index: u64) -> Duration {
        let per_second = u64::from(self.per_second.max(1));
        let nanos = (index % per_second) * 1_000_000_000 / per_second;
        Duration::from_secs(index / per_second) + Duration::from_nanos(nanos)
    }

    /// Whether a request's latency counts.
    pub(super) fn counts(&self, index: u64) -> bool {
        (self.warm_up..self.total()).contains(&index)
    }

    /// Makes every request at its time, on the calling thread. A request that is late is made at
    /// once.
    pub(super) fn pace<E>(
        &self,
        start: Instant,
        mut request: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for index in 0..self.total() {
            wait_until(start + self.due(index));
            request(index)?;
        }
        Ok(())
    }
}

/// Timers of the asynchronous runtime tick by the millisecond, so a thread sleeps by itself.
fn wait_until(due: Instant) {
    let remaining = due.saturating_duration_since(Instant::now());
    if let Some(sleep) = remaining.checked_sub(SPIN) {
        std::thread::sleep(sleep);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        per_second: 1_000,
        warm_up: 3,
        counted: 5,
    };

    #[test]
    fn requests_are_due_at_a_constant_rate() {
        let due: Vec<_> = [0, 1, 999, 1_000, 61_001]
            .map(|index| SCHEDULE.due(index))
            .into();
        let expected = [0, 1, 999, 1_000, 61_001].map(Duration::from_millis);
        assert_eq!(due, expected);
        let thirds = Schedule {
            per_second: 3,
            ..SCHEDULE
        };
        assert_eq!(thirds.due(3), Duration::from_secs(1));
        assert_eq!(thirds.due(2), Duration::from_nanos(666_666_666));
        assert_eq!(SCHEDULE.counted_for(), Duration::from_millis(5));
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let counted: Vec<_> = (0..10).filter(|index| SCHEDULE.counts(*index)).collect();
        assert_eq!(counted, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn no_request_is_early_and_none_is_left_out_after_a_stall() {
        let start = Instant::now();
        let mut made = Vec::new();
        let outcome: Result<(), ()> = SCHEDULE.pace(start, |index| {
            made.push(index);
            assert!(start.elapsed() >= SCHEDULE.due(index));
            if index == 2 {
                // A stall: what is due meanwhile is made at once, and keeps its own time.
                while start.elapsed() < SCHEDULE.due(5) {
                    std::hint::spin_loop();
                }
            }
            Ok(())
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(made, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_failed_request_ends_the_run() {
        let mut made = 0;
        let outcome = SCHEDULE.pace(Instant::now(), |index| {
            made += 1;
            if index == 1 { Err("refused") } else { Ok(()) }
        });
        assert_eq!((outcome, made), (Err("refused"), 2));
    }
}

//! When a call has taken too long: by the processor time that it has had, not by the clock.
//!
//! A guest that waits for a processor, because others go first, is not to fail for it. It may take
//! [`LONGEST_STRETCH`] times its deadline in all: a call that the host keeps waiting ends as well. While it
//! [stands still](Deadline::stand_still) for its neighbours, that clock does too.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::EPOCH_TICK;

/// How many times its deadline a call may last by the clock.
pub(crate) const LONGEST_STRETCH: u32 = 60;

/// Epochs until the owner of a guest's thread is told that it computes on, more than a turn of the broker's
/// guests takes at its own priority.
pub(crate) const SLICE: u64 = 3;

/// The processor time that the calling thread has taken since it began.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// The deadline of one call, which runs on one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    began: Instant,
    cpu_time_before: Duration,
}

impl Deadline {
    /// Of a call that begins now, on this thread.
    pub(crate) fn from_now(limit_ms: u32) -> Self {
        Self {
            limit: Duration::from_millis(limit_ms.into()),
            began: Instant::now(),
            cpu_time_before: thread_cpu_time(),
        }
    }

    /// When a call has lasted as long as its deadline, by the clock.
    pub(crate) fn ends_unstretched(&self) -> Instant {
        self.began + self.limit
    }

    /// When the call has lasted as long as it may, by the clock.
    pub(crate) fn ends(&self) -> Instant {
        self.began + self.limit * LONGEST_STRETCH
    }

    /// Does something that keeps the guest from going on: how long it takes counts for nothing.
    pub(crate) fn stand_still<T>(&mut self, blocks: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let done = blocks();
        self.began += before.elapsed();
        done
    }

    /// What is left to the call, on the same thread; nothing when it has passed.
    pub(crate) fn left(&self) -> Option<Duration> {
        let used = thread_cpu_time().saturating_sub(self.cpu_time_before);
        let left = self.limit.checked_sub(used)?;
        let stretched = Instant::now() > self.ends();
        (!stretched && !left.is_zero()).then_some(left)
    }
}

/// How many epochs pass in a time, at least one.
pub(crate) fn epochs(time: Duration) -> u64 {
    let epochs = time.as_nanos().div_ceil(EPOCH_TICK.as_nanos());
    u64::try_from(epochs).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let before = thread_cpu_time();
        while thread_cpu_time() - before < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn waiting_is_not_computing() {
        let deadline = Deadline::from_now(20);
        std::thread::sleep(Duration::from_millis(40));
        assert!(deadline.left().is_some());
        spin(Duration::from_millis(20));
        assert_eq!(deadline.left(), None);
    }

    #[test]
    fn waiting_has_an_end_too() {
        let deadline = Deadline::from_now(3);
        while deadline.left().is_some() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(deadline.began.elapsed() > Duration::from_millis(3) * LONGEST_STRETCH);
    }

    #[test]
    fn standing_still_is_no_waiting_either() {
        let mut deadline = Deadline::from_now(3);
        let longest = Duration::from_millis(3) * LONGEST_STRETCH;
        deadline.stand_still(|| std::thread::sleep(longest + Duration::from_millis(1)));
        assert!(deadline.left().is_some());
    }

    #[test]
    fn epochs_are_never_none() {
        assert_eq!(epochs(Duration::ZERO), 1);
        assert_eq!(epochs(EPOCH_TICK), 1);
        assert_eq!(epochs(EPOCH_TICK + Duration::from_nanos(1)), 2);
    }
}

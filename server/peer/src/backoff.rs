//! Pauses between attempts: they double, up to a bound, and vary so that brokers do not come back all
//! at once.

use std::time::Duration;

use uuid::Uuid;

use crate::limits::Limits;

/// The pauses of one series of attempts.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    steady_after: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            first: limits.pause_first,
            max: limits.pause_max,
            steady_after: limits.steady_after,
            failures: 0,
        }
    }

    /// The pause after one more failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let pause = self.pause(Uuid::new_v4().as_u128() as u32);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// What was tried has worked for this long: if that is long enough, the next failure is the first
    /// again.
    pub(crate) fn reset_after(&mut self, worked: Duration) {
        if worked >= self.steady_after {
            self.reset();
        }
    }

    /// The next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Between half and the whole of the exponential, as `random` says.
    fn pause(&self, random: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(16));
        let whole = whole.min(self.max);
        whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_vary_and_are_bounded() {
        let limits = Limits::default();
        let (first, max) = (limits.pause_first, limits.pause_max);
        let mut backoff = Backoff::new(&limits);
        assert_eq!(backoff.pause(0), first / 2);
        assert_eq!(backoff.pause(u32::MAX), first);
        backoff.after_failure();
        assert_eq!(backoff.pause(u32::MAX), first * 2);
        let pauses: Vec<_> = (0..20).map(|_| backoff.after_failure()).collect();
        assert!(pauses.iter().all(|pause| *pause <= max));
        assert!(pauses[19] >= max / 2);
        backoff.reset_after(limits.steady_after / 2);
        assert!(backoff.after_failure() > first);
        backoff.reset_after(limits.steady_after);
        assert!(backoff.after_failure() <= first);
    }
}

//! Pauses between attempts: they double, up to a bound, and vary so that clients do not come back
//! all at once.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX, FAILING_LONG};

/// The pauses of one series of attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// Since when the attempts fail, as long as nobody was told that they have failed for long.
    failing_since: Option<Instant>,
}

impl Backoff {
    /// The pause after one more failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let pause = pause(self.failures, Uuid::new_v4().as_u128() as u32);
        if self.failures == 0 {
            self.failing_since = Some(Instant::now());
        }
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Whether the attempts have failed for so long that somebody should hear of it: once in a series.
    pub(crate) fn is_worth_telling(&mut self) -> bool {
        let has_lasted = |since: &mut Instant| since.elapsed() >= FAILING_LONG;
        self.failing_since.take_if(has_lasted).is_some()
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// It worked: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The pause after `failures` earlier ones: between half and the whole of the exponential, as
/// `random` says.
fn pause(failures: u32, random: u32) -> Duration {
    let whole = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(16))
        .min(BACKOFF_MAX);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_vary_and_are_bounded() {
        assert_eq!(pause(0, 0), BACKOFF_FIRST / 2);
        assert_eq!(pause(0, u32::MAX), BACKOFF_FIRST);
        assert_eq!(pause(1, u32::MAX), BACKOFF_FIRST * 2);
        assert_eq!(pause(u32::MAX, u32::MAX), BACKOFF_MAX);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.after_failure()).collect();
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX));
        assert!(pauses[19] >= BACKOFF_MAX / 2);
        backoff.reset();
        assert!(backoff.after_failure() <= BACKOFF_FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_fails_for_long_is_told_once() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            tokio::time::advance(2 * FAILING_LONG).await;
            assert!(!backoff.is_worth_telling());
            backoff.after_failure();
            assert!(!backoff.is_worth_telling());
            tokio::time::advance(FAILING_LONG).await;
            backoff.after_failure();
            assert!(backoff.is_worth_telling());
            assert!(!backoff.is_worth_telling());
            backoff.reset();
        }
    }
}

//! What replicas that have fallen behind may take, for all links of a broker together.

use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Lets through so many bytes in a second. What is read at once goes through as a whole, and is waited for
/// afterwards.
pub(crate) struct Throttle {
    bytes_per_second: Option<NonZeroU64>,
    /// When what has gone through is made up for.
    free_at: Mutex<Instant>,
}

impl Throttle {
    /// Without a limit, everything goes through at once.
    pub(crate) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Whether something may go through now.
    pub(crate) fn is_free(&self) -> bool {
        self.bytes_per_second.is_none() || *self.free_at.lock() <= Instant::now()
    }

    /// Waits until then.
    pub(crate) async fn free(&self) {
        while !self.is_free() {
            let free_at = *self.free_at.lock();
            sleep_until(free_at).await;
        }
    }

    /// So many bytes have gone through.
    pub(crate) fn passed(&self, bytes: usize) {
        let Some(bytes_per_second) = self.bytes_per_second else {
            return;
        };
        let takes = Duration::from_secs_f64(bytes as f64 / bytes_per_second.get() as f64);
        let mut free_at = self.free_at.lock();
        *free_at = (*free_at).max(Instant::now()) + takes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_passed_is_made_up_for() {
        let throttle = Throttle::new(NonZeroU64::new(1_000));
        let began = Instant::now();
        for _ in 0..3 {
            throttle.free().await;
            throttle.passed(500);
        }
        assert!(!throttle.is_free());
        throttle.free().await;
        let took = began.elapsed();
        assert!((1_500..1_510).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let throttle = Throttle::new(None);
        throttle.passed(usize::MAX);
        assert!(throttle.is_free());
    }
}

//! How much processor time guests may take before others go first.
//!
//! A [`Share`] is a leaky bucket: it is filled by the time that was taken, and runs dry at a constant
//! rate. While it is not full, what it belongs to is within its share. It is kept as the one moment at
//! which it will be dry (the generic cell rate algorithm, ITU-T I.371).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::workers::turnstile::Account;

/// What is remembered at most: who has taken minutes has not lost the hour.
const LONGEST_DEBT: Duration = Duration::from_secs(60);

/// A share of the machine's processor time.
pub(crate) struct Share {
    /// Time that a second earns, in percent of one processor.
    percent: u32,
    /// Time that may be taken at once.
    burst: Duration,
    /// When everything that was taken will have been earned.
    earned_at: Mutex<Option<Instant>>,
    /// What it takes beyond its share, where those queue up that do.
    pub(super) account: Arc<Account>,
}

impl Share {
    pub(crate) fn new(percent: u32, burst: Duration) -> Self {
        Self {
            percent: percent.max(1),
            burst,
            earned_at: Mutex::new(None),
            account: Arc::default(),
        }
    }

    /// How long it takes to earn a time.
    fn to_earn(&self, time: Duration) -> Duration {
        time.saturating_mul(100) / self.percent
    }

    /// Takes a time that was used, and returns nothing: it has been used.
    pub(crate) fn take(&self, time: Duration, now: Instant) {
        let mut earned_at = self.earned_at.lock();
        let from = earned_at.map_or(now, |at| at.max(now));
        *earned_at = Some((from + self.to_earn(time)).min(now + LONGEST_DEBT));
    }

    /// Whether a bit more is within the share.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        let earned_at = *self.earned_at.lock();
        earned_at.is_none_or(|at| at <= now + self.to_earn(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_is_within_the_share_and_what_is_above_is_earned_again() {
        let share = Share::new(25, 20 * MS);
        let start = Instant::now();
        assert!(share.has_left(start));
        share.take(15 * MS, start);
        assert!(share.has_left(start));
        share.take(15 * MS, start);
        assert!(!share.has_left(start + 39 * MS), "10 ms take 40 ms to earn");
        assert!(share.has_left(start + 40 * MS));
    }

    #[test]
    fn a_quarter_for_ever_is_within_a_quarter() {
        let share = Share::new(25, 20 * MS);
        let start = Instant::now();
        for turn in 0..10_000 {
            let now = start + turn * 40 * MS;
            assert!(share.has_left(now));
            share.take(10 * MS, now);
        }
    }

    #[test]
    fn an_age_of_computing_is_forgotten_after_a_minute() {
        let share = Share::new(25, 20 * MS);
        let start = Instant::now();
        share.take(Duration::from_secs(3_600), start);
        assert!(!share.has_left(start + LONGEST_DEBT / 2));
        assert!(share.has_left(start + LONGEST_DEBT));
    }
}

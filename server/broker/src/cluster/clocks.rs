//! The clocks of the other brokers, against this one's.
//!
//! Nothing that is promised rests on the time of day, but what people see does: how long records are kept, where
//! a point in time is in a log, how long certificates and tickets are valid. So a broker whose clock is wrong is
//! not let in, and one whose clock goes wrong is named.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{ErrorCode, TimestampMs, WireError};
use millstream_replication::BrokerId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{CLOCK_KNOWN_FOR, CLOCK_SKEW_LIMIT_MS};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Clocks {
    me: BrokerId,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// How far each that was heard lately is ahead of this one, milliseconds, and when it was heard.
    ahead_ms: BTreeMap<BrokerId, (i128, Instant)>,
    /// Those that were named.
    apart: BTreeSet<BrokerId>,
}

impl Clocks {
    pub(super) fn new(me: BrokerId) -> Self {
        Self {
            me,
            known: Mutex::default(),
        }
    }

    /// Looks at the clock of a broker that wants to be let in, as it was when it asked. It may be this broker's that is
    /// wrong: with half of all clocks that are known it is right.
    ///
    /// # Errors
    ///
    /// It is further than [`CLOCK_SKEW_LIMIT_MS`] from most.
    pub(super) fn check(
        &self,
        of: BrokerId,
        theirs: TimestampMs,
        ours: TimestampMs,
    ) -> Result<(), WireError> {
        let ahead_ms = ahead_ms(theirs, ours);
        let known = self.known.lock();
        let lately = known
            .ahead_ms
            .iter()
            .filter(|(broker, (_, heard))| **broker != of && heard.elapsed() < CLOCK_KNOWN_FOR);
        let clocks: Vec<i128> = lately
            .map(|(_, (ahead_ms, _))| *ahead_ms)
            .chain([0])
            .collect();
        let agree = clocks.iter().filter(|it| !is_apart(ahead_ms - **it));
        if agree.count() * 2 >= clocks.len() {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "{}: set the one that is wrong, best by NTP, and start broker {of} again",
                self.difference(of, ahead_ms)
            ),
        ))
    }

    /// Takes note of the clock of a broker that takes part: it is said when the two go apart, and when they meet again.
    pub(super) fn note(&self, of: BrokerId, theirs: TimestampMs, ours: TimestampMs) {
        let ahead_ms = ahead_ms(theirs, ours);
        let mut known = self.known.lock();
        known.ahead_ms.insert(of, (ahead_ms, Instant::now()));
        if is_apart(ahead_ms) {
            if known.apart.insert(of) {
                let difference = self.difference(of, ahead_ms);
                tracing::error!("{difference}: set the one that is wrong, best by NTP");
            }
        } else if known.apart.remove(&of) {
            tracing::info!(broker = of, "its clock agrees with this broker's again");
        }
    }

    fn difference(&self, of: BrokerId, ahead_ms: i128) -> String {
        let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
        format!(
            "the clock of broker {of} is {} s {direction} that of broker {}; {} s are allowed",
            ahead_ms.abs() / 1_000,
            self.me,
            CLOCK_SKEW_LIMIT_MS / 1_000
        )
    }
}

fn ahead_ms(theirs: TimestampMs, ours: TimestampMs) -> i128 {
    i128::from(theirs) - i128::from(ours)
}

fn is_apart(ahead_ms: i128) -> bool {
    ahead_ms.unsigned_abs() > u128::from(CLOCK_SKEW_LIMIT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: TimestampMs = 1_700_000_000_000;
    const LIMIT_MS: TimestampMs = CLOCK_SKEW_LIMIT_MS as TimestampMs;

    #[test]
    fn a_clock_that_is_too_far_off_is_refused() {
        let clocks = Clocks::new(1);
        for skew_ms in [0, LIMIT_MS, -LIMIT_MS] {
            assert_eq!(clocks.check(2, NOW_MS + skew_ms, NOW_MS), Ok(()));
        }
        let refusal = |theirs| clocks.check(2, theirs, NOW_MS).unwrap_err().message;
        let ahead = refusal(NOW_MS + 3_600_000);
        assert!(
            ahead.contains("broker 2 is 3600 s ahead of that of broker 1"),
            "{ahead}"
        );
        let behind = refusal(NOW_MS - LIMIT_MS - 1);
        assert!(behind.contains("broker 2 is 30 s behind"), "{behind}");
        for theirs in [TimestampMs::MIN, TimestampMs::MAX] {
            assert!(clocks.check(2, theirs, NOW_MS).is_err());
        }
    }

    #[tokio::test]
    async fn whoever_has_the_wrong_clock_refuses_nobody_that_agrees_with_the_others() {
        let clocks = Clocks::new(1);
        let theirs = NOW_MS - 3_600_000;
        assert!(clocks.check(2, theirs, NOW_MS).is_err());
        clocks.note(2, theirs, NOW_MS);
        assert!(clocks.check(2, theirs, NOW_MS).is_err(), "by its own word");
        clocks.note(3, theirs + 1_000, NOW_MS);
        assert_eq!(clocks.check(2, theirs, NOW_MS), Ok(()));
        // Nobody knows who is right.
        assert_eq!(clocks.check(2, NOW_MS, NOW_MS), Ok(()));
        clocks.note(4, theirs, NOW_MS);
        assert!(clocks.check(2, NOW_MS, NOW_MS).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_heard_for_long_has_no_say() {
        let clocks = Clocks::new(1);
        let theirs = NOW_MS - 3_600_000;
        clocks.note(3, theirs, NOW_MS);
        assert_eq!(clocks.check(2, theirs, NOW_MS), Ok(()));
        tokio::time::advance(CLOCK_KNOWN_FOR).await;
        assert!(clocks.check(2, theirs, NOW_MS).is_err());
    }

    #[tokio::test]
    async fn a_clock_that_goes_wrong_is_named_once() {
        let clocks = Clocks::new(1);
        clocks.note(2, NOW_MS + 2 * LIMIT_MS, NOW_MS);
        clocks.note(2, NOW_MS + 2 * LIMIT_MS, NOW_MS);
        assert_eq!(clocks.known.lock().apart, [2].into());
        clocks.note(2, NOW_MS, NOW_MS);
        assert!(clocks.known.lock().apart.is_empty());
    }
}

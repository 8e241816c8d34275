//! The clocks of the other brokers, against this one's.
//!
//! Nothing that is promised rests on the time of day, but what people see does: how long records are kept, where
//! a point in time is in a log, how long certificates and tickets are valid. So a broker whose clock is wrong is
//! not let in, and one whose clock goes wrong is named.

use std::collections::BTreeSet;

use millstream_protocol::{ErrorCode, TimestampMs, WireError};
use millstream_replication::BrokerId;
use parking_lot::Mutex;

use crate::config::CLOCK_SKEW_LIMIT_MS;

/// What is known of them.
#[derive(Debug)]
pub(super) struct Clocks {
    me: BrokerId,
    /// Those that are too far from this one.
    apart: Mutex<BTreeSet<BrokerId>>,
}

impl Clocks {
    pub(super) fn new(me: BrokerId) -> Self {
        Self {
            me,
            apart: Mutex::default(),
        }
    }

    /// Looks at another broker's clock, as it was when it asked for something. It is behind by what that has taken.
    ///
    /// # Errors
    ///
    /// The two are further apart than [`CLOCK_SKEW_LIMIT_MS`].
    pub(super) fn check(
        &self,
        of: BrokerId,
        theirs: TimestampMs,
        ours: TimestampMs,
    ) -> Result<(), WireError> {
        let skew_ms = theirs.abs_diff(ours);
        if skew_ms <= CLOCK_SKEW_LIMIT_MS {
            return Ok(());
        }
        let direction = if theirs > ours { "ahead of" } else { "behind" };
        Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "the clock of broker {of} is {} s {direction} that of broker {}; {} s are allowed: set the one \
                 that is wrong, best by NTP, and start broker {of} again",
                skew_ms / 1_000,
                self.me,
                CLOCK_SKEW_LIMIT_MS / 1_000
            ),
        ))
    }

    /// The same of a broker that takes part already: it is said when its clock goes wrong, and when it is right
    /// again.
    pub(super) fn note(&self, of: BrokerId, theirs: TimestampMs, ours: TimestampMs) {
        match self.check(of, theirs, ours) {
            Ok(()) if self.apart.lock().remove(&of) => {
                tracing::info!(broker = of, "its clock is right again");
            }
            Ok(()) => {}
            Err(error) if self.apart.lock().insert(of) => {
                tracing::error!(broker = of, "{}", error.message);
            }
            Err(_) => {}
        }
    }
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

    #[test]
    fn a_clock_that_goes_wrong_is_named_once() {
        let clocks = Clocks::new(1);
        clocks.note(2, NOW_MS + 2 * LIMIT_MS, NOW_MS);
        clocks.note(2, NOW_MS + 2 * LIMIT_MS, NOW_MS);
        assert_eq!(*clocks.apart.lock(), [2].into());
        clocks.note(2, NOW_MS, NOW_MS);
        assert!(clocks.apart.lock().is_empty());
    }
}

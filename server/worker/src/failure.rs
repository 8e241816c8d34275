//! How a failure is narrowed down to its record, and what becomes of that.

use std::time::Duration;

use millstream_protocol::TimestampMs;
use millstream_protocol::api::plugin::{FailureAction, FailurePolicy};

/// How many records one call of the guest may have.
///
/// A call that fails says nothing about which of its records it failed at. The next call gets half
/// as many, until one with a single record fails: that is the one. After every success it is twice
/// as many again. So the record is found in as many calls as its batch has binary digits, and the
/// others of its batch are handled on the way.
///
/// A call that takes longer than its deadline fails as well, and then no record is the cause. So a call has no
/// more records than are expected to take a quarter of it, by the calls before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bite {
    records: u32,
    timely: u32,
}

/// Records of a first call, of which it is not known how long they take.
const FIRST_RECORDS: u32 = 1_000;

/// A call is to take so much of its deadline.
const PART_OF_DEADLINE: u32 = 4;

impl Default for Bite {
    fn default() -> Self {
        Self {
            records: u32::MAX,
            timely: FIRST_RECORDS,
        }
    }
}

impl Bite {
    /// Records that the next call may have by the failures before it, at least one.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Records that the next call may have, so that it ends in time as well; at least one.
    pub fn timely_records(&self) -> u32 {
        self.records.min(self.timely)
    }

    /// Whether no call has failed of late.
    pub fn is_whole(&self) -> bool {
        self.records == u32::MAX
    }

    /// Calls with so many records have taken so long, processor time, and one may take `deadline`.
    pub fn took(&mut self, records: u32, time: Duration, deadline: Duration) {
        let part = (deadline / PART_OF_DEADLINE).as_nanos();
        let fitting = u128::from(records) * part / time.as_nanos().max(1);
        self.timely = u32::try_from(fitting).unwrap_or(u32::MAX).max(1);
    }

    /// A call with so many records has failed. True: it was a single one, which is the cause.
    pub fn failed(&mut self, records: u32) -> bool {
        self.records = (records / 2).max(1);
        records <= 1
    }

    /// So many records can be settled together: the next call has no more.
    pub fn limit(&mut self, records: u32) {
        self.records = self.records.min(records.max(1));
    }

    /// A call has succeeded.
    pub fn succeeded(&mut self) {
        self.records = self.records.saturating_mul(2);
    }
}

/// What is to be done with a record that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try it again.
    Retry {
        /// Not before this time.
        due_ms: TimestampMs,
    },
    /// It goes to the dead-letter topic.
    DeadLetter,
    /// It is left out.
    Skip,
    /// The worker stands still in front of it.
    Pause,
}

/// Judges a record after its `attempts`-th failure. `at_least_ms` is what the guest asked to wait.
pub fn verdict(
    policy: &FailurePolicy,
    attempts: u32,
    at_least_ms: u32,
    now_ms: TimestampMs,
) -> Verdict {
    if attempts >= policy.attempts {
        return last_resort(policy);
    }
    let doublings = attempts.saturating_sub(1).min(31);
    let doubled = u64::from(policy.first_back_off_ms) << doublings;
    let wait_ms = doubled
        .min(u64::from(policy.longest_back_off_ms))
        .max(u64::from(at_least_ms));
    Verdict::Retry {
        due_ms: now_ms.saturating_add_unsigned(wait_ms),
    }
}

/// What becomes of a record that will not be tried again.
pub fn last_resort(policy: &FailurePolicy) -> Verdict {
    match policy.finally {
        FailureAction::DeadLetter { .. } => Verdict::DeadLetter,
        FailureAction::Skip => Verdict::Skip,
        FailureAction::Pause => Verdict::Pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_no_more_records_than_take_a_part_of_its_deadline() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut bite = Bite::default();
        assert_eq!(bite.timely_records(), FIRST_RECORDS);
        bite.took(1_000, Duration::from_millis(500), SECOND);
        assert_eq!(bite.timely_records(), 500);
        // A record that takes longer than that has a call of its own.
        bite.took(1, SECOND, SECOND);
        assert_eq!(bite.timely_records(), 1);
        bite.took(1, Duration::ZERO, SECOND);
        assert_eq!(bite.timely_records(), 250_000_000);
        assert!(bite.is_whole(), "none has failed");
        bite.failed(9);
        assert_eq!((bite.records(), bite.timely_records()), (4, 4));
    }

    /// Calls until the bad one of `records` is found, in halves of what is left.
    fn calls_to_find(bad: u32, records: u32) -> u32 {
        let mut bite = Bite::default();
        let (mut done, mut calls) = (0, 0);
        loop {
            let taken = bite.records().min(records - done);
            calls += 1;
            if (done..done + taken).contains(&bad) {
                if bite.failed(taken) {
                    assert_eq!(done, bad);
                    return calls;
                }
            } else {
                done += taken;
                bite.succeeded();
            }
        }
    }

    #[test]
    fn a_bad_record_is_found_in_few_calls() {
        for bad in [0, 1, 5_000, 9_998, 9_999] {
            let calls = calls_to_find(bad, 10_000);
            assert!(calls <= 60, "{calls} calls for record {bad}");
        }
        assert_eq!(calls_to_find(0, 1), 1);
    }

    #[test]
    fn a_bite_grows_back() {
        let mut bite = Bite::default();
        assert!(!bite.failed(1_000));
        assert_eq!(bite.records(), 500);
        assert!(bite.failed(1));
        for _ in 0..40 {
            bite.succeeded();
        }
        assert_eq!(bite, Bite::default());
        bite.limit(0);
        assert_eq!(bite.records(), 1, "there is always a next call");
        bite.succeeded();
        bite.limit(7);
        assert_eq!(bite.records(), 2, "it does not grow by a limit");
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_attempts() {
        let policy = FailurePolicy::default_for("test");
        let wait = |attempts, at_least_ms| verdict(&policy, attempts, at_least_ms, 1_000);
        assert_eq!(wait(1, 0), Verdict::Retry { due_ms: 1_100 });
        assert_eq!(wait(4, 0), Verdict::Retry { due_ms: 1_800 });
        assert_eq!(wait(2, 60_000), Verdict::Retry { due_ms: 61_000 });
        assert_eq!(wait(5, 0), Verdict::DeadLetter);
        let patient = FailurePolicy {
            attempts: u32::MAX,
            ..policy
        };
        assert_eq!(
            verdict(&patient, 90, 0, 1_000),
            Verdict::Retry { due_ms: 11_000 }
        );
    }
}

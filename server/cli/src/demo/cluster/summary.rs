//! What the demo tells at the end.

use std::time::Duration;

use serde::Serialize;

use super::read_back::Verdict;
use crate::output::{Facts, View, count, elapsed};

/// What was done and verified.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Records that were acknowledged: all that were sent.
    pub(super) records: u64,
    /// Those of them that are not there.
    pub(super) lost: u64,
    /// Records that are there once more than they were sent.
    pub(super) duplicated: u64,
    /// From the kill of a leader until a record that was sent after it was acknowledged in each partition
    /// that it led.
    pub(super) fail_over_ms: u64,
    /// From the start of the broker that was killed until it had all that was there when it was started.
    pub(super) catch_up_ms: u64,
}

impl Summary {
    pub(super) fn new(verdict: &Verdict, fail_over: Duration, catch_up: Duration) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            records: verdict.acknowledged,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            fail_over_ms: ms(fail_over),
            catch_up_ms: ms(catch_up),
        }
    }
}

impl View for Summary {
    fn text(&self) -> String {
        let time = |ms| elapsed(Duration::from_millis(ms));
        Facts::default()
            .fact(
                "records",
                format!(
                    "{} acknowledged, {} lost, {} duplicated",
                    count(self.records),
                    count(self.lost),
                    count(self.duplicated)
                ),
            )
            .fact(
                "fail-over",
                format!(
                    "{} from the kill of a leader to the first write acknowledged after it",
                    time(self.fail_over_ms)
                ),
            )
            .fact(
                "catch-up",
                format!(
                    "{} from the killed broker's start until it had all that it had missed",
                    time(self.catch_up_ms)
                ),
            )
            .text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::both_forms;

    #[test]
    fn a_summary_in_both_forms() {
        let verdict = Verdict {
            acknowledged: 6_204,
            ..Verdict::default()
        };
        let ms = Duration::from_millis;
        let summary = Summary::new(&verdict, ms(912), ms(1_260));
        insta::assert_snapshot!(both_forms(&summary));
    }
}

//! What the demo tells at the end.

use std::time::Duration;

use serde::Serialize;

use crate::output::{Facts, View, count, elapsed};

/// What was done and verified.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) records_in: u64,
    pub(super) alerts_out: u64,
    /// Records of the input that the plugin has not read.
    pub(super) lag: u64,
    /// From the first record sent to the last acknowledgement.
    pub(super) produce_ms: u64,
    /// From the first record sent to the last alert received.
    pub(super) end_to_end_ms: u64,
}

impl View for Summary {
    fn text(&self) -> String {
        let time = |ms| elapsed(Duration::from_millis(ms));
        Facts::default()
            .fact(
                "records in",
                format!(
                    "{}, stored in {}",
                    count(self.records_in),
                    time(self.produce_ms)
                ),
            )
            .fact(
                "alerts out",
                format!(
                    "{}, the last {} after the first record",
                    count(self.alerts_out),
                    time(self.end_to_end_ms)
                ),
            )
            .fact("lag", count(self.lag))
            .fact(
                "verified",
                "each strong event once, none else, each keyed by its network",
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
        let summary = Summary {
            records_in: 1_707,
            alerts_out: 85,
            lag: 0,
            produce_ms: 24,
            end_to_end_ms: 61,
        };
        insta::assert_snapshot!(both_forms(&summary), @r#"
        records in: 1,707, stored in 24 ms
        alerts out: 85, the last 61 ms after the first record
        lag:        0
        verified:   each strong event once, none else, each keyed by its network
        ---
        {
          "records_in": 1707,
          "alerts_out": 85,
          "lag": 0,
          "produce_ms": 24,
          "end_to_end_ms": 61
        }
        "#);
    }
}

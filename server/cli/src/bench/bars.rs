//! The project's own bars: what `--check` holds a run against.

use std::fmt;

use super::report::{Row, figure};

/// What a row must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// The ratio to the ceiling is this or more (a throughput).
    RatioAtLeast(f64),
    /// The ratio to the ceiling is this or less (a latency).
    RatioAtMost(f64),
    /// The median is this or more, in the row's unit.
    AtLeast(f64),
    /// The median is below this, in the row's unit.
    Below(f64),
    /// The greatest of all is below this, in the row's unit.
    AllBelow(f64),
}

/// Every bar, by the row's name.
const BARS: [(&str, Bar); 37] = [
    ("produce/relaxed/1KiB/1p", Bar::RatioAtLeast(0.5)),
    ("produce/sync/1KiB/1p", Bar::RatioAtLeast(0.7)),
    ("consume/1KiB/1p", Bar::RatioAtLeast(0.6)),
    ("produce/relaxed/100B/1p/records", Bar::AtLeast(4e6)),
    ("consume/100B/1p/records", Bar::AtLeast(5e6)),
    ("latency/ack/relaxed/p50", Bar::RatioAtMost(3.0)),
    ("latency/end-to-end/relaxed/p99", Bar::Below(2_000.0)),
    ("worker/quake-alert", Bar::AtLeast(1e6)),
    ("worker/drop", Bar::AtLeast(5e6)),
    ("worker/json", Bar::RatioAtLeast(0.5)),
    ("worker/exactly-once/json", Bar::RatioAtLeast(0.75)),
    ("worker/exactly-once/copy", Bar::RatioAtLeast(0.5)),
    ("worker/deterministic/copy", Bar::RatioAtLeast(0.7)),
    ("worker/restart/1GiB", Bar::Below(10_000.0)),
    ("worker/state/get", Bar::AtLeast(3e5)),
    ("worker/state/put", Bar::AtLeast(3e5)),
    ("worker/latency/p50", Bar::Below(1_000.0)),
    ("worker/latency/p99", Bar::Below(5_000.0)),
    ("beside-endless/ack/p99", Bar::RatioAtMost(1.5)),
    ("beside-endless/worker/p99", Bar::RatioAtMost(1.5)),
    ("worker/memory/1000", Bar::Below(100.0)),
    ("worker/redeploy", Bar::Below(50.0)),
    ("cluster/produce/relaxed", Bar::RatioAtLeast(0.25)),
    ("cluster/produce/sync", Bar::RatioAtLeast(0.25)),
    ("cluster/ack/relaxed/p50", Bar::RatioAtMost(2.5)),
    ("cluster/ack/sync/p50", Bar::RatioAtMost(2.5)),
    ("cluster/stalled/ack/p99", Bar::RatioAtMost(1.2)),
    ("cluster/catch-up/relaxed", Bar::RatioAtLeast(0.5)),
    ("cluster/catch-up/sync", Bar::RatioAtLeast(0.5)),
    ("cluster/idle/cpu", Bar::Below(10.0)),
    ("cluster/idle/memory", Bar::Below(250.0)),
    ("cluster/elections/1000", Bar::AllBelow(3_000.0)),
    ("cluster/fail-over", Bar::AllBelow(2_000.0)),
    ("cluster/fail-over/with-metadata", Bar::AllBelow(3_000.0)),
    ("broker/memory/idle", Bar::Below(40.0)),
    ("broker/start/empty", Bar::Below(300.0)),
    ("broker/start/10GiB", Bar::Below(2_000.0)),
];

impl Bar {
    /// The bar of this row, if it has one.
    pub(super) fn of(name: &str) -> Option<Self> {
        BARS.iter()
            .find(|(row, _)| *row == name)
            .map(|(_, bar)| *bar)
    }

    /// Whether the row reaches it.
    pub(super) fn is_met(self, row: &Row) -> bool {
        match self {
            Self::RatioAtLeast(bar) => row.ratio.is_some_and(|ratio| ratio >= bar),
            Self::RatioAtMost(bar) => row.ratio.is_some_and(|ratio| ratio <= bar),
            Self::AtLeast(bar) => row.median >= bar,
            Self::Below(bar) => row.median < bar,
            Self::AllBelow(bar) => row.max < bar,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bar) => write!(f, "ratio ≥ {bar}"),
            Self::RatioAtMost(bar) => write!(f, "ratio ≤ {bar}"),
            Self::AtLeast(bar) => write!(f, "≥ {}", figure(*bar)),
            Self::Below(bar) => write!(f, "< {}", figure(*bar)),
            Self::AllBelow(bar) => write!(f, "all < {}", figure(*bar)),
        }
    }
}

/// Holds the rows against their bars.
///
/// # Errors
///
/// Every bar that was missed, by name, or that there was none to hold a row against.
pub(super) fn check(rows: &[Row]) -> anyhow::Result<()> {
    let held: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, Bar::of(&row.name)?)))
        .collect();
    anyhow::ensure!(
        !held.is_empty(),
        "no row with a bar was measured, so nothing was checked"
    );
    let missed: Vec<_> = held
        .iter()
        .filter(|(row, bar)| !bar.is_met(row))
        .map(|(row, bar)| describe(row, *bar))
        .collect();
    anyhow::ensure!(
        missed.is_empty(),
        "{} of {} bars missed: {}",
        missed.len(),
        held.len(),
        missed.join("; ")
    );
    Ok(())
}

fn describe(row: &Row, bar: Bar) -> String {
    let found = match (bar, row.ratio) {
        (Bar::AtLeast(_) | Bar::Below(_), _) => format!("{} {}", figure(row.median), row.unit),
        (Bar::AllBelow(_), _) => format!("up to {} {}", figure(row.max), row.unit),
        (_, Some(ratio)) => format!("{ratio:.2}"),
        (_, None) => "no ratio".to_owned(),
    };
    format!("{} is {found}, the bar is {bar}", row.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalogue::{Extent, Unit, cluster_rows, rows, worker_rows};
    use crate::bench::stats::Summary;

    fn row(name: &str, median: f64, ceiling: Option<f64>) -> Row {
        let summary = Summary {
            median,
            min: median,
            max: median,
        };
        Row::new(name.to_owned(), Unit::MegabytesPerSecond, summary, ceiling)
    }

    #[test]
    fn every_bar_belongs_to_a_row() {
        let names: Vec<_> = rows(Extent::Full, Some(10))
            .into_iter()
            .chain(worker_rows(Extent::Full))
            .chain(cluster_rows())
            .map(|row| row.name)
            .collect();
        for (name, _) in BARS {
            assert!(names.iter().any(|row| row == name), "{name}");
        }
    }

    #[test]
    fn bars_are_met_or_missed() {
        let met = |bar: Bar, median, ceiling| bar.is_met(&row("row", median, ceiling));
        assert!(
            met(Bar::RatioAtLeast(0.5), 50.0, Some(100.0))
                && !met(Bar::RatioAtLeast(0.5), 49.0, Some(100.0))
        );
        assert!(
            met(Bar::RatioAtMost(3.0), 3.0, Some(1.0))
                && !met(Bar::RatioAtMost(3.0), 3.1, Some(1.0))
        );
        assert!(met(Bar::AtLeast(4.0), 4.0, None) && !met(Bar::AtLeast(4.0), 3.9, None));
        assert!(met(Bar::Below(2.0), 1.9, None) && !met(Bar::Below(2.0), 2.0, None));
        let spread = Summary {
            median: 1.0,
            min: 0.5,
            max: 2.5,
        };
        let spread = Row::new("row".to_owned(), Unit::Milliseconds, spread, None);
        assert!(Bar::AllBelow(2.6).is_met(&spread) && !Bar::AllBelow(2.5).is_met(&spread));
        assert!(
            !met(Bar::RatioAtLeast(0.5), 50.0, None),
            "no ceiling is no pass"
        );
    }

    #[test]
    fn missed_bars_are_named_and_nothing_checked_is_a_failure() {
        let good = row("produce/relaxed/1KiB/1p", 80.0, Some(100.0));
        let bad = row("consume/1KiB/1p", 10.0, Some(100.0));
        assert!(check(std::slice::from_ref(&good)).is_ok());
        let error = check(&[good, bad]).unwrap_err().to_string();
        assert_eq!(
            error,
            "1 of 2 bars missed: consume/1KiB/1p is 0.10, the bar is ratio ≥ 0.6"
        );
        assert!(check(&[row("quic/up", 1.0, None)]).is_err());
    }
}

//! What was measured, repetition by repetition.

use std::collections::BTreeMap;

use super::catalogue::{Plan, in_records};
use super::report::Row;
use super::stats::{LatencyFigures, Percentile, Summary};
use super::{catalogue, progress::Progress};

/// Whether a repetition counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The first: caches fill, paths are found, it is not recorded.
    Discarded,
    /// Any other.
    Counted,
}

impl Repetition {
    /// The discarded one and then `counted` others.
    pub(super) fn series(counted: u32) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Discarded).chain((0..counted).map(|_| Self::Counted))
    }
}

/// The samples of all rows.
#[derive(Debug, Default)]
pub(super) struct Results {
    series: BTreeMap<String, Series>,
}

#[derive(Debug, Default)]
struct Series {
    samples: Vec<f64>,
    /// What the ceiling was when each sample was taken.
    ceilings: Vec<f64>,
}

impl Results {
    /// Keeps a sample, and the ceiling measured in the same repetition.
    pub(super) fn record(
        &mut self,
        repetition: Repetition,
        name: &str,
        sample: f64,
        ceiling: Option<f64>,
    ) {
        if repetition == Repetition::Discarded {
            return;
        }
        let series = self.series.entry(name.to_owned()).or_default();
        series.samples.push(sample);
        series.ceilings.extend(ceiling);
    }

    /// Keeps a throughput in MB/s, and the same in records a second.
    pub(super) fn record_rate(
        &mut self,
        repetition: Repetition,
        name: &str,
        record_bytes: usize,
        sample: f64,
        ceiling: f64,
    ) {
        let records = |megabytes: f64| megabytes * 1e6 / record_bytes as f64;
        self.record(repetition, name, sample, Some(ceiling));
        self.record(
            repetition,
            &in_records(name),
            records(sample),
            Some(records(ceiling)),
        );
    }

    /// Keeps every percentile of a run.
    pub(super) fn record_latency(
        &mut self,
        repetition: Repetition,
        name: &str,
        sample: &LatencyFigures,
        ceiling: Option<&LatencyFigures>,
    ) {
        for percentile in Percentile::ALL {
            let name = catalogue::at(name, percentile);
            self.record(
                repetition,
                &name,
                sample.at(percentile),
                ceiling.map(|ceiling| ceiling.at(percentile)),
            );
        }
    }

    /// Whether anything was recorded under this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.series.contains_key(name)
    }

    /// The rows of the plan that were measured, in its order.
    pub(super) fn rows(&self, plan: &Plan) -> Vec<Row> {
        let row = |spec: &catalogue::RowSpec| {
            let series = self.series.get(&spec.name)?;
            let summary = Summary::of(&series.samples)?;
            let ceiling = Summary::of(&series.ceilings).map(|ceilings| ceilings.median);
            Some(Row::new(spec.name.clone(), spec.unit, summary, ceiling))
        };
        plan.rows().iter().filter_map(row).collect()
    }

    /// Tells the rows of the plan that have been completed since the last time.
    pub(super) fn tell(&self, plan: &Plan, progress: &mut Progress) {
        for row in self.rows(plan) {
            progress.row(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalogue::{Extent, rows};

    #[test]
    fn a_series_is_the_discarded_one_and_the_counted() {
        use Repetition::{Counted, Discarded};
        assert_eq!(
            Repetition::series(2).collect::<Vec<_>>(),
            [Discarded, Counted, Counted]
        );
    }

    #[test]
    fn the_discarded_repetition_leaves_no_trace_and_ratios_are_of_medians() {
        let plan = Plan::select(rows(Extent::Quick, None), &[]).unwrap();
        let mut results = Results::default();
        results.record_rate(Repetition::Discarded, "consume/1KiB/1p", 1024, 1.0, 1.0);
        assert!(!results.has("consume/1KiB/1p") && results.rows(&plan).is_empty());
        for (sample, ceiling) in [(50.0, 100.0), (60.0, 200.0), (70.0, 120.0)] {
            results.record_rate(
                Repetition::Counted,
                "consume/1KiB/1p",
                1024,
                sample,
                ceiling,
            );
        }
        let rows = results.rows(&plan);
        let [megabytes, records] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!(
            (megabytes.median, megabytes.min, megabytes.max),
            (60.0, 50.0, 70.0)
        );
        assert_eq!(
            (megabytes.ceiling, megabytes.ratio),
            (Some(120.0), Some(0.5))
        );
        assert_eq!(
            (records.median, records.ratio),
            (60.0 * 1e6 / 1024.0, Some(0.5))
        );
    }

    #[test]
    fn a_row_without_ceiling_has_no_ratio() {
        let plan = Plan::select(rows(Extent::Quick, None), &[]).unwrap();
        let mut results = Results::default();
        results.record(Repetition::Counted, catalogue::IDLE_MEMORY, 12.5, None);
        let row = results.rows(&plan).remove(0);
        assert_eq!((row.median, row.ceiling, row.ratio), (12.5, None, None));
    }
}

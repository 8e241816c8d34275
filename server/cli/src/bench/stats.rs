//! The figures of a series: its middle and its extremes, and the percentiles of latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies above this are counted as this, nanoseconds.
const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// Significant digits that a latency keeps.
const LATENCY_DIGITS: u8 = 3;

/// A series in three figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// The middle value; of an even number, the mean of the two in the middle.
    pub(super) median: f64,
    /// The least value.
    pub(super) min: f64,
    /// The greatest value.
    pub(super) max: f64,
}

impl Summary {
    /// Of these samples; `None` if there are none.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// Which share of a run's latencies a figure bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Percentile {
    /// Half of them.
    P50,
    /// All but one in a hundred.
    P99,
    /// All but one in a thousand.
    P999,
}

impl Percentile {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::P50, Self::P99, Self::P999];

    /// As it ends a row's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        }
    }
}

/// The latencies of one run, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LatencyFigures {
    /// How many were measured.
    pub(super) count: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl LatencyFigures {
    /// One of them, microseconds.
    pub(super) fn at(&self, percentile: Percentile) -> f64 {
        match percentile {
            Percentile::P50 => self.p50_us,
            Percentile::P99 => self.p99_us,
            Percentile::P999 => self.p999_us,
        }
    }
}

/// Collects the latencies of one run.
pub(super) struct LatencyRecorder(Histogram<u64>);

impl LatencyRecorder {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(
            1,
            MAX_LATENCY_NS,
            LATENCY_DIGITS,
        )?))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos.max(1));
    }

    pub(super) fn figures(&self) -> LatencyFigures {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        LatencyFigures {
            count: self.0.len(),
            p50_us: at(0.50),
            p99_us: at(0.99),
            p999_us: at(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_series() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(
            Summary::of(&[4.0]),
            Some(Summary {
                median: 4.0,
                min: 4.0,
                max: 4.0
            })
        );
        assert_eq!(
            Summary::of(&[9.0, 1.0, 4.0]),
            Some(Summary {
                median: 4.0,
                min: 1.0,
                max: 9.0
            })
        );
        assert_eq!(
            Summary::of(&[9.0, 1.0, 4.0, 6.0]),
            Some(Summary {
                median: 5.0,
                min: 1.0,
                max: 9.0
            })
        );
    }

    #[test]
    fn percentiles_of_a_known_run() {
        let mut recorder = LatencyRecorder::new().unwrap();
        for micros in 1..=1_000 {
            recorder.record(Duration::from_micros(micros));
        }
        let figures = recorder.figures();
        assert_eq!(figures.count, 1_000);
        for (percentile, expected) in Percentile::ALL.into_iter().zip([500.0, 990.0, 999.0]) {
            let found = figures.at(percentile);
            assert!(
                (found - expected).abs() <= expected / 500.0,
                "{}: {found}",
                percentile.name()
            );
        }
    }

    #[test]
    fn a_latency_beyond_the_histogram_is_kept_as_its_end() {
        let mut recorder = LatencyRecorder::new().unwrap();
        recorder.record(Duration::from_secs(3_600));
        assert!(recorder.figures().at(Percentile::P50) >= 59_000_000.0);
    }
}

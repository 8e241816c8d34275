//! What a run prints: a table for people, or one JSON object.

use serde::Serialize;

use super::bars::Bar;
use super::catalogue::Unit;
use super::machine::Machine;
use super::stats::Summary;
use crate::output::{Table, View};

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// Its stable name.
    pub(super) name: String,
    /// What the figures count.
    pub(super) unit: Unit,
    /// The middle of the counted repetitions.
    pub(super) median: f64,
    /// The least of them.
    pub(super) min: f64,
    /// The greatest of them.
    pub(super) max: f64,
    /// What the machine could do at most, as measured between the same repetitions.
    pub(super) ceiling: Option<f64>,
    /// The median over the ceiling.
    pub(super) ratio: Option<f64>,
}

impl Row {
    pub(super) fn new(name: String, unit: Unit, summary: Summary, ceiling: Option<f64>) -> Self {
        let Summary { median, min, max } = summary;
        let ratio = ceiling
            .filter(|ceiling| *ceiling > 0.0)
            .map(|ceiling| median / ceiling);
        Self {
            name,
            unit,
            median,
            min,
            max,
            ceiling,
            ratio,
        }
    }

    /// The row in one line, as it is told while the run goes on.
    pub(super) fn line(&self) -> String {
        let ratio = self
            .ratio
            .map(|ratio| format!(", {ratio:.2} of the ceiling"))
            .unwrap_or_default();
        format!(
            "{}: {} {}{ratio}",
            self.name,
            figure(self.median),
            self.unit
        )
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where it ran.
    pub(super) machine: Machine,
    /// What was measured.
    pub(super) rows: Vec<Row>,
}

impl View for Report {
    fn text(&self) -> String {
        let columns = &[
            "ROW", "#MEDIAN", "#MIN", "#MAX", "UNIT", "#CEILING", "#RATIO", "BAR",
        ];
        let mut table = Table::new(columns, "nothing was measured");
        for row in &self.rows {
            table.row(cells(row));
        }
        format!("{}\n\n{}", self.machine, table.text())
    }
}

fn cells(row: &Row) -> [String; 8] {
    let verdict = |bar: Bar| format!("{bar} {}", if bar.is_met(row) { "met" } else { "MISSED" });
    [
        row.name.clone(),
        figure(row.median),
        figure(row.min),
        figure(row.max),
        row.unit.to_string(),
        row.ceiling.map(figure).unwrap_or_default(),
        row.ratio
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default(),
        Bar::of(&row.name).map(verdict).unwrap_or_default(),
    ]
}

/// Three or so digits, and thousands apart.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::with_capacity(text.len() + 4);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::both_forms;

    fn report() -> Report {
        let summary = |median: f64| Summary {
            median,
            min: median * 0.9,
            max: median * 1.1,
        };
        let row = |name: &str, unit, median, ceiling| {
            Row::new(name.to_owned(), unit, summary(median), ceiling)
        };
        Report {
            machine: Machine::example(),
            rows: vec![
                row("quic/up", Unit::MegabytesPerSecond, 1_250.0, None),
                row(
                    "produce/relaxed/1KiB/1p",
                    Unit::MegabytesPerSecond,
                    500.0,
                    Some(1_250.0),
                ),
                row(
                    "produce/relaxed/100B/1p/records",
                    Unit::RecordsPerSecond,
                    4_250_000.0,
                    Some(12_500_000.0),
                ),
                row(
                    "latency/ack/relaxed/p50",
                    Unit::Microseconds,
                    150.0,
                    Some(75.0),
                ),
            ],
        }
    }

    #[test]
    fn a_report_reads_well_and_its_json_has_a_stable_shape() {
        insta::assert_snapshot!(both_forms(&report()));
    }

    #[test]
    fn figures_are_grouped() {
        let figures = [
            0.0,
            0.127,
            9.996,
            12.34,
            99.96,
            100.4,
            1_234.0,
            12_345_678.0,
            -1_234.0,
        ]
        .map(figure);
        assert_eq!(
            figures,
            [
                "0.00",
                "0.13",
                "10.00",
                "12.3",
                "100.0",
                "100",
                "1,234",
                "12,345,678",
                "-1,234"
            ]
        );
    }
}

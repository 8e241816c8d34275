//! `millstream plugin metrics`: what workers have measured, the host around each call and the
//! plugin within.

use std::collections::BTreeMap;

use millstream::{MetricValue, PluginMetrics, WorkerMetrics};
use serde::Serialize;

use super::view::LatencyView;
use crate::output::{Table, View, count, counted, plain};

/// What a deployment's workers have measured since they started.
#[derive(Debug, Serialize)]
pub(super) struct MetricsView {
    workers: Vec<WorkerView>,
    /// Over all workers.
    total: TotalView,
}

#[derive(Debug, Serialize)]
struct WorkerView {
    topic: String,
    partition: u32,
    #[serde(flatten)]
    host: HostView,
    /// The plugin's own.
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    /// Measurements of the plugin that broke a rule.
    dropped: u64,
}

#[derive(Debug, Default, Serialize)]
struct HostView {
    calls: u64,
    failures: u64,
    call_latency: Option<LatencyView>,
    records_in: u64,
    records_out: u64,
}

#[derive(Debug, Default, Serialize)]
struct TotalView {
    #[serde(flatten)]
    host: HostView,
    /// Each counter's sum.
    counters: BTreeMap<String, u64>,
    /// Each gauge's least and greatest value.
    gauges: BTreeMap<String, RangeView>,
    dropped: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct RangeView {
    min: f64,
    max: f64,
}

impl MetricsView {
    pub(super) fn of(metrics: &PluginMetrics) -> Self {
        let workers: Vec<_> = metrics.workers.iter().map(WorkerView::of).collect();
        let mut total = TotalView::default();
        total.host.call_latency = metrics.latency.as_ref().map(LatencyView::of);
        for worker in &workers {
            total.add(worker);
        }
        Self { workers, total }
    }
}

impl WorkerView {
    fn of(worker: &WorkerMetrics) -> Self {
        let mut view = Self {
            topic: worker.topic.clone(),
            partition: worker.partition,
            host: HostView {
                calls: worker.calls,
                failures: worker.failures,
                call_latency: worker.latency.as_ref().map(LatencyView::of),
                records_in: worker.records_in,
                records_out: worker.records_out,
            },
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            dropped: worker.dropped,
        };
        for metric in &worker.guest {
            let name = metric.name.clone();
            match metric.value {
                MetricValue::Counter(counter) => _ = view.counters.insert(name, counter),
                MetricValue::Gauge(gauge) => _ = view.gauges.insert(name, gauge),
            }
        }
        view
    }

    fn place(&self) -> String {
        format!("{}-{}", plain(&self.topic), self.partition)
    }
}

impl TotalView {
    fn add(&mut self, worker: &WorkerView) {
        self.host.calls += worker.host.calls;
        self.host.failures += worker.host.failures;
        self.host.records_in += worker.host.records_in;
        self.host.records_out += worker.host.records_out;
        self.dropped += worker.dropped;
        for (name, counter) in &worker.counters {
            let sum = self.counters.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*counter);
        }
        for (name, &gauge) in &worker.gauges {
            let (min, max) = (gauge, gauge);
            let range = self.gauges.entry(name.clone());
            let range = range.or_insert(RangeView { min, max });
            *range = RangeView {
                min: range.min.min(gauge),
                max: range.max.max(gauge),
            };
        }
    }
}

impl View for MetricsView {
    fn text(&self) -> String {
        format!("{}\n{}", self.host_table(), self.guest_table())
    }
}

impl MetricsView {
    fn host_table(&self) -> String {
        const COLUMNS: &[&str] = &[
            "WORKER",
            "#CALLS",
            "#FAILURES",
            "#P50",
            "#P99",
            "#IN",
            "#OUT",
        ];
        let mut table = Table::new(COLUMNS, "no workers");
        let mut row = |place: String, host: &HostView| {
            let [p50, p99] = LatencyView::text(host.call_latency);
            table.row([
                place,
                count(host.calls),
                count(host.failures),
                p50,
                p99,
                count(host.records_in),
                count(host.records_out),
            ]);
        };
        for worker in &self.workers {
            row(worker.place(), &worker.host);
        }
        if self.workers.len() > 1 {
            row("all".to_owned(), &self.total.host);
        }
        table.text()
    }

    fn guest_table(&self) -> String {
        let nothing = "the plugin has measured nothing";
        let mut table = Table::new(&["METRIC", "WORKER", "#VALUE"], nothing);
        let several = self.workers.len() > 1;
        for (name, sum) in &self.total.counters {
            let of = |worker: &WorkerView| worker.counters.get(name).copied();
            for (worker, counter) in self.measured(of) {
                table.row([name.clone(), worker.place(), count(counter)]);
            }
            if several {
                table.row([name.clone(), "sum".to_owned(), count(*sum)]);
            }
        }
        for (name, range) in &self.total.gauges {
            let of = |worker: &WorkerView| worker.gauges.get(name).copied();
            for (worker, gauge) in self.measured(of) {
                table.row([name.clone(), worker.place(), gauge.to_string()]);
            }
            if several {
                let range = format!("{} to {}", range.min, range.max);
                table.row([name.clone(), "range".to_owned(), range]);
            }
        }
        let mut text = table.text();
        if self.total.dropped > 0 {
            let dropped = counted(self.total.dropped, "measurement");
            text += &format!("{dropped} dropped; `millstream plugin logs` tells of the first\n");
        }
        text
    }

    /// The workers that have measured something, with what.
    fn measured<T>(
        &self,
        of: impl Fn(&WorkerView) -> Option<T>,
    ) -> impl Iterator<Item = (&WorkerView, T)> {
        self.workers
            .iter()
            .filter_map(move |worker| Some((worker, of(worker)?)))
    }
}

#[cfg(test)]
mod tests {
    use millstream::{CallLatency, GuestMetric};

    use super::*;
    use crate::output::both_forms;

    #[test]
    fn metrics_by_worker_and_together() {
        let latency = |p50_us, p99_us| Some(CallLatency { p50_us, p99_us });
        let guest = |name: &str, value| GuestMetric {
            name: name.to_owned(),
            value,
        };
        let worker = |partition, guest| WorkerMetrics {
            topic: "earthquakes".to_owned(),
            partition,
            calls: 1_200,
            failures: 1,
            latency: latency(180, 2_250),
            records_in: 427,
            records_out: 21,
            guest,
            dropped: 2,
        };
        let first = vec![
            guest("alerts", MetricValue::Counter(21)),
            guest("depth_km", MetricValue::Gauge(10.5)),
        ];
        let second = vec![
            guest("alerts", MetricValue::Counter(3)),
            guest("depth_km", MetricValue::Gauge(-1.0)),
        ];
        let metrics = PluginMetrics {
            workers: vec![worker(0, first), worker(1, second)],
            latency: latency(180, 2_500),
        };
        insta::assert_snapshot!(both_forms(&MetricsView::of(&metrics)), @r#"
        WORKER         CALLS  FAILURES     P50     P99   IN  OUT
        earthquakes-0  1,200         1  180 µs  2.2 ms  427   21
        earthquakes-1  1,200         1  180 µs  2.2 ms  427   21
        all            2,400         2  180 µs  2.5 ms  854   42

        METRIC    WORKER              VALUE
        alerts    earthquakes-0          21
        alerts    earthquakes-1           3
        alerts    sum                    24
        depth_km  earthquakes-0        10.5
        depth_km  earthquakes-1          -1
        depth_km  range          -1 to 10.5
        4 measurements dropped; `millstream plugin logs` tells of the first
        ---
        {
          "workers": [
            {
              "topic": "earthquakes",
              "partition": 0,
              "calls": 1200,
              "failures": 1,
              "call_latency": {
                "p50_us": 180,
                "p99_us": 2250
              },
              "records_in": 427,
              "records_out": 21,
              "counters": {
                "alerts": 21
              },
              "gauges": {
                "depth_km": 10.5
              },
              "dropped": 2
            },
            {
              "topic": "earthquakes",
              "partition": 1,
              "calls": 1200,
              "failures": 1,
              "call_latency": {
                "p50_us": 180,
                "p99_us": 2250
              },
              "records_in": 427,
              "records_out": 21,
              "counters": {
                "alerts": 3
              },
              "gauges": {
                "depth_km": -1.0
              },
              "dropped": 2
            }
          ],
          "total": {
            "calls": 2400,
            "failures": 2,
            "call_latency": {
              "p50_us": 180,
              "p99_us": 2500
            },
            "records_in": 854,
            "records_out": 42,
            "counters": {
              "alerts": 24
            },
            "gauges": {
              "depth_km": {
                "min": -1.0,
                "max": 10.5
              }
            },
            "dropped": 4
          }
        }
        "#);
    }

    #[test]
    fn nothing_measured_is_said() {
        let metrics = PluginMetrics {
            workers: Vec::new(),
            latency: None,
        };
        insta::assert_snapshot!(MetricsView::of(&metrics).text(), @r"
        no workers

        the plugin has measured nothing
        ");
    }
}

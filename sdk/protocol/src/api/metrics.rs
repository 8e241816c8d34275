//! What workers measure: the host around each call, and the guest within.

use serde::{Deserialize, Serialize};

use crate::ids::PartitionIndex;

/// Asks what the workers of a deployment have measured since they started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribePluginMetrics {
    /// Which deployment.
    pub name: String,
    /// Workers behind this one, by input topic and partition: the listing goes on there.
    pub after: Option<(String, PartitionIndex)>,
}

/// The answer to [`DescribePluginMetrics`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribePluginMetricsResponse {
    /// The workers, by input topic and partition; at most
    /// [`WORKERS_PER_LISTING`](crate::limits::WORKERS_PER_LISTING).
    pub workers: Vec<WorkerMetrics>,
    /// There are more: ask on from the last one.
    pub more: bool,
    /// Of all workers together, those in other parts of the listing included.
    pub latency: Option<CallLatency>,
}

/// What one worker has measured since it started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerMetrics {
    /// The input topic.
    pub topic: String,
    /// The input partition.
    pub partition: PartitionIndex,
    /// Calls of the guest's handler.
    pub calls: u64,
    /// Of them, those that failed.
    pub failures: u64,
    /// How long they took; none before the first.
    pub latency: Option<CallLatency>,
    /// Records read.
    pub records_in: u64,
    /// Records emitted.
    pub records_out: u64,
    /// What the guest counts and gauges, by name, across its instances.
    pub guest: Vec<GuestMetric>,
    /// Measurements of the guest that were dropped because they broke a rule.
    pub dropped: u64,
}

/// How long calls of a guest's handler took, microseconds: at most an eighth too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLatency {
    /// Half of them took no longer.
    pub p50_us: u64,
    /// All but one in a hundred took no longer.
    pub p99_us: u64,
}

/// A measurement by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestMetric {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: MetricValue,
}

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetricValue {
    /// It only rises.
    Counter(u64),
    /// The value last set.
    Gauge(f64),
}

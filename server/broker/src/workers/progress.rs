//! What is told of a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::api::metrics::{GuestMetric, MetricValue, WorkerMetrics};
use millstream_protocol::api::plugin::{WorkerDescription, WorkerState};
use millstream_protocol::{Offset, ProducerId, TimestampMs};
use millstream_runtime::{GuestMetrics, Metric};
use parking_lot::Mutex;

use crate::partition::Partition;
use crate::workers::latency::{Latencies, Rate};

/// What a worker has come to since it started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) state: Option<WorkerState>,
    pub(crate) next_offset: Offset,
    /// Where it stops, if it does.
    pub(crate) until: Option<Offset>,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) failures: u64,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    pub(crate) parked: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) timers: u64,
    /// Whether one of them is due, or outputs are there before their commit.
    pub(crate) unsettled: bool,
    pub(crate) latencies: Latencies,
    pub(crate) rate: Rate,
    pub(crate) started_at_ms: TimestampMs,
    /// The one of its journal, once that is open.
    pub(crate) producer_id: Option<ProducerId>,
}

impl Progress {
    fn state(&self) -> WorkerState {
        let is_at_its_end = self.until.is_some_and(|until| self.next_offset >= until);
        match &self.state {
            Some(state) => state.clone(),
            None if is_at_its_end && self.is_settled() => WorkerState::Finished,
            None => WorkerState::Running,
        }
    }

    /// Whether nothing waits to be tried again, nor a timer that is due.
    fn is_settled(&self) -> bool {
        self.parked == 0 && !self.unsettled
    }
}

/// A worker's progress, shared with whoever asks for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedProgress {
    progress: Arc<Mutex<Progress>>,
    guest: Arc<GuestMetrics>,
}

impl SharedProgress {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
    }

    /// Where the guest measures.
    pub(crate) fn guest(&self) -> &Arc<GuestMetrics> {
        &self.guest
    }

    /// A call of the guest is over, however it ended.
    pub(crate) fn called(&self, took: Duration) {
        self.change(|progress| progress.latencies.add(took));
    }

    /// Whether the guest has been called: what it asks for as it begins, it has asked for.
    pub(crate) fn was_called(&self) -> bool {
        self.progress.lock().latencies.calls() > 0
    }

    /// Adds how long its calls took to those of others.
    pub(crate) fn merge_latencies(&self, into: &mut Latencies) {
        into.merge(&self.progress.lock().latencies);
    }

    pub(crate) fn describe(&self, input: &Partition, broker_id: u32) -> WorkerDescription {
        let progress = self.progress.lock().clone();
        let visible = input.visible();
        WorkerDescription {
            topic: input.topic().to_string(),
            partition: input.id().partition,
            state: progress.state(),
            committed_offset: progress.next_offset,
            lag: visible
                .high_watermark
                .min(progress.until.unwrap_or(Offset::MAX))
                .saturating_sub(progress.next_offset.max(visible.log_start_offset)),
            records_in: progress.records_in,
            records_out: progress.records_out,
            failures: progress.failures,
            dead_letters: progress.dead_letters,
            skipped: progress.skipped,
            parked: progress.parked,
            memory_bytes: progress.memory_bytes,
            timers: progress.timers,
            broker_id,
            records_per_second: progress.rate.per_second(Instant::now()),
            calls: progress.latencies.calls(),
            latency: progress.latencies.figures(),
            retries: progress.retries,
            started_at_ms: progress.started_at_ms,
            producer_id: progress.producer_id,
        }
    }

    /// How far the worker is, and whether nothing of what lies before waits to be tried again, nor a
    /// timer that is due.
    pub(crate) fn position(&self, input: &Partition) -> (Offset, bool) {
        let progress = self.progress.lock();
        let start = input.visible().log_start_offset;
        (progress.next_offset.max(start), progress.is_settled())
    }

    pub(crate) fn metrics(&self, input: &Partition) -> WorkerMetrics {
        let guest = |(name, metric)| GuestMetric {
            name,
            value: match metric {
                Metric::Counter(count) => MetricValue::Counter(count),
                Metric::Gauge(value) => MetricValue::Gauge(value),
            },
        };
        let progress = self.progress.lock();
        WorkerMetrics {
            topic: input.topic().to_string(),
            partition: input.id().partition,
            calls: progress.latencies.calls(),
            failures: progress.failures,
            latency: progress.latencies.figures(),
            records_in: progress.records_in,
            records_out: progress.records_out,
            guest: self.guest.list().into_iter().map(guest).collect(),
            dropped: self.guest.dropped(),
        }
    }
}

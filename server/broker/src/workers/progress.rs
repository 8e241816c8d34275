//! What is told of a worker.

use std::sync::Arc;

use millstream_protocol::Offset;
use millstream_protocol::api::plugin::{WorkerDescription, WorkerState};
use parking_lot::Mutex;

use crate::partition::Partition;

/// What a worker has come to since it started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) state: Option<WorkerState>,
    pub(crate) next_offset: Offset,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) failures: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    pub(crate) parked: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) timers: u64,
}

/// A worker's progress, shared with whoever asks for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedProgress(Arc<Mutex<Progress>>);

impl SharedProgress {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock());
    }

    pub(crate) fn describe(&self, input: &Partition) -> WorkerDescription {
        let progress = self.0.lock().clone();
        let visible = input.visible();
        WorkerDescription {
            topic: input.topic().to_string(),
            partition: input.id().partition,
            state: progress.state.unwrap_or(WorkerState::Running),
            committed_offset: progress.next_offset,
            lag: visible
                .high_watermark
                .saturating_sub(progress.next_offset.max(visible.log_start_offset)),
            records_in: progress.records_in,
            records_out: progress.records_out,
            failures: progress.failures,
            dead_letters: progress.dead_letters,
            skipped: progress.skipped,
            parked: progress.parked,
            memory_bytes: progress.memory_bytes,
            timers: progress.timers,
        }
    }
}

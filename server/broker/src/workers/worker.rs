//! One worker: a deployment at one input partition.
//!
//! It wakes on append, runs turns on a thread that may block, appends a turn's outputs, and
//! commits the offset once they are acknowledged (at-least-once). A failure discards the instance
//! and is tried again after a back-off; after [`MAX_ATTEMPTS`] in a row the worker pauses and says
//! where, because to go on would be to skip a record.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use millstream_protocol::api::group::OffsetCommit;
use millstream_protocol::api::plugin::{LogLevel, PluginLogLine, WorkerDescription, WorkerState};
use millstream_protocol::{Offset, PartitionIndex, WireError};
use millstream_runtime::{Instance, WorkerSetup};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;
use crate::errors;
use crate::partition::{AckSink, Partition, PartitionReader, StagedBatch};
use crate::workers::deployment::Shared;
use crate::workers::logs::WorkerLog;
use crate::workers::turn::{self, Turn, TurnError};

/// Failures in a row after which a worker pauses.
pub(crate) const MAX_ATTEMPTS: u32 = 5;

/// The first back-off; it doubles with every failure.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// The longest back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// What is told of a worker.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) state: Option<WorkerState>,
    pub(crate) next_offset: Offset,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) failures: u64,
    pub(crate) memory_bytes: u64,
}

/// A worker that runs.
pub(crate) struct RunningWorker {
    pub(crate) input: Partition,
    progress: Arc<Mutex<Progress>>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl RunningWorker {
    /// Starts a worker at `offset`.
    pub(crate) fn start(shared: Arc<Shared>, input: Partition, offset: Offset) -> Self {
        let (stop, stopped) = watch::channel(false);
        let progress = Arc::new(Mutex::new(Progress {
            next_offset: offset,
            ..Progress::default()
        }));
        let worker = Worker {
            shared,
            reader: input.reader(),
            input: input.clone(),
            next_offset: offset,
            instance: None,
            attempts: 0,
            progress: Arc::clone(&progress),
            stopped,
        };
        Self {
            input,
            progress,
            stop,
            task: tokio::spawn(worker.run()),
        }
    }

    /// Stops it after the turn under way.
    pub(crate) async fn stop(self) {
        // The worker may have ended by itself.
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a worker's task failed");
        }
    }

    pub(crate) fn describe(&self) -> WorkerDescription {
        let progress = self.progress.lock();
        let visible = self.input.visible();
        WorkerDescription {
            topic: self.input.topic().to_string(),
            partition: self.input.id().partition,
            state: progress.state.clone().unwrap_or(WorkerState::Running),
            committed_offset: progress.next_offset,
            lag: visible
                .high_watermark
                .saturating_sub(progress.next_offset.max(visible.log_start_offset)),
            records_in: progress.records_in,
            records_out: progress.records_out,
            failures: progress.failures,
            memory_bytes: progress.memory_bytes,
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    input: Partition,
    reader: PartitionReader,
    next_offset: Offset,
    instance: Option<Instance>,
    attempts: u32,
    progress: Arc<Mutex<Progress>>,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        let mut changes = self.input.watch();
        loop {
            let visible = *changes.borrow_and_update();
            if *self.stopped.borrow() || visible.closed {
                return;
            }
            // Records that retention has taken are not there to be handled.
            self.next_offset = self.next_offset.max(visible.log_start_offset);
            if self.next_offset >= visible.high_watermark {
                let changed = tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    stopped = self.stopped.changed() => stopped.is_ok(),
                };
                if !changed {
                    return;
                }
                continue;
            }
            if let Err(failure) = self.turn().await
                && !self.back_off(failure).await
            {
                return;
            }
        }
    }

    /// Runs one turn and makes it count.
    async fn turn(&mut self) -> Result<(), Failure> {
        let turn = self.call().await?;
        append(turn.outputs).await?;
        for (offset, reason) in &turn.rejects {
            self.log(
                LogLevel::Warn,
                format!("offset {offset} rejected: {reason}"),
            );
        }
        if turn.next_offset > self.next_offset {
            commit(&self.shared, &self.input, turn.next_offset).await?;
            self.next_offset = turn.next_offset;
            self.attempts = 0;
        }
        {
            let mut progress = self.progress.lock();
            progress.state = None;
            progress.next_offset = self.next_offset;
            progress.records_in += turn.records_in;
            progress.records_out += turn.records_out;
            progress.failures += turn.rejects.len() as u64;
        }
        match turn.retry {
            None => Ok(()),
            Some(retry) => Err(Failure {
                reason: format!("offset {}: {}", self.next_offset, retry.reason),
                at_least: Duration::from_millis(u64::from(retry.after_ms)),
                counts: true,
            }),
        }
    }

    /// Calls the guest on a thread that may block, one of the broker's few for workers.
    async fn call(&mut self) -> Result<Turn, Failure> {
        let permit = Arc::clone(&self.shared.slots)
            .acquire_owned()
            .await
            .map_err(|_| Failure::new("stopping"))?;
        let shared = Arc::clone(&self.shared);
        let (input, reader) = (self.input.clone(), self.reader.clone());
        let offset = self.next_offset;
        let instance = self.instance.take();
        let run = move || {
            let _permit = permit;
            let mut instance = match instance {
                Some(instance) => instance,
                None => start(&shared, &input)?,
            };
            let turn = turn::run(
                &mut instance,
                &reader,
                input.id().partition,
                offset,
                &shared.outputs,
            );
            Ok::<_, String>((turn, instance))
        };
        match tokio::task::spawn_blocking(run).await {
            Err(error) => Err(Failure::new(format!("the worker's thread failed: {error}"))),
            Ok(Err(reason)) => Err(Failure::new(reason)),
            Ok(Ok((Err(error), instance))) => {
                let reason = error.to_string();
                match error {
                    // An instance whose call failed is spent.
                    TurnError::Call { .. } => Err(Failure::new(reason)),
                    TurnError::Output { .. } => {
                        self.instance = Some(instance);
                        Err(Failure::new(reason))
                    }
                    TurnError::Input(error) => {
                        self.instance = Some(instance);
                        Err(error.into())
                    }
                }
            }
            Ok(Ok((Ok(turn), instance))) => {
                self.progress.lock().memory_bytes = instance.memory_bytes();
                self.instance = Some(instance);
                Ok(turn)
            }
        }
    }

    /// Waits before the next attempt. False: the worker is to stop.
    async fn back_off(&mut self, failure: Failure) -> bool {
        self.attempts = self.attempts.saturating_add(1);
        self.log(
            LogLevel::Error,
            format!("attempt {} failed: {}", self.attempts, failure.reason),
        );
        let paused = failure.counts && self.attempts >= MAX_ATTEMPTS;
        {
            let mut progress = self.progress.lock();
            progress.failures += 1;
            progress.state = Some(if paused {
                WorkerState::Paused {
                    reason: failure.reason.clone(),
                }
            } else {
                WorkerState::BackingOff {
                    attempts: self.attempts,
                    reason: failure.reason.clone(),
                }
            });
        }
        if paused {
            tracing::warn!(
                deployment = self.shared.spec.name,
                partition = self.input.name(),
                reason = failure.reason,
                "worker paused"
            );
            // An error means that the deployment is gone: then too it is time to stop.
            let _ = self.stopped.wait_for(|stopped| *stopped).await;
            return false;
        }
        let doubled = FIRST_BACK_OFF.saturating_mul(1 << (self.attempts - 1).min(16));
        let wait = doubled.min(LONGEST_BACK_OFF).max(failure.at_least);
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
        }
    }

    fn log(&self, level: LogLevel, message: String) {
        self.shared.logs.write(PluginLogLine {
            at_ms: clock::now_ms(),
            level,
            topic: self.input.topic().to_string(),
            partition: self.input.id().partition,
            context: "millstream".to_owned(),
            message,
        });
    }
}

/// Appends outputs and waits until all are acknowledged.
async fn append(outputs: Vec<(Partition, BytesMut)>) -> Result<(), WireError> {
    let mut waiting = Vec::with_capacity(outputs.len());
    for (partition, bytes) in outputs {
        let (ack, outcomes) = AckSink::new();
        let limit = partition.config().max_batch_bytes as usize;
        partition.append(StagedBatch::validate(bytes, limit, ack)?);
        waiting.push(outcomes);
    }
    for mut outcomes in waiting {
        outcomes
            .recv()
            .await
            .unwrap_or_else(|| Err(errors::shutting_down()))?;
    }
    Ok(())
}

async fn commit(shared: &Shared, input: &Partition, offset: Offset) -> Result<(), WireError> {
    let (topic, partition) = (input.topic().to_string(), input.id().partition);
    shared
        .commit(OffsetCommit {
            topic,
            partition,
            offset,
            metadata: String::new(),
        })
        .await
}

/// A turn that did not count.
struct Failure {
    reason: String,
    /// The next attempt comes no sooner.
    at_least: Duration,
    /// It may be the record's or the guest's fault, so that attempts are counted. A full disk or a
    /// group on the move is neither, and is waited out.
    counts: bool,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            at_least: Duration::ZERO,
            counts: true,
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self {
            counts: false,
            ..Self::new(error.message)
        }
    }
}

fn start(shared: &Shared, input: &Partition) -> Result<Instance, String> {
    let setup = setup(shared, input.topic().to_string(), input.id().partition);
    shared
        .plugin
        .start(setup)
        .map_err(|error| error.to_string())
}

/// What an instance at a partition is started with.
pub(crate) fn setup(shared: &Shared, topic: String, partition: PartitionIndex) -> WorkerSetup {
    WorkerSetup {
        deployment: shared.spec.name.clone(),
        topic: topic.clone(),
        partition,
        outputs: shared
            .spec
            .outputs
            .iter()
            .map(|output| output.name.clone())
            .collect(),
        config: shared.spec.config.clone(),
        limits: shared.spec.limits.clone(),
        logs: Arc::new(WorkerLog {
            logs: Arc::clone(&shared.logs),
            topic,
            partition,
        }),
    }
}

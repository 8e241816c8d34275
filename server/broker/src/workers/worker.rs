//! One worker: a deployment at one input partition, from its start to its end.
//!
//! It works in [spells](Spell). What goes wrong around it (a full disk, a group on the move) ends
//! one; it is waited out, and the next one begins with the journal as it is on the disk.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::metrics::WorkerMetrics;
use millstream_protocol::api::plugin::{LogLevel, WorkerDescription, WorkerState};
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use millstream_state::Store;
use millstream_worker::{LetterPlace, ParkedRecord, Timer};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::partition::{Closed, Partition};
use crate::workers::deployment::Shared;
use crate::workers::progress::SharedProgress;
use crate::workers::spell::{Ended, Spell, Trouble};
use crate::workers::state::{SharedStore, close};
use crate::workers::waits::TurnWaits;

/// The first wait after something around the worker went wrong; it doubles from one to the next.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// Where a worker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At what its journal says; a worker without one, where its group says.
    Journal(Offset),
    /// Here: its group was reset.
    Reset(Offset),
}

/// What a worker can be told.
pub(crate) enum WorkerCommand {
    /// Handles these again, as if they had never been tried.
    TryAgain {
        again: Again,
        done: oneshot::Sender<Result<(), WireError>>,
    },
    /// Stands still no longer.
    Resume,
}

/// Dead letters that are handed back, as what they were, with where they lie: in this order in one
/// partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Again {
    pub(crate) letters: TopicPartition,
    pub(crate) records: Vec<(LetterPlace, ParkedRecord)>,
    pub(crate) timers: Vec<(LetterPlace, Timer)>,
}

/// Commands that wait for one worker; beyond it callers wait for room.
const MAX_QUEUED_COMMANDS: usize = 16;

/// A worker that runs.
pub(crate) struct RunningWorker {
    pub(crate) input: Partition,
    progress: SharedProgress,
    store: SharedStore,
    commands: mpsc::Sender<WorkerCommand>,
    resting: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl RunningWorker {
    pub(crate) fn start(shared: Arc<Shared>, input: Partition, start: Start) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (commands, queue) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let (rests, resting) = watch::channel(false);
        let progress = SharedProgress::default();
        let store = SharedStore::default();
        let (Start::Journal(offset) | Start::Reset(offset)) = start;
        progress.change(|progress| {
            progress.next_offset = offset;
            progress.started_at_ms = clock::now_ms();
        });
        let worker = Worker {
            held: shared.hold.subscribe(),
            shared,
            input: input.clone(),
            progress: progress.clone(),
            store: Arc::clone(&store),
            commands: queue,
            rests,
            stopped,
        };
        Self {
            input,
            progress,
            store,
            commands,
            resting,
            stop,
            task: tokio::spawn(worker.run(start)),
        }
    }

    /// Has it stop after the turn under way, which neither waits for a server nor computes for long any more.
    pub(crate) fn begin_stop(&self) {
        // The worker may have ended by itself.
        let _ = self.stop.send(true);
    }

    /// Stops it after the turn under way, when its outputs have arrived.
    pub(crate) async fn stop(self) {
        self.begin_stop();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a worker's task failed");
        }
        if let Err(error) = close(&self.store).await {
            tracing::error!(%error, "closing a worker's state failed");
        }
    }

    /// The way to tell it something.
    pub(crate) fn commands(&self) -> mpsc::Sender<WorkerCommand> {
        self.commands.clone()
    }

    /// What its guest remembers; `None` while it is being read back.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.store.lock().clone()
    }

    /// It leaves such a state now: whoever asks is told so before it has come to it.
    pub(crate) fn leaves(&self, such: impl Fn(&WorkerState) -> bool) {
        self.progress.change(|progress| {
            progress.state.take_if(|state| such(state));
        });
    }

    /// Whether it stands still.
    pub(crate) fn resting(&self) -> watch::Receiver<bool> {
        self.resting.clone()
    }

    pub(crate) fn progress(&self) -> &SharedProgress {
        &self.progress
    }

    pub(crate) fn describe(&self, broker_id: u32) -> WorkerDescription {
        self.progress.describe(&self.input, broker_id)
    }

    pub(crate) fn metrics(&self) -> WorkerMetrics {
        self.progress.metrics(&self.input)
    }
}

struct Worker {
    shared: Arc<Shared>,
    input: Partition,
    progress: SharedProgress,
    store: SharedStore,
    commands: mpsc::Receiver<WorkerCommand>,
    held: watch::Receiver<bool>,
    rests: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, mut start: Start) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let progress = self.progress.clone();
            let (trouble, worked) = match self.spell(&mut start).await {
                Ok(Ended::Stopped) => {
                    if self.input.visible().closed == Some(Closed::Left) {
                        self.shared.left.notify_one();
                    }
                    return;
                }
                Ok(Ended::Held) => {
                    self.stand_still().await;
                    continue;
                }
                Ok(Ended::Paused(reason)) => {
                    self.pause(reason).await;
                    continue;
                }
                // Its last call may have been given up for that.
                Err(_) if *self.stopped.borrow() || *self.held.borrow() => continue,
                Err(failed) => failed,
            };
            if worked {
                back_off = FIRST_BACK_OFF;
            }
            self.log(LogLevel::Error, format!("waiting: {}", trouble.0));
            progress.change(|progress| {
                progress.state = Some(WorkerState::BackingOff {
                    attempts: 1 + back_off.as_millis().ilog2() - FIRST_BACK_OFF.as_millis().ilog2(),
                    reason: trouble.0,
                });
            });
            if self.wait(back_off).await {
                return;
            }
            back_off = (2 * back_off).min(LONGEST_BACK_OFF);
        }
    }

    /// Waits before the next spell, unless it is to stand still. Whether it is to stop.
    async fn wait(&mut self, back_off: Duration) -> bool {
        let mut waited = pin!(tokio::time::sleep(back_off));
        loop {
            tokio::select! {
                () = &mut waited => return false,
                _ = self.held.wait_for(|held| *held) => return false,
                _ = self.stopped.wait_for(|stopped| *stopped) => return true,
                Some(command) = self.commands.recv() => {
                    refuse(command, "the worker waits after a failure: `describe` says which");
                }
            }
        }
    }

    /// Works until something ends it. With what went wrong it is told whether anything was done
    /// before.
    async fn spell(&mut self, start: &mut Start) -> Result<Ended, (Trouble, bool)> {
        if *self.stopped.borrow() {
            return Ok(Ended::Stopped);
        }
        if *self.held.borrow() {
            return Ok(Ended::Held);
        }
        let mut stopped = self.stopped.clone();
        let opened = tokio::select! {
            opened = self.begin(*start) => opened,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(Ended::Stopped),
        };
        let mut spell = opened.map_err(|error| (error.into(), false))?;
        let ended = spell
            .work(stopped, self.held.clone(), &mut self.commands)
            .await;
        let ended = spell.end().await.map_err(Trouble::from).and(ended);
        // A reset is in the journal now, and the group has been told more since.
        *start = Start::Journal(spell.told());
        ended.map_err(|trouble| (trouble, spell.has_committed()))
    }

    async fn begin(&self, start: Start) -> Result<Spell, WireError> {
        let (shared, input) = (Arc::clone(&self.shared), self.input.clone());
        let told = (self.progress.clone(), Arc::clone(&self.store));
        let waits = Arc::new(TurnWaits {
            stopped: self.stopped.clone(),
            held: self.held.clone(),
            runtime: Handle::current(),
        });
        Spell::begin(shared, input, told, waits, start).await
    }

    /// Rests until its deployment lets it go.
    async fn stand_still(&mut self) {
        self.progress
            .change(|progress| progress.state = Some(WorkerState::Held));
        self.rests.send_replace(true);
        loop {
            tokio::select! {
                Some(command) = self.commands.recv() => {
                    refuse(command, "the deployment is paused: resume it first");
                }
                _ = self.held.wait_for(|held| !*held) => break,
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.rests.send_replace(false);
        self.progress.change(|progress| progress.state = None);
    }

    async fn pause(&mut self, reason: String) {
        tracing::warn!(
            deployment = self.shared.spec.name,
            partition = self.input.name(),
            reason,
            "worker paused"
        );
        self.log(LogLevel::Error, format!("paused: {reason}"));
        self.progress
            .change(|progress| progress.state = Some(WorkerState::Paused { reason }));
        self.rests.send_replace(true);
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command,
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            };
            match command {
                Some(WorkerCommand::Resume) => {
                    self.shared.tables.try_again();
                    break;
                }
                Some(command) => {
                    refuse(
                        command,
                        "the worker stands still: resume its deployment first",
                    );
                }
                None => return,
            }
        }
        self.rests.send_replace(false);
        self.progress.change(|progress| progress.state = None);
    }

    fn log(&self, level: LogLevel, message: String) {
        self.shared.log(&self.input, level, message);
    }
}

/// Says no to a command that a worker cannot follow while it stands still.
fn refuse(command: WorkerCommand, why: &str) {
    match command {
        WorkerCommand::TryAgain { done, .. } => {
            // The caller may have gone.
            let _ = done.send(Err(WireError::new(ErrorCode::NotReady, why)));
        }
        WorkerCommand::Resume => {}
    }
}

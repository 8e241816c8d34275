//! One worker: a deployment at one input partition.
//!
//! It wakes on append, calls the guest on a thread that may block, and makes what came of it one
//! commit of its [journal](WorkerJournal): outputs, failed records, changes of state and the next
//! input offset count together or not at all. What goes wrong around it (a full disk, a group on
//! the move) is waited out, and begins with the journal as it is on the disk.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::plugin::{
    HoldBack, LogLevel, PluginLogLine, WorkerDescription, WorkerState as Doing,
};
use millstream_protocol::{ErrorCode, Offset, TimestampMs, WireError};
use millstream_runtime::{CallError, Instance, MemoryState};
use millstream_worker::limits::MAX_PARKED_RECORDS;
use millstream_worker::{Bite, ParkedRecord};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::partition::{Partition, PartitionReader};
use crate::workers::deployment::{Shared, setup};
use crate::workers::input::{Input, Wanted, for_journal};
use crate::workers::journal::{self, WorkerJournal};
use crate::workers::logs::WorkerLog;
use crate::workers::mirror::GroupMirror;
use crate::workers::progress::SharedProgress;
use crate::workers::settle::{Books, Prepared, Tried, append_directly};
use crate::workers::turn::{Setting, Turn, TurnError};

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
    /// Handles these records again, as if they had never been tried.
    TryAgain {
        records: Vec<ParkedRecord>,
        done: oneshot::Sender<Result<(), WireError>>,
    },
    /// Stands still no longer.
    Resume,
}

/// Commands that wait for one worker; beyond it callers wait for room.
const MAX_QUEUED_COMMANDS: usize = 16;

/// A worker that runs.
pub(crate) struct RunningWorker {
    pub(crate) input: Partition,
    progress: SharedProgress,
    commands: mpsc::Sender<WorkerCommand>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl RunningWorker {
    pub(crate) fn start(shared: Arc<Shared>, input: Partition, start: Start) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (commands, queue) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let progress = SharedProgress::default();
        let (Start::Journal(offset) | Start::Reset(offset)) = start;
        progress.change(|progress| progress.next_offset = offset);
        let worker = Worker {
            shared,
            input: input.clone(),
            progress: progress.clone(),
            commands: queue,
            stopped,
        };
        Self {
            input,
            progress,
            commands,
            stop,
            task: tokio::spawn(worker.run(start)),
        }
    }

    /// Stops it after the turn under way, when its outputs have arrived.
    pub(crate) async fn stop(self) {
        // The worker may have ended by itself.
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a worker's task failed");
        }
    }

    /// The way to tell it something.
    pub(crate) fn commands(&self) -> mpsc::Sender<WorkerCommand> {
        self.commands.clone()
    }

    pub(crate) fn describe(&self) -> WorkerDescription {
        self.progress.describe(&self.input)
    }
}

struct Worker {
    shared: Arc<Shared>,
    input: Partition,
    progress: SharedProgress,
    commands: mpsc::Receiver<WorkerCommand>,
    stopped: watch::Receiver<bool>,
}

/// Something around the worker that went wrong. It is waited out.
struct Trouble(String);

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self(error.message)
    }
}

/// How a spell of work ended.
enum Ended {
    /// The worker was told to stop, or its input is gone.
    Stopped,
    /// A record has failed for good, and the deployment wants to stand still in front of it.
    Paused(String),
}

impl Worker {
    async fn run(mut self, mut start: Start) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let progress = self.progress.clone();
            let (trouble, worked) = match self.spell(&mut start).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Paused(reason)) => {
                    self.pause(reason).await;
                    continue;
                }
                Err(failed) => failed,
            };
            if worked {
                back_off = FIRST_BACK_OFF;
            }
            self.log(LogLevel::Error, format!("waiting: {}", trouble.0));
            progress.change(|progress| {
                progress.state = Some(Doing::BackingOff {
                    attempts: 1 + back_off.as_millis().ilog2() - FIRST_BACK_OFF.as_millis().ilog2(),
                    reason: trouble.0,
                });
            });
            tokio::select! {
                () = tokio::time::sleep(back_off) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            }
            back_off = (2 * back_off).min(LONGEST_BACK_OFF);
        }
    }

    /// Works until something ends it. With what went wrong it is told whether anything was done
    /// before.
    async fn spell(&mut self, start: &mut Start) -> Result<Ended, (Trouble, bool)> {
        if *self.stopped.borrow() {
            return Ok(Ended::Stopped);
        }
        let mut stopped = self.stopped.clone();
        let opened = tokio::select! {
            opened = Spell::begin(self, *start) => opened,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(Ended::Stopped),
        };
        let mut spell = opened.map_err(|error| (error.into(), false))?;
        let ended = spell.work(stopped, &mut self.commands).await;
        // A reset is in the journal now, and the group has been told more since.
        *start = Start::Journal(spell.mirror.told());
        ended.map_err(|trouble| (trouble, spell.commits > 0))
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
            .change(|progress| progress.state = Some(Doing::Paused { reason }));
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command,
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            };
            match command {
                Some(WorkerCommand::TryAgain { done, .. }) => {
                    let paused = "the worker stands still: resume its deployment first";
                    // The caller may have gone.
                    let _ = done.send(Err(WireError::new(ErrorCode::NotReady, paused)));
                }
                Some(WorkerCommand::Resume) => break,
                None => return,
            }
        }
        self.progress.change(|progress| progress.state = None);
    }

    fn log(&self, level: LogLevel, message: String) {
        log(&self.shared, &self.input, level, message);
    }
}

fn log(shared: &Shared, input: &Partition, level: LogLevel, message: String) {
    shared.logs.write(PluginLogLine {
        at_ms: clock::now_ms(),
        level,
        topic: input.topic().to_string(),
        partition: input.id().partition,
        context: "millstream".to_owned(),
        message,
    });
}

/// Whether what came of a call counts.
enum Settled {
    Yes,
    /// It does not fit into one commit, and why.
    TooLarge(Input, String),
}

/// The time from the opening of the journal to the next trouble.
struct Spell {
    shared: Arc<Shared>,
    input: Partition,
    reader: PartitionReader,
    journal: WorkerJournal,
    state: Arc<MemoryState>,
    instance: Option<Instance>,
    bite: Bite,
    mirror: GroupMirror,
    progress: SharedProgress,
    commits: u64,
    pause: Option<String>,
}

impl Spell {
    async fn begin(worker: &Worker, start: Start) -> Result<Self, WireError> {
        let (shared, input) = (Arc::clone(&worker.shared), worker.input.clone());
        let (Start::Journal(offset) | Start::Reset(offset)) = start;
        let state = Arc::new(MemoryState::default());
        let partition = shared.journal_of(&input).await?;
        let mut journal = WorkerJournal::open(
            partition,
            Arc::clone(&shared.partitions),
            &shared.controller,
            Arc::clone(&state),
            offset,
        )
        .await?;
        let core = journal.core();
        // The group follows the journal and is never ahead of it. An offset that it cannot have
        // from there was set by a person.
        let followed = (core.group_offset()..=core.next_offset()).contains(&offset);
        let mut commits = 0;
        if matches!(start, Start::Reset(_)) || !followed {
            journal.make_room().await?;
            let mut commit = journal.commit(clock::now_ms());
            commit.advance_to(offset);
            commit.note_group_offset(offset);
            let parked: Vec<_> = journal.core().parked().iter().map(|it| it.offset).collect();
            let commit = parked
                .into_iter()
                .try_for_each(|offset| commit.release(offset))
                .and_then(|()| commit.finish())
                .map_err(|error| journal::refused(&error))?;
            journal.append(commit).await?;
            commits += 1;
        }
        worker.progress.change(|progress| progress.state = None);
        Ok(Self {
            reader: input.reader(),
            mirror: GroupMirror::new(Arc::clone(&shared), input.clone(), offset),
            shared,
            input,
            journal,
            state,
            instance: None,
            bite: Bite::default(),
            progress: worker.progress.clone(),
            commits,
            pause: None,
        })
    }

    async fn work(
        &mut self,
        mut stopped: watch::Receiver<bool>,
        commands: &mut mpsc::Receiver<WorkerCommand>,
    ) -> Result<Ended, Trouble> {
        let mut changes = self.input.watch();
        loop {
            let visible = *changes.borrow_and_update();
            if *stopped.borrow() || visible.closed {
                self.journal.settle_all().await?;
                self.mirror.finish(self.journal.core().next_offset()).await;
                return Ok(Ended::Stopped);
            }
            if let Some(reason) = self.pause.take() {
                self.journal.settle_all().await?;
                return Ok(Ended::Paused(reason));
            }
            self.journal.look()?;
            self.journal.make_room().await?;
            self.publish();
            let core = self.journal.core();
            let parked = core.parked();
            if let Some(due) = parked.due(clock::now_ms()) {
                let due = due.clone();
                self.try_again(due).await?;
                continue;
            }
            let waits =
                !parked.is_empty() && self.shared.spec.on_failure.holds_back == HoldBack::Partition;
            let blocked = waits || !parked.has_room();
            // Records that retention has taken are not there to be handled.
            let offset = core.next_offset().max(visible.log_start_offset);
            if !blocked && offset < visible.high_watermark {
                self.go_on(offset).await?;
                continue;
            }
            let due = parked.next_due_ms().map(wait_until);
            tokio::select! {
                changed = changes.changed(), if !blocked => {
                    // The partition is gone with its broker.
                    if changed.is_err() {
                        return Ok(Ended::Stopped);
                    }
                }
                _ = stopped.changed() => {}
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
                settled = self.journal.settle_oldest() => settled?,
                () = self.mirror.heard() => {}
                Some(command) = commands.recv() => self.obey(command).await?,
            }
        }
    }

    async fn obey(&mut self, command: WorkerCommand) -> Result<(), Trouble> {
        // It works: there is nothing to resume.
        let WorkerCommand::TryAgain { records, done } = command else {
            return Ok(());
        };
        let parked = self.journal.core().parked().len();
        if parked + records.len() > MAX_PARKED_RECORDS {
            let busy = format!("{parked} records wait to be tried again already: try later");
            // The caller may have gone.
            let _ = done.send(Err(WireError::new(ErrorCode::Busy, busy)));
            return Ok(());
        }
        let mut commit = self.journal.commit(clock::now_ms());
        let commit = records
            .into_iter()
            .try_for_each(|record| commit.park(for_journal(record)))
            .and_then(|()| commit.finish());
        let commit = match commit {
            Ok(commit) => commit,
            Err(error) => {
                let _ = done.send(Err(journal::refused(&error)));
                return Ok(());
            }
        };
        self.journal.append(commit).await?;
        self.commits += 1;
        self.publish();
        let _ = done.send(Ok(()));
        Ok(())
    }

    /// Handles the next records.
    async fn go_on(&mut self, offset: Offset) -> Result<(), Trouble> {
        let wanted = Wanted {
            offset,
            records: self.bite.records(),
            held_keys: self.journal.core().parked().keys().cloned().collect(),
        };
        let (input, reason) = match self
            .call(move |reader| Input::read(reader, &wanted))
            .await?
        {
            Ok(turn) => match self.settle(turn, None).await? {
                Settled::Yes => {
                    self.bite.succeeded();
                    return Ok(());
                }
                Settled::TooLarge(input, reason) => (input, reason),
            },
            Err(failed) => failed,
        };
        self.tell_failure(&input, &reason);
        if self.bite.failed(input.records()) {
            self.settle_failed(input, reason, None).await?;
        }
        Ok(())
    }

    /// Handles a parked record once more.
    async fn try_again(&mut self, parked: ParkedRecord) -> Result<(), Trouble> {
        let tried = Tried {
            offset: parked.offset,
            attempts: parked.attempts,
        };
        let read = move |reader: &PartitionReader| Input::parked(reader, &parked);
        let (input, reason) = match self.call(read).await? {
            Ok(turn) => match self.settle(turn, Some(tried)).await? {
                Settled::Yes => return Ok(()),
                Settled::TooLarge(input, reason) => (input, reason),
            },
            Err(failed) => failed,
        };
        self.tell_failure(&input, &reason);
        self.settle_failed(input, reason, Some(tried)).await
    }

    /// Makes it count that a call with a single record has failed.
    async fn settle_failed(
        &mut self,
        input: Input,
        reason: String,
        tried: Option<Tried>,
    ) -> Result<(), Trouble> {
        let turn = Turn::failed(input, reason, self.shared.spec.on_failure.holds_back)?;
        match self.settle(turn, tried).await? {
            Settled::Yes => Ok(()),
            Settled::TooLarge(_, reason) => Err(Trouble(reason)),
        }
    }

    /// Calls the guest on a thread that may block, one of the broker's few for workers. The inner
    /// error: the guest failed.
    async fn call(
        &mut self,
        read: impl FnOnce(&PartitionReader) -> Result<Input, WireError> + Send + 'static,
    ) -> Result<Result<Turn, (Input, String)>, Trouble> {
        let permit = Arc::clone(&self.shared.slots)
            .acquire_owned()
            .await
            .map_err(|_| Trouble("stopping".to_owned()))?;
        let (shared, input) = (Arc::clone(&self.shared), self.input.clone());
        let (reader, state) = (self.reader.clone(), Arc::clone(&self.state));
        let mut instance = self.instance.take();
        let run = move || {
            let _permit = permit;
            let read = read(&reader)?;
            let setting = Setting {
                outputs: &shared.outputs,
                input_partition: input.id().partition,
                holds_back: shared.spec.on_failure.holds_back,
            };
            let start = || {
                let log = WorkerLog {
                    logs: Arc::clone(&shared.logs),
                    topic: input.topic().to_string(),
                    partition: input.id().partition,
                };
                let setup = setup(&shared.spec, log, state.clone());
                shared
                    .plugin
                    .start(setup)
                    .map_err(|error| error.to_string())
            };
            let turn = setting.run(&mut instance, start, read);
            Ok::<_, WireError>((turn, instance))
        };
        let ran = tokio::task::spawn_blocking(run).await;
        let (turn, instance) =
            ran.map_err(|error| Trouble(format!("the worker's thread failed: {error}")))??;
        if let Some(instance) = &instance {
            let memory_bytes = instance.memory_bytes();
            self.progress
                .change(|progress| progress.memory_bytes = memory_bytes);
        }
        self.instance = instance;
        match turn {
            Ok(turn) => Ok(Ok(turn)),
            Err(TurnError::Start(reason)) => Err(Trouble(reason)),
            Err(TurnError::Input(error)) => Err(error.into()),
            Err(TurnError::Call {
                error: error @ CallError::StateUnavailable(_),
                ..
            }) => Err(Trouble(error.to_string())),
            Err(TurnError::Call { input, error }) => Ok(Err((input, error.to_string()))),
        }
    }

    fn tell_failure(&self, input: &Input, reason: &str) {
        let (first, last) = input.range();
        let place = if first == last {
            format!("offset {first}")
        } else {
            format!("offsets {first} to {last}")
        };
        self.log(LogLevel::Error, format!("{place}: {reason}"));
        self.progress.change(|progress| progress.failures += 1);
    }

    fn log(&self, level: LogLevel, message: String) {
        log(&self.shared, &self.input, level, message);
    }

    /// Makes what came of a call count, all of it or nothing.
    async fn settle(&mut self, turn: Turn, tried: Option<Tried>) -> Result<Settled, Trouble> {
        let books = Books {
            shared: &self.shared,
            input: &self.input,
            journal: &self.journal,
            state: &self.state,
            group_offset: self.mirror.told(),
        };
        let prepared = match books.prepare(turn, tried) {
            Ok(prepared) => prepared,
            Err((input, error)) => {
                // What it remembers of the call is not to be.
                self.instance = None;
                return Ok(Settled::TooLarge(input, error.to_string()));
            }
        };
        let Prepared {
            commit,
            direct,
            state,
            tally,
        } = prepared;
        append_directly(direct).await?;
        self.journal.append(commit).await?;
        self.commits += 1;
        self.state.apply(state);
        for (level, line) in tally.lines {
            self.log(level, line);
        }
        self.pause = tally.pause;
        self.progress.change(|progress| {
            progress.state = None;
            progress.records_in += tally.records_in;
            progress.records_out += tally.records_out;
            progress.dead_letters += tally.dead_letters;
            progress.skipped += tally.skipped;
        });
        Ok(Settled::Yes)
    }

    /// Tells how far the worker is: what has arrived, not only what is sure to.
    fn publish(&mut self) {
        let offset = self.journal.arrived_offset();
        let parked = self.journal.parked() as u64;
        self.progress.change(|progress| {
            progress.next_offset = offset;
            progress.parked = parked;
        });
        self.mirror.tell(offset);
    }
}

/// How long from now until a time.
fn wait_until(due_ms: TimestampMs) -> Duration {
    let wait_ms = due_ms.saturating_sub(clock::now_ms());
    Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
}

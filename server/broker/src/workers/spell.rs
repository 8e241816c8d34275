//! A spell of work: from the opening of a worker's journal to the next trouble.
//!
//! A worker wakes on append, calls the guest on a thread that may block, and makes what came of it
//! one commit of its [journal](WorkerJournal): outputs, failed records, changes of state and the
//! next input offset count together or not at all.

mod guest;
mod handling;
mod migrate;
mod streak;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::api::plugin::{DeliveryGuarantee, HoldBack, LogLevel};
use millstream_protocol::{ErrorCode, Offset, TimestampMs, TopicPartition, WireError};
use millstream_runtime::{Instance, StateChanges, Waits};
use millstream_state::Growth;
use millstream_worker::limits::MAX_PARKED_RECORDS;
use millstream_worker::{Bite, Commit};
use tokio::sync::{mpsc, watch};

use self::streak::Pace;
use crate::clock;
use crate::errors;
use crate::partition::{Partition, PartitionReader};
use crate::workers::deployment::Shared;
use crate::workers::failure_log::FailureLog;
use crate::workers::input::for_journal;
use crate::workers::journal::{self, WorkerJournal};
use crate::workers::mirror::GroupMirror;
use crate::workers::progress::SharedProgress;
use crate::workers::settle::{Books, Prepared, Unsettled, Work};
use crate::workers::state::{GuestState, SharedStore, close};
use crate::workers::tables::TableTrouble;
use crate::workers::turn::Turn;
use crate::workers::worker::{Again, Start, WorkerCommand};

/// Something around the worker that went wrong. It is waited out.
pub(crate) struct Trouble(pub(crate) String);

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self(error.message)
    }
}

/// How a spell ended without trouble.
pub(crate) enum Ended {
    /// The worker was told to stop, or its input is gone.
    Stopped,
    /// The deployment's workers are to stand still.
    Held,
    /// A record has failed for good, and the deployment wants to stand still in front of it; or a table
    /// takes more than it may.
    Paused(String),
}

/// Whether what came of a call counts.
enum Settled {
    Yes,
    /// It does not fit into one commit.
    TooLarge(Unsettled),
}

/// The time from the opening of the journal to the next trouble.
pub(crate) struct Spell {
    shared: Arc<Shared>,
    input: Partition,
    reader: PartitionReader,
    journal: WorkerJournal,
    state: GuestState,
    instance: Option<Instance>,
    bite: Bite,
    pace: Pace,
    timer_bite: Bite,
    /// Outputs that a deterministic guest's last calls have left behind, and that no commit knows.
    in_doubt: BTreeMap<TopicPartition, u32>,
    /// Turns of a deterministic guest so far.
    stored_turns: u64,
    /// Timers have fired last: it is the records' turn.
    after_timers: bool,
    mirror: GroupMirror,
    progress: SharedProgress,
    waits: Arc<dyn Waits>,
    /// The last call ended because the worker is to stop, or to stand still, or with more records that
    /// fail than can be settled together.
    begin_again: bool,
    commits: u64,
    pause: Option<String>,
    given_up: Arc<FailureLog>,
    tried_again: Arc<FailureLog>,
}

impl Spell {
    /// Opens the journal, and moves it to where the worker is to begin.
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        input: Partition,
        (progress, store): (SharedProgress, SharedStore),
        waits: Arc<dyn Waits>,
        start: Start,
    ) -> Result<Self, WireError> {
        let (offset, is_reset) = match (shared.reset_to(&input).await?, start) {
            (Some(offset), _) | (None, Start::Reset(offset)) => (offset, true),
            (None, Start::Journal(offset)) => (offset, false),
        };
        let partition = shared.journal_of(&input).await?;
        // The one before gives its memory back, and its file.
        close(&store).await?;
        let loading = shared.loads.acquire().await.map_err(errors::stopping)?;
        let (mut journal, opened) = WorkerJournal::open(
            partition,
            &shared.leaders,
            &shared.controller,
            (Arc::clone(&shared.states), shared.spec.limits.state_bytes),
            offset,
        )
        .await?;
        drop(loading);
        let opened = Arc::new(opened);
        *store.lock() = Some(Arc::clone(&opened));
        let state = GuestState::new(opened);
        let outputs = shared.outputs.iter().flat_map(|it| &it.partitions);
        let deterministic = shared.spec.delivery == DeliveryGuarantee::Deterministic;
        let mut in_doubt = if deterministic {
            journal.in_doubt(&shared.leaders, outputs).await?
        } else {
            BTreeMap::new()
        };
        let core = journal.core();
        // The group follows the journal and is never ahead of it: another offset was committed from outside.
        let followed = (core.group_offset()..=core.next_offset()).contains(&offset);
        let mut commits = 0;
        if is_reset || !followed {
            journal.make_room().await?;
            let mut commit = journal.commit(clock::now_ms());
            commit.advance_to(offset);
            commit.note_group_offset(offset);
            commit.forget_record_time();
            // What was under way is not handled again.
            for (target, next) in std::mem::take(&mut in_doubt) {
                commit.skip_direct_to(target, next);
            }
            let parked: Vec<_> = journal.core().parked().iter().map(|it| it.offset).collect();
            let commit = parked
                .into_iter()
                .try_for_each(|offset| commit.release(offset))
                .and_then(|()| commit.finish())
                .map_err(|error| journal::refused(&error))?;
            journal.append(commit).await?;
            state.apply(StateChanges::default(), Growth::AtMost, &journal);
            commits += 1;
        }
        if deterministic && journal.core().is_new() {
            let commit = journal.commit(clock::now_ms()).finish();
            let commit = commit.map_err(|error| journal::refused(&error))?;
            journal.append(commit).await?;
            state.apply(StateChanges::default(), Growth::AtMost, &journal);
        }
        let mut mirror = GroupMirror::new(Arc::clone(&shared), input.clone(), offset);
        // Before anything is handled from there on: it would be reset once more after a crash. It does not listen
        // to a deployment that has not seen the reset yet, and then that is on its way.
        if is_reset && (!mirror.finish(offset).await || shared.reset_to(&input).await?.is_some()) {
            let what = "the group has been reset, and does not know yet that its worker went there";
            return Err(WireError::new(ErrorCode::NotReady, what));
        }
        let producer_id = journal.core().producer_id();
        let parked = journal.parked() as u64;
        progress.change(|progress| {
            progress.parked = parked;
            progress.state = None;
            progress.producer_id = Some(producer_id);
        });
        Ok(Self {
            reader: input.reader(),
            mirror,
            shared,
            input,
            journal,
            state,
            instance: None,
            bite: Bite::default(),
            pace: Pace::default(),
            timer_bite: Bite::default(),
            in_doubt,
            stored_turns: 0,
            after_timers: false,
            progress,
            waits,
            begin_again: false,
            commits,
            pause: None,
            given_up: FailureLog::new("given up"),
            tried_again: FailureLog::new("put off"),
        })
    }

    /// What the worker's group is known to have.
    pub(crate) fn told(&self) -> Offset {
        self.mirror.told()
    }

    /// Whether anything was done.
    pub(crate) fn has_committed(&self) -> bool {
        self.commits > 0
    }

    /// Waits for what is still being written. To be called after the work, whatever has ended it.
    pub(crate) async fn end(&mut self) -> Result<(), WireError> {
        self.state.flushed().await
    }

    /// Works until something ends it. What it does is boxed, so that a worker is small while it waits: most do.
    pub(crate) async fn work(
        &mut self,
        mut stopped: watch::Receiver<bool>,
        mut held: watch::Receiver<bool>,
        commands: &mut mpsc::Receiver<WorkerCommand>,
    ) -> Result<Ended, Trouble> {
        // Whatever is handled finds in the tables what was there before the worker.
        loop {
            tokio::select! {
                biased;
                ready = self.shared.tables.caught_up() => match ready {
                    Ok(()) => break,
                    Err(TableTrouble::TooLarge(reason)) => return Ok(Ended::Paused(reason)),
                    Err(TableTrouble::Failed(reason)) => return Err(Trouble(reason)),
                },
                _ = stopped.wait_for(|stopped| *stopped) => break,
                _ = held.wait_for(|held| *held) => break,
                Some(command) = commands.recv() => {
                    if let WorkerCommand::TryAgain { done, .. } = command {
                        let reading = "the worker's tables are being read back: try later";
                        // The caller may have gone.
                        let _ = done.send(Err(WireError::new(ErrorCode::NotReady, reading)));
                    }
                }
            }
        }
        let mut changes = self.input.watch();
        let mut bounds = self.shared.bounds.subscribe();
        loop {
            let visible = *changes.borrow_and_update();
            if *stopped.borrow() || visible.closed.is_some() {
                self.journal.settle_all().await?;
                self.tell_group().await?;
                return Ok(Ended::Stopped);
            }
            if let Some(reason) = self.pause.take() {
                self.journal.settle_all().await?;
                self.publish();
                self.tell_group().await?;
                return Ok(Ended::Paused(reason));
            }
            if *held.borrow_and_update() {
                self.journal.settle_all().await?;
                self.publish();
                self.tell_group().await?;
                return Ok(Ended::Held);
            }
            let until = bounds.borrow_and_update().of(self.input.id());
            self.progress.change(|progress| progress.until = until);
            self.note_arrivals().await?;
            if let Some(migration) = self.migration()? {
                Box::pin(self.migrate(migration)).await?;
                continue;
            }
            let doubtful = !self.in_doubt.is_empty();
            // Whoever waits for an answer does not wait for all records that there are.
            if !doubtful && let Ok(command) = commands.try_recv() {
                self.obey(command).await?;
                continue;
            }
            let core = self.journal.core();
            let parked = core.parked();
            if let Some(due) = parked.due(clock::now_ms()).filter(|_| !doubtful) {
                let due = due.clone();
                let range = visible.log_start_offset..visible.high_watermark;
                if due.batch.is_empty() && !range.contains(&due.offset) {
                    self.give_up(due).await?;
                } else {
                    let tried = Box::pin(self.try_again(due)).await;
                    self.unless_begun_again(tried)?;
                }
                continue;
            }
            let waits =
                !parked.is_empty() && self.shared.spec.on_failure.holds_back == HoldBack::Partition;
            let blocked = waits || !parked.has_room();
            // Records that retention has taken are not there to be handled.
            let offset = core.next_offset().max(visible.log_start_offset);
            let until = until.unwrap_or(Offset::MAX);
            let more_records = !blocked && offset < visible.high_watermark.min(until);
            // Where a call of timers always sets further ones, records have their turn in between.
            let timers_turn = !(waits || doubtful || self.after_timers && more_records);
            let fired = self.due_timers().filter(|_| timers_turn);
            self.after_timers = fired.is_some();
            if let Some(fired) = fired {
                let fired = Box::pin(self.fire(fired)).await;
                self.unless_begun_again(fired)?;
                continue;
            }
            if more_records {
                let went_on = Box::pin(self.go_on(offset, until)).await;
                self.unless_begun_again(went_on)?;
                continue;
            }
            let timers = core.timers().next_due_ms();
            let timers = timers.filter(|_| self.shared.plugin.handles_timers() && !waits);
            let due = parked.next_due_ms().into_iter().chain(timers).min();
            let due = due.map(wait_until);
            let look = self.state.next_look();
            tokio::select! {
                changed = changes.changed(), if !blocked => {
                    // The partition is gone with its broker.
                    if changed.is_err() {
                        return Ok(Ended::Stopped);
                    }
                }
                _ = stopped.changed() => {}
                _ = held.changed() => {}
                _ = bounds.changed() => {}
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => {
                    self.state.look_after(&self.journal).await?;
                }
                settled = self.journal.settle_oldest() => settled?,
                () = self.mirror.heard() => {}
                Some(command) = commands.recv() => self.obey(command).await?,
            }
        }
    }

    /// Tells the group all that is done, and notes that in the journal: what is committed from outside from now on
    /// counts though nobody is there to see it, and is told from what this worker has told by its being another one.
    async fn tell_group(&mut self) -> Result<(), Trouble> {
        let offset = self.journal.core().next_offset();
        let told = self.mirror.finish(offset).await;
        // What is in doubt is handled again before anything else is.
        let noted = self.journal.core().group_offset() == offset || !self.in_doubt.is_empty();
        if !told || noted {
            return Ok(());
        }
        self.journal.make_room().await?;
        let mut commit = self.journal.commit(clock::now_ms());
        commit.note_group_offset(offset);
        let commit = commit.finish();
        let commit = commit.map_err(|error| journal::refused(&error))?;
        self.commit(commit, StateChanges::default(), Growth::AtMost)
            .await?;
        Ok(self.journal.settle_all().await?)
    }

    /// What was done, but that it was interrupted, or too much, is no trouble: it is begun again, or
    /// never.
    fn unless_begun_again(&mut self, done: Result<(), Trouble>) -> Result<(), Trouble> {
        if std::mem::take(&mut self.begin_again) {
            return Ok(());
        }
        done
    }

    async fn obey(&mut self, command: WorkerCommand) -> Result<(), Trouble> {
        // It works: there is nothing to resume.
        let WorkerCommand::TryAgain { again, done } = command else {
            return Ok(());
        };
        let Again {
            letters,
            mut records,
            mut timers,
        } = again;
        // A failure after they were handed back, and before they were deleted, lets them come again.
        let handed_back = self.journal.core().handed_back(&letters);
        records.retain(|(place, _)| Some(*place) > handed_back);
        timers.retain(|(place, _)| Some(*place) > handed_back);
        let places = records.iter().map(|it| it.0);
        let Some(last) = places.chain(timers.iter().map(|it| it.0)).max() else {
            let _ = done.send(Ok(()));
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
        for (_, timer) in timers {
            commit.set_timer(timer);
        }
        let commit = records
            .into_iter()
            .try_for_each(|(_, record)| commit.park(for_journal(record)))
            .and_then(|()| commit.hand_back(letters, last))
            .and_then(|()| commit.finish());
        let commit = match commit {
            Ok(commit) => commit,
            Err(error) => {
                let _ = done.send(Err(journal::refused(&error)));
                return Ok(());
            }
        };
        self.commit(commit, StateChanges::default(), Growth::AtMost)
            .await?;
        self.publish();
        let _ = done.send(Ok(()));
        Ok(())
    }

    /// Makes a commit count, with its changes of the guest's state.
    async fn commit(
        &mut self,
        commit: Commit,
        changes: StateChanges,
        growth: Growth,
    ) -> Result<(), WireError> {
        self.journal.append(commit).await?;
        self.commits += 1;
        self.state.apply(changes, growth, &self.journal);
        self.state.look_after(&self.journal).await
    }

    fn log(&self, level: LogLevel, message: String) {
        self.shared.log(&self.input, level, message);
    }

    /// Makes what came of a call count, all of it or nothing.
    async fn settle(&mut self, turn: Turn, work: Work) -> Result<Settled, Trouble> {
        let growth = match self.state.admit(&turn.state, &self.journal).await? {
            Ok(growth) => growth,
            Err(full) => {
                self.instance = None;
                return Ok(Settled::TooLarge(Unsettled {
                    input: turn.input,
                    failed: turn.failed,
                    reason: full.to_string(),
                }));
            }
        };
        let books = Books {
            shared: &self.shared,
            input: &self.input,
            journal: &self.journal,
            group_offset: self.mirror.told(),
        };
        let prepared = match books.prepare(turn, work) {
            Ok(prepared) => prepared,
            Err(unsettled) => {
                // What it remembers of the call is not to be.
                self.instance = None;
                return Ok(Settled::TooLarge(unsettled));
            }
        };
        let Prepared {
            commit,
            direct,
            state,
            tally,
        } = prepared;
        self.journal.send_directly(direct).await?;
        self.commit(commit, state, growth).await?;
        for (log, failed) in [
            (&self.given_up, tally.given_up),
            (&self.tried_again, tally.tried_again),
        ] {
            for failed in failed {
                log.tell(&self.shared, &self.input, failed);
            }
        }
        self.pause = tally.pause;
        self.progress.change(|progress| {
            progress.state = None;
            progress.records_in += tally.records_in;
            progress.rate.add(tally.records_in, Instant::now());
            progress.records_out += tally.records_out;
            progress.dead_letters += tally.dead_letters;
            progress.skipped += tally.skipped;
        });
        Ok(Settled::Yes)
    }

    /// Notes which outputs have arrived, and waits for some if there is no room for another commit.
    async fn note_arrivals(&mut self) -> Result<(), Trouble> {
        self.journal.look()?;
        self.journal.make_room().await?;
        self.publish();
        Ok(())
    }

    /// Tells how far the worker is: what has arrived, not only what is sure to.
    fn publish(&mut self) {
        let offset = self.journal.arrived_offset();
        let parked = self.journal.parked() as u64;
        let timers = self.journal.core().timers().len() as u64;
        let unsettled = self.due_timers().is_some() || !self.in_doubt.is_empty();
        self.progress.change(|progress| {
            progress.next_offset = offset;
            progress.parked = parked;
            progress.timers = timers;
            progress.unsettled = unsettled;
        });
        self.mirror.tell(offset);
    }
}

/// How long from now until a time.
fn wait_until(due_ms: TimestampMs) -> Duration {
    let wait_ms = due_ms.saturating_sub(clock::now_ms());
    Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
}

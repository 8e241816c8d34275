//! What came of a call, put into one commit: outputs, changes of state and timers, and what becomes of
//! each record, or timer, that failed.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::api::plugin::{DeliveryGuarantee, TimerClock};
use millstream_protocol::batch::{BatchBuilder, BatchError};
use millstream_protocol::{Offset, TimestampMs};
use millstream_runtime::{StateChanges, TimerChanges};
use millstream_worker::{
    Commit, CommitBuilder, CommitError, ParkedRecord, StateWriter, Timer, Verdict, last_resort,
    verdict,
};

use crate::clock;
use crate::partition::Partition;
use crate::workers::dead_letter::{Letters, Origin};
use crate::workers::deployment::Shared;
use crate::workers::failure_log::Failed;
use crate::workers::input::{Input, for_journal};
use crate::workers::journal::WorkerJournal;
use crate::workers::outlets::Target;
use crate::workers::turn::{FailedRecord, FailedTimer, Failure, Turn};

/// A parked record that was tried once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) offset: Offset,
    /// How often it had been tried before.
    pub(crate) attempts: u32,
}

/// What a turn was about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// The next records.
    Next,
    /// A parked record that was tried once more.
    Parked(Tried),
    /// Timers that have fired.
    Timers,
}

/// What is needed to settle a turn.
pub(crate) struct Books<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) input: &'a Partition,
    pub(crate) journal: &'a WorkerJournal,
    /// What the group is known to have.
    pub(crate) group_offset: Offset,
}

/// A turn that is ready to count.
pub(crate) struct Prepared {
    pub(crate) commit: Commit,
    /// What goes to its topics before the commit, without the journal.
    pub(crate) direct: Vec<(Target, Bytes)>,
    /// To be applied after the commit.
    pub(crate) state: StateChanges,
    pub(crate) tally: Tally,
}

/// A call that does not count.
pub(crate) struct Unsettled {
    /// What it was made with.
    pub(crate) input: Input,
    /// What has failed of it by itself, and is not in the input any more.
    pub(crate) failed: Vec<FailedRecord>,
    /// Why it does not count.
    pub(crate) reason: String,
}

/// What is told of a turn once it counts.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    /// A record has failed for good, and the worker is to stand still in front of it.
    pub(crate) pause: Option<String>,
    pub(crate) given_up: Vec<Failed>,
    /// What is to be tried again, and was not told when it failed.
    pub(crate) tried_again: Vec<Failed>,
}

impl Books<'_> {
    /// Puts the commit of a turn together.
    ///
    /// # Errors
    ///
    /// It does not fit into one. The input is handed back, to be called in smaller parts.
    pub(crate) fn prepare(&self, turn: Turn, work: Work) -> Result<Prepared, Unsettled> {
        let Turn {
            mut input,
            fired,
            outputs,
            direct,
            state,
            timers,
            calls: _,
            records_in,
            records_out,
            failed,
            failed_timers,
        } = turn;
        let held = std::mem::take(&mut input.held);
        let mut tally = Tally {
            records_in,
            records_out,
            ..Tally::default()
        };
        let now_ms = clock::now_ms();
        let build = || {
            let mut commit = self.journal.commit(now_ms);
            commit.note_group_offset(self.group_offset);
            let failed_again = |offset| failed.iter().any(|it| it.record.offset == offset);
            match work {
                Work::Next => {
                    commit.advance_to(input.next_offset);
                    commit.reach(input.max_timestamp_ms);
                }
                Work::Parked(tried) if failed_again(tried.offset) => {}
                Work::Parked(tried) => commit.release(tried.offset)?,
                Work::Timers => {}
            }
            let tried = match work {
                Work::Parked(tried) => Some(tried),
                Work::Next | Work::Timers => None,
            };
            let mut letters = Letters::new(&self.shared.dead_letters, self.input.id().partition);
            for failed in &failed {
                self.judge(failed, tried, now_ms, &mut commit, &mut letters, &mut tally)?;
            }
            for timer in &fired {
                commit.remove_timer(timer.clock, timer.key.clone());
            }
            for failed in &failed_timers {
                self.judge_timer(failed, now_ms, &mut commit, &mut letters, &mut tally)?;
            }
            // What the guest wants counts more.
            put_changes(&mut commit, &state, &timers)?;
            // One that cannot take a state over finds it in the form in which it is.
            let plugin = &self.shared.plugin;
            if plugin.migrates_state() || self.journal.core().writer().is_none() {
                commit.note_writer(StateWriter::new(plugin.digest()));
            }
            for held in &held {
                commit.park(for_journal(held.clone()))?;
            }
            let outputs = outputs.into_iter().chain(letters.finish());
            if self.shared.spec.delivery == DeliveryGuarantee::AtLeastOnce {
                let unstamped = |(target, batch): (Target, BatchBuilder)| {
                    Ok::<_, BatchError>((target, batch.finish(None)?))
                };
                let direct = outputs.map(unstamped).collect::<Result<_, _>>()?;
                return Ok::<_, CommitError>((commit.finish()?, direct));
            }
            for (target, batch) in outputs {
                commit.emit(target.id(), batch)?;
            }
            let targets: Vec<Target> = direct.iter().map(|it| it.0.clone()).collect();
            for (target, batch) in direct {
                commit.emit_direct(target.id(), batch)?;
            }
            let mut commit = commit.finish()?;
            let batches = std::mem::take(&mut commit.direct).into_iter();
            let batches = batches.map(|output| output.batch);
            Ok((commit, targets.into_iter().zip(batches).collect()))
        };
        match build() {
            Ok((commit, direct)) => Ok(Prepared {
                commit,
                direct,
                state,
                tally,
            }),
            Err(error) => {
                input.held = held;
                Err(Unsettled {
                    input,
                    failed,
                    reason: error.to_string(),
                })
            }
        }
    }

    /// Says what becomes of a record that failed.
    fn judge(
        &self,
        failed: &FailedRecord,
        tried: Option<Tried>,
        now_ms: TimestampMs,
        commit: &mut CommitBuilder<'_>,
        letters: &mut Letters<'_>,
        tally: &mut Tally,
    ) -> Result<(), CommitError> {
        let policy = &self.shared.spec.on_failure;
        let record = &failed.record;
        let attempts = 1 + tried.map_or(0, |tried| tried.attempts);
        let parked = |due_ms| {
            for_journal(ParkedRecord {
                attempts,
                due_ms,
                ..record.clone()
            })
        };
        let verdict = match failed.failure {
            Failure::Rejected => last_resort(policy),
            Failure::Retry(after_ms) => verdict(policy, attempts, after_ms, now_ms),
            Failure::Broke => verdict(policy, attempts, 0, now_ms),
            // Nothing is there to stand still in front of.
            Failure::Gone => match last_resort(policy) {
                Verdict::Pause => Verdict::Skip,
                verdict => verdict,
            },
        };
        let place = format!(
            "offset {}, attempt {attempts}: {}",
            record.offset, record.reason
        );
        let told = |line| Failed {
            offset: record.offset,
            line,
        };
        match verdict {
            Verdict::Retry { due_ms } => {
                if failed.failure != Failure::Broke {
                    let again = again_in(now_ms, due_ms);
                    tally.tried_again.push(told(format!("{place}: {again}")));
                }
                return commit.park(parked(due_ms));
            }
            Verdict::Pause => {
                tally.pause = Some(place);
                return commit.park(parked(now_ms));
            }
            Verdict::Skip => {
                tally.skipped += 1;
                tally.given_up.push(told(format!("{place}: skipped")));
            }
            Verdict::DeadLetter => {
                let origin = Origin {
                    deployment: &self.shared.spec.name,
                    plugin: self.shared.plugin.digest(),
                    topic: self.input.topic(),
                    partition: self.input.id().partition,
                    offset: record.offset,
                    timer: None,
                    attempts,
                    reason: &record.reason,
                };
                letters.add(&origin, record)?;
                tally.dead_letters += 1;
                tally
                    .given_up
                    .push(told(format!("{place}: a dead letter now")));
            }
        }
        match tried {
            Some(tried) => commit.release(tried.offset),
            None => Ok(()),
        }
    }

    /// Says what becomes of a timer that failed.
    fn judge_timer(
        &self,
        failed: &FailedTimer,
        now_ms: TimestampMs,
        commit: &mut CommitBuilder<'_>,
        letters: &mut Letters<'_>,
        tally: &mut Tally,
    ) -> Result<(), CommitError> {
        let policy = &self.shared.spec.on_failure;
        let FailedTimer {
            timer,
            failure,
            reason,
        } = failed;
        let attempts = timer.attempts + 1;
        let again = |not_before_ms| Timer {
            attempts,
            not_before_ms,
            ..timer.clone()
        };
        let verdict = match failure {
            Failure::Rejected | Failure::Gone => last_resort(policy),
            Failure::Retry(after_ms) => verdict(policy, attempts, *after_ms, now_ms),
            Failure::Broke => verdict(policy, attempts, 0, now_ms),
        };
        let place = format!("{}, attempt {attempts}: {reason}", timer_name(timer));
        let told = |line| Failed {
            offset: self.journal.core().next_offset(),
            line,
        };
        match verdict {
            Verdict::Retry { due_ms } => {
                if *failure != Failure::Broke {
                    let in_time = again_in(now_ms, due_ms);
                    tally.tried_again.push(told(format!("{place}: {in_time}")));
                }
                commit.set_timer(again(due_ms));
            }
            Verdict::Pause => {
                tally.pause = Some(place);
                commit.set_timer(again(now_ms));
            }
            Verdict::Skip => {
                tally.skipped += 1;
                tally.given_up.push(told(format!("{place}: skipped")));
            }
            Verdict::DeadLetter => {
                let origin = Origin {
                    deployment: &self.shared.spec.name,
                    plugin: self.shared.plugin.digest(),
                    topic: self.input.topic(),
                    partition: self.input.id().partition,
                    offset: self.journal.core().next_offset(),
                    timer: Some((timer.clock, timer.at_ms)),
                    attempts,
                    reason,
                };
                letters.add_timer(&origin, timer)?;
                tally.dead_letters += 1;
                tally
                    .given_up
                    .push(told(format!("{place}: a dead letter now")));
            }
        }
        Ok(())
    }
}

/// When it is tried again, for people.
fn again_in(now_ms: TimestampMs, due_ms: TimestampMs) -> String {
    let wait_ms = due_ms.saturating_sub(now_ms).max(0);
    let wait = Duration::from_millis(wait_ms.unsigned_abs());
    format!("again in {wait:?}")
}

/// Puts what a call has changed of what outlives it into a commit.
pub(crate) fn put_changes(
    commit: &mut CommitBuilder<'_>,
    state: &StateChanges,
    timers: &TimerChanges,
) -> Result<(), CommitError> {
    for (clock, key, at_ms) in timers.iter() {
        let key = Bytes::copy_from_slice(key);
        match at_ms {
            Some(at_ms) => commit.set_timer(Timer::new(clock, key, at_ms)),
            None => commit.remove_timer(clock, key),
        }
    }
    for (key, value) in state.iter() {
        commit.change_state(key, value)?;
    }
    Ok(())
}

/// A timer, as a person knows it.
pub(crate) fn timer_name(timer: &Timer) -> String {
    let clock = match timer.clock {
        TimerClock::RecordTime => "record time",
        TimerClock::WallTime => "wall time",
    };
    format!(
        "timer \"{}\" at {clock} {}",
        timer.key.escape_ascii(),
        timer.at_ms
    )
}

//! A guest at work on records, without a broker: calls, and what is done about those that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::{Offset, TimestampMs};
use millstream_runtime::{
    CallError, Emit, Instance, MemoryState, Metric, Outcome, Outcomes, Plugin, StartError,
    StateChanges, StateFull, TimerChanges, WorkerSetup,
};
use millstream_worker::limits::{MAX_FIRED_TIMERS, MAX_TIMER_BYTES, MAX_TIMERS};
use millstream_worker::{Timer, Timers};

use super::cause::{Callable, Cause};
use super::input::InputRecord;
use super::log::{At, Place};
use crate::errors::{Exit, LOOK_AT_INIT, Problem};

/// Calls with timers that may follow each other, without one with records in between.
const MAX_TIMER_CALLS: usize = 1_000;

/// What is told of a record or a timer, or of a call.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// It gave a record.
    Emitted(Cause<'a>, Emit<'a>),
    /// The guest rejected it.
    Rejected(Cause<'a>, &'a str),
    /// The guest wants it again, not before this has passed, milliseconds. Here it does not get it.
    Retried(Cause<'a>, u32, &'a str),
    /// A call with it alone failed.
    Failed(Cause<'a>, &'a Failure),
    /// A call with several failed. What comes next is the search for the one at fault.
    CallFailed(At, &'a Failure),
}

/// Takes what is told.
pub(super) type Tell<'t> = dyn FnMut(Told<'_>) -> anyhow::Result<()> + 't;

/// Why a call failed. Nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    State(#[from] StateFull),
    #[error(transparent)]
    Timers(#[from] TooManyTimers),
}

/// More timers would wait than may wait.
#[derive(Debug, thiserror::Error)]
#[error(
    "{number} timers of {bytes} bytes would wait, more than {MAX_TIMERS} or {MAX_TIMER_BYTES} bytes"
)]
pub(super) struct TooManyTimers {
    number: usize,
    bytes: usize,
}

/// What a run came to, so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) calls: u64,
    pub(super) emitted: u64,
    pub(super) rejected: u64,
    pub(super) retried: u64,
    /// Timers that have fired.
    pub(super) timers: u64,
    /// Records whose call failed with them alone.
    pub(super) failed: u64,
    /// Timers whose call failed with them alone.
    pub(super) failed_timers: u64,
    /// Calls that failed as they were first made.
    pub(super) failed_calls: u64,
    /// Within the guest.
    pub(super) time: Duration,
}

/// One worker and what it leaves behind.
pub(super) struct Session {
    plugin: Plugin,
    setup: WorkerSetup,
    state: Arc<MemoryState>,
    timers: Timers,
    /// The greatest time of a record that was handled.
    record_time_ms: TimestampMs,
    /// The first offset that was not.
    position: Offset,
    place: Arc<Place>,
    instance: Option<Instance>,
    tally: Tally,
    /// Of instances that are gone.
    log_lines_dropped: u64,
}

impl Session {
    /// Keys of the configuration that the plugin has not asked for, if that is known.
    pub(super) fn unasked(&self) -> Vec<&str> {
        self.setup.metrics.unasked(&self.setup.config)
    }

    /// A worker with an empty state; `setup.state` is set here. `place` is told before each call
    /// which records it has.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) fn start(
        plugin: Plugin,
        setup: WorkerSetup,
        place: Arc<Place>,
    ) -> Result<Self, Problem> {
        let state = Arc::new(MemoryState::default());
        let setup = WorkerSetup {
            state: Arc::clone(&state) as _,
            ..setup
        };
        let mut session = Self {
            plugin,
            setup,
            state,
            timers: Timers::default(),
            record_time_ms: TimestampMs::MIN,
            position: 0,
            place,
            instance: None,
            tally: Tally::default(),
            log_lines_dropped: 0,
        };
        session.instance = Some(session.instantiate()?);
        Ok(session)
    }

    fn instantiate(&self) -> Result<Instance, Problem> {
        self.place.set(At::Init);
        self.plugin
            .start(self.setup.clone())
            .map_err(|error| does_not_start(&error))
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Keys in the state.
    pub(super) fn state_entries(&self) -> usize {
        self.state.len()
    }

    /// Timers that have not fired.
    pub(super) fn timers_waiting(&self) -> usize {
        self.timers.len()
    }

    /// What the guest has measured, over all its instances.
    pub(super) fn metrics(&self) -> Vec<(String, Metric)> {
        self.setup.metrics.list()
    }

    /// Log lines that were too many in a second.
    pub(super) fn log_lines_dropped(&self) -> u64 {
        let now = self
            .instance
            .as_ref()
            .map_or(0, Instance::log_lines_dropped);
        self.log_lines_dropped + now
    }

    /// Has the guest handle records that follow each other in one call, and then the timers whose time
    /// the records have reached.
    pub(super) fn call(
        &mut self,
        records: &[InputRecord],
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        self.tally.records += records.len() as u64;
        self.tally.failed += self.call_narrowing(&records.iter().collect::<Vec<_>>(), tell)?;
        if let Some(last) = records.last() {
            self.position = last.offset + 1;
        }
        let times = records.iter().map(|record| record.timestamp_ms);
        self.record_time_ms = times.fold(self.record_time_ms, TimestampMs::max);
        // Nothing is due by the wall: a file of records has no clock there.
        self.fire(self.record_time_ms, TimestampMs::MIN, tell)
    }

    /// Fires every timer that waits, as if all clocks went on to the time of the last one. What is set
    /// meanwhile for a later time waits.
    pub(super) fn fire_all(&mut self, tell: &mut Tell<'_>) -> anyhow::Result<()> {
        let end = TimestampMs::MAX;
        match self.timers.due(end, end, usize::MAX).last() {
            Some(last) => self.fire(last.at_ms, last.at_ms, tell),
            None => Ok(()),
        }
    }

    /// Fires timers until none is due.
    fn fire(
        &mut self,
        record_time_ms: TimestampMs,
        wall_time_ms: TimestampMs,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        for _ in 0..MAX_TIMER_CALLS {
            let due = self
                .timers
                .due(record_time_ms, wall_time_ms, MAX_FIRED_TIMERS);
            if due.is_empty() {
                return Ok(());
            }
            self.tally.timers += due.len() as u64;
            // They are gone whatever comes of them, unless the guest sets them again.
            due.iter().for_each(|timer| self.timers.remove(&timer.id()));
            let due: Vec<&Timer> = due.iter().collect();
            self.tally.failed_timers += self.call_narrowing(&due, tell)?;
        }
        let message =
            format!("timers have fired in {MAX_TIMER_CALLS} calls on end, and more are due");
        Err(Problem::new(Exit::Failure, message)
            .advise("a timer that sets a timer for a time that has come never ends: set it for a later one")
            .into())
    }

    /// Has the guest handle these in one call. When that fails, it is called with halves of them until
    /// the one is found at which it fails; the others count. Returns how many failed.
    fn call_narrowing<C: Callable>(
        &mut self,
        these: &[&C],
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<u64> {
        let Some(failure) = self.attempt(these, tell)? else {
            return Ok(0);
        };
        self.tally.failed_calls += 1;
        if let [first, _, ..] = these
            && let Some(last) = these.last()
        {
            tell(Told::CallFailed(C::at(first, last), &failure))?;
        }
        self.narrow(these, &failure, tell)
    }

    /// Handles what a call has failed at, in halves. Returns how many failed.
    fn narrow<C: Callable>(
        &mut self,
        these: &[&C],
        failure: &Failure,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<u64> {
        if let [this] = these {
            tell(Told::Failed(this.cause(), failure))?;
            return Ok(1);
        }
        let mut failed = 0;
        let (first, second) = these.split_at(these.len() / 2);
        for half in [first, second] {
            if let Some(failure) = self.attempt(half, tell)? {
                failed += self.narrow(half, &failure, tell)?;
            }
        }
        Ok(failed)
    }

    /// One call. A failure leaves no trace, and takes the instance with it.
    ///
    /// What is to be retried leaves no trace in the state or the timers either: as in a broker, the
    /// others are then handled again without it, by an instance that has not seen it.
    fn attempt<C: Callable>(
        &mut self,
        these: &[&C],
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<Option<Failure>> {
        let mut these = these.to_vec();
        let mut set_aside = Vec::new();
        while let [first, .., last] | [first @ last] = these[..] {
            let mut instance = match self.instance.take() {
                Some(instance) => instance,
                None => self.instantiate()?,
            };
            self.place.set(C::at(first, last));
            let began = Instant::now();
            let handled = C::call(&mut instance, &these, self.position)?;
            self.tally.time += began.elapsed();
            self.tally.calls += 1;
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) => {
                    self.retire(&instance);
                    return Ok(Some(error.into()));
                }
            };
            let changed = !handled.state.is_empty() || !handled.timers.is_empty();
            if handled.outcomes.retried() > 0 && changed {
                self.retire(&instance);
                take_retried(&mut these, &handled.outcomes, &mut set_aside);
                continue;
            }
            if let Err(failure) = self.keep(handled.state, &handled.timers) {
                self.retire(&instance);
                return Ok(Some(failure));
            }
            self.instance = Some(instance);
            self.tell_outcomes(&these, &handled.outcomes, tell)?;
            break;
        }
        for (this, after_ms, reason) in &set_aside {
            self.tally.retried += 1;
            tell(Told::Retried(this.cause(), *after_ms, reason))?;
        }
        Ok(None)
    }

    /// Keeps what a call has changed, all of it or nothing.
    fn keep(&mut self, state: StateChanges, timers: &TimerChanges) -> Result<(), Failure> {
        self.state.check_room(&state)?;
        if !timers.is_empty() {
            self.timers = changed(&self.timers, timers)?;
        }
        self.state.apply(state);
        Ok(())
    }

    fn tell_outcomes<C: Callable>(
        &mut self,
        these: &[&C],
        outcomes: &Outcomes,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        self.tally.emitted += u64::from(outcomes.emitted());
        self.tally.rejected += u64::from(outcomes.rejected());
        self.tally.retried += u64::from(outcomes.retried());
        for outcome in outcomes {
            // An outcome of nothing that the call had was refused with it.
            let Some(this) = these.get(outcome.input() as usize) else {
                continue;
            };
            tell(match outcome {
                Outcome::Emit(emit) => Told::Emitted(this.cause(), emit),
                Outcome::Reject { reason, .. } => Told::Rejected(this.cause(), reason),
                Outcome::Retry {
                    after_ms, reason, ..
                } => Told::Retried(this.cause(), after_ms, reason),
            })?;
        }
        Ok(())
    }

    /// Keeps what is told of an instance that is not called again.
    fn retire(&mut self, instance: &Instance) {
        self.log_lines_dropped += instance.log_lines_dropped();
    }
}

/// The timers as a call has changed them.
fn changed(timers: &Timers, changes: &TimerChanges) -> Result<Timers, TooManyTimers> {
    let mut changed = timers.clone();
    for (clock, key, at_ms) in changes.iter() {
        let key = Bytes::copy_from_slice(key);
        match at_ms {
            Some(at_ms) => changed.set(Timer::new(clock, key, at_ms)),
            None => changed.remove(&(clock, key)),
        }
    }
    let (number, bytes) = (changed.len(), changed.bytes());
    let more = number > timers.len() || bytes > timers.bytes();
    if more && (number > MAX_TIMERS || bytes > MAX_TIMER_BYTES) {
        return Err(TooManyTimers { number, bytes });
    }
    Ok(changed)
}

/// Takes what is to be retried out of a call.
fn take_retried<'c, C>(
    these: &mut Vec<&'c C>,
    outcomes: &Outcomes,
    set_aside: &mut Vec<(&'c C, u32, String)>,
) {
    let mut retried = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Retry {
                input,
                after_ms,
                reason,
            } => Some((input, after_ms, reason)),
            Outcome::Emit(_) | Outcome::Reject { .. } => None,
        })
        .peekable();
    let mut index = 0;
    these.retain(|it| {
        let this = retried.next_if(|(input, ..)| *input == index);
        index += 1;
        if let Some((_, after_ms, reason)) = this {
            set_aside.push((*it, after_ms, reason.to_owned()));
        }
        this.is_none()
    });
}

fn does_not_start(error: &StartError) -> Problem {
    let advice = match error {
        StartError::Refused(_) => {
            "`--output-name` declares an output, `--config` sets a value, `--table` fills a table; a deployment file (`-f`) declares all three"
        }
        StartError::Failed(_) => LOOK_AT_INIT,
    };
    Problem::new(Exit::Failure, format!("the plugin does not start: {error}")).advise(advice)
}

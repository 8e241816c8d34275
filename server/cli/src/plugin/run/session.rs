//! A guest at work on records, without a broker: calls, and what is done about those that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_runtime::{
    CallError, Emit, Handled, Instance, MemoryState, Metric, Outcome, Outcomes, Plugin, StartError,
    StateFull, WorkerSetup,
};

use super::input::{InputRecord, batches};
use super::log::Place;
use crate::errors::{Exit, Problem};

/// What is told of a record, or of a call.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// The record gave another.
    Emitted(&'a InputRecord, Emit<'a>),
    /// The guest rejected the record.
    Rejected(&'a InputRecord, &'a str),
    /// The guest wants the record again, not before this has passed, milliseconds. Here it does not
    /// get it.
    Retried(&'a InputRecord, u32, &'a str),
    /// A call with the record alone failed.
    Failed(&'a InputRecord, &'a Failure),
    /// A call with all of these failed. What comes next is the search for the record.
    CallFailed(&'a [&'a InputRecord], &'a Failure),
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
}

/// What a run came to, so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) calls: u64,
    pub(super) emitted: u64,
    pub(super) rejected: u64,
    pub(super) retried: u64,
    /// Records whose call failed with them alone.
    pub(super) failed: u64,
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
    place: Arc<Place>,
    instance: Option<Instance>,
    tally: Tally,
    /// Of instances that are gone.
    log_lines_dropped: u64,
}

impl Session {
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
            place,
            instance: None,
            tally: Tally::default(),
            log_lines_dropped: 0,
        };
        session.instance = Some(session.instantiate()?);
        Ok(session)
    }

    fn instantiate(&self) -> Result<Instance, Problem> {
        self.place.init();
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

    /// Has the guest handle records that follow each other in one call. When that fails, it is
    /// called with halves of them until the record is found at which it fails; the others count.
    pub(super) fn call(
        &mut self,
        records: &[InputRecord],
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        self.tally.records += records.len() as u64;
        let records: Vec<&InputRecord> = records.iter().collect();
        let Some(failure) = self.attempt(&records, tell)? else {
            return Ok(());
        };
        self.tally.failed_calls += 1;
        if records.len() > 1 {
            tell(Told::CallFailed(&records, &failure))?;
        }
        self.narrow(&records, &failure, tell)
    }

    /// Handles what a call has failed at, in halves.
    fn narrow(
        &mut self,
        records: &[&InputRecord],
        failure: &Failure,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        if let [record] = records {
            self.tally.failed += 1;
            return tell(Told::Failed(record, failure));
        }
        let (first, second) = records.split_at(records.len() / 2);
        for half in [first, second] {
            if let Some(failure) = self.attempt(half, tell)? {
                self.narrow(half, &failure, tell)?;
            }
        }
        Ok(())
    }

    /// One call. A failure leaves no trace, and takes the instance with it.
    ///
    /// A record that is to be retried leaves no trace in the state either: as in a broker, the others
    /// are then handled again without it, by an instance that has not seen it.
    fn attempt(
        &mut self,
        records: &[&InputRecord],
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<Option<Failure>> {
        let mut records = records.to_vec();
        let mut set_aside = Vec::new();
        while let [first, .., last] | [first @ last] = records[..] {
            let mut instance = match self.instance.take() {
                Some(instance) => instance,
                None => self.instantiate()?,
            };
            self.place.records(first.offset, last.offset);
            let batches = batches(&records)?;
            let began = Instant::now();
            let handled = instance.handle(&batches);
            self.tally.time += began.elapsed();
            self.tally.calls += 1;
            // Nothing fires: a file of records has no clock.
            let Handled {
                outcomes, state, ..
            } = match handled {
                Ok(handled) => handled,
                Err(error) => {
                    self.retire(&instance);
                    return Ok(Some(error.into()));
                }
            };
            if outcomes.retried() > 0 && !state.is_empty() {
                self.retire(&instance);
                take_retried(&mut records, &outcomes, &mut set_aside);
                continue;
            }
            if let Err(full) = self.state.check_room(&state) {
                self.retire(&instance);
                return Ok(Some(full.into()));
            }
            self.state.apply(state);
            self.instance = Some(instance);
            self.tell_outcomes(&records, &outcomes, tell)?;
            break;
        }
        for (record, after_ms, reason) in &set_aside {
            self.tally.retried += 1;
            tell(Told::Retried(record, *after_ms, reason))?;
        }
        Ok(None)
    }

    fn tell_outcomes(
        &mut self,
        records: &[&InputRecord],
        outcomes: &Outcomes,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<()> {
        self.tally.emitted += u64::from(outcomes.emitted());
        self.tally.rejected += u64::from(outcomes.rejected());
        self.tally.retried += u64::from(outcomes.retried());
        for outcome in outcomes {
            // An outcome of no record was refused with the call.
            let Some(record) = records.get(outcome.input() as usize) else {
                continue;
            };
            tell(match outcome {
                Outcome::Emit(emit) => Told::Emitted(record, emit),
                Outcome::Reject { reason, .. } => Told::Rejected(record, reason),
                Outcome::Retry {
                    after_ms, reason, ..
                } => Told::Retried(record, after_ms, reason),
            })?;
        }
        Ok(())
    }

    /// Keeps what is told of an instance that is not called again.
    fn retire(&mut self, instance: &Instance) {
        self.log_lines_dropped += instance.log_lines_dropped();
    }
}

/// Takes the records that are to be retried out of a call.
fn take_retried<'r>(
    records: &mut Vec<&'r InputRecord>,
    outcomes: &Outcomes,
    set_aside: &mut Vec<(&'r InputRecord, u32, String)>,
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
    records.retain(|record| {
        let this = retried.next_if(|(input, ..)| *input == index);
        index += 1;
        if let Some((_, after_ms, reason)) = this {
            set_aside.push((*record, after_ms, reason.to_owned()));
        }
        this.is_none()
    });
}

fn does_not_start(error: &StartError) -> Problem {
    Problem::new(Exit::Failure, format!("the plugin does not start: {error}")).advise(
        "`--output-name` declares an output, `--config` sets a value; a deployment file (`-f`) does both",
    )
}

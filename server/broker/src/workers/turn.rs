//! One turn of a worker: call the guest once, and say what came of each record, or of each timer.
//! Runs on a thread that may block.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

use bytes::Bytes;
use millstream_protocol::api::plugin::HoldBack;
use millstream_protocol::batch::{AppendError, BatchBuilder, Compression, RecordBatch};
use millstream_protocol::partitioner::Partitioner;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, WireError};
use millstream_runtime::{
    CallError, Emit, FiredTimer, Handled, Instance, Outcome, Outcomes, StateChanges, TimerChanges,
};
use millstream_worker::limits::MAX_COMMIT_BYTES;
use millstream_worker::{ParkedRecord, Timer};

use crate::workers::input::{Entry, Input, first_too_many, parked, set_aside_bytes};
use crate::workers::outlets::Target;
use crate::workers::progress::SharedProgress;

/// A turn with outputs of so many bytes is settled: with those of one more call, one commit may not take
/// them.
const MAX_OPEN_OUTPUT_BYTES: usize = MAX_COMMIT_BYTES / 2;

/// A declared output and the partitions of its topic.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) partitions: Vec<Target>,
}

/// What a turn came to.
#[derive(Default)]
pub(crate) struct Turn {
    /// The records that were handled, and those that wait behind others.
    pub(crate) input: Input,
    /// The timers that have fired.
    pub(crate) fired: Vec<Timer>,
    /// What was emitted, in order for each partition.
    pub(crate) outputs: Vec<(Target, BatchBuilder)>,
    /// The same, of calls that are made again as they were after a crash.
    pub(crate) direct: Vec<(Target, BatchBuilder)>,
    /// The changes of the guest's state.
    pub(crate) state: StateChanges,
    /// What it has set and cancelled.
    pub(crate) timers: TimerChanges,
    /// How many calls of records it is of; none where there was nothing to be called with.
    pub(crate) calls: u32,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    /// Records that failed.
    pub(crate) failed: Vec<FailedRecord>,
    /// Timers that failed.
    pub(crate) failed_timers: Vec<FailedTimer>,
}

impl Turn {
    /// The turn of a call with a single record that failed as a whole. `failed` has it already if it had
    /// failed by itself, and then what became of the call did not count.
    pub(crate) fn failed(
        mut input: Input,
        mut failed: Vec<FailedRecord>,
        reason: String,
        holds_back: HoldBack,
    ) -> Result<Self, WireError> {
        let entries = input.entries()?;
        let offsets = entries.iter().map(|it| it.offset).collect();
        let mut alone = input.split(&offsets)?;
        for Entry { offset, key, .. } in entries {
            let key = key.filter(|_| holds_back == HoldBack::Key);
            let mut record = parked(offset, key, alone.remove(&offset).unwrap_or_default());
            record.reason.clone_from(&reason);
            let failure = Failure::Broke;
            failed.push(FailedRecord { record, failure });
        }
        if failed.is_empty() {
            // What it was is not known, and must not be passed over.
            let what = "a call failed, and its records are not known";
            return Err(WireError::new(ErrorCode::Internal, what));
        }
        let records_in = failed.len() as u64;
        input.clear();
        Ok(Self {
            input,
            records_in,
            failed,
            ..Self::default()
        })
    }

    /// Whether nothing of it is needed by the call that follows, so that one more may be a part of it.
    pub(crate) fn is_open(&self) -> bool {
        let output_bytes = self.outputs.iter().map(|(_, batch)| batch.encoded_bytes());
        self.failed.is_empty()
            && self.input.held.is_empty()
            && self.state.is_empty()
            && self.timers.is_empty()
            && output_bytes.sum::<usize>() < MAX_OPEN_OUTPUT_BYTES
    }

    /// Takes in a turn that came after it.
    pub(crate) fn append(&mut self, next: Self) {
        self.input.append(next.input);
        self.outputs.extend(next.outputs);
        self.state = next.state;
        self.timers = next.timers;
        self.calls += next.calls;
        self.records_in += next.records_in;
        self.records_out += next.records_out;
        self.failed = next.failed;
    }

    /// The turn of a call with a single timer that failed as a whole.
    pub(crate) fn failed_timer(timer: Timer, reason: String) -> Self {
        Self {
            fired: vec![timer.clone()],
            failed_timers: vec![FailedTimer {
                timer,
                failure: Failure::Broke,
                reason,
            }],
            ..Self::default()
        }
    }

    /// The turn of a parked record of which only the offset was kept, and that is not there any more.
    pub(crate) fn gone(record: ParkedRecord) -> Self {
        let reason = "the record is gone from its topic".to_owned();
        let failure = Failure::Gone;
        let record = ParkedRecord { reason, ..record };
        Self {
            failed: vec![FailedRecord { record, failure }],
            ..Self::default()
        }
    }
}

/// A record that failed.
pub(crate) struct FailedRecord {
    /// The record, with why it failed.
    pub(crate) record: ParkedRecord,
    /// How it failed.
    pub(crate) failure: Failure,
}

/// A timer that failed.
pub(crate) struct FailedTimer {
    pub(crate) timer: Timer,
    /// How it failed.
    pub(crate) failure: Failure,
    pub(crate) reason: String,
}

/// How a record, or a timer, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is bad and will always be.
    Rejected,
    /// It is to be tried again, not before this has passed, milliseconds.
    Retry(u32),
    /// The call that it was alone in failed as a whole, which has been told.
    Broke,
    /// It was to be tried again, and is not there any more.
    Gone,
}

/// Why a turn failed. Nothing of it counts, and the instance is gone.
pub(crate) enum TurnError {
    /// An instance does not start.
    Start(String),
    /// The input cannot be read.
    Input(WireError),
    /// The guest failed somewhere within these records, or within timers.
    Call { input: Input, error: CallError },
    /// More of the records fail, or wait behind those, than one commit takes: of the first so many, no
    /// more do than it takes.
    TooManyFail(u32),
    /// The same batch, from this offset on, came to something else the second time.
    NotDeterministic(Offset),
}

/// Whether a call of a deterministic guest is made twice, to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpotCheck {
    Yes,
    No,
}

impl From<WireError> for TurnError {
    fn from(error: WireError) -> Self {
        Self::Input(error)
    }
}

/// What a turn needs beside its input.
pub(crate) struct Setting<'a> {
    pub(crate) outputs: &'a [Output],
    pub(crate) input_partition: PartitionIndex,
    pub(crate) holds_back: HoldBack,
    /// After so many attempts the worker stands still in front of a record, and in front of one that is rejected
    /// at once; `None`: it goes on.
    pub(crate) pauses_after: Option<u32>,
    /// Where it is told how long calls take.
    pub(crate) progress: &'a SharedProgress,
}

impl Setting<'_> {
    /// Runs one turn. An instance is started when there is none. `bytes` are the input's, where they are in
    /// one piece already.
    pub(crate) fn run(
        &self,
        instance: &mut Option<Instance>,
        start: impl Fn() -> Result<Instance, String>,
        mut input: Input,
        mut bytes: Option<Bytes>,
    ) -> Result<Turn, TurnError> {
        let mut failed = Vec::new();
        let mut records_in = u64::from(input.records());
        loop {
            if input.is_empty() {
                return Ok(Turn {
                    input,
                    records_in,
                    failed,
                    ..Turn::default()
                });
            }
            // Taken: after any failure it must not be called again.
            let mut called = match instance.take() {
                Some(instance) => instance,
                None => start().map_err(TurnError::Start)?,
            };
            let bytes = bytes.take().unwrap_or_else(|| input.bytes());
            let began = Instant::now();
            let handled = called.handle(&bytes);
            self.progress.called(began.elapsed());
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) => return Err(TurnError::Call { input, error }),
            };
            let changed = has_changed(&handled);
            let Handled {
                outcomes,
                state,
                timers,
            } = handled;
            let (mut gathered, failures) = self.gather_without(&outcomes, &BTreeSet::new());
            if !failures.is_empty() {
                let retried = self.any_again(&failures);
                let (excluded, beyond) = self.set_aside(&mut input, &mut failed, failures)?;
                records_in -= beyond;
                if retried && changed {
                    // A record that is tried again leaves no trace in state and timers, and what the
                    // call has changed is not known record by record: the others are handled again
                    // without it, by an instance that has not seen it.
                    continue;
                }
                // What is left has been gathered before without a failure.
                (gathered, _) = self.gather_without(&outcomes, &excluded);
            }
            *instance = Some(called);
            return Ok(Turn {
                input,
                records_out: gathered.emitted,
                outputs: gathered.finish(),
                state,
                timers,
                calls: 1,
                records_in,
                failed,
                ..Turn::default()
            });
        }
    }

    /// Runs one turn of a deterministic guest: it is called once for each batch. A call with records
    /// that fail, and what follows it, is left for a turn of its own, which goes through the journal.
    pub(crate) fn run_stored(
        &self,
        instance: &mut Option<Instance>,
        start: &dyn Fn() -> Result<Instance, String>,
        batches: Vec<RecordBatch>,
        check: SpotCheck,
    ) -> Result<Turn, TurnError> {
        let mut turn = Turn::default();
        for (number, batch) in batches.into_iter().enumerate() {
            let first = number == 0;
            let input = Input::whole(batch);
            let mut called = match instance.take() {
                Some(instance) => instance,
                None => start().map_err(TurnError::Start)?,
            };
            let began = Instant::now();
            let handled = called.handle(&input.bytes());
            self.progress.called(began.elapsed());
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) if first => return Err(TurnError::Call { input, error }),
                Err(_) => break,
            };
            if first && check == SpotCheck::Yes {
                let mut fresh = start().map_err(TurnError::Start)?;
                // That the second call fails is as much of a difference.
                if fresh.handle(&input.bytes()).ok().as_ref() != Some(&handled) {
                    let first = input.range()?.map_or(input.next_offset, |range| range.0);
                    return Err(TurnError::NotDeterministic(first));
                }
            }
            let (gathered, failures) = self.gather_without(&handled.outcomes, &BTreeSet::new());
            if !failures.is_empty() {
                drop(called);
                if first {
                    return self.run(instance, start, input, None);
                }
                break;
            }
            *instance = Some(called);
            turn.records_in += u64::from(input.records());
            turn.records_out += gathered.emitted;
            turn.direct.extend(gathered.finish());
            // A single batch is kept: if it does not count, it is handled in parts.
            match turn.calls {
                0 => turn.input = input,
                _ => turn.input.append(input),
            }
            turn.calls += 1;
            if has_changed(&handled) {
                // The next call must see it, and sees what counts.
                (turn.state, turn.timers) = (handled.state, handled.timers);
                break;
            }
        }
        Ok(turn)
    }

    /// Runs one turn of timers, in their order. `position` is the next offset of the input.
    pub(crate) fn fire(
        &self,
        instance: &mut Option<Instance>,
        start: impl Fn() -> Result<Instance, String>,
        timers: Vec<Timer>,
        position: Offset,
    ) -> Result<Turn, TurnError> {
        let mut turn = Turn {
            fired: timers.clone(),
            ..Turn::default()
        };
        let mut called_with = timers;
        while !called_with.is_empty() {
            let mut called = match instance.take() {
                Some(instance) => instance,
                None => start().map_err(TurnError::Start)?,
            };
            let fired: Vec<_> = called_with.iter().map(fired).collect();
            let began = Instant::now();
            let handled = called.fire(&fired, position);
            self.progress.called(began.elapsed());
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) => {
                    let input = Input::default();
                    return Err(TurnError::Call { input, error });
                }
            };
            let (_, failures) = self.gather_without(&handled.outcomes, &BTreeSet::new());
            let again = self.any_again(&failures) && has_changed(&handled);
            let excluded: BTreeSet<u32> = failures.keys().copied().collect();
            let mut left = Vec::with_capacity(called_with.len());
            let mut failures = failures;
            for (index, timer) in (0..).zip(called_with) {
                match failures.remove(&index) {
                    Some((failure, reason)) => turn.failed_timers.push(FailedTimer {
                        timer,
                        failure,
                        reason,
                    }),
                    None => left.push(timer),
                }
            }
            called_with = left;
            if again {
                // As with records.
                continue;
            }
            *instance = Some(called);
            let (gathered, _) = self.gather_without(&handled.outcomes, &excluded);
            turn.records_out = gathered.emitted;
            turn.outputs = gathered.finish();
            (turn.state, turn.timers) = (handled.state, handled.timers);
            break;
        }
        Ok(turn)
    }

    /// Whether what failed like this is handled again, and leaves no trace until then.
    fn comes_again(&self, failure: Failure) -> bool {
        match failure {
            Failure::Retry(_) | Failure::Broke => true,
            Failure::Rejected => self.pauses_after.is_some(),
            Failure::Gone => false,
        }
    }

    /// Whether nothing behind what failed like this, and [comes again](Self::comes_again), may be handled.
    fn blocks(&self, failure: Failure) -> bool {
        let at_once = failure == Failure::Rejected || self.pauses_after.is_some_and(|it| it <= 1);
        self.holds_back == HoldBack::Partition || at_once
    }

    fn any_again(&self, failures: &Failures) -> bool {
        let mut failures = failures.values();
        failures.any(|(failure, _)| self.comes_again(*failure))
    }

    /// Takes the records that failed, and those that wait behind them, out of the input. Returns
    /// their indexes in the call, and how many come again with what is read next.
    fn set_aside(
        &self,
        input: &mut Input,
        failed: &mut Vec<FailedRecord>,
        mut failures: Failures,
    ) -> Result<(BTreeSet<u32>, u64), TurnError> {
        let entries = input.entries()?;
        let retried = failures
            .iter()
            .filter(|(_, (failure, _))| self.comes_again(*failure));
        // The first in front of which the partition stands still.
        let mut blocking = retried
            .clone()
            .filter(|(_, (failure, _))| self.blocks(*failure));
        let block = blocking.next().map(|(index, _)| *index);
        let is_beyond = |index: u32| block.is_some_and(|first| first < index);
        let retried_keys: BTreeMap<&Bytes, u32> = retried
            .rev()
            .filter_map(|(index, _)| Some((entries.get(*index as usize)?.key.as_ref()?, *index)))
            .collect();
        let is_behind = |index: u32, key: Option<&Bytes>| match self.holds_back {
            HoldBack::Key => key
                .and_then(|key| retried_keys.get(key))
                .is_some_and(|first| *first < index),
            HoldBack::Nothing | HoldBack::Partition => false,
        };
        let mut excluded = BTreeSet::new();
        // What comes again with what is read next is not kept.
        let (mut kept, mut offsets) = (Vec::new(), HashSet::new());
        let earlier = failed.iter().map(|it| &it.record).chain(&input.held);
        let earlier: Vec<_> = earlier.map(|it| (it.offset, set_aside_bytes(it))).collect();
        let mut aside = earlier.clone();
        for (index, entry) in (0..).zip(&entries) {
            let behind = is_beyond(index) || is_behind(index, entry.key.as_ref());
            let failure = failures.remove(&index).filter(|_| !behind);
            if !behind && failure.is_none() {
                continue;
            }
            excluded.insert(index);
            offsets.insert(entry.offset);
            if is_beyond(index) {
                continue;
            }
            let reason_bytes = failure.as_ref().map_or(0, |(_, reason)| reason.len());
            aside.push((entry.offset, entry.set_aside_bytes(reason_bytes)));
            kept.push((entry, failure));
        }
        aside.sort_unstable();
        if let Some(too_many) = first_too_many(aside.into_iter()) {
            let offsets = entries.iter().map(|entry| entry.offset);
            let offsets = offsets.chain(earlier.into_iter().map(|it| it.0));
            let before = offsets.filter(|offset| *offset < too_many).count();
            return Err(TurnError::TooManyFail(before as u32));
        }
        let kept_offsets = kept.iter().map(|(entry, _)| entry.offset).collect();
        let mut alone = input.split(&kept_offsets)?;
        for (entry, failure) in kept {
            let batch = alone.remove(&entry.offset).unwrap_or_default();
            let Some((failure, reason)) = failure else {
                let held = parked(entry.offset, entry.key.clone(), batch);
                input.held.push(held);
                continue;
            };
            let key = entry.key.clone();
            let key = key.filter(|_| self.holds_back == HoldBack::Key);
            let record = ParkedRecord {
                reason,
                ..parked(entry.offset, key, batch)
            };
            failed.push(FailedRecord { record, failure });
        }
        let mut beyond = 0;
        if let Some(first) = block {
            let next_offset = entries.get(first as usize).map(|entry| entry.offset + 1);
            let next_offset = next_offset.unwrap_or(input.next_offset);
            input.cut(next_offset)?;
            // What a call before this one was made without.
            let known = failed.len();
            failed.retain(|it| it.record.offset < next_offset);
            let beyond_it = entries.iter().filter(|it| it.offset >= next_offset);
            beyond = known - failed.len() + beyond_it.count();
        }
        input.remove(&offsets)?;
        Ok((excluded, beyond as u64))
    }

    /// Gathers what was emitted, but for some of the call's records, and which records failed.
    fn gather_without(
        &self,
        outcomes: &Outcomes,
        excluded: &BTreeSet<u32>,
    ) -> (Gathered<'_>, Failures) {
        let mut failures = Failures::new();
        let mut gathered = Gathered {
            outputs: self.outputs,
            input_partition: self.input_partition,
            open: BTreeMap::new(),
            full: Vec::new(),
            emitted: 0,
        };
        for outcome in outcomes.iter() {
            if !excluded.is_empty() && excluded.contains(&outcome.input()) {
                continue;
            }
            match outcome {
                Outcome::Emit(emit) => {
                    if let Err(reason) = gathered.add(&emit) {
                        failures.insert(emit.input, (Failure::Retry(0), reason));
                    }
                }
                Outcome::Reject { input, reason } => {
                    failures.insert(input, (Failure::Rejected, reason.to_owned()));
                }
                Outcome::Retry {
                    input,
                    after_ms,
                    reason,
                } => {
                    failures.insert(input, (Failure::Retry(after_ms), reason.to_owned()));
                }
            }
        }
        (gathered, failures)
    }
}

/// How and why records, or timers, of a call failed, by their index.
type Failures = BTreeMap<u32, (Failure, String)>;

fn has_changed(handled: &Handled) -> bool {
    !handled.state.is_empty() || !handled.timers.is_empty()
}

fn fired(timer: &Timer) -> FiredTimer {
    FiredTimer {
        clock: timer.clock,
        key: timer.key.to_vec(),
        at_ms: timer.at_ms,
    }
}

/// Outputs on their way into batches, one open batch per output partition.
struct Gathered<'a> {
    outputs: &'a [Output],
    input_partition: u32,
    open: BTreeMap<(usize, usize), BatchBuilder>,
    full: Vec<(Target, BatchBuilder)>,
    emitted: u64,
}

impl Gathered<'_> {
    fn add(&mut self, emit: &Emit<'_>) -> Result<(), String> {
        let output = self
            .outputs
            .get(emit.output)
            .ok_or_else(|| format!("no output has index {}", emit.output))?;
        let count = u32::try_from(output.partitions.len())
            .ok()
            .and_then(std::num::NonZeroU32::new);
        let count = count.ok_or_else(|| format!("output {} has no partition", output.name))?;
        // Without a key an output stays beside its input.
        let number = emit.key.map_or(self.input_partition % count, |key| {
            Partitioner::KeyHash.partition_for_key(key, count)
        }) as usize;
        let target = &output.partitions[number];
        let headers = emit.to_headers();
        let new = || BatchBuilder::new(Compression::None, target.max_batch_bytes());
        let builder = self.open.entry((emit.output, number)).or_insert_with(new);
        let append = |builder: &mut BatchBuilder| {
            builder.append(emit.timestamp_ms, emit.key, emit.value, &headers)
        };
        match append(builder) {
            Ok(_) => {}
            Err(AppendError::Full) => {
                let full = std::mem::replace(builder, new());
                let appended = append(builder);
                self.full.push((target.clone(), full));
                appended.map_err(|error| format!("output {}: {error}", output.name))?;
            }
            Err(error) => return Err(format!("output {}: {error}", output.name)),
        }
        self.emitted += 1;
        Ok(())
    }

    fn finish(mut self) -> Vec<(Target, BatchBuilder)> {
        for ((output, number), builder) in self.open {
            if !builder.is_empty() {
                self.full
                    .push((self.outputs[output].partitions[number].clone(), builder));
            }
        }
        self.full
    }
}

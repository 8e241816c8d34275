//! One running worker: started, called, and discarded when it fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::api::plugin::WorkerLimits;
use millstream_protocol::batch::{BatchError, BatchHeader, Compression};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs};
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bindings::exports::millstream::plugin::lifecycle::Context;
use crate::bindings::messaging::exports::wasi::messaging::incoming_handler;
use crate::bindings::messaging::wasi::messaging::types::Error;
use crate::bindings::typed::exports::millstream::plugin::record_handler::{
    InputRecord, Outcome, Retry,
};
use crate::deadline::{Deadline, LONGEST_STRETCH, SLICE, epochs};
use crate::engine::Shared;
use crate::grants::WorkerGrants;
use crate::guest::{Guest, GuestPre, Handler, TimerHandler, fired, typed_fired};
use crate::host::{Access, HostState};
use crate::logs::{LogSink, Logs, MAX_LOG_MESSAGE_BYTES};
use crate::metrics::GuestMetrics;
use crate::outcomes::{BadOutput, Expected, MAX_REASON_BYTES, Outcomes};
use crate::records::{self, Sections};
use crate::state::{StateChanges, StateReadError, StateReader};
use crate::tables::{Table, TableReadError};
use crate::timers::{FiredTimer, TimerChanges};
use crate::waits::{GivenUp, WaitedTooLong, Waits};

/// A cursor that [`Instance::migrate`] returns, bytes.
pub const MAX_CURSOR_BYTES: usize = 64 << 10;

/// What a worker is started with.
#[derive(Clone)]
pub struct WorkerSetup {
    /// The deployment's name.
    pub deployment: String,
    /// The input topic.
    pub topic: String,
    /// The input partition.
    pub partition: PartitionIndex,
    /// The guest's names of the outputs; emits name them by their index here.
    pub outputs: Vec<String>,
    /// What `wasi:config/store` tells.
    pub config: Vec<(String, String)>,
    /// The worker's limits.
    pub limits: WorkerLimits,
    /// Where its log lines go.
    pub logs: Arc<dyn LogSink>,
    /// What it may use beyond what every worker may.
    pub grants: WorkerGrants,
    /// Its stored state, from `init` on; [`EmptyState`](crate::EmptyState) where there is none.
    pub state: Arc<dyn StateReader>,
    /// Where it measures, across its instances.
    pub metrics: Arc<GuestMetrics>,
    /// What it may look up in.
    pub tables: Vec<Table>,
    /// Is told when it waits for a server or computes for long; [`OwnThread`](crate::OwnThread) where nobody needs to know.
    pub waits: Arc<dyn Waits>,
}

/// What one call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// What became of the records.
    pub outcomes: Outcomes,
    /// What the call changed in the state.
    pub state: StateChanges,
    /// Which timers it has set and cancelled.
    pub timers: TimerChanges,
}

/// What one call that takes over a part of the state came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// What the call changed in the state.
    pub state: StateChanges,
    /// Which timers it has set and cancelled.
    pub timers: TimerChanges,
    /// What to hand to the next call; `None`: the whole state is taken over.
    pub cursor: Option<Vec<u8>>,
}

/// Why a worker did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The guest's `init` returned an error: its own words, escaped.
    #[error("init refused: {0}")]
    Refused(String),
    /// Making the instance, or `init`, failed.
    #[error("init failed: {0}")]
    Failed(#[source] CallError),
}

/// Why a call failed. Nothing of the call counts, and the instance is spent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest did what it must not, or gave up.
    #[error("trapped: {reason}")]
    Trap {
        /// What happened, and what the guest said about it on standard error.
        reason: String,
        /// The innermost functions of the guest that were running, by name where it is known.
        backtrace: Vec<String>,
    },
    /// It computed longer than it may, or waited very much longer.
    #[error("deadline of {deadline_ms} ms exceeded")]
    DeadlineExceeded {
        /// The limit, milliseconds.
        deadline_ms: u32,
    },
    /// It failed after it was refused more memory.
    #[error("memory limit of {limit_bytes} bytes exceeded")]
    MemoryLimit {
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// The guest returned an error for the call as a whole: its own words, escaped.
    #[error("handler failed: {0}")]
    Guest(String),
    /// What the guest returned is not what it may return.
    #[error(transparent)]
    BadOutput(#[from] BadOutput),
    /// What was to be handed to the guest are not whole, uncompressed batches of records: the
    /// guest was not called.
    #[error("bad input: {0}")]
    BadInput(String),
    /// The stored state could not be read: no fault of the guest.
    #[error(transparent)]
    StateUnavailable(#[from] StateReadError),
    /// A table could not be read: no fault of the guest.
    #[error(transparent)]
    TableUnavailable(Box<TableReadError>),
    /// Timers have fired, and the guest has no function to call with them.
    #[error("the component has no timer handler")]
    NoTimerHandler,
    /// There is a state to be taken over, and the guest has no function for it.
    #[error("the component has no `state-migration`")]
    NoMigration,
    /// It waited for a server until it had lasted as long as a call may by the clock.
    #[error("waited too long: a call lasts at most {limit_ms} ms, sixty times its deadline")]
    WaitedTooLong {
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// Nobody wanted what it was working on any more, while it waited for a server or computed for long: no
    /// fault of the guest.
    #[error("interrupted")]
    Interrupted,
    /// An earlier call has failed.
    #[error("the instance is spent: an earlier call failed")]
    Spent,
}

impl From<BatchError> for CallError {
    fn from(error: BatchError) -> Self {
        Self::BadInput(error.to_string())
    }
}

/// One running worker. Calls block for as long as the guest computes, up to its deadline; make them
/// from a plain thread.
pub struct Instance {
    store: Store<HostState>,
    guest: Guest,
    limits: WorkerLimits,
    outputs: usize,
    state: State,
    // Keeps deadlines passing, and moves what is waited for.
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Spent,
}

impl Instance {
    pub(crate) fn start(
        shared: Arc<Shared>,
        pre: &GuestPre,
        setup: WorkerSetup,
    ) -> Result<Self, StartError> {
        let engine = Arc::clone(&shared);
        let _io = shared.io.enter();
        let memory_bytes = usize::try_from(setup.limits.memory_bytes).unwrap_or(usize::MAX);
        let mut store = Store::new(&shared.engine, HostState::new(&setup, memory_bytes));
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            let Some(left) = state.deadline.left() else {
                return Err(Trap::Interrupt.into());
            };
            state.deadline.stand_still(|| state.waits.computed())?;
            Ok(UpdateDeadline::Continue(epochs(left).min(SLICE)))
        });
        // No single list or string that the guest hands over can be larger than its memory.
        store.set_hostcall_fuel(memory_bytes);

        // What `init` writes would belong to no call.
        begin_call(&mut store, &setup.limits, 0, 0, Access::ReadOnly);
        let guest = pre
            .instantiate(&mut store)
            .map_err(|error| failure(&mut store, &setup.limits, &error));
        let guest = guest.map_err(StartError::Failed)?;

        let outputs = setup.outputs.len();
        let context = Context {
            deployment: setup.deployment,
            topic: setup.topic,
            partition: setup.partition,
            outputs: setup.outputs,
        };
        if let Some(lifecycle) = &guest.lifecycle {
            let started = lifecycle.call_init(&mut store, &context);
            returned(&mut store, &setup.limits, started).map_err(|error| match error {
                CallError::Guest(reason) => StartError::Refused(reason),
                error => StartError::Failed(error),
            })?;
        }
        Ok(Self {
            store,
            guest,
            limits: setup.limits,
            outputs,
            state: State::Ready,
            shared: engine,
        })
    }

    /// Has the guest handle `batches`: one or more whole record batches, one after the other, none
    /// of them compressed or of control records. Their checksums are looked at only where the host
    /// itself reads the records, for a guest with a `record-handler`.
    ///
    /// The guest's clock shows the first batch's base timestamp, and its randomness is that of the
    /// first batch's base offset.
    ///
    /// What the guest changed in its state and timers is in [`Handled`] and nowhere else. The caller
    /// makes it durable together with the outcomes, and shows the state through
    /// [`WorkerSetup::state`] before it calls the instance again. A caller that cannot do so, or that has the same records
    /// handled again, drops the instance as well as the changes: the guest's memory may go by them.
    ///
    /// # Errors
    ///
    /// After [`CallError::BadInput`] the instance can be used on. After any other error it is
    /// spent, and every further call fails: drop it and start another.
    pub fn handle(&mut self, batches: &[u8]) -> Result<Handled, CallError> {
        if self.state == State::Spent {
            return Err(CallError::Spent);
        }
        let shared = Arc::clone(&self.shared);
        let _io = shared.io.enter();
        let input = Input::read(batches)?;
        begin_call(
            &mut self.store,
            &self.limits,
            input.position,
            input.time_ms,
            Access::ReadWrite,
        );
        let expected = self.expected(input.records);
        // It is spent from the moment the guest is called, and ready again when all went well.
        let outcomes = match &self.guest.handler {
            Handler::Batch(guest) => {
                self.state = State::Spent;
                let flat = guest.call_handle(&mut self.store, batches);
                let flat = returned(&mut self.store, &self.limits, flat)?;
                Outcomes::check(Bytes::from(flat), expected)?
            }
            Handler::Record(guest) => {
                let sections = Sections::read(batches)?;
                let views = sections.views()?;
                let records = views.records();
                self.state = State::Spent;
                let typed = guest.call_handle(&mut self.store, &records);
                let typed = returned(&mut self.store, &self.limits, typed)?;
                let times = records.iter().map(|record| record.timestamp_ms);
                records::check(times, &typed, expected)?
            }
            Handler::Message(guest) => {
                let sections = Sections::read(batches)?;
                let views = sections.views()?;
                let records = views.records();
                self.state = State::Spent;
                let typed = messages(&mut self.store, &self.limits, guest, &records)?;
                let times = records.iter().map(|record| record.timestamp_ms);
                records::check(times, &typed, expected)?
            }
        };
        Ok(self.handled(outcomes))
    }

    /// Has the guest handle timers whose time has come, of which there is at least one, ordered by
    /// that time. Their indexes are what the outcomes call inputs.
    ///
    /// The guest's clock shows the latest of their times, and its randomness is that of `position`,
    /// the first offset that the worker has not handled. Everything else is as in
    /// [`handle`](Self::handle).
    ///
    /// # Errors
    ///
    /// After [`CallError::NoTimerHandler`] the instance can be used on. After any other error it is
    /// spent.
    pub fn fire(&mut self, timers: &[FiredTimer], position: Offset) -> Result<Handled, CallError> {
        if self.state == State::Spent {
            return Err(CallError::Spent);
        }
        let shared = Arc::clone(&self.shared);
        let _io = shared.io.enter();
        let Some(handler) = &self.guest.timers else {
            return Err(CallError::NoTimerHandler);
        };
        let time_ms = timers.last().map_or(0, |timer| timer.at_ms);
        begin_call(
            &mut self.store,
            &self.limits,
            position,
            time_ms,
            Access::ReadWrite,
        );
        // The broker has bounded them.
        let expected = self.expected(timers.len() as u32);
        self.state = State::Spent;
        let outcomes = match handler {
            TimerHandler::Batch(guest) => {
                let flat = guest.call_handle(&mut self.store, &fired(timers));
                let flat = returned(&mut self.store, &self.limits, flat)?;
                Outcomes::check(Bytes::from(flat), expected)?
            }
            TimerHandler::Record(guest) => {
                let typed = guest.call_handle(&mut self.store, &typed_fired(timers));
                let typed = returned(&mut self.store, &self.limits, typed)?;
                let times = timers.iter().map(|timer| timer.at_ms);
                records::check(times, &typed, expected)?
            }
        };
        Ok(self.handled(outcomes))
    }

    /// Has the guest take over a part of the state that the component with the digest `from` has left
    /// behind, from `cursor` on: what the call before returned, `None` in the first one.
    ///
    /// The guest's clock shows `time_ms`, and its randomness is that of `position`, the first offset
    /// that the worker has not handled. What it changed is in [`Migrated`] and nowhere else: as in
    /// [`handle`](Self::handle), it is made durable together with the cursor.
    ///
    /// # Errors
    ///
    /// After [`CallError::NoMigration`] the instance can be used on. After any other error it is spent.
    pub fn migrate(
        &mut self,
        from: &str,
        cursor: Option<&[u8]>,
        (position, time_ms): (Offset, TimestampMs),
    ) -> Result<Migrated, CallError> {
        if self.state == State::Spent {
            return Err(CallError::Spent);
        }
        let shared = Arc::clone(&self.shared);
        let _io = shared.io.enter();
        let Some(migration) = &self.guest.migration else {
            return Err(CallError::NoMigration);
        };
        let access = Access::Migration;
        begin_call(&mut self.store, &self.limits, position, time_ms, access);
        self.state = State::Spent;
        let cursor = migration.call_migrate(&mut self.store, from, cursor);
        let cursor = returned(&mut self.store, &self.limits, cursor)?;
        if let Some(cursor) = cursor.as_ref().filter(|it| it.len() > MAX_CURSOR_BYTES) {
            let bytes = cursor.len();
            let reason =
                format!("a cursor of {bytes} bytes was returned, more than {MAX_CURSOR_BYTES}");
            return Err(CallError::Guest(reason));
        }
        self.state = State::Ready;
        let (state, timers) = self.store.data_mut().take_changes();
        Ok(Migrated {
            state,
            timers,
            cursor,
        })
    }

    fn expected(&self, inputs: u32) -> Expected {
        Expected {
            records: inputs,
            outputs: self.outputs,
            outputs_per_record: self.limits.outputs_per_record,
        }
    }

    /// A call has ended well.
    fn handled(&mut self, outcomes: Outcomes) -> Handled {
        self.state = State::Ready;
        let outcomes = outcomes.masked(self.store.data().logs().masks());
        let (state, timers) = self.store.data_mut().take_changes();
        Handled {
            outcomes,
            state,
            timers,
        }
    }

    /// The guest's linear memory now, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.memory_bytes() as u64
    }

    /// Log lines dropped since the worker started, because they were too many in a second.
    pub fn log_lines_dropped(&self) -> u64 {
        self.store.data().logs().dropped()
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

/// What the headers of a call's batches say.
#[derive(Debug, PartialEq, Eq)]
struct Input {
    records: u32,
    position: Offset,
    time_ms: TimestampMs,
}

impl Input {
    fn read(batches: &[u8]) -> Result<Self, CallError> {
        let first = BatchHeader::parse(batches)?;
        let mut records = 0u32;
        let mut rest = batches;
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest)?;
            if header.control {
                return Err(CallError::BadInput("a control batch".into()));
            }
            if header.compression != Compression::None {
                return Err(CallError::BadInput("a compressed batch".into()));
            }
            rest = rest.get(header.batch_bytes..).ok_or_else(|| {
                let what = format!(
                    "a batch of {} bytes, {} are there",
                    header.batch_bytes,
                    rest.len()
                );
                CallError::BadInput(what)
            })?;
            let sum = records.checked_add(header.record_count);
            records = sum.ok_or_else(|| CallError::BadInput("too many records".into()))?;
        }
        Ok(Self {
            records,
            position: first.base_offset,
            time_ms: first.base_timestamp_ms,
        })
    }
}

fn begin_call(
    store: &mut Store<HostState>,
    limits: &WorkerLimits,
    position: Offset,
    time_ms: TimestampMs,
    access: Access,
) {
    store.data_mut().begin_call(position, time_ms, access);
    store.data_mut().deadline = Deadline::from_now(limits.deadline_ms);
    let deadline = Duration::from_millis(limits.deadline_ms.into());
    store.set_epoch_deadline(epochs(deadline).min(SLICE));
}

/// Hands over records as messages, one after the other.
fn messages(
    store: &mut Store<HostState>,
    limits: &WorkerLimits,
    guest: &incoming_handler::Guest,
    records: &[InputRecord<'_>],
) -> Result<Vec<Outcome>, CallError> {
    let mut outcomes = Vec::with_capacity(records.len());
    for record in records {
        let message = store.data_mut().receive(record);
        let message = message.map_err(|error| failure(store, limits, &error))?;
        let handled = guest.call_handle(&mut *store, message);
        let handled = returned(store, limits, handled.map(Ok))?;
        let sent = store.data_mut().take_sent();
        outcomes.push(match handled {
            Ok(()) if sent.is_empty() => Outcome::Drop,
            Ok(()) => Outcome::Emit(sent),
            Err(error) => {
                let reason = store.data().logs().told(&told(error), MAX_REASON_BYTES);
                let kept = store.data_mut().keep(reason.len());
                kept.map_err(|error| failure(store, limits, &error))?;
                let after_ms = 0;
                Outcome::Retry(Retry { after_ms, reason })
            }
        });
    }
    Ok(outcomes)
}

/// An error of `wasi:messaging` in words.
fn told(error: Error) -> String {
    match error {
        Error::Timeout => "it took too long".to_owned(),
        Error::Connection(reason) => format!("connection: {reason}"),
        Error::PermissionDenied(reason) => format!("not permitted: {reason}"),
        Error::Other(reason) => reason,
    }
}

/// What the guest returned, if the call as a whole did not fail. Ends the call's log.
fn returned<T>(
    store: &mut Store<HostState>,
    limits: &WorkerLimits,
    called: wasmtime::Result<Result<T, String>>,
) -> Result<T, CallError> {
    match called {
        Ok(returned) => {
            let mut logs = store.data().logs();
            logs.end_call(Instant::now());
            returned.map_err(|reason| CallError::Guest(logs.told(&reason, MAX_LOG_MESSAGE_BYTES)))
        }
        Err(error) => Err(failure(store, limits, &error)),
    }
}

/// What a Rust panic said, of the last words of a guest that ended by it: `panicked at src/lib.rs:5:9: no`,
/// and what was written before it. Which thread it was and how to have Rust's own backtrace say nothing
/// here, nor does the trap that ends every panic.
fn panic_message(last_words: &str) -> Option<String> {
    const THREAD: &str = "thread '";
    const PANICKED: &str = "panicked at ";
    const NOTE: &str = " note: run with `RUST_BACKTRACE=1`";
    let panicked = last_words.find(PANICKED)?;
    let (before, panic) = last_words.split_at(panicked);
    let before = before
        .rfind(THREAD)
        .map_or(before, |thread| &before[..thread]);
    let panic = panic.find(NOTE).map_or(panic, |note| &panic[..note]);
    Some(format!("{before}{panic}"))
}

/// Says what a failed call failed at.
fn failure(
    store: &mut Store<HostState>,
    limits: &WorkerLimits,
    error: &wasmtime::Error,
) -> CallError {
    let mut logs = store.data().logs();
    logs.end_call(Instant::now());
    let last_words = logs.last_words();
    if let Some(error) = error.downcast_ref::<TableReadError>() {
        return CallError::TableUnavailable(Box::new(error.clone()));
    }
    if let Some(error) = error.downcast_ref::<StateReadError>() {
        return error.clone().into();
    }
    if error.is::<GivenUp>() {
        return CallError::Interrupted;
    }
    if error.is::<WaitedTooLong>() {
        return CallError::WaitedTooLong {
            limit_ms: u64::from(limits.deadline_ms) * u64::from(LONGEST_STRETCH),
        };
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return CallError::DeadlineExceeded {
            deadline_ms: limits.deadline_ms,
        };
    }
    if store.data().limiter.refused() {
        return CallError::MemoryLimit {
            limit_bytes: limits.memory_bytes,
        };
    }
    let what = match (error.downcast_ref::<I32Exit>(), trap) {
        (Some(exit), _) => format!("exited with status {}", exit.0),
        (None, Some(trap)) => trap.to_string(),
        (None, None) => {
            let exceeded = store.data().quota.exceeded();
            exceeded.unwrap_or_else(|| error.root_cause().to_string())
        }
    };
    let panic = (trap == Some(&Trap::UnreachableCodeReached))
        .then(|| panic_message(&last_words))
        .flatten();
    let reason = match panic {
        Some(panic) => panic,
        None if last_words.is_empty() => what,
        None => format!("{what}: {last_words}"),
    };
    CallError::Trap {
        reason: logs.told(&reason, MAX_LOG_MESSAGE_BYTES),
        backtrace: backtrace(error, &logs),
    }
}

fn backtrace(error: &wasmtime::Error, logs: &Logs) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => logs.told(name, MAX_LOG_MESSAGE_BYTES),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}

//! Runs plugins: WebAssembly components of the worlds `millstream:plugin/plugin` and
//! `millstream:plugin/record-plugin` (see `wit/`).
//!
//! This crate compiles a component, says by name why one does not fit, and calls its handler
//! under limits of memory, time and log lines. What it hands back has been checked: a guest is
//! never trusted with a length.
//!
//! It does not know topics, offsets to commit, or where outputs and state go: it neither reads nor
//! writes a log, stores no state, starts no worker threads and retries nothing. That is the broker's part. It is the only
//! importer of `wasmtime`, `wasmtime-wasi` and `wasmtime-wasi-http`.
//!
//! # Layout
//!
//! - [`Runtime`]: the engine, and the thread that makes deadlines pass
//! - [`Compiler`]: where components are compiled: here, or in a child process with limits
//! - [`Plugin`]: a component, compiled and found to fit; [`RefusedError`] says why one does not
//! - [`Instance`]: one running worker; [`StartError`] and [`CallError`] say how it failed
//! - [`Handled`]: what a call came to: [`Outcomes`], checked, without a copy, [`StateChanges`] and
//!   [`TimerChanges`]
//! - [`StateReader`]: where a worker's state is read
//! - [`WorkerGrants`]: what a worker may use beyond what every one may; [`SecretReader`]
//! - [`Table`], [`TableReader`]: where a worker looks up what others keep
//! - [`Waits`]: is told that a worker waits for a server's answer
//! - [`LogSink`]: where a worker's log lines go
//! - [`Metric`]: what a worker measures
//!
//! # Threads
//!
//! Everything here blocks. Compile, start and call from plain threads (tokio's `spawn_blocking` is
//! one), never from inside an asynchronous task: the virtual WASI may wait on a run-time of its
//! own, which panics there.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use millstream_protocol::api::plugin::WorkerLimits;
//! use millstream_runtime::{
//!     EmptyState, LogLine, LogSink, Outcome, OwnThread, Runtime, RuntimeConfig,
//!     WorkerGrants, WorkerSetup,
//! };
//!
//! struct Print;
//! impl LogSink for Print {
//!     fn write(&self, line: LogLine) {
//!         println!("{}", line.message);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (component, batches) = (Vec::new(), Vec::new());
//! let runtime = Runtime::new(RuntimeConfig::default())?;
//! let plugin = runtime.compile(&component)?;
//! let mut worker = plugin.start(WorkerSetup {
//!     deployment: "quake-alert".into(),
//!     topic: "earthquakes".into(),
//!     partition: 0,
//!     outputs: vec!["alerts".into()],
//!     config: vec![("min-mag".into(), "4.5".into())],
//!     limits: WorkerLimits::default(),
//!     logs: Arc::new(Print),
//!     grants: WorkerGrants::default(),
//!     state: Arc::new(EmptyState),
//!     metrics: Arc::default(),
//!     tables: Vec::new(),
//!     waits: Arc::new(OwnThread),
//! })?;
//! let handled = worker.handle(&batches)?;
//! for outcome in &handled.outcomes {
//!     if let Outcome::Emit(emit) = outcome {
//!         println!("record {} gives {:?}", emit.input, emit.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod bindings;
mod cache;
mod compiler;
mod deadline;
mod engine;
mod fit;
mod grants;
mod guest;
mod host;
mod instance;
mod io_threads;
mod limiter;
mod logs;
mod mask;
mod memory_state;
mod messages;
mod metrics;
mod native;
mod outcomes;
mod plugin;
mod records;
mod state;
mod tables;
mod timers;
mod waits;

pub use cache::MAX_CACHE_BYTES;
pub use compiler::{
    CompileError, CompileLimits, Compiler, CompilerExit, CompilerProcess, compile_as_child,
};
pub use deadline::thread_cpu_time;
pub use engine::{EPOCH_TICK, Runtime, RuntimeConfig, RuntimeError};
pub use fit::RefusedError;
pub use grants::{Lack, SecretReader, WorkerGrants};
pub use host::{MAX_HOST_CALLS, MAX_HTTP_REQUESTS_AT_ONCE, MAX_HTTP_REQUESTS_PER_CALL};
pub use instance::{
    CallError, Handled, Instance, MAX_CURSOR_BYTES, Migrated, StartError, WorkerSetup,
};
pub use logs::{
    HOST_CONTEXT, LogLine, LogSink, MAX_LOG_CONTEXT_BYTES, MAX_LOG_MESSAGE_BYTES, disturbs,
};
pub use mask::MIN_SECRET_BYTES;
pub use memory_state::{MAX_STATE_BYTES, MemoryState, StateFull};
pub use metrics::{GuestMetrics, MAX_METRIC_NAME_BYTES, MAX_METRICS, Metric};
pub use millstream_http::MAX_CONNECTIONS as MAX_HTTP_CONNECTIONS;
pub use outcomes::{
    BadOutput, BadOutputPlace, Emit, EmitHeaders, MAX_OUTPUT_BYTES, MAX_REASON_BYTES, MAX_RETRY_MS,
    Outcome, OutcomeIter, Outcomes,
};
pub use plugin::{Plugin, digest};
pub use state::{
    EmptyState, MAX_MIGRATION_CHANGE_BYTES, MAX_STATE_CHANGE_BYTES, MAX_STATE_KEY_BYTES,
    MAX_STATE_PAGE_BYTES, MAX_STATE_PAGE_ENTRIES, MAX_STATE_VALUE_BYTES,
    STATE_CHANGE_OVERHEAD_BYTES, StateChanges, StateReadError, StateReader, StateVisitor,
    scan_start,
};
pub use tables::{MAX_TABLE_KEY_BYTES, Table, TableReadError, TableReader};
pub use timers::{FiredTimer, MAX_TIMER_CHANGES, MAX_TIMER_KEY_BYTES, TimerChanges};
pub use waits::{GivenUp, OwnThread, Waits};

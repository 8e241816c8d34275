//! Runs plugins: WebAssembly components of the world `millstream:plugin/plugin` (see `wit/`).
//!
//! This crate compiles a component, says by name why one does not fit, and calls its handler
//! under limits of memory, time and log lines. What it hands back has been checked: a guest is
//! never trusted with a length.
//!
//! It does not know topics, offsets to commit, or where outputs go: it neither reads nor writes a
//! log, starts no worker threads and retries nothing. That is the broker's part. It is the only
//! importer of `wasmtime` and `wasmtime-wasi`.
//!
//! # Layout
//!
//! - [`Runtime`]: the engine, and the thread that makes deadlines pass
//! - [`Plugin`]: a component, compiled and found to fit; [`RefusedError`] says why one does not
//! - [`Instance`]: one running worker; [`StartError`] and [`CallError`] say how it failed
//! - [`Outcomes`]: what a call returned, checked, without a copy
//! - [`LogSink`]: where a worker's log lines go
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
//! use millstream_runtime::{LogLine, LogSink, Outcome, Runtime, RuntimeConfig, WorkerSetup};
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
//! })?;
//! for outcome in worker.handle(&batches)?.iter() {
//!     if let Outcome::Emit(emit) = outcome {
//!         println!("record {} gives {:?}", emit.input, emit.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod bindings;
mod engine;
mod fit;
mod host;
mod instance;
mod limiter;
mod logs;
mod outcomes;
mod plugin;

pub use engine::{EPOCH_TICK, Runtime, RuntimeConfig, RuntimeError};
pub use fit::RefusedError;
pub use instance::{CallError, Instance, StartError, WorkerSetup};
pub use logs::{LogLine, LogSink, MAX_LOG_CONTEXT_BYTES, MAX_LOG_MESSAGE_BYTES};
pub use outcomes::{
    BadOutput, Emit, EmitHeaders, MAX_OUTPUT_BYTES, MAX_REASON_BYTES, MAX_RETRY_MS, Outcome,
    OutcomeIter, Outcomes,
};
pub use plugin::{Plugin, digest};

//! Write a Millstream plugin in Rust: a function that is called for each record of a partition.
//!
//! A plugin is a WebAssembly component that the broker runs next to the data. Make a library crate
//! with `crate-type = ["cdylib"]`, build it for the target `wasm32-wasip2`, deploy the `.wasm`:
//!
//! ```
//! use millstream_plugin::{Failure, NewRecord, Outputs, Record};
//!
//! /// Forwards what has a key, and drops the rest.
//! #[millstream_plugin::handler]
//! fn handle(record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     if record.key().is_some() {
//!         let keyed = out.output("keyed")?;
//!         out.emit(keyed, &NewRecord::of(&record))?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A plugin that is configured, or that keeps something between records, has an `init` function.
//! What it returns is handed to the handler. It lasts as long as the instance; what must last longer
//! is kept in [`state`].
//!
//! ```
//! use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record};
//!
//! struct Alarm {
//!     limit: f64,
//!     hot: Output,
//! }
//!
//! fn init(context: &Context) -> Result<Alarm, Box<dyn std::error::Error>> {
//!     let limit = context.config("limit").unwrap_or("30").parse()?;
//!     Ok(Alarm { limit, hot: context.output("hot")? })
//! }
//!
//! #[millstream_plugin::handler(init = init)]
//! fn handle(alarm: &mut Alarm, record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     // An error of the standard library's kind rejects the record.
//!     let degrees: f64 = str::from_utf8(record.value().unwrap_or_default())?.parse()?;
//!     if degrees > alarm.limit {
//!         out.emit(alarm.hot, &NewRecord::of(&record))?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The crate compiles natively too, so a handler is an ordinary function to test: see [`testing`].
//! [`process`] runs a handler over a batch as the guest would.
//!
//! It depends on nothing but `wit/`: it knows neither the broker nor the wire.
//!
//! # Layout
//!
//! - [`Context`]: what a worker is told when it starts
//! - [`Record`], [`Headers`]: what comes in, borrowed from the batch, without a copy
//! - [`Outputs`], [`NewRecord`]: what goes out, written once
//! - [`Failure`]: a record that is rejected, to be retried, or a call that fails
//! - [`http`]: requests to other hosts
//! - [`json`]: fields of a JSON object, fast
//! - [`duration`]: lengths of time, as they are configured
//! - [`log`]: lines for the plugin's log
//! - [`metrics`]: counters and gauges for the operator
//! - [`secrets`]: what the operator has given to this deployment alone
//! - [`tables`]: what others keep, by key
//! - [`state`]: keys and values that outlive the instance
//! - [`timers`]: be called later
//! - [`testing`]: run a handler in a test

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
mod context;
pub mod duration;
mod failure;
#[cfg(target_arch = "wasm32")]
mod guest;
pub mod http;
pub mod json;
pub mod log;
pub mod metrics;
mod outputs;
mod process;
mod record;
pub mod secrets;
pub mod state;
pub mod tables;
pub mod testing;
pub mod timers;
mod varint;

pub use context::{Context, Output, UnknownOutput};
pub use failure::Failure;
pub use millstream_plugin_macros::handler;
pub use outputs::{MAX_RECORD_BYTES, NewRecord, Outputs};
pub use process::{fire, process};
pub use record::{Header, Headers, MalformedBatch, Record, Records};

/// What the code that [`handler`] generates needs. No part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings;
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings::export;
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings::migrating::export_migration;
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings::timed::export_timers;
    #[cfg(target_arch = "wasm32")]
    pub use crate::guest::{Exports, Slot, Worker};
    pub use crate::process::Plugin;
}

//! Lines for the plugin's log.
//!
//! Each line says where in the source it comes from. What is above the deployment's limit of lines
//! in a second is dropped and counted. Natively, lines go to standard error.
//!
//! ```
//! use millstream_plugin::log;
//!
//! log::info("ready");
//! log::warn(format_args!("{} stations do not answer", 3));
//! ```

use std::fmt::Display;
use std::panic::Location;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Very detailed.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Nothing works.
    Critical,
}

/// Very detailed.
#[track_caller]
pub fn trace(message: impl Display) {
    line(Level::Trace, message);
}

/// For the author.
#[track_caller]
pub fn debug(message: impl Display) {
    line(Level::Debug, message);
}

/// For the operator.
#[track_caller]
pub fn info(message: impl Display) {
    line(Level::Info, message);
}

/// Something to look at.
#[track_caller]
pub fn warn(message: impl Display) {
    line(Level::Warn, message);
}

/// Something failed.
#[track_caller]
pub fn error(message: impl Display) {
    line(Level::Error, message);
}

/// Nothing works.
#[track_caller]
pub fn critical(message: impl Display) {
    line(Level::Critical, message);
}

/// Writes one line of any level.
#[track_caller]
pub fn line(level: Level, message: impl Display) {
    let caller = Location::caller();
    write(
        level,
        &format!("{}:{}", caller.file(), caller.line()),
        &message.to_string(),
    );
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, context: &str, message: &str) {
    use crate::bindings::wasi::logging::logging;

    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, context, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, context: &str, message: &str) {
    eprintln!("{level:?} {context}: {message}");
}

//! What the program logs to standard error.

use std::io;

use anyhow::Context;
use clap::{ArgAction, Args};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::connect::GLOBAL;
use crate::output::Prose;

/// The environment variable with a filter of one's own, as the crate tracing-subscriber reads it.
pub(crate) const LOG_VARIABLE: &str = "MILLSTREAM_LOG";

/// Says of a peer that is gone, ten times a second and as an error each time, what our own links say once;
/// and what fails for good is told by who asked for it.
const REPETITIVE: &str = "openraft=off";

/// How much is said on standard error.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct LogArgs {
    /// Logs more: once for what happens, twice for how, three times for all of it
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    verbose: u8,

    /// Says less: once for errors and no remarks, twice for nothing but the error it fails with
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL, conflicts_with = "verbose")]
    quiet: u8,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// All of it.
    Trace,
}

const LEVELS: [LogLevel; 6] = [
    LogLevel::Off,
    LogLevel::Error,
    LogLevel::Warn,
    LogLevel::Info,
    LogLevel::Debug,
    LogLevel::Trace,
];

impl LogLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The filter: this level for our own crates, and of others' no more than warnings, except
    /// when all is wanted.
    fn filter(self) -> String {
        match self {
            Self::Off | Self::Trace => self.as_str().to_owned(),
            Self::Error | Self::Warn => format!("{},{REPETITIVE}", self.as_str()),
            Self::Info => format!("warn,millstream=info,{REPETITIVE}"),
            Self::Debug => "warn,millstream=debug".to_owned(),
        }
    }
}

impl LogArgs {
    /// The level that is meant, where `usual` is the command's own.
    fn level(self, usual: LogLevel) -> LogLevel {
        let last = LEVELS.len() - 1;
        let index =
            (usual as usize + usize::from(self.verbose)).saturating_sub(usize::from(self.quiet));
        LEVELS[index.min(last)]
    }

    pub(crate) fn prose(self) -> Prose {
        if self.quiet > 0 {
            Prose::Hidden
        } else {
            Prose::Shown
        }
    }

    /// Starts logging to standard error.
    pub(crate) fn start(self, usual: LogLevel) -> anyhow::Result<()> {
        let own = std::env::var(LOG_VARIABLE)
            .ok()
            .filter(|filter| !filter.is_empty());
        let filter = own.unwrap_or_else(|| self.level(usual).filter());
        let filter = EnvFilter::try_new(filter)
            .with_context(|| format!("${LOG_VARIABLE} is not a filter"))?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            // Standard error may be gone, and there is no other place to tell it.
            .log_internal_errors(false)
            .finish();
        tracing::subscriber::set_global_default(subscriber).context("cannot start logging")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_move_the_level_from_the_commands_own() {
        let check = |verbose, quiet, usual, expected| {
            assert_eq!(LogArgs { verbose, quiet }.level(usual), expected);
        };
        check(0, 0, LogLevel::Warn, LogLevel::Warn);
        check(1, 0, LogLevel::Warn, LogLevel::Info);
        check(9, 0, LogLevel::Warn, LogLevel::Trace);
        check(0, 1, LogLevel::Warn, LogLevel::Error);
        check(0, 9, LogLevel::Info, LogLevel::Off);
    }

    #[test]
    fn every_level_is_a_filter() {
        for level in LEVELS {
            assert!(EnvFilter::try_new(level.filter()).is_ok(), "{level:?}");
        }
    }
}

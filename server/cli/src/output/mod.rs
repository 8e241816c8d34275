//! What the program says: data to standard output, prose to standard error.
//!
//! A command describes its result as a [`View`], which is written as text for people or as JSON for
//! programs, as `--output` says. The JSON of a view is stable: fields are added, never renamed or
//! removed. Records and log lines are a stream: one line each, or with JSON one object a line.

mod progress;
mod stdout;
mod table;
mod units;

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use progress::Progress;
pub(crate) use stdout::{OutputClosed, Stdout};
pub(crate) use table::{Facts, Table, plain};
pub(crate) use units::{bytes, count, counted, duration_ms, elapsed, micros, time_ms};

/// How results are written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Tables and sentences, for people
    #[default]
    Table,
    /// JSON, for programs: its fields are added to, never renamed
    Json,
}

/// A result: JSON by its `Serialize`, text by [`View::text`].
pub(crate) trait View: Serialize {
    /// The same for people, each line ended.
    fn text(&self) -> String;
}

/// Where a command writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: OutputFormat,
    prose: Prose,
}

/// Whether prose is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prose {
    /// Progress and remarks go to standard error.
    Shown,
    /// Errors alone.
    Hidden,
}

impl Output {
    pub(crate) fn new(format: OutputFormat, prose: Prose) -> Self {
        Self { format, prose }
    }

    pub(crate) fn format(self) -> OutputFormat {
        self.format
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Writes a result.
    pub(crate) fn print(self, view: &impl View) -> anyhow::Result<()> {
        let text = match self.format {
            OutputFormat::Table => view.text(),
            OutputFormat::Json => json(view)?,
        };
        Self::write(text.as_bytes())
    }

    /// Writes bytes as they are.
    pub(crate) fn write(bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = Stdout::new();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .context("cannot write to standard output")
    }

    /// Says something to a person, unless they want to hear of errors only.
    pub(crate) fn say(self, text: impl Display) {
        if self.prose == Prose::Shown {
            say(text);
        }
    }

    /// What shows progress on standard error: only to a person who looks at a terminal.
    pub(crate) fn progress(self) -> Progress {
        if self.prose == Prose::Shown && std::io::stderr().is_terminal() {
            Progress::visible()
        } else {
            Progress::hidden()
        }
    }
}

/// Writes a line to standard error. Nobody is there to be told when that fails.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text =
        serde_json::to_string_pretty(value).context("cannot write the result as JSON")?;
    text.push('\n');
    Ok(text)
}

/// Both forms of a view, for snapshots.
#[cfg(test)]
pub(crate) fn both_forms(view: &impl View) -> String {
    format!("{}---\n{}", view.text(), json(view).unwrap())
}

//! What is told on standard error while a run goes on: where it is, to a person at a terminal;
//! otherwise a line for each row that is done.

use std::collections::HashSet;
use std::io::IsTerminal;

use super::report::Row;
use crate::output::{Output, OutputFormat, Prose, say};

/// Tells how far a run is.
pub(super) struct Progress {
    line: crate::output::Progress,
    rows: Rows,
}

/// Whether rows are told one by one.
enum Rows {
    /// The report shows them soon enough.
    Untold,
    /// These have been told.
    Told(HashSet<String>),
}

impl Progress {
    pub(super) fn new() -> Self {
        let rows = if std::io::stderr().is_terminal() {
            Rows::Untold
        } else {
            Rows::Told(HashSet::new())
        };
        Self {
            line: Output::new(OutputFormat::Table, Prose::Shown)
                .progress()
                .endless(),
            rows,
        }
    }

    /// What is done now.
    pub(super) fn now(&self, what: impl Into<String>) {
        self.line.message(|| what.into());
    }

    /// A row that is done. A row is told once.
    pub(super) fn row(&mut self, row: &Row) {
        if let Rows::Told(told) = &mut self.rows
            && told.insert(row.name.clone())
        {
            say(row.line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.clear();
    }
}

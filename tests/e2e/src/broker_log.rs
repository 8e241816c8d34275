//! What a broker process writes to its standard error.

use std::fs::{self, File};
use std::path::PathBuf;

/// Lines of a broker's log that a failing test shows.
const LINES_SHOWN: usize = 60;

/// A broker's log, through all its starts.
#[derive(Clone, Debug)]
pub(crate) struct BrokerLog(pub(crate) PathBuf);

impl BrokerLog {
    /// Where a broker that is started writes to.
    pub(crate) fn file(&self) -> File {
        let log = File::options().create(true).append(true).open(&self.0);
        log.expect("a file for the broker's log")
    }

    /// All that it has logged.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Shows its end, if a test fails.
    pub(crate) fn show_if_failing(&self) {
        if !std::thread::panicking() {
            return;
        }
        let log = self.text();
        let lines: Vec<_> = log.lines().collect();
        let shown = lines.len().saturating_sub(LINES_SHOWN);
        eprintln!(
            "the end of the broker's log in {}:\n{}",
            self.0.display(),
            lines[shown..].join("\n")
        );
    }
}

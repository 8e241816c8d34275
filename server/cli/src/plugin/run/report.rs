//! What a run says: records to standard output, everything else to standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use millstream_runtime::{CallError, Metric};

use super::emitted;
use super::expect::Expectation;
use super::input::InputRecord;
use super::log::offsets;
use super::session::{Failure, Session, Tally, Told};
use crate::errors::{Exit, Problem};
use crate::output::{Output, Stdout, count, counted, duration_ms, elapsed, plain};

/// Says what becomes of the records.
pub(super) struct Report {
    output: Output,
    /// The plugin's names for its outputs.
    names: Vec<String>,
    stdout: Stdout,
    expectation: Option<Expectation>,
}

impl Report {
    pub(super) fn new(
        output: Output,
        names: Vec<String>,
        expectation: Option<Expectation>,
    ) -> Self {
        Self {
            output,
            names,
            stdout: Stdout::new(),
            expectation,
        }
    }

    pub(super) fn tell(&mut self, told: Told<'_>) -> anyhow::Result<()> {
        let Told::Emitted(record, emit) = told else {
            if let Some(text) = remark(&told) {
                self.output.say(text);
            }
            return Ok(());
        };
        // An output that is not declared was refused with the call.
        let name = self.names.get(emit.output).map_or("", String::as_str);
        let line = emitted::line(self.output.format(), name, record.offset, &emit)?;
        if let Some(expectation) = &mut self.expectation {
            expectation.compare(&line)?;
        }
        writeln!(self.stdout, "{line}").context("cannot write to standard output")
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.stdout
            .flush()
            .context("cannot write to standard output")
    }

    /// Ends a run over all records: it fails if a call has, or what was written is not as expected.
    pub(super) fn finish(self, tally: &Tally) -> anyhow::Result<()> {
        let difference = self.expectation.map(Expectation::finish).transpose()?;
        match difference.flatten().or_else(|| failed(tally)) {
            Some(problem) => Err(problem.into()),
            None => Ok(()),
        }
    }
}

/// What is said of a record that was not emitted.
fn remark(told: &Told<'_>) -> Option<String> {
    match told {
        Told::Emitted(..) => None,
        Told::Rejected(record, reason) => {
            Some(format!("rejected {}: {}", place(record), plain(reason)))
        }
        Told::Retried(record, after_ms, reason) => Some(format!(
            "to be retried after {}, {}: {}",
            duration_ms(u64::from(*after_ms)),
            place(record),
            plain(reason)
        )),
        Told::Failed(record, failure) => {
            Some(format!("failed {}: {}", place(record), words(failure)))
        }
        Told::CallFailed(records, failure) => {
            let (first, last) = (records.first()?, records.last()?);
            Some(format!(
                "the call with {} failed, looking for the record: {}",
                offsets(first.offset, last.offset),
                words(failure)
            ))
        }
    }
}

fn place(record: &InputRecord) -> String {
    format!("offset {} (line {})", record.offset, record.line)
}

/// Why a call failed, and where in the guest.
fn words(failure: &Failure) -> String {
    let mut words = plain(&failure.to_string());
    if let Failure::Call(CallError::Trap { backtrace, .. }) = failure {
        for function in backtrace {
            // Writing to a string does not fail.
            let _ = write!(words, "\n  in {}", plain(function));
        }
    }
    words
}

fn failed(tally: &Tally) -> Option<Problem> {
    let problem = match (tally.failed_calls, tally.failed) {
        (0, _) => return None,
        (calls, 0) => Problem::new(
            Exit::Failure,
            format!(
                "{} failed, although none of the records does on its own",
                counted(calls, "call")
            ),
        )
        .advise("look at what the plugin keeps in memory between records; `--memory` and `--deadline` raise its limits"),
        (_, records) => Problem::new(Exit::Failure, format!("{} failed", counted(records, "record")))
            .advise("a plugin rejects a record that it cannot handle, and does not trap; the offsets and reasons are told above, unless by `--quiet`"),
    };
    Some(problem)
}

/// What the run came to.
pub(super) fn summary(deployment: &str, session: &Session) -> String {
    let tally = session.tally();
    let per_record = tally.time.as_secs_f64() * 1e6 / tally.records.max(1) as f64;
    let mut text = format!(
        "ran {deployment} over {}: {} emitted, {} rejected, {} to be retried, {} failed\n\
         state: {}; in the plugin: {}, {}, {per_record:.1} µs a record",
        counted(tally.records, "record"),
        count(tally.emitted),
        count(tally.rejected),
        count(tally.retried),
        count(tally.failed),
        keys(session.state_entries()),
        counted(tally.calls, "call"),
        elapsed(tally.time),
    );
    for (name, metric) in session.metrics() {
        // Writing to a string does not fail.
        let _ = match metric {
            Metric::Counter(number) => write!(text, "\nmetric {name}: {}", count(number)),
            Metric::Gauge(number) => write!(text, "\nmetric {name}: {number}"),
        };
    }
    let dropped = session.log_lines_dropped();
    if dropped > 0 {
        let _ = write!(
            text,
            "\n{} more, beyond --log-lines-per-second",
            counted(dropped, "log line")
        );
    }
    text
}

fn keys(entries: usize) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        entries => format!("{} entries", count(entries as u64)),
    }
}

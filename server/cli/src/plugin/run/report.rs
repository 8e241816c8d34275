//! What a run says: records to standard output, everything else to standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use millstream_runtime::{CallError, Metric};
use rustc_demangle::demangle;

use super::emitted;
use super::expect::Expectation;
use super::log::At;
use super::session::{Failure, Session, Tally, Told};
use crate::errors::{Exit, Problem};
use crate::output::{Output, Stdout, count, counted, duration_ms, elapsed, micros, plain};

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
        let Told::Emitted(cause, emit) = told else {
            if let Some(text) = remark(&told) {
                self.output.say(text);
            }
            return Ok(());
        };
        // An output that is not declared was refused with the call.
        let name = self.names.get(emit.output).map_or("", String::as_str);
        let line = emitted::line(self.output.format(), name, cause, &emit)?;
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

/// What is said, unless it is a record that was emitted.
fn remark(told: &Told<'_>) -> Option<String> {
    match told {
        Told::Emitted(..) => None,
        Told::Rejected(cause, reason) => Some(format!("rejected {cause}: {}", plain(reason))),
        Told::Retried(cause, after_ms, reason) => Some(format!(
            "to be retried after {}, {cause}: {}",
            duration_ms(u64::from(*after_ms)),
            plain(reason)
        )),
        Told::Failed(cause, failure) => Some(format!("failed {cause}: {}", words(failure))),
        Told::CallFailed(at, failure) => {
            let sought = match at {
                At::Timers { .. } => "timer",
                At::Init | At::Records { .. } => "record",
            };
            let words = words(failure);
            Some(format!(
                "the call with {at} failed, looking for the {sought}: {words}"
            ))
        }
    }
}

/// Why a call failed, and where in the guest.
fn words(failure: &Failure) -> String {
    let mut words = plain(&failure.to_string());
    if let Failure::Call(CallError::Trap { backtrace, .. }) = failure {
        for function in backtrace {
            // Writing to a string does not fail.
            let _ = write!(
                words,
                "\n  in {}",
                plain(&format!("{:#}", demangle(function)))
            );
        }
    }
    words
}

fn failed(tally: &Tally) -> Option<Problem> {
    let problem = match (tally.failed_calls, failures(tally).as_str()) {
        (0, _) => return None,
        (calls, "") => Problem::new(
            Exit::Failure,
            format!(
                "{} failed, although none of what they were made with does on its own",
                counted(calls, "call")
            ),
        )
        .advise("look at what the plugin keeps in memory between records; `--memory` and `--deadline` raise its limits"),
        (_, failures) => Problem::new(Exit::Failure, format!("{failures} failed"))
            .advise("a plugin rejects what it cannot handle, and does not trap; where and why is told above, unless by `--quiet`"),
    };
    Some(problem)
}

/// `2 records and 1 timer`; nothing, when none has failed.
fn failures(tally: &Tally) -> String {
    let counts = [(tally.failed, "record"), (tally.failed_timers, "timer")];
    let counts = counts.into_iter().filter(|(number, _)| *number > 0);
    let counts: Vec<_> = counts.map(|(number, what)| counted(number, what)).collect();
    counts.join(" and ")
}

/// What the run came to.
pub(super) fn summary(deployment: &str, session: &Session) -> String {
    let tally = session.tally();
    let per_record = tally.time.as_secs_f64() * 1e6 / tally.records.max(1) as f64;
    let mut text = format!(
        "ran {deployment} over {}: {} emitted, {} rejected, {} to be retried, {} failed\n\
         state: {}; in the plugin: {}, {}, {} a record",
        counted(tally.records, "record"),
        count(tally.emitted),
        count(tally.rejected),
        count(tally.retried),
        count(tally.failed + tally.failed_timers),
        keys(session.state_entries()),
        counted(tally.calls, "call"),
        elapsed(tally.time),
        a_record(per_record),
    );
    if let Some(timers) = timers(session) {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{timers}");
    }
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

/// How long a record took: `12.3 µs`, `325.2 ms`.
fn a_record(us: f64) -> String {
    if us < 1e3 {
        format!("{us:.1} µs")
    } else {
        micros(us as u64)
    }
}

/// What became of timers, if there were any.
fn timers(session: &Session) -> Option<String> {
    let (fired, waiting) = (session.tally().timers, session.timers_waiting());
    if fired == 0 && waiting == 0 {
        return None;
    }
    let mut text = format!("timers: {} fired", count(fired));
    if waiting > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, ", {} still wait", count(waiting as u64));
    }
    Some(text)
}

fn keys(entries: usize) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        entries => format!("{} entries", count(entries as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_a_record_is_told_in_a_larger_unit() {
        assert_eq!(a_record(0.04), "0.0 µs");
        assert_eq!(a_record(999.4), "999.4 µs");
        assert_eq!(a_record(325_241.7), "325.2 ms");
    }

    #[test]
    fn functions_are_told_as_they_are_written() {
        let failure = Failure::Call(CallError::Trap {
            reason: "panicked at src/lib.rs:5:9: no".to_owned(),
            backtrace: vec![
                "_ZN10heat_watch6handle17h1234567890abcdefE".to_owned(),
                "memcpy".to_owned(),
            ],
        });
        insta::assert_snapshot!(words(&failure), @r"
        trapped: panicked at src/lib.rs:5:9: no
          in heat_watch::handle
          in memcpy
        ");
    }
}

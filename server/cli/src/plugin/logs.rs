//! `millstream plugin logs`.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use millstream::{Admin, Advice, ErrorCode, LogLevel, PluginLogLine};
use serde::Serialize;

use crate::absence::Absence;
use crate::cli::Context;
use crate::output::{OutputFormat, Stdout, plain, time_ms};

/// What is kept, for `--help`.
pub(super) const HELP: &str = "\
A broker keeps the newest 1,000 lines of a deployment in its memory: they do not outlive it, and go with the \
deployment. What is to be kept is followed, for example into a file: `--follow --output json >> plugin.log`. \
Of records that become dead letters or are skipped, a worker tells five a second; the rest of a second is one \
line with their number. All of them are in the dead-letter topic: `millstream plugin dlq list`.";

/// How soon it is looked again whether the broker is back.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The deployment
    name: String,

    /// Goes on with the lines that come, also when the broker is away for a while; ends with the deployment
    #[arg(short, long)]
    follow: bool,

    /// At most this many of the lines that are kept, the newest
    #[arg(long, default_value_t = 1000, value_name = "LINES")]
    tail: u32,
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let mut printer = Printer::new(context.output.format());
    if !args.follow {
        let mut lines = admin.plugin_logs(args.name).tail(args.tail).await?;
        while let Some(line) = lines.next().await {
            printer.print(&line?)?;
        }
        return Ok(());
    }
    let mut following = Following {
        tail: args.tail,
        name: args.name,
        has_begun: false,
        absence: Absence::new(context.output),
    };
    loop {
        match following.go_on(&admin, &mut printer).await {
            // A broker that stops ends the lines as well: whether that was it shows when they are asked for again.
            Ok(()) => {}
            Err(error) if following.has_begun => match may_pass(&error) {
                Passing::Gone => return Ok(()),
                Passing::BrokerAway => following.absence.begins(),
                Passing::NotReady => {}
                Passing::No => return Err(error),
            },
            Err(error) => return Err(error),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Lines that are followed, from one broker's life to the next.
struct Following {
    name: String,
    tail: u32,
    /// Whether the deployment was found: what is wrong from then on may pass.
    has_begun: bool,
    absence: Absence,
}

impl Following {
    /// Prints lines until the stream of them ends.
    async fn go_on(&mut self, admin: &Admin, printer: &mut Printer) -> anyhow::Result<()> {
        // Where it begins again, what was printed is left out.
        let request = admin.plugin_logs(&self.name).tail(self.tail).follow();
        let mut lines = request.await?;
        self.tail = u32::MAX;
        printer.begin_anew();
        // A deployment that is not there is told by the first line; that it is there, by none.
        if !self.has_begun || self.absence.is_told() {
            admin.describe_plugin(&self.name).await?;
            self.has_begun = true;
        }
        self.absence.ends();
        while let Some(line) = lines.next().await {
            printer.print(&line?)?;
        }
        Ok(())
    }
}

/// What becomes of a follower whose lines have ended with an error.
enum Passing {
    /// The deployment was removed.
    Gone,
    /// It is waited for.
    BrokerAway,
    /// The broker is there, and its deployment soon.
    NotReady,
    No,
}

fn may_pass(error: &anyhow::Error) -> Passing {
    let Some(error) = error.downcast_ref::<millstream::Error>() else {
        return Passing::No;
    };
    match (error.code(), error.advice()) {
        (Some(ErrorCode::UnknownDeployment), _) => Passing::Gone,
        (_, Advice::GiveUp) => Passing::No,
        (Some(_), _) => Passing::NotReady,
        (None, _) => Passing::BrokerAway,
    }
}

/// Prints lines, each once.
struct Printer {
    format: OutputFormat,
    stdout: Stdout,
    /// The lines of the newest moment that was printed.
    newest: Vec<PluginLogLine>,
    /// Of a stream that begins anew, what was printed already: up to that moment, and these at it.
    before: Option<(i64, Vec<PluginLogLine>)>,
}

impl Printer {
    fn new(format: OutputFormat) -> Self {
        Self {
            format,
            stdout: Stdout::new(),
            newest: Vec::new(),
            before: None,
        }
    }

    fn print(&mut self, line: &PluginLogLine) -> anyhow::Result<()> {
        if !self.is_new(line) {
            return Ok(());
        }
        let text = text(line, self.format)?;
        self.stdout
            .write_all(text.as_bytes())
            .and_then(|()| self.stdout.flush())
            .context("cannot write to standard output")
    }

    /// The lines begin anew, with some that were printed.
    fn begin_anew(&mut self) {
        let newest_ms = self.newest.first().map(|newest| newest.at_ms);
        self.before = newest_ms.map(|at_ms| (at_ms, self.newest.clone()));
    }

    /// Whether a line is to be printed. They come in the order of their times.
    fn is_new(&mut self, line: &PluginLogLine) -> bool {
        if let Some((newest_ms, printed)) = &mut self.before {
            if line.at_ms < *newest_ms {
                return false;
            }
            if let Some(at) = printed.iter().position(|printed| printed == line) {
                printed.swap_remove(at);
                return false;
            }
        }
        if self
            .newest
            .first()
            .is_some_and(|newest| newest.at_ms != line.at_ms)
        {
            self.newest.clear();
        }
        self.newest.push(line.clone());
        true
    }
}

/// A log line as JSON: one object a line.
#[derive(Debug, Serialize)]
struct LogLineView<'a> {
    at_ms: i64,
    /// `trace` to `critical`.
    level: &'static str,
    topic: &'a str,
    partition: u32,
    context: &'a str,
    message: &'a str,
}

fn text(line: &PluginLogLine, format: OutputFormat) -> anyhow::Result<String> {
    let level = level(line.level);
    Ok(match format {
        OutputFormat::Table => {
            let context = if line.context.is_empty() {
                String::new()
            } else {
                format!(" {}:", plain(&line.context))
            };
            let place = format!("{}-{}", plain(&line.topic), line.partition);
            format!(
                "{} {:8} {place}{context} {}\n",
                time_ms(line.at_ms),
                level.to_uppercase(),
                plain(&line.message)
            )
        }
        OutputFormat::Json => {
            let view = LogLineView {
                at_ms: line.at_ms,
                level,
                topic: &line.topic,
                partition: line.partition,
                context: &line.context,
                message: &line.message,
            };
            serde_json::to_string(&view).context("cannot write a log line as JSON")? + "\n"
        }
    })
}

pub(super) fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_printed_once() {
        let line = |at_ms, message: &str| PluginLogLine {
            at_ms,
            level: LogLevel::Info,
            topic: "t".to_owned(),
            partition: 0,
            context: String::new(),
            message: message.to_owned(),
        };
        let mut printer = Printer::new(OutputFormat::Table);
        let all = [line(1, "a"), line(2, "b"), line(2, "b")];
        assert!(all.iter().all(|line| printer.is_new(line)));
        printer.begin_anew();
        let again = [
            line(1, "a"),
            line(2, "b"),
            line(2, "b"),
            line(2, "b"),
            line(2, "c"),
        ];
        let new: Vec<_> = again.iter().map(|line| printer.is_new(line)).collect();
        assert_eq!(new, [false, false, false, true, true]);
    }

    #[test]
    fn a_line_in_both_forms() {
        let line = PluginLogLine {
            at_ms: 1_517_270_400_123,
            level: LogLevel::Warn,
            topic: "earthquakes".to_owned(),
            partition: 2,
            context: "quake-alert".to_owned(),
            message: "no magnitude\u{1b}[31m".to_owned(),
        };
        insta::assert_snapshot!(text(&line, OutputFormat::Table).unwrap(), @r"2018-01-30T00:00:00.123Z WARN     earthquakes-2 quake-alert: no magnitude\u{1b}[31m");
        insta::assert_snapshot!(text(&line, OutputFormat::Json).unwrap(), @r#"{"at_ms":1517270400123,"level":"warn","topic":"earthquakes","partition":2,"context":"quake-alert","message":"no magnitude\u001b[31m"}"#);
    }
}

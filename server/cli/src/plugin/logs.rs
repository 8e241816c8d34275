//! `millstream plugin logs`.

use std::io::Write;

use anyhow::Context as _;
use clap::Args;
use millstream::{LogLevel, PluginLogLine};
use serde::Serialize;

use crate::cli::Context;
use crate::output::{OutputFormat, Stdout, plain, time_ms};

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The deployment
    name: String,

    /// Goes on with the lines that come
    #[arg(short, long)]
    follow: bool,

    /// At most this many of the lines that are kept, the newest
    #[arg(long, default_value_t = 1000, value_name = "LINES")]
    tail: u32,
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> anyhow::Result<()> {
    let mut request = context
        .admin()
        .await?
        .plugin_logs(args.name)
        .tail(args.tail);
    if args.follow {
        request = request.follow();
    }
    let mut lines = request.await?;
    let format = context.output.format();
    let mut stdout = Stdout::new();
    while let Some(line) = lines.next().await {
        let text = text(&line?, format)?;
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .context("cannot write to standard output")?;
    }
    Ok(())
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

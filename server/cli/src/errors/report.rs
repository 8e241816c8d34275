//! The one place that prints errors.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use serde::Serialize;

use super::explain::{explain, find, wire_code};
use super::{Exit, Problem};
use crate::output::{OutputClosed, OutputFormat, plain, say};

/// Prints an error to standard error and says how the program ends.
///
/// ```text
/// error: cannot describe topic orders
///   cause: there is no topic orders
///   try: `millstream topic list` shows the topics
/// ```
///
/// With `--output json` it is one object a line: `{"error":{"message", "causes", "try",
/// "exit_code", "code"}}`, where `code` is the broker's, if it is the broker that refused.
pub(crate) fn report(error: &anyhow::Error, format: OutputFormat) -> Exit {
    if output_closed(error) {
        return Exit::Success;
    }
    let explanation = explain(error);
    if matches!(explanation.exit, Exit::Interrupted | Exit::Terminated) {
        return explanation.exit;
    }
    match format {
        OutputFormat::Table => say(text(error, io::stderr().is_terminal() && colours_wanted())),
        OutputFormat::Json => say(json(error)),
    }
    explanation.exit
}

/// Prints, as JSON, what the parser of the command line says: its first part is the message, the rest what
/// to try.
pub(crate) fn report_usage(rendered: &str) {
    let (message, rest) = rendered.split_once("\n\n").unwrap_or((rendered, ""));
    let mut problem = Problem::usage(message.trim_start_matches("error: ").trim_end());
    let rest = rest.trim();
    if !rest.is_empty() {
        problem = problem.advise(rest.to_owned());
    }
    say(json(&problem.into()));
}

/// Has whoever reads standard output gone? They have what they wanted.
fn output_closed(error: &anyhow::Error) -> bool {
    find::<io::Error>(error)
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<OutputClosed>())
}

/// <https://no-color.org>
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The error and its causes, the outermost first. An error that only passes on what its source
/// says is left out.
fn messages(error: &anyhow::Error) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if messages
            .last()
            .is_none_or(|above| !above.ends_with(&message))
        {
            messages.push(message);
        }
    }
    messages
}

fn text(error: &anyhow::Error, coloured: bool) -> String {
    let (red, bold, reset) = if coloured {
        ("\u{1b}[1;31m", "\u{1b}[1m", "\u{1b}[0m")
    } else {
        ("", "", "")
    };
    let mut out = String::new();
    for (index, message) in messages(error).iter().enumerate() {
        let message = lines_below(message);
        // Writing to a string does not fail.
        let _ = match index {
            0 => write!(out, "{red}error:{reset} {message}"),
            _ => write!(out, "\n  {bold}cause:{reset} {message}"),
        };
    }
    if let Some(advice) = explain(error).advice {
        let _ = write!(out, "\n  {bold}try:{reset} {}", lines_below(&advice));
    }
    out
}

/// Text of several lines, the later ones indented below the first.
fn lines_below(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n    ")
}

fn json(error: &anyhow::Error) -> String {
    #[derive(Serialize)]
    struct Report {
        error: Body,
    }
    #[derive(Serialize)]
    struct Body {
        message: String,
        causes: Vec<String>,
        r#try: Option<String>,
        exit_code: u8,
        code: Option<String>,
    }
    let explanation = explain(error);
    let mut messages = messages(error).into_iter();
    let body = Body {
        message: messages.next().unwrap_or_default(),
        causes: messages.collect(),
        r#try: explanation.advice.map(Into::into),
        exit_code: explanation.exit as u8,
        code: wire_code(error).map(|code| format!("{code:?}")),
    };
    serde_json::to_string(&Report { error: body }).unwrap_or_else(|_| text(error, false))
}

#[cfg(test)]
mod tests;

//! Runs of the command line, and what came of them.

use std::io::Write;
use std::process::{Command, ExitStatus, Output, Stdio};

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was run, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Finished {
    let output = command.output();
    finished(
        command,
        output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")),
    )
}

/// Runs a command that reads this.
pub fn run_with_input(command: &mut Command, input: &str) -> Finished {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program to run");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("a program that ends");
    writer.join().expect("the writer of its input");
    finished(command, output)
}

fn finished(command: &Command, output: Output) -> Finished {
    Finished {
        command: format!("{command:?}"),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Finished {
    /// Its exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The run, which has succeeded.
    pub fn success(self) -> Self {
        self.exited(0)
    }

    /// The run, which has ended with this code.
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }

    /// Its standard output, which is one JSON value.
    pub fn json(&self) -> serde_json::Value {
        let value = serde_json::from_str(&self.stdout);
        value.unwrap_or_else(|error| panic!("no JSON: {error}: {self:#?}"))
    }

    /// Its standard error, which ends with the one JSON object of an error.
    pub fn json_error(&self) -> serde_json::Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        let value: Result<serde_json::Value, _> = serde_json::from_str(line);
        value.unwrap_or_else(|error| panic!("no JSON: {error}: {self:#?}"))["error"].clone()
    }
}

//! Other programs: run, or found to be missing.

use std::io;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, anyhow};

use crate::child::Child;
use crate::errors::{Exit, Problem};

/// Runs a tool to its end. All that it says goes to standard error. When it is not installed, `advice`
/// says how to install it.
pub(super) async fn run(command: &mut Command, advice: &str) -> anyhow::Result<ExitStatus> {
    command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::inherit());
    let mut child = Child::spawn(command).map_err(|error| missing(command, error, advice))?;
    let name = name(command);
    child
        .wait()
        .await
        .with_context(|| format!("cannot wait for {name}"))
}

/// Runs a tool that makes the component of `plugin`, and fails when it does.
pub(super) async fn build(command: &mut Command, plugin: &str, advice: &str) -> anyhow::Result<()> {
    let status = run(command, advice).await?;
    if status.success() {
        return Ok(());
    }
    let what = format!("{} could not build {plugin}: {status}", name(command));
    Err(Problem::new(Exit::Failure, what)
        .advise("what it says above names the reason")
        .into())
}

/// Runs a tool that fetches another, and fails when it does.
pub(super) async fn fetch(command: &mut Command, what: &str, advice: &str) -> anyhow::Result<()> {
    let status = run(command, advice).await?;
    if status.success() {
        return Ok(());
    }
    let what = format!("{} could not fetch {what}: {status}", name(command));
    Err(Problem::new(Exit::ToolMissing, what)
        .advise("what it says above names the reason; is its registry reached from here?")
        .into())
}

/// That a tool cannot be run, and how to install it.
pub(super) fn missing(command: &Command, error: io::Error, advice: &str) -> anyhow::Error {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => Problem::new(
            Exit::ToolMissing,
            format!("{} is not installed", name(command)),
        )
        .advise(advice.to_owned()),
        _ => Problem::new(Exit::Failure, format!("cannot run {}", name(command))),
    };
    anyhow!(error).context(problem)
}

/// The program's name, without its folder.
fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: &anyhow::Error) -> (String, Exit) {
        let problem: &Problem = error.downcast_ref().unwrap();
        (problem.to_string(), problem.exit())
    }

    #[tokio::test]
    async fn a_tool_that_is_missing_is_named() {
        let mut command = Command::new("/nowhere/no-such-tool");
        let error = run(&mut command, "install it").await.unwrap_err();
        let expect = (
            "no-such-tool is not installed".to_owned(),
            Exit::ToolMissing,
        );
        assert_eq!(problem(&error), expect);
    }

    #[tokio::test]
    async fn a_failure_is_that_of_the_plugin_or_of_the_toolchain() {
        let error = build(&mut Command::new("false"), "my-plugin", "").await;
        let (text, exit) = problem(&error.unwrap_err());
        assert_eq!(exit, Exit::Failure);
        insta::assert_snapshot!(text, @"false could not build my-plugin: exit status: 1");
        let error = fetch(&mut Command::new("false"), "componentize-py", "").await;
        let (text, exit) = problem(&error.unwrap_err());
        assert_eq!(exit, Exit::ToolMissing);
        insta::assert_snapshot!(text, @"false could not fetch componentize-py: exit status: 1");
    }
}

//! Starting a broker of a demo: this very program, as a child process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::child::Child;
use crate::output::say;

/// How long a broker may take until clients can connect.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether they can.
const START_CHECK: Duration = Duration::from_millis(10);

/// Lines of a broker's log that are shown after a failure.
const LOG_LINES_SHOWN: usize = 20;

/// A command of this very program, to be completed.
pub(super) fn this_program() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Command::new(program))
}

/// Starts a broker by a command that has all but where to say that it is ready, and waits until clients can
/// connect. What it says goes to the end of `log`. It ends with this process, however that ends; a Ctrl-C reaches
/// this process alone.
pub(super) async fn launch(
    mut command: Command,
    ready: &Path,
    log: &Path,
) -> anyhow::Result<Child> {
    // One of its last start would say that it is ready.
    let _ = fs::remove_file(ready);
    let log = File::options().create(true).append(true).open(log);
    command
        .arg("--ready-file")
        .arg(ready)
        .arg("--until-stdin-closes")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log.context("cannot make the broker's log")?)
        .process_group(0);
    let mut process = Child::spawn(&mut command).context("cannot start the broker")?;
    until_ready(&mut process, ready).await?;
    Ok(process)
}

/// Waits until a broker has written its ready file.
async fn until_ready(process: &mut Child, ready: &Path) -> anyhow::Result<()> {
    let waiting = async {
        while !ready.exists() {
            if let Some(status) = process.ended().context("cannot wait for the broker")? {
                bail!("the broker ended with {status} before it was ready");
            }
            tokio::time::sleep(START_CHECK).await;
        }
        Ok(())
    };
    tokio::time::timeout(START_LIMIT, waiting)
        .await
        .unwrap_or_else(|_| {
            bail!(
                "the broker was not ready within {} seconds",
                START_LIMIT.as_secs()
            )
        })
}

/// Shows the end of a broker's log.
pub(super) fn show_log(log: &Path) {
    let Ok(text) = fs::read_to_string(log) else {
        return;
    };
    say("the end of the broker's log:");
    for line in last_lines(&text, LOG_LINES_SHOWN) {
        say(format_args!("  {line}"));
    }
}

fn last_lines(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let lines = text.lines().count();
    text.lines().skip(lines.saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        assert_eq!(last_lines("a\nb\nc\n", 2).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(last_lines("a\n", 2).collect::<Vec<_>>(), ["a"]);
    }

    #[tokio::test]
    async fn a_broker_that_ends_early_is_not_waited_for() {
        let mut process = Child::spawn(&mut Command::new("false")).unwrap();
        let error = until_ready(&mut process, Path::new("/nonexistent/ready"))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker ended with exit status: 1 before it was ready"
        );
    }
}

//! The demo's broker: a child process in a temporary directory.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use millstream_transport::Profile;
use millstream_transport::profile::PROFILE_VARIABLE;
use tempfile::TempDir;

use crate::child::Child;
use crate::output::say;

/// How long the broker may take until clients can connect.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether they can.
const START_CHECK: Duration = Duration::from_millis(10);

/// How long the broker may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Lines of the broker's log that are shown after a failure.
const LOG_LINES_SHOWN: usize = 20;

/// A broker with everything that it has written. Dropping it kills the process and removes the
/// directory.
#[derive(Debug)]
pub(super) struct Node {
    // Dropped in this order: the directory goes when nobody writes into it any more.
    process: Child,
    profile: Profile,
    log: PathBuf,
    _folder: TempDir,
}

impl Node {
    /// Starts this very program as `millstream dev` and waits until clients can connect.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("millstream-demo-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let path = |name: &str| folder.path().join(name);
        let (data_dir, ready, log) = (path("data"), path("ready"), path("broker.log"));
        let profile = data_dir.join("profile.toml");
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.arg("dev").args(["--listen", "127.0.0.1:0"]);
        command
            .arg("--data-dir")
            .arg(&data_dir)
            .arg("--ready-file")
            .arg(&ready);
        // The broker ends with this process, however that ends; a Ctrl-C reaches this process alone.
        command
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .process_group(0);
        // The user's own profile stays as it is.
        command.env(PROFILE_VARIABLE, &profile);
        command
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("cannot make the broker's log")?);
        let mut process = Child::spawn(&mut command).context("cannot start the broker")?;
        if let Err(error) = until_ready(&mut process, &ready).await {
            show_log(&log);
            return Err(error);
        }
        Ok(Self {
            process,
            profile: Profile::load(&profile)?,
            log,
            _folder: folder,
        })
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn address(&self) -> String {
        self.profile.addresses.join(", ")
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Asks the broker to stop and waits until it has.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self
            .process
            .stop(STOP_PATIENCE)
            .await
            .context("cannot stop the broker")?;
        if !status.success() {
            bail!("the broker ended with {status}");
        }
        Ok(())
    }

    /// Shows the end of the broker's log.
    pub(super) fn show_log(&self) {
        show_log(&self.log);
    }
}

/// Waits until a broker has written its ready file.
pub(super) async fn until_ready(process: &mut Child, ready: &Path) -> anyhow::Result<()> {
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

//! The demo's broker: a child process in a temporary directory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use millstream_transport::Profile;
use millstream_transport::profile::PROFILE_VARIABLE;
use tempfile::TempDir;

use crate::child::Child;
use crate::demo::launch::{launch, show_log, this_program};

/// How long the broker may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

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
        let mut command = this_program()?;
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir);
        // The user's own profile stays as it is.
        command.env(PROFILE_VARIABLE, &profile);
        let process = launch(command, &ready, &log).await;
        let process = process.inspect_err(|_| show_log(&log))?;
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

//! A cluster on this machine, made by the very commands that an operator uses: what the demo and the
//! bench start their brokers with.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use millstream_port::Port;
use millstream_transport::Profile;
use millstream_transport::profile::PROFILE_VARIABLE;
use serde_json::Value;

/// How long it may take until all is well with a cluster.
const WELL_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked.
const WELL_CHECK: Duration = Duration::from_millis(50);

/// The operator's folder, and the ports of the brokers that were made there. It starts no broker.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    dir: PathBuf,
    ports: Vec<Port>,
}

impl LocalCluster {
    /// Makes a cluster of one broker in a folder that is not there yet. Blocks, like all of this.
    ///
    /// # Errors
    ///
    /// What `millstream cluster init` says.
    pub(crate) fn init(dir: PathBuf) -> anyhow::Result<Self> {
        let mut cluster = Self {
            dir,
            ports: Vec::new(),
        };
        cluster.make("init")?;
        Ok(cluster)
    }

    /// Makes one more broker, which the cluster lets in once it is started. Returns its number.
    ///
    /// # Errors
    ///
    /// What `millstream cluster join` says: the cluster must run.
    pub(crate) fn join(&mut self) -> anyhow::Result<u32> {
        let told = self.make("join")?;
        let told: Value = serde_json::from_str(&told).context("cannot read what was joined")?;
        let number = u64::from(self.brokers());
        ensure!(
            told["broker_id"] == number,
            "a broker was given another number than {number}: {told}"
        );
        Ok(self.brokers())
    }

    fn make(&mut self, what: &str) -> anyhow::Result<String> {
        let port = Port::reserve()?;
        let dir = self.dir.to_str().context("the folder's name is no text")?;
        let listen = port.address().to_string();
        let told = self.run(&[
            "cluster", what, "--dir", dir, "--listen", &listen, "--output", "json",
        ])?;
        self.ports.push(port);
        Ok(told)
    }

    /// How many brokers were made; they are numbered from 1 on.
    pub(crate) fn brokers(&self) -> u32 {
        self.ports.len() as u32
    }

    /// Where a broker listens.
    pub(crate) fn address(&self, broker: u32) -> String {
        self.ports[broker as usize - 1].address().to_string()
    }

    /// A broker's own folder.
    pub(crate) fn folder(&self, broker: u32) -> PathBuf {
        self.dir.join(format!("broker-{broker}"))
    }

    /// A broker's configuration file.
    pub(crate) fn config(&self, broker: u32) -> PathBuf {
        self.folder(broker).join("millstream.toml")
    }

    /// Where the operator's profile is.
    pub(crate) fn profile_file(&self) -> PathBuf {
        self.dir.join("profile.toml")
    }

    /// The operator's profile, by which a client turns to these brokers first.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn profile(
        &self,
        brokers: impl IntoIterator<Item = u32>,
    ) -> anyhow::Result<Profile> {
        let mut profile = Profile::load(&self.profile_file())?;
        profile.addresses = brokers.into_iter().map(|it| self.address(it)).collect();
        Ok(profile)
    }

    /// Runs a command of this program as the operator, and returns what it prints.
    ///
    /// # Errors
    ///
    /// What the command says when it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let ran = Command::new(program)
            .args(arguments)
            .env(PROFILE_VARIABLE, self.profile_file())
            .stdin(Stdio::null())
            .output()
            .context("cannot start a command")?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            bail!("millstream {}: {}", arguments.join(" "), said.trim_end());
        }
        String::from_utf8(ran.stdout).context("a command has printed what is no text")
    }

    /// How the cluster stands, as a broker says: for people.
    ///
    /// # Errors
    ///
    /// What `millstream cluster status` says.
    pub(crate) fn status(&self, from: u32) -> anyhow::Result<String> {
        self.run(&["cluster", "status", "--address", &self.address(from)])
    }

    /// The same, to look things up in.
    ///
    /// # Errors
    ///
    /// The same.
    pub(crate) fn facts(&self, from: u32) -> anyhow::Result<Value> {
        let address = self.address(from);
        let arguments = [
            "cluster",
            "status",
            "--address",
            &address,
            "--output",
            "json",
        ];
        serde_json::from_str(&self.run(&arguments)?).context("cannot read how the cluster stands")
    }

    /// Waits until a broker says that all is well with as many brokers as were made, one or three: they all
    /// vote, and nothing is on its way from one to another.
    ///
    /// # Errors
    ///
    /// It is not within a minute, or the broker does not answer.
    pub(crate) fn until_well(&self, from: u32) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let facts = self.facts(from)?;
            if is_well(&facts, self.brokers() as usize) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < WELL_LIMIT,
                "the cluster was not well within {} s: {}",
                WELL_LIMIT.as_secs(),
                facts["problems"]
            );
            thread::sleep(WELL_CHECK);
        }
    }
}

fn is_well(facts: &Value, brokers: usize) -> bool {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let listed = facts["brokers"].as_array();
    let all_vote = listed.is_some_and(|listed| {
        let votes = |it: &Value| it["state"] == "live" && it["quorum"] == "voter";
        listed.len() == brokers && listed.iter().all(votes)
    });
    empty(&facts["problems"]) && facts["changing"]["count"] == 0 && all_vote
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_well_when_all_vote_and_nothing_is_wrong_or_under_way() {
        let broker = |state: &str, quorum: &str| json!({"state": state, "quorum": quorum});
        let facts = |problems: &[&str], changing: u32, brokers: &[Value]| json!({"problems": problems, "changing": {"count": changing}, "brokers": brokers});
        let voter = broker("live", "voter");
        let all = [voter.clone(), voter.clone(), voter.clone()];
        assert!(is_well(&facts(&[], 0, &all), 3));
        assert!(!is_well(&facts(&[], 0, &all[1..]), 3));
        assert!(!is_well(&facts(&[], 1, &all), 3));
        assert!(!is_well(&facts(&["broker 2 is gone"], 0, &all), 3));
        for other in [broker("live", "learner"), broker("gone", "voter")] {
            let mixed = [voter.clone(), voter.clone(), other];
            assert!(!is_well(&facts(&[], 0, &mixed), 3));
        }
        assert!(!is_well(&json!({}), 0));
    }
}

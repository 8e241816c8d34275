//! Three brokers as processes of the run, with a client process of their own.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;

use crate::bench::agent::{Agent, READY_LIMIT};
use crate::bench::process::{Process, Started};
use crate::bench::run::Bench;
use crate::local::LocalCluster;

/// How many brokers there are, and replicas of every partition.
pub(super) const BROKERS: u32 = 3;

/// The brokers. Dropping them ends them.
pub(super) struct Trio {
    pub(super) agent: Agent,
    pub(super) brokers: Brokers,
    folder: PathBuf,
}

/// The brokers without the client.
pub(super) struct Brokers {
    running: Vec<Option<Process>>,
    cluster: LocalCluster,
    started: Started,
}

/// Who does what for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    /// Who leads it.
    pub(super) leader: u32,
    /// Who leads the metadata quorum.
    pub(super) controller: u32,
}

impl Roles {
    /// A broker that does neither.
    pub(super) fn bystander(self) -> anyhow::Result<u32> {
        (1..=BROKERS)
            .find(|it| ![self.leader, self.controller].contains(it))
            .context("three brokers and two roles")
    }
}

impl Trio {
    /// Makes a cluster in a folder of this name, and waits until all is well.
    pub(super) fn start(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        let folder = bench.folder.join(name);
        let mut brokers = Brokers {
            running: Vec::new(),
            cluster: LocalCluster::init(folder.clone())?,
            started: bench.started.clone(),
        };
        brokers.start(1)?;
        for _ in 1..BROKERS {
            let broker = brokers.cluster.join()?;
            brokers.start(broker)?;
        }
        brokers.until_well()?;
        let profile = brokers.cluster.profile_file();
        let agent = Agent::start_with(&bench.started, &bench.identities, &profile, BROKERS as u8)?;
        Ok(Self {
            agent,
            brokers,
            folder,
        })
    }

    /// Ends the brokers, and removes their data.
    pub(super) fn close(self) -> anyhow::Result<()> {
        self.agent.stop()?;
        drop(self.brokers);
        fs::remove_dir_all(&self.folder).context("cannot remove the data of a cluster")
    }
}

impl Brokers {
    /// Starts a broker, and waits until clients can connect to it.
    pub(super) fn start(&mut self, broker: u32) -> anyhow::Result<()> {
        let config = self.cluster.config(broker);
        let process = self
            .started
            .spawn("member", ["--config".as_ref(), config.as_os_str()])?;
        process
            .receive(READY_LIMIT)
            .with_context(|| format!("broker {broker} is not ready"))?;
        let place = broker as usize - 1;
        if self.running.len() <= place {
            self.running.resize_with(place + 1, || None);
        }
        self.running[place] = Some(process);
        Ok(())
    }

    fn running(&self, broker: u32) -> anyhow::Result<&Process> {
        let process = self.running.get(broker as usize - 1);
        process
            .and_then(Option::as_ref)
            .with_context(|| format!("broker {broker} does not run"))
    }

    /// A broker's process.
    pub(super) fn id(&self, broker: u32) -> anyhow::Result<u32> {
        Ok(self.running(broker)?.id())
    }

    /// Ends a broker as a crash would, if that has not happened yet.
    pub(super) fn kill(&mut self, broker: u32) {
        self.running[broker as usize - 1] = None;
    }

    /// Has a broker stand still, or go on.
    pub(super) fn signal(&self, broker: u32, signal: Signal) -> anyhow::Result<()> {
        self.running(broker)?.signal(signal)
    }

    /// Waits until all of them are there and lack nothing.
    pub(super) fn until_well(&self) -> anyhow::Result<()> {
        self.cluster.until_well(1)
    }

    /// Where a broker listens.
    pub(super) fn address(&self, broker: u32) -> String {
        self.cluster.address(broker)
    }

    /// Who does what for each of a topic's partitions.
    pub(super) fn roles(&self, topic: &str) -> anyhow::Result<Vec<Roles>> {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|it| u32::try_from(it).ok());
            number.context("a broker's number")
        };
        let facts = self.cluster.facts(1)?;
        let controller = number(&facts["controller"])?;
        let told = self
            .cluster
            .run(&["topic", "describe", topic, "--output", "json"])?;
        let told: Value = serde_json::from_str(&told).context("cannot read a topic")?;
        let partitions = told["topics"][0]["partitions"].as_array();
        let partitions = partitions.context("a topic has partitions")?.iter();
        partitions
            .map(|it| {
                Ok(Roles {
                    leader: number(&it["leader"])?,
                    controller,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bystander_is_neither() {
        let of = |leader, controller| Roles { leader, controller }.bystander().unwrap();
        assert_eq!((of(1, 2), of(1, 3), of(3, 3)), (3, 2, 1));
    }
}

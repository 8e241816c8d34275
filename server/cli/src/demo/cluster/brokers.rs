//! The demo's brokers: child processes in a temporary folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millstream::{Client, TopicDescription};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::child::Child;
use crate::demo::launch::{launch, show_log, this_program};
use crate::local::LocalCluster;
use crate::output::say;

/// How many there are.
pub(super) const BROKERS: u32 = 3;

/// How often it is looked how the cluster stands.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The brokers with everything that they have written. Dropping them kills the processes and removes the
/// folder.
#[derive(Debug)]
pub(super) struct Brokers {
    // Dropped in this order: the folder goes when nobody writes into it any more.
    running: Vec<Option<Child>>,
    cluster: LocalCluster,
    folder: TempDir,
}

impl Brokers {
    /// Makes a cluster. Nothing is started yet.
    pub(super) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("millstream-demo-cluster-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let cluster = LocalCluster::init(folder.path().join("cluster"))?;
        Ok(Self {
            running: Vec::new(),
            cluster,
            folder,
        })
    }

    /// Where everything is.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the first broker, has the others join it, and waits until all is well.
    pub(super) async fn start_all(&mut self) -> anyhow::Result<()> {
        self.start(1).await?;
        for _ in 1..BROKERS {
            let broker = block_in_place(|| self.cluster.join())?;
            self.start(broker).await?;
        }
        block_in_place(|| self.cluster.until_well(1))
    }

    /// Starts a broker, and waits until clients can connect to it.
    pub(super) async fn start(&mut self, broker: u32) -> anyhow::Result<()> {
        let ready = self.cluster.folder(broker).join("ready");
        let mut command = this_program()?;
        command
            .args(["server", "--config"])
            .arg(self.cluster.config(broker));
        let process = launch(command, &ready, &self.log(broker)).await?;
        let place = broker as usize - 1;
        if self.running.len() <= place {
            self.running.resize_with(place + 1, || None);
        }
        self.running[place] = Some(process);
        Ok(())
    }

    fn log(&self, broker: u32) -> PathBuf {
        self.cluster.folder(broker).join("broker.log")
    }

    fn running(&mut self, broker: u32) -> anyhow::Result<&mut Option<Child>> {
        self.running
            .get_mut(broker as usize - 1)
            .with_context(|| format!("broker {broker} was never started"))
    }

    /// The process of a broker that runs.
    pub(super) fn process_id(&mut self, broker: u32) -> anyhow::Result<u32> {
        let process = self.running(broker)?.as_mut();
        let process = process.with_context(|| format!("broker {broker} does not run"))?;
        if let Some(status) = process.ended()? {
            bail!("broker {broker} ended by itself with {status}");
        }
        Ok(process.id())
    }

    /// Where a broker listens.
    pub(super) fn address(&self, broker: u32) -> String {
        self.cluster.address(broker)
    }

    /// Kills a broker (SIGKILL). Returns when that was.
    pub(super) fn kill(&mut self, broker: u32) -> anyhow::Result<Instant> {
        // It must be alive for that.
        self.process_id(broker)?;
        let process = self.running(broker)?.take();
        let killed_at = Instant::now();
        drop(process);
        Ok(killed_at)
    }

    /// A client that turns to these brokers first.
    pub(super) async fn client(
        &self,
        brokers: impl IntoIterator<Item = u32>,
    ) -> anyhow::Result<Client> {
        let client = Client::from_profile(&self.cluster.profile(brokers)?).await;
        client.context("cannot connect to the demo's brokers")
    }

    /// How the cluster stands, for people.
    pub(super) fn status(&self, from: u32) -> anyhow::Result<String> {
        block_in_place(|| self.cluster.status(from))
    }

    /// Waits until the cluster says that all brokers are there and every replica has what it should.
    pub(super) async fn until_whole(&self, from: u32, limit: Duration) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let facts = block_in_place(|| self.cluster.facts(from))?;
                if facts["problems"] == Value::Array(Vec::new()) {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let what = "the cluster is not well";
        tokio::time::timeout(limit, waiting).await.context(what)?
    }

    /// Waits until a broker's replicas of a topic have all that the partitions had when it was described.
    pub(super) async fn until_has(
        &self,
        broker: u32,
        topic: &TopicDescription,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let client = self.client([broker]).await?;
        let admin = client.admin();
        let waiting = async {
            loop {
                let told = admin.describe_replicas().await?;
                anyhow::ensure!(
                    told.broker_id == broker,
                    "broker {} answers for {broker}",
                    told.broker_id
                );
                let replicas = told.replicas.unwrap_or_default();
                let mut lacks = false;
                for partition in &topic.partitions {
                    let known = partition.known_log().map_err(millstream::Error::from)?;
                    let own = replicas.iter().find(|it| {
                        (it.partition.topic_id, it.partition.partition)
                            == (topic.topic_id, partition.partition)
                    });
                    lacks |= own.is_none_or(|it| it.log_end_offset < known.log_end_offset);
                }
                if !lacks {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let what = format!("broker {broker} has not caught up");
        let caught_up = tokio::time::timeout(limit, waiting).await.context(what);
        client.close();
        caught_up?
    }

    /// Shows the ends of their logs.
    pub(super) fn show_logs(&self) {
        for broker in 1..=self.cluster.brokers() {
            say(format_args!("broker {broker}:"));
            show_log(&self.log(broker));
        }
    }
}

//! A cluster of three to which everything happens that may: brokers are killed and stopped in their tracks, ways
//! between them are cut in one direction or both, datagrams are lost, late, repeated and out of order, a disk
//! is full, a log is spoilt. Clients and workers are at work all the while, and in the end it is seen whether what
//! clients were told is true, and whether each record that workers have handled has counted once.
//!
//! - `proxy`: what stands between the brokers
//! - `load`: the clients; `ledger`: what they were told, and how long fail-overs took
//! - `faults`: what happens
//! - `disk`: a small disk; `logs`: logs as they lie on the disks
//! - `oracle`: whether all is well
//!
//! The same seed gives the same faults in the same order, but not the same moments: the machine has a say in
//! these.

mod faults;
mod ledger;
mod load;
mod logs;
mod oracle;
pub mod proxy;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::cluster::{BrokerState, ClusterDescription};
use millstream::{Client, DeliveryGuarantee, PartitionIndex};
use millstream_port::Port;

pub use faults::Happened;
pub use ledger::{Killed, Ledger, Measured, Times};
pub use oracle::Verdict;

use crate::cluster::Cluster;
use crate::load::Load as WorkLoad;
use crate::patience::{until, within};
use crate::random::Random;
use crate::small_disk::SmallDisk;
use crate::storm;
use load::{Load, Work};
use proxy::{Network, Party, Proxy, Weather};

/// Brokers of the cluster, each of which keeps all partitions.
const BROKERS: Party = 3;

/// The topic, and its partitions.
const TOPIC: &str = "orders";
const PARTITIONS: u32 = 6;

/// Producers, each of all partitions.
const PRODUCERS: usize = 3;

/// How often each of the producers of the workers' input sends.
const WORK_EVERY: Duration = Duration::from_millis(25);

/// The broker with a small disk, and how small that is, bytes.
const SMALL: Party = 2;
const SMALL_DISK_BYTES: u64 = 1 << 30;

/// What a run is to have been through at least, and how long it may take.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides what happens, and in which order.
    pub seed: u64,
    /// Brokers that are killed.
    pub kills: usize,
    /// Brokers that stand still for a while.
    pub pauses: usize,
    /// Times that ways between brokers are cut.
    pub partitions: usize,
    /// Whether a disk is full for a while, and a log is spoilt.
    pub disks: bool,
    /// Records that are acknowledged.
    pub acked: usize,
    /// How long it may take.
    pub within: Duration,
}

impl Plan {
    /// The run of some minutes.
    pub fn full(seed: u64) -> Self {
        Self {
            seed,
            kills: 40,
            pauses: 20,
            partitions: 40,
            disks: true,
            acked: 200_000,
            within: Duration::from_secs(360),
        }
    }

    /// One of half a minute.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            kills: 4,
            pauses: 2,
            partitions: 4,
            disks: false,
            acked: 10_000,
            within: Duration::from_secs(180),
        }
    }
}

/// What a run has come to.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    took: Duration,
    happened: Happened,
    /// Datagrams that the proxies have passed on, and lost.
    datagrams: (u64, u64),
    verdict: Verdict,
    /// What the workers have done.
    handled: String,
    times: Vec<(Killed, Measured, Times)>,
    slowest: Vec<(Duration, String)>,
}

/// A cluster under test, and everything around it.
struct Run {
    cluster: Cluster,
    network: Arc<Network>,
    proxies: Vec<Proxy>,
    disk: Option<SmallDisk>,
    /// Asks how the cluster stands.
    observer: Client,
    ledger: Arc<Ledger>,
    random: Random,
    happened: Happened,
    began: Instant,
    /// Something else than a kill is wrong.
    is_disturbed: bool,
}

/// Runs it.
pub async fn run(plan: Plan) -> Report {
    let began = Instant::now();
    let mut run = Run::begin(&plan).await;
    let admin = run.observer.admin();
    let create = admin.create_topic(TOPIC).partitions(PARTITIONS);
    create.replication_factor(3).await.expect("a topic");
    let mut clients = Vec::new();
    for index in 0..PRODUCERS + 2 {
        clients.push(run.client(index).await);
    }
    let readers = [clients.remove(0), clients.remove(0)];
    let work = Work {
        topic: TOPIC,
        partitions: PARTITIONS,
        ledger: Arc::clone(&run.ledger),
        began: Instant::now(),
    };
    let load = Load::start(&work, clients, readers).await;
    let workload = run.deploy().await;
    run.until_well().await;
    run.faults(&plan, &load).await;
    run.network.set_weather(Weather::default());
    within("enough is acknowledged", run.ledger.has_acked(plan.acked)).await;
    let read = load.finish().await;
    let handled = run.reckon(workload).await;
    let verdict = run.judge(&read).await;
    let times = run.ledger.times().into_iter();
    let report = Report {
        took: began.elapsed(),
        datagrams: run.network.counts(),
        verdict,
        handled,
        times: times
            .map(|((killed, what), times)| (killed, what, times))
            .collect(),
        slowest: run.ledger.slowest(),
        happened: run.happened.clone(),
        plan,
    };
    println!("{report}");
    report
}

impl Run {
    /// Starts three brokers, each behind a proxy that others are told of, and one on a small disk.
    async fn begin(plan: &Plan) -> Self {
        let network = Network::seeded(plan.seed);
        let ports: Vec<Port> = (0..BROKERS)
            .map(|_| Port::reserve().expect("a free port"))
            .collect();
        let mut proxies = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let listens = port.address();
            proxies.push(Proxy::to(&network, index + 1, listens).await);
        }
        let mut cluster: Option<Cluster> = None;
        let mut disk = None;
        for (index, port) in ports.into_iter().enumerate() {
            let advertise = proxies[index].address().to_string();
            let options = ["--advertise", &advertise];
            let number = index + 1;
            let cluster = match &mut cluster {
                None => cluster.insert(Cluster::init(port, &options)),
                Some(cluster) => {
                    cluster.invite_at(port, &options);
                    cluster
                }
            };
            if number == SMALL && plan.disks {
                let data = cluster.folder_of(number).join("data");
                disk = SmallDisk::mount(&data, SMALL_DISK_BYTES);
                if let Some(disk) = &disk {
                    cluster.member(number).starts_within(disk.within());
                }
            }
            let member = cluster.member(number);
            member.launch();
            network.is_process_of(member.process_id(), number);
            member.until_ready();
        }
        let cluster = cluster.expect("a cluster");
        let observer = cluster.client(1).await;
        Self {
            observer,
            cluster,
            network,
            proxies,
            disk,
            ledger: Arc::default(),
            random: Random::seeded(plan.seed),
            happened: Happened::default(),
            began: Instant::now(),
            is_disturbed: false,
        }
    }

    /// A client that is told of one of the brokers, behind its proxy.
    async fn client(&self, index: usize) -> Client {
        let proxy = &self.proxies[index % BROKERS];
        self.cluster.client_of(proxy.address().to_string()).await
    }

    /// Has workers handle records that come steadily, each of which is to count once.
    async fn deploy(&self) -> WorkLoad {
        let admin = self.observer.admin();
        for (topic, partitions) in storm::TOPICS {
            let create = admin.create_topic(topic).partitions(partitions as u32);
            create.replication_factor(3).await.expect("a topic");
        }
        let spec = storm::spec(DeliveryGuarantee::ExactlyOnce, &["storm", "timers"]);
        let deployed = admin.deploy_plugin(storm::component(), spec).await;
        deployed.expect("workers");
        let mut clients = Vec::new();
        for index in 0..BROKERS {
            clients.push(self.client(index).await);
        }
        WorkLoad::paced(clients, storm::INPUT, Some(WORK_EVERY))
    }

    /// Waits until the workers have handled everything, and fails if anything has not counted once.
    async fn reckon(&self, workload: WorkLoad) -> String {
        let acked = workload.finish().await;
        storm::at_rest(&self.observer.admin()).await;
        storm::outcome(&self.observer).await.reckon(&acked)
    }

    /// Where a broker's data is, as it is seen from here.
    fn data_of(&self, broker: Party) -> PathBuf {
        match &self.disk {
            Some(disk) if broker == SMALL => disk.path(),
            _ => self.cluster.folder_of(broker).join("data"),
        }
    }

    /// The brokers that lead the partitions.
    async fn leaders(&self) -> Vec<Party> {
        until("a topic that is described", async || {
            let described = self.observer.admin().describe_topic(TOPIC).await.ok()?;
            let leaders = described.partitions.iter().map(|it| it.leader as Party);
            Some(leaders.collect())
        })
        .await
    }

    /// Waits until all brokers are there, and all partitions take records.
    async fn until_live(&self) {
        self.until_cluster("all brokers are there", |status| {
            let mut brokers = status.brokers.iter();
            brokers.all(|it| it.state == BrokerState::Live) && status.offline.count == 0
        })
        .await;
    }

    /// Waits until nothing is missing anywhere.
    async fn until_well(&self) {
        self.until_cluster("all is well", is_well).await;
    }

    async fn until_cluster(&self, what: &str, holds: impl Fn(&ClusterDescription) -> bool) {
        until(what, async || {
            let status = self.observer.admin().describe_cluster().await.ok()?;
            (status.controller.is_some() && holds(&status)).then_some(())
        })
        .await;
    }

    /// Says what happens, with the time of the run.
    fn say(&self, what: fmt::Arguments<'_>) {
        let (acked, read) = self.ledger.counts();
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:7.2} s  {what}  ({acked} acknowledged, {read} read)");
    }

    fn partitions_of(leaders: &[Party], broker: Party) -> Vec<PartitionIndex> {
        let led = (0..).zip(leaders).filter(|(_, leader)| **leader == broker);
        led.map(|(partition, _)| partition).collect()
    }
}

/// Whether nothing is missing anywhere.
fn is_well(status: &ClusterDescription) -> bool {
    let mut brokers = status.brokers.iter();
    status.controller.is_some()
        && brokers.all(|it| it.state == BrokerState::Live)
        && status.offline.count == 0
        && status.under_replicated.count == 0
        && status.quorum.members.iter().filter(|it| it.votes).count() == BROKERS
}

impl Report {
    /// Fails if anything was lost, repeated or out of order, or too little has happened.
    ///
    /// # Panics
    ///
    /// It is not so.
    pub fn check(&self) {
        let Self { plan, happened, .. } = self;
        assert!(self.verdict.is_clean(), "{}", self.verdict);
        assert!(
            self.verdict.acked >= plan.acked,
            "too little was acknowledged"
        );
        assert!(happened.kills >= plan.kills, "too few brokers were killed");
        assert!(
            happened.pauses >= plan.pauses,
            "too few brokers stood still"
        );
        assert!(happened.partitions >= plan.partitions, "too little was cut");
        assert!(happened.leaders_killed > 0, "no leader was killed");
        // Among a few kills there may be none.
        let enough = happened.metadata_leaders_killed > 0 || plan.kills < 10;
        assert!(enough, "no metadata leader was killed");
        assert!(self.took < plan.within, "it took {:?}", self.took);
    }

    /// How long fail-overs took: the least time that 99 of a hundred do not exceed.
    pub fn p99(&self, killed: Killed, what: Measured) -> Option<Duration> {
        let mut times = self.times.iter();
        let times = times.find(|it| (it.0, it.1) == (killed, what));
        times.map(|(_, _, times)| times.percentile(99))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {:.1} s",
            self.plan.seed,
            self.took.as_secs_f64()
        )?;
        writeln!(f, "{}", self.happened)?;
        let (passed, lost) = self.datagrams;
        writeln!(f, "datagrams: {passed} passed on, {lost} lost")?;
        writeln!(f, "{}", self.verdict)?;
        writeln!(f, "workers: {}", self.handled)?;
        for (killed, what, times) in &self.times {
            let killed = match killed {
                Killed::Leader => "leader killed",
                Killed::MetadataLeader => "leader and metadata leader killed",
            };
            let what = match what {
                Measured::Write => "acknowledged write",
                Measured::Read => "record read",
            };
            writeln!(
                f,
                "{killed} to first {what}: median {} ms, p99 {} ms, max {} ms ({} partitions)",
                times.percentile(50).as_millis(),
                times.percentile(99).as_millis(),
                times.max().as_millis(),
                times.len()
            )?;
        }
        for (took, what) in &self.slowest {
            writeln!(f, "  slow: {} ms, {what}", took.as_millis())?;
        }
        Ok(())
    }
}

//! Nodes in one process, and a network between them that loses what it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use millstream_consensus::limits::MAX_RPC_BYTES;
use millstream_consensus::{
    Call, Config, Consensus, Limits, NodeId, PeerError, Peers, ProposeError, Role, Status,
};
use millstream_log::storage::MemoryStorage;
use millstream_metadata::{
    Actor, Command, DeploymentId, FeatureRange, Image, OnExisting, Plugin, Record, Registration,
};
use millstream_protocol::TopicId;
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::peer::Lineage;
use millstream_protocol::api::plugin::{DeploymentSpec, FailureAction};
use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
use uuid::Uuid;

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0xc1);

/// Longer than anything takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Net {
    nodes: Mutex<BTreeMap<NodeId, Arc<Consensus>>>,
    /// From whom to whom nothing comes through.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    /// Of so many messages one is lost; 0 for none.
    loses_one_of: Mutex<u64>,
    messages: Mutex<u64>,
}

#[derive(Debug)]
struct Way {
    net: Arc<Net>,
    from: NodeId,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    pub(crate) fn way(self: &Arc<Self>, from: NodeId) -> Arc<dyn Peers> {
        let net = Arc::clone(self);
        Arc::new(Way { net, from })
    }

    fn is_lost(&self, from: NodeId, to: NodeId) -> bool {
        let mut messages = lock(&self.messages);
        *messages += 1;
        let one_of = *lock(&self.loses_one_of);
        let unlucky = one_of > 0
            && messages.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33 < { (1 << 31) / one_of };
        unlucky || lock(&self.cut).contains(&(from, to))
    }

    pub(crate) fn lose_one_of(&self, messages: u64) {
        *lock(&self.loses_one_of) = messages;
    }

    /// Parts a node from all others.
    pub(crate) fn isolate(&self, node_id: NodeId) {
        let others: Vec<NodeId> = lock(&self.nodes).keys().copied().collect();
        let mut cut = lock(&self.cut);
        for other in others {
            cut.extend([(node_id, other), (other, node_id)]);
        }
    }

    /// Drops a node.
    pub(crate) fn forget(&self, node_id: NodeId) {
        lock(&self.nodes).remove(&node_id);
    }

    pub(crate) fn heal(&self) {
        lock(&self.cut).clear();
    }
}

impl Peers for Way {
    fn call(&self, to: NodeId, request: Bytes, _timeout: Duration) -> Call<'_> {
        assert!(request.len() <= MAX_RPC_BYTES);
        Box::pin(async move {
            let reason = || format!("node {to} is away");
            let node = lock(&self.net.nodes).get(&to).cloned();
            let Some(node) = node.filter(|_| !self.net.is_lost(self.from, to)) else {
                return Err(PeerError::Unreachable { reason: reason() });
            };
            let answer = node.handle(self.from, request).await;
            if self.net.is_lost(to, self.from) {
                return Err(PeerError::Lost { reason: reason() });
            }
            Ok(answer)
        })
    }
}

/// Some nodes. Those that are down have only their disk.
pub(crate) struct Cluster {
    pub(crate) net: Arc<Net>,
    pub(crate) disks: BTreeMap<NodeId, MemoryStorage>,
    limits: Limits,
    deadline: Duration,
}

impl Cluster {
    /// Nodes without a cluster.
    pub(crate) async fn start(node_ids: &[NodeId]) -> Self {
        Self::with(node_ids, Limits::default(), Duration::from_secs(5)).await
    }

    pub(crate) async fn with(node_ids: &[NodeId], limits: Limits, deadline: Duration) -> Self {
        let mut cluster = Self {
            net: Arc::default(),
            disks: BTreeMap::new(),
            limits,
            deadline,
        };
        for node_id in node_ids {
            cluster.disks.insert(*node_id, MemoryStorage::new());
            cluster.restart(*node_id).await;
        }
        cluster
    }

    /// Nodes that have made a cluster and formed it.
    pub(crate) async fn formed(node_ids: &[NodeId]) -> Self {
        let cluster = Self::start(node_ids).await;
        cluster.form(node_ids).await;
        cluster
    }

    pub(crate) async fn form(&self, voters: &[NodeId]) {
        let first = self.node(voters[0]);
        let voters = voters.iter().copied().collect();
        first.initialize(voters).await.expect("a new cluster");
        self.propose(Command::FormCluster {
            cluster_id: CLUSTER,
        })
        .await;
        self.propose(Command::RegisterBroker {
            registration: Registration {
                broker_id: 1,
                directory_id: Uuid::from_u128(2),
                incarnation: 1,
                lineage: Lineage::new(Uuid::from_u128(9)),
                address: "127.0.0.1:1".into(),
                rack: None,
                features: FeatureRange::CURRENT,
                join: None,
            },
        })
        .await;
    }

    pub(crate) fn config(&self, node_id: NodeId) -> Config {
        let disk = Arc::new(self.disks[&node_id].clone());
        Config {
            limits: self.limits,
            deadline: self.deadline,
            ..Config::new(CLUSTER, node_id, disk, "/metadata", 7 * node_id)
        }
    }

    /// Starts a node with what its disk holds.
    pub(crate) async fn restart(&self, node_id: NodeId) {
        let started = Consensus::start(self.config(node_id), self.net.way(node_id)).await;
        let node = Arc::new(started.expect("a node"));
        lock(&self.net.nodes).insert(node_id, node);
    }

    pub(crate) fn add_disk(&mut self, node_id: NodeId) {
        self.disks.insert(node_id, MemoryStorage::new());
    }

    pub(crate) fn node(&self, node_id: NodeId) -> Arc<Consensus> {
        let nodes = lock(&self.net.nodes);
        Arc::clone(nodes.get(&node_id).expect("a node that is up"))
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Consensus>> {
        lock(&self.net.nodes).values().cloned().collect()
    }

    /// Cuts a node's power.
    pub(crate) async fn kill(&mut self, node_id: NodeId, seed: u64) {
        let disk = &self.disks[&node_id];
        disk.crash_at(0);
        let left = disk.crash(seed);
        self.disks.insert(node_id, left);
        let node = lock(&self.net.nodes).remove(&node_id).expect("a node");
        within("the end", node.close()).await;
    }

    /// Waits for a node that leads, and that a majority hears.
    pub(crate) async fn leader(&self) -> Arc<Consensus> {
        within("a leader", async {
            loop {
                let nodes = self.nodes();
                let leads = |status: &Status| status.role == Role::Leader;
                let waits = nodes.iter().map(|node| Box::pin(node.status_when(leads)));
                // A node that has failed is no leader, and may be asked again.
                let _ = select_all(waits).await;
                for node in nodes {
                    if leads(&node.status()) && node.linearizable_read().await.is_ok() {
                        return node;
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Has whoever leads carry out a command, as often as it takes. `None`: refused, as it may be
    /// when an attempt that seemed to fail did not.
    pub(crate) async fn propose(&self, command: Command) -> Option<Record> {
        within("a proposal", async {
            loop {
                match self.leader().await.propose(command.clone()).await {
                    Ok(record) => return record,
                    Err(ProposeError::Rejected(_)) => return None,
                    Err(ProposeError::TooLong(error)) => panic!("{error}"),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// Waits until all nodes that are up have applied as much as the leader has.
    pub(crate) async fn agree(&self) -> Arc<Image> {
        let newest = within("an answer", async {
            loop {
                if let Ok(applied) = self.leader().await.linearizable_read().await {
                    return applied;
                }
            }
        })
        .await;
        for node in self.nodes() {
            let mut watch = node.watch();
            let caught_up = watch.wait_for(|applied| applied.index >= newest.index);
            within("agreement", caught_up).await.expect("a node");
        }
        let image = self.nodes()[0].image();
        for node in self.nodes() {
            assert_eq!(node.image(), image);
        }
        image
    }
}

/// Waits for something that has to come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} has not come within {PATIENCE:?}"),
    }
}

pub(crate) async fn status(node: &Consensus, wanted: impl Fn(&Status) -> bool) -> Status {
    let waiting = node.status_when(wanted);
    within("a status", waiting).await.expect("a node that runs")
}

pub(crate) fn topic(number: u64) -> Command {
    Command::CreateTopic {
        topic_id: TopicId(Uuid::from_u128(u128::from(number) + 1)),
        topic: CreateTopic {
            name: topic_name(number),
            partitions: 1,
            config: TopicConfig::default(),
        },
        actor: Actor::User,
    }
}

/// A deployment that takes some room.
pub(crate) fn deployment(number: u64, bytes: usize) -> Command {
    let mut spec = DeploymentSpec::new(format!("deployment-{number}"));
    spec.inputs = vec![topic_name(0)];
    spec.config = vec![("text".into(), "x".repeat(bytes))];
    spec.on_failure.finally = FailureAction::Skip;
    Command::PutDeployment {
        deployment_id: DeploymentId(Uuid::from_u128(u128::from(number) + 1)),
        spec,
        plugin: Plugin {
            digest: "0123456789abcdef".repeat(4),
            component_bytes: 1,
            imports: vec![],
        },
        deployed_at_ms: 1,
        on_existing: OnExisting::Refuse,
        by: "operator".into(),
        change: RevisionChange::Deployed,
        replay: None,
    }
}

pub(crate) fn topic_name(number: u64) -> String {
    format!("topic-{number}")
}

//! This broker's node of the metadata quorum, and the way of a command to whoever leads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_consensus::{
    Applied, Call, Config, Consensus, InitializeError, NodeId, PeerError, Peers, ProposeError,
    Status,
};
use millstream_log::storage::Storage;
use millstream_metadata::{Answer, Command, Record};
use millstream_peer::{CallError, Links, PeerService};
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::Cluster;
use super::wire::ClusterRequest;
use crate::clock;
use crate::config::{
    BEAT_LIMIT, MAX_COMMAND_HOPS, OTHER_LEADER_PATIENCE, QUORUM_CALL_LIMIT, QUORUM_PATIENCE,
    QUORUM_RETRY,
};
use crate::data_dir::{DataDir, Origin};

/// This broker's node of the metadata quorum.
pub(crate) struct Quorum {
    consensus: Consensus,
    /// Whether other nodes are answered. One whose directory is empty is not one of the quorum before the
    /// cluster has let its broker in: who has forgotten what it has said must not speak.
    is_let_in: AtomicBool,
    /// Nodes that are not answered yet, as they may know that this one is of a copy of a directory.
    unsure: watch::Sender<BTreeSet<BrokerId>>,
    links: Option<Arc<Links>>,
    me: BrokerId,
}

/// The way of the quorum's nodes to each other.
#[derive(Debug)]
struct Linked(Option<Arc<Links>>);

impl Peers for Linked {
    fn call(&self, to: NodeId, request: Bytes, timeout: Duration) -> Call<'_> {
        Box::pin(async move {
            let unreachable = |reason: String| PeerError::Unreachable { reason };
            let Some(links) = &self.0 else {
                let reason = "this broker's certificate does not let it open connections";
                return Err(unreachable(reason.to_owned()));
            };
            let to = BrokerId::try_from(to).map_err(|error| unreachable(error.to_string()))?;
            let called = links.call(to, PeerService::Consensus, request, timeout);
            called.await.map_err(|error| match error {
                CallError::NotAsked { reason } | CallError::Unreachable { reason } => {
                    unreachable(reason)
                }
                error => PeerError::Lost {
                    reason: error.to_string(),
                },
            })
        })
    }
}

/// Why a command that was passed on was not carried out.
enum NotPassedOn {
    /// Nothing was done: there is nobody to ask, or who was asked does not lead.
    NotDone,
    /// Nobody knows.
    Unknown(CallError),
    Refused(WireError),
}

impl Quorum {
    /// Starts the node. The first broker of a cluster makes the quorum.
    pub(crate) async fn start(
        data_dir: &DataDir,
        storage: Arc<dyn Storage>,
        limits: millstream_metadata::Limits,
        cluster: &Cluster,
    ) -> Result<Arc<Self>, String> {
        let identity = data_dir.identity();
        let node_id = NodeId::from(identity.broker_id);
        let seed = Uuid::new_v4().as_u64_pair().0;
        let mut config = Config::new(
            identity.cluster_id,
            node_id,
            storage,
            data_dir.metadata(),
            seed,
        );
        config.limits.metadata = limits;
        config.clock = clock::now_ms;
        let links = cluster.links().cloned();
        let consensus = Consensus::start(config, Arc::new(Linked(links.clone()))).await;
        let consensus = consensus.map_err(|error| error.to_string())?;
        let is_new = consensus.was_new();
        if is_new && identity.origin == Origin::Founder {
            match consensus.initialize(BTreeSet::from([node_id])).await {
                Ok(()) | Err(InitializeError::Initialized) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let me = identity.broker_id;
        let image = consensus.image();
        let others = image.brokers().map(|it| it.broker_id);
        let unsure = others.filter(|it| *it != me && links.is_some()).collect();
        Ok(Arc::new(Self {
            consensus,
            is_let_in: AtomicBool::new(!is_new || identity.origin == Origin::Founder),
            unsure: watch::Sender::new(unsure),
            links,
            me: identity.broker_id,
        }))
    }

    /// The image as this node has applied it, from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Applied> {
        self.consensus.watch()
    }

    /// The image as this node has applied it.
    pub(crate) fn applied(&self) -> Applied {
        self.consensus.applied()
    }

    /// What the node knows of the quorum.
    pub(crate) fn status(&self) -> Status {
        self.consensus.status()
    }

    /// Has the cluster carry out a command, and returns what was decided once it is applied here:
    /// `None` if there was nothing to change. Waits for a while until somebody leads.
    pub(crate) async fn propose(&self, command: Command) -> Result<Option<Record>, WireError> {
        let decided = self.propose_within(command, 0, QUORUM_PATIENCE).await;
        decided.map_err(|error| match error.code {
            ErrorCode::NotLeader => not_ready("nobody leads it now"),
            _ => error,
        })
    }

    /// The same for as long as it takes until somebody leads.
    pub(crate) async fn propose_patiently(
        &self,
        command: Command,
    ) -> Result<Option<Record>, WireError> {
        loop {
            match self.propose(command.clone()).await {
                Err(error) if is_worth_waiting(&error) => {
                    tracing::warn!(%error, "waiting for the cluster");
                }
                decided => return decided,
            }
        }
    }

    /// Carries out what another broker passes on, or passes it on to who leads.
    pub(super) async fn answer(&self, hops: u8, command: Command) -> Result<Bytes, WireError> {
        let outcome = match hops {
            hops if hops < MAX_COMMAND_HOPS => {
                self.propose_within(command, hops, Duration::ZERO).await
            }
            _ => match self.consensus.propose(command).await {
                Ok(record) => Ok(record),
                Err(error) => Err(to_wire(&error)),
            },
        };
        let revision = self.applied().index.unwrap_or_default();
        let answer = Answer { outcome, revision }.encode();
        let answer = answer.map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()));
        answer.map(Bytes::from)
    }

    async fn propose_within(
        &self,
        command: Command,
        hops: u8,
        patience: Duration,
    ) -> Result<Option<Record>, WireError> {
        let deadline = Instant::now() + patience;
        let mut ask = 0;
        loop {
            self.check_directory(&command)?;
            let error = match self.consensus.propose(command.clone()).await {
                Ok(record) => return Ok(record),
                Err(error) => error,
            };
            let ProposeError::NotLeader { leader } = &error else {
                return Err(to_wire(&error));
            };
            let leader = leader.and_then(|leader| BrokerId::try_from(leader).ok());
            let to = leader
                .filter(|it| *it != self.me)
                .or_else(|| self.somebody(&mut ask));
            match self.pass_on(to, hops, &command).await {
                Ok(record) => return Ok(record),
                Err(NotPassedOn::Refused(error)) => return Err(error),
                Err(NotPassedOn::Unknown(error)) => {
                    // Whoever asks again is to expect that it was done the first time.
                    return Err(WireError::new(
                        ErrorCode::TimedOut,
                        format!("the cluster's metadata: {error}: the change may be made yet"),
                    ));
                }
                Err(NotPassedOn::NotDone) if Instant::now() < deadline => {
                    sleep(QUORUM_RETRY).await;
                }
                Err(NotPassedOn::NotDone) => return Err(to_wire(&error)),
            }
        }
    }

    /// Another broker, each time the next one: whoever it is knows who leads, if anybody does.
    fn somebody(&self, ask: &mut usize) -> Option<BrokerId> {
        let others = self.links.as_ref()?.linked();
        let asked = others.get(*ask % others.len().max(1)).copied();
        *ask += 1;
        asked
    }

    async fn pass_on(
        &self,
        to: Option<BrokerId>,
        hops: u8,
        command: &Command,
    ) -> Result<Option<Record>, NotPassedOn> {
        let (Some(links), Some(to)) = (&self.links, to) else {
            return Err(NotPassedOn::NotDone);
        };
        let request = ClusterRequest::Propose {
            hops: hops + 1,
            command: command.clone(),
        };
        let request = request.encode(clock::now_ms());
        let request = request.map_err(NotPassedOn::Refused)?;
        let called = links.call(to, PeerService::Cluster, request.into(), QUORUM_CALL_LIMIT);
        let called = tokio::select! {
            called = called => called,
            () = self.has_another_leader(to) => Err(CallError::TimedOut),
        };
        let answer = match called {
            Ok(answer) => answer,
            Err(CallError::NotAsked { .. }) => return Err(NotPassedOn::NotDone),
            Err(CallError::Refused(error)) if error.code == ErrorCode::NotReady => {
                return Err(NotPassedOn::NotDone);
            }
            Err(CallError::Refused(error)) => return Err(NotPassedOn::Refused(error)),
            Err(error) => return Err(NotPassedOn::Unknown(error)),
        };
        let answer = Answer::decode(&answer).map_err(|error| {
            NotPassedOn::Refused(WireError::new(ErrorCode::Internal, error.to_string()))
        })?;
        match answer.outcome {
            Ok(record) => {
                if matches!(command, Command::RegisterBroker { .. }) {
                    self.is_let_in.store(true, Ordering::Relaxed);
                }
                self.reached(answer.revision).await;
                Ok(record)
            }
            // Who leads is being found out.
            Err(error) if error.code == ErrorCode::NotLeader => Err(NotPassedOn::NotDone),
            Err(error) => Err(NotPassedOn::Refused(error)),
        }
    }

    /// Waits until another broker than this one has led the quorum for a while: this one may not answer any more.
    async fn has_another_leader(&self, than: BrokerId) {
        let than = NodeId::from(than);
        loop {
            let is_another = |status: &Status| status.leader.is_some_and(|leader| leader != than);
            let is_over = |status: &Status| !is_another(status);
            let waited = match self.consensus.status_when(is_another).await {
                Ok(_) => timeout(OTHER_LEADER_PATIENCE, self.consensus.status_when(is_over)).await,
                Err(stopped) => Ok(Err(stopped)),
            };
            match waited {
                Err(_) => return,
                Ok(Ok(_)) => {}
                // The node learns nothing more. What was asked for has its own limit.
                Ok(Err(_)) => return std::future::pending().await,
            }
        }
    }

    /// Waits until the image here has what was decided. Without a quorum that may be never: whoever
    /// has asked is answered then all the same.
    async fn reached(&self, index: u64) {
        let mut applied = self.watch();
        let reached = applied.wait_for(|applied| applied.index >= Some(index));
        if timeout(QUORUM_PATIENCE, reached).await.is_err() {
            tracing::warn!(index, "what was decided has not come here yet");
        }
    }

    /// Refuses a broker with another data directory than the one that is known under its number. It is a
    /// node of the metadata quorum as well, and has forgotten what it has said to others: they may have
    /// relied on it.
    fn check_directory(&self, command: &Command) -> Result<(), WireError> {
        let Command::RegisterBroker { registration } = command else {
            return Ok(());
        };
        let image = self.applied().image;
        let known = image.broker(registration.broker_id);
        if known.is_none_or(|known| known.directory_id == registration.directory_id) {
            return Ok(());
        }
        let number = registration.broker_id;
        Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "broker {number} is known with another data directory: one that was emptied or replaced \
                 has lost what the broker has promised. Let it in under a new number with a ticket of its \
                 own, and remove broker {number}"
            ),
        ))
    }

    /// Those that have not said yet that they know this broker.
    pub(super) fn unsure(&self) -> BTreeSet<BrokerId> {
        self.unsure.borrow().clone()
    }

    /// One of them has, or is no broker any more.
    pub(super) fn is_known_by(&self, other: BrokerId) {
        self.unsure.send_modify(|unsure| {
            unsure.remove(&other);
        });
    }

    /// Answers what another node asks.
    ///
    /// # Errors
    ///
    /// This one takes no part yet.
    pub(super) async fn handle(&self, from: BrokerId, request: Bytes) -> Result<Bytes, WireError> {
        if !self.is_let_in.load(Ordering::Relaxed) {
            return Err(WireError::new(
                ErrorCode::NotReady,
                format!("broker {} is not let in yet", self.me),
            ));
        }
        let mut unsure = self.unsure.subscribe();
        let known = unsure.wait_for(|unsure| !unsure.contains(&from));
        if !matches!(timeout(BEAT_LIMIT, known).await, Ok(Ok(_))) {
            return Err(WireError::new(
                ErrorCode::NotReady,
                format!(
                    "broker {from} has not said yet that it knows broker {}",
                    self.me
                ),
            ));
        }
        Ok(self.consensus.handle(NodeId::from(from), request).await)
    }

    /// Waits until the node takes part no more, and says why.
    pub(crate) async fn stopped(&self) -> String {
        let stopped = self
            .consensus
            .status_when(|status| status.stopped.is_some());
        match stopped.await {
            Ok(status) => status.stopped.map_or_else(String::new, |it| it.to_string()),
            Err(stopped) => stopped.to_string(),
        }
    }

    /// This broker.
    pub(super) fn me(&self) -> BrokerId {
        self.me
    }

    /// The node itself.
    pub(super) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    pub(crate) async fn close(&self) {
        self.consensus.close().await;
    }
}

/// Whether a command may be carried out later that was not, or of which nobody knows.
pub(crate) fn is_worth_waiting(error: &WireError) -> bool {
    matches!(error.code, ErrorCode::NotReady | ErrorCode::TimedOut)
}

fn not_ready(reason: &str) -> WireError {
    WireError::new(
        ErrorCode::NotReady,
        format!("the cluster's metadata: {reason}"),
    )
}

fn to_wire(error: &ProposeError) -> WireError {
    let code = match error {
        ProposeError::Rejected(error) => return error.to_wire(),
        ProposeError::NotLeader { .. } => ErrorCode::NotLeader,
        ProposeError::NoQuorum => ErrorCode::NotReady,
        ProposeError::TooLong(_) => ErrorCode::Busy,
        ProposeError::Stopped(_) => ErrorCode::ShuttingDown,
    };
    WireError::new(code, format!("the cluster's metadata: {error}"))
}

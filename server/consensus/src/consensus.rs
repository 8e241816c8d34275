//! The node.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_metadata::limits::MAX_SNAPSHOT_BYTES;
use millstream_metadata::{CodecError, Command, Image, Record};
use millstream_offload as offload;
use openraft::error::{
    CheckIsLeaderError, ForwardToLeader, InitializeError as RaftInitializeError, RaftError,
};
use openraft::storage::StorageHelper;
use openraft::{EmptyNode, SnapshotPolicy};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::error::{InitializeError, ProposeError, ReadError, StartError, Stopped, StorageFailed};
use crate::limits::{
    MAX_APPEND_ENTRIES, MAX_UNCOMMITTED_ENTRIES, SNAPSHOT_CHUNK_BYTES, VOTER_COUNTS,
};
use crate::peers::{Network, Peers};
use crate::rpc::{Answer, Request};
use crate::status::{Role, Status, stopped};
use crate::store::{self, Applied, Opened};
use crate::timing::{HEARTBEAT, SNAPSHOT_CHUNK_TIMEOUT, election_window_ms};
use crate::types::{Outcome, Proposal, Raft};
use crate::{Config, NodeId};

/// One node of the cluster's metadata quorum.
///
/// It runs until [`close`](Self::close), or until its storage fails. Dropping it ends it as well,
/// after a while; a node needs no goodbye.
pub struct Consensus {
    pub(crate) raft: Raft,
    pub(crate) config: Config,
    applied: watch::Receiver<Applied>,
    was_new: bool,
    /// Proposals come one after the other. Not needed to be right: those that overlap would have to
    /// be made again.
    turn: Mutex<()>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// Starts a node: takes up what is in its directory, or makes it, and takes part. On the runtime
    /// that it is called on.
    ///
    /// A new node waits to be heard of: by [`initialize`](Self::initialize) on it or on another, or as
    /// a learner.
    ///
    /// # Errors
    ///
    /// The directory is not this node's, is damaged or of a later release, or the storage failed.
    pub async fn start(config: Config, peers: Arc<dyn Peers>) -> Result<Self, StartError> {
        let for_opening = config.clone();
        let opening = offload::run(move || store::open(&for_opening));
        let opened = opening
            .await
            .map_err(|error| StorageFailed::new("open", &config.dir, error))??;
        let Opened {
            mut log,
            mut machine,
        } = opened;
        let applied = machine.watch();
        let members = StorageHelper::new(&mut log, &mut machine)
            .get_membership()
            .await;
        let members = members.map_err(|error| StorageFailed::new("read", &config.dir, error))?;
        let voters: BTreeSet<NodeId> = members.effective().voter_ids().collect();
        let network = Network {
            cluster_id: config.cluster_id,
            peers,
        };
        let raft_config = Arc::new(raft_config(&config, &voters));
        let raft = Raft::new(config.node_id, raft_config, network, log, machine);
        let raft = raft.await.map_err(|fatal| stopped(&fatal))?;
        Ok(Self {
            raft,
            config,
            applied,
            was_new: voters.is_empty(),
            turn: Mutex::new(()),
        })
    }

    /// Whether its directory knew of no quorum when it was started: it has said nothing to anybody before.
    pub fn was_new(&self) -> bool {
        self.was_new
    }

    /// Makes the cluster: this node and the others named are its first voters. It may be asked of
    /// several of them, but then with the same voters.
    ///
    /// # Errors
    ///
    /// The voters are not 1, 3 or 5, or do not include this node; or there is a cluster already.
    pub async fn initialize(&self, voters: BTreeSet<NodeId>) -> Result<(), InitializeError> {
        let (node_id, count) = (self.config.node_id, voters.len());
        if !VOTER_COUNTS.contains(&count) {
            return Err(InitializeError::VoterCount { count });
        }
        if !voters.contains(&node_id) {
            return Err(InitializeError::NotAVoter { node_id });
        }
        match self.raft.initialize(voters).await {
            Ok(()) => Ok(()),
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal).into()),
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(_))) => {
                Err(InitializeError::NotAVoter { node_id })
            }
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => {
                Err(InitializeError::Initialized)
            }
        }
    }

    /// Has the cluster carry out a command, and returns what was decided once it is applied here.
    /// `None`: granted, and there was nothing to change.
    ///
    /// # Errors
    ///
    /// This node does not lead, the cluster says no, or it has not become certain in time that a
    /// majority has it, or not while this node led. If the call is given up, or ends with
    /// [`NoQuorum`](ProposeError::NoQuorum) or [`Stopped`](ProposeError::Stopped), the change may be
    /// made yet.
    pub async fn propose(&self, command: Command) -> Result<Option<Record>, ProposeError> {
        let proposing = async {
            let _turn = self.turn.lock().await;
            self.propose_alone(&command).await
        };
        timeout(self.config.deadline, proposing)
            .await
            .unwrap_or(Err(ProposeError::NoQuorum))
    }

    async fn propose_alone(&self, command: &Command) -> Result<Option<Record>, ProposeError> {
        let limits = &self.config.limits.metadata;
        loop {
            let seen = self.applied();
            match seen.image.validate(command, limits) {
                Ok(Some(record)) => match self.write(&seen, &record).await? {
                    Outcome::Applied => return Ok(Some(record)),
                    // Something has come before it, and is applied here by now.
                    Outcome::Stale | Outcome::NoRecord => {}
                },
                // Only the newest image may say so.
                decided => {
                    if self.linearizable_read().await?.revision == seen.revision {
                        decided?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn write(&self, seen: &Applied, record: &Record) -> Result<Outcome, ProposeError> {
        let bytes = record.encode()?;
        check_image_bytes(seen, record, bytes.len()).await?;
        let status = self.leading()?;
        let applied = status.applied_index.unwrap_or_default();
        let last = status.last_log_index.unwrap_or_default();
        if last.saturating_sub(applied) > MAX_UNCOMMITTED_ENTRIES {
            return Err(ProposeError::NoQuorum);
        }
        let proposal = Proposal {
            revision: seen.revision,
            record: bytes.into(),
        };
        match self.raft.client_write(proposal).await {
            Ok(written) => Ok(written.data),
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal).into()),
            // It has led, and others may have the entry, and bring it to an end.
            Err(RaftError::APIError(_)) => Err(ProposeError::NoQuorum),
        }
    }

    /// The status of a node that leads, as far as it knows.
    pub(crate) fn leading(&self) -> Result<Status, ReadError> {
        let status = self.status();
        match (&status.stopped, status.role) {
            (Some(stopped), _) => Err(stopped.clone().into()),
            (None, Role::Leader) => Ok(status),
            _ => Err(ReadError::NotLeader {
                leader: status.leader,
            }),
        }
    }

    /// The cluster as this node has applied it. Others may have applied more.
    pub fn applied(&self) -> Applied {
        self.applied.borrow().clone()
    }

    /// The image as this node has applied it.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.applied.borrow().image)
    }

    /// The cluster as this node applies it, from now on. Several changes may be seen as one.
    pub fn watch(&self) -> watch::Receiver<Applied> {
        self.applied.clone()
    }

    /// The cluster with everything that was acknowledged, by any node, before the call.
    ///
    /// # Errors
    ///
    /// This node does not lead, or cannot make certain of it.
    pub async fn linearizable_read(&self) -> Result<Applied, ReadError> {
        let reading = timeout(self.config.deadline, self.raft.ensure_linearizable());
        match reading.await {
            Ok(Ok(_)) => Ok(self.applied()),
            Ok(Err(RaftError::Fatal(fatal))) => Err(stopped(&fatal).into()),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)))) => {
                Err(not_leader(&forward))
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ReadError::NoQuorum)
            }
        }
    }

    /// What the node knows of itself and of its peers.
    pub fn status(&self) -> Status {
        Status::of(&self.raft.metrics().borrow())
    }

    /// Waits until the status is one that is waited for. Its changes may be seen as one.
    ///
    /// # Errors
    ///
    /// The node takes part no more, and that is not what was waited for.
    pub async fn status_when(
        &self,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status, Stopped> {
        let mut metrics = self.raft.metrics();
        loop {
            let status = Status::of(&metrics.borrow_and_update());
            if wanted(&status) {
                return Ok(status);
            }
            if let Some(stopped) = status.stopped {
                return Err(stopped);
            }
            if metrics.changed().await.is_err() {
                return Err(Stopped::Closed);
            }
        }
    }

    /// Answers what `from` has asked, whoever that is has been made certain of.
    pub async fn handle(&self, from: NodeId, request: Bytes) -> Bytes {
        let answer = match Request::decode(&request, self.config.cluster_id, from) {
            Ok(body) => body.run(&self.raft).await,
            Err(refusal) => {
                tracing::warn!(from, "a request of a peer is refused: {refusal}");
                Answer::Refused(refusal)
            }
        };
        match answer.encode() {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                tracing::error!(from, "an answer cannot be written: {error}");
                Bytes::new()
            }
        }
    }

    /// Ends the node, and waits for it. What is called afterwards says that it was closed.
    pub async fn close(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!("a task of the quorum has not ended well: {error}");
        }
    }
}

/// A snapshot that cannot be written stops every node, so what would make the image too long is
/// refused. It is only looked at closely where it may be.
async fn check_image_bytes(
    seen: &Applied,
    record: &Record,
    record_bytes: usize,
) -> Result<(), CodecError> {
    let at_most = seen.image_bytes_at_most.saturating_add(record_bytes as u64);
    if at_most <= MAX_SNAPSHOT_BYTES as u64 {
        return Ok(());
    }
    let (mut image, record) = (Image::clone(&seen.image), record.clone());
    let encoded = offload::run(move || {
        image.apply(&record);
        image.encode().map(|_| ())
    });
    encoded.await.unwrap_or(Ok(()))
}

fn raft_config(config: &Config, voters: &BTreeSet<NodeId>) -> openraft::Config {
    let window = election_window_ms(config.node_id, voters);
    // The seed picks the wait within the window.
    let election_timeout_min = window.start + config.seed % (window.end - window.start - 1);
    let limits = &config.limits;
    openraft::Config {
        cluster_name: config.cluster_id.to_string(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min,
        election_timeout_max: election_timeout_min + 1,
        install_snapshot_timeout: millis(SNAPSHOT_CHUNK_TIMEOUT),
        max_payload_entries: MAX_APPEND_ENTRIES,
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES as u64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits.snapshot_every_entries),
        max_in_snapshot_log_to_keep: limits.kept_entries,
        ..openraft::Config::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn not_leader(forward: &ForwardToLeader<NodeId, EmptyNode>) -> ReadError {
    ReadError::NotLeader {
        leader: forward.leader_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_that_may_be_too_long_is_looked_at() {
        let record = Record::BrokerStateSet {
            broker_id: 1,
            state: millstream_metadata::BrokerState::Fenced,
        };
        let mut seen = Applied::default();
        for at_most in [0, MAX_SNAPSHOT_BYTES as u64, u64::MAX] {
            seen.image_bytes_at_most = at_most;
            assert_eq!(check_image_bytes(&seen, &record, 2).await, Ok(()));
        }
    }

    #[test]
    fn the_seed_picks_a_wait_within_the_window() {
        let storage = Arc::new(millstream_log::storage::MemoryStorage::new());
        let voters = [1, 2, 3].into();
        let window = election_window_ms(2, &voters);
        for seed in 0..200 {
            let cluster_id = uuid::Uuid::from_u128(1);
            let config = Config::new(cluster_id, 2, storage.clone(), "/", seed);
            let config = raft_config(&config, &voters);
            let waits = config.election_timeout_min..config.election_timeout_max;
            assert!(window.contains(&waits.start) && waits.end <= window.end);
            assert!(config.validate().is_ok());
        }
    }
}

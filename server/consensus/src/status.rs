//! What a node knows of itself and of its peers.

use std::collections::BTreeMap;

use openraft::error::Fatal;
use openraft::{EmptyNode, RaftMetrics, ServerState};

use crate::NodeId;
use crate::error::Stopped;

/// What a node is among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes part without a vote.
    Learner,
    /// It votes, and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads, as far as it knows.
    Leader,
    /// It takes part no more.
    Stopped,
}

/// What a node knows of itself and of its peers at one moment. Indexes are those of the log, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub node_id: NodeId,
    /// Its term: rises with every election.
    pub term: u64,
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Who votes, in order; while the voters change, those before and after. Empty before the
    /// cluster is made.
    pub voters: Vec<NodeId>,
    /// Who takes part without a vote, in order.
    pub learners: Vec<NodeId>,
    /// The last entry in its log, committed or not.
    pub last_log_index: Option<u64>,
    /// The last entry that it has applied.
    pub applied_index: Option<u64>,
    /// The last entry in its newest snapshot.
    pub snapshot_index: Option<u64>,
    /// A leader knows how many entries each peer is behind; `None` for one that has not answered.
    pub behind: BTreeMap<NodeId, Option<u64>>,
    /// For a leader, how long ago a majority has last answered, milliseconds.
    pub quorum_ack_age_ms: Option<u64>,
    /// Why it takes part no more.
    pub stopped: Option<Stopped>,
}

impl Status {
    pub(crate) fn of(metrics: &RaftMetrics<NodeId, EmptyNode>) -> Self {
        let membership = &metrics.membership_config;
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let learners = membership.nodes().map(|(node_id, _)| *node_id);
        let learners = learners.filter(|node_id| !voters.contains(node_id));
        let end = metrics.last_log_index.map_or(0, |last| last + 1);
        let replication = metrics.replication.iter().flatten();
        let peers = replication.filter(|(node_id, _)| **node_id != metrics.id);
        let stopped = metrics.running_state.as_ref().err().map(stopped);
        Self {
            node_id: metrics.id,
            term: metrics.current_term,
            role: match metrics.state {
                _ if stopped.is_some() => Role::Stopped,
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            leader: metrics.current_leader,
            learners: learners.collect(),
            voters,
            last_log_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|log_id| log_id.index),
            snapshot_index: metrics.snapshot.map(|log_id| log_id.index),
            behind: peers
                .map(|(node_id, matching)| {
                    let behind = matching.map(|log_id| end.saturating_sub(log_id.index + 1));
                    (*node_id, behind)
                })
                .collect(),
            quorum_ack_age_ms: metrics.millis_since_quorum_ack,
            stopped,
        }
    }
}

pub(crate) fn stopped(fatal: &Fatal<NodeId>) -> Stopped {
    match fatal {
        Fatal::Stopped => Stopped::Closed,
        Fatal::Panicked => Stopped::Panicked,
        Fatal::StorageError(error) => Stopped::StorageFailed {
            reason: error.to_string(),
        },
    }
}

//! Changes of who takes part.

use std::collections::BTreeSet;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::timeout;

use crate::NodeId;
use crate::consensus::{Consensus, not_leader};
use crate::error::{MembersError, ReadError, Stopped};
use crate::limits::{MAX_NODES, MAX_PROMOTION_LAG_ENTRIES, VOTER_COUNTS};
use crate::status::stopped;

impl Consensus {
    /// Has a node take part without a vote. It is told all that was decided, from a snapshot on if
    /// need be. Nothing happens if it takes part already.
    ///
    /// # Errors
    ///
    /// There are too many nodes, or the change cannot be made now.
    pub async fn add_learner(&self, node_id: NodeId) -> Result<(), MembersError> {
        let status = self.leading()?;
        if status.voters.contains(&node_id) || status.learners.contains(&node_id) {
            return Ok(());
        }
        if status.voters.len() + status.learners.len() >= MAX_NODES {
            return Err(MembersError::TooManyNodes);
        }
        let nodes = [(node_id, EmptyNode::default())];
        self.change(ChangeMembers::AddNodes(nodes.into())).await
    }

    /// Has a node without a vote take part no more.
    ///
    /// # Errors
    ///
    /// The node is a voter, or the change cannot be made now.
    pub async fn remove_learner(&self, node_id: NodeId) -> Result<(), MembersError> {
        let status = self.leading()?;
        if status.voters.contains(&node_id) {
            return Err(MembersError::IsVoter { node_id });
        }
        if !status.learners.contains(&node_id) {
            return Ok(());
        }
        let nodes = BTreeSet::from([node_id]);
        self.change(ChangeMembers::RemoveNodes(nodes)).await
    }

    /// Has these nodes vote, and no others. A voter that is not among them takes part no more. The
    /// voters before and after agree on it, each by a majority of their own. Where that was begun and
    /// not brought to an end, because a leader has died, [`Status::voters`](crate::Status::voters) names all of them until
    /// the voters are named again.
    ///
    /// # Errors
    ///
    /// They would not be 1, 3 or 5; one of them does not keep up; the only voter is not among them;
    /// or the change cannot be made now.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), MembersError> {
        let count = voters.len();
        if !VOTER_COUNTS.contains(&count) {
            return Err(MembersError::VoterCount { count });
        }
        let status = self.leading()?;
        if let [node_id] = status.voters[..]
            && !voters.contains(&node_id)
        {
            return Err(MembersError::OnlyVoter { node_id });
        }
        for node_id in voters.difference(&status.voters.iter().copied().collect()) {
            let behind = status.behind.get(node_id).copied().flatten();
            if behind.is_none_or(|behind| behind > MAX_PROMOTION_LAG_ENTRIES) {
                let node_id = *node_id;
                return Err(MembersError::NotReady { node_id, behind });
            }
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    async fn change(&self, change: ChangeMembers<NodeId, EmptyNode>) -> Result<(), MembersError> {
        // It has two steps, and the second one is not to be left out when nobody waits any more.
        let raft = self.raft.clone();
        let changing = tokio::spawn(async move { raft.change_membership(change, false).await });
        match timeout(self.config.deadline, changing).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(RaftError::Fatal(fatal)))) => Err(ReadError::Stopped(stopped(&fatal)).into()),
            Ok(Ok(Err(RaftError::APIError(error)))) => Err(change_error(error)),
            Ok(Err(_)) => Err(ReadError::Stopped(Stopped::Panicked).into()),
            Err(_) => Err(ReadError::NoQuorum.into()),
        }
    }
}

fn change_error(error: ClientWriteError<NodeId, EmptyNode>) -> MembersError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => not_leader(&forward).into(),
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_) => MembersError::InProgress,
            ChangeMembershipError::EmptyMembership(_) => MembersError::VoterCount { count: 0 },
            ChangeMembershipError::LearnerNotFound(error) => MembersError::NotReady {
                node_id: error.node_id,
                behind: None,
            },
        },
    }
}

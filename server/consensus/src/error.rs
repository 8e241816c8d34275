//! What can go wrong, for each operation.

use std::path::{Path, PathBuf};

use millstream_metadata::{CodecError, CommandError};
use thiserror::Error;
use uuid::Uuid;

use crate::NodeId;
use crate::limits::{MAX_NODES, MAX_PROMOTION_LAG_ENTRIES};

/// The node's storage failed, or what it holds cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot {doing} {}: {reason}", path.display())]
pub struct StorageFailed {
    /// What was being done, a verb.
    pub doing: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// What was said about it.
    pub reason: String,
}

impl StorageFailed {
    pub(crate) fn new(doing: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Why a node did not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// The directory is another cluster's.
    #[error(
        "{} belongs to cluster {found}, not to {expected}: name another directory, or start with \
         the configuration that it was made with", dir.display()
    )]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster that it was made for.
        found: Uuid,
        /// The cluster that the node was started for.
        expected: Uuid,
    },
    /// The directory is another node's.
    #[error(
        "{} belongs to node {found}, not to {expected}: name another directory, or start as the \
         node that it was made for", dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// The node that it was made for.
        found: NodeId,
        /// The node that was started.
        expected: NodeId,
    },
    /// A later release has written the directory.
    #[error(
        "{} has format version {found}, which this release does not know: start the release that \
         wrote it, or a later one", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// Something that was durable is missing or broken. A node that forgets what it has said to
    /// others may undo what they agreed on, so it does not start.
    #[error(
        "{} is damaged: {what}: this node may have forgotten what it has said to others", dir.display()
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The node has stopped while it was starting.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The node takes part no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stopped {
    /// It was closed.
    #[error("the node was closed")]
    Closed,
    /// Its storage failed. What is durable is only known after another start.
    #[error("the node has stopped: {reason}")]
    StorageFailed {
        /// What failed.
        reason: String,
    },
    /// A task of it has panicked.
    #[error("the node has stopped: a task has panicked")]
    Panicked,
}

/// Why a read cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Another node leads, or none.
    #[error("this node does not lead{}", hint(*leader))]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too few voters have answered in time.
    #[error("too few voters answer")]
    NoQuorum,
    /// The node takes part no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum ProposeError {
    /// Another node leads, or none. Nothing was done.
    #[error("this node does not lead{}", hint(*leader))]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The cluster says no, in the newest image. Nothing was done.
    #[error(transparent)]
    Rejected(#[from] CommandError),
    /// It came to a record that is too long, or the image would. Nothing was done.
    #[error(transparent)]
    TooLong(#[from] CodecError),
    /// Too few voters have agreed in time, or while this node led. It may be carried out yet.
    #[error("too few voters have agreed: the change may be made yet")]
    NoQuorum,
    /// The node takes part no more. It may be carried out yet.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<ReadError> for ProposeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { leader } => Self::NotLeader { leader },
            ReadError::NoQuorum => Self::NoQuorum,
            ReadError::Stopped(stopped) => Self::Stopped(stopped),
        }
    }
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MembersError {
    /// A quorum is 1, 3 or 5 voters.
    #[error("{count} voters make no quorum: name 1, 3 or 5")]
    VoterCount {
        /// How many there would be.
        count: usize,
    },
    /// There would be too many nodes.
    #[error("there are {MAX_NODES} nodes, and may be no more")]
    TooManyNodes,
    /// A voter has to be a learner first, and one that keeps up.
    #[error(
        "node {node_id} is not ready to vote: a learner may be {MAX_PROMOTION_LAG_ENTRIES} entries \
         behind"
    )]
    NotReady {
        /// The node.
        node_id: NodeId,
        /// How many entries it is behind; `None` if it is no learner, or has not answered yet.
        behind: Option<u64>,
    },
    /// A voter is not to be removed like a learner.
    #[error("node {node_id} is a voter: name the voters without it")]
    IsVoter {
        /// The node.
        node_id: NodeId,
    },
    /// The only voter hands over to others, and is removed after that: if it died in between, they
    /// could not do without it.
    #[error("node {node_id} is the only voter: name it among the others, and remove it afterwards")]
    OnlyVoter {
        /// The node.
        node_id: NodeId,
    },
    /// Another change is under way.
    #[error("another change of the members is under way")]
    InProgress,
    /// It was not done in time, or by this node. It may be yet.
    #[error(transparent)]
    Cluster(#[from] ReadError),
}

/// Why the cluster was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InitializeError {
    /// A quorum is 1, 3 or 5 voters.
    #[error("{count} voters make no quorum: name 1, 3 or 5")]
    VoterCount {
        /// How many were named.
        count: usize,
    },
    /// The node that makes the cluster is one of the voters.
    #[error("node {node_id} is not among the voters that it was told")]
    NotAVoter {
        /// This node.
        node_id: NodeId,
    },
    /// There is a cluster already.
    #[error("the node belongs to a quorum already")]
    Initialized,
    /// The node takes part no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn hint(leader: Option<NodeId>) -> String {
    leader.map_or_else(String::new, |leader| format!(", node {leader} does"))
}

//! What openraft is told of our types. None of this is public.

use std::io::Cursor;

use bytes::Bytes;
use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use crate::NodeId;

openraft::declare_raft_types!(
    /// The types of our quorum.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = NodeId,
        Node = EmptyNode,
        SnapshotData = Cursor<Vec<u8>>,
);

/// A record that was validated, and against what.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The revision of the image that the record was validated against.
    pub(crate) revision: u64,
    /// [`millstream_metadata::Record::encode`]: it has a version of its own.
    pub(crate) record: Bytes,
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposal")
            .field("revision", &self.revision)
            .field("record_bytes", &self.record.len())
            .finish()
    }
}

/// What applying an entry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// There was no record in it.
    NoRecord,
    /// Its record was applied.
    Applied,
    /// The image had another revision: nothing was done.
    Stale,
}

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Membership = openraft::StoredMembership<NodeId, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;

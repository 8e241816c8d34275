//! What nodes say to each other.
//!
//! ```text
//! request  1 byte the format version, postcard: cluster id, one of vote, append, snapshot chunk
//! answer   1 byte the format version, postcard: one of their answers, or a refusal
//! ```
//!
//! Neither is longer than [`MAX_RPC_BYTES`], which is compared before anything is decoded.

use millstream_metadata::limits::MAX_SNAPSHOT_BYTES;
use openraft::error::{InstallSnapshotError, RaftError, SnapshotMismatch};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::NodeId;
use crate::codec::{self, CodecError};
use crate::limits::{MAX_NODES, MAX_RPC_BYTES, MAX_SNAPSHOT_FILE_BYTES};
use crate::types::{Raft, TypeConfig};

/// What is asked of a node, by a node of its own cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) cluster_id: Uuid,
    pub(crate) body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    Vote(VoteRequest<NodeId>),
    Append(AppendEntriesRequest<TypeConfig>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
}

/// What a node answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Vote(VoteResponse<NodeId>),
    Append(AppendEntriesResponse<NodeId>),
    Snapshot(InstallSnapshotResponse<NodeId>),
    /// Pieces of a snapshot are to come from the beginning again.
    OtherSnapshot(SnapshotMismatch),
    Refused(Refusal),
}

/// Why a request was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub(crate) enum Refusal {
    #[error("the peer cannot read the request")]
    Unreadable,
    #[error("the peer belongs to another cluster")]
    OtherCluster,
    #[error("the request says that it is another node's")]
    OtherSender,
    #[error("the request goes beyond a limit")]
    BeyondLimit,
    #[error("the peer has stopped")]
    Stopped,
}

impl Request {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, MAX_RPC_BYTES)
    }

    /// Reads a request of `from` to a node of `cluster_id`, and says no to what should not be.
    pub(crate) fn decode(bytes: &[u8], cluster_id: Uuid, from: NodeId) -> Result<Body, Refusal> {
        let request: Self = codec::decode(bytes, MAX_RPC_BYTES).map_err(|_| Refusal::Unreadable)?;
        if request.cluster_id != cluster_id {
            return Err(Refusal::OtherCluster);
        }
        request.body.check(from)?;
        Ok(request.body)
    }
}

impl Body {
    /// A node asks in its own name, and for nothing without bounds.
    fn check(&self, from: NodeId) -> Result<(), Refusal> {
        let vote = match self {
            Self::Vote(request) => &request.vote,
            Self::Append(request) => &request.vote,
            Self::Snapshot(request) => {
                let end = request.offset.checked_add(request.data.len() as u64);
                let fits = end.is_some_and(|end| end <= MAX_SNAPSHOT_FILE_BYTES as u64);
                let members = request.meta.last_membership.nodes().count();
                if !fits || members > MAX_NODES {
                    return Err(Refusal::BeyondLimit);
                }
                &request.vote
            }
        };
        match vote.leader_id().voted_for() {
            Some(sender) if sender == from => Ok(()),
            _ => Err(Refusal::OtherSender),
        }
    }

    /// Has the node carry it out.
    pub(crate) async fn run(self, raft: &Raft) -> Answer {
        match self {
            Self::Vote(request) => match raft.vote(request).await {
                Ok(answer) => Answer::Vote(answer),
                Err(error) => stopped(&error),
            },
            Self::Append(request) => match raft.append_entries(request).await {
                Ok(answer) => Answer::Append(answer),
                Err(error) => stopped(&error),
            },
            Self::Snapshot(request) => match raft.install_snapshot(request).await {
                Ok(answer) => Answer::Snapshot(answer),
                Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                    Answer::OtherSnapshot(mismatch)
                }
                Err(error @ RaftError::Fatal(_)) => stopped(&error),
            },
        }
    }
}

fn stopped<E: std::error::Error>(error: &RaftError<NodeId, E>) -> Answer {
    tracing::debug!("a request of a peer was not answered: {error}");
    Answer::Refused(Refusal::Stopped)
}

impl Answer {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, MAX_RPC_BYTES)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, MAX_RPC_BYTES)
    }
}

const _: () = assert!(MAX_SNAPSHOT_BYTES < MAX_SNAPSHOT_FILE_BYTES);

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, Vote};
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Entry, LogId, SnapshotMeta};

    const CLUSTER: Uuid = Uuid::from_u128(1);

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(2, 7), index)
    }

    fn bytes_of(body: Body) -> Vec<u8> {
        let cluster_id = CLUSTER;
        let request = Request { cluster_id, body };
        request.encode().expect("a request")
    }

    fn piece(offset: u64, data: Vec<u8>) -> Body {
        Body::Snapshot(InstallSnapshotRequest {
            vote: Vote::new_committed(3, 7),
            meta: SnapshotMeta {
                last_log_id: Some(log_id(5)),
                snapshot_id: "s".to_owned(),
                ..SnapshotMeta::default()
            },
            offset,
            data,
            done: true,
        })
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let vote = Body::Vote(VoteRequest::new(Vote::new(3, 7), Some(log_id(300))));
        let append = Body::Append(AppendEntriesRequest {
            vote: Vote::new_committed(3, 7),
            prev_log_id: None,
            entries: vec![Entry {
                log_id: log_id(0),
                payload: openraft::EntryPayload::Blank,
            }],
            leader_commit: Some(log_id(0)),
        });
        let cases: [(Body, &[u8]); 3] = [
            (vote, &[0, 3, 7, 0, 1, 2, 7, 172, 2]),
            (append, &[1, 3, 7, 1, 0, 1, 2, 7, 0, 0, 1, 2, 7, 0]),
            (
                piece(9, vec![8]),
                &[2, 3, 7, 1, 1, 2, 7, 5, 0, 0, 0, 1, b's', 9, 1, 8, 1],
            ),
        ];
        for (body, expected) in cases {
            let bytes = bytes_of(body);
            let (head, body) = bytes.split_at(18);
            assert_eq!(head[..2], [1, 16]);
            assert_eq!(head[2..], CLUSTER.into_bytes());
            assert_eq!(body, expected);
            assert!(Request::decode(&bytes, CLUSTER, 7).is_ok());
        }
        let answers: [(Answer, &[u8]); 4] = [
            (
                Answer::Vote(VoteResponse::new(Vote::new(3, 7), None, true)),
                &[1, 0, 3, 7, 0, 1, 0],
            ),
            (Answer::Append(AppendEntriesResponse::Success), &[1, 1, 0]),
            (
                Answer::Snapshot(InstallSnapshotResponse {
                    vote: Vote::new_committed(3, 7),
                }),
                &[1, 2, 3, 7, 1],
            ),
            (Answer::Refused(Refusal::Stopped), &[1, 4, 4]),
        ];
        for (answer, expected) in answers {
            assert_eq!(answer.encode().expect("an answer"), expected);
            assert!(Answer::decode(expected).is_ok());
        }
    }

    #[test]
    fn a_piece_of_a_snapshot_lies_within_the_limit() {
        let limit = MAX_SNAPSHOT_FILE_BYTES as u64;
        let check = |offset| piece(offset, vec![0; 2]).check(7);
        assert_eq!(check(limit - 2), Ok(()));
        assert_eq!(check(limit - 1), Err(Refusal::BeyondLimit));
        assert_eq!(check(u64::MAX), Err(Refusal::BeyondLimit));
        assert_eq!(piece(0, vec![]).check(8), Err(Refusal::OtherSender));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let mut request = bytes_of(piece(0, vec![]));
            request.truncate(18);
            request.extend_from_slice(&bytes);
            let _ = Request::decode(&request, CLUSTER, 7);
            let _ = Request::decode(&bytes, CLUSTER, 7);
            let _ = Answer::decode(&bytes);
        }
    }
}

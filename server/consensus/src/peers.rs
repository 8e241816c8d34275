//! The way to other nodes, which somebody else provides.

use std::fmt::Debug;
use std::future::Future;
use std::iter::repeat;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode};
use thiserror::Error;
use uuid::Uuid;

use crate::NodeId;
use crate::rpc::{Answer, Body, Request};
use crate::timing::UNREACHABLE_WAIT;
use crate::types::TypeConfig;

/// The answer of a peer, on its way.
pub type Call<'a> = Pin<Box<dyn Future<Output = Result<Bytes, PeerError>> + Send + 'a>>;

/// The way to other nodes. It has to know who it is that it reaches: a node takes what comes in
/// another's name for that node's word.
pub trait Peers: Debug + Send + Sync + 'static {
    /// Has [`Consensus::handle`](crate::Consensus::handle) of the node `to` answer a request of this
    /// node, of at most [`MAX_RPC_BYTES`](crate::limits::MAX_RPC_BYTES). It need not come to an end
    /// once `timeout` is over, and may be given up before.
    ///
    /// A request may be lost, come late, or come twice.
    fn call(&self, to: NodeId, request: Bytes, timeout: Duration) -> Call<'_>;
}

/// Why a peer has not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerError {
    /// It is not to be reached now, and is left alone for a moment.
    #[error("the peer is not to be reached: {reason}")]
    Unreachable {
        /// What is known about it.
        reason: String,
    },
    /// The request or the answer was lost on its way.
    #[error("the peer has not answered: {reason}")]
    Lost {
        /// What is known about it.
        reason: String,
    },
}

/// Makes the ways to single nodes.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) cluster_id: Uuid,
    pub(crate) peers: Arc<dyn Peers>,
}

/// The way to one node.
#[derive(Debug)]
pub(crate) struct Link {
    network: Network,
    to: NodeId,
}

type RpcError<E> = RPCError<NodeId, EmptyNode, E>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> Link {
        Link {
            network: self.clone(),
            to: target,
        }
    }
}

impl Link {
    async fn call<E: std::error::Error>(
        &self,
        body: Body,
        option: &RPCOption,
    ) -> Result<Answer, RpcError<E>> {
        let request = Request {
            cluster_id: self.network.cluster_id,
            body,
        };
        let request = request.encode().map_err(lost)?;
        let peers = &self.network.peers;
        let answered = peers.call(self.to, request.into(), option.hard_ttl()).await;
        let bytes = answered.map_err(|error| match error {
            PeerError::Unreachable { .. } => Unreachable::new(&error).into(),
            PeerError::Lost { .. } => lost(error),
        })?;
        match Answer::decode(&bytes).map_err(lost)? {
            Answer::Refused(refusal) => {
                tracing::debug!(peer = self.to, "a peer refuses: {refusal}");
                Err(Unreachable::new(&refusal).into())
            }
            answer => Ok(answer),
        }
    }
}

fn lost<E: std::error::Error>(error: impl std::error::Error + 'static) -> RpcError<E> {
    NetworkError::new(&error).into()
}

fn other_answer<E: std::error::Error>() -> RpcError<E> {
    let error = AnyError::error("the peer has answered something else than it was asked");
    NetworkError::new(&error).into()
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError<RaftError<NodeId>>> {
        match self.call(Body::Append(request), &option).await? {
            Answer::Append(answer) => Ok(answer),
            _ => Err(other_answer()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, RpcError<RaftError<NodeId, InstallSnapshotError>>>
    {
        match self.call(Body::Snapshot(request), &option).await? {
            Answer::Snapshot(answer) => Ok(answer),
            Answer::OtherSnapshot(mismatch) => {
                let error = RaftError::APIError(mismatch.into());
                Err(RemoteError::new(self.to, error).into())
            }
            _ => Err(other_answer()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RpcError<RaftError<NodeId>>> {
        match self.call(Body::Vote(request), &option).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(other_answer()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(repeat(UNREACHABLE_WAIT))
    }
}

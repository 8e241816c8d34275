//! This broker's node of the metadata quorum, and the way of a command to whoever leads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_consensus::{
    Applied, Call, Config, Consensus, InitializeError, NodeId, PeerError, Peers, ProposeError,
};
use millstream_log::storage::Storage;
use millstream_metadata::{Command, Record};
use millstream_protocol::{ErrorCode, WireError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::config::{QUORUM_PATIENCE, QUORUM_RETRY};
use crate::data_dir::DataDir;

/// This broker's node of the metadata quorum.
pub(crate) struct Quorum {
    consensus: Consensus,
}

/// The way to nobody.
#[derive(Debug)]
struct Alone;

impl Peers for Alone {
    fn call(&self, to: NodeId, _request: Bytes, _timeout: Duration) -> Call<'_> {
        let reason = format!("there is no node {to}");
        Box::pin(async { Err(PeerError::Unreachable { reason }) })
    }
}

impl Quorum {
    /// Starts the node, and makes the quorum if there is none. Waits until somebody leads it.
    pub(crate) async fn start(
        data_dir: &DataDir,
        storage: Arc<dyn Storage>,
        limits: millstream_metadata::Limits,
    ) -> Result<Self, String> {
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
        let consensus = Consensus::start(config, Arc::new(Alone)).await;
        let consensus = consensus.map_err(|error| error.to_string())?;
        if consensus.status().voters.is_empty() {
            match consensus.initialize(BTreeSet::from([node_id])).await {
                Ok(()) | Err(InitializeError::Initialized) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let led = consensus.status_when(|status| status.leader.is_some());
        led.await.map_err(|error| error.to_string())?;
        Ok(Self { consensus })
    }

    /// The image as this node has applied it, from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Applied> {
        self.consensus.watch()
    }

    /// The image as this node has applied it.
    pub(crate) fn applied(&self) -> Applied {
        self.consensus.applied()
    }

    /// Has the cluster carry out a command, and returns what was decided once it is applied here:
    /// `None` if there was nothing to change.
    pub(crate) async fn propose(&self, command: Command) -> Result<Option<Record>, WireError> {
        let deadline = Instant::now() + QUORUM_PATIENCE;
        loop {
            let error = match self.consensus.propose(command.clone()).await {
                Ok(record) => return Ok(record),
                Err(error) => error,
            };
            match error {
                ProposeError::NotLeader { .. } if Instant::now() < deadline => {
                    sleep(QUORUM_RETRY).await;
                }
                error => return Err(to_wire(&error)),
            }
        }
    }

    pub(crate) async fn close(&self) {
        self.consensus.close().await;
    }
}

fn to_wire(error: &ProposeError) -> WireError {
    let code = match error {
        ProposeError::Rejected(error) => return error.to_wire(),
        ProposeError::NotLeader { .. } | ProposeError::NoQuorum => ErrorCode::NotReady,
        ProposeError::TooLong(_) => ErrorCode::Busy,
        ProposeError::Stopped(_) => ErrorCode::ShuttingDown,
    };
    WireError::new(code, format!("the cluster's metadata: {error}"))
}

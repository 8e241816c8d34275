//! Whether a broker's data directory is its own, or a copy of what that once was: the others know.

use std::sync::Arc;

use bytes::Bytes;
use millstream_peer::{CallError, Introduction, Links};
use millstream_protocol::api::peer::PeerService;
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::quorum::Quorum;
use super::wire::ClusterRequest;
use crate::clock;
use crate::config::{BEAT_LIMIT, KNOWN_ASKED_EVERY, KNOWN_PATIENCE};
use crate::replicas::actor::Fault;

impl Cluster {
    /// Refuses a broker whose data directory is a copy of what it was before its last start.
    pub(super) fn check_lineage(&self, introduction: &Introduction) -> Result<(), WireError> {
        let Some((quorum, _)) = self.quorum.get() else {
            return Ok(());
        };
        let image = quorum.applied().image;
        let Some(known) = image.broker(introduction.broker_id) else {
            return Ok(());
        };
        known
            .check_lineage(introduction.directory_id, &introduction.lineage)
            .map_err(|error| WireError::new(ErrorCode::InvalidRequest, error.to_string()))
    }
}

/// Has the quorum's node here answer others once half of them take this broker for the one that it was, or nobody has
/// answered for a while. A copy of its directory has forgotten what the node has said, and must not speak.
pub(super) async fn be_known(
    quorum: Arc<Quorum>,
    links: Arc<Links>,
    faults: UnboundedSender<Fault>,
) {
    let me = quorum.me();
    let image = quorum.applied().image;
    let others = image.brokers().map(|it| it.broker_id);
    let mut asked: JoinSet<_> = others
        .filter(|it| *it != me)
        .map(|other| ask(Arc::clone(&links), other))
        .collect();
    let mut missing = asked.len().div_ceil(2);
    let known = async {
        while missing > 0 {
            match asked.join_next().await {
                Some(Ok(Err(refusal))) => return Err(refusal),
                // One that has panicked has said so.
                Some(Ok(Ok(())) | Err(_)) => missing -= 1,
                None => break,
            }
        }
        Ok(())
    };
    match timeout(KNOWN_PATIENCE, known).await {
        Ok(Err(refusal)) => {
            // The broker may be stopping for an earlier fault already.
            let _ = faults.send(Fault::Superseded(refusal.message));
        }
        Ok(Ok(())) | Err(_) => quorum.let_in_again(),
    }
}

/// Asks one of the others until it answers.
async fn ask(links: Arc<Links>, other: BrokerId) -> Result<(), WireError> {
    loop {
        let request = ClusterRequest::Know.encode(clock::now_ms())?;
        let asked = links.call_ahead(
            other,
            PeerService::Cluster,
            Bytes::from(request),
            BEAT_LIMIT,
        );
        match asked.await {
            Ok(_) => return Ok(()),
            Err(CallError::Refused(error)) if error.code == ErrorCode::InvalidRequest => {
                return Err(error);
            }
            Err(_) => sleep(KNOWN_ASKED_EVERY).await,
        }
    }
}

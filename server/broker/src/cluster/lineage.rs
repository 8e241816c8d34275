//! Whether a broker's data directory is its own, or a copy of what that once was: the others know.

use std::sync::Arc;

use bytes::Bytes;
use millstream_peer::{CallError, Introduction, Links};
use millstream_protocol::api::peer::PeerService;
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Cluster;
use super::quorum::Quorum;
use super::wire::ClusterRequest;
use crate::clock;
use crate::config::{BEAT_LIMIT, KNOWN_ASKED_EVERY};
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

/// Asks all others whether they know this broker, so that the quorum's node here answers them: a copy of its directory
/// has forgotten what the node has said, and must not speak to whoever knows that. A broker that is refused stops.
pub(super) async fn be_known(
    quorum: Arc<Quorum>,
    links: Arc<Links>,
    faults: UnboundedSender<Fault>,
) {
    let others = quorum.unsure().into_iter();
    let mut asked: JoinSet<_> = others
        .map(|other| ask(Arc::clone(&quorum), Arc::clone(&links), other))
        .collect();
    while let Some(asked) = asked.join_next().await {
        // One that has panicked has said so.
        if let Ok(Err(refusal)) = asked {
            // The broker may be stopping for an earlier fault already.
            let _ = faults.send(Fault::Superseded(refusal.message));
        }
    }
}

/// Asks one of the others until it has answered, or is none of them any more.
async fn ask(quorum: Arc<Quorum>, links: Arc<Links>, other: BrokerId) -> Result<(), WireError> {
    while quorum.applied().image.broker(other).is_some() {
        let request = ClusterRequest::Know.encode(clock::now_ms())?;
        let asked = links.call_ahead(
            other,
            PeerService::Cluster,
            Bytes::from(request),
            BEAT_LIMIT,
        );
        match asked.await {
            Ok(_) => break,
            Err(CallError::Refused(error)) if error.code == ErrorCode::InvalidRequest => {
                return Err(error);
            }
            Err(_) => sleep(KNOWN_ASKED_EVERY).await,
        }
    }
    quorum.is_known_by(other);
    Ok(())
}

//! Who may call, and who has answered.

use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::api::peer::Introduction;
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use millstream_transport::{Principal, Role};
use uuid::Uuid;

/// Checks who opens a replication stream or calls: a broker's certificate, of this cluster.
///
/// The certificate's name is not looked at: any broker of the cluster may speak for any.
pub fn check_introduction(
    principal: &Principal,
    introduction: &Introduction,
    cluster_id: Uuid,
) -> Result<(), WireError> {
    if principal.role != Role::Broker {
        return Err(WireError::new(
            ErrorCode::NotAuthorized,
            format!("{principal} is no broker"),
        ));
    }
    if introduction.cluster_id != cluster_id {
        return Err(WireError::new(
            ErrorCode::NotAuthorized,
            format!(
                "broker {} is of cluster {}, and this is {cluster_id}",
                introduction.broker_id, introduction.cluster_id
            ),
        ));
    }
    Ok(())
}

/// Whoever was reached is not who was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongPeer {
    #[error("{0} is no broker: it needs a broker's certificate")]
    Role(Principal),
    #[error("it is of cluster {found}, and this is {expected}")]
    Cluster { found: Uuid, expected: Uuid },
    #[error("it is broker {found} instead of {expected}")]
    Broker { found: BrokerId, expected: BrokerId },
}

/// Checks who has answered the greeting.
pub(crate) fn check_answer(
    principal: &Principal,
    answer: &HelloResponse,
    cluster_id: Uuid,
    broker_id: BrokerId,
) -> Result<(), WrongPeer> {
    if principal.role != Role::Broker {
        return Err(WrongPeer::Role(principal.clone()));
    }
    if answer.cluster_id != cluster_id {
        return Err(WrongPeer::Cluster {
            found: answer.cluster_id,
            expected: cluster_id,
        });
    }
    if answer.broker_id != broker_id {
        return Err(WrongPeer::Broker {
            found: answer.broker_id,
            expected: broker_id,
        });
    }
    Ok(())
}

//! What a new broker is let into a cluster with.

use std::collections::BTreeMap;
use std::fmt;

use millstream_metadata::TokenHash;
use millstream_protocol::api::cluster::IssuedTicket;
use millstream_replication::BrokerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A one-time token, and what its holder must know to use it: an operator hands it to a new broker,
/// which is let in under the number that stands in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The number that the new broker is to have.
    pub broker_id: BrokerId,
    /// The token, which only the operator and the new broker know.
    pub token: String,
    /// Brokers of the cluster by their numbers, and where they are, `host:port`.
    pub brokers: BTreeMap<String, String>,
}

impl Ticket {
    /// What the cluster knows of the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.token.as_bytes()).into())
    }

    /// The brokers that the new one may turn to. What is no number is none.
    pub fn brokers(&self) -> BTreeMap<BrokerId, String> {
        let numbered = self.brokers.iter();
        numbered
            .filter_map(|(number, address)| Some((number.parse().ok()?, address.clone())))
            .collect()
    }
}

impl From<IssuedTicket> for Ticket {
    fn from(issued: IssuedTicket) -> Self {
        let numbered = issued.brokers.into_iter();
        Self {
            cluster_id: issued.cluster_id,
            broker_id: issued.broker_id,
            token: issued.token,
            brokers: numbered
                .map(|(number, address)| (number.to_string(), address))
                .collect(),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("cluster_id", &self.cluster_id)
            .field("broker_id", &self.broker_id)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

//! The cluster itself: its brokers, and letting new ones in.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::TimestampMs;

/// Asks for a ticket with which one new broker is let in, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueTicket {
    /// How long it is good for, milliseconds.
    pub valid_ms: u64,
}

/// What a new broker is let in with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedTicket {
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The number that the new broker is to have.
    pub broker_id: u32,
    /// The token. Whoever has it can become a broker of the cluster, if a certificate of its authority says
    /// that it is one.
    pub token: String,
    /// From when on it lets nobody in.
    pub expires_at_ms: TimestampMs,
    /// The brokers that the new one may turn to: their numbers, and where they are, `host:port`.
    pub brokers: Vec<(u32, String)>,
}

impl std::fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedTicket")
            .field("cluster_id", &self.cluster_id)
            .field("broker_id", &self.broker_id)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

/// Asks which brokers the cluster has: a client that has reached one can then turn to the others as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeBrokers {}

/// The answer to [`DescribeBrokers`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeBrokersResponse {
    /// The brokers that are registered, running or not, in order of their numbers. At most
    /// [`BROKERS_PER_LISTING`](crate::limits::BROKERS_PER_LISTING).
    pub brokers: Vec<BrokerAddress>,
}

/// A broker, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAddress {
    /// Its number.
    pub broker_id: u32,
    /// Where it says that it is reached, `host:port`. Its certificate is issued for this host.
    pub address: String,
}

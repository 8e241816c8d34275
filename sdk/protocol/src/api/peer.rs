//! Between the brokers of a cluster: replication streams, and calls whose content their services define.
//!
//! ```text
//! broker that opens                     broker that accepts
//! OpenReplication                   ->
//!                                   <-  Ok(OpenedReplication)
//! messages + payload: whole batches ->      (of any partitions, one frame after the other)
//! messages                          ->
//!                                   <-  Err(…)               (only if what came cannot be read)
//! ```
//!
//! A broker may have several such streams to another one, and answers on streams of its own. What a
//! message looks like is the brokers' own affair, as is what a call carries: clients take no part in
//! either, and only a broker's certificate opens them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The cluster that it belongs to.
    pub cluster_id: Uuid,
    /// Its number in the cluster.
    pub broker_id: u32,
    /// Its data directory.
    pub directory_id: Uuid,
    /// Which of its starts this is: a later one is greater.
    pub incarnation: u64,
}

/// Opens a stream of replicas' messages, from this broker to that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReplication {
    /// Who will speak.
    pub introduction: Introduction,
}

/// The stream is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedReplication {}

/// Calls a service of a broker; the payload is the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPeer {
    /// Who calls.
    pub introduction: Introduction,
    /// What of the broker is called.
    pub service: PeerService,
}

/// What of a broker another one calls. Grows only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerService {
    /// Its part of the metadata quorum.
    Consensus,
    /// Everything else that brokers of a cluster ask of each other.
    Cluster,
}

/// The answer to [`CallPeer`]; the payload is the service's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCalled {}

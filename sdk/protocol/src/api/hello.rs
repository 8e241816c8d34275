//! The version handshake, and a broker's description of itself.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first request on every connection. Nothing else is answered before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest protocol version the client speaks.
    pub version_min: u16,
    /// The highest protocol version the client speaks.
    pub version_max: u16,
    /// The client's name for itself, for logs and listings.
    pub client_name: String,
    /// The client's software and its version, for example `millstream-rust/0.1.0`.
    pub software: String,
}

/// The answer to [`Hello`]. An [`crate::ErrorCode::UnsupportedVersion`] comes in its place when
/// the ranges do not meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloResponse {
    /// The version both sides speak from here on.
    pub version: u16,
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The broker's number in the cluster.
    pub broker_id: u32,
    /// The broker's software and its version.
    pub software: String,
    /// The name the broker took from the client's certificate.
    pub principal: String,
    /// Bytes of one record batch that this broker accepts.
    pub max_batch_bytes: u32,
    /// Fetch streams to open before partitions share them.
    pub fetch_streams: u32,
}

/// Asks a broker how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeBroker {}

/// How a broker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerDescription {
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The broker's number in the cluster.
    pub broker_id: u32,
    /// The broker's software and its version.
    pub software: String,
    /// Milliseconds since the broker was ready.
    pub uptime_ms: u64,
    /// Connections open now.
    pub connections: u32,
    /// Topics, internal ones included.
    pub topics: u32,
    /// Partitions hosted here.
    pub partitions: u32,
    /// Workers running here.
    pub workers: u32,
    /// Resident memory of the process in bytes, 0 where it is unknown.
    pub resident_bytes: u64,
}

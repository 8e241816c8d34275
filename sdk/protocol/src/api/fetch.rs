//! Fetch: a pushed stream, or a single long poll.
//!
//! ```text
//! client                        broker
//! OpenFetch                 ->
//!                           <-  Ok(FetchOpened)
//!                           <-  Ok(Fetched) + payload: whole record batches
//!                           <-  Ok(Fetched) + payload …       (as they become visible)
//! ```
//!
//! The client's reading is the credit: the broker writes until QUIC's flow control stops it, and
//! sends nothing while there is nothing. The client ends the stream by stopping or resetting it.
//!
//! A replica that does not lead is read by [`Request::OpenReplicaFetch`](super::Request::OpenReplicaFetch), which
//! is not passed on. It shows what it knows to be committed, a little later than its leader. What it does not have
//! it refuses with [`ErrorCode::NotReady`](crate::ErrorCode::NotReady), or ends the stream so: the leader may have it.
//!
//! The first batch may begin below the offset asked for: a batch is never cut, and the client
//! skips what it did not ask for.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::ids::{Offset, PartitionIndex, TopicId};

/// One partition to fetch from, and where to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPartition {
    /// The topic's name.
    pub topic: String,
    /// The topic's identity, if known: another topic of the same name is refused as unknown.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted.
    pub offset: Offset,
}

/// Opens a fetch stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFetch {
    /// The partitions of this stream, usually one; at most
    /// [`MAX_PARTITIONS_PER_FETCH_STREAM`](crate::limits::MAX_PARTITIONS_PER_FETCH_STREAM).
    pub partitions: Vec<FetchPartition>,
    /// Payload of one frame when there is more to read, bytes; at most
    /// [`MAX_FETCH_BYTES`](crate::limits::MAX_FETCH_BYTES). A single larger batch is sent all the same.
    pub max_bytes: u32,
}

/// The stream is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOpened {
    /// The topics' identities, in the order of the partitions asked for.
    pub topic_ids: Vec<TopicId>,
}

/// A push: what became visible in one partition. The payload is whole record batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Which partition of [`OpenFetch::partitions`], counted from 0.
    pub index: u32,
    /// Records below are visible.
    pub high_watermark: Offset,
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Where the next push goes on: behind the last batch of this one.
    pub next_offset: Offset,
}

/// One fetch, waiting at the broker until there is enough or time is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
    /// Answer as soon as this many bytes are there.
    pub min_bytes: u32,
    /// Payload of the answer, bytes; a single larger batch is sent all the same.
    pub max_bytes: u32,
    /// Answer at the latest after this, milliseconds; at most
    /// [`MAX_FETCH_WAIT_MS`](crate::limits::MAX_FETCH_WAIT_MS).
    pub max_wait_ms: u32,
}

/// The answer to [`Fetch`]. The payload is the batches of all partitions in the order listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResponse {
    /// One entry per partition asked for.
    pub partitions: Vec<Result<FetchedPartition, WireError>>,
}

/// One partition's part of a [`FetchResponse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedPartition {
    /// Bytes of the payload that are this partition's.
    pub payload_bytes: u32,
    /// Records below are visible.
    pub high_watermark: Offset,
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Where to go on: behind the last batch of this answer.
    pub next_offset: Offset,
}

//! Produce: a long-lived stream per (connection, partition).
//!
//! ```text
//! client                                   broker
//! OpenProduce                          ->
//!                                      <-  Ok(ProduceOpened)
//! ProduceBatch + payload: one batch    ->
//! ProduceBatch + payload: one batch    ->      (batches pipeline)
//!                                      <-  Ok(ProduceAck)      (in order)
//!                                      <-  Ok(ProduceAck)
//! ```
//!
//! An error in place of an acknowledgement belongs to the oldest batch not yet answered. After it
//! the broker closes the stream and appends nothing more that came on it; the client opens another
//! and sends what was not acknowledged again, under the same sequence numbers.

use serde::{Deserialize, Serialize};

use crate::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId,
};

/// Asks for a producer id that no one else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProducer {}

/// Who a producer is, for the removal of duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdentity {
    /// Unique for the life of the cluster.
    pub producer_id: ProducerId,
    /// Fences older instances of the same id.
    pub producer_epoch: ProducerEpoch,
}

/// Opens a produce stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenProduce {
    /// The topic's name.
    pub topic: String,
    /// The topic's identity, if known: another topic of the same name is refused as unknown.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
}

/// The stream is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceOpened {
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The largest batch the topic takes, bytes.
    pub max_batch_bytes: u32,
}

/// One batch; the payload is exactly one record batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceBatch {}

/// One batch is appended (or was before: a duplicate is acknowledged with its first offset).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceAck {
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The broker's clock when it appended.
    pub appended_at_ms: TimestampMs,
}

//! Topics: create, describe, alter, delete.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, WireError};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};

/// When a produced batch is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// After an fdatasync that covers it (the default).
    #[default]
    Sync,
    /// After it was written to the operating system: safe when the process dies, not when the
    /// machine loses power.
    Relaxed,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cleanup {
    /// Whole segments are deleted by age and size.
    #[default]
    Delete,
    /// The last record of every key is kept; a record without value is a tombstone. Records
    /// without a key are refused.
    Compact,
}

/// A topic's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// When a batch is acknowledged.
    pub durability: Durability,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// Records older than this may go, milliseconds. `None`: kept for ever.
    pub retention_ms: Option<u64>,
    /// A partition larger than this loses its oldest segments, bytes. `None`: unbounded.
    pub retention_bytes: Option<u64>,
    /// A segment is sealed at this size, bytes.
    pub segment_bytes: u64,
    /// A segment is sealed at this age, milliseconds.
    pub segment_ms: u64,
    /// The largest batch this topic takes, bytes.
    pub max_batch_bytes: u32,
    /// How long a tombstone outlives its key's records, milliseconds.
    pub tombstone_retention_ms: u64,
    /// How many brokers keep each new partition: 1, 2, 3 or 5. With 3, one of them may be lost and
    /// the partition goes on; with 5, two of them.
    pub replication_factor: u8,
}

impl Default for TopicConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            durability: Durability::default(),
            cleanup: Cleanup::default(),
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_bytes: 512 << 20,
            segment_ms: 7 * DAY_MS,
            max_batch_bytes: crate::limits::MAX_BATCH_BYTES as u32,
            tombstone_retention_ms: DAY_MS,
            replication_factor: 1,
        }
    }
}

/// Makes a topic. Every broker answers for it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Letters, digits, `.`, `_` and `-`; names that start with `__` are the broker's own.
    pub name: String,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// The settings.
    pub config: TopicConfig,
}

/// Changes a topic. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopic {
    /// Which topic.
    pub name: String,
    /// The new number of partitions; never fewer than now.
    pub partitions: Option<u32>,
    /// The new durability.
    pub durability: Option<Durability>,
    /// The new cleanup.
    pub cleanup: Option<Cleanup>,
    /// The new retention by time; the inner `None` keeps records for ever.
    pub retention_ms: Option<Option<u64>>,
    /// The new retention by size; the inner `None` lifts the bound.
    pub retention_bytes: Option<Option<u64>>,
    /// The new segment size.
    pub segment_bytes: Option<u64>,
    /// The new segment age.
    pub segment_ms: Option<u64>,
    /// The new largest batch.
    pub max_batch_bytes: Option<u32>,
    /// The new life of tombstones.
    pub tombstone_retention_ms: Option<u64>,
}

/// Deletes a topic and its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// Which topic.
    pub name: String,
}

/// Which topics to describe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicSelection {
    /// All but the broker's own.
    All,
    /// All, the broker's own included.
    AllWithInternal,
    /// These; an unknown one is an error.
    Named(Vec<String>),
}

/// Asks for topics, their ids, partitions and leaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopics {
    /// Which topics.
    pub topics: TopicSelection,
    /// Of these, only the ones behind this name: where an earlier response ended.
    pub after: Option<String>,
    /// What is told of their partitions.
    pub detail: TopicDetail,
}

/// What is told of partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicDetail {
    /// Who leads and who keeps them: the broker knows by itself.
    #[default]
    Placement,
    /// The same, and what their leaders say of their logs: these are asked for it.
    Logs,
}

/// The answer to [`DescribeTopics`], in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopicsResponse {
    /// The topics.
    pub topics: Vec<TopicDescription>,
    /// There are more behind the last one.
    pub more: bool,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub topic_id: TopicId,
    /// Its settings.
    pub config: TopicConfig,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionIndex,
    /// The broker that leads it.
    pub leader: u32,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that keep it, the preferred leader first; while the replicas change, those before and
    /// after.
    pub replicas: Vec<u32>,
    /// Those of them that have not got all that they should, as far as the cluster knows: they do not count.
    pub untrusted: Vec<u32>,
    /// Those of them that are not there.
    pub offline: Vec<u32>,
    /// Those of them that are to keep it once the change is done, and did not before.
    pub joining: Vec<u32>,
    /// Those of them that are to keep it no more once the change is done.
    pub leaving: Vec<u32>,
    /// What its leader says of its log; `None` if that was not asked for, or does not lead yet, or does not
    /// answer.
    pub log: Option<PartitionLog>,
}

impl PartitionDescription {
    /// What its leader says of its log.
    ///
    /// # Errors
    ///
    /// It is not known: [`ErrorCode::NotReady`].
    pub fn known_log(&self) -> Result<&PartitionLog, WireError> {
        self.log.as_ref().ok_or_else(|| {
            WireError::new(
                ErrorCode::NotReady,
                format!(
                    "broker {}, which leads partition {}, does not say how far its log is",
                    self.leader, self.partition
                ),
            )
        })
    }
}

/// The log of a partition, as its leader has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLog {
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Records below are visible.
    pub high_watermark: Offset,
    /// The next offset to be written.
    pub log_end_offset: Offset,
    /// Records below are on stable storage.
    pub flushed_offset: Offset,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// The first damage that was found in it, if any. Where it leaves in doubt where the log ends, the
    /// partition takes no writes.
    pub damage: Option<String>,
}

impl PartitionLog {
    /// How many offsets can be read: in a compacted topic there are fewer records.
    pub fn visible_offsets(&self) -> u64 {
        self.high_watermark.saturating_sub(self.log_start_offset)
    }
}

//! Identifiers, and the words for positions in a log.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The position of a record in its partition, counted from 0.
///
/// Where an offset bounds a range, it is exclusive at the end: the *next* offset.
pub type Offset = u64;

/// The number of a partition within its topic, counted from 0.
pub type PartitionIndex = u32;

/// Which leadership of a partition wrote a batch. Strictly increasing per partition; never a
/// group's *generation* and never Raft's *term*.
pub type LeaderEpoch = u32;

/// Identifies an idempotent producer. Given by the broker, unique for the life of the cluster.
pub type ProducerId = u64;

/// Producer ids from here on belong to workers: what a worker emits is known by its sequence for
/// ever, not only among its last batches. A client may not produce under such an id.
pub const FIRST_WORKER_PRODUCER_ID: ProducerId = 1 << 62;

/// Set in the id of a worker's second producer: of outputs that go to their topics before they count.
pub const DIRECT_WORKER_PRODUCER_ID: ProducerId = 1 << 61;

/// Fences older instances of the same [`ProducerId`].
pub type ProducerEpoch = u16;

/// Milliseconds since the Unix epoch. Negative before 1970.
pub type TimestampMs = i64;

/// The identity of a topic. A topic deleted and created again under the same name is another
/// topic and has another id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// The topic that these 16 bytes stand for.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes that stand for the topic in checksums and file headers.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({})", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number within the topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

//! What a log is told about itself.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{PartitionIndex, TopicId};

use crate::cache::TailBudget;
use crate::limits;
use crate::storage::Storage;

/// Which partition a log belongs to. Bound into the checksum of every entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number within the topic.
    pub partition: PartitionIndex,
}

/// How a log gets rid of what is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleanup {
    /// Whole segments go, by age and by size of the log.
    #[default]
    Delete,
    /// Records go that have a later one with the same key. Records without a key stay.
    Compact,
}

/// How a log is kept. Values that lie outside their limits are brought inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The size that closes a segment, bytes; within
    /// [`SEGMENT_BYTES`](crate::limits::SEGMENT_BYTES). A larger batch has a segment of its own.
    pub segment_bytes: u64,
    /// The age that closes a segment, milliseconds since its first append.
    pub segment_ms: u64,
    /// Bytes of log between two entries of a sparse index, until it is full and thins out. A
    /// change takes effect when the log is opened again.
    pub index_interval_bytes: u32,
    /// The largest batch that is appended, bytes.
    pub max_batch_bytes: usize,
    /// How what is old goes.
    pub cleanup: Cleanup,
    /// How long records are kept, milliseconds; `None` for ever.
    pub retention_ms: Option<u64>,
    /// The bytes that are kept; `None` without bound.
    pub retention_bytes: Option<u64>,
    /// How long compaction keeps a tombstone (a record without a value) after it first met it,
    /// milliseconds.
    pub tombstone_retention_ms: u64,
    /// Memory for the keys of one round of compaction, bytes.
    pub compaction_key_bytes: usize,
    /// Producers remembered; within [`PRODUCERS`](crate::limits::PRODUCERS).
    pub max_producers: usize,
    /// Bytes of recent batches kept in memory.
    pub tail_cache_bytes: usize,
    /// Appended bytes after which a flush also writes a checkpoint.
    pub checkpoint_bytes: u64,
    /// Whether nothing is appended where room is [scarce](Storage::is_scarce), as if there were none: what a broker has to
    /// write to stay one is on the same disk.
    pub leaves_room: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: limits::DEFAULT_SEGMENT_BYTES,
            segment_ms: limits::DEFAULT_SEGMENT_MS,
            index_interval_bytes: limits::DEFAULT_INDEX_INTERVAL_BYTES,
            max_batch_bytes: MAX_BATCH_BYTES,
            cleanup: Cleanup::Delete,
            retention_ms: None,
            retention_bytes: None,
            tombstone_retention_ms: limits::DEFAULT_TOMBSTONE_RETENTION_MS,
            compaction_key_bytes: limits::DEFAULT_COMPACTION_KEY_BYTES,
            max_producers: limits::DEFAULT_MAX_PRODUCERS,
            tail_cache_bytes: limits::DEFAULT_TAIL_CACHE_BYTES,
            checkpoint_bytes: limits::DEFAULT_CHECKPOINT_BYTES,
            leaves_room: false,
        }
    }
}

impl LogConfig {
    /// The same within the limits.
    pub(crate) fn bounded(mut self) -> Self {
        let (min, max) = limits::SEGMENT_BYTES.into_inner();
        self.segment_bytes = self.segment_bytes.clamp(min, max);
        self.max_batch_bytes = self.max_batch_bytes.min(MAX_BATCH_BYTES);
        let (min, max) = limits::PRODUCERS.into_inner();
        self.max_producers = self.max_producers.clamp(min, max);
        self
    }
}

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct LogSetup {
    /// Where its files are.
    pub storage: Arc<dyn Storage>,
    /// Its own directory, in one that exists.
    pub dir: PathBuf,
    /// Whose it is.
    pub identity: LogIdentity,
    /// How it is kept.
    pub config: LogConfig,
    /// The memory that all logs share for recent batches.
    pub tail_budget: Arc<TailBudget>,
    /// A number that producers cannot guess, for a log that is created here: it is stored, and
    /// later ones are ignored. It keeps producers from forging what recovery takes for an entry.
    pub salt: u64,
}

//! Every limit of the log by name. The asserts at the end hold them together at compile time.

use std::ops::RangeInclusive;

use millstream_protocol::limits::{BATCHES_IN_FLIGHT_PER_PRODUCER, MAX_BATCH_BYTES};

use crate::format::segment::SEGMENT_HEADER_BYTES;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The size that closes a segment, bytes.
pub const DEFAULT_SEGMENT_BYTES: u64 = 512 * MIB as u64;

/// What [`LogConfig::segment_bytes`](crate::LogConfig::segment_bytes) may be; what lies outside
/// is brought inside. Positions within a segment are kept in 32 bits.
pub const SEGMENT_BYTES: RangeInclusive<u64> = KIB as u64..=1024 * MIB as u64;

/// The age that closes a segment, milliseconds: seven days.
pub const DEFAULT_SEGMENT_MS: u64 = 7 * 24 * 3_600_000;

/// Bytes of log between two entries of a sparse index.
pub const DEFAULT_INDEX_INTERVAL_BYTES: u32 = 4 * KIB as u32;

/// Entries of one sparse index: 16 bytes each, in memory and on disk. An index that is full drops
/// every other entry and doubles its interval.
pub const MAX_INDEX_ENTRIES: usize = 4_096;

/// Producers that one log remembers. Beyond it, the least recently used is forgotten.
pub const DEFAULT_MAX_PRODUCERS: usize = 10_000;

/// What [`LogConfig::max_producers`](crate::LogConfig::max_producers) may be.
pub const PRODUCERS: RangeInclusive<usize> = 1..=100_000;

/// The last batches of one producer that are recognised when they come again. A producer may have
/// as many under way at once, and not more.
pub const BATCHES_PER_PRODUCER: usize = BATCHES_IN_FLIGHT_PER_PRODUCER;

/// Leader epochs that one log remembers the start of. Beyond it, the oldest is forgotten.
pub const MAX_EPOCHS: usize = 10_000;

/// Snapshots of producers and epochs that are kept besides those at the beginnings of segments: the
/// newest, and one to fall back on.
pub const SNAPSHOTS_KEPT: usize = 2;

/// The largest snapshot of producers that one replica takes from another, bytes. All that a log
/// remembers fit.
pub const MAX_PRODUCERS_BYTES: usize = 16 * MIB;

/// Bytes of recent batches that one log keeps in memory.
pub const DEFAULT_TAIL_CACHE_BYTES: usize = 4 * MIB;

/// Bytes of recent batches that all logs of a broker keep in memory together.
pub const DEFAULT_TAIL_BUDGET_BYTES: usize = 64 * MIB;

/// Appended bytes after which a flush also writes a checkpoint: about what the next start scans.
pub const DEFAULT_CHECKPOINT_BYTES: u64 = 64 * MIB as u64;

/// Memory that the keys of one compaction round take. What has no room waits for the next round.
pub const DEFAULT_COMPACTION_KEY_BYTES: usize = 64 * MIB;

/// How long compaction keeps a tombstone that it has met, milliseconds: a day.
pub const DEFAULT_TOMBSTONE_RETENTION_MS: u64 = 24 * 3_600_000;

/// A log is compacted when at least this part of its sealed bytes was not compacted yet.
pub const COMPACTION_DIRTY_PERCENT: u64 = 50;

/// The largest state of a replica in a [`StateFile`](crate::StateFile).
pub const MAX_STATE_BYTES: usize = 64;

/// A state file larger than this is not read: a hundred thousand partitions have a hundredth of it.
pub(crate) const MAX_STATE_FILE_BYTES: u64 = 10 << 30;

/// A state file is written anew when it has grown by this much, and to twice what it then holds.
pub(crate) const STATE_FILE_GROWTH_BYTES: u64 = 4 * MIB as u64;

/// What is read at once while a whole segment is read through.
pub(crate) const SCAN_CHUNK_BYTES: usize = 4 * MIB;

/// What is read at once while only the headers of entries are wanted.
pub(crate) const HEADER_CHUNK_BYTES: usize = 64 * KIB;

/// What compaction collects before it writes.
pub(crate) const COMPACTION_WRITE_BYTES: usize = MIB;

/// The largest index file that is read.
pub(crate) const MAX_INDEX_FILE_BYTES: usize = 128 * KIB;

/// The largest snapshot that is read.
pub(crate) const MAX_SNAPSHOT_BYTES: usize = 16 * MIB;

/// Snapshots of the beginnings of segments that wait to be written take no more memory than this.
/// What has no room is derived from the segments when it is needed.
pub(crate) const MAX_WAITING_SNAPSHOT_BYTES: usize = 16 * MIB;

/// Places of damage that are remembered, of one log.
pub(crate) const MAX_DAMAGES: usize = 100;

const _: () = assert!(*SEGMENT_BYTES.start() as usize > SEGMENT_HEADER_BYTES);
const _: () = assert!(*SEGMENT_BYTES.end() + (2 * MAX_BATCH_BYTES) as u64 <= u32::MAX as u64);
const _: () = assert!(DEFAULT_SEGMENT_BYTES <= *SEGMENT_BYTES.end());
const _: () = assert!(DEFAULT_MAX_PRODUCERS <= *PRODUCERS.end());
const _: () = assert!(DEFAULT_TAIL_CACHE_BYTES <= DEFAULT_TAIL_BUDGET_BYTES);
const _: () = assert!(MAX_INDEX_ENTRIES * 16 + 256 <= MAX_INDEX_FILE_BYTES);
const _: () = assert!(
    *PRODUCERS.end() * (12 + 16 * BATCHES_PER_PRODUCER) + MAX_EPOCHS * 12 + 256
        <= MAX_SNAPSHOT_BYTES
);
const _: () =
    assert!(*PRODUCERS.end() * (12 + 16 * BATCHES_PER_PRODUCER) + 256 <= MAX_PRODUCERS_BYTES);
const _: () = assert!(SNAPSHOTS_KEPT >= 1 && MAX_INDEX_ENTRIES >= 2);

/// Room is scarce on a disk when less than this part of it is left, and less than [`MAX_SCARCE_BYTES`].
pub const SCARCE_FRACTION: u64 = 16;

/// Room is never scarce when more bytes than these are left.
pub const MAX_SCARCE_BYTES: u64 = 16 << 20;

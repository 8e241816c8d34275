//! Every limit by name. The asserts at the end hold them together at compile time.

use millstream_metadata::limits::{MAX_RECORD_BYTES, MAX_SNAPSHOT_BYTES};
use millstream_protocol::limits as protocol;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Voters of one quorum: 1, 3 or 5.
pub const VOTER_COUNTS: [usize; 3] = [1, 3, 5];

/// The most voters of one quorum.
pub const MAX_VOTERS: usize = 5;

/// Voters and learners together.
pub const MAX_NODES: usize = 64;

/// What an entry takes besides its record: its identity, the revision, lengths. A change of voters
/// is an entry without a record, and has room for [`MAX_NODES`] here.
pub const MAX_ENTRY_OVERHEAD_BYTES: usize = 4 * KIB;

/// One encoded entry of the log, bytes.
pub const MAX_ENTRY_BYTES: usize = MAX_RECORD_BYTES + MAX_ENTRY_OVERHEAD_BYTES;

/// Entries that one message carries, bytes: as many as fit, and always one.
pub const MAX_APPEND_BYTES: usize = MIB;

/// Entries that one message carries.
pub const MAX_APPEND_ENTRIES: u64 = 300;

/// What one message carries of a snapshot, bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = MIB;

/// One message of a peer, a request or an answer, bytes. Compared before it is decoded.
pub const MAX_RPC_BYTES: usize = MAX_APPEND_BYTES + MAX_ENTRY_BYTES + 64 * KIB;

/// A snapshot with its head, bytes.
pub const MAX_SNAPSHOT_FILE_BYTES: usize = MAX_SNAPSHOT_BYTES + KIB;

/// What describes a snapshot: its last entry and the members, bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 64 * KIB;

/// The size that closes a segment of the log, bytes. What was applied is freed by whole segments.
pub const LOG_SEGMENT_BYTES: u64 = 8 * MIB as u64;

/// Bytes of recent entries that are kept in memory, for followers that keep up.
pub const LOG_TAIL_BYTES: usize = 4 * MIB;

/// Entries that a leader has appended and that are not applied yet. A leader without its quorum
/// takes no more than these.
pub const MAX_UNCOMMITTED_ENTRIES: u64 = 1_000;

/// How many entries a learner may be behind when it is made a voter.
pub const MAX_PROMOTION_LAG_ENTRIES: u64 = 100;

/// When snapshots are taken, how much of the log stays, and what a command may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries from one snapshot to the next: about what a start applies again. Default 1,000.
    pub snapshot_every_entries: u64,
    /// Entries that stay behind a snapshot, so that who was away for a moment needs none. Default
    /// 1,000.
    pub kept_entries: u64,
    /// What the cluster refuses to go beyond. Only the leader asks for it.
    pub metadata: millstream_metadata::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshot_every_entries: 1_000,
            kept_entries: 1_000,
            metadata: millstream_metadata::Limits::default(),
        }
    }
}

const _: () = assert!(MAX_ENTRY_BYTES <= protocol::MAX_RECORD_BYTES);
const _: () = assert!(MAX_NODES * 32 < MAX_ENTRY_OVERHEAD_BYTES);
const _: () = assert!(MAX_NODES * 32 < MAX_DESCRIPTION_BYTES);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES + 8 * KIB < MAX_RPC_BYTES);
const _: () = assert!(VOTER_COUNTS[VOTER_COUNTS.len() - 1] == MAX_VOTERS);
const _: () = assert!(MAX_VOTERS <= MAX_NODES);

//! The bounds of a worker, by name.

use millstream_protocol::limits::MAX_BATCH_BYTES;

/// Commits whose outputs may be on their way at once.
pub const MAX_UNSETTLED_COMMITS: usize = 8;

/// One commit, bytes: it is one batch of the journal.
pub const MAX_COMMIT_BYTES: usize = MAX_BATCH_BYTES;

/// Outputs lie in the journal in pieces of at most this size, bytes.
pub const OUTPUT_PIECE_BYTES: usize = 1 << 20;

/// Records of one worker that may wait to be tried again, those behind them included.
pub const MAX_PARKED_RECORDS: usize = 10_000;

/// The same, bytes.
pub const MAX_PARKED_BYTES: usize = 16 << 20;

/// A record that takes more than this, bytes, is not parked: it holds up its partition.
pub const MAX_PARKED_RECORD_BYTES: usize = 1 << 20;

/// Records that fail, or wait behind others, and so are put into one commit, bytes: half of it, so that
/// it has room for what comes of the others. A single one may take more.
pub const MAX_SET_ASIDE_BYTES: usize = MAX_COMMIT_BYTES / 2;

/// What each of these counts beside the record, its key and its reason, bytes: the headers of a dead
/// letter, with the longest names.
pub const SET_ASIDE_OVERHEAD_BYTES: usize = 1 << 10;

/// Timers of one worker that may wait.
pub const MAX_TIMERS: usize = 100_000;

/// The same, bytes: each key, and 64 bytes a timer.
pub const MAX_TIMER_BYTES: usize = 8 << 20;

/// Timers that fire together.
pub const MAX_FIRED_TIMERS: usize = 1_000;

/// The reason that is kept of a failure, bytes.
pub const MAX_REASON_BYTES: usize = 4 << 10;

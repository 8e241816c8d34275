//! Every limit of a replica, by name.

/// Replicas that a partition may have. While its set changes there may be twice as many.
pub const MAX_REPLICAS: usize = 5;

/// Changes of the leader epoch that one span of a log may contain. A log that has more since the
/// place where two replicas part is sent in several spans.
pub const MAX_RUNS: usize = 256;

/// The highest offset that is believed of a peer: a record a nanosecond gets there in a century.
pub const MAX_OFFSET: u64 = 1 << 62;

/// How long an unanswered message stays so before its sender asks again, milliseconds. Links are
/// reliable, so this is for one that was lost with its link or a peer that has restarted.
pub const RETRY_MS: u64 = 250;

/// To what the time between two such questions doubles, milliseconds.
pub const MAX_RETRY_MS: u64 = 2_000;

const _: () = assert!(RETRY_MS > 0 && RETRY_MS <= MAX_RETRY_MS);
const _: () = assert!(MAX_RUNS >= 2, "a leader's first span may hold two epochs");

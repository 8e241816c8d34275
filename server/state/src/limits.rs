//! The bounds, by name.

/// Changes of one worker that are in memory before they go into its file, bytes, unless the broker
/// is told otherwise. While they are written, as many may gather again.
pub const DEFAULT_OVERLAY_BYTES: usize = 64 << 20;

/// Changes of all workers that are in memory, bytes, unless the broker is told otherwise. Beyond it
/// every worker writes what it has when that is [worth a file](MIN_FLUSH_BYTES).
pub const DEFAULT_MEMORY_BYTES: usize = 256 << 20;

/// Less than this in memory, bytes, is not written because others have too much.
pub const MIN_FLUSH_BYTES: usize = 256 << 10;

/// Pages of all files that are kept in memory, bytes: the more files are open when one is opened, the
/// less it gets. The operating system keeps more.
pub const DEFAULT_CACHE_BYTES: usize = 256 << 20;

/// What one file gets of it, bytes, at least and at most.
pub const CACHE_BYTES_OF_ONE: std::ops::RangeInclusive<usize> = 4 << 20..=64 << 20;

/// Changes that are gathered in memory, bytes, when a whole journal is read back: in order they go
/// into the file faster than one by one.
pub const DEFAULT_LOADING_BYTES: usize = 64 << 20;

/// What an entry counts for beside its key and its value, bytes.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Entries of one page of a snapshot.
pub const MAX_PAGE_ENTRIES: usize = 1_000;

/// Keys and values of one page of a snapshot, bytes. A single entry may have more.
pub const MAX_PAGE_BYTES: usize = 1 << 20;

//! A partition's entries, as whoever keeps its log hands them to a link.

use bytes::Bytes;
use millstream_protocol::Offset;

/// A partition's entries as they were when a message was made, for as long as the message waits: a
/// link reads them when it is their turn.
///
/// Both methods give whole batches from `from` on: one at least if there is any, more as long as they
/// do not exceed `max_bytes` together, and none that reaches beyond `until`.
pub trait Entries: Send + Sync + 'static {
    /// Reads from wherever they are. May block: it is called on a thread that may.
    ///
    /// `None` if the log is no longer as it was when the message was made, or cannot be read: the
    /// message is lost then.
    fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece>;

    /// The same if it needs no disk, and `None` if it does. Must not block.
    fn read_cached(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece>;
}

/// What was read of a partition's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whole batches. The first is the one at the offset asked for, or the next one where compaction
    /// has left a gap.
    pub batches: Vec<Bytes>,
    /// The offset behind the last of them. If there is none: where to go on.
    pub next_offset: Offset,
}

//! What replicas say to each other.

use millstream_protocol::{LeaderEpoch, Offset};

use crate::view::{Position, Span};
use crate::{DirectoryId, Durable};

/// One message between two replicas of a partition. It may be lost, come twice, late or out of
/// order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A leader-to-be asks for a promise to follow no older epoch.
    Seal {
        /// Its epoch.
        epoch: LeaderEpoch,
    },
    /// The promise is given, and is on the disk.
    Sealed {
        /// The epoch promised.
        epoch: LeaderEpoch,
        /// What is on the sender's disk, besides its log.
        durable: Durable,
        /// Where its log ends.
        tip: Position,
        /// What it knows to be committed.
        high_watermark: Offset,
    },
    /// A leader-to-be asks a donor for entries that it lacks.
    Fetch {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The donor's directory, as it was when it promised.
        directory: DirectoryId,
        /// Where the donor's log ended then.
        tip: Position,
        /// Where its own log ends.
        from: Position,
    },
    /// The donor's entries.
    Fetched {
        /// The epoch of who has asked.
        epoch: LeaderEpoch,
        /// They begin where the asker's log ends.
        span: Span,
    },
    /// The donor's log does not have that position.
    Parted {
        /// The epoch of who has asked.
        epoch: LeaderEpoch,
        /// The position asked for.
        asked: Position,
        /// The last position that the two may have in common.
        floor: Position,
    },
    /// A leader's entries, or none, and how far all is committed.
    Append {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The entries.
        span: Span,
        /// Everything below is committed.
        high_watermark: Offset,
        /// The records below are to be deleted; all of them are committed.
        deleted: Offset,
        /// The leader wants to know where the follower is, whether that is news or not.
        asks: bool,
    },
    /// A follower's log agrees with its leader's.
    Ack(Ack),
    /// A follower's log does not have the position at which an [`Append`](Self::Append) begins.
    Mismatch {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The position at which the append begins.
        asked: Position,
        /// The last position that the two may have in common.
        floor: Position,
    },
    /// A follower that was not trusted has everything that it may have forgotten: it counts again.
    Trust {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The follower's directory.
        directory: DirectoryId,
    },
}

/// How far a follower is with a leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The directory that holds the log.
    pub directory: DirectoryId,
    /// Whether the follower counts itself as trusted, and its disk says so.
    pub trusted: bool,
    /// Up to here its log was compared with the leader's, and is the same.
    pub verified: Offset,
    /// Up to here that is on its disk.
    pub flushed: Offset,
    /// What it knows to be committed.
    pub high_watermark: Offset,
    /// Up to here records are deleted, and its disk says so.
    pub deleted: Offset,
    /// It answers a question.
    pub answers: bool,
}

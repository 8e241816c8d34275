//! Every limit of a link, by name. The asserts at the end hold them together at compile time.

use std::time::Duration;

use millstream_protocol::batch::BATCH_HEADER_BYTES;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_BODY_BYTES};
use millstream_replication::limits::MAX_RUNS;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a partition sends of its entries before it is another one's turn, bytes. A single larger
/// batch is sent all the same.
pub const TURN_BYTES: usize = MIB;

/// Entries of one frame, bytes: those of one turn, or one batch.
pub const MAX_ENTRIES_BYTES: usize = MAX_BATCH_BYTES + TURN_BYTES;

/// Batches of one frame: what fits into one turn if none of them has a record.
pub const MAX_BATCHES_PER_FRAME: usize = TURN_BYTES / BATCH_HEADER_BYTES + 1;

/// Turns of partitions without entries to send that may be taken before one with entries has its.
pub const SHORT_TURNS: usize = 64;

/// Messages of one partition, besides those with entries, that wait to be sent to one peer. Beyond
/// it the oldest is lost.
pub const MAX_WORDS_PER_PARTITION: usize = 16;

/// What was received on one stream and is still in use by the broker, bytes. Beyond it the stream is
/// not read, and QUIC's flow control stops the peer.
pub const RECEIVED_BYTES_IN_FLIGHT: usize = 16 * MIB;

/// What a message counts there besides its entries, bytes.
pub const MESSAGE_BYTES: usize = 512;

/// The request or the answer of one call, bytes.
pub const MAX_CALL_BYTES: usize = 4 * MIB;

/// Calls to one peer that are under way. Others wait, within their time limit.
pub const CALLS_IN_FLIGHT: usize = 32;

/// How a link waits and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The first pause after a failure; it doubles from one failure to the next. Default 50 ms.
    pub pause_first: Duration,
    /// The longest pause between two attempts. Default 2 s.
    pub pause_max: Duration,
    /// The pause after a peer was found to be another one than expected, which does not pass by
    /// itself. Default 15 s.
    pub pause_refused: Duration,
    /// A link that was up for this long begins with the first pause when it fails. Default 10 s.
    pub steady_after: Duration,
    /// How long a peer may take to answer a greeting, or the opening of a stream. Default 5 s.
    pub answer_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pause_first: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            pause_refused: Duration::from_secs(15),
            steady_after: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
        }
    }
}

const _: () = assert!(TURN_BYTES <= MAX_ENTRIES_BYTES);
const _: () = assert!(MAX_BATCH_BYTES <= MAX_ENTRIES_BYTES);
const _: () = assert!(MAX_ENTRIES_BYTES + MESSAGE_BYTES <= RECEIVED_BYTES_IN_FLIGHT);
const _: () = assert!(RECEIVED_BYTES_IN_FLIGHT <= u32::MAX as usize);
// A run takes 15 bytes at most, and the rest of a message fits into as many as a hundred.
const _: () = assert!(MAX_RUNS * 15 + 1500 <= MAX_BODY_BYTES);
const _: () = assert!(MAX_CALL_BYTES <= u32::MAX as usize);

//! Every limit of a link, by name. The asserts at the end hold them together at compile time.

use std::num::NonZeroU64;
use std::time::Duration;

use millstream_protocol::batch::BATCH_HEADER_BYTES;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_BODY_BYTES};
use millstream_replication::limits::MAX_RUNS;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a partition sends of its entries before it is another one's turn, bytes. A single larger
/// batch is sent all the same.
pub const TURN_BYTES: usize = MIB;

/// Messages of one frame.
pub const MAX_MESSAGES_PER_FRAME: usize = 256;

/// No more messages are put into a frame that has this many bytes of entries.
pub const FULL_FRAME_BYTES: usize = 64 * KIB;

/// Entries of one frame, bytes: less than makes it full, and the turn of one more partition, or one
/// batch.
pub const MAX_FRAME_BYTES: usize = FULL_FRAME_BYTES + MAX_BATCH_BYTES;

/// Batches of one frame: what fits if none of them has a record.
pub const MAX_BATCHES_PER_FRAME: usize = (FULL_FRAME_BYTES + TURN_BYTES) / BATCH_HEADER_BYTES;

/// Batches below this size are copied together before they are sent, bytes: QUIC looks through all
/// pieces of what was not acknowledged for each packet.
pub const SMALL_BATCH_BYTES: usize = 16 * KIB;

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

/// The request or the answer of one call, bytes: a batch fits in.
pub const MAX_CALL_BYTES: usize = MAX_BATCH_BYTES + MIB;

/// Calls to one service of a peer that are under way. Others wait, within their time limit.
pub const CALLS_IN_FLIGHT: usize = 32;

/// How long a handshake with a peer may take. One that was started again hears only what is sent after
/// that, and what was sent before is repeated ever more rarely.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A peer that has not been heard for this long is gone.
pub const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer that has stopped a stream may take to say why.
pub const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// How links wait, try again, and are held back.
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
    /// What all peers together are sent in a second of entries that are so old that they are read from the disk.
    /// Default: as much as goes.
    pub catch_up_bytes_per_second: Option<NonZeroU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pause_first: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            pause_refused: Duration::from_secs(15),
            steady_after: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
            catch_up_bytes_per_second: None,
        }
    }
}

const _: () = assert!(TURN_BYTES <= MAX_BATCH_BYTES);
const _: () =
    assert!(MAX_FRAME_BYTES + MAX_MESSAGES_PER_FRAME * MESSAGE_BYTES <= RECEIVED_BYTES_IN_FLIGHT);
const _: () = assert!(RECEIVED_BYTES_IN_FLIGHT <= u32::MAX as usize);
// A run is 15 bytes at most, and the rest of a message less than a hundred.
const _: () = assert!(MAX_MESSAGES_PER_FRAME * (MAX_RUNS * 15 + 100) <= MAX_BODY_BYTES);
const _: () = assert!(MAX_CALL_BYTES <= u32::MAX as usize);

//! The client's own bounds and defaults, by name.
//!
//! What the broker bounds is in [`millstream_protocol::limits`].

use std::time::Duration;

use millstream_protocol::limits::BATCHES_IN_FLIGHT_PER_PRODUCER;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One attempt to connect, the version handshake included.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker that is tried may be silent before the next one is tried beside it.
pub(crate) const NEXT_BROKER_DELAY: Duration = Duration::from_millis(500);

/// How long a broker may take to say which brokers there are. A client works without knowing.
pub(crate) const LISTING_PATIENCE: Duration = Duration::from_secs(2);

/// How long whoever opens the first stream to a leader waits for a connection to it. Without one it goes
/// through another broker, until there is one.
pub(crate) const DIRECT_PATIENCE: Duration = Duration::from_secs(1);

/// Connections to leaders; partitions that further brokers lead are served through another broker.
pub const MAX_DIRECT_LINKS: usize = 64;

/// A connection to a leader that has carried nothing for this long is closed.
pub const DIRECT_LINK_IDLE: Duration = Duration::from_secs(120);

/// How long a producer's stream waits for what is on its way before it makes place for one to another
/// broker. What is not acknowledged then is sent again.
pub(crate) const MOVE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a broker may be silent before others are asked whether it is gone. Both sides send keep-alives every
/// 400 ms, so one that is there is seldom silent for so long; and one that is gone is known to be only a little
/// later than this.
pub const SILENCE_LIMIT: Duration = Duration::from_millis(600);

/// How often it is looked whether a broker is silent.
pub(crate) const SILENCE_CHECK: Duration = Duration::from_millis(100);

/// The pause between two questions about a broker that is silent.
pub(crate) const ENQUIRY_PAUSE: Duration = Duration::from_millis(100);

/// How long another broker may take to say whether one is gone, and how long a connection to one is waited for.
pub(crate) const WITNESS_PATIENCE: Duration = Duration::from_millis(500);

/// Brokers that are asked about another one at the same time.
pub(crate) const MAX_WITNESSES: usize = 3;

/// How long a producer's stream waits for an acknowledgement before others are asked who leads: its broker may
/// be cut off from the others, and not from the client.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(1);

/// How often a client asks which brokers there are unless told otherwise.
pub const DEFAULT_CLUSTER_REFRESH: Duration = Duration::from_secs(30);

/// One request with all its attempts.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// One deployment of a plugin: the broker compiles it before it answers.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(180);

/// The first pause after a failure; it doubles from one failure to the next.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(20);

/// What has failed for so long is warned of.
pub const FAILING_LONG: Duration = Duration::from_secs(3);

/// The longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A batch is sent when it has grown to this many bytes, before compression.
pub const DEFAULT_BATCH_BYTES: usize = 512 * KIB;

/// Records of one producer that are buffered or not yet acknowledged, bytes. What does not fit into
/// the processor's caches is fetched from memory once more when it is sent: with
/// 32 MiB a tenth of the throughput was lost to that.
pub const DEFAULT_IN_FLIGHT_BYTES: usize = 8 * MIB;

/// The least bound on what a producer buffers, bytes.
pub const MIN_IN_FLIGHT_BYTES: usize = 2 * RESERVATION_BYTES;

/// The step in which an open batch takes its share of the producer's bound, bytes: the bound costs
/// nothing per record.
pub(crate) const RESERVATION_BYTES: usize = 32 * KIB;

/// Batches of one partition that may be on their way at once: as many as the broker remembers of a
/// producer to tell a duplicate from a new batch.
pub const MAX_BATCHES_IN_FLIGHT: usize = BATCHES_IN_FLIGHT_PER_PRODUCER;

/// How long a record may wait for its acknowledgement, resends included.
pub const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Produce streams of one connection; partitions beyond it take turns.
pub const PRODUCE_STREAMS_PER_CONNECTION: usize = 512;

/// A produce stream that has carried nothing for this long is closed.
pub(crate) const PRODUCE_STREAM_IDLE: Duration = Duration::from_secs(30);

/// Batches from this size on are compressed off the asynchronous threads, bytes.
pub(crate) const COMPRESS_ASIDE_BYTES: usize = 64 * KIB;

/// How often a producer looks for new partitions of its topic unless told otherwise.
pub const DEFAULT_TOPIC_REFRESH: Duration = Duration::from_secs(60);

/// What a consumer has fetched and not yet handed out, bytes. One more frame of each fetch stream
/// may be on top of it.
pub const DEFAULT_FETCH_BUFFER_BYTES: usize = 32 * MIB;

/// The least that the broker is asked to push in one frame while there is more, bytes.
pub(crate) const MIN_FETCH_FRAME_BYTES: usize = 64 * KIB;

/// How often a consumer in a group commits unless told otherwise.
pub const DEFAULT_AUTO_COMMIT: Duration = Duration::from_secs(5);

/// How long a revoked partition waits for the application to come back before it is released.
pub const DEFAULT_RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Offsets in one commit on the wire; larger commits are split. With the largest metadata and the
/// longest names they still fit into one frame's body.
pub(crate) const OFFSETS_PER_COMMIT: usize = 200;

/// What a fetched frame counts beside its payload, bytes: many empty frames are not nothing.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 256;

/// Log lines of a plugin that are shown unless told otherwise.
pub const DEFAULT_LOG_TAIL: u32 = 1_000;

/// How long the leader is read in place of a close replica that did not do.
pub const REPLICA_AVOIDED_FOR: Duration = Duration::from_secs(30);

/// Messages between a consumer and its membership task that may wait.
pub(crate) const MEMBERSHIP_QUEUE: usize = 64;

const _: () = assert!(DEFAULT_BATCH_BYTES <= millstream_protocol::limits::MAX_BATCH_BYTES);
const _: () = assert!(MIN_IN_FLIGHT_BYTES <= DEFAULT_IN_FLIGHT_BYTES);
const _: () = assert!(
    PRODUCE_STREAMS_PER_CONNECTION + millstream_protocol::limits::FETCH_STREAMS_PER_CONNECTION
        < millstream_protocol::limits::MAX_STREAMS_PER_CONNECTION as usize
);
const _: () = assert!(
    OFFSETS_PER_COMMIT
        * (millstream_protocol::limits::MAX_COMMIT_METADATA_BYTES
            + millstream_protocol::limits::MAX_NAME_BYTES
            + 32)
        < millstream_protocol::limits::MAX_BODY_BYTES
);

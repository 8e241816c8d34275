//! Every limit that a peer can run into, by name, with its default.
//!
//! A length that comes from outside is compared with one of these *before* anything is allocated
//! for it. The asserts at the end hold the limits together at compile time.

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The postcard body of one frame.
pub const MAX_BODY_BYTES: usize = MIB;

/// One record batch, headers included, as it is stored (compressed or not).
pub const MAX_BATCH_BYTES: usize = 8 * MIB;

/// One record batch after decompression: what a reader is ready to allocate for it.
pub const MAX_DECOMPRESSED_BATCH_BYTES: usize = 32 * MIB;

/// The key, value and encoded headers of one record together.
pub const MAX_RECORD_BYTES: usize = 4 * MIB;

/// Records in one batch.
pub const MAX_RECORDS_PER_BATCH: usize = 1_000_000;

/// Headers on one record.
pub const MAX_HEADERS_PER_RECORD: usize = 256;

/// The name of one record header.
pub const MAX_HEADER_NAME_BYTES: usize = KIB;

/// Record batches that one pushed or fetched frame may carry together.
pub const MAX_FETCH_BYTES: usize = 16 * MIB;

/// What one pushed frame carries when there is more to read, unless a single batch is larger.
pub const DEFAULT_FETCH_BYTES: usize = MIB;

/// How long a long-polling fetch may wait, milliseconds.
pub const MAX_FETCH_WAIT_MS: u32 = 60_000;

/// The bytes of one WebAssembly component.
pub const MAX_COMPONENT_BYTES: usize = 32 * MIB;

/// Keys and values of one frame of a stream of state. A single entry fits, however large a worker's may
/// be.
pub const MAX_STATE_PAYLOAD_BYTES: usize = MIB + 1024;

/// A topic's, group's, deployment's or member's name.
pub const MAX_NAME_BYTES: usize = 249;

/// Partitions of one topic.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 10_000;

/// A listing of topics goes on in a further response when it has this many partitions: more would
/// not fit into one.
pub const PARTITIONS_PER_LISTING: usize = MAX_PARTITIONS_PER_TOPIC as usize;

/// Replicas of which one answer of a broker tells.
pub const REPLICAS_PER_LISTING: usize = 3_000;

/// Partitions of one kind that a cluster's description names. It counts all.
pub const PARTITIONS_PER_STATUS: usize = 500;

/// What is told of the damage of one replica in a listing, bytes.
pub const LISTED_DAMAGE_BYTES: usize = 200;

/// A listing of groups goes on in a further response after this many.
pub const GROUPS_PER_LISTING: usize = 2_000;

/// A listing of deployments goes on in a further response when it has this many bytes, unless a single
/// deployment has more.
pub const DEPLOYMENT_BYTES_PER_LISTING: usize = MAX_BODY_BYTES / 2;

/// Of why its workers fail, a deployment's description tells no more than this many bytes, the same share of
/// each.
pub const REASON_BYTES_PER_DEPLOYMENT: usize = MAX_BODY_BYTES / 8;

/// A listing of what workers have measured goes on in a further response after this many.
pub const WORKERS_PER_LISTING: usize = 64;

/// Partitions that one replay reads, over all its inputs, and that it writes.
pub const MAX_REPLAYED_PARTITIONS: usize = 4_096;

/// Brokers that a client is told of, and that it keeps in mind: far more than a cluster has.
pub const BROKERS_PER_LISTING: usize = 1_000;

/// The longest address of a broker that a client keeps in mind, bytes.
pub const MAX_BROKER_ADDRESS_BYTES: usize = 255;

/// Items of one kind in one request (topics to describe, partitions to list, offsets to commit).
pub const MAX_ITEMS_PER_REQUEST: usize = 10_000;

/// Bidirectional streams that a client may hold open on one connection.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 1_024;

/// Fetch streams that a client opens on one connection before further partitions share them.
pub const FETCH_STREAMS_PER_CONNECTION: usize = 256;

/// Partitions on one shared fetch stream.
pub const MAX_PARTITIONS_PER_FETCH_STREAM: usize = 1_024;

/// Produced bytes of one stream that wait for their acknowledgement inside the broker. Beyond it
/// the broker stops reading, and QUIC's flow control stops the producer.
pub const PRODUCE_BYTES_IN_FLIGHT: usize = 16 * MIB;

/// Batches of one producer and partition that may be on their way at once: as many as a broker
/// remembers to tell a duplicate from a new batch.
pub const BATCHES_IN_FLIGHT_PER_PRODUCER: usize = 8;

/// Bytes of metadata attached to one committed offset.
pub const MAX_COMMIT_METADATA_BYTES: usize = 4 * KIB;

/// Bytes of one deployment's configuration (keys and values together).
pub const MAX_DEPLOYMENT_CONFIG_BYTES: usize = 64 * KIB;

/// Secrets that a broker keeps.
pub const MAX_SECRETS: usize = 1_000;

/// The name of a host to which requests may be sent, bytes.
pub const MAX_HOST_BYTES: usize = 253;

/// Bytes of one secret.
pub const MAX_SECRET_BYTES: usize = 16 * KIB;

const _: () = assert!(MAX_RECORD_BYTES < MAX_BATCH_BYTES);
const _: () = assert!(MAX_HEADER_NAME_BYTES < MAX_RECORD_BYTES);
const _: () = assert!(MAX_RECORDS_PER_BATCH <= i32::MAX as usize);
const _: () = assert!(MAX_DECOMPRESSED_BATCH_BYTES <= i32::MAX as usize);
const _: () = assert!(MAX_BATCH_BYTES <= MAX_FETCH_BYTES);
const _: () = assert!(MAX_BATCH_BYTES <= MAX_DECOMPRESSED_BATCH_BYTES);
const _: () = assert!(MAX_BATCH_BYTES <= PRODUCE_BYTES_IN_FLIGHT);
const _: () = assert!(DEFAULT_FETCH_BYTES <= MAX_FETCH_BYTES);
const _: () = assert!(MAX_FETCH_BYTES <= u32::MAX as usize);
const _: () = assert!(MAX_COMPONENT_BYTES <= u32::MAX as usize);
const _: () = assert!(BROKERS_PER_LISTING * (MAX_BROKER_ADDRESS_BYTES + 16) < MAX_BODY_BYTES);
const _: () = assert!(FETCH_STREAMS_PER_CONNECTION < MAX_STREAMS_PER_CONNECTION as usize);
const _: () = assert!(REPLICAS_PER_LISTING * (90 + LISTED_DAMAGE_BYTES) < MAX_BODY_BYTES);
const _: () = assert!(3 * PARTITIONS_PER_STATUS * (MAX_NAME_BYTES + 60) < MAX_BODY_BYTES / 2);

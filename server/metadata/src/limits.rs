//! The bounds of the image.

use millstream_protocol::limits::{
    MAX_BATCH_BYTES, MAX_BODY_BYTES, MAX_BROKER_ADDRESS_BYTES, MAX_DEPLOYMENT_CONFIG_BYTES,
    MAX_HOST_BYTES, MAX_ITEMS_PER_REQUEST, MAX_NAME_BYTES, MAX_PARTITIONS_PER_TOPIC,
    MAX_REPLAYED_PARTITIONS,
};

/// How often a deployment may have a record tried.
pub const MAX_ATTEMPTS: u32 = 1_000_000;

/// The longest wait between two attempts, milliseconds: a day.
pub const MAX_BACK_OFF_MS: u32 = 86_400_000;

/// One encoded record of the metadata log, bytes.
pub const MAX_RECORD_BYTES: usize = 2 << 20;

/// One encoded command, bytes: the body of a frame has room for it and what is said around it.
pub const MAX_COMMAND_BYTES: usize = MAX_BODY_BYTES / 2;

/// What became of a command, encoded, bytes: a record, or an error that repeats what was asked.
pub const MAX_ANSWER_BYTES: usize = MAX_RECORD_BYTES + 1_024;

/// One encoded beat of a broker, bytes.
pub const MAX_BEAT_BYTES: usize = 64 << 10;

/// What is said to a beat, encoded, bytes.
pub const MAX_BEAT_ANSWER_BYTES: usize = 512;

/// Partitions about which one beat says something. A broker that has begun to lead more says so in
/// several beats, one right after the other.
pub const MAX_LEADS_PER_BEAT: usize = 2_000;

/// Replicas of internal topics, in a cluster with as many brokers.
pub const INTERNAL_REPLICAS: usize = 3;

/// How often a broker beats, milliseconds.
pub const HEARTBEAT_MS: u64 = 100;

/// A broker from which nothing was heard for so long is fenced, milliseconds: several beats, so that
/// one late packet or a short pause costs no leaderships, and little enough that with the election
/// behind it a dead leader is replaced within a second.
pub const SILENCE_LIMIT_MS: u64 = 700;

/// A leader that does not lead so long after it was appointed is replaced, milliseconds: sealing
/// takes a few messages and syncs, on a slow disk as well.
pub const ACTIVATION_LIMIT_MS: u64 = 1_500;

/// How often the wait for a leader doubles as attempts of the same partition fail: up to 12 s by
/// default. A partition that nobody can seal, though its replicas seem to be there, costs an epoch in
/// that time and no more.
pub const MAX_ACTIVATION_DOUBLINGS: u32 = 3;

/// How long no broker must have come or gone before leaderships go back to preferred leaders,
/// milliseconds: not in the middle of a rolling restart's next step. A leader that has led for so
/// long and ceases to is replaced at once, whatever was before.
pub const CALM_MS: u64 = 10_000;

/// A partition of which a leader did not get to lead is left alone where it is led until it has been
/// led for so long, milliseconds: what the preferred leader could not do a moment ago is not asked of
/// it again.
pub const TROUBLE_MS: u64 = 300_000;

/// How long passes between two times that leaderships go back to preferred leaders, milliseconds.
pub const BALANCE_PAUSE_MS: u64 = 1_000;

/// Leaderships that go back to preferred leaders at a time. Each of these partitions stands still for
/// as long as sealing takes.
pub const MAX_BALANCED: usize = 16;

/// Partitions of one kind that a cluster's status names. It counts all.
pub const MAX_LISTED: usize = 1_000;

/// One encoded image, bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// The smallest `segment_bytes` of a topic.
pub const MIN_SEGMENT_BYTES: u64 = 64 << 10;

/// The largest `segment_bytes` of a topic: a position in a segment fits 32 bits, a batch past it
/// included.
pub const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// The shortest `segment_ms` of a topic.
pub const MIN_SEGMENT_MS: u64 = 1_000;

/// The smallest `max_batch_bytes` of a topic.
pub const MIN_BATCH_BYTES: u32 = 1 << 10;

/// The longest time that a topic's settings may name, milliseconds: what added to a timestamp of
/// the next ages does not overflow.
pub const MAX_TIME_MS: u64 = i64::MAX as u64 / 2;

/// The longest address of a broker, bytes.
pub const MAX_ADDRESS_BYTES: usize = MAX_BROKER_ADDRESS_BYTES;

/// The longest name of a rack, bytes.
pub const MAX_RACK_BYTES: usize = 255;

/// How many replicas a partition may have. Four would survive no more failures than three.
pub const REPLICATION_FACTORS: [usize; 4] = [1, 2, 3, MAX_REPLICAS];

/// The most replicas that a partition may have. While its set changes there may be twice as many.
pub const MAX_REPLICAS: usize = 5;

/// Replicas of one broker that begin anew, or are trusted, by one command.
pub const MAX_REPLICAS_AT_ONCE: usize = MAX_ITEMS_PER_REQUEST;

/// Partitions that get other replicas by one command.
pub const MAX_REASSIGNMENTS: usize = 1_000;

/// Partitions whose replicas change at the same time by plans: what their copies take from the
/// brokers and the links is bounded by it.
pub const MAX_CHANGES_UNDER_WAY: usize = 64;

/// Join tokens that nobody has redeemed and that have not expired.
pub const MAX_JOIN_TOKENS: usize = 32;

/// How long a join token lives at most, milliseconds: a week.
pub const MAX_JOIN_TOKEN_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// Producer ids of one allocation.
pub const MAX_PRODUCER_IDS: u32 = 1_000_000;

/// Leaders appointed by one command.
pub const MAX_APPOINTMENTS: usize = MAX_ITEMS_PER_REQUEST;

/// Topics that one deployment consumes.
pub const MAX_INPUTS: usize = 64;

/// Outputs of one deployment.
pub const MAX_OUTPUTS: usize = 64;

/// Configuration entries of one deployment.
pub const MAX_CONFIG_ENTRIES: usize = 1_000;

/// The name of a principal in a deployment's history, bytes.
pub const MAX_PRINCIPAL_BYTES: usize = 255;

/// Secrets that one deployment is granted.
pub const MAX_GRANTED_SECRETS: usize = 64;

/// Tables of one deployment.
pub const MAX_TABLES: usize = 8;

/// Hosts to which one deployment may send requests.
pub const MAX_GRANTED_HOSTS: usize = 16;

/// Interfaces that one component imports.
pub const MAX_IMPORTS: usize = 256;

/// The least linear memory of a worker, bytes: 16 pages.
pub const MIN_WORKER_MEMORY_BYTES: u64 = 1 << 20;

const MAX_STRING: usize = MAX_NAME_BYTES + 2;
const MAX_REPLICA: usize = 16;
const MAX_PARTITION: usize = 40 + MAX_REPLICAS * MAX_REPLICA;
const _: () = assert!(MAX_PARTITIONS_PER_TOPIC as usize * MAX_PARTITION + 1_024 < MAX_RECORD_BYTES);
const _: () = assert!(MAX_APPOINTMENTS * 41 + 16 < MAX_RECORD_BYTES);
const _: () = assert!(MAX_REPLICAS_AT_ONCE * 36 + 16 < MAX_RECORD_BYTES);
const _: () =
    assert!(MAX_REASSIGNMENTS * (22 + MAX_REPLICAS * MAX_REPLICA) + 16 < MAX_RECORD_BYTES);
const _: () = assert!(MAX_CHANGES_UNDER_WAY <= MAX_REASSIGNMENTS);
const _: () = assert!(MAX_RECORD_BYTES < MAX_BATCH_BYTES);
const MAX_DEPLOYMENT: usize = MAX_DEPLOYMENT_CONFIG_BYTES
    + MAX_CONFIG_ENTRIES * 6
    + (MAX_INPUTS + 2 * MAX_OUTPUTS + 2 * MAX_TABLES + MAX_GRANTED_SECRETS + MAX_IMPORTS + 1)
        * MAX_STRING
    + MAX_GRANTED_HOSTS * (MAX_HOST_BYTES + 6)
    + MAX_PRINCIPAL_BYTES
    + (MAX_INPUTS + 3 * MAX_OUTPUTS + 1) * MAX_STRING
    + MAX_REPLAYED_PARTITIONS * 30
    + 256;
const _: () = assert!(MAX_DEPLOYMENT < MAX_RECORD_BYTES && MAX_DEPLOYMENT < MAX_COMMAND_BYTES);
const _: () = assert!(MAX_APPOINTMENTS * 32 + 16 < MAX_COMMAND_BYTES);
const _: () = assert!(MAX_REPLICAS_AT_ONCE * 32 + 16 < MAX_COMMAND_BYTES);
const _: () = assert!(MAX_REASSIGNMENTS * (23 + MAX_REPLICAS * 5) + 16 < MAX_COMMAND_BYTES);
const _: () = assert!(MAX_COMMAND_BYTES < MAX_RECORD_BYTES);
const _: () = assert!(MAX_LEADS_PER_BEAT * 30 + MAX_ADDRESS_BYTES + 128 < MAX_BEAT_BYTES);
const _: () = assert!(MAX_ADDRESS_BYTES + 32 < MAX_BEAT_ANSWER_BYTES);
const _: () = assert!(4 * HEARTBEAT_MS < SILENCE_LIMIT_MS && SILENCE_LIMIT_MS < CALM_MS);
const _: () = assert!(ACTIVATION_LIMIT_MS << MAX_ACTIVATION_DOUBLINGS >= 10_000);
const _: () = assert!(MAX_SEGMENT_BYTES + MAX_BATCH_BYTES as u64 <= u32::MAX as u64);
const _: () = assert!(MIN_BATCH_BYTES as usize <= MAX_BATCH_BYTES);

/// What a cluster refuses to go beyond. Only validation asks for these: a record that was written
/// is applied under any limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Brokers. Default 64.
    pub brokers: usize,
    /// Topics, internal ones included. Default 10,000.
    pub topics: usize,
    /// Partitions of all topics. Default 100,000.
    pub partitions: usize,
    /// Deployments. Default 1,000.
    pub deployments: usize,
    /// Earlier revisions that are kept of each deployment. Default 10.
    pub history: usize,
    /// What one worker may be given.
    pub worker: WorkerBudget,
}

/// The most that a deployment may ask for one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerBudget {
    /// Linear memory, bytes. Default 1 GiB.
    pub memory_bytes: u64,
    /// Time for one call of the handler, milliseconds. Default 60,000.
    pub deadline_ms: u32,
    /// Outputs of one input record. Default 100,000.
    pub outputs_per_record: u32,
    /// Log lines in a second. Default 10,000.
    pub log_lines_per_second: u32,
    /// What its guest may remember, bytes. Default 64 GiB.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            brokers: 64,
            topics: 10_000,
            partitions: 100_000,
            deployments: 1_000,
            history: 10,
            worker: WorkerBudget::default(),
        }
    }
}

impl Default for WorkerBudget {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            deadline_ms: 60_000,
            outputs_per_record: 100_000,
            log_lines_per_second: 10_000,
            state_bytes: 64 << 30,
        }
    }
}

//! What a broker is told at its start, and the named limits of its own.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::storage::{DiskStorage, Storage};
use millstream_runtime::Compiler;
use millstream_transport::{Identity, TransportConfig};

use crate::cluster::ticket::Ticket;

/// Produced batches of all connections that wait for their acknowledgement, bytes. Beyond it,
/// produce streams wait with the batch that they have received.
pub const MAX_STAGED_PRODUCE_BYTES: usize = 256 << 20;

/// How long a command waits for somebody who leads the metadata quorum.
pub const QUORUM_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody is to take part in the metadata quorum, or no more.
pub const MEMBERS_CHECK: Duration = Duration::from_millis(250);

/// How long a beat waits for the answer of the steward before the next one goes out.
pub const BEAT_LIMIT: Duration = Duration::from_millis(300);

/// How often a broker that starts asks another one whether that knows it.
pub const KNOWN_ASKED_EVERY: Duration = Duration::from_millis(50);

/// A broker that was not heard for so long by whoever looks after the cluster has its clients look for other
/// brokers: what it leads may be led by others. Longer than it takes until somebody looks after the cluster
/// again when who did is gone.
pub const TOUCH_LIMIT: Duration = Duration::from_secs(3);

/// A leader whose followers lack no more records than these, and answer, has them whole.
pub const WHOLE_LAG: u64 = 10_000;

/// How long a reader waits at a replica that does not lead for what a leader may have shown it already.
pub const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);

/// How long a request that another broker is to answer waits for a connection to it.
pub const FORWARD_LIMIT: Duration = Duration::from_secs(2);

/// How long another broker may take for its part of an answer.
pub const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How long another broker may take to tell of its replicas, for an answer that does without.
pub const REPORT_LIMIT: Duration = Duration::from_secs(1);

/// How long a number for a new broker is looked for, while others are given theirs at the same time.
pub const TICKET_PATIENCE: Duration = Duration::from_secs(2);

/// Entries of another replica that are written by whoever brings them, bytes: as many as the system takes without a wait
/// worth the name. The rest is left to the writer's thread.
pub const MAX_BRIEF_BYTES: usize = 64 << 10;

/// Partitions that are seen to change later for an even load. It counts no further.
pub const MAX_FORESEEN_MOVES: usize = 256;

/// How long a stopping broker takes to tell the cluster that it goes, and then to see that others lead what it
/// has led.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How often a replica whose log is to begin late asks what its leader's knows of its producers, milliseconds.
pub const PRODUCERS_ASKED_EVERY_MS: u64 = 1_000;

/// How often the quorum is asked again for what replicas want of it.
pub const WISHES_REPEATED_EVERY: Duration = Duration::from_secs(1);

/// Changes of replicas that a broker asks the quorum at once to make final.
pub const MAX_FINALISED_AT_ONCE: usize = 64;

/// Partitions for which it is asked at the same time what other replicas' logs know of their producers.
pub const MAX_PRODUCERS_FETCHES: usize = 32;

/// Replicas that are begun, opened or removed before it is looked what else the cluster has decided meanwhile.
pub const REPLICAS_PER_TURN: usize = 64;

/// How long appended records wait for other replicas before their producers are told that too few answer,
/// milliseconds. It is looked at every [`MAINTENANCE_INTERVAL`].
pub const COMMIT_PATIENCE_MS: u64 = 5_000;

/// How often it is tried to delete records from a disk that was too full for that, milliseconds.
pub const FORGETS_EVERY_MS: u64 = 1_000;

/// How often a command is passed on from broker to broker.
pub const MAX_COMMAND_HOPS: u8 = 2;

/// How long another broker may take for a command that is passed on to it.
pub const QUORUM_CALL_LIMIT: Duration = Duration::from_secs(6);

/// How far the clocks of two brokers may be apart, milliseconds. What it takes to ask counts.
pub const CLOCK_SKEW_LIMIT_MS: u64 = 30_000;

/// For how long what was heard of a broker's clock counts: several beats.
pub const CLOCK_KNOWN_FOR: Duration = Duration::from_secs(5);

/// How long a broker that a command was passed on to may take once another one leads the metadata quorum.
pub const OTHER_LEADER_PATIENCE: Duration = Duration::from_millis(500);

/// The least that followers together can be sent in a second of old records, bytes: what one of them is sent at once.
pub const MIN_CATCH_UP_BYTES_PER_SECOND: u64 = millstream_peer::limits::TURN_BYTES as u64;

/// How soon a command is tried again that has found nobody who leads the metadata quorum.
pub const QUORUM_RETRY: Duration = Duration::from_millis(20);

/// How long whoever makes a topic waits until its partitions are led.
pub const ACTIVATION_PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever has made or changed a topic waits until other brokers lead what they are to lead of it.
pub const LED_PATIENCE: Duration = Duration::from_secs(3);

/// How often they are asked.
pub const LED_CHECK: Duration = Duration::from_millis(20);

/// Components that are received at the same time; a further deployment waits.
pub const MAX_UPLOADS: usize = 4;

/// How long the bytes of a component may take to arrive.
pub const UPLOAD_LIMIT: Duration = Duration::from_secs(120);

/// What one turn of the writer takes from its queue before it writes, bytes.
pub const MAX_WRITER_TURN_BYTES: usize = 32 << 20;

/// What one turn takes in all before it writes what is staged and tells replicas the time.
pub const MAX_WRITER_TURN_COMMANDS: usize = 4_096;

/// How long a group member's connection may be silent before its partitions go to others. The
/// transport sends keep-alives several times in this time, so that only a dead peer or link is
/// silent.
pub const MEMBER_SILENCE_LIMIT: Duration = Duration::from_millis(1_500);

/// How often the silence of group members is looked at. What was heard counts from the look that
/// noticed it, so a member is dead at most twice this after the limit: well within two seconds.
pub const MEMBER_SILENCE_CHECK: Duration = Duration::from_millis(100);

/// How often retention, compaction and checkpoints are considered, and the unflushed tail of
/// `relaxed` partitions is flushed.
pub const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a change of a worker's state may be missing in its file, when there is one. It is far
/// less than compaction keeps tombstones: a file that lacks one is not used again.
pub const STATE_FLUSH_AGE: Duration = Duration::from_secs(600);

/// How often a worker without anything to do looks whether its state is to be written.
pub const STATE_FLUSH_CHECK: Duration = Duration::from_secs(5);

/// The journal that a worker may have written since its state was, bytes: a start reads it again.
pub const STATE_FLUSH_JOURNAL_BYTES: u64 = 1 << 30;

/// What one table of deployments may take, bytes, unless the broker is told otherwise: its keys and
/// values, and 64 for each entry.
pub const MAX_TABLE_BYTES: u64 = 16 << 30;

/// Readers of workers' state at the same time; a further one waits.
pub const MAX_STATE_READERS: usize = 4;

/// How long it waits before it is told that there are too many.
pub const STATE_READER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a reader of a worker's state may leave a frame unread.
pub const STATE_READER_STALL_LIMIT: Duration = Duration::from_secs(60);

/// How long a stopping broker waits for requests under way.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take for the version handshake.
pub const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// What a broker is told at its start.
pub struct BrokerConfig {
    /// Where topics, artefacts and metadata live. Made if it is not there.
    pub data_dir: PathBuf,
    /// What holds the logs and the metadata in that directory: the system's files, unless a simulation has others.
    pub storage: Arc<dyn Storage>,
    /// What a sync of logs takes besides what `storage` takes for it, where that is in memory.
    pub sync_delay: Option<Duration>,
    /// The UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where clients and other brokers reach it, `host:port`, if that is not where it listens.
    pub advertise: Option<String>,
    /// What it shares its fate with: replicas are spread over racks.
    pub rack: Option<String>,
    /// What all followers together are sent in a second of records that are so old that they are read from the disk,
    /// bytes, at least [`MIN_CATCH_UP_BYTES_PER_SECOND`]: a replica that is made, or was away, takes no more of the disk
    /// and the network. `None`: as much as goes.
    pub catch_up_bytes_per_second: Option<NonZeroU64>,
    /// What lets it into a cluster, if it is not the first broker of one.
    pub ticket: Option<Ticket>,
    /// The broker's certificate, its key and the cluster's authority.
    pub identity: Identity,
    /// How QUIC is tuned.
    pub transport: TransportConfig,
    /// Processors that WebAssembly may take for long: so many busy workers compute at the same time,
    /// below the priority of produce and fetch, and others wait their turn. Short turns of workers that
    /// are not busy go before them.
    pub worker_threads: usize,
    /// Where components are compiled. Within this process nothing bounds what that takes: who serves
    /// others names a program that does it.
    pub compiler: Compiler,
    /// Bytes of recently appended batches kept in memory for consumers at the tail, over all
    /// partitions.
    pub tail_cache_bytes: usize,
    /// Changes of one worker's state, or of one partition of a table, that are kept in memory before they
    /// are written to its file, bytes.
    pub state_overlay_bytes: usize,
    /// What one table of deployments may take, bytes. Workers that look up in one that takes more are
    /// paused.
    pub table_bytes: u64,
}

impl BrokerConfig {
    /// A broker on `data_dir` and `listen` with the defaults for everything else.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr, identity: Identity) -> Self {
        Self {
            data_dir: data_dir.into(),
            storage: Arc::new(DiskStorage),
            sync_delay: None,
            listen,
            advertise: None,
            rack: None,
            catch_up_bytes_per_second: None,
            ticket: None,
            identity,
            transport: TransportConfig::server(),
            worker_threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            compiler: Compiler::InProcess,
            tail_cache_bytes: 64 << 20,
            state_overlay_bytes: millstream_state::limits::DEFAULT_OVERLAY_BYTES,
            table_bytes: MAX_TABLE_BYTES,
        }
    }
}

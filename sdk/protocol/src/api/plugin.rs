//! Plugins: deploy, list, describe, logs, remove.

use serde::{Deserialize, Serialize};

use crate::api::grants::Grants;
use crate::api::lifecycle::{Activity, RevisionChange};
use crate::api::metrics::CallLatency;
use crate::api::offsets::Position;
use crate::ids::{Offset, PartitionIndex, ProducerId, TimestampMs};

/// Deploys a plugin. The frame's payload is the component, at most
/// [`MAX_COMPONENT_BYTES`](crate::limits::MAX_COMPONENT_BYTES).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployPlugin {
    /// The deployment and its settings.
    pub spec: DeploymentSpec,
    /// What happens if there is a deployment of this name.
    pub on_existing: OnExisting,
    /// What happens if topics of the deployment are not there.
    pub missing_topics: MissingTopics,
}

/// What happens to topics that a deployment reads, writes or looks up in, and that are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingTopics {
    /// The deployment is refused.
    #[default]
    Refuse,
    /// They are made with the deployment, once nothing else is against it. Those of tables are compacted.
    Make {
        /// How many partitions each has.
        partitions: u32,
    },
}

/// What happens to a deployment that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExisting {
    /// It stays, and the new one is refused.
    Refuse,
    /// It is replaced between two turns of its workers. Its identity stays, and with it how far it
    /// is, what it remembers, and what waits to be tried again.
    Replace,
    /// As `Replace`, but it must be there, and something must change.
    Upgrade,
}

/// What a deployment is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// The deployment's name, and its consumer group's.
    pub name: String,
    /// The topics its workers consume.
    pub inputs: Vec<String>,
    /// What the guest's outputs are called, and the topic each goes to.
    pub outputs: Vec<OutputSpec>,
    /// What the guest reads by `wasi:config/store`.
    pub config: Vec<(String, String)>,
    /// Where to start in a partition without a committed offset.
    pub start: Position,
    /// The limits of one worker.
    pub limits: WorkerLimits,
    /// How often an input record's outputs may come.
    pub delivery: DeliveryGuarantee,
    /// What becomes of a record that cannot be handled.
    pub on_failure: FailurePolicy,
    /// What its workers may use beyond what every worker may.
    pub grants: Grants,
    /// Compacted topics that its workers look keys up in.
    pub tables: Vec<TableSpec>,
}

impl DeploymentSpec {
    /// A deployment of this name with the usual settings, which reads and writes nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            inputs: Vec::new(),
            outputs: Vec::new(),
            config: Vec::new(),
            start: Position::Earliest,
            limits: WorkerLimits::default(),
            delivery: DeliveryGuarantee::default(),
            on_failure: FailurePolicy::default_for(&name),
            grants: Grants::default(),
            tables: Vec::new(),
            name,
        }
    }

    /// The topics that its workers write: outputs, and dead letters.
    pub fn written_topics(&self) -> impl Iterator<Item = &str> {
        let outputs = self.outputs.iter().map(|output| output.topic.as_str());
        let dead_letters = match &self.on_failure.finally {
            FailureAction::DeadLetter { topic } => Some(topic.as_str()),
            FailureAction::Skip | FailureAction::Pause => None,
        };
        outputs.chain(dead_letters)
    }
}

/// How often the outputs of an input record may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryGuarantee {
    /// Once, whatever crashes: they go through the worker's journal.
    #[default]
    ExactlyOnce,
    /// Once, and after a crash perhaps again: they go straight to their topics.
    AtLeastOnce,
    /// Once, of a plugin that is deterministic: they go straight to their topics, and after a crash are
    /// computed again, the same, and dropped where they are already. The author declares that what is
    /// emitted, and how the state and the timers change, depends on the records, the state and the
    /// configuration alone. What is tried again, and timers, go through the worker's journal.
    Deterministic,
}

/// What becomes of a record that cannot be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePolicy {
    /// How often a record is tried, at least once. One that the guest rejects is not tried again.
    pub attempts: u32,
    /// The wait after the first failed attempt, milliseconds; it doubles with every further one.
    pub first_back_off_ms: u32,
    /// The longest wait, milliseconds.
    pub longest_back_off_ms: u32,
    /// Which records wait while one is tried again.
    pub holds_back: HoldBack,
    /// What is done when the attempts are used up.
    pub finally: FailureAction,
}

/// Which records wait while one of their partition is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldBack {
    /// Later ones of the same key.
    #[default]
    Key,
    /// None.
    Nothing,
    /// All later ones.
    Partition,
}

/// What is done with a record that was tried in vain, or rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    /// It goes to this topic, with where it came from and why.
    DeadLetter {
        /// The topic.
        topic: String,
    },
    /// It is left out, and its offset logged.
    Skip,
    /// The worker stands still in front of it.
    Pause,
}

impl FailurePolicy {
    /// What a deployment of this name does unless told otherwise.
    pub fn default_for(deployment: &str) -> Self {
        Self {
            attempts: 5,
            first_back_off_ms: 100,
            longest_back_off_ms: 10_000,
            holds_back: HoldBack::default(),
            finally: FailureAction::DeadLetter {
                topic: dead_letter_topic(deployment),
            },
        }
    }
}

/// The dead-letter topic of a deployment, unless another is named.
pub fn dead_letter_topic(deployment: &str) -> String {
    format!("{deployment}.dead-letters")
}

/// One output of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// The guest's name for it.
    pub name: String,
    /// The topic it goes to.
    pub topic: String,
}

/// One table of a deployment: a compacted topic, of which the latest value of each key can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The guest's name for it.
    pub name: String,
    /// The topic that it is made of.
    pub topic: String,
}

/// The limits of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Linear memory, bytes.
    pub memory_bytes: u64,
    /// Processor time for one call of the handler, milliseconds. By the clock it may take sixty times that.
    pub deadline_ms: u32,
    /// Outputs of one input record.
    pub outputs_per_record: u32,
    /// Log lines in a second; what is above is counted and dropped.
    pub log_lines_per_second: u32,
    /// What its guest may remember, bytes: keys and values, and 64 for each entry.
    pub state_bytes: u64,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            deadline_ms: 1_000,
            outputs_per_record: 1_000,
            log_lines_per_second: 100,
            state_bytes: 4 << 30,
        }
    }
}

/// What a timer's time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimerClock {
    /// The greatest timestamp of all records that the worker has handled.
    RecordTime,
    /// The broker's clock.
    WallTime,
}

/// Asks for all deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeployments {
    /// Only the ones behind this name: where an earlier response ended.
    pub after: Option<String>,
}

/// The answer to [`ListDeployments`], in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeploymentsResponse {
    /// The deployments.
    pub deployments: Vec<DeploymentDescription>,
    /// There are more behind the last one.
    pub more: bool,
}

/// Asks for one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeDeployment {
    /// Which deployment.
    pub name: String,
}

/// Stops a deployment's workers and forgets it. Its group and offsets stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveDeployment {
    /// Which deployment.
    pub name: String,
}

/// Hands dead letters back to the workers that they came from, the oldest first, and takes them out
/// of the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDeadLetters {
    /// Which deployment.
    pub name: String,
    /// Which partition of its dead-letter topic.
    pub partition: PartitionIndex,
    /// Letters below this offset.
    pub before: Offset,
}

/// The answer to [`RetryDeadLetters`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDeadLettersResponse {
    /// Letters that were handed back.
    pub retried: u64,
    /// Letters below this offset are out of the topic. It may be less than was asked for: ask again.
    pub next_offset: Offset,
}

/// One deployment and its workers here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentDescription {
    /// What it is to do.
    pub spec: DeploymentSpec,
    /// Counts what was deployed under this name without a removal in between, from 1.
    pub revision: u32,
    /// The component's SHA-256, hexadecimal.
    pub digest: String,
    /// The component's size, bytes.
    pub component_bytes: u64,
    /// When it was deployed.
    pub deployed_at_ms: TimestampMs,
    /// What the component imports, by interface name.
    pub imports: Vec<String>,
    /// Its workers.
    pub workers: Vec<WorkerDescription>,
    /// Whether they are meant to work.
    pub activity: Activity,
    /// How long calls of the guest took, over all workers; none before the first.
    pub latency: Option<CallLatency>,
    /// Who put this revision in place.
    pub deployed_by: String,
    /// How this revision came about.
    pub change: RevisionChange,
    /// The live deployment, if this is a shadow of one.
    pub shadow_of: Option<String>,
    /// How its tables stand on this broker, in the order of the spec; none before it runs.
    pub tables: Vec<TableDescription>,
    /// Keys of its configuration that no worker's guest has asked for so far. None before a guest was called,
    /// and when one has read all of the configuration at once.
    pub config_unasked: Vec<String>,
}

/// How a broker stands with a table that deployments have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDescription {
    /// The deployment's name for it.
    pub name: String,
    /// The topic that it is made of.
    pub topic: String,
    /// Whether it can be looked up in.
    pub state: TableState,
    /// Keys and values, and 64 for each entry, bytes; at most, while changes wait to be written to its
    /// file.
    pub bytes: u64,
    /// Records of the topic that it does not have yet.
    pub lag: u64,
    /// Records read since it was opened: those that its file had already are not among them.
    pub records_read: u64,
    /// Of these, records that no key finds: they have none, or one that is too long.
    pub records_ignored: u64,
}

/// Whether a table can be looked up in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableState {
    /// It is read back, and workers wait for it.
    Loading,
    /// It follows its topic.
    Following,
    /// It takes more than a table may, and is gone until a worker that was paused for it is resumed.
    TooLarge {
        /// How much, and the limit.
        reason: String,
    },
    /// It cannot be read; it is tried again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// It is working or waiting for records.
    Running,
    /// The last attempt failed; it tries again after a back-off.
    BackingOff {
        /// Failures in a row.
        attempts: u32,
        /// The last reason.
        reason: String,
    },
    /// It gave up on a record and stands still.
    Paused {
        /// Why.
        reason: String,
    },
    /// It stands still between two turns: its deployment was paused.
    Held,
    /// It has handled all that it is to replay, and goes on only when its shadow is promoted.
    Finished,
}

/// One running instance of a deployment at one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDescription {
    /// The input topic.
    pub topic: String,
    /// The input partition.
    pub partition: PartitionIndex,
    /// What it is doing.
    pub state: WorkerState,
    /// The next offset to read.
    pub committed_offset: Offset,
    /// Records still to be read.
    pub lag: u64,
    /// Records that its guest was handed since it started. One that is tried again counts each time.
    pub records_in: u64,
    /// Records emitted since it started.
    pub records_out: u64,
    /// Failed calls of the guest since it started.
    pub failures: u64,
    /// Records that went to the dead-letter topic since it started.
    pub dead_letters: u64,
    /// Records that were left out since it started.
    pub skipped: u64,
    /// Records that wait to be tried again now, and those behind them.
    pub parked: u64,
    /// The guest's linear memory now, bytes.
    pub memory_bytes: u64,
    /// Timers that wait now.
    pub timers: u64,
    /// The broker that it runs on.
    pub broker_id: u32,
    /// As `records_in`, in a second: an average in which what is ten seconds ago counts a third.
    pub records_per_second: u64,
    /// Calls of the guest since it started.
    pub calls: u64,
    /// How long they took; none before the first.
    pub latency: Option<CallLatency>,
    /// How often a record was tried once more since it started.
    pub retries: u64,
    /// When it started: with its deployment's revision, its broker, or its partition.
    pub started_at_ms: TimestampMs,
    /// Under which its outputs lie in their topics, unless the deployment's are at-least-once; none before
    /// its journal has been read. Outputs that are made ahead of their commit have
    /// [`DIRECT_WORKER_PRODUCER_ID`](crate::DIRECT_WORKER_PRODUCER_ID) in it as well.
    pub producer_id: Option<ProducerId>,
}

/// Opens a stream of log lines: `Ok(PluginLogLine)` frames, the oldest first. The broker closes
/// the stream at the end unless asked to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPluginLogs {
    /// Which deployment.
    pub name: String,
    /// At most this many of the lines kept, the newest.
    pub tail: u32,
    /// What comes after the lines kept.
    pub follow: Follow,
}

/// Whether a listing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Follow {
    /// It ends with what is there.
    No,
    /// It goes on with what comes.
    Yes,
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// Very detailed.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Nothing works.
    Critical,
}

/// One line that a worker logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLogLine {
    /// When.
    pub at_ms: TimestampMs,
    /// How grave.
    pub level: LogLevel,
    /// The input topic.
    pub topic: String,
    /// The input partition.
    pub partition: PartitionIndex,
    /// Where in the guest it comes from (the `context` of `wasi:logging`, or `stdout`/`stderr`).
    pub context: String,
    /// The line, control characters escaped.
    pub message: String,
}

//! Plugins: deploy, list, describe, logs, remove.

use serde::{Deserialize, Serialize};

use crate::api::offsets::Position;
use crate::ids::{Offset, PartitionIndex, TimestampMs};

/// Deploys a plugin. The frame's payload is the component, at most
/// [`MAX_COMPONENT_BYTES`](crate::limits::MAX_COMPONENT_BYTES).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployPlugin {
    /// The deployment and its settings.
    pub spec: DeploymentSpec,
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
}

/// One output of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// The guest's name for it.
    pub name: String,
    /// The topic it goes to.
    pub topic: String,
}

/// The limits of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Linear memory, bytes.
    pub memory_bytes: u64,
    /// Time for one call of the handler, milliseconds.
    pub deadline_ms: u32,
    /// Outputs of one input record.
    pub outputs_per_record: u32,
    /// Log lines in a second; what is above is counted and dropped.
    pub log_lines_per_second: u32,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            deadline_ms: 1_000,
            outputs_per_record: 1_000,
            log_lines_per_second: 100,
        }
    }
}

/// Asks for all deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeployments {}

/// The answer to [`ListDeployments`], in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeploymentsResponse {
    /// The deployments.
    pub deployments: Vec<DeploymentDescription>,
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

/// One deployment and its workers here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentDescription {
    /// What it is to do.
    pub spec: DeploymentSpec,
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
    /// Records read since it started.
    pub records_in: u64,
    /// Records emitted since it started.
    pub records_out: u64,
    /// Failed attempts and records that the guest refused for good, since it started.
    pub failures: u64,
    /// The guest's linear memory now, bytes.
    pub memory_bytes: u64,
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

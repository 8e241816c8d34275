//! What the run and its client process say to each other: a line of JSON for a task, a line of JSON
//! for what came of it.

use std::path::PathBuf;
use std::time::Duration;

use millstream::{DeliveryGuarantee, Durability};
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::stats::LatencyFigures;
use super::workload::plugins::Work;

/// What the client process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Task {
    /// Over QUIC itself, with no broker.
    Quic(QuicTask),
    /// On the disk itself, with no log.
    Disk(DiskTask),
    /// With the broker.
    Broker(BrokerTask),
    /// In native code, with no broker.
    Native(NativeTask),
}

/// What is done over QUIC itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum QuicTask {
    /// Send bytes.
    Up { bytes: u64 },
    /// Receive bytes.
    Down { bytes: u64 },
    /// Both at the same time, as many each way.
    Both { bytes: u64 },
    /// Requests and answers by a schedule.
    RoundTrips {
        schedule: Schedule,
        request_bytes: usize,
        answer_bytes: usize,
    },
}

/// What is done on the disk itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DiskTask {
    /// Append to a file; `group_bytes`: sync it each time so many have been written.
    Write {
        folder: PathBuf,
        bytes: u64,
        group_bytes: Option<u64>,
    },
    /// Append to a file and sync it, record by record.
    Sync {
        folder: PathBuf,
        record_bytes: usize,
        duration: Duration,
    },
}

/// What is done with the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BrokerTask {
    /// Make a topic.
    CreateTopic {
        topic: String,
        partitions: u32,
        durability: Durability,
        replicas: u8,
    },
    /// Delete a topic.
    DeleteTopic { topic: String },
    /// Produce records, until the last is acknowledged.
    Produce {
        topic: String,
        record_bytes: usize,
        records: u64,
    },
    /// Consume records from the start of a topic.
    Consume {
        topic: String,
        record_bytes: usize,
        records: u64,
    },
    /// Produce and consume records at the same time, until the last is consumed.
    EndToEnd {
        topic: String,
        record_bytes: usize,
        records: u64,
    },
    /// Count the records of a topic.
    Count { topic: String },
    /// Produce by a schedule; the latency of acknowledgements.
    AckLatency {
        topic: String,
        schedule: Schedule,
        record_bytes: usize,
    },
    /// Produce by a schedule; the latency until a consumer has the record, of the same topic or of
    /// another, into which a plugin copies it.
    EndToEndLatency {
        topic: String,
        output: Option<String>,
        schedule: Schedule,
        record_bytes: usize,
    },
    /// Produce by a schedule to one partition, kill a process, and go on until a record is acknowledged
    /// that was sent after that; the seconds from the kill to then.
    FailOver {
        topic: String,
        partition: u32,
        record_bytes: usize,
        process: u32,
    },
    /// Kill a process; the seconds until these brokers lead all partitions of a topic.
    Elect {
        topic: String,
        process: u32,
        brokers: Vec<String>,
    },
    /// Wait until a broker's replica of a topic of one partition ends where others do; how many bytes a
    /// second have come, from the first that were seen on.
    CatchUp { broker: String, topic: String },
    /// Produce earthquakes; `batch_records`: about so many in a batch.
    FillQuakes {
        topic: String,
        records: u64,
        batch_records: Option<usize>,
    },
    /// Produce a record to every partition.
    Touch { topic: String, partitions: u32 },
    /// Deploy a plugin between two topics.
    Deploy(Deployment),
    /// Remove it.
    Remove { name: String },
    /// Wait until its workers have handled so many records.
    AwaitHandled { name: String, records: u64 },
    /// Deploy a plugin, wait until it has no lag, and remove it.
    RunWorker {
        deployment: Deployment,
        records: u64,
    },
}

/// A plugin between two topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deployment {
    pub(super) name: String,
    pub(super) component: PathBuf,
    pub(super) work: Work,
    pub(super) delivery: DeliveryGuarantee,
    pub(super) input: String,
    pub(super) output: String,
}

/// What is done in native code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NativeTask {
    /// Which plugin's twin it is.
    pub(super) work: Work,
    /// The records that it handles.
    pub(super) records: u64,
}

impl From<NativeTask> for Task {
    fn from(task: NativeTask) -> Self {
        Self::Native(task)
    }
}

impl From<QuicTask> for Task {
    fn from(task: QuicTask) -> Self {
        Self::Quic(task)
    }
}

impl From<DiskTask> for Task {
    fn from(task: DiskTask) -> Self {
        Self::Disk(task)
    }
}

impl From<BrokerTask> for Task {
    fn from(task: BrokerTask) -> Self {
        Self::Broker(task)
    }
}

/// What came of a task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It took so many seconds.
    Seconds(f64),
    /// It took these times.
    Latency(LatencyFigures),
    /// So many in a second.
    PerSecond(f64),
    /// So many.
    Count(u64),
}

/// The client process's answer: the outcome, or what went wrong.
pub(super) type Answer = Result<Outcome, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_answers_are_single_lines_that_are_read_as_written() {
        let schedule = Schedule {
            per_second: 1_000,
            warm_up: 10,
            counted: 100,
        };
        let tasks: [Task; 4] = [
            QuicTask::Up { bytes: 1 }.into(),
            DiskTask::Sync {
                folder: "/tmp".into(),
                record_bytes: 9,
                duration: Duration::from_millis(1_500),
            }
            .into(),
            BrokerTask::AckLatency {
                topic: "a\nb".to_owned(),
                schedule,
                record_bytes: 100,
            }
            .into(),
            BrokerTask::CreateTopic {
                topic: "t".to_owned(),
                partitions: 4,
                durability: Durability::Relaxed,
                replicas: 1,
            }
            .into(),
        ];
        for task in tasks {
            let line = serde_json::to_string(&task).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Task>(&line).unwrap(), task);
        }
        let answers: [Answer; 3] = [
            Ok(Outcome::Seconds(1.25)),
            Ok(Outcome::Done),
            Err("broken\noff".to_owned()),
        ];
        for answer in answers {
            let line = serde_json::to_string(&answer).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
        }
    }
}

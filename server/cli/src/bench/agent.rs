//! The run's hold on its client process.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use millstream::Durability;

use super::identities::Identities;
use super::process::{Process, Started};
use super::stats::LatencyFigures;
use super::task::{Answer, BrokerTask, Outcome, Task};

/// How long one task may take. The longest is to fill the log that a broker is started with.
const TASK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long a process may take to become ready.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// The client process.
pub(super) struct Agent {
    process: Process,
    topics: u64,
    /// How many replicas its topics have.
    replicas: u8,
}

impl Agent {
    /// Starts it and waits until it is connected to the broker and, if there is one, to the raw
    /// QUIC server.
    pub(super) fn start(
        started: &Started,
        identities: &Identities,
        broker: &str,
        quic: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut arguments = vec![
            "--identities".into(),
            identities.folder().as_os_str().to_owned(),
        ];
        arguments.extend(["--broker", broker].map(OsString::from));
        arguments.extend(
            quic.into_iter()
                .flat_map(|quic| ["--quic", quic])
                .map(OsString::from),
        );
        Self::spawn(started, arguments, 1)
    }

    /// The same for the brokers of a profile, where topics are to have so many replicas.
    pub(super) fn start_with(
        started: &Started,
        identities: &Identities,
        profile: &Path,
        replicas: u8,
    ) -> anyhow::Result<Self> {
        let arguments = vec![
            "--identities".into(),
            identities.folder().as_os_str().to_owned(),
            "--profile".into(),
            profile.as_os_str().to_owned(),
        ];
        Self::spawn(started, arguments, replicas)
    }

    fn spawn(started: &Started, arguments: Vec<OsString>, replicas: u8) -> anyhow::Result<Self> {
        let agent = Self {
            process: started.spawn("client", arguments)?,
            topics: 0,
            replicas,
        };
        agent
            .answer(READY_LIMIT)
            .context("the client process is not ready")?;
        Ok(agent)
    }

    /// Lets the process finish.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Has a task done that tells nothing.
    pub(super) fn done(&mut self, task: impl Into<Task>) -> anyhow::Result<()> {
        match self.perform(task.into())? {
            Outcome::Done => Ok(()),
            other => unexpected(other),
        }
    }

    /// Has a task done that tells how long it took, seconds.
    pub(super) fn seconds(&mut self, task: impl Into<Task>) -> anyhow::Result<f64> {
        match self.perform(task.into())? {
            Outcome::Seconds(seconds) => Ok(seconds),
            other => unexpected(other),
        }
    }

    /// The speed of a task that moves `bytes`, MB/s.
    pub(super) fn megabytes_per_second(
        &mut self,
        bytes: u64,
        task: impl Into<Task>,
    ) -> anyhow::Result<f64> {
        Ok(bytes as f64 / 1e6 / self.seconds(task)?)
    }

    /// Has a task done that tells latencies.
    pub(super) fn latency(&mut self, task: impl Into<Task>) -> anyhow::Result<LatencyFigures> {
        match self.perform(task.into())? {
            Outcome::Latency(figures) => Ok(figures),
            other => unexpected(other),
        }
    }

    /// Has a task done that tells latencies, and does something else meanwhile.
    pub(super) fn latency_while(
        &mut self,
        task: impl Into<Task>,
        meanwhile: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<LatencyFigures> {
        let task = task.into();
        self.process.send(&serde_json::to_string(&task)?)?;
        let done = meanwhile();
        let answer = self.answer(TASK_LIMIT);
        done?;
        match answer.with_context(|| format!("cannot measure {task:?}"))? {
            Outcome::Latency(figures) => Ok(figures),
            other => unexpected(other),
        }
    }

    /// Has a task done that tells how many a second.
    pub(super) fn per_second(&mut self, task: impl Into<Task>) -> anyhow::Result<f64> {
        match self.perform(task.into())? {
            Outcome::PerSecond(rate) => Ok(rate),
            other => unexpected(other),
        }
    }

    /// Has something counted.
    pub(super) fn count(&mut self, task: impl Into<Task>) -> anyhow::Result<u64> {
        match self.perform(task.into())? {
            Outcome::Count(count) => Ok(count),
            other => unexpected(other),
        }
    }

    /// Makes a topic of a name of its own, works with it and deletes it, so that the disk does not
    /// fill up.
    pub(super) fn with_topic<T>(
        &mut self,
        partitions: u32,
        durability: Durability,
        work: impl FnOnce(&mut Self, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.topics += 1;
        let topic = format!("bench-{}", self.topics);
        self.done(BrokerTask::CreateTopic {
            topic: topic.clone(),
            partitions,
            durability,
            replicas: self.replicas,
        })?;
        let outcome = work(self, &topic);
        let deleted = self.done(BrokerTask::DeleteTopic { topic });
        // What failed first says why.
        let outcome = outcome?;
        deleted?;
        Ok(outcome)
    }

    fn perform(&mut self, task: Task) -> anyhow::Result<Outcome> {
        self.process.send(&serde_json::to_string(&task)?)?;
        self.answer(TASK_LIMIT)
            .with_context(|| format!("cannot measure {task:?}"))
    }

    fn answer(&self, limit: Duration) -> anyhow::Result<Outcome> {
        let line = self.process.receive(limit)?;
        let answer: Answer = serde_json::from_str(&line)
            .with_context(|| format!("the client process said {line:?}"))?;
        answer.map_err(anyhow::Error::msg)
    }
}

fn unexpected<T>(outcome: Outcome) -> anyhow::Result<T> {
    bail!("the client process answered {outcome:?}")
}

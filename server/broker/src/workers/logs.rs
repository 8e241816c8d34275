//! What a deployment's workers have logged: the newest lines, and the ones that come.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_protocol::api::plugin::PluginLogLine;
use millstream_protocol::{PartitionIndex, TimestampMs};
use millstream_runtime::{LogLine, LogSink};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::clock;

/// Lines kept of one deployment. A line is bounded by the runtime.
pub(crate) const MAX_KEPT_LINES: usize = 1_000;

/// Lines that a follower may be behind before it misses some.
const MAX_FOLLOWER_LAG: usize = 1_024;

/// The log lines of one deployment.
pub(crate) struct DeploymentLogs {
    kept: Mutex<VecDeque<PluginLogLine>>,
    live: broadcast::Sender<PluginLogLine>,
}

impl DeploymentLogs {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            live: broadcast::channel(MAX_FOLLOWER_LAG).0,
        })
    }

    /// Writes a line behind the ones that are there, and tells it the time: the lines of all
    /// partitions are in time order.
    pub(crate) fn write(&self, line: impl FnOnce(TimestampMs) -> PluginLogLine) {
        let mut kept = self.kept.lock();
        let newest_ms = kept.back().map_or(TimestampMs::MIN, |newest| newest.at_ms);
        let line = line(clock::now_ms().max(newest_ms));
        if kept.len() == MAX_KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line.clone());
        // Sent under the lock, so that `follow` neither misses nor repeats a line. Nobody may be
        // following.
        let _ = self.live.send(line);
    }

    /// The newest `tail` lines, and every line after them.
    pub(crate) fn follow(
        &self,
        tail: usize,
    ) -> (Vec<PluginLogLine>, broadcast::Receiver<PluginLogLine>) {
        let kept = self.kept.lock();
        let lines = kept
            .iter()
            .skip(kept.len().saturating_sub(tail))
            .cloned()
            .collect();
        (lines, self.live.subscribe())
    }
}

/// One worker's way to its deployment's log.
pub(crate) struct WorkerLog {
    pub(crate) logs: Arc<DeploymentLogs>,
    pub(crate) topic: String,
    pub(crate) partition: PartitionIndex,
}

impl LogSink for WorkerLog {
    fn write(&self, line: LogLine) {
        self.logs.write(|at_ms| PluginLogLine {
            at_ms,
            level: line.level,
            topic: self.topic.clone(),
            partition: self.partition,
            context: line.context,
            message: line.message,
        });
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::api::plugin::LogLevel;

    use super::*;

    fn line(message: String) -> impl FnOnce(TimestampMs) -> PluginLogLine {
        |at_ms| PluginLogLine {
            at_ms,
            level: LogLevel::Info,
            topic: "t".into(),
            partition: 0,
            context: String::new(),
            message,
        }
    }

    #[test]
    fn keeps_the_newest_lines_and_follows_without_a_gap() {
        let logs = DeploymentLogs::new();
        for number in 0..MAX_KEPT_LINES + 5 {
            logs.write(line(number.to_string()));
        }
        let (tail, mut live) = logs.follow(2);
        assert_eq!(
            tail.iter().map(|l| l.message.as_str()).collect::<Vec<_>>(),
            ["1003", "1004"]
        );
        logs.write(line("next".into()));
        assert_eq!(live.try_recv().unwrap().message, "next");
        let kept = logs.follow(usize::MAX).0;
        assert_eq!(kept.len(), MAX_KEPT_LINES);
        assert!(kept.is_sorted_by_key(|line| line.at_ms) && kept[0].at_ms > 0);
    }
}

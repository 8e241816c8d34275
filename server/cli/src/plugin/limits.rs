//! The limits of one worker, as options or a file say them.

use std::time::Duration;

use clap::Args;
use millstream::WorkerLimits;
use serde::Deserialize;

use super::policy::millis;
use crate::errors::Problem;
use crate::parse::{bytes_text, duration_text, parse_bytes, parse_duration};

/// The limits of one worker: the options, and `[limits]` of a file.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct LimitArgs {
    /// Memory of one worker [default: 64MiB]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    #[serde(deserialize_with = "bytes_text")]
    memory: Option<u64>,

    /// Processor time for one call of the plugin [default: 1s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    #[serde(deserialize_with = "duration_text")]
    deadline: Option<Duration>,

    /// Records emitted for one record [default: 1000]
    #[arg(long, value_name = "N")]
    outputs_per_record: Option<u32>,

    /// Log lines of one worker in a second [default: 100]
    #[arg(long, value_name = "N")]
    log_lines_per_second: Option<u32>,

    /// What one worker may remember in its state [default: 4GiB]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    #[serde(deserialize_with = "bytes_text")]
    state: Option<u64>,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Result<WorkerLimits, Problem> {
        let usual = WorkerLimits::default();
        Ok(WorkerLimits {
            memory_bytes: self.memory.unwrap_or(usual.memory_bytes),
            deadline_ms: millis("deadline", self.deadline)?.unwrap_or(usual.deadline_ms),
            outputs_per_record: self.outputs_per_record.unwrap_or(usual.outputs_per_record),
            log_lines_per_second: self
                .log_lines_per_second
                .unwrap_or(usual.log_lines_per_second),
            state_bytes: self.state.unwrap_or(usual.state_bytes),
        })
    }
}

//! A topic's settings on the command line.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream::{AlterTopicBuilder, Cleanup, Durability, TopicConfig};

use crate::parse::{Limit, parse_bytes, parse_duration};

/// When a produced batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityArg {
    /// After it is on stable storage
    Sync,
    /// After it was written: safe when the process dies, not when the machine loses power
    Relaxed,
}

impl From<DurabilityArg> for Durability {
    fn from(durability: DurabilityArg) -> Self {
        match durability {
            DurabilityArg::Sync => Self::Sync,
            DurabilityArg::Relaxed => Self::Relaxed,
        }
    }
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CleanupArg {
    /// They are deleted by age and size
    Delete,
    /// The last record of every key is kept
    Compact,
}

impl From<CleanupArg> for Cleanup {
    fn from(cleanup: CleanupArg) -> Self {
        match cleanup {
            CleanupArg::Delete => Self::Delete,
            CleanupArg::Compact => Self::Compact,
        }
    }
}

/// What is not given keeps its default, or stays as it is.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SettingArgs {
    /// When a batch is acknowledged [new topics: sync]
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,

    /// What happens to old records [new topics: delete]
    #[arg(long, value_enum)]
    cleanup: Option<CleanupArg>,

    /// How long records are kept, or `none` for ever [new topics: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Limit<Duration>>,

    /// What a partition may take on disk before its oldest records go, or `none` [new topics: none]
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<Limit<u64>>,

    /// The size at which a segment is sealed: retention removes whole segments [new topics: 512MiB]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    segment_bytes: Option<u64>,

    /// The age at which a segment is sealed [new topics: 7d]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    segment_age: Option<Duration>,

    /// The largest batch that is taken [new topics: 8MiB]
    #[arg(long, value_parser = parse_batch_bytes, value_name = "BYTES")]
    max_batch_bytes: Option<u32>,

    /// How long a tombstone outlives its key's records in a compacted topic [new topics: 1d]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    tombstone_retention: Option<Duration>,
}

impl SettingArgs {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These settings in place of those of `config`.
    pub(super) fn over(&self, config: TopicConfig) -> TopicConfig {
        TopicConfig {
            durability: self.durability.map_or(config.durability, Into::into),
            cleanup: self.cleanup.map_or(config.cleanup, Into::into),
            retention_ms: self
                .retention
                .map_or(config.retention_ms, |limit| limit.into_option().map(millis)),
            retention_bytes: self
                .retention_bytes
                .map_or(config.retention_bytes, Limit::into_option),
            segment_bytes: self.segment_bytes.unwrap_or(config.segment_bytes),
            segment_ms: self.segment_age.map_or(config.segment_ms, millis),
            max_batch_bytes: self.max_batch_bytes.unwrap_or(config.max_batch_bytes),
            tombstone_retention_ms: self
                .tombstone_retention
                .map_or(config.tombstone_retention_ms, millis),
            replication_factor: config.replication_factor,
        }
    }

    /// Adds these settings to a request.
    pub(super) fn alter(&self, mut request: AlterTopicBuilder) -> AlterTopicBuilder {
        if let Some(durability) = self.durability {
            request = request.durability(durability.into());
        }
        if let Some(cleanup) = self.cleanup {
            request = request.cleanup(cleanup.into());
        }
        if let Some(retention) = self.retention {
            request = request.retention(retention.into_option());
        }
        if let Some(bytes) = self.retention_bytes {
            request = request.retention_bytes(bytes.into_option());
        }
        if let Some(bytes) = self.segment_bytes {
            request = request.segment_bytes(bytes);
        }
        if let Some(age) = self.segment_age {
            request = request.segment_age(age);
        }
        if let Some(bytes) = self.max_batch_bytes {
            request = request.max_batch_bytes(bytes);
        }
        if let Some(retention) = self.tombstone_retention {
            request = request.tombstone_retention(retention);
        }
        request
    }
}

fn parse_batch_bytes(text: &str) -> Result<u32, String> {
    u32::try_from(parse_bytes(text)?).map_err(|_| "a batch is smaller than 4GiB".to_owned())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingArgs,
    }

    fn settings(args: &[&str]) -> SettingArgs {
        Line::try_parse_from([&["test"], args].concat())
            .unwrap()
            .settings
    }

    #[test]
    fn what_is_not_named_stays() {
        assert!(settings(&[]).is_empty());
        assert_eq!(
            settings(&[]).over(TopicConfig::default()),
            TopicConfig::default()
        );
    }

    #[test]
    fn every_setting_reaches_the_topic() {
        let given = settings(&[
            "--durability=relaxed",
            "--cleanup=compact",
            "--retention=none",
            "--retention-bytes=1GiB",
            "--segment-bytes=1MiB",
            "--segment-age=1h",
            "--max-batch-bytes=64KiB",
            "--tombstone-retention=2h",
        ]);
        let expected = TopicConfig {
            durability: Durability::Relaxed,
            cleanup: Cleanup::Compact,
            retention_ms: None,
            retention_bytes: Some(1 << 30),
            segment_bytes: 1 << 20,
            segment_ms: 3_600_000,
            max_batch_bytes: 64 << 10,
            tombstone_retention_ms: 7_200_000,
            replication_factor: 1,
        };
        assert_eq!(given.over(TopicConfig::default()), expected);
    }

    #[test]
    fn bounds_are_lifted_by_name() {
        let bounded = TopicConfig {
            retention_bytes: Some(1),
            ..TopicConfig::default()
        };
        assert_eq!(
            settings(&["--retention-bytes=none"])
                .over(bounded)
                .retention_bytes,
            None
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for arg in [
            "--max-batch-bytes=4GiB",
            "--retention=soon",
            "--durability=never",
        ] {
            assert!(Line::try_parse_from(["test", arg]).is_err(), "{arg}");
        }
    }
}

//! `millstream topic delete-records`.

use clap::Args;
use millstream::{Admin, Offset, PartitionIndex};
use serde::Serialize;

use crate::cli::Context;
use crate::errors::Problem;
use crate::output::{Table, View, count};
use crate::parse::{PositionArg, now_ms};

#[derive(Args, Debug)]
pub(crate) struct DeleteRecordsArgs {
    /// The topic
    topic: String,

    /// Records before this place go: an offset, earliest, latest, time:T, or a duration back from now
    #[arg(long, value_parser = parse_before, value_name = "POSITION")]
    before: PositionArg,

    /// The partitions [default: all; an offset needs one]
    #[arg(long = "partition", value_name = "P")]
    partitions: Vec<PartitionIndex>,
}

/// A position, or an offset alone.
fn parse_before(text: &str) -> Result<PositionArg, String> {
    text.parse()
        .map_or_else(|_| text.parse(), |offset| Ok(PositionArg::Offset(offset)))
}

/// What is left.
#[derive(Debug, Serialize)]
struct Deletion {
    topic: String,
    partitions: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Left {
    partition: PartitionIndex,
    log_start_offset: Offset,
}

impl View for Deletion {
    fn text(&self) -> String {
        let mut table = Table::new(&["TOPIC", "#PARTITION", "#FIRST OFFSET"], "no partitions");
        for left in &self.partitions {
            table.row([
                self.topic.clone(),
                left.partition.to_string(),
                count(left.log_start_offset),
            ]);
        }
        table.text()
    }
}

pub(super) async fn run(args: DeleteRecordsArgs, context: &Context) -> anyhow::Result<()> {
    if matches!(args.before, PositionArg::Offset(_)) && args.partitions.is_empty() {
        return Err(
            Problem::usage("an offset means another record in each partition")
                .advise("name the partition: `--partition 0`")
                .into(),
        );
    }
    let admin = context.admin().await?;
    let before = before_offsets(&admin, &args).await?;
    let mut partitions = Vec::with_capacity(before.len());
    for (partition, offset) in before {
        let log_start_offset = admin.delete_records(&args.topic, partition, offset).await?;
        partitions.push(Left {
            partition,
            log_start_offset,
        });
    }
    context.output.print(&Deletion {
        topic: args.topic,
        partitions,
    })
}

async fn before_offsets(
    admin: &Admin,
    args: &DeleteRecordsArgs,
) -> millstream::Result<Vec<(PartitionIndex, Offset)>> {
    let mut partitions = args.partitions.clone();
    if partitions.is_empty() {
        let topic = admin.describe_topic(&args.topic).await?;
        partitions = topic
            .partitions
            .iter()
            .map(|partition| partition.partition)
            .collect();
    }
    if let PositionArg::Offset(offset) = args.before {
        return Ok(partitions
            .into_iter()
            .map(|partition| (partition, offset))
            .collect());
    }
    let position = args.before.at(now_ms());
    let listed = admin
        .list_offsets(
            &args.topic,
            partitions
                .into_iter()
                .map(|partition| (partition, position)),
        )
        .await?;
    listed
        .into_iter()
        .map(|listed| {
            listed
                .map(|listed| (listed.partition, listed.offset))
                .map_err(Into::into)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_may_stand_alone() {
        assert_eq!(parse_before("100"), Ok(PositionArg::Offset(100)));
        assert_eq!(parse_before("offset:100"), Ok(PositionArg::Offset(100)));
        assert_eq!(parse_before("latest"), Ok(PositionArg::Latest));
        assert!(parse_before("-1").is_err());
    }
}

//! `millstream group`: look at consumer groups, set their offsets anew, delete them.

mod view;

use clap::{Args, Subcommand};
use millstream::{Admin, PartitionIndex};

use crate::cli::Context;
use crate::output::counted;
use crate::parse::{PositionArg, now_ms};
use view::{Deleted, GroupView, Groups, Offsets, Reset};

#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// Lists the groups
    List,
    /// Shows a group's members, committed offsets and lag
    Describe(NameArgs),
    /// Shows a group's committed offsets alone
    Offsets(NameArgs),
    /// Sets a group's offsets anew, also while it consumes
    Reset(ResetArgs),
    /// Deletes groups without members, and their offsets
    Delete(NamesArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// The group
    group: String,
}

#[derive(Args, Debug)]
pub(crate) struct NamesArgs {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// The group
    group: String,

    /// The topic
    #[arg(long)]
    topic: String,

    /// Where to: earliest, latest, offset:N, time:T (RFC 3339 or milliseconds), or a duration back
    /// from now
    #[arg(long, value_name = "POSITION")]
    to: PositionArg,

    /// The partitions [default: all]
    #[arg(long = "partition", value_name = "P")]
    partitions: Vec<PartitionIndex>,
}

/// Runs one of them.
pub(crate) async fn run(command: GroupCommand, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let output = context.output;
    match command {
        GroupCommand::List => output.print(&Groups::of(&admin.list_groups().await?)),
        GroupCommand::Describe(args) => {
            output.print(&GroupView::of(&admin.describe_group(args.group).await?))
        }
        GroupCommand::Offsets(args) => {
            let offsets = admin.group_offsets(&args.group).await?;
            output.print(&Offsets::of(args.group, &offsets))
        }
        GroupCommand::Reset(args) => {
            let to = args.to.at(now_ms());
            let given_up = waiting_at(&admin, &args).await;
            let response = admin
                .reset_group(&args.group, &args.topic, args.partitions, to)
                .await?;
            if given_up > 0 {
                output.say(format_args!(
                    "the deployment {} gives up {} to be tried again",
                    args.group,
                    counted(given_up, "record")
                ));
            }
            output.print(&Reset::of(args.group, &response))
        }
        GroupCommand::Delete(args) => {
            // A name that is wrong is told before anything is gone.
            for group in &args.groups {
                admin.describe_group(group).await?;
            }
            for group in &args.groups {
                admin.delete_group(group).await?;
            }
            output.print(&Deleted {
                deleted: args.groups,
            })
        }
    }
}

/// The records that wait to be tried again where a deployment's group is to be reset, as far as is known: they are
/// what it did before.
async fn waiting_at(admin: &Admin, args: &ResetArgs) -> u64 {
    let Ok(deployed) = admin.describe_plugin(args.group.as_str()).await else {
        return 0;
    };
    let here = deployed.workers.iter().filter(|worker| {
        let partitions = &args.partitions;
        worker.topic == args.topic
            && (partitions.is_empty() || partitions.contains(&worker.partition))
    });
    here.map(|worker| worker.parked).sum()
}

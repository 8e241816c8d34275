//! `millstream topic`: make, look at, change and delete topics.

mod records;
mod settings;
mod view;

use clap::{Args, Subcommand};
use millstream::{Admin, ErrorCode, TopicConfig, TopicDescription, TopicSelection};

use crate::cli::Context;
use crate::errors::Problem;
use records::DeleteRecordsArgs;
use settings::SettingArgs;
use view::{Created, Deleted, TopicView, TopicViews, Topics};

#[derive(Subcommand, Debug)]
pub(crate) enum TopicCommand {
    /// Makes a topic
    Create(CreateArgs),
    /// Lists the topics
    List(ListArgs),
    /// Shows topics with their settings and partitions
    ///
    /// Replicas are shown by their brokers, the preferred leader first: `1*` leads, `2?` has not got all that
    /// it should, `3!` is not there, `4+` is to be added by a change, `5-` is to go. Offsets are those of the
    /// leaders.
    Describe(NamesArgs),
    /// Changes a topic's settings, or adds partitions
    Alter(AlterArgs),
    /// Deletes topics and their records
    Delete(NamesArgs),
    /// Forgets the oldest records of a topic
    DeleteRecords(DeleteRecordsArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Letters, digits, `.`, `_` and `-`
    name: String,

    /// How many partitions; there can be more later, never fewer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    partitions: u32,

    /// How many brokers keep each partition: 1, 2, 3 or 5
    #[arg(long, default_value_t = 1, value_name = "N")]
    replication_factor: u8,

    /// Succeeds when a topic of this name is there already, whatever its settings
    #[arg(long)]
    if_not_exists: bool,

    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Lists the broker's own topics too
    #[arg(long)]
    internal: bool,
}

#[derive(Args, Debug)]
pub(crate) struct NamesArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AlterArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,

    /// The new number of partitions: never fewer than now. Keys may move to other partitions
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    partitions: Option<u32>,

    #[command(flatten)]
    settings: SettingArgs,
}

/// Runs one of them.
pub(crate) async fn run(command: TopicCommand, context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    match command {
        TopicCommand::Create(args) => {
            let admin = context.admin().await?;
            let topic = create(&admin, args).await?;
            output.print(&Created(TopicView::of(&topic)))
        }
        TopicCommand::List(args) => {
            let selection = if args.internal {
                TopicSelection::AllWithInternal
            } else {
                TopicSelection::All
            };
            let topics = context.admin().await?.select_topics(selection).await?;
            output.print(&Topics::of(&topics))
        }
        TopicCommand::Describe(args) => {
            let topics = context.admin().await?.describe_topics(args.names).await?;
            output.print(&TopicViews::of(&topics))
        }
        TopicCommand::Alter(args) => {
            if args.partitions.is_none() && args.settings.is_empty() {
                return Err(Problem::usage("nothing to alter is named")
                    .advise("`millstream topic alter --help` shows what can be changed")
                    .into());
            }
            let topic = alter(&context.admin().await?, args).await?;
            output.print(&TopicView::of(&topic))
        }
        TopicCommand::Delete(args) => {
            let admin = context.admin().await?;
            let (mut deleted, mut outcome) = (Vec::new(), Ok(()));
            for name in args.names {
                outcome = admin.delete_topic(&name).await;
                if outcome.is_err() {
                    break;
                }
                deleted.push(name);
            }
            // What was deleted before a failure is told too.
            if !deleted.is_empty() {
                output.print(&Deleted { deleted })?;
            }
            Ok(outcome?)
        }
        TopicCommand::DeleteRecords(args) => records::run(args, context).await,
    }
}

async fn create(admin: &Admin, args: CreateArgs) -> millstream::Result<TopicDescription> {
    let config = args.settings.over(TopicConfig {
        replication_factor: args.replication_factor,
        ..TopicConfig::default()
    });
    match admin
        .create_topic(&args.name)
        .partitions(args.partitions)
        .config(config)
        .await
    {
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicExists) => {
            admin.describe_topic(args.name).await
        }
        outcome => outcome,
    }
}

async fn alter(admin: &Admin, args: AlterArgs) -> millstream::Result<TopicDescription> {
    let mut request = args.settings.alter(admin.alter_topic(args.name));
    if let Some(partitions) = args.partitions {
        request = request.partitions(partitions);
    }
    request.await
}

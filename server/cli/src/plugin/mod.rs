//! `millstream plugin`: make, build, try, deploy and look after plugins.

pub(crate) mod build;
mod dead_letters;
pub(crate) mod deploy;
mod diff;
mod grants;
mod history;
mod limits;
mod logs;
mod manifest;
mod metrics;
mod new;
mod policy;
mod promote;
mod remove;
mod replay;
mod run;
mod secret;
mod started;
mod state;
mod upgrade;
mod view;

use clap::{Args, Subcommand};

use crate::cli::Context;
use build::BuildArgs;
use dead_letters::DlqCommand;
use deploy::DeployArgs;
use diff::DiffArgs;
use history::{History, RollbackArgs};
use logs::LogsArgs;
use metrics::MetricsView;
use new::NewArgs;
use promote::PromoteArgs;
use remove::RemoveArgs;
use replay::ReplayArgs;
use run::RunArgs;
use secret::SecretCommand;
use started::started;
use state::StateCommand;
use upgrade::UpgradeArgs;
use view::{DeploymentView, Deployments};

#[derive(Subcommand, Debug)]
pub(crate) enum PluginCommand {
    /// Makes a folder for a new plugin in Rust, Python, JavaScript or C, with a handler and samples
    New(NewArgs),
    /// Builds a plugin's folder into a WebAssembly component
    #[command(after_help = build::HELP)]
    Build(BuildArgs),
    /// Runs a plugin on a file of records, without a broker, and writes what it emits
    #[command(after_help = run::HELP)]
    Run(RunArgs),
    /// Deploys a component, or the folder that it is built from
    #[command(after_help = manifest::HELP)]
    Deploy(DeployArgs),
    /// Lists the deployments
    #[command(after_help = view::LIST_HELP)]
    List,
    /// Shows a deployment with its settings, workers and lag
    #[command(after_help = view::DESCRIBE_HELP)]
    Describe(NameArgs),
    /// Shows what a deployment's workers have logged
    #[command(after_help = logs::HELP)]
    Logs(LogsArgs),
    /// Looks at the records that a deployment could not handle, hands them back or deletes them
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Looks at what a deployment's workers remember
    #[command(subcommand)]
    State(StateCommand),
    /// Shows what a deployment's workers have measured, and what the plugin itself has
    Metrics(NameArgs),
    /// Puts another component in the place of a deployment's, or what a file declares: its offsets, its
    /// state and what waits to be tried again stay
    Upgrade(UpgradeArgs),
    /// Lists a deployment's revisions: what was put in place, when and by whom
    History(NameArgs),
    /// Puts an earlier revision of a deployment back, component and settings
    Rollback(RollbackArgs),
    /// Runs a deployment, or another version of it, over history beside the live one: as a shadow that
    /// touches neither its offsets nor its outputs
    Replay(ReplayArgs),
    /// Compares what a shadow has written with what the live deployment wrote of the same records
    Diff(DiffArgs),
    /// Puts a shadow in the place of the live deployment, when both have come to the same offsets
    Promote(PromoteArgs),
    /// Has a deployment's workers stand still until it is resumed; a call that takes its time is made
    /// again then
    Pause(NameArgs),
    /// Has a deployment that was paused go on, and workers that stand still in front of a record try
    /// it again
    Resume(NameArgs),
    /// Keeps what plugins need and nobody else may see, for those that are granted it
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Stops deployments and forgets them and their state; their offsets and dead letters stay
    #[command(after_help = remove::HELP)]
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// The deployment
    name: String,
}

/// Runs one of them.
pub(crate) async fn run(command: PluginCommand, context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    match command {
        PluginCommand::New(args) => output.print(&new::run(&args, context)?),
        PluginCommand::Build(args) => output.print(&build::build(&args).await?),
        PluginCommand::Run(args) => run::run(args, context).await,
        PluginCommand::Deploy(args) => {
            output.print(&DeploymentView::of(&deploy::run(args, context).await?))
        }
        PluginCommand::List => output.print(&Deployments::of(
            &context.admin().await?.list_plugins().await?,
        )),
        PluginCommand::Describe(args) => {
            let admin = context.admin().await?;
            let described = admin.describe_plugin(args.name).await?;
            output.print(&DeploymentView::look(&admin, &described).await?)
        }
        PluginCommand::Logs(args) => logs::run(args, context).await,
        PluginCommand::Dlq(command) => dead_letters::run(command, context).await,
        PluginCommand::State(command) => state::run(command, context).await,
        PluginCommand::Metrics(args) => output.print(&MetricsView::of(
            &context.admin().await?.plugin_metrics(args.name).await?,
        )),
        PluginCommand::Upgrade(args) => {
            output.print(&DeploymentView::of(&upgrade::run(args, context).await?))
        }
        PluginCommand::History(args) => {
            let revisions = context.admin().await?.plugin_history(&args.name).await?;
            output.print(&History::of(args.name, &revisions))
        }
        PluginCommand::Rollback(args) => {
            let admin = context.admin().await?;
            let revisions = admin.plugin_history(&args.name).await?;
            match args.to {
                Some(to) => history::check_kept(&args.name, to, &revisions)?,
                None => history::check_before(&args.name, &revisions)?,
            }
            let deployed = admin.roll_back_plugin(args.name, args.to).await?;
            output.print(&DeploymentView::of(&started(&admin, deployed).await))
        }
        PluginCommand::Replay(args) => {
            output.print(&DeploymentView::of(&replay::run(args, context).await?))
        }
        PluginCommand::Diff(args) => diff::run(args, context).await,
        PluginCommand::Promote(args) => {
            let promoted = promote::run(args, context).await?;
            output.print(&DeploymentView::of(&promoted))
        }
        PluginCommand::Pause(args) => output.print(&DeploymentView::of(
            &context.admin().await?.pause_plugin(args.name).await?,
        )),
        PluginCommand::Secret(command) => secret::run(command, context).await,
        PluginCommand::Resume(args) => output.print(&DeploymentView::of(
            &context.admin().await?.resume_plugin(args.name).await?,
        )),
        PluginCommand::Remove(args) => remove::run(args, context).await,
    }
}

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
mod replay;
mod run;
mod secret;
mod started;
mod state;
mod upgrade;
mod view;

use clap::{Args, Subcommand};
use millstream::Admin;

use crate::cli::Context;
use crate::errors::{Exit, Problem};
use build::BuildArgs;
use dead_letters::DlqCommand;
use deploy::DeployArgs;
use diff::DiffArgs;
use history::{History, RollbackArgs};
use logs::LogsArgs;
use metrics::MetricsView;
use new::NewArgs;
use replay::{PromoteArgs, ReplayArgs};
use run::RunArgs;
use secret::SecretCommand;
use started::started;
use state::StateCommand;
use upgrade::UpgradeArgs;
use view::{DeploymentView, Deployments, Removed};

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
    List,
    /// Shows a deployment with its settings, workers and lag
    Describe(NameArgs),
    /// Shows what a deployment's workers have logged
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
    /// Has a deployment's workers stand still after their turns, until it is resumed
    Pause(NameArgs),
    /// Has a deployment that was paused go on, and workers that stand still in front of a record try
    /// it again
    Resume(NameArgs),
    /// Keeps what plugins need and nobody else may see, for those that are granted it
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Stops deployments and forgets them and their state; their offsets stay
    Remove(NamesArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// The deployment
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct NamesArgs {
    /// The deployments
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Refuses to remove a live deployment from beside its shadow, unless that goes before it.
async fn keeps_its_shadow(admin: &Admin, names: &[String]) -> anyhow::Result<()> {
    for deployed in admin.list_plugins().await? {
        let shadow = deployed.spec.name;
        let Some(live) = deployed.shadow_of else {
            continue;
        };
        let place = |name: &String| names.iter().position(|removed| removed == name);
        let Some(at) = place(&live) else { continue };
        if place(&shadow).is_none_or(|before| before > at) {
            let message = format!("deployment {live} has the shadow {shadow}");
            let advice = format!(
                "`millstream plugin remove {shadow} {live}` removes both; `millstream plugin promote {live}` puts the shadow in its place"
            );
            return Err(Problem::new(Exit::Refused, message).advise(advice).into());
        }
    }
    Ok(())
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
        PluginCommand::Describe(args) => output.print(&DeploymentView::of(
            &context.admin().await?.describe_plugin(args.name).await?,
        )),
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
            if let Some(to) = args.to {
                history::check_kept(&args.name, to, &admin.plugin_history(&args.name).await?)?;
            }
            let deployed = admin.roll_back_plugin(args.name, args.to).await?;
            output.print(&DeploymentView::of(&started(&admin, deployed).await))
        }
        PluginCommand::Replay(args) => {
            output.print(&DeploymentView::of(&replay::run(args, context).await?))
        }
        PluginCommand::Diff(args) => diff::run(args, context).await,
        PluginCommand::Promote(args) => {
            let admin = context.admin().await?;
            let shadow = args.shadow.shadow(&admin).await?;
            let mut promoting = admin.promote_plugin(args.shadow.name, shadow);
            if args.partial_state {
                promoting = promoting.with_partial_state();
            }
            let promoted = promoting.await?;
            output.print(&DeploymentView::of(&started(&admin, promoted).await))
        }
        PluginCommand::Pause(args) => output.print(&DeploymentView::of(
            &context.admin().await?.pause_plugin(args.name).await?,
        )),
        PluginCommand::Secret(command) => secret::run(command, context).await,
        PluginCommand::Resume(args) => output.print(&DeploymentView::of(
            &context.admin().await?.resume_plugin(args.name).await?,
        )),
        PluginCommand::Remove(args) => {
            let admin = context.admin().await?;
            keeps_its_shadow(&admin, &args.names).await?;
            for name in &args.names {
                admin.remove_plugin(name).await?;
            }
            output.print(&Removed {
                removed: args.names,
            })
        }
    }
}

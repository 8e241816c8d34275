//! `millstream plugin`: make, build, try, deploy and look after plugins.

pub(crate) mod build;
mod dead_letters;
pub(crate) mod deploy;
mod limits;
mod logs;
mod manifest;
mod new;
mod policy;
mod run;
mod state;
mod view;

use clap::{Args, Subcommand};

use crate::cli::Context;
use build::BuildArgs;
use dead_letters::DlqCommand;
use deploy::DeployArgs;
use logs::LogsArgs;
use new::NewArgs;
use run::RunArgs;
use state::StateCommand;
use view::{DeploymentView, Deployments, Removed};

#[derive(Subcommand, Debug)]
pub(crate) enum PluginCommand {
    /// Makes a crate for a new plugin, with a handler, tests and samples
    New(NewArgs),
    /// Builds a plugin's crate into a WebAssembly component
    Build(BuildArgs),
    /// Runs a plugin on a file of records, without a broker, and writes what it emits
    #[command(after_help = run::HELP)]
    Run(RunArgs),
    /// Deploys a component, or the crate that it is built from
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
    /// Has workers that stand still in front of a record try it again
    Resume(NameArgs),
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
        PluginCommand::Resume(args) => output.print(&DeploymentView::of(
            &context.admin().await?.resume_plugin(args.name).await?,
        )),
        PluginCommand::Remove(args) => {
            let admin = context.admin().await?;
            for name in &args.names {
                admin.remove_plugin(name).await?;
            }
            output.print(&Removed {
                removed: args.names,
            })
        }
    }
}

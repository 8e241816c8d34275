//! The command line as it is typed, and the way from it to what runs.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use millstream::{Admin, Client};
use tokio::sync::OnceCell;

use crate::broker::BrokerCommand;
use crate::cluster::ClusterCommand;
use crate::compiler::CompilerArgs;
use crate::connect::{ConnectArgs, GLOBAL};
use crate::consume::ConsumeArgs;
use crate::demo::DemoArgs;
use crate::dev::DevArgs;
use crate::errors::{EXIT_CODES, report_usage};
use crate::group::GroupCommand;
use crate::interrupt::Interrupts;
use crate::logging::{LogArgs, LogLevel};
use crate::output::{Output, OutputFormat};
use crate::plugin::PluginCommand;
use crate::produce::ProduceArgs;
use crate::server::ServerArgs;
use crate::topic::TopicCommand;
use crate::{bench, broker, cluster, consume, demo, dev, group, plugin, produce, server, topic};

/// The variables that every command looks at.
const ENVIRONMENT: &str = "\
Environment:
  MILLSTREAM_PROFILE  the client profile's file
  MILLSTREAM_LOG      what is logged, as a filter, for example millstream=debug";

/// How long the connection's task has to say that it ends.
const FAREWELL: Duration = Duration::from_millis(5);

/// A streaming platform in one binary: topics over QUIC, consumer groups, and plugins that process
/// records next to the data.
#[derive(Parser, Debug)]
#[command(name = "millstream", version, after_help = format!("{ENVIRONMENT}\n\n{EXIT_CODES}"), max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct GlobalArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// How results are written to standard output: table, for people, or json, for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    output: OutputFormat,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Starts a broker on this machine with nothing to set up, secured by certificates of its own
    Dev(DevArgs),
    /// Starts a broker by a configuration file
    Server(ServerArgs),
    /// Shows a broker, a topic and a plugin at work on a week of earthquakes
    Demo(DemoArgs),
    /// Shows three brokers on this machine, of which one is killed under load: nothing is lost
    DemoCluster,
    /// Makes, shows, changes and deletes topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Produces lines of files or standard input as records
    Produce(ProduceArgs),
    /// Writes a topic's records to standard output
    Consume(ConsumeArgs),
    /// Shows consumer groups and their lag, sets their offsets anew
    #[command(subcommand)]
    Group(GroupCommand),
    /// Builds, deploys and looks after plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Shows what the broker is and how it is
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Makes a cluster of several brokers, shows how it stands, looks after its brokers
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Measures a broker on this machine, next to what the machine could do
    Bench(bench::Args),
    /// Prints a script that completes commands in your shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Compiles a component from standard input: a broker starts this for each one that is deployed
    #[command(hide = true)]
    CompileComponent(CompilerArgs),
}

/// What every command is given.
pub(crate) struct Context {
    pub(crate) output: Output,
    connect: ConnectArgs,
    client: OnceCell<Client>,
}

impl Context {
    /// The client; connects when it is asked for first.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        self.client
            .get_or_try_init(|| self.connect.client())
            .await
            .cloned()
    }

    /// The same, by the profile of a folder unless another one is named.
    pub(crate) async fn client_of(&self, profile: &Path) -> anyhow::Result<Client> {
        self.client
            .get_or_try_init(|| async { self.connect.or_by(profile).client().await })
            .await
            .cloned()
    }

    pub(crate) async fn admin(&self) -> anyhow::Result<Admin> {
        Ok(self.client().await?.admin())
    }

    /// Closes the connection, and gives its task the time to tell the broker. Nothing depends on
    /// it: without a word, the broker counts the connection until it has been silent for too long.
    async fn close(&self) {
        if let Some(client) = self.client.get() {
            client.close();
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

impl Cli {
    /// What was typed; ends the program when it makes no sense, or asks for help.
    pub(crate) fn from_command_line() -> Self {
        Self::try_parse().unwrap_or_else(|error| refuse(with_tip(error), std::env::args_os()))
    }

    pub(crate) fn output(&self) -> OutputFormat {
        self.global.output
    }

    /// The compiler, if that is asked for. It runs before there are threads, and without anything
    /// that other commands have.
    pub(crate) fn compiler(&self) -> Option<&CompilerArgs> {
        match &self.command {
            Command::CompileComponent(args) => Some(args),
            _ => None,
        }
    }

    /// Runs the command until it is done or a signal ends it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self {
            global:
                GlobalArgs {
                    connect,
                    output,
                    log,
                },
            command,
        } = self;
        let mut interrupts = Interrupts::catch()?;
        // A server logs as its configuration says.
        if !matches!(command, Command::Server(_)) {
            log.start(LogLevel::Warn)?;
        }
        let context = Context {
            output: Output::new(output, log.prose()),
            connect,
            client: OnceCell::new(),
        };
        let outcome = run(command, &context, log, &mut interrupts).await;
        context.close().await;
        outcome
    }
}

/// Ends the program: with help, or with what is wrong in the form that was asked for.
fn refuse(error: clap::Error, args: impl Iterator<Item = OsString>) -> ! {
    // Help and the version are no errors, and a command that is not whole shows help.
    if error.use_stderr() && asks_for_json(args) {
        report_usage(&error.render().to_string());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// Whether JSON is asked for, as far as what was typed can be understood.
fn asks_for_json(args: impl Iterator<Item = OsString>) -> bool {
    let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
    let joined = |arg: &OsString| {
        ["-ojson", "-o=json", "--output=json"]
            .iter()
            .any(|it| arg == it)
    };
    let apart = |pair: &[OsString]| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json";
    args.iter().any(joined) || args.windows(2).any(apart)
}

/// Adds what clap cannot know. A plugin's outputs and the format of results are both "output": one may
/// be taken for the other. And what a deployment file declares, options cannot.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = text(ContextKind::InvalidArg);
    let takes_one_for_the_other =
        argument.contains("--output <") && text(ContextKind::InvalidValue).contains('=');
    let declares_twice = error.kind() == ErrorKind::ArgumentConflict
        && [argument, text(ContextKind::PriorArg)].contains(&"--file <FILE>");
    let tip = if takes_one_for_the_other {
        "the topic of a plugin's output is named by '--output-topic OUTPUT=TOPIC'"
    } else if declares_twice {
        "the file declares all of the deployment: change it there, or leave out '--file' and give all of it \
         as options"
    } else {
        return error;
    };
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

async fn run(
    command: Command,
    context: &Context,
    log: LogArgs,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    match command {
        Command::Dev(args) => dev::run(args, context, interrupts).await,
        Command::Server(args) => server::run(args, log, context, interrupts).await,
        Command::Demo(args) => demo::run(args, context, interrupts).await,
        Command::DemoCluster => demo::cluster::run(context, interrupts).await,
        Command::Produce(args) => produce::run(args, context, interrupts).await,
        Command::Consume(args) => consume::run(args, context, interrupts).await,
        Command::Topic(command) => interrupts.unless(topic::run(command, context)).await,
        Command::Group(command) => interrupts.unless(group::run(command, context)).await,
        Command::Plugin(command) => interrupts.unless(plugin::run(command, context)).await,
        Command::Broker(command) => interrupts.unless(broker::run(command, context)).await,
        Command::Cluster(command) => interrupts.unless(cluster::run(command, context)).await,
        // It catches signals itself: it has processes to end.
        Command::Bench(args) => bench::run(args, context.output.format()).await,
        Command::Completions { shell } => completions(shell),
        // It has run already, or does not get here.
        Command::CompileComponent(_) => Ok(()),
    }
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "millstream", &mut script);
    Output::write(&script)
}

#[cfg(test)]
mod tests;

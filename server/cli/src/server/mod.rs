//! `millstream server`: a broker by its configuration file.

mod config;

use std::path::{Path, PathBuf};

use clap::Args;
use millstream_broker::BrokerConfig;
use serde::Serialize;

use crate::cli::Context;
use crate::errors::Problem;
use crate::interrupt::Interrupts;
use crate::logging::LogArgs;
use crate::output::{Output, View};
use crate::serving;
use config::{DEFAULT_CONFIG, ServerConfig};

#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// The configuration file (TOML); relative paths in it start at its folder
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "print_default_config"
    )]
    config: Option<PathBuf>,

    /// Prints a configuration file with every setting, its default and its meaning
    #[arg(long, conflicts_with_all = ["config", "check"])]
    print_default_config: bool,

    /// Checks the configuration and the files that it names, and does not start
    #[arg(long)]
    check: bool,

    /// Writes the address to this file once clients can connect
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// Stops when standard input ends: the broker does not outlive the program that holds the pipe
    #[arg(long)]
    until_stdin_closes: bool,
}

/// Runs the broker until it is told to stop.
pub(crate) async fn run(
    args: ServerArgs,
    log: LogArgs,
    context: &Context,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    if args.print_default_config {
        return Output::write(DEFAULT_CONFIG.as_bytes());
    }
    let path = args
        .config
        .ok_or_else(|| Problem::usage("no configuration file is named"))?;
    let config = ServerConfig::read(&path)?;
    // Before the check: it warns of what is usable and needs attention soon.
    log.start(config.log_level())?;
    let config = config.check()?;
    if args.check {
        return context.output.print(&Checked { config: path });
    }
    if let Some(path) = &args.ready_file {
        serving::remove_stale(path)?;
    }
    let broker = serving::start(config, interrupts).await?;
    if let Some(path) = &args.ready_file {
        serving::write_whole(path, &format!("{}\n", broker.address()))?;
    }
    context.output.say(format_args!(
        "broker ready at {} (QUIC over UDP)",
        broker.address()
    ));
    let enough = serving::stdin_closed(args.until_stdin_closes);
    serving::serve(broker, interrupts, enough, context.output).await
}

/// What a broker is started with by a configuration file.
pub(crate) fn config(path: &Path) -> anyhow::Result<BrokerConfig> {
    ServerConfig::read(path)?.check()
}

/// A configuration without faults.
#[derive(Debug, Serialize)]
struct Checked {
    config: PathBuf,
}

impl View for Checked {
    fn text(&self) -> String {
        format!("{} has no faults\n", self.config.display())
    }
}

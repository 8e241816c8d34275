//! The server processes: a broker, and the raw QUIC server it is compared with.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::bail;
use millstream_broker::{Broker, BrokerConfig, CompileLimits};
use tokio::sync::mpsc::UnboundedReceiver;

use super::client::lines_of_stdin;
use super::identities::Identities;
use super::raw_quic;
use crate::{compiler, server};

/// How the broker's process is started.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BrokerArgs {
    /// The folder with the run's identities
    #[arg(long)]
    identities: PathBuf,
    /// The broker's data directory
    #[arg(long)]
    data_dir: PathBuf,
}

/// How a cluster's broker's process is started.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MemberArgs {
    /// The broker's configuration file
    #[arg(long)]
    config: PathBuf,
}

/// How the raw QUIC server's process is started.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct QuicArgs {
    /// The folder with the run's identities
    #[arg(long)]
    identities: PathBuf,
}

/// Runs a broker with the default settings until standard input ends.
pub(super) async fn broker(args: BrokerArgs) -> anyhow::Result<()> {
    let mut input = lines_of_stdin()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = BrokerConfig::new(
        args.data_dir,
        listen,
        Identities::at(&args.identities).server()?,
    );
    config.compiler = compiler::this_program(CompileLimits::default())?;
    serve(config, &mut input).await
}

/// Runs a broker of a cluster until standard input ends.
pub(super) async fn member(args: MemberArgs) -> anyhow::Result<()> {
    let mut input = lines_of_stdin()?;
    serve(server::config(&args.config)?, &mut input).await
}

async fn serve(config: BrokerConfig, input: &mut UnboundedReceiver<String>) -> anyhow::Result<()> {
    let mut broker = Broker::start(config).await?;
    tell(broker.address())?;
    tokio::select! {
        _ = input.recv() => Ok(broker.stop().await?),
        error = broker.failed() => bail!("the broker stopped by itself: {error}"),
    }
}

/// Runs the raw QUIC server until standard input ends.
pub(super) async fn quic(args: QuicArgs) -> anyhow::Result<()> {
    let mut input = lines_of_stdin()?;
    let listener = raw_quic::listen(&Identities::at(&args.identities))?;
    tell(listener.local_addr())?;
    tokio::select! {
        _ = input.recv() => {}
        () = raw_quic::serve(listener) => {}
    }
    Ok(())
}

/// Tells the run that the server is ready, and where.
fn tell(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{address}")?;
    Ok(stdout.flush()?)
}

//! `millstream dev`: a broker of one node, secure, without anything to set up.
//!
//! ```text
//! <data dir>/broker/        the broker's own data
//! <data dir>/identity/      the authority, the server's and the client's certificates and keys
//! <data dir>/profile.toml   the client profile
//! ```
//!
//! The profile is also put where the command line and the SDK look for one.

mod identity;
mod profile;

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use millstream_broker::{BrokerConfig, CompileLimits};
use millstream_transport::Profile;
use serde::Serialize;

use crate::cli::Context;
use crate::compiler;
use crate::errors::Problem;
use crate::interrupt::Interrupts;
use crate::output::View;
use crate::parse::parse_bytes;
use crate::serving;
use identity::DevIdentity;
use profile::{Overwrite, Placement};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Where the broker's data, the certificates and the profile are kept [default:
    /// $XDG_DATA_HOME/millstream/dev, or ~/.local/share/millstream/dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The UDP address to listen on; port 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_LISTEN, value_name = "IP:PORT")]
    listen: SocketAddr,

    /// Replaces the default profile even when it is not one that `millstream dev` has written
    #[arg(long)]
    force_profile: bool,

    /// What a worker's state may have changed in memory before it is written to its file [default:
    /// 64MiB]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    state_overlay: Option<u64>,

    /// What one table of deployments may take before plugins that look up in it are paused [default:
    /// 16GiB]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    table_bytes: Option<u64>,

    /// Writes the address to this file once clients can connect
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// Stops when standard input ends: the broker does not outlive the program that holds the pipe
    #[arg(long)]
    until_stdin_closes: bool,
}

/// Runs the broker until it is told to stop.
pub(crate) async fn run(
    args: DevArgs,
    context: &Context,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let data_dir = data_dir(args.data_dir)?;
    if let Some(path) = &args.ready_file {
        serving::remove_stale(path)?;
    }
    make_private_dir(&data_dir)?;
    let identity = DevIdentity::prepare(&data_dir.join("identity"))?;
    let mut config = BrokerConfig::new(data_dir.join("broker"), args.listen, identity.server);
    config.compiler = compiler::this_program(CompileLimits::default())?;
    if let Some(bytes) = args.state_overlay {
        config.state_overlay_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    config.table_bytes = args.table_bytes.unwrap_or(config.table_bytes);
    let broker = serving::start(config, interrupts).await?;

    let address = reachable(broker.address()).to_string();
    let profile = Profile {
        addresses: vec![address.clone()],
        server_name: identity::SERVER_NAME.to_owned(),
        ca: identity.files.authority,
        certificate: identity.files.client_certificate,
        key: identity.files.client_key,
    };
    let own = data_dir.join("profile.toml");
    profile.save(&own)?;
    let overwrite = if args.force_profile {
        Overwrite::Any
    } else {
        Overwrite::OwnKind
    };
    let placement = profile::place(&profile, Profile::default_path(), overwrite)?;
    if let Some(path) = &args.ready_file {
        serving::write_whole(path, &format!("{address}\n"))?;
    }
    tell(
        Ready {
            address,
            data_dir,
            profile: own,
        },
        &placement,
        context,
    )?;

    let enough = serving::stdin_closed(args.until_stdin_closes);
    serving::serve(broker, interrupts, enough, context.output).await
}

/// What is told when clients can connect.
#[derive(Debug, Serialize)]
struct Ready {
    /// Where clients on this machine connect to.
    address: String,
    data_dir: PathBuf,
    /// The profile in the data directory.
    profile: PathBuf,
}

impl View for Ready {
    fn text(&self) -> String {
        format!(
            "broker ready at {} (QUIC over UDP)\n  data: {}\n",
            self.address,
            self.data_dir.display(),
        )
    }
}

/// People are told on standard error, programs by a JSON object on standard output.
fn tell(ready: Ready, placement: &Placement, context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return context.output.print(&ready);
    }
    context.output.say(format_args!(
        "{}{}",
        ready.text(),
        placement.text(&ready.profile)
    ));
    context.output.say(
        "try, in another terminal:\n  \
           millstream topic create orders --partitions 4\n  \
           echo 'two of the blue ones' | millstream produce orders\n  \
           millstream consume orders\n\
         Ctrl-C stops the broker",
    );
    Ok(())
}

fn data_dir(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => default_data_dir(|variable| std::env::var_os(variable).map(PathBuf::from))
            .ok_or_else(|| {
                Problem::usage("there is no home directory to keep data in")
                    .advise("name one with `--data-dir`")
            })?,
    };
    std::path::absolute(&path).with_context(|| format!("cannot find {}", path.display()))
}

/// By the XDG Base Directory Specification: a relative `$XDG_DATA_HOME` is ignored.
fn default_data_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let configured = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || {
        variable("HOME")
            .filter(|path| path.is_absolute())
            .map(|home| home.join(".local/share"))
    };
    configured
        .or_else(home)
        .map(|data| data.join("millstream/dev"))
}

/// Keys lie in it: it is its owner's alone.
pub(crate) fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Where a client on this machine reaches a broker that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_where_the_user_keeps_theirs() {
        let check = |xdg: &str, home: &str, expected: Option<&str>| {
            let variable = |name: &str| {
                let value = if name == "HOME" { home } else { xdg };
                (!value.is_empty()).then(|| PathBuf::from(value))
            };
            assert_eq!(default_data_dir(variable), expected.map(PathBuf::from));
        };
        check("/x", "/home/a", Some("/x/millstream/dev"));
        check("", "/home/a", Some("/home/a/.local/share/millstream/dev"));
        check(
            "relative",
            "/home/a",
            Some("/home/a/.local/share/millstream/dev"),
        );
        check("", "", None);
    }

    #[test]
    fn clients_reach_what_listens_everywhere() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        };
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.0.0.7:1", "10.0.0.7:1");
    }
}

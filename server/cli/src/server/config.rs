//! The broker's configuration file: read strictly, then checked into what a broker runs on.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use millstream_broker::cluster::ticket::Ticket;
use millstream_broker::config::MIN_CATCH_UP_BYTES_PER_SECOND;
use millstream_broker::{BrokerConfig, CompileLimits};
use millstream_transport::{Identity, Network, TransportConfig};
use serde::{Deserialize, Serialize};

use crate::compiler;
use crate::errors::Problem;
use crate::logging::LogLevel;
use crate::parse::{parse_advertised, parse_rack};

/// What is done about a ticket that cannot be used.
const NEW_TICKET: &str =
    "`millstream cluster join` makes another one; a broker that was let in before needs none";

/// The largest configuration file or ticket that is read, bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Threads that run plugins, at most.
const MAX_WORKER_THREADS: usize = 1024;

/// A configuration file with every setting, its default and its meaning.
pub(super) const DEFAULT_CONFIG: &str = include_str!("default.toml");

/// A configuration file that was read, and not checked yet.
#[derive(Debug)]
pub(super) struct ServerConfig {
    path: PathBuf,
    file: ConfigFile,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: SocketAddr,
    data_dir: PathBuf,
    #[serde(default = "default_log_level")]
    log_level: LogLevel,
    #[serde(default = "default_tail_cache_bytes")]
    tail_cache_bytes: usize,
    identity: IdentitySection,
    #[serde(default)]
    cluster: ClusterSection,
    #[serde(default)]
    workers: WorkersSection,
    #[serde(default)]
    transport: TransportSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitySection {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// This broker among the others of its cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterSection {
    /// `None`: it has been let in already, or is the first one.
    ticket: Option<PathBuf>,
    /// `None`: where it listens.
    advertise: Option<String>,
    rack: Option<String>,
    /// `None`: as much as goes.
    catch_up_bytes_per_second: Option<NonZeroU64>,
}

impl ClusterSection {
    fn ticket(&self, folder: &Path) -> anyhow::Result<Option<Ticket>> {
        let Some(path) = &self.ticket else {
            return Ok(None);
        };
        let path = folder.join(path);
        let text = read("ticket", &path)?;
        // The whole error would show the line, and with it perhaps the token.
        let ticket = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let message = format!(
                "{} is not a broker's ticket: {}",
                path.display(),
                error.message()
            );
            Problem::usage(message).advise(NEW_TICKET)
        });
        Ok(Some(ticket?))
    }

    fn advertise(&self, listen: SocketAddr) -> anyhow::Result<Option<String>> {
        let Some(text) = &self.advertise else {
            return match listen.ip().is_unspecified() && self.ticket.is_some() {
                false => Ok(None),
                true => Err(Problem::usage(format!(
                    "[cluster] advertise is missing: nobody reaches a broker at {listen}"
                ))
                .into()),
            };
        };
        let address = parse_advertised(text)
            .map_err(|error| Problem::usage(format!("[cluster] advertise: {error}")))?;
        Ok(Some(address.to_string()))
    }

    fn rack(&self) -> anyhow::Result<Option<String>> {
        let rack = self.rack.as_deref().map(parse_rack).transpose();
        rack.map_err(|error| Problem::usage(format!("[cluster] rack: {error}")).into())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkersSection {
    /// `None`: one for each processor.
    threads: Option<usize>,
    /// `None`: the usual.
    state_overlay_bytes: Option<usize>,
    /// `None`: the usual.
    table_bytes: Option<u64>,
    compile_time_ms: Option<u64>,
    compile_memory_bytes: Option<u64>,
}

impl WorkersSection {
    fn compile_limits(&self) -> anyhow::Result<CompileLimits> {
        let usual = CompileLimits::default();
        if self.compile_time_ms == Some(0) || self.compile_memory_bytes == Some(0) {
            return Err(Problem::usage(
                "[workers] compile_time_ms and compile_memory_bytes are at least 1",
            )
            .into());
        }
        Ok(CompileLimits {
            time: self
                .compile_time_ms
                .map_or(usual.time, Duration::from_millis),
            memory_bytes: self.compile_memory_bytes.unwrap_or(usual.memory_bytes),
            ..usual
        })
    }
}

/// [`TransportConfig`], durations in milliseconds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct TransportSection {
    mtu_upper_bound: u16,
    socket_buffer_bytes: usize,
    stream_receive_window_bytes: u32,
    connection_receive_window_bytes: u32,
    send_window_bytes: u64,
    keep_alive_interval_ms: u64,
    max_idle_timeout_ms: u64,
    connect_timeout_ms: u64,
    max_streams: u32,
    max_incoming: usize,
    retry_above_handshakes: usize,
    max_connections: usize,
}

fn default_log_level() -> LogLevel {
    LogLevel::Info
}

fn default_tail_cache_bytes() -> usize {
    64 << 20
}

impl Default for TransportSection {
    fn default() -> Self {
        let usual = TransportConfig::server();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            mtu_upper_bound: usual.mtu_upper_bound,
            socket_buffer_bytes: usual.socket_buffer_bytes,
            stream_receive_window_bytes: usual.stream_receive_window_bytes,
            connection_receive_window_bytes: usual.connection_receive_window_bytes,
            send_window_bytes: usual.send_window_bytes,
            keep_alive_interval_ms: ms(usual.keep_alive_interval),
            max_idle_timeout_ms: ms(usual.max_idle_timeout),
            connect_timeout_ms: ms(usual.connect_timeout),
            max_streams: usual.max_streams,
            max_incoming: usual.max_incoming,
            retry_above_handshakes: usual.retry_above_handshakes,
            max_connections: usual.max_connections,
        }
    }
}

impl TransportSection {
    fn validate(&self) -> anyhow::Result<TransportConfig> {
        let config = TransportConfig {
            mtu_upper_bound: self.mtu_upper_bound,
            socket_buffer_bytes: self.socket_buffer_bytes,
            stream_receive_window_bytes: self.stream_receive_window_bytes,
            connection_receive_window_bytes: self.connection_receive_window_bytes,
            send_window_bytes: self.send_window_bytes,
            keep_alive_interval: Duration::from_millis(self.keep_alive_interval_ms),
            max_idle_timeout: Duration::from_millis(self.max_idle_timeout_ms),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            max_streams: self.max_streams,
            max_incoming: self.max_incoming,
            retry_above_handshakes: self.retry_above_handshakes,
            max_connections: self.max_connections,
            network: Network::default(),
        };
        config
            .validate()
            .map_err(|error| Problem::usage(format!("[transport]: {error}")))?;
        Ok(config)
    }
}

impl ServerConfig {
    /// Reads a configuration file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read("configuration file", path)?;
        let file = toml::from_str(&text)
            .map_err(|error| anyhow::Error::from(error).context(unusable(path)))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    pub(super) fn log_level(&self) -> LogLevel {
        self.file.log_level
    }

    /// Checks every value, and loads the identity that is named.
    pub(super) fn check(self) -> anyhow::Result<BrokerConfig> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let checked = self.file.check(folder);
        checked.map_err(|error| error.context(unusable(&self.path)))
    }
}

fn unusable(path: &Path) -> Problem {
    let message = format!("the configuration file {} cannot be used", path.display());
    Problem::usage(message).advise("`millstream server --print-default-config` shows every setting")
}

fn read(what: &str, path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let cannot_read = || format!("cannot read the {what} {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(cannot_read)?;
    file.take(MAX_CONFIG_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(cannot_read)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Problem::usage(format!("{} is larger than a {what}", path.display())).into());
    }
    Ok(text)
}

impl ConfigFile {
    fn check(self, folder: &Path) -> anyhow::Result<BrokerConfig> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(Problem::usage("data_dir is empty").into());
        }
        let threads = self.workers.threads;
        if threads.is_some_and(|threads| !(1..=MAX_WORKER_THREADS).contains(&threads)) {
            return Err(Problem::usage(format!(
                "[workers] threads is not between 1 and {MAX_WORKER_THREADS}"
            ))
            .into());
        }
        let catch_up = self.cluster.catch_up_bytes_per_second;
        if catch_up.is_some_and(|it| it.get() < MIN_CATCH_UP_BYTES_PER_SECOND) {
            return Err(Problem::usage(format!(
                "[cluster] catch_up_bytes_per_second is less than {MIN_CATCH_UP_BYTES_PER_SECOND}, which a follower \
                 is sent at once"
            ))
            .into());
        }
        let compile_limits = self.workers.compile_limits()?;
        let transport = self.transport.validate()?;
        let ticket = self.cluster.ticket(folder)?;
        let advertise = self.cluster.advertise(self.listen)?;
        let rack = self.cluster.rack()?;
        let IdentitySection {
            certificate,
            key,
            ca,
        } = self.identity;
        let identity = Identity::load(
            &folder.join(certificate),
            &folder.join(key),
            &folder.join(ca),
        )?;
        let principal = identity.principal();
        if !principal.role.accepts() {
            return Err(Problem::usage(format!(
                "[identity] is {principal}, which may not accept connections"
            ))
            .into());
        }
        let mut broker = BrokerConfig::new(folder.join(self.data_dir), self.listen, identity);
        broker.ticket = ticket;
        broker.advertise = advertise;
        broker.rack = rack;
        broker.catch_up_bytes_per_second = catch_up;
        broker.transport = transport;
        broker.tail_cache_bytes = self.tail_cache_bytes;
        broker.worker_threads = threads.unwrap_or(broker.worker_threads);
        let overlay_bytes = self.workers.state_overlay_bytes;
        broker.state_overlay_bytes = overlay_bytes.unwrap_or(broker.state_overlay_bytes);
        let table_bytes = self.workers.table_bytes;
        broker.table_bytes = table_bytes.unwrap_or(broker.table_bytes);
        broker.compiler = compiler::this_program(compile_limits)?;
        Ok(broker)
    }
}

#[cfg(test)]
mod tests;

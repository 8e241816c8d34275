//! A broker's place: an address, a folder and a disk, and the software that runs there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_broker::cluster::ticket::Ticket;
use millstream_broker::{Broker, BrokerConfig};
use millstream_log::storage::{MemoryStorage, Storage};
use millstream_protocol::TopicPartition;
use millstream_transport::identity::IssuedIdentity;
use millstream_transport::{Network, TransportConfig};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::network::Simulated;
use crate::trace::Trace;

/// Where every broker listens.
pub(crate) const PORT: u16 = 7_070;

/// What a sync takes.
const SYNC_DELAY: Duration = Duration::from_millis(2);

/// Where the temporary folders are made, if that is there: in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// One broker's.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    identity: IssuedIdentity,
    folder: TempDir,
    disk: Mutex<MemoryStorage>,
    /// What lets it in, once it is there; the first broker needs none.
    pub(crate) ticket: watch::Sender<Option<Ticket>>,
    is_first: bool,
    /// Set when all is over.
    stop: watch::Receiver<bool>,
    trace: Arc<Trace>,
}

impl Place {
    pub(crate) fn new(
        number: u32,
        ip: IpAddr,
        identity: IssuedIdentity,
        stop: watch::Receiver<bool>,
        trace: Arc<Trace>,
    ) -> Self {
        let made = match Path::new(SHARED_MEMORY).is_dir() {
            true => tempfile::tempdir_in(SHARED_MEMORY),
            false => tempfile::tempdir(),
        };
        let folder = made.expect("a temporary folder");
        Self {
            name: name(number),
            address: (ip, PORT).into(),
            identity,
            disk: Mutex::new(disk_with(folder.path())),
            folder,
            ticket: watch::Sender::new(None),
            is_first: number == 1,
            stop,
            trace,
        }
    }

    /// Its disk, as it is now.
    pub(crate) fn disk(&self) -> MemoryStorage {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.clone()
    }

    /// The end of the process: what was written is there. Nobody may have the disk open.
    pub(crate) fn killed(&self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        *disk = disk.kill();
    }

    /// The end of the power: of what was not synced anything may be there.
    pub(crate) fn lost_power(&self, seed: u64) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        *disk = disk.crash(seed);
    }

    /// Where a partition's log is.
    pub(crate) fn log_dir(&self, id: TopicPartition) -> PathBuf {
        let topics = self.folder.path().join("topics");
        let topic = topics.join(id.topic_id.to_string());
        topic.join(id.partition.to_string())
    }

    /// Runs a broker until it is told to stop, or stops by itself.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let mut tickets = self.ticket.subscribe();
        let ticket = match self.is_first {
            true => None,
            false => tickets.wait_for(Option::is_some).await?.clone(),
        };
        let listen = (Ipv4Addr::UNSPECIFIED, PORT).into();
        let mut config = BrokerConfig::new(self.folder.path(), listen, self.identity.identity()?);
        config.advertise = Some(self.address.to_string());
        config.rack = Some(format!("rack-of-{}", self.name));
        config.ticket = ticket;
        config.storage = Arc::new(self.disk());
        config.sync_delay = Some(SYNC_DELAY);
        config.transport = transport(TransportConfig::server());
        let mut broker = match Broker::start(config).await {
            Ok(broker) => broker,
            Err(error) => {
                // What it says names a temporary folder: that is not the same each time.
                self.trace
                    .event(format_args!("{} does not start", self.name));
                tracing::warn!("{} does not start: {error}", self.name);
                return Ok(());
            }
        };
        self.trace.event(format_args!("{} is ready", self.name));
        let mut stop = self.stop.clone();
        let failed = tokio::select! {
            error = broker.failed() => Some(error),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        match failed {
            Some(error) => {
                self.trace.event(format_args!("{} has stopped", self.name));
                tracing::warn!("{} has stopped: {error}", self.name);
            }
            None => broker.stop().await?,
        }
        Ok(())
    }
}

/// What a host is called.
pub(crate) fn name(number: u32) -> String {
    format!("broker-{number}")
}

/// These settings, on the simulated network.
pub(crate) fn transport(config: TransportConfig) -> TransportConfig {
    TransportConfig {
        network: Network::of(Simulated),
        ..config
    }
}

/// A disk with a data directory's folders, as a broker finds them.
fn disk_with(folder: &Path) -> MemoryStorage {
    let disk = MemoryStorage::new();
    let topics = folder.join("topics");
    let mut folders: Vec<&Path> = topics.ancestors().collect();
    folders.reverse();
    for (parent, folder) in folders.iter().zip(&folders[1..]) {
        disk.create_dir(folder).expect("a folder");
        disk.sync_dir(parent).expect("a folder");
    }
    disk
}

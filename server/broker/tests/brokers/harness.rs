//! Brokers of one cluster in this process, each with a folder and an address of its own.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use millstream::{Client, ClientBuilder, Identity};
use millstream_broker::cluster::ticket::Ticket;
use millstream_broker::{Broker, BrokerConfig, StartError};
use millstream_protocol::api::cluster::IssueTicket;
use millstream_transport::identity::Authority;
use millstream_transport::principal::Role;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether something is so.
const LOOKED_EVERY: Duration = Duration::from_millis(20);

/// A broker, running or not.
pub(crate) struct Node {
    pub(crate) number: u32,
    pub(crate) address: SocketAddr,
    pub(crate) broker: Option<Broker>,
    ticket: Option<Ticket>,
    folder: TempDir,
}

/// The rack of a broker: each has its own.
pub(crate) fn rack(number: u32) -> String {
    format!("rack-{number}")
}

/// The brokers of a cluster, and who has issued their certificates.
pub(crate) struct Cluster {
    authority: Authority,
    pub(crate) nodes: Vec<Node>,
}

/// An address that nobody listens on. It stays a broker's own when that starts again.
fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

impl Cluster {
    /// Starts so many brokers, one after the other.
    pub(crate) async fn start(brokers: u32) -> Self {
        // What they log, if a filter is given: `MILLSTREAM_LOG=millstream=debug`.
        let filter = tracing_subscriber::EnvFilter::from_env("MILLSTREAM_LOG");
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_test_writer();
        // Another test of the process may have done so.
        let _ = log.try_init();
        let mut cluster = Self {
            authority: Authority::create("test").unwrap(),
            nodes: Vec::new(),
        };
        for _ in 0..brokers {
            cluster.add().await;
        }
        cluster
    }

    /// Lets one more broker in.
    pub(crate) async fn add(&mut self) {
        let ticket = match self.nodes.is_empty() {
            true => None,
            false => {
                let client = self.client(0).await;
                let request = IssueTicket { valid_ms: 60_000 };
                let issued = client.admin().issue_ticket(request).await.unwrap();
                Some(Ticket::from(issued))
            }
        };
        let number = self.nodes.len() as u32 + 1;
        let mut node = Node {
            number,
            address: free_address(),
            broker: None,
            ticket,
            folder: tempfile::tempdir().unwrap(),
        };
        node.start(&self.authority).await.unwrap();
        self.nodes.push(node);
    }

    /// Starts a broker again.
    pub(crate) async fn restart(&mut self, index: usize) {
        self.try_restart(index).await.unwrap();
    }

    /// The same, where that may be refused.
    pub(crate) async fn try_restart(&mut self, index: usize) -> Result<(), StartError> {
        self.nodes[index].start(&self.authority).await
    }

    /// Starts two brokers again that may need each other for it; the first has the lower index.
    pub(crate) async fn restart_two(&mut self, first: usize, second: usize) {
        let (before, rest) = self.nodes.split_at_mut(second);
        let first = before[first].start(&self.authority);
        let (first, second) = tokio::join!(first, rest[0].start(&self.authority));
        first.unwrap();
        second.unwrap();
    }

    /// Waits until all of three brokers vote in the metadata quorum.
    pub(crate) async fn all_vote(&self) {
        self.all_vote_of(3).await;
    }

    /// The same of so many.
    pub(crate) async fn all_vote_of(&self, brokers: usize) {
        let client = self.client(0).await;
        until("all vote", async || {
            let described = client.admin().describe_cluster().await.ok()?;
            let members = described.quorum.members;
            (members.iter().filter(|it| it.votes).count() == brokers).then_some(())
        })
        .await;
    }

    /// A client of one of the brokers.
    pub(crate) async fn client(&self, index: usize) -> Client {
        self.client_builder(index).connect().await.unwrap()
    }

    /// The settings of one.
    pub(crate) fn client_builder(&self, index: usize) -> ClientBuilder {
        Client::builder()
            .address(self.nodes[index].address.to_string())
            .server_name("localhost")
            .identity(self.identity(Role::Client, "tester"))
    }

    /// The brokers that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|index| self.nodes[*index].broker.is_some())
            .collect()
    }

    /// Stops all of them at once: the last of several would wait for the others.
    pub(crate) async fn stop(mut self) {
        join_all(self.nodes.iter_mut().map(Node::stop)).await;
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        identity(&self.authority, role, name)
    }
}

fn identity(authority: &Authority, role: Role, name: &str) -> Identity {
    let hosts: &[&str] = match role {
        Role::Client => &[],
        Role::Server | Role::Broker => &["localhost", "127.0.0.1"],
    };
    authority
        .issue(role, name, hosts)
        .unwrap()
        .identity()
        .unwrap()
}

impl Node {
    async fn start(&mut self, authority: &Authority) -> Result<(), StartError> {
        let name = format!("broker-{}", self.number);
        let identity = identity(authority, Role::Broker, &name);
        let mut config = BrokerConfig::new(self.folder.path(), self.address, identity);
        config.ticket = self.ticket.clone();
        config.rack = Some(rack(self.number));
        self.broker = Some(Broker::start(config).await?);
        Ok(())
    }

    /// Where its data is.
    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Gives it an empty disk.
    pub(crate) fn wipe(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
    }

    /// Stops it, as a signal would.
    pub(crate) async fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop().await.unwrap();
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = interval(LOOKED_EVERY);
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(found) = found().await {
                return found;
            }
        }
    };
    let found = timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("it never came to this: {what}"))
}

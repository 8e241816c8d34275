//! A broker of a few hundred lines, in memory: enough of the protocol to test a client against, and
//! faults on demand. It keeps its state when it is restarted.
//!
//! Several make a cluster. They share one state, as if everything were replicated at once; what differs
//! is who leads a partition, who can be reached, and who was asked.

mod cluster;
mod fetch;
mod group;
mod log;
mod produce;
mod serve;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream::{Client, ClientBuilder, ErrorCode, Offset, TopicConfig, WireError};
use millstream_protocol::api::Request;
use millstream_protocol::api::cluster::BrokerAddress;
use millstream_protocol::api::fetch::OpenFetch;
use millstream_transport::identity::{Authority, IssuedIdentity};
use millstream_transport::{CloseCode, Connection, Role};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use cluster::Cluster;
pub(crate) use group::{Group, named};
pub(crate) use log::{Partition, Topic, batch};
pub(crate) use wire::Wire;

/// How long a test waits for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The test's hold on a broker.
pub(crate) struct Broker {
    number: u32,
    authority: Arc<Authority>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the broker's tasks share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told after every change of the state.
    changed: watch::Sender<()>,
}

/// Everything the broker knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) faults: Faults,
    /// What clients are told of brokers.
    pub(crate) listed: Vec<BrokerAddress>,
    /// The racks of brokers that have one.
    pub(crate) racks: BTreeMap<u32, String>,
    /// Brokers that have replicas of everything, and those of them whose replicas do not count. If there
    /// are none, who leads has the only one.
    pub(crate) replicas: Vec<u32>,
    pub(crate) untrusted: Vec<u32>,
    /// Brokers that are as if they were not there.
    pub(crate) down: BTreeSet<u32>,
    /// Brokers that let no client in, though other brokers reach them.
    pub(crate) hidden: BTreeSet<u32>,
    /// Brokers that are still starting.
    pub(crate) starting: BTreeSet<u32>,
    /// Brokers that have not heard of any topic yet.
    pub(crate) unaware: BTreeSet<u32>,
    /// The requests that came, and to which brokers, in order.
    pub(crate) requests: Vec<(u32, Request)>,
    pub(crate) hello_count: u32,
    pub(crate) fetch_streams: u32,
    /// Produce and fetch streams open now, and the most there were at once.
    pub(crate) open_fetches: Vec<OpenFetch>,
    /// The brokers at which the open fetches are, in the same order.
    pub(crate) fetched_at: Vec<u32>,
    pub(crate) produce_streams: usize,
    pub(crate) max_produce_streams: usize,
    pub(crate) next_producer_id: u64,
    /// Components deployed, by name.
    pub(crate) deployments: BTreeMap<String, (millstream::DeploymentSpec, Bytes)>,
    connections: Vec<(u32, Connection)>,
}

/// What is to go wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Requests for what other brokers lead are refused, and not passed on.
    pub(crate) no_forwarding: bool,
    /// Fetch streams go on when another broker leads.
    pub(crate) fetch_from_followers: bool,
    /// Produce streams are opened and not read.
    pub(crate) deaf: bool,
    /// The same at this broker alone.
    pub(crate) deaf_at: Option<u32>,
    /// Batches are appended and not acknowledged.
    pub(crate) silent: bool,
    /// The connection dies after so many appends, before the last is acknowledged; again and again.
    pub(crate) die_after_appends: Option<u64>,
    /// The next batches are refused so, one each.
    pub(crate) refuse_batches: VecDeque<WireError>,
    /// The next produce streams are refused so, one each.
    pub(crate) refuse_produce: VecDeque<WireError>,
    /// The next fetch streams are refused so, one each.
    pub(crate) refuse_fetch: VecDeque<WireError>,
    /// The next group streams are refused so, one each.
    pub(crate) refuse_group: VecDeque<WireError>,
    /// The next unary requests are refused so, one each.
    pub(crate) refuse_unary: VecDeque<WireError>,
    /// The answers to the next so many unary requests are lost with the connection, after the
    /// requests were carried out.
    pub(crate) lose_answers: u32,
    /// The handshake is refused so.
    pub(crate) refuse_hello: Option<WireError>,
    pub(crate) appends: u64,
}

impl Faults {
    /// Whether a broker does not read what is produced.
    fn is_deaf(&self, broker: u32) -> bool {
        self.deaf || self.deaf_at == Some(broker)
    }
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Cluster::start(1).await.into_first()
    }

    /// Stops as if the process were killed, until [`Broker::come_back`]. The state stays.
    pub(crate) fn stop(&self) {
        self.shared.change(|state| state.down.insert(self.number));
        self.kill_connections();
    }

    pub(crate) fn come_back(&self) {
        self.shared.change(|state| state.down.remove(&self.number));
    }

    /// Ends all of its connections; new ones are accepted.
    pub(crate) fn kill_connections(&self) {
        let all = std::mem::take(&mut self.state().connections);
        let (mine, others) = all.into_iter().partition(|(at, _)| *at == self.number);
        let mine: Vec<(u32, Connection)> = mine;
        self.state().connections.extend::<Vec<_>>(others);
        for (_, connection) in mine {
            connection.close(CloseCode::Dropped, "killed by the test");
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// A client's certificate and key.
    pub(crate) fn issued(&self) -> IssuedIdentity {
        self.authority.issue(Role::Client, "tester", &[]).unwrap()
    }

    pub(crate) fn client_builder(&self) -> ClientBuilder {
        Client::builder()
            .address(self.address())
            .server_name("localhost")
            .identity(self.issued().identity().unwrap())
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_builder().connect().await.unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Changes the faults, and tells those who wait behind one.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.change(|state| change(&mut state.faults));
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: u32) {
        let topic = Topic::new(partitions, TopicConfig::default());
        self.shared
            .change(|state| state.topics.insert(name.to_owned(), topic));
    }

    pub(crate) fn partition(
        &self,
        topic: &str,
        partition: usize,
    ) -> MappedMutexGuard<'_, Partition> {
        MutexGuard::map(self.state(), |state| {
            &mut state.topics.get_mut(topic).unwrap().partitions[partition]
        })
    }

    /// Appends a batch with these values.
    pub(crate) fn append<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: usize,
        values: impl IntoIterator<Item = V>,
    ) {
        let batch = log::batch(values);
        self.append_raw(topic, partition, batch);
    }

    /// Appends a batch as it is.
    pub(crate) fn append_raw(&self, topic: &str, partition: usize, batch: Bytes) {
        self.shared.change(|state| {
            state.topics.get_mut(topic).unwrap().partitions[partition].append(batch)
        });
    }

    /// Waits until `condition` gives something.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        condition: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        let waited = tokio::time::timeout(PATIENCE, self.shared.until(condition)).await;
        waited.unwrap_or_else(|_| panic!("waited in vain until {what}"))
    }
}

impl Shared {
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.send_replace(());
        changed
    }

    pub(crate) async fn until<T>(&self, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = condition(&mut self.state.lock()) {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }
}

impl State {
    pub(crate) fn topic(&mut self, name: &str) -> Result<&mut Topic, WireError> {
        self.topics
            .get_mut(name)
            .ok_or_else(|| error(ErrorCode::UnknownTopic, &format!("unknown topic {name}")))
    }

    pub(crate) fn partition(
        &mut self,
        topic: &str,
        partition: u32,
    ) -> Result<&mut Partition, WireError> {
        let unknown = || {
            error(
                ErrorCode::UnknownPartition,
                &format!("unknown partition {topic}-{partition}"),
            )
        };
        self.topic(topic)?
            .partitions
            .get_mut(partition as usize)
            .ok_or_else(unknown)
    }

    /// How often a request of this kind came.
    pub(crate) fn count(&self, kind: impl Fn(&Request) -> bool) -> usize {
        let requests = self.requests.iter().map(|(_, request)| request);
        requests.filter(|request| kind(request)).count()
    }

    /// The brokers that requests of this kind came to, in order.
    pub(crate) fn asked(&self, kind: impl Fn(&Request) -> bool) -> Vec<u32> {
        let asked = self.requests.iter().filter(|(_, request)| kind(request));
        asked.map(|(broker, _)| *broker).collect()
    }

    /// Who serves a partition to a client of the broker `at`: its leader, if it can be reached from
    /// there.
    fn leader(&mut self, at: u32, topic: &str, partition: u32) -> Result<u32, WireError> {
        let leader = self.partition(topic, partition)?.leader;
        if self.unaware.contains(&leader) {
            return Err(error(ErrorCode::UnknownTopic, "not heard of yet"));
        }
        if leader != at && self.faults.no_forwarding {
            return Err(error(ErrorCode::NotLeader, "another broker leads"));
        }
        if self.down.contains(&leader) {
            return Err(error(ErrorCode::NotReady, "the leader cannot be reached"));
        }
        Ok(leader)
    }
}

pub(crate) fn error(code: ErrorCode, message: &str) -> WireError {
    WireError::new(code, message)
}

pub(crate) fn topic_id() -> millstream::TopicId {
    millstream::TopicId(Uuid::new_v4())
}

/// The offsets `0..count`.
pub(crate) fn offsets(count: Offset) -> Vec<Offset> {
    (0..count).collect()
}

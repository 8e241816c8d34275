//! A broker of a few hundred lines, in memory: enough of the protocol to test a client against, and
//! faults on demand. It keeps its state when it is restarted.

mod fetch;
mod group;
mod log;
mod produce;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream::{Client, ClientBuilder, ErrorCode, Offset, TopicConfig, WireError};
use millstream_protocol::api::Request;
use millstream_protocol::api::fetch::OpenFetch;
use millstream_transport::identity::{Authority, IssuedIdentity};
use millstream_transport::{CloseCode, Connection, Listener, Role, TransportConfig};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use group::{Group, named};
pub(crate) use log::{Partition, Topic, batch};

/// How long a test waits for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The broker and the test's hold on it.
pub(crate) struct Broker {
    authority: Authority,
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
    /// The requests that came, in order.
    pub(crate) requests: Vec<Request>,
    pub(crate) hello_count: u32,
    pub(crate) fetch_streams: u32,
    /// Produce and fetch streams open now, and the most there were at once.
    pub(crate) open_fetches: Vec<OpenFetch>,
    pub(crate) produce_streams: usize,
    pub(crate) max_produce_streams: usize,
    pub(crate) next_producer_id: u64,
    /// Components deployed, by name.
    pub(crate) deployments: BTreeMap<String, (millstream::DeploymentSpec, Bytes)>,
    connections: Vec<Connection>,
}

/// What is to go wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Nobody is let in.
    pub(crate) down: bool,
    /// Produce streams are opened and not read.
    pub(crate) deaf: bool,
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

impl Broker {
    pub(crate) async fn start() -> Self {
        let authority = Authority::create("test").unwrap();
        let server = authority
            .issue(Role::Server, "broker-1", &["localhost"])
            .unwrap()
            .identity()
            .unwrap();
        let state = State {
            fetch_streams: 8,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        });
        let listener = Listener::bind(
            "127.0.0.1:0".parse().unwrap(),
            &server,
            TransportConfig::server(),
        )
        .unwrap();
        let address = listener.local_addr();
        tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Self {
            authority,
            address,
            shared,
        }
    }

    /// Stops as if the process were killed, until [`Broker::come_back`]. The state stays.
    pub(crate) fn stop(&self) {
        self.faults(|faults| faults.down = true);
        self.kill_connections();
    }

    pub(crate) fn come_back(&self) {
        self.faults(|faults| faults.down = false);
    }

    /// Ends all connections; new ones are accepted.
    pub(crate) fn kill_connections(&self) {
        let connections = std::mem::take(&mut self.state().connections);
        connections
            .iter()
            .for_each(|connection| connection.close(CloseCode::Dropped, "killed by the test"));
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
        self.requests.iter().filter(|request| kind(request)).count()
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

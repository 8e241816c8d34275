//! Several brokers that share one state.

use std::sync::Arc;

use millstream::ClientBuilder;
use millstream_protocol::api::cluster::BrokerAddress;
use millstream_transport::identity::Authority;
use millstream_transport::{Listener, Role, TransportConfig};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Broker, Shared, State, serve};

/// Brokers with the numbers from 1 on. The first one leads new partitions.
pub(crate) struct Cluster {
    brokers: Vec<Broker>,
}

impl Cluster {
    pub(crate) async fn start(brokers: u32) -> Self {
        let state = State {
            fetch_streams: 8,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        });
        let authority = Arc::new(Authority::create("test").unwrap());
        let brokers = (1..=brokers).map(|number| start(number, &authority, &shared));
        Self {
            brokers: brokers.collect(),
        }
    }

    pub(super) fn into_first(mut self) -> Broker {
        self.brokers.remove(0)
    }

    /// The broker of this number.
    pub(crate) fn broker(&self, number: u32) -> &Broker {
        &self.brokers[number as usize - 1]
    }

    /// A client that is given the address of the first broker alone.
    pub(crate) fn client_builder(&self) -> ClientBuilder {
        self.broker(1).client_builder()
    }

    /// Makes a topic whose partitions are led by these brokers.
    pub(crate) fn create_topic(&self, name: &str, leaders: &[u32]) {
        let broker = self.broker(1);
        broker.create_topic(name, leaders.len() as u32);
        for (partition, leader) in leaders.iter().enumerate() {
            broker.partition(name, partition).leader = *leader;
        }
    }

    /// Another broker leads a partition from now on.
    pub(crate) fn lead(&self, topic: &str, partition: usize, leader: u32) {
        self.broker(1).shared.change(|state| {
            let partition = &mut state.topics.get_mut(topic).unwrap().partitions[partition];
            partition.leader = leader;
            partition.leader_epoch += 1;
        });
    }

    /// No client can connect to a broker from now on. Its connections are gone.
    pub(crate) fn hide(&self, number: u32) {
        self.broker(1)
            .shared
            .change(|state| state.hidden.insert(number));
        self.broker(number).kill_connections();
    }

    /// Clients can connect to it again.
    pub(crate) fn show(&self, number: u32) {
        self.broker(1)
            .shared
            .change(|state| state.hidden.remove(&number));
    }

    /// A broker has not heard of any topic.
    pub(crate) fn unaware(&self, number: u32) {
        self.broker(1)
            .shared
            .change(|state| state.unaware.insert(number));
    }

    /// It has now.
    pub(crate) fn aware(&self, number: u32) {
        self.broker(1)
            .shared
            .change(|state| state.unaware.remove(&number));
    }

    /// From now on clients are told that a broker is gone.
    pub(crate) fn gone(&self, number: u32) {
        self.broker(1).shared.change(|state| {
            let listed = state.listed.iter_mut();
            let broker = listed.filter(|listed| listed.broker_id == number);
            broker.for_each(|listed| listed.is_live = false);
        });
    }

    /// From now on clients are told this of where a broker is.
    pub(crate) fn list_at(&self, number: u32, address: &str) {
        let address = BrokerAddress {
            broker_id: number,
            address: address.to_owned(),
            is_live: true,
        };
        self.broker(1).shared.change(|state| {
            state.listed.retain(|listed| listed.broker_id != number);
            state.listed.push(address);
        });
    }
}

fn start(number: u32, authority: &Arc<Authority>, shared: &Arc<Shared>) -> Broker {
    let name = format!("broker-{number}");
    let server = authority.issue(Role::Server, &name, &["localhost"]);
    let identity = server.unwrap().identity().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, &identity, TransportConfig::server()).unwrap();
    let address = listener.local_addr();
    shared.change(|state| {
        state.listed.push(BrokerAddress {
            broker_id: number,
            address: address.to_string(),
            is_live: true,
        });
    });
    tokio::spawn(serve::accept(listener, number, Arc::clone(shared)));
    Broker {
        number,
        authority: Arc::clone(authority),
        address,
        shared: Arc::clone(shared),
    }
}

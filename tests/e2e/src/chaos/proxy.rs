//! What stands between brokers: UDP that loses, delays, reorders and repeats datagrams, and cuts ways in one
//! direction or both.
//!
//! One [`Proxy`] stands in front of each broker, whose address others are told. Who sends is found out by whose
//! process the sending port is: a broker's, or a client's.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::random::Random;

/// What no datagram exceeds.
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// Datagrams of one direction of one flow that may be held back at a time: more are lost, as on a router.
const MAX_HELD: usize = 4_096;

/// Who sends or receives: a broker by its number, or clients.
pub type Party = usize;

/// All clients.
pub const CLIENTS: Party = 0;

/// How datagrams fare everywhere, out of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// So many are lost.
    pub lost: u64,
    /// So many arrive twice.
    pub repeated: u64,
    /// So many are held back, for up to `held_for`: later ones overtake them.
    pub held: u64,
    /// The longest that one is held back.
    pub held_for: Duration,
    /// What every datagram takes.
    pub delay: Duration,
}

/// What all proxies of a cluster know.
#[derive(Debug)]
pub struct Network {
    state: Mutex<State>,
    passed: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    random: Random,
    weather: Weather,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(Party, Party)>,
    /// The processes of the brokers, by number.
    processes: HashMap<u32, Party>,
}

/// What becomes of a datagram.
enum Fate {
    Lost,
    /// When its copies arrive.
    Arrives(Instant, Option<Instant>),
}

impl Network {
    /// Fair weather, and nothing is cut.
    pub fn seeded(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random: Random::seeded(seed),
                weather: Weather::default(),
                cut: BTreeSet::new(),
                processes: HashMap::new(),
            }),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker's process from now on.
    pub fn is_process_of(&self, process_id: u32, broker: Party) {
        let mut state = self.state();
        state.processes.retain(|_, known| *known != broker);
        state.processes.insert(process_id, broker);
    }

    /// The weather changes.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Nothing gets from one to the other from now on.
    pub fn cut(&self, from: Party, to: Party) {
        self.state().cut.insert((from, to));
    }

    /// Everything gets through again.
    pub fn mend(&self) {
        self.state().cut.clear();
    }

    /// How many datagrams got through, and how many did not.
    pub fn counts(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.passed), count(&self.lost))
    }

    fn fate(&self, from: Party, to: Party) -> Fate {
        let fate = self.state().fate(from, to);
        let count = match fate {
            Fate::Lost => &self.lost,
            Fate::Arrives(..) => &self.passed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        fate
    }

    /// Whose socket this is.
    fn owner(&self, address: SocketAddr) -> Party {
        let processes = self.state().processes.clone();
        let Some(inode) = inode_of(address.port()) else {
            return CLIENTS;
        };
        let mut owners = processes.into_iter();
        let owner = owners.find(|(process_id, _)| has_socket(*process_id, &inode));
        owner.map_or(CLIENTS, |(_, broker)| broker)
    }
}

impl State {
    fn fate(&mut self, from: Party, to: Party) -> Fate {
        let Weather {
            lost,
            repeated,
            held,
            held_for,
            delay,
        } = self.weather;
        let random = &mut self.random;
        let mut happens = |often: u64| random.between(0..1_000) < often;
        if self.cut.contains(&(from, to)) || happens(lost) {
            return Fate::Lost;
        }
        let (held, repeated) = (happens(held), happens(repeated));
        let micros = held_for.as_micros() as u64 + 1;
        let mut later = || Duration::from_micros(random.between(0..micros));
        let now = Instant::now() + delay;
        let arrives = match held {
            true => now + later(),
            false => now,
        };
        Fate::Arrives(arrives, repeated.then(|| now + later()))
    }
}

/// The inode of the UDP socket that has this port (Linux).
fn inode_of(port: u16) -> Option<String> {
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let mut lines = tables.iter().flat_map(|table| table.lines());
    let line = lines.find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next()?.ends_with(&port).then_some(line)
    });
    line?.split_whitespace().nth(9).map(str::to_owned)
}

fn has_socket(process_id: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let open = fs::read_dir(format!("/proc/{process_id}/fd"));
    let open = open.into_iter().flatten().filter_map(Result::ok);
    let mut files = open.filter_map(|file| fs::read_link(file.path()).ok());
    files.any(|file| file.as_os_str() == socket.as_str())
}

/// Stands in front of one broker until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of a broker that listens, or is to listen, there.
    pub async fn to(network: &Arc<Network>, broker: Party, listens: SocketAddr) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let front = Arc::new(front.expect("a free port"));
        let address = front.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(Arc::clone(network), broker, front, listens));
        Self {
            address,
            _tasks: tasks,
        }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One sender's way to the broker, and back.
struct Flow {
    party: Party,
    socket: Arc<UdpSocket>,
}

async fn serve(network: Arc<Network>, broker: Party, front: Arc<UdpSocket>, listens: SocketAddr) {
    let mut back = JoinSet::new();
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut held: Held<SocketAddr> = Held::default();
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            received = front.recv_from(&mut datagram) => received,
            (bytes, from) = held.due() => {
                if let Some(flow) = flows.get(&from) {
                    // Nobody listens: then it is lost.
                    let _ = flow.socket.send(&bytes).await;
                }
                continue;
            }
        };
        // An error says that somebody did not listen a moment ago.
        let Ok((bytes, from)) = received else {
            continue;
        };
        let flow = match flows.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let socket = Arc::new(socket.expect("a free port"));
                socket.connect(listens).await.expect("an address");
                let party = network.owner(from);
                let to = Way {
                    network: Arc::clone(&network),
                    from: broker,
                    to: party,
                };
                back.spawn(pass_back(to, Arc::clone(&socket), Arc::clone(&front), from));
                new.insert(Flow { party, socket })
            }
        };
        let Fate::Arrives(at, again) = network.fate(flow.party, broker) else {
            continue;
        };
        let datagram = &datagram[..bytes];
        if at <= Instant::now() {
            let _ = flow.socket.send(datagram).await;
        } else {
            held.push(at, datagram, from);
        }
        if let Some(again) = again {
            held.push(again, datagram, from);
        }
    }
}

/// A direction.
struct Way {
    network: Arc<Network>,
    from: Party,
    to: Party,
}

async fn pass_back(way: Way, back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr) {
    let mut held: Held<()> = Held::default();
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            received = back.recv(&mut datagram) => received,
            (bytes, ()) = held.due() => {
                let _ = front.send_to(&bytes, to).await;
                continue;
            }
        };
        let Ok(bytes) = received else { continue };
        let Fate::Arrives(at, again) = way.network.fate(way.from, way.to) else {
            continue;
        };
        let datagram = &datagram[..bytes];
        if at <= Instant::now() {
            let _ = front.send_to(datagram, to).await;
        } else {
            held.push(at, datagram, ());
        }
        if let Some(again) = again {
            held.push(again, datagram, ());
        }
    }
}

/// Datagrams that arrive later.
struct Held<T> {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: HashMap<u64, (Vec<u8>, T)>,
    number: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            order: BinaryHeap::new(),
            datagrams: HashMap::new(),
            number: 0,
        }
    }
}

impl<T> Held<T> {
    fn push(&mut self, at: Instant, datagram: &[u8], with: T) {
        if self.datagrams.len() < MAX_HELD {
            self.number += 1;
            self.order.push(Reverse((at, self.number)));
            self.datagrams
                .insert(self.number, (datagram.to_vec(), with));
        }
    }

    /// The next one, when its time has come. Cancel-safe.
    async fn due(&mut self) -> (Vec<u8>, T) {
        let Some(Reverse((at, number))) = self.order.peek().copied() else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        self.order.pop();
        match self.datagrams.remove(&number) {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::within;

    async fn echo() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 64];
            while let Ok((bytes, from)) = socket.recv_from(&mut datagram).await {
                socket.send_to(&datagram[..bytes], from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn what_is_cut_gets_through_in_the_other_direction_alone() {
        let network = Network::seeded(1);
        let proxy = Proxy::to(&network, 1, echo().await).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(proxy.address()).await.unwrap();
        // This process is broker 2.
        network.is_process_of(std::process::id(), 2);
        let mut answer = [0; 64];
        socket.send(b"one").await.unwrap();
        let bytes = within("an answer", socket.recv(&mut answer)).await.unwrap();
        assert_eq!(&answer[..bytes], b"one");
        assert_eq!(network.counts(), (2, 0));

        network.cut(1, 2);
        socket.send(b"two").await.unwrap();
        within("the answer is lost", async {
            while network.counts() != (3, 1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        network.mend();
        network.cut(CLIENTS, 1);
        network.set_weather(Weather {
            repeated: 1_000,
            held: 1_000,
            held_for: Duration::from_millis(5),
            delay: Duration::from_millis(1),
            ..Weather::default()
        });
        socket.send(b"six").await.unwrap();
        // Each of two comes twice.
        for _ in 0..4 {
            let bytes = within("an answer", socket.recv(&mut answer)).await.unwrap();
            assert_eq!(&answer[..bytes], b"six");
        }
        network.set_weather(Weather {
            lost: 1_000,
            ..Weather::default()
        });
        let (passed, lost) = network.counts();
        socket.send(b"ten").await.unwrap();
        within("it is lost", async {
            while network.counts() != (passed, lost + 1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

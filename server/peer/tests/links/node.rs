//! Brokers that consist of links alone: they greet, accept replication and answer calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_peer::limits::Limits;
use millstream_peer::{
    Inbox, Introduction, Links, LinksConfig, PeerService, Received, Room, check_introduction,
    serve_replication, transport,
};
use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::peer::{Lineage, PeerCalled};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame};
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use millstream_replication::{BrokerId, Message};
use millstream_transport::identity::Authority;
use millstream_transport::{
    CloseCode, Connection, Connector, FrameReceiver, FrameSender, Listener, Role, TransportConfig,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0xc1);

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a broker was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Received {
        from: BrokerId,
        partition: TopicPartition,
        message: Message,
        batches: Vec<Vec<u8>>,
    },
    Linked(BrokerId),
    Unlinked(BrokerId, String),
}

impl Event {
    pub(crate) fn received(&self) -> Option<(BrokerId, TopicPartition, &Message)> {
        match self {
            Self::Received {
                from,
                partition,
                message,
                ..
            } => Some((*from, *partition, message)),
            Self::Linked(_) | Self::Unlinked(..) => None,
        }
    }

    /// Where the entries that were received end.
    pub(crate) fn until(&self) -> Option<u64> {
        match self.received()?.2 {
            Message::Append { span, .. } => Some(span.until),
            _ => None,
        }
    }
}

type AtLink = Box<dyn Fn(BrokerId) + Send>;

/// An inbox that notes everything.
#[derive(Default)]
pub(crate) struct Diary {
    events: Mutex<Vec<Event>>,
    news: Notify,
    /// Where the room of what comes is kept, if it is not given back.
    pub(crate) rooms: Mutex<Option<Vec<Room>>>,
    /// What is done at once when there is a link.
    pub(crate) at_link: Mutex<Option<AtLink>>,
}

impl Diary {
    fn note(&self, event: Event) {
        self.events.lock().push(event);
        self.news.notify_waiters();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// Waits until something holds of what was noted, and returns that.
    pub(crate) async fn until(&self, holds: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let waiting = async {
            loop {
                let news = self.news.notified();
                let events = self.events();
                if holds(&events) {
                    return events;
                }
                news.await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(events) => events,
            Err(_) => {
                let events = self.events();
                panic!(
                    "it does not come true: {} events {:?}",
                    events.len(),
                    events.last()
                )
            }
        }
    }

    /// Waits for a link, the `count`th.
    pub(crate) async fn linked(&self, peer: BrokerId, count: usize) {
        self.until(|events| {
            let linked = events.iter().filter(|it| **it == Event::Linked(peer));
            linked.count() >= count
        })
        .await;
    }
}

impl Inbox for Diary {
    fn received(&self, received: Received) {
        let Received {
            from,
            partition,
            message,
            batches,
            room,
        } = received;
        if let Some(rooms) = &mut *self.rooms.lock() {
            rooms.push(room);
        }
        self.note(Event::Received {
            from,
            partition,
            message,
            batches: batches.iter().map(|it| it.bytes.to_vec()).collect(),
        });
    }

    fn linked(&self, peer: BrokerId) {
        if let Some(at_link) = &*self.at_link.lock() {
            at_link(peer);
        }
        self.note(Event::Linked(peer));
    }

    fn unlinked(&self, peer: BrokerId, reason: String) {
        self.note(Event::Unlinked(peer, reason));
    }
}

/// How a broker behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) cluster_id: Uuid,
    pub(crate) broker_id: BrokerId,
    /// It reads replication streams.
    pub(crate) reads: bool,
    pub(crate) catch_up_bytes_per_second: Option<NonZeroU64>,
}

pub(crate) struct Node {
    pub(crate) id: BrokerId,
    pub(crate) diary: Arc<Diary>,
    pub(crate) links: Arc<Links>,
    pub(crate) server: Server,
}

/// What listens.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    listener: Mutex<Option<Arc<Listener>>>,
}

impl Server {
    pub(crate) fn start(authority: &Authority, manners: Manners, diary: &Arc<Diary>) -> Self {
        let identity = identity(authority, manners.broker_id);
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(address, &identity, TransportConfig::server()).unwrap();
        Self::on(listener, manners, diary)
    }

    /// Where another one was that has just stopped: its socket may still be there.
    pub(crate) async fn again(
        address: SocketAddr,
        authority: &Authority,
        manners: Manners,
        diary: &Arc<Diary>,
    ) -> Self {
        let identity = identity(authority, manners.broker_id);
        let binding = async {
            loop {
                match Listener::bind(address, &identity, TransportConfig::server()) {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = tokio::time::timeout(PATIENCE, binding).await.unwrap();
        Self::on(listener, manners, diary)
    }

    fn on(listener: Listener, manners: Manners, diary: &Arc<Diary>) -> Self {
        let listener = Arc::new(listener);
        let address = listener.local_addr();
        let (accepting, diary) = (Arc::clone(&listener), Arc::clone(diary));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let diary = Arc::clone(&diary);
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.accept().await {
                        serve_connection(connection, manners, diary).await;
                    }
                });
            }
        });
        Self {
            address,
            listener: Mutex::new(Some(listener)),
        }
    }

    /// Ends all connections and listens no longer.
    pub(crate) async fn stop(&self) {
        let listener = self.listener.lock().take();
        if let Some(listener) = listener {
            listener.close(CloseCode::ShuttingDown, "");
            listener.wait_idle().await;
        }
    }
}

pub(crate) fn identity(authority: &Authority, id: BrokerId) -> millstream_transport::Identity {
    let name = format!("broker-{id}");
    let issued = authority.issue(Role::Broker, &name, &["127.0.0.1"]);
    issued.unwrap().identity().unwrap()
}

pub(crate) fn introduction(broker_id: BrokerId) -> Introduction {
    Introduction {
        cluster_id: CLUSTER,
        broker_id,
        directory_id: Uuid::from_u128(u128::from(broker_id)),
        incarnation: 1,
        lineage: Lineage::new(Uuid::from_u128(9)),
    }
}

/// Quick ones, so that no test waits long.
pub(crate) fn limits() -> Limits {
    Limits {
        pause_first: Duration::from_millis(5),
        pause_max: Duration::from_millis(50),
        pause_refused: Duration::from_millis(50),
        ..Limits::default()
    }
}

impl Node {
    pub(crate) fn start(authority: &Authority, id: BrokerId) -> Self {
        Self::with(authority, id, |_| {})
    }

    pub(crate) fn with(
        authority: &Authority,
        id: BrokerId,
        change: impl FnOnce(&mut Manners),
    ) -> Self {
        let diary = Arc::new(Diary::default());
        let mut manners = Manners {
            cluster_id: CLUSTER,
            broker_id: id,
            reads: true,
            catch_up_bytes_per_second: None,
        };
        change(&mut manners);
        let config = LinksConfig {
            introduction: introduction(id),
            connector: Connector::new(&identity(authority, id), transport()).unwrap(),
            limits: Limits {
                catch_up_bytes_per_second: manners.catch_up_bytes_per_second,
                ..limits()
            },
        };
        let inbox: Arc<dyn Inbox> = Arc::clone(&diary) as _;
        Self {
            id,
            links: Arc::new(Links::start(config, inbox)),
            server: Server::start(authority, manners, &diary),
            diary,
        }
    }

    pub(crate) fn manners(&self) -> Manners {
        Manners {
            cluster_id: CLUSTER,
            broker_id: self.id,
            reads: true,
            catch_up_bytes_per_second: None,
        }
    }
}

/// Makes all of them each other's peers, and waits until they are linked.
pub(crate) async fn introduce(nodes: &[&Node]) {
    let peers: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node.id, node.server.address.to_string()))
        .collect();
    for node in nodes {
        node.links.set_peers(peers.clone());
    }
    for node in nodes {
        for peer in peers.keys().filter(|peer| **peer != node.id) {
            node.diary.linked(*peer, 1).await;
        }
    }
}

async fn serve_connection(connection: Connection, manners: Manners, diary: Arc<Diary>) {
    while let Ok((mut sender, mut receiver)) = connection.accept_stream().await {
        let (diary, peer) = (Arc::clone(&diary), connection.peer().clone());
        let opened_by = peer.clone();
        let connection = connection.clone();
        tokio::spawn(async move {
            let Ok(Some(frame)) = receiver.receive::<RequestFrame>(usize::MAX >> 1).await else {
                return;
            };
            let checked = match &frame.body.request {
                Request::OpenReplication(request) => {
                    check_introduction(&opened_by, &request.introduction, manners.cluster_id)
                }
                Request::CallPeer(request) => {
                    check_introduction(&opened_by, &request.introduction, manners.cluster_id)
                }
                _ => Ok(()),
            };
            let refused = match (checked, frame.body.request) {
                (Err(error), _) => Some(error),
                (Ok(()), Request::Hello(hello)) => {
                    let _ = sender
                        .send(&Ok::<_, WireError>(greeting(&hello, manners)))
                        .await;
                    None
                }
                (Ok(()), Request::CallPeer(call)) => {
                    answer(sender, call.service, frame.payload.freeze()).await;
                    return;
                }
                (Ok(()), Request::OpenReplication(request)) => {
                    let from = request.introduction.broker_id;
                    replication(
                        from,
                        &mut sender,
                        &mut receiver,
                        manners,
                        &diary,
                        &connection,
                    )
                    .await
                }
                (Ok(()), other) => panic!("{other:?}"),
            };
            if let Some(error) = refused {
                let _ = sender.send(&Err::<(), _>(error)).await;
            }
            let _ = sender.finish().await;
        });
    }
}

async fn replication(
    from: BrokerId,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
    manners: Manners,
    diary: &Arc<Diary>,
    connection: &Connection,
) -> Option<WireError> {
    if !manners.reads {
        let opened = millstream_protocol::api::peer::OpenedReplication {};
        let _ = sender.send(&Ok::<_, WireError>(opened)).await;
        connection.closed().await;
        return None;
    }
    let served = serve_replication(from, sender, receiver, &**diary).await;
    served.err()?.to_wire_error()
}

fn greeting(hello: &Hello, manners: Manners) -> HelloResponse {
    assert!((hello.version_min..=hello.version_max).contains(&PROTOCOL_VERSION));
    HelloResponse {
        version: PROTOCOL_VERSION,
        cluster_id: manners.cluster_id,
        broker_id: manners.broker_id,
        software: "test".to_owned(),
        principal: hello.client_name.clone(),
        max_batch_bytes: 1 << 20,
        fetch_streams: 1,
    }
}

/// What the brokers' services understand.
async fn answer(mut sender: FrameSender, service: PeerService, request: Bytes) {
    let answer = match (&request[..], service) {
        (b"refuse", _) => {
            let error = WireError::new(ErrorCode::NotReady, "not now");
            let _ = sender.send(&Err::<(), _>(error)).await;
            return;
        }
        (b"silence", _) => return std::future::pending().await,
        (b"long", _) => Bytes::from(vec![0; millstream_peer::limits::MAX_CALL_BYTES + 1]),
        (_, service) => Bytes::from([format!("{service:?} ").as_bytes(), &request[..]].concat()),
    };
    let _ = sender
        .send_with_payload(&Ok::<_, WireError>(PeerCalled {}), [answer])
        .await;
    let _ = sender.finish().await;
}

//! The links of one broker to all others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::TopicPartition;
use millstream_protocol::api::peer::{Introduction, PeerService};
use millstream_replication::{BrokerId, Message};
use millstream_transport::{CloseCode, Connector, FrameReceiver, FrameSender, TransportConfig};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::call::{CallError, Turn, check_length};
use crate::entries::Entries;
use crate::inbox::Inbox;
use crate::limits::{CONNECT_TIMEOUT, Limits, MAX_IDLE_TIMEOUT};
use crate::link::{Link, Shared};
use crate::outbox::Outgoing;
use crate::throttle::Throttle;

/// What links need.
#[derive(Debug)]
pub struct LinksConfig {
    /// Who this broker is.
    pub introduction: Introduction,
    /// Opens the connections, with a broker's identity and perhaps [`transport`]. For links alone:
    /// [`Links::close`] closes it.
    pub connector: Connector,
    /// How links wait and try again.
    pub limits: Limits,
}

/// The transport of links: a client's that notices sooner that nobody is there.
pub fn transport() -> TransportConfig {
    TransportConfig {
        connect_timeout: CONNECT_TIMEOUT,
        max_idle_timeout: MAX_IDLE_TIMEOUT,
        ..TransportConfig::client()
    }
}

/// The links of this broker to its peers.
///
/// To each there is one connection at most, which is made again when it ends. Dropping this ends all
/// of them.
pub struct Links {
    shared: Arc<Shared>,
    peers: RwLock<Peers>,
    runtime: Handle,
}

#[derive(Default)]
struct Peers {
    kept: BTreeMap<BrokerId, Kept>,
    /// Links that end, before there may be others to the same peers.
    ending: BTreeMap<BrokerId, JoinHandle<()>>,
    /// No more are taken.
    is_closed: bool,
}

impl Peers {
    fn end(&mut self, peer: BrokerId) {
        if let Some(kept) = self.kept.remove(&peer) {
            self.ending.insert(peer, kept.task);
        }
    }
}

/// A link, its task, and where the task is told that the peer is. Without that the task ends.
struct Kept {
    link: Arc<Link>,
    address: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl Links {
    /// Links to nobody yet. The links' tasks run on the runtime that this is called in.
    pub fn start(config: LinksConfig, inbox: Arc<dyn Inbox>) -> Self {
        let LinksConfig {
            introduction,
            connector,
            limits,
        } = config;
        Self {
            shared: Arc::new(Shared {
                introduction,
                connector,
                catch_up: Throttle::new(limits.catch_up_bytes_per_second),
                limits,
                inbox,
            }),
            peers: RwLock::default(),
            runtime: Handle::current(),
        }
    }

    /// Who there is, and where (`host:port`): links are made to all of them but this broker itself, and
    /// ended to those that are not among them. May be called from any thread.
    pub fn set_peers(&self, mut peers: BTreeMap<BrokerId, String>) {
        peers.remove(&self.shared.introduction.broker_id);
        let mut known = self.peers.write();
        if known.is_closed {
            return;
        }
        known.ending.retain(|_, task| !task.is_finished());
        let gone = known.kept.keys().filter(|it| !peers.contains_key(it));
        for peer in gone.copied().collect::<Vec<_>>() {
            known.end(peer);
        }
        for (peer, address) in peers {
            if let Some(kept) = known.kept.get(&peer) {
                kept.address.send_if_modified(|at| {
                    let moved = *at != address;
                    *at = address;
                    moved
                });
            } else {
                let before = known.ending.remove(&peer);
                known.kept.insert(peer, self.link(peer, address, before));
            }
        }
    }

    /// Begins a link, once the one before has ended: otherwise the inbox would be told of both at
    /// once.
    fn link(&self, peer: BrokerId, address: String, before: Option<JoinHandle<()>>) -> Kept {
        let link = Arc::new(Link::new(peer));
        let (address, addresses) = watch::channel(address);
        let (kept, shared) = (Arc::clone(&link), Arc::clone(&self.shared));
        let task = self.runtime.spawn(async move {
            if let Some(before) = before {
                // One that has panicked has said so.
                let _ = before.await;
            }
            kept.keep(&shared, addresses).await;
        });
        Kept {
            link,
            address,
            task,
        }
    }

    /// Sends a message, after those sent before that are about the same partition. Never blocks, and
    /// may be called from any thread.
    ///
    /// It is lost without a word if there is no link: [`Inbox::linked`] tells when there is one. So is
    /// one whose span is not empty and whose entries are not given. An `Append` or `Ack` that was not
    /// sent yet is merged with the next one.
    pub fn send(
        &self,
        to: BrokerId,
        partition: TopicPartition,
        message: Message,
        entries: Option<Arc<dyn Entries>>,
    ) {
        if let Some(kept) = self.peers.read().kept.get(&to) {
            kept.link.mailbox.push(Outgoing {
                partition,
                message,
                entries,
            });
        }
    }

    /// Calls a service of a peer. `timeout` covers waiting for a connection, and for other calls to end.
    pub async fn call(
        &self,
        to: BrokerId,
        service: PeerService,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.call_in(to, (service, Turn::Waits), request, timeout)
            .await
    }

    /// The same, for what must not wait for other calls. Whoever calls so has one of them under way at a time.
    pub async fn call_ahead(
        &self,
        to: BrokerId,
        service: PeerService,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.call_in(to, (service, Turn::Ahead), request, timeout)
            .await
    }

    async fn call_in(
        &self,
        to: BrokerId,
        way: (PeerService, Turn),
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        check_length(&request)?;
        let link = self.link_of(to)?;
        let begun = AtomicBool::new(false);
        let call = link.call(self.shared.introduction, way, request, &begun);
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(link.timed_out(begun.load(Ordering::Relaxed))))
    }

    /// A peer has called: if there is no connection to it, or one to an earlier start of it, another is tried at
    /// once.
    pub fn heard(&self, peer: &Introduction) {
        if let Some(kept) = self.peers.read().kept.get(&peer.broker_id) {
            kept.link.was_heard(peer);
        }
    }

    /// The peers to which there is a connection now.
    pub fn linked(&self) -> Vec<BrokerId> {
        let peers = self.peers.read();
        let linked = peers.kept.iter().filter(|(_, kept)| kept.link.is_up());
        linked.map(|(peer, _)| *peer).collect()
    }

    /// Opens a stream to a peer, for whatever the caller passes on, as soon as there is a connection.
    pub async fn open_stream(
        &self,
        to: BrokerId,
        timeout: Duration,
    ) -> Result<(FrameSender, FrameReceiver), CallError> {
        let link = self.link_of(to)?;
        let opening = link.open_stream();
        tokio::time::timeout(timeout, opening)
            .await
            .unwrap_or_else(|_| Err(link.timed_out(false)))
    }

    fn link_of(&self, to: BrokerId) -> Result<Arc<Link>, CallError> {
        let peers = self.peers.read();
        let kept = peers.kept.get(&to).map(|kept| Arc::clone(&kept.link));
        let unknown = || CallError::not_asked(format!("broker {to} is not among the peers"));
        kept.ok_or_else(unknown)
    }

    /// Ends all links, and waits until the peers were told. What has not arrived is lost.
    pub async fn close(&self) {
        self.shared.connector.close(CloseCode::ShuttingDown, "");
        let Peers { kept, ending, .. } = std::mem::replace(
            &mut *self.peers.write(),
            Peers {
                is_closed: true,
                ..Peers::default()
            },
        );
        let kept: Vec<_> = kept.into_values().map(|kept| kept.task).collect();
        for task in kept.into_iter().chain(ending.into_values()) {
            // One that has panicked has said so.
            let _ = task.await;
        }
        self.shared.connector.wait_idle().await;
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("introduction", &self.shared.introduction)
            .field("peers", &self.peers.read().kept.keys())
            .finish_non_exhaustive()
    }
}

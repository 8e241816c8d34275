//! The links of one broker to all others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::TopicPartition;
use millstream_protocol::api::peer::{Introduction, PeerService};
use millstream_replication::{BrokerId, Message};
use millstream_transport::{CloseCode, Connector};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::call::{CallError, check_length};
use crate::entries::Entries;
use crate::inbox::Inbox;
use crate::limits::Limits;
use crate::link::{Link, Shared};
use crate::outbox::Outgoing;

/// What links need.
#[derive(Debug)]
pub struct LinksConfig {
    /// Who this broker is.
    pub introduction: Introduction,
    /// Opens the connections, with a broker's identity and a client's transport. For links alone:
    /// [`Links::close`] closes it.
    pub connector: Connector,
    /// How links wait and try again.
    pub limits: Limits,
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
    /// No more are taken.
    is_closed: bool,
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
        known.kept.retain(|peer, _| peers.contains_key(peer));
        for (peer, address) in peers {
            match known.kept.get(&peer) {
                Some(kept) => {
                    kept.address.send_if_modified(|at| {
                        let moved = *at != address;
                        *at = address;
                        moved
                    });
                }
                None => {
                    known.kept.insert(peer, self.link(peer, address));
                }
            }
        }
    }

    fn link(&self, peer: BrokerId, address: String) -> Kept {
        let link = Arc::new(Link::new(peer));
        let (address, addresses) = watch::channel(address);
        let (kept, shared) = (Arc::clone(&link), Arc::clone(&self.shared));
        let task = self
            .runtime
            .spawn(async move { kept.keep(&shared, addresses).await });
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
        check_length(&request)?;
        let link = self
            .peers
            .read()
            .kept
            .get(&to)
            .map(|kept| Arc::clone(&kept.link));
        let Some(link) = link else {
            let reason = format!("broker {to} is not among the peers");
            return Err(CallError::Unreachable { reason });
        };
        let call = link.call(self.shared.introduction, service, request);
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(link.timed_out()))
    }

    /// Ends all links, and waits until the peers were told. What has not arrived is lost.
    pub async fn close(&self) {
        let kept = {
            let mut peers = self.peers.write();
            peers.is_closed = true;
            std::mem::take(&mut peers.kept)
        };
        self.shared.connector.close(CloseCode::ShuttingDown, "");
        let tasks: Vec<_> = kept.into_values().map(|kept| kept.task).collect();
        for task in tasks {
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

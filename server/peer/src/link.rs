//! One connection to one peer, made anew when it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::peer::{Introduction, OpenReplication, PeerService};
use millstream_protocol::api::{PROTOCOL_VERSION, RequestFrame};
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use millstream_transport::address::{Address, AddressError};
use millstream_transport::{
    CloseCode, CloseReason, ConnectError, Connection, Connector, ReceiveError, SendError,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::inbox::Inbox;
use crate::introduction::{WrongPeer, check_answer};
use crate::limits::{CALLS_IN_FLIGHT, Limits};
use crate::mailbox::Mailbox;
use crate::replicate::{StreamEnd, Streams};
use crate::throttle::Throttle;

/// What all links of a broker share.
pub(crate) struct Shared {
    pub(crate) introduction: Introduction,
    pub(crate) connector: Connector,
    pub(crate) limits: Limits,
    pub(crate) catch_up: Throttle,
    pub(crate) inbox: Arc<dyn Inbox>,
}

/// What a link's task and those who use the link have in common.
pub(crate) struct Link {
    pub(crate) peer: BrokerId,
    pub(crate) mailbox: Mailbox,
    pub(crate) state: watch::Sender<LinkState>,
    /// Calls that may be made: those of one service do not wait for another's.
    consensus_calls: Semaphore,
    cluster_calls: Semaphore,
    workers_calls: Semaphore,
    /// The peer has called while there was no connection to it.
    heard: Notify,
    /// The start of the peer that has called last: the data directory's identity, and how often it was started
    /// on it.
    start: Mutex<Option<(Uuid, u64)>>,
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub(crate) enum LinkState {
    Down {
        reason: String,
    },
    Up(Connection),
    /// There will be none.
    Ended,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error("the greeting was not answered within {0:?}")]
    TimedOut(Duration),
    #[error("the stream ended before the greeting was answered")]
    Ended,
    #[error("the greeting is refused: {0}")]
    Refused(WireError),
    #[error("not linked: {0}")]
    WrongPeer(#[from] WrongPeer),
}

impl DialError {
    /// Whether it stays as it is until somebody changes something.
    fn lasts(&self) -> bool {
        match self {
            Self::Refused(error) => error.code == ErrorCode::UnsupportedVersion,
            Self::WrongPeer(_) | Self::Address(_) => true,
            Self::Connect(_)
            | Self::Closed(_)
            | Self::Send(_)
            | Self::Receive(_)
            | Self::TimedOut(_)
            | Self::Ended => false,
        }
    }
}

impl Link {
    pub(crate) fn new(peer: BrokerId) -> Self {
        let reason = "it is being connected to".to_owned();
        Self {
            peer,
            mailbox: Mailbox::default(),
            state: watch::Sender::new(LinkState::Down { reason }),
            consensus_calls: Semaphore::new(CALLS_IN_FLIGHT),
            cluster_calls: Semaphore::new(CALLS_IN_FLIGHT),
            workers_calls: Semaphore::new(CALLS_IN_FLIGHT),
            heard: Notify::new(),
            start: Mutex::default(),
        }
    }

    /// The peer has called: whatever it was that kept it from being reached is over. If it has started again, a
    /// connection to what it was before is of no use, and may take as long to notice as the peer was away.
    pub(crate) fn was_heard(&self, peer: &Introduction) {
        let start = (peer.directory_id, peer.incarnation);
        let before = self.start.lock().replace(start);
        let is_another = before.is_some_and(|before| before != start);
        match &*self.state.borrow() {
            LinkState::Up(connection) if is_another => {
                connection.close(CloseCode::Done, "the peer has started again");
            }
            LinkState::Up(_) | LinkState::Ended => return,
            LinkState::Down { .. } => {}
        }
        self.heard.notify_one();
    }

    /// The calls of a service that may be made now.
    pub(crate) fn calls(&self, service: PeerService) -> &Semaphore {
        match service {
            PeerService::Consensus => &self.consensus_calls,
            PeerService::Cluster => &self.cluster_calls,
            PeerService::Workers => &self.workers_calls,
        }
    }

    /// Keeps a connection to wherever the peer is, until there is no address any more.
    pub(crate) async fn keep(&self, shared: &Shared, addresses: watch::Receiver<String>) {
        self.connect_again_and_again(shared, addresses).await;
        self.state.send_replace(LinkState::Ended);
    }

    async fn connect_again_and_again(
        &self,
        shared: &Shared,
        mut addresses: watch::Receiver<String>,
    ) {
        let mut backoff = Backoff::new(&shared.limits);
        loop {
            let address = addresses.borrow_and_update().clone();
            let dialed = tokio::select! {
                dialed = self.dial(shared, &address) => dialed,
                moved = addresses.changed() => match moved {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let (reason, pause) = match dialed {
                Ok(connection) => {
                    tracing::info!(peer = self.peer, address, "connected");
                    let since = Instant::now();
                    let reason = self.serve(shared, connection, &mut addresses).await;
                    backoff.reset_after(since.elapsed());
                    (reason.to_string(), backoff.after_failure())
                }
                Err(error) if error.lasts() => (error.to_string(), shared.limits.pause_refused),
                Err(error) => (error.to_string(), backoff.after_failure()),
            };
            if addresses.has_changed().is_err() {
                return;
            }
            self.is_down(&address, reason);
            if *addresses.borrow() != address {
                backoff.reset();
                continue;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.heard.notified() => backoff.reset(),
                moved = addresses.changed() => match moved {
                    Ok(()) => backoff.reset(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Says why there is no connection: aloud if that is news.
    fn is_down(&self, address: &str, reason: String) {
        let known = match &*self.state.borrow() {
            LinkState::Down { reason: known } => *known == reason,
            LinkState::Up(_) | LinkState::Ended => false,
        };
        match known {
            true => tracing::debug!(peer = self.peer, address, reason, "still no link"),
            false => tracing::warn!(peer = self.peer, address, reason, "no link"),
        }
        self.state.send_replace(LinkState::Down { reason });
    }

    /// One attempt: the connection, the version handshake, and who it is.
    async fn dial(&self, shared: &Shared, address: &str) -> Result<Connection, DialError> {
        let host = address.parse::<Address>()?.host;
        let connection = shared.connector.connect(address, &host).await?;
        let limit = shared.limits.answer_timeout;
        let greeting = timeout(limit, greet(&connection, &shared.introduction));
        let answer = greeting.await.map_err(|_| DialError::TimedOut(limit))??;
        let cluster_id = shared.introduction.cluster_id;
        let checked = check_answer(connection.peer(), &answer, cluster_id, self.peer);
        if let Err(error) = &checked {
            connection.close(CloseCode::NotAuthorized, &error.to_string());
        }
        checked?;
        Ok(connection)
    }

    /// Uses a connection until it ends, or until the peer is somewhere else. Returns why it ended.
    async fn serve(
        &self,
        shared: &Shared,
        connection: Connection,
        addresses: &mut watch::Receiver<String>,
    ) -> CloseReason {
        self.state.send_replace(LinkState::Up(connection.clone()));
        let mut replicating = pin!(self.replicate(shared, &connection));
        tokio::select! {
            reason = &mut replicating => reason,
            _ = addresses.changed() => {
                connection.close(CloseCode::Done, "the link is made anew, or no longer needed");
                replicating.await
            }
        }
    }

    /// Has replication streams on a connection as long as that is there. One that ends is opened
    /// again: calls go on meanwhile.
    async fn replicate(&self, shared: &Shared, connection: &Connection) -> CloseReason {
        let mut backoff = Backoff::new(&shared.limits);
        let mut known = String::new();
        loop {
            let since = Instant::now();
            let end = self.stream(shared, connection).await;
            if let Some(reason) = connection.close_reason() {
                return reason;
            }
            backoff.reset_after(since.elapsed());
            let pause = backoff.after_failure();
            let reason = end.to_string();
            match reason == known {
                true => tracing::debug!(peer = self.peer, reason, "still no replication"),
                false => tracing::warn!(peer = self.peer, reason, "no replication"),
            }
            known = reason;
            tokio::select! {
                () = sleep(pause) => {}
                reason = connection.closed() => return reason,
            }
        }
    }

    /// Opens the streams, and sends what there is until they end.
    async fn stream(&self, shared: &Shared, connection: &Connection) -> StreamEnd {
        let request = OpenReplication {
            introduction: shared.introduction,
        };
        let limit = shared.limits.answer_timeout;
        let streams = match timeout(limit, Streams::open(connection, &request)).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(end)) => return end,
            Err(_) => return StreamEnd::TimedOut(limit),
        };
        self.mailbox.open();
        shared.inbox.linked(self.peer);
        let end = streams.send_all(&self.mailbox, &shared.catch_up).await;
        self.mailbox.close();
        shared.inbox.unlinked(self.peer, end.to_string());
        end
    }
}

/// The version handshake, which comes first on every connection.
async fn greet(
    connection: &Connection,
    introduction: &Introduction,
) -> Result<HelloResponse, DialError> {
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        client_name: format!("broker-{}", introduction.broker_id),
        software: concat!("millstream/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender
        .send(&RequestFrame::from_client(hello.into()))
        .await?;
    sender.finish().await?;
    let answer = receiver.receive::<Result<HelloResponse, WireError>>(0);
    match answer.await?.map(|frame| frame.body) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(DialError::Refused(error)),
        None => Err(DialError::Ended),
    }
}

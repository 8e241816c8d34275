//! This broker among the others of its cluster.
//!
//! - `Cluster`: the links to the others, and what they ask of this broker
//! - `quorum`: its node of the metadata quorum, and the way of a command to whoever leads it
//! - `lineage`: that its data directory is its own, and no copy of what that once was
//! - `members`: who takes part in the quorum
//! - `heart`: that this broker is there; `office`: who looks after the cluster
//! - `producers`: what a leader's log knows of its producers, for logs that begin late
//! - `ask`: what clients ask, passed on to another broker
//! - `wire`: what brokers ask of each other besides consensus and replication
//! - `inbox`: the way of what replicas hear from each other to the writer
//! - `ticket`: what a new broker is let in with

pub(crate) mod ask;
mod clocks;
pub(crate) mod heart;
mod inbox;
mod lineage;
mod members;
pub(crate) mod office;
pub(crate) mod producers;
pub(crate) mod quorum;
pub mod ticket;
mod wire;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_metadata::steward::ClusterStatus;
use millstream_metadata::{Command, Image, Start};
use millstream_peer::limits::Limits;
use millstream_peer::{Introduction, Links, LinksConfig, check_introduction, serve_replication};
use millstream_protocol::api::peer::{CallPeer, OpenReplication, PeerService};
use millstream_protocol::{ErrorCode, TimestampMs, WireError};
use millstream_replication::BrokerId;
use millstream_transport::{Connector, FrameReceiver, FrameSender, Identity, TransportConfig};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::background::Background;
use crate::clock;
use crate::config::LEAVE_LIMIT;
use crate::data_dir::DataDir;
use crate::handlers::StreamEnd;
use crate::registry::Registry;
use crate::replicas::actor::Fault;
use crate::session::Session;
use crate::writer::{Writer, WriterCommand};
use clocks::Clocks;
use inbox::WriterInbox;
use office::Office;
use quorum::Quorum;
use ticket::Ticket;
use wire::ClusterRequest;

/// The links of this broker to the others, and what they ask of it.
pub(crate) struct Cluster {
    introduction: Introduction,
    clocks: Clocks,
    /// None if this broker's certificate does not allow it to open connections: it stays alone.
    links: Option<Arc<Links>>,
    inbox: Arc<WriterInbox>,
    partitions: Arc<Registry>,
    /// This broker is about to stop.
    leaving: Arc<AtomicBool>,
    /// Whoever looks after the cluster has heard this broker lately.
    touch: watch::Sender<bool>,
    /// There once this broker's node of the metadata quorum has started.
    quorum: OnceLock<(Arc<Quorum>, Arc<Office>)>,
}

impl Cluster {
    /// Links to nobody yet.
    pub(crate) fn start(
        data_dir: &DataDir,
        identity: &Identity,
        transport: &TransportConfig,
        catch_up_bytes_per_second: Option<NonZeroU64>,
        writer: Writer,
        partitions: Arc<Registry>,
    ) -> Result<Arc<Self>, String> {
        let known = data_dir.identity();
        let introduction = Introduction {
            cluster_id: known.cluster_id,
            broker_id: known.broker_id,
            directory_id: known.directory_id,
            incarnation: data_dir.incarnation(),
            lineage: data_dir.lineage(),
        };
        let to_writer = writer.clone();
        let inbox = Arc::new(WriterInbox::new(writer));
        let links = match identity.principal().role.connects() {
            false => None,
            true => {
                let connector = Connector::new(identity, peer_transport(transport));
                let connector = connector.map_err(|error| error.to_string())?;
                let config = LinksConfig {
                    introduction,
                    connector,
                    limits: Limits {
                        catch_up_bytes_per_second,
                        ..Limits::default()
                    },
                };
                let inbox: Arc<WriterInbox> = Arc::clone(&inbox);
                let links = Arc::new(Links::start(config, inbox));
                let command = WriterCommand::Link {
                    links: Arc::clone(&links),
                };
                // A writer that has stopped has told its fault.
                let _ = to_writer.send(command);
                Some(links)
            }
        };
        Ok(Arc::new(Self {
            introduction,
            clocks: Clocks::new(introduction.broker_id),
            links,
            inbox,
            partitions,
            leaving: Arc::default(),
            touch: watch::Sender::new(true),
            quorum: OnceLock::new(),
        }))
    }

    /// The links to others, if there may be any.
    pub(crate) fn links(&self) -> Option<&Arc<Links>> {
        self.links.as_ref()
    }

    /// How the cluster stands, if the steward is here.
    pub(crate) fn status(&self) -> Option<ClusterStatus> {
        let (_, office) = self.quorum.get()?;
        office.status()
    }

    /// Whether this broker is about to stop.
    pub(crate) fn leaving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.leaving)
    }

    /// Whether whoever looks after the cluster has heard this broker lately. If not, others may lead what it
    /// leads, and it does not know.
    pub(crate) fn touch(&self) -> &watch::Sender<bool> {
        &self.touch
    }

    /// This broker's number.
    pub(crate) fn me(&self) -> BrokerId {
        self.introduction.broker_id
    }

    /// This start of this broker.
    pub(crate) fn this_start(&self) -> Start {
        Start {
            directory_id: self.introduction.directory_id,
            incarnation: self.introduction.incarnation,
        }
    }

    /// This broker's node of the metadata quorum has started. Links to the brokers that it knows, or, if
    /// it is new, to those that its ticket names.
    pub(crate) fn begin(
        &self,
        quorum: Arc<Quorum>,
        ticket: Option<&Ticket>,
        background: &Background,
        faults: &UnboundedSender<Fault>,
    ) -> Arc<Office> {
        let image = quorum.applied().image;
        match ticket {
            Some(ticket) if image.brokers().next().is_none() => {
                self.link_to_peers(ticket.brokers());
            }
            _ => self.link_to(&image),
        }
        background.spawn(
            "who looks after the quorum's members",
            members::look_after(Arc::clone(&quorum)),
        );
        if let Some(links) = &self.links {
            background.spawn(
                "who asks whether this broker is known",
                lineage::be_known(Arc::clone(&quorum), Arc::clone(links), faults.clone()),
            );
        }
        let office = Arc::new(Office::new(Arc::clone(&quorum), self.this_start()));
        let held = Arc::clone(&office);
        background.spawn("the steward's office", async move { held.run().await });
        // There is one for each start.
        let _ = self.quorum.set((quorum, Arc::clone(&office)));
        office
    }

    /// Links to the brokers that the image has, if it is not empty: a new broker has not heard of
    /// anybody yet.
    pub(crate) fn link_to(&self, image: &Image) {
        let peers = image.brokers().map(|it| (it.broker_id, it.address.clone()));
        let peers: BTreeMap<_, _> = peers.collect();
        if !peers.is_empty() {
            self.link_to_peers(peers);
        }
    }

    /// Links to these, and to no others.
    pub(crate) fn link_to_peers(&self, peers: BTreeMap<BrokerId, String>) {
        if let Some(links) = &self.links {
            links.set_peers(peers);
        }
    }

    /// Serves a stream of what another broker's replicas say.
    pub(crate) async fn serve_replication(
        &self,
        session: &Session,
        request: OpenReplication,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
    ) -> Result<(), StreamEnd> {
        let from = self.check(session, &request.introduction)?;
        let served = serve_replication(from, sender, receiver, &*self.inbox).await;
        served.map_err(|error| {
            error
                .to_wire_error()
                .map_or(StreamEnd::Gone, StreamEnd::Refused)
        })
    }

    /// Answers a call of another broker.
    pub(crate) async fn answer(
        &self,
        session: &Session,
        call: CallPeer,
        payload: Bytes,
    ) -> Result<Bytes, WireError> {
        let from = self.check(session, &call.introduction)?;
        let Some((quorum, office)) = self.quorum.get() else {
            return Err(WireError::new(
                ErrorCode::NotReady,
                format!("broker {} is starting", self.me()),
            ));
        };
        match call.service {
            PeerService::Consensus => quorum.handle(from, payload).await,
            PeerService::Workers => Err(WireError::new(
                ErrorCode::Internal,
                "the workers answer for themselves",
            )),
            PeerService::Cluster => {
                let (theirs, request) = ClusterRequest::decode(&payload)?;
                self.answer_request(from, theirs, request, (quorum, office))
                    .await
            }
        }
    }

    /// Answers what another broker, whose clock says so, asks of the cluster.
    async fn answer_request(
        &self,
        from: BrokerId,
        theirs: TimestampMs,
        request: ClusterRequest,
        (quorum, office): (&Quorum, &Office),
    ) -> Result<Bytes, WireError> {
        let ours = clock::now_ms();
        match request {
            ClusterRequest::Propose { hops, command } => {
                if let Command::RegisterBroker { registration } = &command
                    && registration.broker_id == from
                {
                    self.clocks.check(from, theirs, ours)?;
                }
                quorum.answer(hops, command).await
            }
            ClusterRequest::Producers(wanted) => {
                // Whoever sends what is to begin a log knows of its producers, whether it leads yet or not.
                let kept = self.partitions.get(wanted.partition).ok_or_else(|| {
                    WireError::new(
                        ErrorCode::NotReady,
                        format!("broker {} has no {} now", self.me(), wanted.partition),
                    )
                })?;
                producers::piece(kept, wanted).await
            }
            // Who is not has been refused.
            ClusterRequest::Know => Ok(Bytes::new()),
            ClusterRequest::Beat(beat) => {
                self.clocks.note(from, theirs, ours);
                let elsewhere = || {
                    WireError::new(
                        ErrorCode::NotLeader,
                        format!("broker {} does not look after the cluster", self.me()),
                    )
                };
                let answer = office.hear(&beat).ok_or_else(elsewhere)?;
                let answer = answer.encode();
                let internal = |error| WireError::new(ErrorCode::Internal, format!("{error}"));
                answer.map(Bytes::from).map_err(internal)
            }
        }
    }

    /// Who speaks to another broker.
    pub(crate) fn introduction(&self) -> Introduction {
        self.introduction
    }

    /// Refuses who is no other broker of this cluster, and gives the number of who is.
    pub(crate) fn check(
        &self,
        session: &Session,
        introduction: &Introduction,
    ) -> Result<BrokerId, WireError> {
        let principal = &session.connection().peer();
        check_introduction(principal, introduction, self.introduction.cluster_id)?;
        self.check_lineage(introduction)?;
        if let Some(links) = &self.links {
            links.heard(introduction);
        }
        Ok(introduction.broker_id)
    }

    /// Tells the cluster that this broker goes, so that others lead what it leads before it is gone, and
    /// returns whether others were told. A cluster that does not answer finds out by itself.
    pub(crate) async fn leave(&self) -> bool {
        self.leaving.store(true, Ordering::Relaxed);
        let Some((quorum, _)) = self.quorum.get() else {
            return false;
        };
        if quorum.applied().image.brokers().count() < 2 {
            return false;
        }
        let fence = Command::FenceBroker {
            broker_id: self.me(),
            start: self.this_start(),
        };
        let reason = match timeout(LEAVE_LIMIT, quorum.propose(fence)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        tracing::warn!(reason, "the cluster was not told that this broker goes");
        false
    }

    /// Ends the links.
    pub(crate) async fn close(&self) {
        if let Some(links) = &self.links {
            links.close().await;
        }
    }
}

/// How connections to other brokers are tuned: as those of clients, with the broker's own windows.
fn peer_transport(server: &TransportConfig) -> TransportConfig {
    TransportConfig {
        stream_receive_window_bytes: server.stream_receive_window_bytes,
        connection_receive_window_bytes: server.connection_receive_window_bytes,
        send_window_bytes: server.send_window_bytes,
        socket_buffer_bytes: server.socket_buffer_bytes,
        mtu_upper_bound: server.mtu_upper_bound,
        network: server.network.clone(),
        ..millstream_peer::transport()
    }
}

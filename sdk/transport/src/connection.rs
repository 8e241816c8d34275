//! One connection: its streams, its peer, and facts about it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::rustls::pki_types::CertificateDer;

use crate::close::{CloseCode, CloseReason};
use crate::endpoint;
use crate::principal::{Principal, PrincipalError};
use crate::raw::{RawReceiver, RawSender};
use crate::receiver::FrameReceiver;
use crate::sender::FrameSender;

/// A connection to a peer that has proved who it is.
///
/// Clones are handles to the same connection. When the last handle is dropped, the streams'
/// included, the connection closes with [`CloseCode::Dropped`].
///
/// # Flow control
///
/// A peer may send one stream window per stream and one connection window over all streams before
/// this side reads. A stream that is not read therefore takes from the others' share: where one
/// side keeps `n` streams unread on purpose, its connection window must exceed `n` stream windows,
/// or the answer to a request on another stream may never arrive.
#[derive(Clone)]
pub struct Connection {
    quic: quinn::Connection,
    peer: Arc<Principal>,
}

impl Connection {
    /// Takes a connection whose handshake is complete, and reads who the peer is.
    pub(crate) fn new(quic: quinn::Connection) -> Result<Self, PrincipalError> {
        let chain = quic
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let peer = Principal::of_certificate(leaf.map(|leaf| leaf.as_ref()).unwrap_or_default())?;
        Ok(Self {
            quic,
            peer: Arc::new(peer),
        })
    }

    /// Opens a bidirectional stream. Waits while the peer's stream limit is reached.
    ///
    /// The peer learns of the stream with the first frame sent on it, so the side that opens must
    /// speak first.
    pub async fn open_stream(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        let (sender, receiver) = self.quic.open_bi().await.map_err(CloseReason::of)?;
        Ok((FrameSender::new(sender), FrameReceiver::new(receiver)))
    }

    /// Waits for the next stream that the peer opens. Cancel-safe.
    pub async fn accept_stream(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        let (sender, receiver) = self.quic.accept_bi().await.map_err(CloseReason::of)?;
        Ok((FrameSender::new(sender), FrameReceiver::new(receiver)))
    }

    /// [`Connection::open_stream`], as bytes without frames.
    pub async fn open_raw(&self) -> Result<(RawSender, RawReceiver), CloseReason> {
        let (sender, receiver) = self.quic.open_bi().await.map_err(CloseReason::of)?;
        Ok((RawSender::new(sender), RawReceiver::new(receiver)))
    }

    /// [`Connection::accept_stream`], as bytes without frames.
    pub async fn accept_raw(&self) -> Result<(RawSender, RawReceiver), CloseReason> {
        let (sender, receiver) = self.quic.accept_bi().await.map_err(CloseReason::of)?;
        Ok((RawSender::new(sender), RawReceiver::new(receiver)))
    }

    /// Who the peer is, by its verified certificate.
    pub fn peer(&self) -> &Principal {
        &self.peer
    }

    /// The peer's UDP address now; a client's may change as it moves between networks.
    pub fn remote_address(&self) -> SocketAddr {
        endpoint::canonical(self.quic.remote_address())
    }

    /// The estimated round-trip time.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// The size of the datagrams sent now, bytes of UDP payload, as far as discovery has come.
    pub fn mtu(&self) -> u16 {
        self.quic.stats().path.current_mtu
    }

    /// UDP datagrams received so far. A number that grows means that the peer lives: it answers
    /// keep-alives even when its application is busy.
    pub fn datagrams_received(&self) -> u64 {
        self.quic.stats().udp_rx.datagrams
    }

    /// Waits until the connection is closed, by whichever side. Cancel-safe.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::of(self.quic.closed().await)
    }

    /// Why the connection is closed; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.quic.close_reason().map(CloseReason::of)
    }

    /// Closes the connection at once, and tells the peer why. What was sent and has not arrived is
    /// lost; wait for [`FrameSender::delivered`] before closing where that matters.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.quic.close(code.to_wire(), message.as_bytes());
    }

    /// Bytes of UDP payload sent so far.
    #[cfg(test)]
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.quic.stats().udp_tx.bytes
    }

    /// A number that no other living connection of this process has.
    pub fn stable_id(&self) -> usize {
        self.quic.stable_id()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("remote_address", &self.remote_address())
            .finish_non_exhaustive()
    }
}

//! The broker's side: accepting connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::close::{CloseCode, CloseReason};
use crate::config::{CLOSE_LIMIT, ConfigError, TransportConfig};
use crate::connection::Connection;
use crate::endpoint;
use crate::identity::Identity;
use crate::principal::{Principal, PrincipalError};
use crate::tls::{self, TlsError};

/// Bytes that a connection attempt may send before the application takes it up: the client's first
/// flight. There is no early data to wait for.
const INCOMING_BUFFER_BYTES: u64 = 64 * 1024;

/// Accepts connections on one UDP address.
pub struct Listener {
    endpoint: quinn::Endpoint,
    local_addr: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    config: TransportConfig,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration makes no sense.
    #[error("invalid transport configuration")]
    Config(#[from] ConfigError),
    /// The identity is a client's.
    #[error("{0} may not accept connections")]
    Role(Principal),
    /// TLS refuses the identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket cannot be opened there.
    #[error("cannot listen on {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Listener {
    /// Listens on a UDP address; port 0 takes a free one. Needs a tokio runtime around it.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        config: TransportConfig,
    ) -> Result<Self, BindError> {
        config.validate()?;
        if !identity.principal().role.accepts() {
            return Err(BindError::Role(identity.principal().clone()));
        }
        let mut server = quinn::ServerConfig::with_crypto(tls::server(identity)?);
        let open = || {
            server
                .transport_config(endpoint::transport(&config)?)
                .max_incoming(config.max_incoming)
                .incoming_buffer_size(INCOMING_BUFFER_BYTES)
                .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * config.max_incoming as u64);
            if let Some(clock) = config.network.clock() {
                server.time_source(clock);
            }
            let secret = endpoint::ResetSecret::of(identity.chain_and_key().1.secret_der());
            let endpoint = endpoint::open(address, Some((server, secret)), &config)?;
            let local_addr = endpoint.local_addr()?;
            Ok((endpoint, local_addr))
        };
        let (endpoint, local_addr) =
            open().map_err(|source| BindError::Socket { address, source })?;
        Ok(Self {
            endpoint,
            local_addr,
            handshakes: Arc::default(),
            config,
        })
    }

    /// The address that is listened on, with the port that was found.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits for the next connection attempt; `None` once the listener is closed. Cancel-safe.
    ///
    /// Attempts beyond a limit are answered here: with a retry when many handshakes are under
    /// way and the newcomer's address is not proved, with a refusal beyond
    /// [`TransportConfig::max_incoming`] handshakes or [`TransportConfig::max_connections`].
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let quic = self.endpoint.accept().await?;
            let handshakes = self.handshakes.load(Ordering::Relaxed);
            if handshakes >= self.config.max_incoming
                || self.endpoint.open_connections() >= self.config.max_connections
            {
                tracing::debug!(peer = %quic.remote_address(), "refused a connection: at the limit");
                quic.refuse();
                continue;
            }
            if handshakes >= self.config.retry_above_handshakes && !quic.remote_address_validated()
            {
                // Never fails: an attempt without a proof of its address may be retried.
                let _ = quic.retry();
                continue;
            }
            return Some(Incoming {
                peer_address: endpoint::canonical(quic.remote_address()),
                quic,
                timeout: self.config.connect_timeout,
                _under_way: UnderWay::enter(&self.handshakes),
            });
        }
    }

    /// Connections that are open or being opened.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes all connections at once and accepts no more.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.endpoint.close(code.to_wire(), message.as_bytes());
    }

    /// Waits until all connections have ended and their peers were told, for [`CLOSE_LIMIT`] at most.
    pub async fn wait_idle(&self) {
        // A peer that does not hear of it finds out by itself.
        let _ = timeout(CLOSE_LIMIT, self.endpoint.wait_idle()).await;
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// One connection attempt, before its handshake. Dropping it refuses it.
pub struct Incoming {
    quic: quinn::Incoming,
    peer_address: SocketAddr,
    timeout: Duration,
    _under_way: UnderWay,
}

/// Why a connection attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The handshake failed or the connection was closed.
    #[error("handshake with {peer_address} failed: {reason}")]
    Handshake {
        /// Where the attempt came from.
        peer_address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// The handshake took longer than [`TransportConfig::connect_timeout`].
    #[error("handshake with {peer_address} took too long")]
    TimedOut {
        /// Where the attempt came from.
        peer_address: SocketAddr,
    },
    /// The certificate is the authority's, but names no principal.
    #[error("certificate of {peer_address} is of no use: {reason}")]
    Principal {
        /// Where the attempt came from.
        peer_address: SocketAddr,
        /// Why.
        reason: PrincipalError,
    },
    /// The principal's role may not open connections.
    #[error("{peer} at {peer_address} may not open connections")]
    Role {
        /// Where the attempt came from.
        peer_address: SocketAddr,
        /// Who tried.
        peer: Principal,
    },
}

impl Incoming {
    /// Where the attempt comes from.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Makes the handshake. Spawn this: it takes a round trip or more.
    pub async fn accept(self) -> Result<Connection, AcceptError> {
        let peer_address = self.peer_address;
        let handshake = |error| AcceptError::Handshake {
            peer_address,
            reason: CloseReason::of(error),
        };
        let connecting = self.quic.accept().map_err(handshake)?;
        let quic = tokio::time::timeout(self.timeout, connecting)
            .await
            .map_err(|_| AcceptError::TimedOut { peer_address })?
            .map_err(handshake)?;
        let refuse = |message: &str| {
            quic.close(CloseCode::NotAuthorized.to_wire(), message.as_bytes());
        };
        let connection = Connection::new(quic.clone()).map_err(|reason| {
            refuse(&reason.to_string());
            AcceptError::Principal {
                peer_address,
                reason,
            }
        })?;
        let peer = connection.peer();
        if !peer.role.connects() {
            refuse("this role may not open connections");
            return Err(AcceptError::Role {
                peer_address,
                peer: peer.clone(),
            });
        }
        Ok(connection)
    }

    /// Has the attempt's sender shown that its address is its own?
    #[cfg(test)]
    pub(crate) fn address_is_proved(&self) -> bool {
        self.quic.remote_address_validated()
    }

    /// The handshake alone, for a test that looks at QUIC itself.
    #[cfg(test)]
    pub(crate) async fn accept_quic(self) -> quinn::Connection {
        self.quic.await.unwrap()
    }

    /// Refuses the attempt.
    pub fn refuse(self) {
        self.quic.refuse();
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("peer_address", &self.peer_address)
            .finish_non_exhaustive()
    }
}

/// Counts a handshake for as long as it lives.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

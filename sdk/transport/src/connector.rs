//! The client's side: opening connections.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::address::{Address, AddressError};
use crate::close::{CloseCode, CloseReason};
use crate::config::{CLOSE_LIMIT, ConfigError, TransportConfig};
use crate::connection::Connection;
use crate::endpoint;
use crate::identity::Identity;
use crate::principal::{Principal, PrincipalError};
use crate::tls::{self, TlsError};

/// When a name has several addresses, the next is tried beside the ones before it after this long
/// (RFC 8305, section 5).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Opens connections, all from one UDP socket per address family.
///
/// Clones share the sockets. They belong to the tokio runtime of the first connect.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    config: TransportConfig,
    client: quinn::ClientConfig,
    v4: OnceCell<quinn::Endpoint>,
    v6: OnceCell<quinn::Endpoint>,
}

/// Why a connector cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The configuration makes no sense.
    #[error("invalid transport configuration")]
    Config(#[from] ConfigError),
    /// The identity is a server's.
    #[error("{0} may not open connections")]
    Role(Principal),
    /// TLS refuses the identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A value is beyond what QUIC can express.
    #[error("invalid transport configuration")]
    Transport(#[source] io::Error),
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not of the form `host:port`.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server's name is neither a host name nor an IP address.
    #[error("{server_name:?} is not a server's name")]
    ServerName {
        /// The name.
        server_name: String,
    },
    /// The host's name could not be resolved.
    #[error("cannot resolve {address}")]
    Resolve {
        /// The address.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// This side's UDP socket could not be opened.
    #[error("cannot open a UDP socket")]
    Socket(#[source] io::Error),
    /// Nobody answered in time.
    #[error("no answer from {address} within {timeout:?}")]
    TimedOut {
        /// The address.
        address: Address,
        /// [`TransportConfig::connect_timeout`].
        timeout: Duration,
    },
    /// The handshake failed, or the connection was closed at once.
    #[error("cannot connect to {address}: {reason}")]
    Closed {
        /// The address.
        address: Address,
        /// Why: see [`CloseReason::hint`] for what to do about it.
        reason: CloseReason,
    },
    /// The server's certificate is the authority's, but names no principal that may accept
    /// connections.
    #[error("cannot connect to {address}: the server's certificate is of no use: {reason}")]
    Principal {
        /// The address.
        address: Address,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    /// What a person can do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut { .. } => {
                Some("is a broker running there, and does the network let UDP through?")
            }
            Self::Closed { reason, .. } => reason.hint(),
            Self::Address(_)
            | Self::ServerName { .. }
            | Self::Resolve { .. }
            | Self::Socket(_)
            | Self::Principal { .. } => None,
        }
    }
}

/// Why one address of a name did not answer.
pub(crate) enum AttemptError {
    Socket(io::Error),
    TimedOut,
    Closed(CloseReason),
    Principal(String),
}

impl Connector {
    /// A connector that shows this identity and trusts its authority.
    pub fn new(identity: &Identity, config: TransportConfig) -> Result<Self, ConnectorError> {
        config.validate()?;
        if !identity.principal().role.connects() {
            return Err(ConnectorError::Role(identity.principal().clone()));
        }
        let mut client = quinn::ClientConfig::new(tls::client(identity)?);
        client.transport_config(endpoint::transport(&config).map_err(ConnectorError::Transport)?);
        let (v4, v6) = (OnceCell::new(), OnceCell::new());
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                client,
                v4,
                v6,
            }),
        })
    }

    /// Connects to `host:port`, and demands a server certificate for `server_name`.
    ///
    /// All addresses of the host are tried, each a quarter of a second after the one before, and
    /// the first that answers is taken.
    ///
    /// A server looks at the client's certificate after the client's handshake is complete
    /// (RFC 8446, section 4.4.2). When it refuses it, that is
    /// [`CloseReason::CertificateRefused`], here or at the first use of the connection.
    pub async fn connect(
        &self,
        address: &str,
        server_name: &str,
    ) -> Result<Connection, ConnectError> {
        let address: Address = address.parse()?;
        if rustls::pki_types::ServerName::try_from(server_name).is_err() {
            return Err(ConnectError::ServerName {
                server_name: server_name.to_owned(),
            });
        }
        let resolved = tokio::net::lookup_host((address.host.as_str(), address.port))
            .await
            .map_err(|source| ConnectError::Resolve {
                address: address.clone(),
                source,
            })?;
        let resolved: Vec<SocketAddr> = resolved.take(MAX_ADDRESSES).collect();
        self.try_all(&resolved, server_name)
            .await
            .map_err(|error| match error {
                Some(AttemptError::Socket(error)) => ConnectError::Socket(error),
                Some(AttemptError::TimedOut) => {
                    let timeout = self.shared.config.connect_timeout;
                    ConnectError::TimedOut { address, timeout }
                }
                Some(AttemptError::Closed(reason)) => ConnectError::Closed { address, reason },
                Some(AttemptError::Principal(reason)) => {
                    ConnectError::Principal { address, reason }
                }
                None => {
                    let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                    ConnectError::Resolve { address, source }
                }
            })
    }

    /// Takes the first address that answers; or else the most telling error, `None` without any
    /// address.
    pub(crate) async fn try_all(
        &self,
        addresses: &[SocketAddr],
        server_name: &str,
    ) -> Result<Connection, Option<AttemptError>> {
        let mut attempts = JoinSet::new();
        let mut delay = Duration::ZERO;
        for &address in addresses {
            let (connector, server_name) = (self.clone(), server_name.to_owned());
            attempts.spawn(async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                connector.attempt(address, &server_name).await
            });
            delay += NEXT_ADDRESS_DELAY;
        }
        let mut failed = None;
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => {
                    // Silence says less than any other answer.
                    if failed.is_none() || !matches!(error, AttemptError::TimedOut) {
                        failed = Some(error);
                    }
                }
                Err(error) => {
                    failed.get_or_insert(AttemptError::Socket(io::Error::other(error)));
                }
            }
        }
        Err(failed)
    }

    async fn attempt(
        &self,
        address: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, AttemptError> {
        let endpoint = self
            .shared
            .endpoint(address)
            .await
            .map_err(AttemptError::Socket)?;
        let connecting = endpoint
            .connect_with(self.shared.client.clone(), address, server_name)
            .map_err(|error| AttemptError::Socket(io::Error::other(error)))?;
        let quic = tokio::time::timeout(self.shared.config.connect_timeout, connecting)
            .await
            .map_err(|_| AttemptError::TimedOut)?
            .map_err(|error| match CloseReason::of(error) {
                CloseReason::TimedOut => AttemptError::TimedOut,
                reason => AttemptError::Closed(reason),
            })?;
        let refuse = |reason: String| {
            quic.close(CloseCode::NotAuthorized.to_wire(), reason.as_bytes());
            AttemptError::Principal(reason)
        };
        let connection = Connection::new(quic.clone())
            .map_err(|error: PrincipalError| refuse(error.to_string()))?;
        if !connection.peer().role.accepts() {
            return Err(refuse(format!(
                "{} may not accept connections",
                connection.peer()
            )));
        }
        match connection.close_reason() {
            Some(reason) => Err(AttemptError::Closed(reason)),
            None => Ok(connection),
        }
    }

    /// Closes all connections of this connector at once. No more can be opened.
    pub fn close(&self, code: CloseCode, message: &str) {
        for endpoint in self.shared.endpoints() {
            endpoint.close(code.to_wire(), message.as_bytes());
        }
    }

    /// Waits until all connections have ended and their peers were told, for [`CLOSE_LIMIT`] at most.
    pub async fn wait_idle(&self) {
        let idle = async {
            for endpoint in self.shared.endpoints() {
                endpoint.wait_idle().await;
            }
        };
        // A peer that does not hear of it finds out by itself.
        let _ = timeout(CLOSE_LIMIT, idle).await;
    }
}

impl Shared {
    /// The socket for the family of an address, opened at its first use.
    async fn endpoint(&self, address: SocketAddr) -> io::Result<&quinn::Endpoint> {
        let (cell, local) = match address {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        cell.get_or_try_init(|| async { endpoint::open(local, None, &self.config) })
            .await
    }

    fn endpoints(&self) -> impl Iterator<Item = &quinn::Endpoint> {
        self.v4.get().into_iter().chain(self.v6.get())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

//! Millstream's transport: frames over QUIC, between parties that have proved who they are.
//!
//! This is the only crate that imports quinn, rustls and rcgen, and none of their types appears in
//! its interface. It makes identities, opens and accepts connections under mutual TLS, and turns a
//! QUIC stream into a sequence of [frames](millstream_protocol::frame). It does not know what a
//! frame says, retries nothing, keeps no pool of connections and authorises nobody: it tells who
//! the peer is, and the broker decides.
//!
//! Three things hold on every connection. Both sides show a certificate of the cluster's
//! authority; there is no way to listen or connect without. Early data (0-RTT) and session
//! resumption are off: early data can be replayed by anyone who saw it, and a resumed session would
//! skip the check of the certificate. Everything a peer can make this side allocate is bounded by
//! the stream and connection windows of [`TransportConfig`] and by the limit given to
//! [`FrameReceiver::receive`].
//!
//! # Layout
//!
//! - [`config`]: every tunable, with the default and the reason for it
//! - [`identity`]: the cluster's authority, the identities it issues, their files
//! - [`principal`]: who a certificate speaks for: a role and a name
//! - [`profile`]: the client's profile: which broker, and with which identity
//! - [`address`]: an address as a person writes it, `host:port`
//! - [`Listener`], [`Incoming`]: the broker's side
//! - [`Connector`]: the client's side
//! - [`Connection`]: streams and facts of one connection; [`close`]: why it ended
//! - [`FrameSender`], [`FrameReceiver`]: one stream as frames
//! - [`network`]: another network than the system's, for simulations
//! - [`relay`]: passing a stream on to another connection
//! - [`RawSender`], [`RawReceiver`]: one stream as bytes, to measure what QUIC itself can do
//!
//! # Example
//!
//! ```
//! use millstream_transport::identity::Authority;
//! use millstream_transport::principal::Role;
//! use millstream_transport::{Connector, Listener, TransportConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let authority = Authority::create("example")?;
//! let server = authority.issue(Role::Server, "broker-1", &["localhost"])?.identity()?;
//! let client = authority.issue(Role::Client, "alice", &[])?.identity()?;
//!
//! let listener = Listener::bind("127.0.0.1:0".parse()?, &server, TransportConfig::server())?;
//! let address = listener.local_addr().to_string();
//! tokio::spawn(async move {
//!     let connection = listener.accept().await?.accept().await.ok()?;
//!     let (mut sender, mut receiver) = connection.accept_stream().await.ok()?;
//!     while let Some(frame) = receiver.receive::<String>(1024).await.ok()? {
//!         sender.send(&format!("{} says {}", connection.peer().name, frame.body)).await.ok()?;
//!     }
//!     Some(())
//! });
//!
//! let connector = Connector::new(&client, TransportConfig::client())?;
//! let connection = connector.connect(&address, "localhost").await?;
//! let (mut sender, mut receiver) = connection.open_stream().await?;
//! sender.send(&"good morning").await?;
//! let answer = receiver.receive::<String>(0).await?.ok_or("no answer")?;
//! assert_eq!(answer.body, "alice says good morning");
//! # Ok(())
//! # }
//! ```

pub mod address;
mod chunks;
pub mod close;
pub mod config;
pub mod identity;
pub mod network;
pub mod principal;
pub mod profile;

mod connection;
mod connector;
mod endpoint;
mod listener;
mod private_file;
mod raw;
mod receiver;
mod relay;
mod sender;
mod tls;

#[cfg(test)]
mod tests;

pub use close::{CertificateFault, CertificateFaultKind, CloseCode, CloseReason, StreamCode};
pub use config::TransportConfig;
pub use connection::Connection;
pub use connector::{ConnectError, Connector, ConnectorError};
pub use identity::Identity;
pub use listener::{AcceptError, BindError, Incoming, Listener};
pub use network::Network;
pub use principal::{Principal, Role};
pub use profile::Profile;
pub use raw::{RawReceiver, RawSender};
pub use receiver::{Frame, FrameReceiver, ReceiveError, UndecodedFrame};
pub use relay::{RelayError, relay};
pub use sender::{FrameSender, Priority, SendError};
pub use tls::TlsError;

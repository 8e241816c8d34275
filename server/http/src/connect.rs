//! Connections: the name, the socket, TLS.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use millstream_protocol::api::grants::{HttpHost, HttpScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::error::SendError;
use crate::{MAX_ADDRESSES, MAX_LOOK_UPS_AT_ONCE, roots};

/// What bytes go through, encrypted or not.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to the first of a host's addresses that accepts.
pub(crate) async fn connect(host: &HttpHost) -> Result<Box<dyn Connection>, SendError> {
    let name = host.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = look_up(name.to_owned(), host.port).await;
    let mut refused = io::Error::other("its name has no address");
    for address in addresses.map_err(SendError::NoAddress)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return secure(host, name, stream).await,
            Err(error) => refused = error,
        }
    }
    Err(SendError::Connect(refused))
}

/// The addresses of a name. The system's own look-up cannot be ended: its place is free when it is over,
/// though nobody may wait for it any more.
async fn look_up(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    static PLACES: Semaphore = Semaphore::const_new(MAX_LOOK_UPS_AT_ONCE);

    let place = PLACES.acquire().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        let addresses = (name.as_str(), port).to_socket_addrs()?;
        Ok(addresses.take(MAX_ADDRESSES).collect())
    });
    looking.await.map_err(io::Error::other)?
}

async fn secure(
    host: &HttpHost,
    name: &str,
    stream: TcpStream,
) -> Result<Box<dyn Connection>, SendError> {
    // A request is written in few pieces, and each is waited for.
    stream.set_nodelay(true).map_err(SendError::Connect)?;
    match host.scheme {
        HttpScheme::Http => Ok(Box::new(stream)),
        HttpScheme::Https => {
            let server = ServerName::try_from(name.to_owned());
            let server = server.map_err(|error| SendError::Tls(io::Error::other(error)))?;
            let connector = tokio::task::spawn_blocking(roots::connector).await;
            let connector = connector.map_err(io::Error::other).flatten();
            let connector = connector.map_err(SendError::Tls)?;
            let stream = connector.connect(server, stream).await;
            Ok(Box::new(stream.map_err(SendError::Tls)?))
        }
    }
}

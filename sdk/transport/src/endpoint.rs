//! The UDP socket and QUIC endpoint beneath listeners and connectors.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use aws_lc_rs::hmac;
use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{MAX_RECEIVED_DATAGRAM_BYTES, MTU_INITIAL, TransportConfig};

/// What makes a listener that begins anew the same to those that were connected to the one before: it tells them
/// that it knows nothing of their connections (RFC 9000, section 10.3), and they need not wait until these are idle.
pub(crate) struct ResetSecret(hmac::Tag);

impl ResetSecret {
    /// That of the holder of a private key, DER.
    pub(crate) fn of(private_key: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, private_key);
        Self(hmac::sign(&key, b"millstream stateless reset"))
    }

    fn endpoint(&self) -> EndpointConfig {
        let secret = self.0.as_ref();
        let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        // Only connection ids that it could have given out itself are answered so.
        let mut ids = [0; 8];
        ids.iter_mut()
            .zip(secret)
            .for_each(|(to, from)| *to = *from);
        let ids = u64::from_le_bytes(ids);
        endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        endpoint
    }
}

/// Opens an endpoint on a local address: of a listener with its secret. Needs a tokio runtime around it.
pub(crate) fn open(
    address: SocketAddr,
    server: Option<(quinn::ServerConfig, ResetSecret)>,
    config: &TransportConfig,
) -> io::Result<quinn::Endpoint> {
    let (server, mut endpoint) = match server {
        Some((server, secret)) => (Some(server), secret.endpoint()),
        None => (None, EndpointConfig::default()),
    };
    endpoint
        .max_udp_payload_size(MAX_RECEIVED_DATAGRAM_BYTES)
        .map_err(io::Error::other)?;
    let runtime = quinn::default_runtime()
        .ok_or_else(|| io::Error::other("there is no tokio runtime here"))?;
    let socket = match config.network.open(address)? {
        Some(socket) => socket,
        None => runtime.wrap_udp_socket(socket(address, config.socket_buffer_bytes)?)?,
    };
    quinn::Endpoint::new_with_abstract_socket(endpoint, server, socket, runtime)
}

fn socket(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // An IPv6 socket for all addresses serves IPv4 too, where the system allows it.
        if let Err(error) = socket.set_only_v6(false) {
            tracing::debug!(%error, "the socket serves IPv6 alone");
        }
    }
    enlarge(&socket, buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks for larger buffers than the system's. Smaller ones cost throughput and nothing else, so a
/// refusal is no error.
fn enlarge(socket: &Socket, buffer_bytes: usize) {
    let asked = socket
        .set_recv_buffer_size(buffer_bytes)
        .and_then(|()| socket.set_send_buffer_size(buffer_bytes));
    let granted =
        asked.and_then(|()| Ok(socket.recv_buffer_size()?.min(socket.send_buffer_size()?)));
    match granted {
        Ok(granted) if granted >= buffer_bytes => {}
        Ok(granted) => tracing::debug!(buffer_bytes, granted, "the system caps socket buffers"),
        Err(error) => tracing::debug!(buffer_bytes, %error, "cannot enlarge socket buffers"),
    }
}

/// An address as a person knows it: a socket for both families reports an IPv4 address as an IPv6
/// one that contains it.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The QUIC parameters of every connection.
pub(crate) fn transport(config: &TransportConfig) -> io::Result<Arc<quinn::TransportConfig>> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(config.mtu_upper_bound);
    let idle = IdleTimeout::try_from(config.max_idle_timeout).map_err(io::Error::other)?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .initial_mtu(MTU_INITIAL)
        .min_mtu(MTU_INITIAL)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(config.stream_receive_window_bytes))
        .receive_window(VarInt::from_u32(config.connection_receive_window_bytes))
        .send_window(config.send_window_bytes)
        .max_concurrent_bidi_streams(VarInt::from_u32(config.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(config.keep_alive_interval))
        .max_idle_timeout(Some(idle));
    Ok(Arc::new(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_in_their_own_family() {
        let check = |address: &str, expected: &str| {
            assert_eq!(canonical(address.parse().unwrap()).to_string(), expected);
        };
        check("[::ffff:10.0.0.1]:7", "10.0.0.1:7");
        check("10.0.0.1:7", "10.0.0.1:7");
        check("[2001:db8::1]:7", "[2001:db8::1]:7");
    }
}

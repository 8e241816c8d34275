//! Every tunable of the transport, with its default and the reason for it.

use std::time::Duration;

use millstream_protocol::limits::MAX_STREAMS_PER_CONNECTION;

use crate::network::Network;

const MIB: u32 = 1024 * 1024;

/// The datagram size that a connection starts with: what every path that carries QUIC carries
/// (RFC 9000, section 14). Discovery raises it within the first round trips.
pub const MTU_INITIAL: u16 = 1200;

/// The largest datagram that MTU discovery tries, unless configured otherwise. Datagrams of this
/// size triple the throughput of the usual 1452 on a path that carries them (loopback, jumbo
/// frames); elsewhere discovery finds the path's own.
pub const DEFAULT_MTU_UPPER_BOUND: u16 = 6500;

/// What the MTU must stay below. Datagrams leave in bursts of ten that the kernel cuts up (GSO),
/// and a burst above 65507 bytes vanishes without an error.
pub const MTU_LIMIT: u16 = 6550;

/// The largest datagram this side is ready to receive: the largest that one of ours sends. An endpoint has memory for
/// 2,048 of this size, and touches all of it when much has come while it stood still.
pub const MAX_RECEIVED_DATAGRAM_BYTES: u16 = MTU_LIMIT - 1;

/// The UDP socket's send and receive buffers, each. The kernel may grant less.
pub const DEFAULT_SOCKET_BUFFER_BYTES: usize = 4 * MIB as usize;

/// Bytes of one stream that a peer may send before they are read.
pub const DEFAULT_STREAM_RECEIVE_WINDOW_BYTES: u32 = 2 * MIB;

/// Bytes of all streams of a client's connection that the client may send before the broker reads
/// them: what one client can make a broker hold.
pub const SERVER_CONNECTION_RECEIVE_WINDOW_BYTES: u32 = 8 * MIB;

/// The same on the client's side. Only the client opens streams, so that what a broker can make it
/// hold is bounded by the streams it opened times the stream window. The connection's window must
/// not be smaller than that sum: a consumer that pauses lets its fetch streams fill up, and if
/// they filled the connection's window too, the answer to its commit could not arrive any more.
pub const CLIENT_CONNECTION_RECEIVE_WINDOW_BYTES: u32 =
    DEFAULT_STREAM_RECEIVE_WINDOW_BYTES * MAX_STREAMS_PER_CONNECTION;

/// Bytes sent on one connection that wait for the peer's acknowledgement.
pub const DEFAULT_SEND_WINDOW_BYTES: u64 = 8 * MIB as u64;

/// A peer that has not been heard for this long is asked for a sign of life.
pub const DEFAULT_KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(400);

/// A peer that has not been heard for this long is gone.
pub const DEFAULT_MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a handshake may take, at either end.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it is seen to that peers hear of their connections' end. QUIC would do so for three times as long as it
/// takes to notice a loss: for seconds where nobody has ever answered.
pub const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Handshakes that may be under way at a listener.
pub const DEFAULT_MAX_INCOMING: usize = 1024;

/// Handshakes under way beyond which a newcomer must first show that its address is its own.
pub const DEFAULT_RETRY_ABOVE_HANDSHAKES: usize = 64;

/// Connections that a listener holds open.
pub const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// How a [`Listener`](crate::Listener) or [`Connector`](crate::Connector) uses the network.
///
/// Start from [`TransportConfig::server`] or [`TransportConfig::client`] and change what you need;
/// the whole is checked when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// The largest datagram that MTU discovery tries, bytes of UDP payload: 1200 or more and below
    /// [`MTU_LIMIT`].
    pub mtu_upper_bound: u16,
    /// The UDP socket's send and receive buffers, each, bytes.
    pub socket_buffer_bytes: usize,
    /// Bytes of one stream that the peer may send before they are read here.
    pub stream_receive_window_bytes: u32,
    /// Bytes of all streams of one connection that the peer may send before they are read here.
    pub connection_receive_window_bytes: u32,
    /// Bytes sent on one connection that wait for the peer's acknowledgement.
    pub send_window_bytes: u64,
    /// A peer that has not been heard for this long is asked for a sign of life.
    pub keep_alive_interval: Duration,
    /// A peer that has not been heard for this long is gone. The smaller of both sides' holds.
    pub max_idle_timeout: Duration,
    /// How long a handshake may take.
    pub connect_timeout: Duration,
    /// Bidirectional streams that the peer may hold open on one connection.
    pub max_streams: u32,
    /// Handshakes that may be under way at a listener; beyond it newcomers are refused.
    pub max_incoming: usize,
    /// Handshakes under way beyond which a newcomer must first show that its address is its own
    /// (a QUIC retry), so that nobody fills the listener from forged addresses.
    pub retry_above_handshakes: usize,
    /// Connections that a listener holds open; beyond it newcomers are refused.
    pub max_connections: usize,
    /// Where its UDP sockets come from: the system's network.
    pub network: Network,
}

impl TransportConfig {
    /// The defaults of a broker's listener.
    pub fn server() -> Self {
        Self {
            mtu_upper_bound: DEFAULT_MTU_UPPER_BOUND,
            socket_buffer_bytes: DEFAULT_SOCKET_BUFFER_BYTES,
            stream_receive_window_bytes: DEFAULT_STREAM_RECEIVE_WINDOW_BYTES,
            connection_receive_window_bytes: SERVER_CONNECTION_RECEIVE_WINDOW_BYTES,
            send_window_bytes: DEFAULT_SEND_WINDOW_BYTES,
            keep_alive_interval: DEFAULT_KEEP_ALIVE_INTERVAL,
            max_idle_timeout: DEFAULT_MAX_IDLE_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            max_streams: MAX_STREAMS_PER_CONNECTION,
            max_incoming: DEFAULT_MAX_INCOMING,
            retry_above_handshakes: DEFAULT_RETRY_ABOVE_HANDSHAKES,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            network: Network::default(),
        }
    }

    /// The defaults of a client's connector. The peer may open no streams: brokers only answer.
    pub fn client() -> Self {
        Self {
            connection_receive_window_bytes: CLIENT_CONNECTION_RECEIVE_WINDOW_BYTES,
            max_streams: 0,
            ..Self::server()
        }
    }

    /// Checks that the values make sense, alone and together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(MTU_INITIAL..MTU_LIMIT).contains(&self.mtu_upper_bound) {
            return Err(ConfigError::MtuUpperBound {
                bytes: self.mtu_upper_bound,
            });
        }
        if self.connection_receive_window_bytes < self.stream_receive_window_bytes {
            return Err(ConfigError::ConnectionWindowTooSmall {
                connection_bytes: self.connection_receive_window_bytes,
                stream_bytes: self.stream_receive_window_bytes,
            });
        }
        let positive = [
            (
                "stream_receive_window_bytes",
                self.stream_receive_window_bytes > 0,
            ),
            ("send_window_bytes", self.send_window_bytes > 0),
            ("keep_alive_interval", !self.keep_alive_interval.is_zero()),
            ("connect_timeout", !self.connect_timeout.is_zero()),
            ("max_incoming", self.max_incoming > 0),
            ("max_connections", self.max_connections > 0),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, holds)| !holds) {
            return Err(ConfigError::Zero { setting });
        }
        if self.max_idle_timeout <= self.keep_alive_interval {
            return Err(ConfigError::IdleTimeoutTooShort {
                timeout: self.max_idle_timeout,
                keep_alive: self.keep_alive_interval,
            });
        }
        Ok(())
    }
}

/// Why a [`TransportConfig`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The MTU bound lies outside of what QUIC demands and the kernel carries.
    #[error(
        "mtu_upper_bound of {bytes} bytes is not between {MTU_INITIAL} and {}: ten datagrams \
         leave together, and more than 65507 bytes at once are lost without an error",
        MTU_LIMIT - 1
    )]
    MtuUpperBound {
        /// The value.
        bytes: u16,
    },
    /// One stream could not use its own window.
    #[error(
        "connection_receive_window_bytes of {connection_bytes} is below \
         stream_receive_window_bytes of {stream_bytes}"
    )]
    ConnectionWindowTooSmall {
        /// The connection's window.
        connection_bytes: u32,
        /// The stream's window.
        stream_bytes: u32,
    },
    /// Idle connections would end between two keep-alives.
    #[error("max_idle_timeout of {timeout:?} is not above keep_alive_interval of {keep_alive:?}")]
    IdleTimeoutTooShort {
        /// The idle timeout.
        timeout: Duration,
        /// The keep-alive interval.
        keep_alive: Duration,
    },
    /// A setting must be more than nothing.
    #[error("{setting} is zero")]
    Zero {
        /// The field's name.
        setting: &'static str,
    },
}

const _: () = assert!(DEFAULT_MTU_UPPER_BOUND < MTU_LIMIT);
const _: () = assert!(MTU_LIMIT as usize * 10 <= 65_507);
const _: () =
    assert!(DEFAULT_STREAM_RECEIVE_WINDOW_BYTES <= SERVER_CONNECTION_RECEIVE_WINDOW_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(TransportConfig::server().validate(), Ok(()));
        assert_eq!(TransportConfig::client().validate(), Ok(()));
    }

    #[test]
    fn the_mtu_bound_stays_clear_of_the_black_hole() {
        for (bytes, valid) in [(1199, false), (1200, true), (6549, true), (6550, false)] {
            let config = TransportConfig {
                mtu_upper_bound: bytes,
                ..TransportConfig::server()
            };
            let expected = if valid {
                Ok(())
            } else {
                Err(ConfigError::MtuUpperBound { bytes })
            };
            assert_eq!(config.validate(), expected, "{bytes}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let server = TransportConfig::server();
        let small = TransportConfig {
            connection_receive_window_bytes: 1,
            ..server.clone()
        };
        assert!(matches!(
            small.validate(),
            Err(ConfigError::ConnectionWindowTooSmall { .. })
        ));
        let short = TransportConfig {
            max_idle_timeout: server.keep_alive_interval,
            ..server.clone()
        };
        assert!(matches!(
            short.validate(),
            Err(ConfigError::IdleTimeoutTooShort { .. })
        ));
        let nobody = TransportConfig {
            max_connections: 0,
            ..server
        };
        assert_eq!(
            nobody.validate(),
            Err(ConfigError::Zero {
                setting: "max_connections"
            })
        );
    }
}

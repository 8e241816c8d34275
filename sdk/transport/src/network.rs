//! A network other than the system's, beneath listeners and connectors: that of a simulation.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, TimeSource, UdpPoller};

/// Where UDP sockets come from, and the time where they are.
pub trait Sockets: fmt::Debug + Send + Sync + 'static {
    /// Opens a socket on a local address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// There is no such address, or it is taken.
    fn open(&self, address: SocketAddr) -> io::Result<Arc<dyn DatagramSocket>>;

    /// The time of day. What shows that a client has an address is dated by it.
    fn now(&self) -> SystemTime;
}

/// A UDP socket. Datagrams may get lost, twice or in another order.
pub trait DatagramSocket: fmt::Debug + Send + Sync + 'static {
    /// Where it is.
    ///
    /// # Errors
    ///
    /// It is not open any more.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sends a datagram, at once: one that has no room is lost.
    ///
    /// # Errors
    ///
    /// The socket cannot be used any more.
    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;

    /// Receives one datagram into `buffer`, and returns its length and where it comes from. Wakes the task of
    /// its last call.
    ///
    /// # Errors
    ///
    /// The socket cannot be used any more.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;
}

/// The network that a [`Listener`](crate::Listener) or [`Connector`](crate::Connector) uses: the system's by
/// default.
#[derive(Clone, Debug, Default)]
pub struct Network(Option<Arc<dyn Sockets>>);

impl Network {
    /// Another network than the system's. Addresses are not looked up there: they are numbers.
    pub fn of(sockets: impl Sockets) -> Self {
        Self(Some(Arc::new(sockets)))
    }

    /// Opens a socket of a network that is not the system's; `None` if it is.
    pub(crate) fn open(&self, address: SocketAddr) -> io::Result<Option<Arc<dyn AsyncUdpSocket>>> {
        let Some(sockets) = &self.0 else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Socket(sockets.open(address)?))))
    }

    /// The time there; `None` if it is the system's.
    pub(crate) fn clock(&self) -> Option<Arc<dyn TimeSource>> {
        let sockets = self.0.clone()?;
        Some(Arc::new(Clock(sockets)))
    }
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Network {}

/// The time as quinn wants it.
struct Clock(Arc<dyn Sockets>);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// A socket as quinn wants it: one datagram at a time, and always ready to send.
#[derive(Debug)]
struct Socket(Arc<dyn DatagramSocket>);

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.send(transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        self.0.poll_receive(context, buffer).map_ok(|(len, addr)| {
            *meta = RecvMeta {
                addr,
                len,
                stride: len,
                ecn: None,
                dst_ip: None,
            };
            1
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Never waits.
#[derive(Debug)]
struct Ready;

impl UdpPoller for Ready {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

//! The simulated network, as the transport wants it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use futures_util::FutureExt;
use millstream_transport::network::{DatagramSocket, Sockets};
use turmoil::net::UdpSocket;

use crate::entropy;
use crate::run::now;

/// One datagram in so many arrives twice.
const REPEATED_ONCE_IN: u64 = 400;

/// The network of the simulation in whose host it is used.
#[derive(Debug)]
pub(crate) struct Simulated;

impl Sockets for Simulated {
    fn open(&self, address: SocketAddr) -> io::Result<Arc<dyn DatagramSocket>> {
        let bound = UdpSocket::bind(address).now_or_never();
        let socket = bound.ok_or_else(|| io::Error::other("the simulation makes sockets wait"))?;
        Ok(Arc::new(Socket {
            udp: Arc::new(socket?),
            arrival: Mutex::default(),
        }))
    }

    fn now(&self) -> SystemTime {
        now()
    }
}

type Arrival = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

struct Socket {
    udp: Arc<UdpSocket>,
    /// What waits for the next datagram, while somebody does.
    arrival: Mutex<Option<Arrival>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

impl DatagramSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        for _ in 0..=u64::from(entropy::once_in(REPEATED_ONCE_IN)) {
            self.udp.try_send_to(datagram, to)?;
        }
        Ok(())
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut arrival = self.arrival.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waiting = arrival.get_or_insert_with(|| {
                let udp = Arc::clone(&self.udp);
                Box::pin(async move { udp.readable().await })
            });
            ready!(waiting.as_mut().poll(context))?;
            *arrival = None;
            match self.udp.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }
}

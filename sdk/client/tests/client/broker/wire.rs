//! A way to a broker that can fall silent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;

/// What no datagram exceeds.
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// Passes datagrams on to a broker and back, until it is cut.
pub(crate) struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) async fn to(broker: &str) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            address: front.local_addr().unwrap(),
            is_cut: Arc::default(),
        };
        let broker: SocketAddr = broker.parse().unwrap();
        tokio::spawn(pass_on(Arc::new(front), broker, Arc::clone(&wire.is_cut)));
        wire
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Nothing gets through from now on, in either direction, and nobody is told.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
    }

    /// It is whole again.
    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::Release);
    }
}

async fn pass_on(front: Arc<UdpSocket>, broker: SocketAddr, is_cut: Arc<AtomicBool>) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    while let Ok((bytes, from)) = front.recv_from(&mut datagram).await {
        let back = match flows.get(&from) {
            Some(back) => Arc::clone(back),
            None => {
                let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                back.connect(broker).await.unwrap();
                let back = Arc::new(back);
                flows.insert(from, Arc::clone(&back));
                let (front, is_cut) = (Arc::clone(&front), Arc::clone(&is_cut));
                tokio::spawn(pass_back(Arc::clone(&back), front, from, is_cut));
                back
            }
        };
        if !is_cut.load(Ordering::Acquire) {
            let _ = back.send(&datagram[..bytes]).await;
        }
    }
}

async fn pass_back(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    is_cut: Arc<AtomicBool>,
) {
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // An error says that nobody listened a moment ago.
        let Ok(bytes) = back.recv(&mut datagram).await else {
            continue;
        };
        if !is_cut.load(Ordering::Acquire) {
            let _ = front.send_to(&datagram[..bytes], to).await;
        }
    }
}

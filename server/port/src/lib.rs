//! UDP ports of brokers on this machine that are started again and again: the demo's, the bench's, the tests'.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports below are often taken by services.
const FIRST_PORT: u16 = 10_000;

/// Where Linux's own choice of ports begins, unless it says otherwise.
const USUAL_EPHEMERAL_START: u16 = 32_768;

/// Processes that look at the same time begin at different places: so far apart.
const STRIDE: u32 = 977;

/// A UDP port on loopback that stays a broker's while the broker is down: reserved until this is dropped.
///
/// A broker that comes back must get its port again, although everything else on the machine takes free ones
/// meanwhile. The port lies outside the range that the system picks from, and a TCP listener of the same number
/// keeps others away from it that look for one like this.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Reserves a port that nobody uses.
    ///
    /// # Errors
    ///
    /// There is none ([`AddrInUse`](io::ErrorKind::AddrInUse)).
    pub fn reserve() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ports = range();
        let count = u32::from(ports.end - ports.start);
        let first = std::process::id().wrapping_mul(STRIDE);
        let claimed = (0..count).find_map(|_| {
            let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
            Self::claim(ports.start + u16::try_from(place).ok()?)
        });
        claimed.ok_or_else(|| {
            let what = format!("no UDP port from {} to {} is free", ports.start, ports.end);
            io::Error::new(io::ErrorKind::AddrInUse, what)
        })
    }

    fn claim(number: u16) -> Option<Self> {
        let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _claim: claim,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where a broker listens that has it.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn range() -> Range<u16> {
    let end = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|end| *end > FIRST_PORT)
        .unwrap_or(USUAL_EPHEMERAL_START);
    FIRST_PORT..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_are_two_ports() {
        let (one, two) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        assert_ne!(one.address(), two.address());
        assert!(Port::claim(one.number()).is_none());
    }
}

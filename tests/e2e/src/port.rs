//! A UDP port that stays a broker's while the broker is down.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports below are often taken by services.
const FIRST_PORT: u16 = 10_000;

/// Where Linux's own choice of ports begins, unless it says otherwise.
const USUAL_EPHEMERAL_START: u16 = 32_768;

/// A UDP port on loopback, reserved until this is dropped.
///
/// A broker that is restarted must get its port back, although everything else on the machine takes
/// free ports meanwhile. The port lies outside the range that the system picks from, and a TCP
/// listener of the same number keeps other tests away from it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Reserves a port that nobody uses.
    pub fn reserve() -> Self {
        // Test processes and tests begin at different places, so that they rarely meet.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ports = range();
        let count = u32::from(ports.end - ports.start);
        let first = std::process::id().wrapping_mul(977);
        (0..count)
            .find_map(|_| {
                let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
                Self::claim(ports.start + u16::try_from(place).ok()?)
            })
            .expect("a free port")
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
        let (one, two) = (Port::reserve(), Port::reserve());
        assert_ne!(one.number(), two.number());
        assert!(Port::claim(one.number()).is_none());
    }
}

//! A UDP port that stays a broker's while the broker is down.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;

use anyhow::Context;

/// Ports below are often taken by services.
const FIRST_PORT: u16 = 10_000;

/// Where Linux's own choice of ports begins, unless it says otherwise.
const USUAL_EPHEMERAL_START: u16 = 32_768;

/// Two processes that look at the same time begin at different places: so far apart.
const STRIDE: u32 = 977;

/// A UDP port on loopback, reserved until this is dropped.
///
/// A broker that comes back must get its port again, although everything else on the machine takes free
/// ones meanwhile. It lies outside the range that the system picks from, and a TCP listener of the same
/// number keeps others away from it that look for one like this.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Reserves a port that nobody uses.
    pub(super) fn reserve() -> anyhow::Result<Self> {
        let ports = range();
        let count = u32::from(ports.end - ports.start);
        let first = std::process::id().wrapping_mul(STRIDE);
        let claimed = (0..count).find_map(|step| {
            let place = first.wrapping_add(step) % count;
            Self::claim(ports.start + u16::try_from(place).ok()?)
        });
        claimed.context("no UDP port is free on this machine")
    }

    fn claim(number: u16) -> Option<Self> {
        let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _claim: claim,
        })
    }

    /// Where a broker listens that has it.
    pub(super) fn address(&self) -> SocketAddr {
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
        assert!(Port::claim(one.number).is_none());
    }
}

//! `host:port`, as a person writes it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use millstream_protocol::api::DEFAULT_PORT;

/// Where a broker listens: a host name or IP address, and a UDP port.
///
/// Reads `host:port`, `host` (then the port is [`DEFAULT_PORT`]), `1.2.3.4:port` and
/// `[2001:db8::1]:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The host's name or IP address, without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address of the form host:port")]
pub struct AddressError {
    /// What was given.
    pub text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).ok_or_else(|| AddressError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<Address> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        let port = match rest {
            "" => DEFAULT_PORT,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        return Some(Address {
            host: host.to_owned(),
            port,
        });
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some(Address {
            host: text.to_owned(),
            port: DEFAULT_PORT,
        });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, DEFAULT_PORT),
    };
    let clean = |c: char| !c.is_whitespace() && !matches!(c, ':' | '/' | '[' | ']');
    (!host.is_empty() && host.chars().all(clean)).then(|| Address {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let check = |text: &str, host: &str, port: u16, written: &str| {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.host.as_str(), address.port),
                (host, port),
                "{text}"
            );
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        };
        check("localhost:1234", "localhost", 1234, "localhost:1234");
        check(
            "broker.example",
            "broker.example",
            9092,
            "broker.example:9092",
        );
        check("10.0.0.1:1", "10.0.0.1", 1, "10.0.0.1:1");
        check("10.0.0.1", "10.0.0.1", 9092, "10.0.0.1:9092");
        check("[::1]:77", "::1", 77, "[::1]:77");
        check("[::1]", "::1", 9092, "[::1]:9092");
        check("2001:db8::1", "2001:db8::1", 9092, "[2001:db8::1]:9092");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":9092",
            "host:",
            "host:70000",
            "[host]:1",
            "[::1",
            "[::1]x",
            "a b:1",
            "quic://host:1",
            "a:b:1",
        ] {
            assert_eq!(
                text.parse::<Address>(),
                Err(AddressError {
                    text: text.to_owned()
                })
            );
        }
    }
}

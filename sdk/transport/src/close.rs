//! Why a connection or a stream ended.
//!
//! One vocabulary serves all places where it can show. TLS 1.3 lets a client finish its handshake
//! before the server has looked at the client's certificate, so that a refusal may come out of
//! [`Connector::connect`](crate::Connector::connect) or of the first use of a stream: either way
//! it is [`CloseReason::CertificateRefused`].

use std::fmt;

use quinn::{ConnectionError, TransportErrorCode, VarInt};

/// Characters of a peer's explanation that are kept.
const MAX_MESSAGE_CHARS: usize = 512;

/// What one side tells the other when it closes a connection. Grows only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0: the last handle was dropped, nobody said why.
    Dropped,
    /// 1: the work is done.
    Done,
    /// 2: the process stops; connect elsewhere or later.
    ShuttingDown,
    /// 3: the principal may not connect.
    NotAuthorized,
    /// 4: the peer broke the protocol.
    ProtocolViolation,
    /// 5: at a limit; try again later.
    Busy,
    /// Any other: from a peer that knows more codes.
    Other(u32),
}

impl CloseCode {
    pub(crate) fn to_wire(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Dropped => 0,
            Self::Done => 1,
            Self::ShuttingDown => 2,
            Self::NotAuthorized => 3,
            Self::ProtocolViolation => 4,
            Self::Busy => 5,
            Self::Other(code) => code,
        })
    }

    fn from_wire(code: VarInt) -> Self {
        match code.into_inner() {
            0 => Self::Dropped,
            1 => Self::Done,
            2 => Self::ShuttingDown,
            3 => Self::NotAuthorized,
            4 => Self::ProtocolViolation,
            5 => Self::Busy,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Done => f.write_str("done"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::NotAuthorized => f.write_str("not authorized"),
            Self::ProtocolViolation => f.write_str("protocol violation"),
            Self::Busy => f.write_str("busy"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

/// What one side tells the other when it abandons one direction of a stream. Grows only at the
/// end. What a request failed of is said in a frame; this is for those who no longer listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamCode {
    /// 0: the last handle was dropped, nobody said why.
    Dropped,
    /// 1: no longer of interest.
    Cancelled,
    /// 2: what came could not be read.
    Malformed,
    /// Any other: from a peer that knows more codes.
    Other(u32),
}

impl StreamCode {
    pub(crate) fn to_wire(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Dropped => 0,
            Self::Cancelled => 1,
            Self::Malformed => 2,
            Self::Other(code) => code,
        })
    }

    pub(crate) fn from_wire(code: VarInt) -> Self {
        match code.into_inner() {
            0 => Self::Dropped,
            1 => Self::Cancelled,
            2 => Self::Malformed,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

impl fmt::Display for StreamCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Malformed => f.write_str("malformed"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

/// Why a connection is closed, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The peer closed it and says why.
    #[error("closed by the peer: {code}{}", after_colon(.message))]
    Peer {
        /// What the peer says.
        code: CloseCode,
        /// The same for a person; may be empty.
        message: String,
    },
    /// The peer has not been heard for the idle timeout.
    #[error("the peer has not been heard from for too long")]
    TimedOut,
    /// The peer does not know the connection any more: it was restarted.
    #[error("the peer has lost the connection, it was probably restarted")]
    Forgotten,
    /// The listener takes no further connections at the moment.
    #[error("the peer takes no further connections at the moment")]
    Refused,
    /// The peer does not accept this side's certificate.
    #[error("the peer refuses this side's certificate: {0}")]
    CertificateRefused(CertificateFault),
    /// This side does not accept the peer's certificate.
    #[error("the peer's certificate is not trusted: {0}")]
    PeerNotTrusted(CertificateFault),
    /// The sides do not speak the same protocol, or one of them broke it.
    #[error("protocol error: {message}")]
    Protocol {
        /// What happened.
        message: String,
    },
}

fn after_colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", after_colon(.detail))]
pub struct CertificateFault {
    /// The kind of fault.
    pub kind: CertificateFaultKind,
    /// What the side that looked at it adds; may be empty.
    pub detail: String,
}

/// The kinds of [`CertificateFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CertificateFaultKind {
    /// None was shown.
    #[error("no certificate was shown")]
    Missing,
    /// It is not signed by the authority of this cluster.
    #[error("it is not signed by this cluster's authority")]
    UnknownAuthority,
    /// It is not yet valid or no longer.
    #[error("it is expired or not valid yet")]
    Expired,
    /// It has been revoked.
    #[error("it has been revoked")]
    Revoked,
    /// It is a client's where a server's is needed, or the other way round.
    #[error("it is issued for another role")]
    WrongRole,
    /// It is not issued for the name that was asked for, or is malformed.
    #[error("it is not valid for this name, or malformed")]
    WrongName,
    /// It, or the proof that its key is at hand, is not valid.
    #[error("it is not valid")]
    Invalid,
}

impl CertificateFaultKind {
    /// What a person can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Missing => "connect with a client profile; `millstream dev` writes one",
            Self::UnknownAuthority => {
                "the profile belongs to another cluster, or the cluster's authority was made anew: \
                 take the profile that this broker's authority issued"
            }
            Self::Expired => "check the clocks of both machines, then issue a new certificate",
            Self::Revoked => "issue a new certificate",
            Self::WrongRole => "use a client's certificate to connect and a server's to listen",
            Self::WrongName => {
                "connect with a server name that the broker's certificate was issued for"
            }
            Self::Invalid => "issue the certificate and its key anew",
        }
    }

    /// Reads a TLS alert (RFC 8446, section 6) that is about a certificate.
    fn of_alert(alert: u8) -> Option<Self> {
        match alert {
            42 => Some(Self::WrongName),
            43 => Some(Self::WrongRole),
            44 => Some(Self::Revoked),
            45 => Some(Self::Expired),
            46 | 49 | 51 => Some(Self::Invalid),
            48 => Some(Self::UnknownAuthority),
            116 => Some(Self::Missing),
            _ => None,
        }
    }
}

impl CloseReason {
    /// What a person can do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::CertificateRefused(fault) | Self::PeerNotTrusted(fault) => {
                Some(fault.kind.hint())
            }
            Self::Refused => Some("try again in a moment"),
            Self::Local
            | Self::Peer { .. }
            | Self::TimedOut
            | Self::Forgotten
            | Self::Protocol { .. } => None,
        }
    }
}

impl CloseReason {
    pub(crate) fn of(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::ApplicationClosed(close) => Self::Peer {
                code: CloseCode::from_wire(close.error_code),
                message: printable(&close.reason),
            },
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::ConnectionClosed(close) => {
                let message = printable(&close.reason);
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED {
                    return Self::Refused;
                }
                match certificate_fault(close.error_code, &message) {
                    Some(fault) => Self::CertificateRefused(fault),
                    None => protocol(close.error_code, &message),
                }
            }
            ConnectionError::TransportError(error) => {
                let message = printable(error.reason.as_bytes());
                match certificate_fault(error.code, &message) {
                    Some(fault) => Self::PeerNotTrusted(fault),
                    None => protocol(error.code, &message),
                }
            }
            ConnectionError::VersionMismatch => Self::Protocol {
                message: "no common version of QUIC".to_owned(),
            },
            ConnectionError::CidsExhausted => Self::Protocol {
                message: "connection ids are exhausted".to_owned(),
            },
        }
    }
}

/// The TLS alert in a QUIC transport error (RFC 9001, section 4.8).
fn tls_alert(code: TransportErrorCode) -> Option<u8> {
    u64::from(code)
        .checked_sub(0x100)
        .and_then(|alert| u8::try_from(alert).ok())
}

fn certificate_fault(code: TransportErrorCode, message: &str) -> Option<CertificateFault> {
    let kind = CertificateFaultKind::of_alert(tls_alert(code)?)?;
    Some(CertificateFault {
        kind,
        detail: message.to_owned(),
    })
}

fn protocol(code: TransportErrorCode, message: &str) -> CloseReason {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    if tls_alert(code) == Some(NO_APPLICATION_PROTOCOL) {
        let message = "the peer does not speak Millstream's protocol, or another version of it";
        return CloseReason::Protocol {
            message: message.to_owned(),
        };
    }
    CloseReason::Protocol {
        message: format!("{code}{}", after_colon(message)),
    }
}

/// A peer's words, fit for a terminal.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        let codes = [
            CloseCode::Dropped,
            CloseCode::Done,
            CloseCode::ShuttingDown,
            CloseCode::NotAuthorized,
            CloseCode::ProtocolViolation,
            CloseCode::Busy,
            CloseCode::Other(77),
        ];
        for (index, code) in codes.into_iter().enumerate() {
            assert_eq!(CloseCode::from_wire(code.to_wire()), code);
            assert!(index == 6 || code.to_wire().into_inner() == index as u64);
        }
        let codes = [
            StreamCode::Dropped,
            StreamCode::Cancelled,
            StreamCode::Malformed,
            StreamCode::Other(9),
        ];
        for code in codes {
            assert_eq!(StreamCode::from_wire(code.to_wire()), code);
        }
    }

    #[test]
    fn a_peers_words_are_bounded_and_harmless() {
        let words = printable("\u{1b}[31mred\n".repeat(1000).as_bytes());
        assert_eq!(words.chars().count(), MAX_MESSAGE_CHARS);
        assert!(!words.chars().any(char::is_control));
    }
}

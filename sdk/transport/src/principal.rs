//! Who a certificate speaks for.
//!
//! The principal stands in the certificate as a URI among the subject's alternative names:
//! `millstream://client/alice`. Its role is held twice: by the URI, which the application reads,
//! and by the extended key usage, which TLS itself checks, so that a client's certificate cannot
//! pose as a server's even towards a peer that never looks at the URI.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The longest name of a principal, bytes: what X.509 allows for a common name.
pub const MAX_PRINCIPAL_NAME_BYTES: usize = 64;

const SCHEME: &str = "millstream://";

/// What a principal may be at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepts connections. May not open any.
    Server,
    /// Opens connections: an application, a person, the command line.
    Client,
    /// A broker of the cluster: accepts connections, and opens some to other brokers.
    Broker,
}

impl Role {
    /// The role as it stands in the certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Broker => "broker",
        }
    }

    /// May this role accept connections?
    pub fn accepts(self) -> bool {
        matches!(self, Self::Server | Self::Broker)
    }

    /// May this role open connections?
    pub fn connects(self) -> bool {
        matches!(self, Self::Client | Self::Broker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A party that has an identity: its role and its name.
///
/// Written and read as in the certificate: `millstream://client/alice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// What it may be at the other end of a connection.
    pub role: Role,
    /// Its name: letters, digits, `.`, `_` and `-`, at most [`MAX_PRINCIPAL_NAME_BYTES`].
    pub name: String,
}

/// Why there is no principal in a text or certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    /// A name is empty, too long or has other characters than allowed.
    #[error(
        "{name:?} is not a principal's name: 1 to {MAX_PRINCIPAL_NAME_BYTES} letters, digits, \
         '.', '_' or '-'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The URI is of another form or names another role.
    #[error("{uri:?} is not a principal of the form millstream://role/name")]
    Uri {
        /// The URI.
        uri: String,
    },
    /// The certificate cannot be read.
    #[error("malformed certificate: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate names no principal, or several.
    #[error("certificate names {count} principals instead of one")]
    Count {
        /// How many.
        count: usize,
    },
}

impl Principal {
    /// A principal of this role and name.
    pub fn new(role: Role, name: &str) -> Result<Self, PrincipalError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > MAX_PRINCIPAL_NAME_BYTES || !name.chars().all(allowed) {
            return Err(PrincipalError::Name {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            role,
            name: name.to_owned(),
        })
    }

    /// The principal that a certificate (DER) speaks for. The certificate's signature is not
    /// looked at: TLS has done that.
    pub(crate) fn of_certificate(der: &[u8]) -> Result<Self, PrincipalError> {
        let malformed = |reason: String| PrincipalError::Certificate { reason };
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| malformed(error.to_string()))?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.count()) {
            (Some(uri), 0) => uri.parse(),
            (first, more) => Err(PrincipalError::Count {
                count: usize::from(first.is_some()) + more,
            }),
        }
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(uri: &str) -> Result<Self, PrincipalError> {
        let malformed = || PrincipalError::Uri {
            uri: uri.to_owned(),
        };
        let (role, name) = uri
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(malformed)?;
        let role = [Role::Server, Role::Client, Role::Broker]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(malformed)?;
        Self::new(role, name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_read_and_written() {
        for role in [Role::Server, Role::Client, Role::Broker] {
            let principal = Principal::new(role, "edge-7.example_a").unwrap();
            assert_eq!(principal.to_string().parse(), Ok(principal));
        }
        assert_eq!(
            Principal::new(Role::Client, "alice").unwrap().to_string(),
            "millstream://client/alice"
        );
    }

    #[test]
    fn what_is_no_principal_is_refused() {
        for uri in [
            "",
            "millstream://client",
            "https://client/alice",
            "millstream://guest/alice",
        ] {
            assert_eq!(
                uri.parse::<Principal>(),
                Err(PrincipalError::Uri { uri: uri.into() })
            );
        }
        let long = "a".repeat(MAX_PRINCIPAL_NAME_BYTES + 1);
        for name in ["", "a/b", "a b", "ä", long.as_str()] {
            let uri = format!("millstream://client/{name}");
            assert_eq!(
                uri.parse::<Principal>(),
                Err(PrincipalError::Name { name: name.into() })
            );
        }
    }
}

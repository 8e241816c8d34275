//! Identities: the cluster's authority, what it issues, and their files.
//!
//! An identity is three PEM files: a certificate, its private key, and the authority's certificate
//! with which the other side is verified. Keys are ECDSA P-256. Secret keys are written readable
//! by their owner alone, and every file appears whole or not at all.

mod authority;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::principal::{Principal, PrincipalError};
use crate::private_file;
use crate::tls;

pub use authority::{AUTHORITY_VALIDITY, CERTIFICATE_VALIDITY};
pub use authority::{Authority, IssueError, IssuedIdentity, Signatures};

/// The largest certificate or key file that is read, bytes.
pub const MAX_IDENTITY_FILE_BYTES: u64 = 1024 * 1024;

/// A certificate that ends sooner than this is warned about when it is loaded.
const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Who this process is towards its peers, and whose certificates it accepts.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
    principal: Principal,
    expires_at: SystemTime,
}

/// Why an identity's file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Which of the three parts of an identity is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Certificate,
    Key,
    Ca,
}

/// What is wrong with a part of an identity, before it is known which file that is.
struct Fault {
    part: Part,
    reason: String,
}

impl Identity {
    /// Reads an identity from its PEM files: the certificate (a chain, the own one first), its
    /// private key, and the certificates of the authority that peers must be signed by.
    ///
    /// Warns when others than its owner can read the key, and when the certificate expires soon.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, IdentityError> {
        let chain_pem = read(certificate)?;
        let key_pem = read(key)?;
        let ca_pem = read(ca)?;
        if private_file::is_readable_by_others(key) {
            tracing::warn!(path = %key.display(), "private key is readable by others than its owner");
        }
        let identity = Self::from_pem(&chain_pem, &key_pem, &ca_pem).map_err(|fault| {
            let path = match fault.part {
                Part::Certificate => certificate,
                Part::Key => key,
                Part::Ca => ca,
            };
            IdentityError::Invalid {
                path: path.to_owned(),
                reason: fault.reason,
            }
        })?;
        let remaining = identity
            .expires_at
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        if remaining < EXPIRY_WARNING {
            let days = remaining.as_secs() / (24 * 60 * 60);
            tracing::warn!(path = %certificate.display(), days, "certificate expires soon");
        }
        Ok(identity)
    }

    fn from_pem(chain_pem: &[u8], key_pem: &[u8], ca_pem: &[u8]) -> Result<Self, Fault> {
        let certificate_fault = |reason: String| Fault {
            part: Part::Certificate,
            reason,
        };
        let chain = certificates(chain_pem, Part::Certificate)?;
        let authorities = certificates(ca_pem, Part::Ca)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| Fault {
            part: Part::Key,
            reason: describe(error, "private key"),
        })?;
        let leaf = chain.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let principal = Principal::of_certificate(leaf)
            .map_err(|error: PrincipalError| certificate_fault(error.to_string()))?;
        let expires_at = expiry(leaf).map_err(certificate_fault)?;
        let identity = Self {
            chain,
            key,
            authorities,
            principal,
            expires_at,
        };
        tls::check(&identity).map_err(|_| Fault {
            part: Part::Key,
            reason: "not the private key of the certificate".to_owned(),
        })?;
        identity.authority().map_err(|reason| Fault {
            part: Part::Ca,
            reason,
        })?;
        Ok(identity)
    }

    /// Who this identity speaks for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// When the certificate ceases to be valid.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The same certificate with a wrong idea of whose it is.
    #[cfg(test)]
    pub(crate) fn claiming(self, principal: Principal) -> Self {
        Self { principal, ..self }
    }

    pub(crate) fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }

    pub(crate) fn authority(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        for certificate in &self.authorities {
            store
                .add(certificate.clone())
                .map_err(|error| error.to_string())?;
        }
        Ok(store)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    private_file::read(path, MAX_IDENTITY_FILE_BYTES).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(pem: &[u8], part: Part) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |reason| Fault { part, reason };
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(describe(error, "certificate")))?;
    if found.is_empty() {
        return Err(fault(describe(pem::Error::NoItemsFound, "certificate")));
    }
    Ok(found)
}

fn describe(error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("holds no PEM {what}"),
        other => format!("malformed PEM {what}: {other}"),
    }
}

fn expiry(certificate: &[u8]) -> Result<SystemTime, String> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

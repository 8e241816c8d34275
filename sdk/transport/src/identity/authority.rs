//! The cluster's certificate authority and what it issues.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use super::{Fault, Identity, IdentityError, Part, read};
use crate::principal::{Principal, PrincipalError, Role};
use crate::private_file::{self, Readable};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an authority's certificate is valid: ten years.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How long an issued certificate is valid: two years.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// A certificate's serial number, bytes: no two of an authority's are the same.
const SERIAL_NUMBER_BYTES: usize = 16;

/// Certificates are valid from a day before they are made, for machines whose clocks are behind.
const CLOCK_SKEW: Duration = DAY;

/// How the keys of a cluster sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// ECDSA on P-256, which everything knows.
    #[default]
    Ecdsa,
    /// Ed25519, whose signatures are of one length: in a simulation every handshake has the same.
    Ed25519,
}

/// A certificate authority: it issues the identities of one cluster's brokers and clients, and
/// whoever holds its key can issue more. A broker needs its certificate only.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Why an authority or a certificate could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The name cannot be a principal's.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// A server's or broker's certificate needs a host name or IP address to be reached by.
    #[error("a {role}'s certificate needs at least one host")]
    NoHost {
        /// The role.
        role: Role,
    },
    /// This is neither a host name nor an IP address.
    #[error("{host:?} is neither a host name nor an IP address")]
    Host {
        /// What was given.
        host: String,
    },
    /// The cryptography refuses.
    #[error("cannot make a certificate: {reason}")]
    Crypto {
        /// Why.
        reason: String,
    },
}

/// A certificate and its key, just issued, as PEM texts.
pub struct IssuedIdentity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key: a secret.
    pub key_pem: String,
    /// The certificate of the authority that issued it.
    pub ca_pem: String,
}

impl Authority {
    /// Makes the authority of a new cluster. Two authorities of the same name are not the same.
    pub fn create(cluster: &str) -> Result<Self, IssueError> {
        Self::create_with(cluster, Signatures::default())
    }

    /// The same, with keys that sign so: its own, and those that it issues.
    pub fn create_with(cluster: &str, signatures: Signatures) -> Result<Self, IssueError> {
        let algorithm = match signatures {
            Signatures::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
            Signatures::Ed25519 => &rcgen::PKCS_ED25519,
        };
        let key = KeyPair::generate_for(algorithm).map_err(crypto)?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial_number()?);
        params.distinguished_name = authority_name(cluster, &key);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_VALIDITY);
        let certificate_pem = params.self_signed(&key).map_err(crypto)?.pem();
        Ok(Self {
            certificate_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads an authority from the PEM files of its certificate and private key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let invalid = |path: &Path, reason: String| IdentityError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let text = |path: &Path| {
            String::from_utf8(read(path)?).map_err(|_| invalid(path, "not a text".to_owned()))
        };
        let certificate_pem = text(certificate)?;
        let key_pair =
            KeyPair::from_pem(&text(key)?).map_err(|error| invalid(key, error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key_pair)
            .map_err(|error| invalid(certificate, error.to_string()))?;
        Ok(Self {
            certificate_pem,
            issuer,
        })
    }

    /// Writes the certificate and the private key, the latter readable by its owner alone.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), IdentityError> {
        write(key, &self.issuer.key().serialize_pem(), Readable::ByOwner)?;
        write(certificate, &self.certificate_pem, Readable::ByAll)
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate and a new key for a principal.
    ///
    /// `hosts` are the host names and IP addresses by which a server or broker is reached; at
    /// least one is needed. A client's certificate carries none.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        hosts: &[&str],
    ) -> Result<IssuedIdentity, IssueError> {
        self.sign(&certificate_params(&Principal::new(role, name)?, hosts)?)
    }

    /// A certificate that TLS takes for every purpose, whatever the role it names: from an
    /// authority that is careless.
    #[cfg(test)]
    pub(crate) fn issue_for_all_purposes(&self, role: Role, name: &str) -> IssuedIdentity {
        let mut params = certificate_params(&Principal::new(role, name).unwrap(), &["x"]).unwrap();
        params
            .subject_alt_names
            .push(host_name("localhost").unwrap());
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        self.sign(&params).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> Result<IssuedIdentity, IssueError> {
        let key = KeyPair::generate_for(self.issuer.key().algorithm()).map_err(crypto)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok(IssuedIdentity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.certificate_pem.clone(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl IssuedIdentity {
    /// The identity, ready to be used.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        let (certificate, key, ca) = (&self.certificate_pem, &self.key_pem, &self.ca_pem);
        Identity::from_pem(certificate.as_bytes(), key.as_bytes(), ca.as_bytes()).map_err(
            |Fault { part, reason }| {
                let part = match part {
                    Part::Certificate => "issued certificate",
                    Part::Key => "issued key",
                    Part::Ca => "issuing authority",
                };
                IdentityError::Invalid {
                    path: part.into(),
                    reason,
                }
            },
        )
    }

    /// Writes the three files, the private key readable by its owner alone.
    pub fn save(&self, certificate: &Path, key: &Path, ca: &Path) -> Result<(), IdentityError> {
        write(key, &self.key_pem, Readable::ByOwner)?;
        write(certificate, &self.certificate_pem, Readable::ByAll)?;
        write(ca, &self.ca_pem, Readable::ByAll)
    }
}

impl fmt::Debug for IssuedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedIdentity").finish_non_exhaustive()
    }
}

fn certificate_params(
    principal: &Principal,
    hosts: &[&str],
) -> Result<CertificateParams, IssueError> {
    let role = principal.role;
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial_number()?);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, principal.name.as_str());
    params.distinguished_name = name;
    let uri = principal.to_string().try_into().map_err(crypto)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, CERTIFICATE_VALIDITY);
    if role.connects() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    if role.accepts() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        if hosts.is_empty() {
            return Err(IssueError::NoHost { role });
        }
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
    }
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, IssueError> {
    if let Ok(ip) = host.parse() {
        return Ok(SanType::IpAddress(ip));
    }
    let invalid = || IssueError::Host {
        host: host.to_owned(),
    };
    rustls::pki_types::DnsName::try_from(host).map_err(|_| invalid())?;
    Ok(SanType::DnsName(host.try_into().map_err(|_| invalid())?))
}

/// The authority's subject. A part of its public key makes it unique, so that a certificate of
/// another cluster of the same name is seen as another authority's and not as a broken signature.
fn authority_name(cluster: &str, key: &KeyPair) -> DistinguishedName {
    let mut fingerprint = String::new();
    // The first byte of an uncompressed point tells its form only.
    for byte in key.public_key_raw().iter().skip(1).take(8) {
        // Writing to a string does not fail.
        let _ = write!(fingerprint, "{byte:02x}");
    }
    let mut name = DistinguishedName::new();
    name.push(
        DnType::OrganizationName,
        format!("Millstream cluster {cluster}"),
    );
    name.push(DnType::CommonName, format!("authority {fingerprint}"));
    name
}

/// Random, and always as long (RFC 5280, section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, IssueError> {
    let mut number = [0; SERIAL_NUMBER_BYTES];
    aws_lc_rs::rand::fill(&mut number).map_err(|error| IssueError::Crypto {
        reason: error.to_string(),
    })?;
    number[0] = number[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&number))
}

fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + validity).into();
}

fn crypto(error: rcgen::Error) -> IssueError {
    IssueError::Crypto {
        reason: error.to_string(),
    }
}

fn write(path: &Path, pem: &str, readable: Readable) -> Result<(), IdentityError> {
    private_file::write(path, pem.as_bytes(), readable).map_err(|source| IdentityError::Write {
        path: path.to_owned(),
        source,
    })
}

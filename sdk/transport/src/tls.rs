//! TLS as Millstream wants it: version 1.3, both sides authenticated, nothing early, nothing
//! resumed.

use std::sync::Arc;

use millstream_protocol::api::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;

use crate::identity::Identity;

/// Why TLS cannot be set up with an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot set up TLS: {reason}")]
pub struct TlsError {
    reason: String,
}

impl TlsError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self {
            reason: error.to_string(),
        }
    }
}

/// The cryptography, AES-128-GCM first: the fastest with AES in hardware, and as strong as the
/// P-256 keys of the certificates.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// A listener's side: the client must show a certificate of the identity's authority.
pub(crate) fn server(identity: &Identity) -> Result<Arc<QuicServerConfig>, TlsError> {
    let provider = provider();
    let authority = Arc::new(identity.authority().map_err(TlsError::of)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(authority, provider.clone())
        .build()
        .map_err(TlsError::of)?;
    let (chain, key) = identity.chain_and_key();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::of)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::of)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No early data: it could be replayed. Without tickets a client cannot even try.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let config = QuicServerConfig::try_from(config).map_err(TlsError::of)?;
    Ok(Arc::new(config))
}

/// A connector's side: the server must show a certificate of the identity's authority for the name
/// that is asked for.
pub(crate) fn client(identity: &Identity) -> Result<Arc<QuicClientConfig>, TlsError> {
    let (chain, key) = identity.chain_and_key();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::of)?
        .with_root_certificates(identity.authority().map_err(TlsError::of)?)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::of)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    let config = QuicClientConfig::try_from(config).map_err(TlsError::of)?;
    Ok(Arc::new(config))
}

/// Checks that an identity's parts fit together.
pub(crate) fn check(identity: &Identity) -> Result<(), TlsError> {
    let (chain, key) = identity.chain_and_key();
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::of)?;
    Ok(())
}

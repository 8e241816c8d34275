//! Who is refused, and whether the refusal names the reason.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use millstream::{Client, Error, ErrorCode, Profile};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::patience::within;
use millstream_e2e::wire::{Wire, hello, hello_for};
use millstream_protocol::api::hello::{DescribeBroker, HelloResponse};
use millstream_protocol::api::{ALPN, PROTOCOL_VERSION};
use millstream_transport::identity::{Authority, IssuedIdentity};
use millstream_transport::{CertificateFaultKind, CloseReason, ConnectError, Role};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// TLS alerts (RFC 8446, section 6) as QUIC carries them (RFC 9001, section 4.8).
const UNSUPPORTED_CERTIFICATE: u64 = 0x100 + 43;
const UNKNOWN_CA: u64 = 0x100 + 48;
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// The authority that signs this broker's certificates.
fn authority_of(broker: &Broker) -> Authority {
    let files = ["authority.pem", "authority.key"].map(|name| broker.identity_file(name));
    Authority::load(&files[0], &files[1]).expect("the broker's authority")
}

/// An identity's files in the broker's folder, which trust the authority in `ca`.
fn saved(broker: &Broker, name: &str, issued: &IssuedIdentity, ca: PathBuf) -> Profile {
    let file = |extension: &str| broker.folder().join(format!("{name}.{extension}"));
    issued
        .save(&file("pem"), &file("key"), &file("own-ca"))
        .expect("an identity's files");
    Profile {
        addresses: vec![broker.address()],
        server_name: "localhost".to_owned(),
        ca,
        certificate: file("pem"),
        key: file("key"),
    }
}

/// A client that no library of ours would be: with this certificate or none, and this protocol.
/// Gives the error code and the words that the broker closes its connection with.
async fn closed_by_broker(
    broker: &Broker,
    certificate: Option<&IssuedIdentity>,
    protocol: &[u8],
) -> (u64, String) {
    let mut roots = rustls::RootCertStore::empty();
    let authority = std::fs::read(broker.identity_file("authority.pem")).expect("the authority");
    roots
        .add(CertificateDer::from_pem_slice(&authority).expect("a certificate"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut tls = match certificate {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes());
            let chain = vec![chain.expect("a certificate")];
            builder
                .with_client_auth_cert(chain, key.expect("a key"))
                .expect("a usable pair")
        }
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS for QUIC");
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = quinn::Endpoint::client(any).expect("an endpoint");
    let address = broker.address().parse().expect("an address");
    let connecting = endpoint
        .connect_with(config, address, "localhost")
        .expect("an attempt");
    // The client's half of the handshake may be complete before the broker has looked at it.
    let error = match within("a handshake", connecting).await {
        Ok(connection) => within("a refusal", connection.closed()).await,
        Err(error) => error,
    };
    match error {
        quinn::ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            (u64::from(close.error_code), reason)
        }
        other => panic!("not closed by the broker: {other}"),
    }
}

async fn refused(profile: &Profile) -> Arc<ConnectError> {
    match within("a refusal", Client::from_profile(profile)).await {
        Err(Error::Connect(error)) => error,
        other => panic!("expected to be refused: {other:?}"),
    }
}

fn reason(error: &ConnectError) -> &CloseReason {
    match error {
        ConnectError::Closed { reason, .. } => reason,
        other => panic!("expected a closed connection: {other}"),
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let broker = Broker::start();
    let (code, words) = closed_by_broker(&broker, None, ALPN).await;
    assert_eq!(code, CERTIFICATE_REQUIRED, "{words}");
    // It has cost the broker nothing.
    broker.client().await.admin().list_topics().await.unwrap();
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_and_told_why() {
    let broker = Broker::start();
    let stranger = Authority::create("dev").unwrap();
    let issued = stranger.issue(Role::Client, "dev", &[]).unwrap();
    // It trusts this broker; the broker does not trust it.
    let profile = saved(
        &broker,
        "stranger",
        &issued,
        broker.identity_file("authority.pem"),
    );
    let error = refused(&profile).await;
    let CloseReason::CertificateRefused(fault) = reason(&error) else {
        panic!("not for its certificate: {error}")
    };
    assert_eq!(fault.kind, CertificateFaultKind::UnknownAuthority);
    assert!(
        error
            .to_string()
            .contains("not signed by this cluster's authority"),
        "{error}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("take the profile that this broker's authority issued")
    );
    assert_eq!(
        closed_by_broker(&broker, Some(&issued), ALPN).await.0,
        UNKNOWN_CA
    );

    // The command line says the same, with an exit code of its own.
    let path = broker.folder().join("stranger.toml");
    profile.save(&path).unwrap();
    let listed = run(broker.command(["topic", "list", "--profile"]).arg(&path)).exited(6);
    assert!(listed.stdout.is_empty());
    assert!(
        listed
            .stderr
            .contains("not signed by this cluster's authority"),
        "{listed:#?}"
    );
    assert!(listed.stderr.contains("try: "), "{listed:#?}");
    broker.client().await.admin().list_topics().await.unwrap();
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_trusted() {
    let broker = Broker::start();
    let stranger = Authority::create("dev").unwrap();
    let stranger_ca = broker.folder().join("stranger-ca.pem");
    stranger
        .save(&stranger_ca, &broker.folder().join("stranger-ca.key"))
        .unwrap();
    let profile = Profile {
        ca: stranger_ca,
        ..broker.profile()
    };
    let error = refused(&profile).await;
    assert!(
        matches!(reason(&error), CloseReason::PeerNotTrusted(_)),
        "{error}"
    );

    let elsewhere = Profile {
        server_name: "broker.example".to_owned(),
        ..broker.profile()
    };
    let error = refused(&elsewhere).await;
    let CloseReason::PeerNotTrusted(fault) = reason(&error) else {
        panic!("not for the broker's certificate: {error}")
    };
    assert_eq!(fault.kind, CertificateFaultKind::WrongName);
}

#[tokio::test]
async fn a_servers_certificate_is_no_clients() {
    let broker = Broker::start();
    let issued = authority_of(&broker)
        .issue(Role::Server, "dev", &["localhost"])
        .unwrap();
    let (code, words) = closed_by_broker(&broker, Some(&issued), ALPN).await;
    assert_eq!(code, UNSUPPORTED_CERTIFICATE, "{words}");

    let profile = saved(
        &broker,
        "server",
        &issued,
        broker.identity_file("authority.pem"),
    );
    let error = within("a refusal", Client::from_profile(&profile))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connector(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("millstream://server/dev may not open connections"),
        "{error}"
    );
    broker.client().await.admin().list_topics().await.unwrap();
}

#[tokio::test]
async fn every_client_of_the_authority_is_known_by_its_name() {
    let broker = Broker::start();
    let issued = authority_of(&broker)
        .issue(Role::Client, "alice", &[])
        .unwrap();
    let profile = saved(
        &broker,
        "alice",
        &issued,
        broker.identity_file("authority.pem"),
    );
    let client = Client::from_profile(&profile).await.unwrap();
    assert_eq!(client.broker().await.unwrap().principal, "alice");
    assert_eq!(
        broker.client().await.broker().await.unwrap().principal,
        "dev"
    );
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let broker = Broker::start();
    let issued = authority_of(&broker)
        .issue(Role::Client, "dev", &[])
        .unwrap();
    for protocol in [&b"h3"[..], b"millstream/2"] {
        let (code, words) = closed_by_broker(&broker, Some(&issued), protocol).await;
        assert_eq!(code, NO_APPLICATION_PROTOCOL, "{words}");
    }
}

#[tokio::test]
async fn another_version_is_refused_and_named() {
    let broker = Broker::start();
    let wire = Wire::connect(&broker).await;
    let (below, above) = (PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1);
    for (min, max) in [
        (0, below),
        (above, above),
        (above, u16::MAX),
        (above, below),
    ] {
        let refusal = wire.ask(hello_for(min, max)).await.unwrap_err();
        assert_eq!(
            refusal.code,
            ErrorCode::UnsupportedVersion,
            "{min} to {max}"
        );
        let words =
            format!("the client speaks protocol versions {min} to {max}, this broker speaks 1");
        assert_eq!(refusal.message, words);
        // A refused handshake opens nothing.
        let early = wire.ask(DescribeBroker {}).await.unwrap_err();
        assert_eq!(early.code, ErrorCode::HandshakeRequired);
    }
    // A client that speaks more versions than the broker finds the one that both speak.
    let response: HelloResponse = wire.ask(hello_for(below, u16::MAX)).await.unwrap();
    assert_eq!(response.version, PROTOCOL_VERSION);
    wire.ask(DescribeBroker {}).await.unwrap();
}

#[tokio::test]
async fn nothing_is_answered_before_the_handshake() {
    let broker = Broker::start();
    let wire = Wire::connect(&broker).await;
    let early = wire.ask(DescribeBroker {}).await.unwrap_err();
    assert_eq!(early.code, ErrorCode::HandshakeRequired);
    wire.ask(hello()).await.unwrap();
    wire.ask(DescribeBroker {}).await.unwrap();
}

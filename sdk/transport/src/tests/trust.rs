//! Who is let in, who is not, and what they are told.

use std::sync::Arc;

use millstream_protocol::api::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::version::TLS13;

use super::{authority, client_identity, listen, server_identity, within};
use crate::identity::{Authority, Identity};
use crate::{
    AcceptError, BindError, CertificateFault, CertificateFaultKind, CloseCode, CloseReason,
    ConnectError, Connector, ConnectorError, Listener, Principal, ReceiveError, Role,
    TransportConfig, tls,
};

/// Connects to a listener that accepts one attempt. The client's outcome is that of its connect or,
/// if that succeeds, of its first use of the connection.
async fn meet(
    listener: &Listener,
    client: &Identity,
    server_name: &str,
) -> (
    Result<Principal, CloseReason>,
    Result<Principal, AcceptError>,
) {
    let connector = Connector::new(client, TransportConfig::client()).unwrap();
    let address = listener.local_addr().to_string();
    let accepting = async {
        let connection = listener.accept().await.unwrap().accept().await?;
        let peer = connection.peer().clone();
        if let Ok((mut sender, mut receiver)) = connection.accept_stream().await {
            receiver.receive::<()>(0).await.unwrap();
            sender.send(&()).await.unwrap();
            connection.closed().await;
        }
        Ok(peer)
    };
    let connecting = async {
        let connection = match connector.connect(&address, server_name).await {
            Ok(connection) => connection,
            Err(ConnectError::Closed { reason, .. }) => return Err(reason),
            Err(error) => panic!("{error:?}"),
        };
        let (mut sender, mut receiver) = connection.open_stream().await?;
        // The answer tells how it went.
        let _ = sender.send(&()).await;
        match receiver.receive::<()>(0).await {
            Ok(_) => Ok(connection.peer().clone()),
            Err(ReceiveError::Closed(reason)) => {
                assert_eq!(connection.close_reason().as_ref(), Some(&reason));
                Err(reason)
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    within(async { tokio::join!(connecting, accepting) }).await
}

fn refused(outcome: &Result<Principal, CloseReason>) -> &CertificateFault {
    match outcome {
        Err(CloseReason::CertificateRefused(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn not_trusted(outcome: &Result<Principal, CloseReason>) -> &CertificateFault {
    match outcome {
        Err(CloseReason::PeerNotTrusted(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn accept_reason(outcome: &Result<Principal, AcceptError>) -> &CloseReason {
    match outcome {
        Err(AcceptError::Handshake { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_side_knows_the_other() {
    let authority = authority();
    let listener = listen(&server_identity(&authority), TransportConfig::server());
    let (server, client) = meet(&listener, &client_identity(&authority), "localhost").await;
    assert_eq!(
        server,
        Ok(Principal {
            role: Role::Server,
            name: "broker-1".into()
        })
    );
    assert_eq!(
        client,
        Ok(Principal {
            role: Role::Client,
            name: "alice".into()
        })
    );

    // By IP address too, where the certificate names it.
    let (server, _) = meet(&listener, &client_identity(&authority), "127.0.0.1").await;
    assert_eq!(server.map(|server| server.name), Ok("broker-1".into()));
}

#[tokio::test]
async fn brokers_accept_and_connect() {
    let authority = authority();
    let broker = |name| {
        authority
            .issue(Role::Broker, name, &["localhost"])
            .unwrap()
            .identity()
    };
    let listener = listen(&broker("one").unwrap(), TransportConfig::server());
    let (server, client) = meet(&listener, &broker("two").unwrap(), "localhost").await;
    assert_eq!(
        server,
        Ok(Principal {
            role: Role::Broker,
            name: "one".into()
        })
    );
    assert_eq!(
        client,
        Ok(Principal {
            role: Role::Broker,
            name: "two".into()
        })
    );
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let listener = listen(&server_identity(&ours), TransportConfig::server());
    // It trusts our server, but shows a certificate of theirs.
    let mut stranger = theirs.issue(Role::Client, "mallory", &[]).unwrap();
    stranger.ca_pem = ours.certificate_pem().to_owned();
    let (client, server) = meet(&listener, &stranger.identity().unwrap(), "localhost").await;
    let fault = refused(&client);
    assert_eq!(fault.kind, CertificateFaultKind::UnknownAuthority);
    assert!(fault.kind.hint().contains("another cluster"));
    let message = client.as_ref().unwrap_err().to_string();
    let expected = "the peer refuses this side's certificate: it is not signed by this cluster's \
                    authority";
    assert!(message.starts_with(expected), "{message}");
    assert!(
        matches!(accept_reason(&server), CloseReason::PeerNotTrusted(_)),
        "{server:?}"
    );
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (ours, theirs) = (authority(), authority());
    let listener = listen(&server_identity(&theirs), TransportConfig::server());
    let (client, server) = meet(&listener, &client_identity(&ours), "localhost").await;
    assert_eq!(
        not_trusted(&client).kind,
        CertificateFaultKind::UnknownAuthority
    );
    assert!(
        matches!(accept_reason(&server), CloseReason::CertificateRefused(_)),
        "{server:?}"
    );
}

#[tokio::test]
async fn a_server_of_another_name_is_not_trusted() {
    let authority = authority();
    let listener = listen(&server_identity(&authority), TransportConfig::server());
    let client = client_identity(&authority);
    let (outcome, _) = meet(&listener, &client, "elsewhere.example").await;
    let fault = not_trusted(&outcome);
    assert_eq!(fault.kind, CertificateFaultKind::WrongName);
    assert!(
        fault.detail.contains("elsewhere.example"),
        "{}",
        fault.detail
    );
}

/// An identity of one role with the certificate and key of another.
fn disguised(authority: &Authority, wears: Role, claims: Role) -> Identity {
    let worn = authority
        .issue(wears, "mallory", &["localhost"])
        .unwrap()
        .identity()
        .unwrap();
    worn.claiming(Principal::new(claims, "mallory").unwrap())
}

#[tokio::test]
async fn a_clients_certificate_does_not_serve() {
    let authority = authority();
    let client = client_identity(&authority);
    let address = "127.0.0.1:0".parse().unwrap();
    let error = Listener::bind(address, &client, TransportConfig::server()).unwrap_err();
    assert!(matches!(error, BindError::Role(_)), "{error:?}");

    // Nor when the server itself does not mind.
    let server = disguised(&authority, Role::Client, Role::Server);
    let listener = listen(&server, TransportConfig::server());
    let (outcome, _) = meet(&listener, &client, "localhost").await;
    assert_eq!(not_trusted(&outcome).kind, CertificateFaultKind::WrongRole);
}

#[tokio::test]
async fn a_servers_certificate_does_not_connect() {
    let authority = authority();
    let server = server_identity(&authority);
    let error = Connector::new(&server, TransportConfig::client()).unwrap_err();
    assert!(matches!(error, ConnectorError::Role(_)), "{error:?}");

    let listener = listen(&server, TransportConfig::server());
    let client = disguised(&authority, Role::Server, Role::Client);
    let (outcome, _) = meet(&listener, &client, "localhost").await;
    assert_eq!(refused(&outcome).kind, CertificateFaultKind::WrongRole);
}

#[tokio::test]
async fn the_role_holds_even_if_tls_lets_it_pass() {
    let authority = authority();
    let careless = |named, claims| {
        let issued = authority
            .issue_for_all_purposes(named, "mallory")
            .identity()
            .unwrap();
        issued.claiming(Principal::new(claims, "mallory").unwrap())
    };
    let (outcome, accepted) = {
        let listener = listen(&server_identity(&authority), TransportConfig::server());
        meet(
            &listener,
            &careless(Role::Server, Role::Client),
            "localhost",
        )
        .await
    };
    let message = "this role may not open connections".to_owned();
    assert_eq!(
        outcome,
        Err(CloseReason::Peer {
            code: CloseCode::NotAuthorized,
            message
        })
    );
    assert!(
        matches!(accepted, Err(AcceptError::Role { .. })),
        "{accepted:?}"
    );

    let server = careless(Role::Client, Role::Server);
    let listener = listen(&server, TransportConfig::server());
    let connector =
        Connector::new(&client_identity(&authority), TransportConfig::client()).unwrap();
    let address = listener.local_addr().to_string();
    let accepting = async {
        let accepted = listener.accept().await.unwrap().accept().await;
        accepted.unwrap().closed().await
    };
    let connecting = connector.connect(&address, "localhost");
    let (outcome, closed) = within(async { tokio::join!(connecting, accepting) }).await;
    let Err(ConnectError::Principal { reason, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        reason,
        "millstream://client/mallory may not accept connections"
    );
    let message = reason;
    assert_eq!(
        closed,
        CloseReason::Peer {
            code: CloseCode::NotAuthorized,
            message
        }
    );
}

/// A client's TLS configuration that is made like ours, but may differ from it.
fn foreign_client(
    identity: &Identity,
    with_certificate: bool,
    alpn: &[u8],
) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(identity.authority().unwrap());
    let mut config = if with_certificate {
        let (chain, key) = identity.chain_and_key();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

fn quic_client(tls: rustls::ClientConfig) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// The first thing that a foreign client learns: from its handshake or from the close after it.
async fn foreign_outcome(endpoint: &quinn::Endpoint, listener: &Listener) -> CloseReason {
    let connecting = endpoint
        .connect(listener.local_addr(), "localhost")
        .unwrap();
    CloseReason::of(match connecting.await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    })
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = authority();
    let listener = listen(&server_identity(&authority), TransportConfig::server());
    let endpoint = quic_client(foreign_client(&client_identity(&authority), false, ALPN));
    let accepting = async { listener.accept().await.unwrap().accept().await.map(|_| ()) };
    let (reason, accepted) =
        within(async { tokio::join!(foreign_outcome(&endpoint, &listener), accepting) }).await;
    let CloseReason::CertificateRefused(fault) = &reason else {
        panic!("{reason:?}")
    };
    assert_eq!(fault.kind, CertificateFaultKind::Missing);
    assert!(reason.hint().unwrap().contains("client profile"));
    let Err(AcceptError::Handshake {
        reason: CloseReason::PeerNotTrusted(fault),
        ..
    }) = accepted
    else {
        panic!("{accepted:?}")
    };
    assert_eq!(fault.kind, CertificateFaultKind::Missing);
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let authority = authority();
    let listener = listen(&server_identity(&authority), TransportConfig::server());
    let endpoint = quic_client(foreign_client(&client_identity(&authority), true, b"h3"));
    let accepting = async { listener.accept().await.unwrap().accept().await.map(|_| ()) };
    let (reason, accepted) =
        within(async { tokio::join!(foreign_outcome(&endpoint, &listener), accepting) }).await;
    let CloseReason::Protocol { message } = &reason else {
        panic!("{reason:?}")
    };
    assert!(
        message.contains("does not speak Millstream's protocol"),
        "{message}"
    );
    assert!(accepted.is_err());
}

/// Connects twice with a client that does all it can to send early data the second time. Was it
/// able to, and did the server accept it?
async fn early_data_goes_through(
    endpoint: &quinn::Endpoint,
    address: std::net::SocketAddr,
) -> bool {
    let first = endpoint
        .connect(address, "localhost")
        .unwrap()
        .await
        .unwrap();
    // A round trip on a stream: whatever tickets the server gives have come by then.
    let (mut send, mut receive) = first.open_bi().await.unwrap();
    send.write_all(b"?").await.unwrap();
    send.finish().unwrap();
    receive.read_to_end(1).await.unwrap();
    first.close(0u32.into(), b"");
    match endpoint.connect(address, "localhost").unwrap().into_0rtt() {
        Ok((connection, accepted)) => {
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(b"an early request").await.unwrap();
            accepted.await
        }
        Err(connecting) => {
            connecting.await.unwrap();
            false
        }
    }
}

async fn answer(connection: quinn::Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        // A client that goes away early is no concern of this server.
        let _ = receive.read_to_end(100).await;
        let _ = send.write_all(b"!").await;
    }
}

#[tokio::test]
async fn early_data_is_refused() {
    let authority = authority();
    let mut eager = foreign_client(&client_identity(&authority), true, ALPN);
    eager.enable_early_data = true;

    // The proof that this client would succeed: towards a server that allows it, it does.
    let (chain, key) = server_identity(&authority).chain_and_key();
    let mut lax = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    lax.alpn_protocols = vec![ALPN.to_vec()];
    lax.max_early_data_size = u32::MAX;
    let lax = QuicServerConfig::try_from(lax).unwrap();
    let lax = quinn::ServerConfig::with_crypto(Arc::new(lax));
    let lax = quinn::Endpoint::server(lax, "127.0.0.1:0".parse().unwrap()).unwrap();
    let lax_address = lax.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Some(incoming) = lax.accept().await {
            tokio::spawn(async move { answer(incoming.await.unwrap()).await });
        }
    });
    let client = quic_client(eager.clone());
    assert!(within(early_data_goes_through(&client, lax_address)).await);
    serving.abort();

    let listener = listen(&server_identity(&authority), TransportConfig::server());
    let address = listener.local_addr();
    let serving = tokio::spawn(async move {
        while let Some(incoming) = listener.accept().await {
            tokio::spawn(async move { answer(incoming.accept_quic().await).await });
        }
    });
    let client = quic_client(eager);
    assert!(!within(early_data_goes_through(&client, address)).await);
    serving.abort();
}

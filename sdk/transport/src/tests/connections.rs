//! Connections as a whole: closing, idling, limits at the listener.

use std::sync::mpsc;
use std::time::Duration;

use super::{Pair, authority, client_identity, listen, server_identity, within};
use crate::config::ConfigError;
use crate::connector::AttemptError;
use crate::{
    AcceptError, BindError, CloseCode, CloseReason, ConnectError, Connector, ConnectorError,
    Listener, TransportConfig,
};

fn impatient(config: TransportConfig) -> TransportConfig {
    TransportConfig {
        keep_alive_interval: Duration::from_millis(50),
        max_idle_timeout: Duration::from_millis(300),
        ..config
    }
}

#[tokio::test]
async fn a_killed_peer_is_given_up_after_the_idle_timeout() {
    let authority = authority();
    let listener = listen(
        &server_identity(&authority),
        impatient(TransportConfig::server()),
    );
    let address = listener.local_addr().to_string();
    let identity = client_identity(&authority);
    let (killed, kill) = mpsc::channel();
    // The client lives on a runtime of its own, and dies with it: it has no time to say goodbye.
    let victim = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connector = Connector::new(&identity, TransportConfig::client()).unwrap();
        let connection = runtime.block_on(async {
            let connection = connector.connect(&address, "localhost").await.unwrap();
            let (mut sender, mut receiver) = connection.open_stream().await.unwrap();
            sender.send(&()).await.unwrap();
            receiver.receive::<()>(0).await.unwrap();
            connection
        });
        drop(runtime);
        killed.send(connection).unwrap();
    });
    let server = within(async { listener.accept().await.unwrap().accept().await.unwrap() }).await;
    let (mut sender, mut receiver) = within(server.accept_stream()).await.unwrap();
    within(receiver.receive::<()>(0)).await.unwrap();
    sender.send(&()).await.unwrap();
    assert_eq!(within(server.closed()).await, CloseReason::TimedOut);
    victim.join().unwrap();
    drop(kill.recv().unwrap());
}

#[tokio::test]
async fn an_idle_connection_stays_open_and_shows_life() {
    let pair = Pair::with(
        impatient(TransportConfig::server()),
        impatient(TransportConfig::client()),
    )
    .await;
    // Twice as many signs of life as fit into one idle timeout, on both sides.
    for connection in [&pair.server, &pair.client] {
        let enough = connection.datagrams_received() + 12;
        within(async {
            while connection.datagrams_received() < enough {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(connection.close_reason(), None);
    }
}

#[tokio::test]
async fn closing_a_listener_tells_every_client() {
    let pair = Pair::connect().await;
    pair.listener.close(CloseCode::ShuttingDown, "stopping");
    let reason = within(pair.client.closed()).await;
    let message = "stopping".to_owned();
    assert_eq!(
        reason,
        CloseReason::Peer {
            code: CloseCode::ShuttingDown,
            message
        }
    );
    assert!(within(pair.listener.accept()).await.is_none());
    within(pair.listener.wait_idle()).await;
    assert_eq!(pair.listener.open_connections(), 0);
}

#[tokio::test]
async fn closing_a_connector_tells_the_broker() {
    let pair = Pair::connect().await;
    assert!(pair.client.stable_id() != pair.server.stable_id());
    pair.connector.close(CloseCode::Done, "");
    let reason = within(pair.server.closed()).await;
    assert_eq!(
        reason,
        CloseReason::Peer {
            code: CloseCode::Done,
            message: String::new()
        }
    );
    within(pair.connector.wait_idle()).await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let pair = Pair::connect().await;
    let second = pair.client.clone();
    drop(pair.client);
    assert_eq!(pair.server.close_reason(), None);
    drop(second);
    let reason = within(pair.server.closed()).await;
    assert_eq!(
        reason,
        CloseReason::Peer {
            code: CloseCode::Dropped,
            message: String::new()
        }
    );
}

#[tokio::test]
async fn nobody_answers() {
    let authority = authority();
    let config = TransportConfig {
        connect_timeout: Duration::from_millis(200),
        ..TransportConfig::client()
    };
    let connector = Connector::new(&client_identity(&authority), config.clone()).unwrap();
    // A socket that is bound and read by nobody.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = within(connector.connect(&address, "localhost"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no answer from {address} within 200ms")
    );
    assert!(error.hint().is_some());

    let error = within(connector.connect("not an address", "localhost"))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Address(_)), "{error:?}");
    let error = within(connector.connect(&address, "not a name"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::ServerName { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn of_several_addresses_the_one_that_answers_is_taken() {
    let (ours, theirs) = (authority(), authority());
    let connector = Connector::new(&client_identity(&ours), TransportConfig::client()).unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let stranger = listen(&server_identity(&theirs), TransportConfig::server());
    let broker = listen(&server_identity(&ours), TransportConfig::server());
    let accepting = async {
        // The stranger's handshake fails; ours is held open until the test is over.
        let stranger = async { stranger.accept().await.unwrap().accept().await.map(|_| ()) };
        let broker = async { broker.accept().await.unwrap().accept().await };
        tokio::join!(stranger, broker)
    };
    let addresses = [silent, stranger.local_addr(), broker.local_addr()];
    let connecting = connector.try_all(&addresses, "localhost");
    let (found, (turned_away, _held)) = within(async { tokio::join!(connecting, accepting) }).await;
    let found = found.unwrap_or_else(|_| panic!("one of them is ours"));
    assert_eq!(found.remote_address(), broker.local_addr());
    assert!(turned_away.is_err());

    // Of several failures, the one that says more than silence does, whichever comes first.
    for patience_ms in [100, 600] {
        let config = TransportConfig {
            connect_timeout: Duration::from_millis(patience_ms),
            ..TransportConfig::client()
        };
        let connector = Connector::new(&client_identity(&ours), config).unwrap();
        let accepting = async { stranger.accept().await.unwrap().accept().await.map(|_| ()) };
        let connecting = connector.try_all(&addresses[..2], "localhost");
        let (found, _) = within(async { tokio::join!(connecting, accepting) }).await;
        let Err(Some(AttemptError::Closed(CloseReason::PeerNotTrusted(_)))) = found else {
            panic!("the stranger's certificate is the reason")
        };
    }
}

#[tokio::test]
async fn a_full_listener_refuses() {
    let authority = authority();
    let config = TransportConfig {
        max_connections: 1,
        ..TransportConfig::server()
    };
    let listener = listen(&server_identity(&authority), config);
    let address = listener.local_addr().to_string();
    let connector =
        Connector::new(&client_identity(&authority), TransportConfig::client()).unwrap();
    let accepting = async {
        let mut open = Vec::new();
        while let Some(incoming) = listener.accept().await {
            open.push(incoming.accept().await.unwrap());
        }
    };
    let connecting = async {
        let _first = connector.connect(&address, "localhost").await.unwrap();
        let error = connector.connect(&address, "localhost").await.unwrap_err();
        let ConnectError::Closed { reason, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(reason, CloseReason::Refused);
        listener.close(CloseCode::Done, "");
    };
    within(async { tokio::join!(accepting, connecting) }).await;
}

#[tokio::test]
async fn a_busy_listener_has_newcomers_prove_their_address() {
    let authority = authority();
    let config = TransportConfig {
        retry_above_handshakes: 0,
        ..TransportConfig::server()
    };
    let listener = listen(&server_identity(&authority), config);
    let address = listener.local_addr().to_string();
    let connector =
        Connector::new(&client_identity(&authority), TransportConfig::client()).unwrap();
    let accepting = async {
        let incoming = listener.accept().await.unwrap();
        assert!(incoming.address_is_proved());
        incoming.accept().await.unwrap()
    };
    let (client, server) =
        within(async { tokio::join!(connector.connect(&address, "localhost"), accepting) }).await;
    assert_eq!(client.unwrap().peer().name, "broker-1");
    assert_eq!(server.peer().name, "alice");
}

#[tokio::test]
async fn a_handshake_that_stalls_is_given_up() {
    let authority = authority();
    let config = TransportConfig {
        connect_timeout: Duration::from_millis(100),
        ..TransportConfig::server()
    };
    let listener = listen(&server_identity(&authority), config);
    let address = listener.local_addr().to_string();
    let identity = client_identity(&authority);
    // The client's runtime stops after its first flight.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (started, wait) = mpsc::channel();
    let stalled = std::thread::spawn(move || {
        runtime.block_on(async {
            let connector = Connector::new(&identity, TransportConfig::client()).unwrap();
            let connect = connector.connect(&address, "localhost");
            tokio::select! {
                biased;
                _ = connect => panic!("nobody has accepted"),
                _ = tokio::task::spawn_blocking(move || wait.recv()) => {}
            }
        });
        // The runtime is no longer driven, but still there: nothing more is sent.
        runtime
    });
    let incoming = within(listener.accept()).await.unwrap();
    started.send(()).unwrap();
    let runtime = tokio::task::spawn_blocking(|| stalled.join().unwrap())
        .await
        .unwrap();
    let peer_address = incoming.peer_address();
    let error = within(incoming.accept()).await.unwrap_err();
    assert_eq!(error, AcceptError::TimedOut { peer_address });
    runtime.shutdown_background();
}

#[tokio::test]
async fn bad_configurations_and_places_are_named() {
    let authority = authority();
    let identity = server_identity(&authority);
    let config = TransportConfig {
        mtu_upper_bound: 9000,
        ..TransportConfig::server()
    };
    let error = Listener::bind("127.0.0.1:0".parse().unwrap(), &identity, config.clone());
    let expected = ConfigError::MtuUpperBound { bytes: 9000 };
    assert!(matches!(error, Err(BindError::Config(found)) if found == expected));
    let error = Connector::new(&client_identity(&authority), config);
    assert!(matches!(error, Err(ConnectorError::Config(found)) if found == expected));

    let taken = listen(&identity, TransportConfig::server()).local_addr();
    let _holder = std::net::UdpSocket::bind(taken);
    let error = Listener::bind(
        "203.0.113.1:0".parse().unwrap(),
        &identity,
        TransportConfig::server(),
    );
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "cannot listen on 203.0.113.1:0");
    assert!(std::error::Error::source(&error).is_some());
}

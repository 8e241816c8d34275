//! Connecting, and connecting again.

use std::time::Duration;

use millstream::{Advice, Client, Error, ErrorCode, Profile};
use millstream_protocol::api::Request;
use millstream_transport::identity::Authority;
use millstream_transport::{CloseReason, ConnectError, Role};

use crate::broker::{Broker, PATIENCE, error};

#[tokio::test]
async fn the_handshake_says_who_is_there() {
    let broker = Broker::start().await;
    let client = broker
        .client_builder()
        .client_name("tests")
        .connect()
        .await
        .unwrap();
    assert_eq!(client.broker().await.unwrap().software, "fake/0");
    let state = broker.state();
    let (_, Request::Hello(hello)) = &state.requests[0] else {
        panic!("the first request is {:?}", state.requests[0])
    };
    assert_eq!(hello.client_name, "tests");
    assert!(hello.software.starts_with("millstream-rust/"));
}

#[tokio::test]
async fn a_profile_is_all_it_takes() {
    let broker = Broker::start().await;
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let (certificate, key, ca) = (path("client.pem"), path("client-key.pem"), path("ca.pem"));
    broker.issued().save(&certificate, &key, &ca).unwrap();
    let profile = Profile {
        addresses: vec![broker.address()],
        server_name: "localhost".to_owned(),
        ca,
        certificate,
        key,
    };
    let client = Client::from_profile(&profile).await.unwrap();
    assert_eq!(client.admin().describe_broker().await.unwrap().broker_id, 1);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let without_address = Client::builder().connect().await;
    assert!(
        matches!(without_address, Err(Error::InvalidArgument(message)) if message.contains("address"))
    );
    let without_identity = Client::builder().address("localhost").connect().await;
    assert!(
        matches!(without_identity, Err(Error::InvalidArgument(message)) if message.contains("identity"))
    );
}

#[tokio::test]
async fn an_unknown_certificate_is_refused() {
    let broker = Broker::start().await;
    let stranger = Authority::create("elsewhere").unwrap();
    let mut issued = stranger.issue(Role::Client, "stranger", &[]).unwrap();
    // It trusts the broker, but not the other way round.
    issued.ca_pem = broker.issued().ca_pem;
    let refused = broker
        .client_builder()
        .identity(issued.identity().unwrap())
        .connect()
        .await
        .unwrap_err();
    assert_eq!(refused.advice(), Advice::GiveUp);
    assert!(refused.hint().is_some());
    let Error::Connect(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        matches!(
            &*reason,
            ConnectError::Closed {
                reason: CloseReason::CertificateRefused(_),
                ..
            }
        ),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_trusted() {
    let broker = Broker::start().await;
    let elsewhere = Authority::create("elsewhere").unwrap();
    let identity = elsewhere
        .issue(Role::Client, "tester", &[])
        .unwrap()
        .identity()
        .unwrap();
    let refused = broker
        .client_builder()
        .identity(identity)
        .connect()
        .await
        .unwrap_err();
    let Error::Connect(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        matches!(
            &*reason,
            ConnectError::Closed {
                reason: CloseReason::PeerNotTrusted(_),
                ..
            }
        ),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_refused_handshake_is_the_brokers_answer() {
    let broker = Broker::start().await;
    broker.faults(|faults| {
        faults.refuse_hello = Some(error(ErrorCode::UnsupportedVersion, "version 1 is too old"))
    });
    let refused = broker.client_builder().connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnsupportedVersion));
    assert_eq!(refused.to_string(), "version 1 is too old");
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_once_for_all() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    broker.kill_connections();
    let calls = (0..20).map(|_| {
        let admin = client.admin();
        tokio::spawn(async move { admin.describe_broker().await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    // A call may meet the old connection before it is known to be dead, but never makes a third.
    assert_eq!(broker.state().hello_count, 2);
}

#[tokio::test]
async fn requests_wait_for_a_broker_that_comes_back() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    broker.stop();
    let admin = client.admin();
    let call = tokio::spawn(async move { admin.describe_broker().await });
    broker.come_back();
    assert_eq!(call.await.unwrap().unwrap().broker_id, 1);
}

#[tokio::test]
async fn requests_give_up_in_time() {
    let broker = Broker::start().await;
    let client = broker
        .client_builder()
        .request_timeout(Duration::from_millis(300))
        .connect()
        .await
        .unwrap();
    broker.stop();
    let call = tokio::time::timeout(PATIENCE, client.admin().describe_broker())
        .await
        .unwrap();
    assert_eq!(call.unwrap_err().advice(), Advice::Retry);
}

#[tokio::test]
async fn a_closed_client_stays_closed() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.clone().close();
    let refused = client.admin().describe_broker().await;
    assert!(
        matches!(refused, Err(Error::Closed { what: "client" })),
        "{refused:?}"
    );
}

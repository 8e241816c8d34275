//! Calls.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_peer::limits::{CALLS_IN_FLIGHT, MAX_CALL_BYTES};
use millstream_peer::{CallError, PeerService};
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::identity::Authority;

use crate::node::{Node, introduce};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

async fn call(node: &Node, to: u32, request: &'static [u8]) -> Result<Bytes, CallError> {
    let request = Bytes::from_static(request);
    let service = PeerService::Cluster;
    node.links.call(to, service, request, LONG).await
}

#[tokio::test]
async fn calls_are_answered_refused_or_too_long() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    assert_eq!(call(&one, 2, b"hello").await.unwrap(), "Cluster hello");
    let request = Bytes::from_static(b"vote");
    let answer = two.links.call(1, PeerService::Consensus, request, LONG);
    assert_eq!(answer.await.unwrap(), "Consensus vote");

    let refused = WireError::new(ErrorCode::NotReady, "not now");
    assert_eq!(
        call(&one, 2, b"refuse").await,
        Err(CallError::Refused(refused))
    );
    let bytes = MAX_CALL_BYTES + 1;
    let too_long = Err(CallError::TooLong { bytes });
    assert_eq!(call(&one, 2, b"long").await, too_long);
    let request = Bytes::from(vec![0; bytes]);
    let sent = one.links.call(2, PeerService::Cluster, request, LONG);
    assert_eq!(sent.await, too_long);
    let request = Bytes::from(vec![0; MAX_CALL_BYTES - 100]);
    let sent = one.links.call(2, PeerService::Cluster, request, LONG);
    assert_eq!(sent.await.unwrap().len(), MAX_CALL_BYTES - 100 + 8);
}

async fn silence_for(node: &Node, limit: Duration) -> Result<Bytes, CallError> {
    let request = Bytes::from_static(b"silence");
    node.links
        .call(2, PeerService::Cluster, request, limit)
        .await
}

#[tokio::test]
async fn a_call_takes_no_longer_than_it_may() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    let silence = || silence_for(&one, SHORT);
    assert_eq!(silence().await, Err(CallError::TimedOut));
    // As many as may be under way leave no place for another.
    let mut calls: Vec<_> = (0..CALLS_IN_FLIGHT)
        .map(|_| Box::pin(silence_for(&one, LONG)))
        .collect();
    let all = std::future::poll_fn(|context| {
        let ready = calls
            .iter_mut()
            .any(|it| it.as_mut().poll(context).is_ready());
        assert!(!ready, "there is no answer");
        std::task::Poll::<()>::Pending
    });
    let others = async {
        let reason = "too many others call it".to_owned();
        let full = Err(CallError::NotAsked { reason });
        assert_eq!(silence().await, full);
        let request = Bytes::from_static(b"hello");
        let (service, limit) = (PeerService::Cluster, SHORT * 4);
        let waits = one.links.call(2, service, request.clone(), limit).await;
        assert_eq!(waits, full);
        // What must not wait does not.
        let ahead = one.links.call_ahead(2, service, request.clone(), LONG);
        assert_eq!(ahead.await.unwrap(), "Cluster hello");
        // Those to another service do not wait for them.
        let called = one
            .links
            .call(2, PeerService::Consensus, request, LONG)
            .await;
        assert_eq!(called.unwrap(), "Consensus hello");
    };
    tokio::select! {
        biased;
        () = all => {}
        () = others => {}
    }
    drop(calls);
    assert_eq!(call(&one, 2, b"hello").await.unwrap(), "Cluster hello");
}

#[tokio::test]
async fn who_is_not_there_cannot_be_called() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    assert_eq!(
        call(&one, 2, b"hello").await,
        Err(CallError::NotAsked {
            reason: "broker 2 is not among the peers".to_owned()
        })
    );
    // A call waits for the connection.
    let peers = BTreeMap::from([(2, two.server.address.to_string())]);
    one.links.set_peers(peers);
    assert_eq!(call(&one, 2, b"hello").await.unwrap(), "Cluster hello");
    two.server.stop().await;
    let request = Bytes::from_static(b"hello");
    let service = PeerService::Cluster;
    let called = one.links.call(2, service, request, SHORT * 4).await;
    assert!(
        matches!(
            called,
            Err(CallError::Unreachable { .. } | CallError::NotAsked { .. })
        ),
        "{called:?}"
    );
    // Who is a peer no longer is told to those who wait.
    let waiting = call(&one, 2, b"hello");
    let forgets = async { one.links.set_peers(BTreeMap::new()) };
    let (called, ()) = tokio::join!(waiting, forgets);
    let reason = "it is no peer any longer".to_owned();
    assert_eq!(called, Err(CallError::NotAsked { reason }));
}

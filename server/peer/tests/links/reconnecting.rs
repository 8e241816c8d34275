//! Peers that go, come back, move, or are others than they should be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_peer::{CallError, PeerService};
use millstream_replication::Message;
use millstream_transport::identity::Authority;
use uuid::Uuid;

use crate::log::partition;
use crate::node::{Diary, Event, Node, Server, introduce};

const LONG: Duration = Duration::from_secs(30);

async fn seal_arrives(from: &Node, to: &Diary, epoch: u32) {
    from.links
        .send(2, partition(0), Message::Seal { epoch }, None);
    to.until(|events| {
        let mut received = events.iter().filter_map(Event::received);
        received.any(|it| *it.2 == Message::Seal { epoch })
    })
    .await;
}

async fn unlinked(node: &Node, count: usize) -> Vec<String> {
    let reasons = |events: &[Event]| {
        let reasons = events.iter().filter_map(|event| match event {
            Event::Unlinked(_, reason) => Some(reason.clone()),
            _ => None,
        });
        reasons.collect::<Vec<_>>()
    };
    let events = node.diary.until(|events| reasons(events).len() >= count);
    reasons(&events.await)
}

#[tokio::test]
async fn a_peer_that_comes_back_is_linked_again() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    seal_arrives(&one, &two.diary, 1).await;
    two.server.stop().await;
    let reasons = unlinked(&one, 1).await;
    assert!(reasons[0].contains("shutting down"), "{reasons:?}");
    // It is lost: there is no link.
    one.links
        .send(2, partition(0), Message::Seal { epoch: 2 }, None);

    let again = Server::again(two.server.address, &authority, two.manners(), &two.diary).await;
    one.diary.linked(2, 2).await;
    seal_arrives(&one, &two.diary, 3).await;
    again.stop().await;
    unlinked(&one, 2).await;

    // And at another place.
    let elsewhere = Server::start(&authority, two.manners(), &two.diary);
    assert_ne!(elsewhere.address, two.server.address);
    let peers = BTreeMap::from([(2, elsewhere.address.to_string())]);
    one.links.set_peers(peers);
    one.diary.linked(2, 3).await;
    seal_arrives(&one, &two.diary, 4).await;
    let events = two.diary.events();
    let lost = Message::Seal { epoch: 2 };
    assert!(
        !events
            .iter()
            .any(|it| it.received().is_some_and(|it| *it.2 == lost))
    );
}

#[tokio::test]
async fn a_peer_that_moves_is_followed_at_once() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    // The old place is still there: it is left all the same.
    let elsewhere = Server::start(&authority, two.manners(), &two.diary);
    let moved = BTreeMap::from([(2, elsewhere.address.to_string())]);
    one.links.set_peers(moved.clone());
    one.diary.linked(2, 2).await;
    two.server.stop().await;
    seal_arrives(&one, &two.diary, 1).await;
    // Nothing is new.
    one.links.set_peers(moved);
    seal_arrives(&one, &two.diary, 2).await;
    assert_eq!(unlinked(&one, 1).await.len(), 1);
    one.links.set_peers(BTreeMap::new());
    assert_eq!(unlinked(&one, 2).await.len(), 2);
}

#[tokio::test]
async fn who_is_another_one_is_not_linked() {
    let authority = Authority::create("test").unwrap();
    let one = Node::start(&authority, 1);
    let three = Node::start(&authority, 3);
    let stranger = Node::with(&authority, 4, |manners| manners.cluster_id = Uuid::nil());
    let peers = [
        (1, one.server.address),
        (2, three.server.address),
        (4, stranger.server.address),
    ];
    let peers = peers.map(|(id, address)| (id, address.to_string()));
    one.links.set_peers(BTreeMap::from(peers));
    for (peer, expected) in [
        (2, "it is broker 3 instead of 2"),
        (4, "it is of cluster 00000000"),
    ] {
        let call = || {
            let (service, request) = (PeerService::Cluster, Bytes::from_static(b"hello"));
            let timeout = Duration::from_millis(100);
            one.links.call(peer, service, request, timeout)
        };
        // At first it is being connected to.
        let reason = loop {
            match call().await {
                Err(CallError::NotAsked { reason }) if reason.contains("connected to") => {}
                Err(CallError::NotAsked { reason }) => break reason,
                other => panic!("{other:?}"),
            }
        };
        assert!(reason.contains(expected), "{reason}");
    }
    // Once the right one is there, it is.
    let two = Node::start(&authority, 2);
    let peers = BTreeMap::from([(2, two.server.address.to_string())]);
    one.links.set_peers(peers);
    one.diary.linked(2, 1).await;
    assert_eq!(one.diary.events(), [Event::Linked(2)]);
}

#[tokio::test]
async fn what_is_sent_when_there_is_a_link_arrives() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    let links = Arc::downgrade(&one.links);
    *one.diary.at_link.lock() = Some(Box::new(move |peer| {
        if let Some(links) = links.upgrade() {
            links.send(peer, partition(0), Message::Seal { epoch: 9 }, None);
        }
    }));
    for (count, peers) in [vec![2], vec![], vec![2], vec![], vec![2]]
        .iter()
        .enumerate()
    {
        let address = two.server.address.to_string();
        let peers = peers.iter().map(|peer| (*peer, address.clone()));
        one.links.set_peers(peers.collect());
        let links = count / 2 + 1;
        two.diary
            .until(|events| events.iter().filter_map(Event::received).count() == links)
            .await;
    }
}

#[tokio::test]
async fn a_peer_is_never_linked_twice_at_once() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    let peers = BTreeMap::from([(2, two.server.address.to_string())]);
    for count in 2..7 {
        one.links.set_peers(BTreeMap::new());
        one.links.set_peers(peers.clone());
        one.diary.linked(2, count).await;
        seal_arrives(&one, &two.diary, count as u32).await;
    }
    one.links.set_peers(BTreeMap::new());
    one.links.set_peers(peers);
    one.links.close().await;
    for (index, event) in one.diary.events().iter().enumerate() {
        let expected = match event {
            Event::Linked(2) => 0,
            Event::Unlinked(2, _) => 1,
            other => panic!("{other:?}"),
        };
        assert_eq!(index % 2, expected);
    }
    let ends = one.diary.events().len() % 2;
    assert_eq!(ends, 0, "it is told of the last one's end");
}

#[tokio::test]
async fn what_is_closed_stays_so() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    one.links.close().await;
    assert_eq!(unlinked(&one, 1).await.len(), 1);
    introduce_again(&one, &two);
    let (service, request) = (PeerService::Cluster, Bytes::from_static(b"hello"));
    let called = one.links.call(2, service, request, LONG).await;
    assert!(
        matches!(called, Err(CallError::NotAsked { .. })),
        "{called:?}"
    );
    // The other one's link to it is its own.
    let (service, request) = (PeerService::Cluster, Bytes::from_static(b"hello"));
    let called = two.links.call(1, service, request, LONG).await;
    assert_eq!(called.unwrap(), "Cluster hello");
}

fn introduce_again(one: &Node, two: &Node) {
    let peers = BTreeMap::from([(2, two.server.address.to_string())]);
    one.links.set_peers(peers);
}

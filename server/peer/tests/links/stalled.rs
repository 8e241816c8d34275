//! A peer that does not read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_peer::{Entries, PeerService};
use millstream_transport::identity::Authority;

use crate::log::{Log, Place, append, partition};
use crate::node::{Event, Node, introduce};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_costs_little_and_delays_nobody() {
    let authority = Authority::create("test").unwrap();
    let one = Node::start(&authority, 1);
    let two = Node::start(&authority, 2);
    let stalled = Node::with(&authority, 3, |manners| manners.reads = false);
    introduce(&[&one, &two, &stalled]).await;
    let (records, value_bytes) = (400, 256 << 10);
    let logs = [2, 3].map(|_| Arc::new(Log::new(records, value_bytes, Place::Memory)));
    for (peer, log) in [2, 3].iter().zip(&logs) {
        for until in 1..=records {
            let log: Arc<dyn Entries> = Arc::clone(log) as _;
            one.links
                .send(*peer, partition(0), append(until - 1, until), Some(log));
        }
    }
    two.diary
        .until(|events| events.iter().any(|it| it.until() == Some(records)))
        .await;
    // What is on its way to the other one is what QUIC takes, and one turn.
    let mut read = logs[1].read_bytes.subscribe();
    read.wait_for(|bytes| *bytes > 2 << 20).await.unwrap();
    for until in 1..=records {
        let log: Arc<dyn Entries> = Arc::clone(&logs[0]) as _;
        one.links
            .send(2, partition(1), append(until - 1, until), Some(log));
    }
    let of = partition(1);
    two.diary
        .until(|events| {
            let mut events = events.iter();
            events
                .any(|it| it.until() == Some(records) && it.received().is_some_and(|it| it.1 == of))
        })
        .await;
    let bytes = *read.borrow();
    assert!(bytes < 16 << 20, "{bytes} bytes were read");
    // Its calls are answered all the same, and nothing has ended.
    let request = Bytes::from_static(b"hello");
    let timeout = Duration::from_secs(30);
    let called = one
        .links
        .call(3, PeerService::Cluster, request, timeout)
        .await;
    assert_eq!(called.unwrap(), "Cluster hello");
    let ended = |event: &Event| matches!(event, Event::Unlinked(..));
    assert!(!one.diary.events().iter().any(ended));
}

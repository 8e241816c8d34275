//! Peers that are not what they say, or send what does not hold together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_peer::limits::MAX_FRAME_BYTES;
use millstream_peer::{Entries, Introduction, Piece};
use millstream_protocol::api::peer::{OpenReplication, OpenedReplication};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::identity::Authority;
use millstream_transport::{
    Connection, Connector, FrameReceiver, FrameSender, Identity, Role, TransportConfig,
};
use serde::Serialize;
use uuid::Uuid;

use crate::log::{EPOCH, Log, Place, append, batch, partition};
use crate::node::{Event, Node, identity, introduce, introduction};

async fn connect(node: &Node, identity: &Identity) -> Connection {
    let connector = Connector::new(identity, TransportConfig::client()).unwrap();
    let address = node.server.address.to_string();
    connector.connect(&address, "127.0.0.1").await.unwrap()
}

async fn open(
    connection: &Connection,
    introduction: Introduction,
) -> Result<(FrameSender, FrameReceiver), WireError> {
    let (mut sender, mut receiver) = connection.open_stream().await.unwrap();
    let request = Request::OpenReplication(OpenReplication { introduction });
    sender
        .send(&RequestFrame::from_client(request))
        .await
        .unwrap();
    let answer = receiver.receive::<Result<OpenedReplication, WireError>>(0);
    let answer = answer.await.unwrap().unwrap().body;
    answer.map(|OpenedReplication {}| (sender, receiver))
}

/// The bytes of an `Append`, field by field: what is in the place of each is the test's.
fn append_body(prev: (u32, u64), runs: &[(u32, u64)], until: u64) -> impl Serialize + use<> {
    let append = 5u8;
    let (high_watermark, deleted, from_start, asks) = (0u64, 0u64, false, false);
    (
        // One message.
        (1u8, partition(0)),
        (append, EPOCH, prev, runs.to_vec(), until, from_start),
        (high_watermark, deleted, asks),
    )
}

/// What the broker says to a frame.
async fn refusal(
    connection: &Connection,
    body: &(impl Serialize + Sync),
    payload: Vec<Bytes>,
) -> WireError {
    let (mut sender, mut receiver) = open(connection, introduction(1)).await.unwrap();
    // What is too long is stopped before all of it is sent.
    let _ = sender.send_with_payload(body, payload).await;
    let answer = receiver.receive::<Result<(), WireError>>(0).await;
    answer.unwrap().unwrap().body.unwrap_err()
}

#[tokio::test]
async fn frames_that_do_not_hold_together_are_refused() {
    let authority = Authority::create("test").unwrap();
    let node = Node::start(&authority, 2);
    let connection = connect(&node, &identity(&authority, 1)).await;
    let whole = batch(10, 100);
    let mut spoilt = BytesMut::from(&whole[..]);
    spoilt[80] ^= 1;
    let sound = append_body((EPOCH, 10), &[(EPOCH, 10)], 11);
    let many: Vec<_> = (0..1000).map(|it| (it + 1, 10 + u64::from(it))).collect();
    for (body, payload, code, message) in [
        (
            &sound,
            vec![spoilt.freeze()],
            ErrorCode::CorruptBatch,
            "checksum",
        ),
        (
            &sound,
            vec![whole.slice(..150)],
            ErrorCode::CorruptBatch,
            "bytes",
        ),
        (
            &sound,
            vec![],
            ErrorCode::MalformedFrame,
            "end at 10 instead of 11",
        ),
        (
            &append_body((EPOCH, 10), &[(2, 10)], 11),
            vec![whole.clone()],
            ErrorCode::MalformedFrame,
            "does not hold together",
        ),
        (
            &append_body((2, 10), &[(2, 10)], 11),
            vec![whole.clone()],
            ErrorCode::MalformedFrame,
            "of epoch 3 instead of 2",
        ),
        (
            &append_body((EPOCH, 11), &[(EPOCH, 11)], 12),
            vec![whole.clone()],
            ErrorCode::MalformedFrame,
            "does not lie behind 11",
        ),
        (
            &append_body((0, 10), &many, 2000),
            vec![whole.clone()],
            ErrorCode::MalformedFrame,
            "does not hold together",
        ),
        (
            &sound,
            vec![Bytes::from(vec![0; MAX_FRAME_BYTES + 1])],
            ErrorCode::FrameTooLarge,
            "exceeds the limit",
        ),
    ] {
        let refused = refusal(&connection, body, payload).await;
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(message), "{refused}");
    }
    let stray = refusal(
        &connection,
        &(1u8, partition(0), 0u8, 1u32),
        vec![whole.clone()],
    )
    .await;
    assert_eq!(stray.code, ErrorCode::MalformedFrame, "{stray}");
    let nonsense = refusal(&connection, &(1u8, partition(0), 99u8), Vec::new()).await;
    assert_eq!(nonsense.code, ErrorCode::MalformedFrame, "{nonsense}");
    // A stream that ends within a frame.
    let (mut raw, _) = connection.open_raw().await.unwrap();
    raw.write(Bytes::from_static(&[0, 0, 0, 9, 0, 0, 0, 0, 1]))
        .await
        .unwrap();
    raw.finish().unwrap();
    assert_eq!(node.diary.events(), []);
    // The connection is as good as before.
    let (mut sender, _receiver) = open(&connection, introduction(1)).await.unwrap();
    sender.send_with_payload(&sound, [whole]).await.unwrap();
    node.diary
        .until(|events| events.iter().any(|it| it.until() == Some(11)))
        .await;
}

#[tokio::test]
async fn only_brokers_of_the_cluster_are_let_in() {
    let authority = Authority::create("test").unwrap();
    let node = Node::start(&authority, 2);
    let client = authority.issue(Role::Client, "alice", &[]).unwrap();
    let connection = connect(&node, &client.identity().unwrap()).await;
    let refused = open(&connection, introduction(1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotAuthorized);
    assert!(
        refused.message.contains("client/alice is no broker"),
        "{refused}"
    );

    let connection = connect(&node, &identity(&authority, 1)).await;
    let stranger = Introduction {
        cluster_id: Uuid::nil(),
        ..introduction(1)
    };
    let refused = open(&connection, stranger).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotAuthorized);
    assert!(
        refused.message.contains("broker 1 is of cluster 0000"),
        "{refused}"
    );
    assert!(open(&connection, introduction(1)).await.is_ok());
}

/// A log whose batches' checksums do not hold.
struct Spoilt;

impl Entries for Spoilt {
    fn read(&self, _: u64, _: u64, _: usize) -> Option<Piece> {
        None
    }

    fn read_cached(&self, from: u64, until: u64, _: usize) -> Option<Piece> {
        let mut batch = BytesMut::from(&batch(from, 100)[..]);
        batch[90] ^= 1;
        Some(Piece {
            batches: vec![batch.freeze()],
            next_offset: until,
        })
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_is_opened_again() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    // What is behind it is on its way when it is refused.
    one.links
        .send(2, partition(0), append(0, 1), Some(Arc::new(Spoilt)));
    let long = Arc::new(Log::new(100, 256 << 10, Place::Memory));
    one.links.send(2, partition(1), append(0, 100), Some(long));
    one.diary.linked(2, 2).await;
    let events = one.diary.events();
    let [
        Event::Linked(2),
        Event::Unlinked(2, reason),
        Event::Linked(2),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(reason.contains("checksum"), "{reason}");
    let log = Arc::new(Log::new(1, 100, Place::Memory));
    one.links.send(2, partition(0), append(0, 1), Some(log));
    two.diary
        .until(|events| events.iter().any(|it| it.until() == Some(1)))
        .await;
}

//! Frames over a stream: what arrives, what is refused, and what survives a cancellation.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use millstream_protocol::frame::{self, FrameError};
use millstream_protocol::limits::MAX_BODY_BYTES;
use millstream_protocol::{ErrorCode, WireError};

use super::{Pair, within};
use crate::{CloseReason, Priority, ReceiveError, SendError, StreamCode};

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i / 3 % 251) as u8).collect()
}

fn encoded(body: &str, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::encode(&body, payload.len(), &mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

/// Polls a future once, as a `select!` that another branch wins.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn frames_arrive_with_body_and_payload() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    stream.sender.set_priority(Priority::Control);
    let large = pattern(3 * 1024 * 1024 + 17);
    let sent = large.clone();
    let sending = async {
        stream.sender.send(&"first").await.unwrap();
        let chunks = [sent.slice(..10), Bytes::new(), sent.slice(10..)];
        stream
            .sender
            .send_with_payload(&(7u32, "second"), chunks)
            .await
            .unwrap();
        stream
            .sender
            .send_with_payload(&"third", Some(pattern(5)))
            .await
            .unwrap();
        stream.sender.delivered().await.unwrap();
    };
    let receiving = async {
        let first = stream.receiver.receive::<String>(0).await.unwrap().unwrap();
        assert_eq!((first.body.as_str(), first.payload.len()), ("first", 0));
        let second = stream
            .receiver
            .receive::<(u32, String)>(large.len())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(second.body, (7, "second".to_owned()));
        assert_eq!(second.payload, large);
        let third = stream.receiver.receive_undecoded(5).await.unwrap().unwrap();
        assert_eq!(frame::decode_body::<String>(&third.body).unwrap(), "third");
        assert_eq!(third.payload, pattern(5));
        assert_eq!(stream.receiver.receive::<String>(0).await, Ok(None));
        assert_eq!(stream.receiver.receive::<String>(0).await, Ok(None));
    };
    within(async { tokio::join!(sending, receiving) }).await;

    let Pair { server, .. } = &pair;
    assert!(server.datagrams_received() > 0);
    assert!(pair.client.rtt().as_nanos() > 0);
}

#[tokio::test]
async fn a_body_of_its_limit_passes_and_the_next_frame_follows() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    // The string's length takes three bytes.
    let body = "x".repeat(MAX_BODY_BYTES - 3);
    let sending = async {
        stream.sender.send(&body).await.unwrap();
        stream.sender.send(&"small").await.unwrap();
        let error = stream.sender.send(&format!("{body}x")).await.unwrap_err();
        let bytes = MAX_BODY_BYTES + 1;
        assert_eq!(error, SendError::Frame(FrameError::BodyTooLarge { bytes }));
        stream.sender.send(&"after the refused one").await.unwrap();
    };
    let receiving = async {
        for expected in [body.as_str(), "small", "after the refused one"] {
            let frame = stream.receiver.receive::<String>(0).await.unwrap().unwrap();
            assert_eq!(frame.body, expected);
        }
    };
    within(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn claims_beyond_a_limit_are_refused_unseen() {
    let pair = Pair::connect().await;
    let (limit, bytes) = (1000, 1001);
    for (header, expected) in [
        (
            [0x00, 0x10, 0, 1, 0, 0, 0, 0],
            FrameError::BodyTooLarge {
                bytes: MAX_BODY_BYTES + 1,
            },
        ),
        (
            [0xff; 8],
            FrameError::BodyTooLarge {
                bytes: u32::MAX as usize,
            },
        ),
        (
            [0, 0, 0, 1, 0, 0, 0x03, 0xe9],
            FrameError::PayloadTooLarge { bytes, limit },
        ),
    ] {
        let (mut sender, mut receiver) = pair.raw_to_frames().await;
        // The header alone: the refusal does not wait for what it claims.
        sender.write(Bytes::copy_from_slice(&header)).await.unwrap();
        let error = within(receiver.receive::<String>(limit)).await.unwrap_err();
        assert_eq!(error, ReceiveError::Frame(expected));
        assert_eq!(
            error.to_wire_error().map(|e| e.code),
            Some(ErrorCode::FrameTooLarge)
        );
        assert_eq!(within(receiver.receive::<String>(limit)).await, Err(error));
    }
}

#[tokio::test]
async fn a_body_can_be_looked_at_before_its_payload_is_received() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    let large = pattern(100_000);
    let sent = large.clone();
    let sending = async {
        let sender = &mut stream.sender;
        sender.send_with_payload(&"large", [sent]).await.unwrap();
        sender.send(&"none").await.unwrap();
        sender
            .send_with_payload(&"too large", [pattern(10)])
            .await
            .unwrap();
    };
    let receiving = async {
        let receiver = &mut stream.receiver;
        let (body, bytes) = receiver
            .receive_body::<String>(100_000)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((body.as_str(), bytes), ("large", 100_000));
        assert_eq!(
            receiver.payload_progress(),
            (0, 0),
            "nothing is held for it yet"
        );
        assert_eq!(receiver.receive_payload().await.unwrap(), large);
        let (body, bytes) = receiver.receive_body::<String>(0).await.unwrap().unwrap();
        assert_eq!((body.as_str(), bytes), ("none", 0));
        assert_eq!(receiver.receive_payload().await.unwrap().len(), 0);
        let refused = receiver.receive_body::<String>(9).await.unwrap_err();
        assert!(
            matches!(
                refused,
                ReceiveError::Frame(FrameError::PayloadTooLarge { .. })
            ),
            "{refused}"
        );
    };
    within(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_truncated() {
    let pair = Pair::connect().await;
    let whole = encoded("a body", &pattern(100));
    for cut in [1, 7, 8, 12, whole.len() - 100, whole.len() - 1] {
        let (mut sender, mut receiver) = pair.raw_to_frames().await;
        sender
            .write(Bytes::copy_from_slice(&whole[..cut]))
            .await
            .unwrap();
        sender.finish().unwrap();
        let error = within(receiver.receive::<String>(100)).await.unwrap_err();
        assert_eq!(error, ReceiveError::Truncated, "cut at {cut}");
        assert_eq!(
            error.to_wire_error().map(|e| e.code),
            Some(ErrorCode::MalformedFrame)
        );
    }
}

#[tokio::test]
async fn malformed_bodies_are_told_apart() {
    let pair = Pair::connect().await;
    let (mut sender, mut receiver) = pair.raw_to_frames().await;
    sender.write(encoded("seven", b"").freeze()).await.unwrap();
    let error = within(receiver.receive::<(u64, u64, u64, u64, u64, u64, u64)>(0)).await;
    assert!(
        matches!(error, Err(ReceiveError::Frame(FrameError::Malformed(_)))),
        "{error:?}"
    );

    let (mut sender, mut receiver) = pair.raw_to_frames().await;
    sender.write(encoded("seven", b"").freeze()).await.unwrap();
    let error = within(receiver.receive::<u8>(0)).await;
    assert_eq!(
        error,
        Err(ReceiveError::Frame(FrameError::Trailing { bytes: 5 }))
    );
    let wire = error.unwrap_err().to_wire_error();
    let message = "5 stray bytes behind the frame body";
    assert_eq!(
        wire,
        Some(WireError::new(ErrorCode::MalformedFrame, message))
    );
}

#[tokio::test]
async fn receiving_survives_cancellation_at_every_byte() {
    let pair = Pair::connect().await;
    let (mut sender, mut receiver) = pair.raw_to_frames().await;
    let mut bytes = encoded("one", &pattern(10));
    bytes.unsplit(encoded("two", b""));
    let whole = bytes.freeze();
    let mut frames = Vec::new();
    let mut cancelled = 0;
    for i in 0..whole.len() {
        sender.write(whole.slice(i..=i)).await.unwrap();
        // Each poll is dropped at once, until the byte has been taken in.
        let took = receiver.frame_progress() + 1;
        within(async {
            while receiver.frame_progress() < took {
                match poll_once(receiver.receive::<String>(10)) {
                    Poll::Ready(frame) => {
                        frames.push(frame.unwrap().unwrap());
                        break;
                    }
                    Poll::Pending => cancelled += 1,
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert!(
        cancelled >= whole.len() - 2,
        "{cancelled} polls were cancelled"
    );
    let received: Vec<_> = frames
        .iter()
        .map(|f| (f.body.as_str(), f.payload.len()))
        .collect();
    assert_eq!(received, [("one", 10), ("two", 0)]);
    assert_eq!(frames[0].payload, pattern(10));
}

#[tokio::test]
async fn a_cancelled_send_leaves_no_torn_stream() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    // More than the windows hold: the send must wait for the receiver, and is dropped there.
    let large = pattern(6 * 1024 * 1024);
    let send = stream
        .sender
        .send_with_payload(&"large", Some(large.clone()));
    assert!(poll_once(send).is_pending());
    let sending = async {
        stream.sender.send(&"next").await.unwrap();
        // Finishing, too, sends what was left over first.
        let last = stream
            .sender
            .send_with_payload(&"last", Some(large.clone()));
        assert!(poll_once(last).is_pending());
        stream.sender.finish().await.unwrap();
    };
    let receiving = async {
        let frame = stream
            .receiver
            .receive::<String>(large.len())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (frame.body.as_str(), frame.payload == large),
            ("large", true)
        );
        let frame = stream.receiver.receive::<String>(0).await.unwrap().unwrap();
        assert_eq!(frame.body, "next");
        let frame = stream
            .receiver
            .receive::<String>(large.len())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (frame.body.as_str(), frame.payload == large),
            ("last", true)
        );
        assert_eq!(stream.receiver.receive::<String>(0).await, Ok(None));
    };
    within(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn a_sender_dropped_within_a_frame_resets_the_stream() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    let large = pattern(6 * 1024 * 1024);
    let send = stream
        .sender
        .send_with_payload(&"large", Some(large.clone()));
    assert!(poll_once(send).is_pending());
    drop(stream.sender);
    let error = within(stream.receiver.receive::<String>(large.len()))
        .await
        .unwrap_err();
    assert_eq!(error, ReceiveError::Reset(StreamCode::Dropped));
    assert_eq!(error.to_wire_error(), None);
}

#[tokio::test]
async fn a_sender_dropped_between_frames_ends_the_stream() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    stream.sender.send(&"last").await.unwrap();
    drop(stream.sender);
    let frame = within(stream.receiver.receive::<String>(0))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame.body, "last");
    assert_eq!(within(stream.receiver.receive::<String>(0)).await, Ok(None));
}

#[tokio::test]
async fn each_side_learns_that_the_other_gave_up() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    stream.receiver.stop(StreamCode::Malformed);
    assert_eq!(
        within(stream.sender.stopped()).await,
        Ok(Some(StreamCode::Malformed))
    );
    let error = within(stream.sender.send(&"too late")).await;
    assert_eq!(error, Err(SendError::Stopped(StreamCode::Malformed)));
    assert_eq!(
        within(stream.receiver.receive::<String>(0)).await,
        Err(ReceiveError::Stopped)
    );

    stream.server_sender.reset(StreamCode::Cancelled);
    let error = within(stream.client_receiver.receive::<String>(0)).await;
    assert_eq!(error, Err(ReceiveError::Reset(StreamCode::Cancelled)));
    assert_eq!(
        within(stream.server_sender.finish()).await,
        Err(SendError::Finished)
    );
}

#[tokio::test]
async fn streams_report_why_the_connection_closed() {
    let pair = Pair::connect().await;
    let mut stream = pair.stream().await;
    pair.server.close(crate::CloseCode::ShuttingDown, "see you");
    let reason = CloseReason::Peer {
        code: crate::CloseCode::ShuttingDown,
        message: "see you".to_owned(),
    };
    assert_eq!(within(pair.client.closed()).await, reason);
    assert_eq!(pair.client.close_reason(), Some(reason.clone()));
    assert_eq!(
        reason.to_string(),
        "closed by the peer: shutting down: see you"
    );
    let received = within(stream.client_receiver.receive::<()>(0)).await;
    assert_eq!(received, Err(ReceiveError::Closed(reason.clone())));
    let sent = within(stream.sender.send(&())).await;
    assert_eq!(sent, Err(SendError::Closed(reason.clone())));
    assert_eq!(pair.client.open_stream().await.map(|_| ()), Err(reason));
    assert_eq!(within(pair.server.closed()).await, CloseReason::Local);
}

#[tokio::test]
async fn raw_streams_carry_bytes_as_they_are() {
    let pair = Pair::connect().await;
    let sent = pattern(3_000_000);
    let (mut sender, _receiver) = pair.client.open_raw().await.unwrap();
    let sending = async {
        for start in (0..sent.len()).step_by(100_000) {
            sender
                .write(sent.slice(start..start + 100_000))
                .await
                .unwrap();
        }
        sender.finish().unwrap();
    };
    let receiving = async {
        let (_sender, mut receiver) = pair.server.accept_raw().await.unwrap();
        let mut received = BytesMut::new();
        while let Some(bytes) = receiver.read().await.unwrap() {
            received.extend_from_slice(&bytes);
        }
        assert_eq!(received, sent);
    };
    within(async { tokio::join!(sending, receiving) }).await;
}

//! What a peer can make this side hold.

use bytes::Bytes;

use super::{Pair, Stream, within};
use crate::config::DEFAULT_STREAM_RECEIVE_WINDOW_BYTES;
use crate::receiver::FIRST_ALLOCATION_BYTES;

#[tokio::test]
async fn a_claimed_payload_is_not_allocated_before_it_comes() {
    let pair = Pair::connect().await;
    let (mut sender, mut receiver) = pair.raw_to_frames().await;
    let claimed: usize = 16 * 1024 * 1024;
    let mut header = [0; 8];
    header[4..].copy_from_slice(&u32::try_from(claimed).unwrap().to_be_bytes());
    sender.write(Bytes::copy_from_slice(&header)).await.unwrap();
    let mut arrived = 0;
    let mut steps = 0;
    let piece = Bytes::from(vec![7; 300_000]);
    within(async {
        loop {
            // The receive is dropped each time that it has to wait for more.
            tokio::select! {
                biased;
                frame = receiver.receive::<()>(claimed) => {
                    assert_eq!(frame.unwrap().unwrap().payload.len(), claimed);
                    break;
                }
                _ = std::future::ready(()) => {}
            }
            let (came, held) = receiver.payload_progress();
            let bound = (2 * came).max(FIRST_ALLOCATION_BYTES);
            assert!(held <= bound, "{held} bytes held for {came} that came");
            if came == arrived && arrived < claimed {
                let piece = piece.slice(..piece.len().min(claimed - arrived));
                arrived += piece.len();
                sender.write(piece).await.unwrap();
                steps += 1;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(steps > 50, "the payload came in {steps} pieces");
}

/// Bytes that are taken give the peer credit for more: those of later frames stay in the window.
#[tokio::test]
async fn frames_that_are_not_asked_for_are_not_taken() {
    let pair = Pair::connect().await;
    let Stream {
        mut sender,
        mut receiver,
        ..
    } = pair.stream().await;
    let large = Bytes::from(vec![7; 1_000_000]);
    let small = Bytes::from(vec![7; 3_000]);
    sender
        .send_with_payload(&(), Some(large.clone()))
        .await
        .unwrap();
    for _ in 0..200 {
        sender
            .send_with_payload(&(), Some(small.clone()))
            .await
            .unwrap();
    }
    within(sender.delivered()).await.unwrap();
    let mut payloads = Vec::new();
    while let Some(frame) = within(receiver.receive::<()>(large.len())).await.unwrap() {
        payloads.push(frame.payload.len());
        assert_eq!(receiver.chunks_left(), 0);
    }
    assert_eq!(payloads.len(), 201);
}

/// A consumer that pauses leaves its fetch streams unread until they are full. What it asks on
/// another stream must be answered all the same.
#[tokio::test]
async fn full_streams_do_not_hold_back_an_answer() {
    let pair = Pair::connect().await;
    let mut control = pair.stream().await;
    let mut unread = Vec::new();
    let batch = Bytes::from(vec![7; 256 * 1024]);
    for _ in 0..12 {
        let Stream {
            mut server_sender,
            client_receiver,
            ..
        } = pair.stream().await;
        let batch = batch.clone();
        let full = tokio::spawn(async move {
            let mut sent = 0;
            while sent < DEFAULT_STREAM_RECEIVE_WINDOW_BYTES as usize {
                server_sender
                    .send_with_payload(&(), Some(batch.clone()))
                    .await
                    .unwrap();
                sent += batch.len();
            }
        });
        unread.push((full, client_receiver));
    }
    control.sender.send(&"commit").await.unwrap();
    let request = within(control.receiver.receive::<String>(0))
        .await
        .unwrap()
        .unwrap();
    // The streams fill up, and the last frame of each waits for a reader.
    within(async {
        while pair.server.bytes_sent() < 12 * u64::from(DEFAULT_STREAM_RECEIVE_WINDOW_BYTES) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(unread.iter().all(|(full, _)| !full.is_finished()));
    control.server_sender.send(&request.body).await.unwrap();
    let answer = within(control.client_receiver.receive::<String>(0))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.body, "commit");
}

//! What a peer can make this side hold.

use bytes::Bytes;

use super::{Pair, within};
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

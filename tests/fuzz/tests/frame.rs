//! Frames: their lengths never exceed what the receiver allows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use millstream_fuzz::Mutator;
use millstream_protocol::api::hello::Hello;
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::frame::{self, FRAME_HEADER_BYTES, FrameHeader};
use millstream_protocol::limits::MAX_BODY_BYTES;

const CASES: usize = 200_000;

/// What a receiver might allow.
const PAYLOAD_LIMITS: [usize; 4] = [0, 1, 1 << 20, u32::MAX as usize];

fn valid() -> BytesMut {
    let request = RequestFrame::from_client(Request::Hello(Hello {
        version_min: 1,
        version_max: 1,
        client_name: "fuzz".to_owned(),
        software: "fuzz/1".to_owned(),
    }));
    let mut out = BytesMut::new();
    frame::encode(&request, 1_000, &mut out).unwrap();
    out
}

#[test]
fn damaged_frames() {
    let valid = valid();
    let mut mutator = Mutator::new(0x0066_7261_6d65);
    let (mut accepted, mut decoded) = (0, 0);
    for _ in 0..CASES {
        let bytes = mutator.mutate(&valid, &valid);
        let payload_limit = *mutator.pick(&PAYLOAD_LIMITS);
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            continue;
        };
        let Ok(header) = FrameHeader::parse(*header, payload_limit) else {
            continue;
        };
        assert!(header.body_bytes <= MAX_BODY_BYTES && header.payload_bytes <= payload_limit);
        accepted += 1;
        if let Some(body) = rest.get(..header.body_bytes) {
            decoded += usize::from(frame::decode_body::<RequestFrame>(body).is_ok());
        }
    }
    assert!(
        accepted > CASES / 10 && decoded > CASES / 100,
        "{accepted} accepted, {decoded} decoded"
    );
}

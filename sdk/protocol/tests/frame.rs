//! Frames: every length is checked before anything is allocated for it.

use bytes::BytesMut;
use millstream_protocol::api::produce::ProduceAck;
use millstream_protocol::api::topic::DeleteTopic;
use millstream_protocol::api::{MAX_HOPS, Request, RequestFrame};
use millstream_protocol::frame::{self, FRAME_HEADER_BYTES, FrameError, FrameHeader};
use millstream_protocol::limits::MAX_BODY_BYTES;
use millstream_protocol::{ErrorCode, WireError};
use proptest::prelude::*;

fn header(body_bytes: u32, payload_bytes: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&body_bytes.to_be_bytes());
    header[4..].copy_from_slice(&payload_bytes.to_be_bytes());
    header
}

#[test]
fn lengths_are_bounded() {
    let most = MAX_BODY_BYTES as u32;
    let largest = FrameHeader {
        body_bytes: MAX_BODY_BYTES,
        payload_bytes: 100,
    };
    assert_eq!(FrameHeader::parse(header(most, 100), 100), Ok(largest));
    for bytes in [most + 1, u32::MAX] {
        let refused = FrameHeader::parse(header(bytes, 0), 100);
        let bytes = bytes as usize;
        assert_eq!(refused, Err(FrameError::BodyTooLarge { bytes }));
    }
    for bytes in [101, u32::MAX] {
        let refused = FrameHeader::parse(header(0, bytes), 100);
        let (bytes, limit) = (bytes as usize, 100);
        assert_eq!(refused, Err(FrameError::PayloadTooLarge { bytes, limit }));
    }
}

#[test]
fn stray_bytes_are_refused() {
    let body = postcard::to_stdvec(&ErrorCode::Busy).unwrap();
    assert_eq!(frame::decode_body(&body), Ok(ErrorCode::Busy));
    let longer = [&body[..], &[0, 0]].concat();
    let refused = frame::decode_body::<ErrorCode>(&longer);
    assert_eq!(refused, Err(FrameError::Trailing { bytes: 2 }));
    let refused = frame::decode_body::<ErrorCode>(&[]);
    assert!(matches!(refused, Err(FrameError::Malformed(_))));
}

#[test]
fn what_cannot_be_sent_leaves_no_trace() {
    let too_large = DeleteTopic {
        name: "n".repeat(MAX_BODY_BYTES),
    };
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = frame::encode(&too_large, 0, &mut out);
    assert!(matches!(refused, Err(FrameError::BodyTooLarge { .. })));
    let refused = frame::encode(&(), 1 << 32, &mut out);
    assert!(matches!(refused, Err(FrameError::PayloadTooLarge { .. })));
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn a_client_has_not_been_forwarded() {
    let request = Request::DeleteTopic(DeleteTopic {
        name: "orders".to_owned(),
    });
    let frame = RequestFrame::from_client(request);
    assert!(frame.hops < MAX_HOPS);
}

proptest! {
    #[test]
    fn frames_follow_one_another(acks: Vec<(u64, i64)>, payload_bytes: u32) {
        let bodies: Vec<Result<ProduceAck, WireError>> = acks
            .into_iter()
            .map(|(base_offset, appended_at_ms)| Ok(ProduceAck { base_offset, appended_at_ms }))
            .chain([Err(WireError::new(ErrorCode::Busy, "too many batches in flight"))])
            .collect();
        let mut out = BytesMut::new();
        for body in &bodies {
            frame::encode(body, payload_bytes as usize, &mut out).unwrap();
        }
        let mut rest = &out[..];
        for expected in &bodies {
            let (header, behind) = rest.split_first_chunk().unwrap();
            let header = FrameHeader::parse(*header, u32::MAX as usize).unwrap();
            prop_assert_eq!(header.payload_bytes, payload_bytes as usize);
            let (body, behind) = behind.split_at(header.body_bytes);
            prop_assert_eq!(&frame::decode_body(body), &Ok(expected.clone()));
            rest = behind;
        }
        prop_assert!(rest.is_empty());
    }
}

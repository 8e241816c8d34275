//! Golden bytes: what every API looks like on the wire.
//!
//! `wire.txt` holds one line per case, its name and its bytes. Nothing in it ever changes; lines
//! are added when an enum grows at its end or an API is added. To add a case, add it to
//! `cases.rs`, run the test, and copy the line that it prints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod cluster;
mod lifecycle;
mod samples;

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::BytesMut;
use millstream_protocol::ErrorCode;
use millstream_protocol::api::group::{CoordinatorMessage, MemberMessage};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::batch::{BatchBuilder, Compression, Header, ProducerStamp};
use millstream_protocol::frame::{self, FRAME_HEADER_BYTES, FrameHeader};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cases::Case;

const WIRE: &str = include_str!("wire.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// The lines of `wire.txt`, by name.
fn golden() -> BTreeMap<&'static str, &'static str> {
    let lines = WIRE.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once(": ").expect("`name: bytes`"));
    let golden: BTreeMap<_, _> = pairs.clone().collect();
    assert_eq!(golden.len(), pairs.count(), "a name is there twice");
    golden
}

#[test]
fn every_case_has_its_bytes() {
    let golden = golden();
    let cases = cases::all();
    let mut wrong = String::new();
    for Case { name, bytes, .. } in &cases {
        let found = hex(bytes);
        match golden.get(name) {
            Some(expected) if **expected == found => {}
            Some(_) => writeln!(wrong, "changed on the wire: {name}: {found}").unwrap(),
            None => writeln!(wrong, "add to wire.txt: {name}: {found}").unwrap(),
        }
    }
    for name in golden.keys() {
        if !cases.iter().any(|case| case.name == *name) {
            writeln!(wrong, "no longer tested: {name}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_case_is_read_back() {
    for case in cases::all() {
        assert!((case.reads_back)(&case.bytes), "{}", case.name);
        for length in 0..case.bytes.len() {
            assert!(
                !(case.reads_back)(&case.bytes[..length]),
                "{} cut at {length}",
                case.name
            );
        }
    }
}

/// Which variants of the enum `T` there are: those that decode out of their number and zeros
/// (empty strings and lists, `None`, 0), or an introduction and zeros, in front of which stands
/// `before`.
fn variants<T: DeserializeOwned>(before: &[u8]) -> usize {
    let introduction = postcard::to_stdvec(&samples::introduction()).unwrap();
    let decodes = |variant: &u8| {
        [&[], introduction.as_slice()].iter().any(|first| {
            let bytes = [before, &[*variant], first, &[0; 64]].concat();
            postcard::take_from_bytes::<T>(&bytes).is_ok()
        })
    };
    let count = (0..=127).take_while(decodes).count();
    assert!((count as u8..=127).all(|variant| !decodes(&variant)));
    count
}

/// Asserts that the cases under `prefix` begin with every variant of `T`, in order.
fn assert_all_variants<T: DeserializeOwned>(prefix: &str, before: &[u8]) {
    let mut found: Vec<u8> = cases::all()
        .iter()
        .filter(|case| case.name.starts_with(prefix))
        .map(|case| case.bytes[before.len()])
        .collect();
    found.dedup();
    let expected: Vec<u8> = (0..variants::<T>(before) as u8).collect();
    assert_eq!(
        found, expected,
        "{prefix}: a variant without a case, or out of order"
    );
}

#[test]
fn every_variant_has_a_case() {
    use millstream_protocol::api::{cluster, group, lifecycle, offsets, peer, plugin, topic};
    assert_eq!(variants::<Request>(&[]), variants::<RequestFrame>(&[0]));
    assert_all_variants::<RequestFrame>("request/", &[0]);
    assert_all_variants::<MemberMessage>("member/", &[]);
    assert_all_variants::<CoordinatorMessage>("coordinator/", &[]);
    assert_all_variants::<ErrorCode>("error/", &[]);
    assert_all_variants::<topic::Durability>("durability/", &[]);
    assert_all_variants::<topic::Cleanup>("cleanup/", &[]);
    assert_all_variants::<topic::TopicSelection>("topic-selection/", &[]);
    assert_all_variants::<topic::TopicDetail>("topic-detail/", &[]);
    assert_all_variants::<offsets::Position>("position/", &[]);
    assert_all_variants::<group::GroupState>("group-state/", &[]);
    assert_all_variants::<group::MemberKind>("member-kind/", &[]);
    assert_all_variants::<plugin::WorkerState>("worker-state/", &[]);
    assert_all_variants::<lifecycle::Activity>("activity/", &[]);
    assert_all_variants::<lifecycle::RevisionChange>("revision-change/", &[]);
    assert_all_variants::<plugin::OnExisting>("on-existing/", &[]);
    assert_all_variants::<peer::PeerService>("peer-service/", &[]);
    assert_all_variants::<cluster::BrokerState>("broker-state/", &[]);
    assert_all_variants::<cluster::OfflineReason>("offline-reason/", &[]);
    assert_all_variants::<cluster::ReplicaSelection>("replica-selection/", &[]);
    assert_all_variants::<plugin::Follow>("follow/", &[]);
    assert_all_variants::<plugin::LogLevel>("log-level/", &[]);
}

fn framed<T: Serialize>(body: &T, payload_bytes: usize) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(body, payload_bytes, &mut out).unwrap();
    out
}

#[test]
fn a_frame_is_two_lengths_and_a_body() {
    let request = cases::hello();
    let frame = framed(&request, 0x0102_0304);
    let body = postcard::to_stdvec(&request).unwrap();
    assert_eq!(
        hex(&frame),
        format!("000000{:02x}01020304{}", body.len(), hex(&body))
    );

    let (header, read_body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().unwrap();
    let expected = FrameHeader {
        body_bytes: body.len(),
        payload_bytes: 0x0102_0304,
    };
    assert_eq!(FrameHeader::parse(*header, 1 << 30).unwrap(), expected);
    assert_eq!(
        frame::decode_body::<RequestFrame>(read_body).unwrap(),
        request
    );
}

/// The layout of a batch with one record, field by field.
#[test]
fn a_batch_is_kafkas_record_batch() {
    let mut builder = BatchBuilder::new(Compression::None, 1024);
    let headers = [Header {
        name: "h".into(),
        value: None,
    }];
    builder
        .append(0x0102_0304_0506, Some(b"key"), Some(b"value"), &headers)
        .unwrap();
    let stamp = ProducerStamp {
        producer_id: 0x0a0b,
        producer_epoch: 0x0c,
        first_sequence: 0x0d,
    };
    let batch = builder.finish(Some(stamp)).unwrap();
    let fields = [
        "0000000000000000", // base offset
        "00000043",         // length
        "00000000",         // leader epoch
        "02",               // magic
        "60715862",         // CRC-32C
        "0000",             // attributes
        "00000000",         // last offset delta
        "0000010203040506", // base timestamp
        "0000010203040506", // max timestamp
        "0000000000000a0b", // producer id
        "000c",             // producer epoch
        "0000000d",         // first sequence
        "00000001",         // record count
        "22",               // record: length 17, attributes, deltas
        "00",
        "00",
        "00",
        "066b6579",     // key
        "0a76616c7565", // value
        "02",           // headers: one, without a value
        "026801",
    ];
    assert_eq!(hex(&batch), fields.concat());
}

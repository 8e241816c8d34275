//! The bodies of every API: whatever the bytes, no panic, and nothing out of nothing.
//!
//! The seeds are the golden bytes of the protocol crate, so that a new API is fuzzed as soon as it
//! has its golden line and is named in [`READERS`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use millstream_fuzz::Mutator;
use millstream_protocol::api::RequestFrame;
use millstream_protocol::api::fetch::{FetchOpened, FetchResponse, Fetched};
use millstream_protocol::api::group::{
    CoordinatorMessage, FetchOffsetsResponse, GroupDescription, ListGroupsResponse, MemberMessage,
    ResetGroupResponse,
};
use millstream_protocol::api::hello::{BrokerDescription, HelloResponse};
use millstream_protocol::api::offsets::{DeleteRecordsResponse, ListOffsetsResponse};
use millstream_protocol::api::plugin::{
    DeploymentDescription, ListDeploymentsResponse, PluginLogLine,
};
use millstream_protocol::api::produce::{
    ProduceAck, ProduceBatch, ProduceOpened, ProducerIdentity,
};
use millstream_protocol::api::topic::{DescribeTopicsResponse, TopicDescription};
use millstream_protocol::frame::{self, FRAME_HEADER_BYTES};
use millstream_protocol::{ErrorCode, WireError};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CASES: usize = 150_000;

const GOLDEN: &str = include_str!("../../../sdk/protocol/tests/golden/wire.txt");

/// Reads a body; whether it was one.
type Reader = fn(&[u8]) -> bool;

/// Everything that a broker or a client decodes, as it stands in a frame.
const READERS: [Reader; 27] = [
    read::<RequestFrame>,
    read::<MemberMessage>,
    read::<ProduceBatch>,
    read::<ErrorCode>,
    read::<TopicDescription>,
    read::<DeploymentDescription>,
    read::<Result<(), WireError>>,
    read::<Result<HelloResponse, WireError>>,
    read::<Result<BrokerDescription, WireError>>,
    read::<Result<DescribeTopicsResponse, WireError>>,
    read::<Result<TopicDescription, WireError>>,
    read::<Result<ListOffsetsResponse, WireError>>,
    read::<Result<DeleteRecordsResponse, WireError>>,
    read::<Result<ProducerIdentity, WireError>>,
    read::<Result<ProduceOpened, WireError>>,
    read::<Result<ProduceAck, WireError>>,
    read::<Result<FetchOpened, WireError>>,
    read::<Result<Fetched, WireError>>,
    read::<Result<FetchResponse, WireError>>,
    read::<Result<CoordinatorMessage, WireError>>,
    read::<Result<ListGroupsResponse, WireError>>,
    read::<Result<GroupDescription, WireError>>,
    read::<Result<FetchOffsetsResponse, WireError>>,
    read::<Result<ResetGroupResponse, WireError>>,
    read::<Result<DeploymentDescription, WireError>>,
    read::<Result<ListDeploymentsResponse, WireError>>,
    read::<Result<PluginLogLine, WireError>>,
];

/// What is read is no larger than what it was read from, and comes back when it is sent on.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(value) = frame::decode_body::<T>(bytes) else {
        return false;
    };
    let mut again = BytesMut::new();
    frame::encode(&value, 0, &mut again).unwrap();
    let body = &again[FRAME_HEADER_BYTES..];
    assert!(body.len() <= bytes.len());
    assert!(frame::decode_body::<T>(body).is_ok());
    true
}

/// The golden bytes, and the same as the `Ok` of a response.
fn seeds() -> Vec<Vec<u8>> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    let bare = lines.map(|line| unhex(line.split_once(": ").unwrap().1));
    bare.flat_map(|bytes| [[&[0], &bytes[..]].concat(), bytes])
        .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn damaged_bodies() {
    let seeds = seeds();
    assert!(seeds.len() > 100);
    let mut mutator = Mutator::new(0x626f_6479);
    let mut read = [0; READERS.len()];
    for _ in 0..CASES {
        let (valid, other) = (mutator.pick(&seeds).clone(), mutator.pick(&seeds).clone());
        let bytes = mutator.mutate(&valid, &other);
        for (reader, read) in READERS.iter().zip(&mut read) {
            *read += usize::from(reader(&bytes));
        }
    }
    // Every reader accepted some and refused most.
    assert!(
        read.iter().all(|&read| read > 0 && read < CASES / 2),
        "{read:?}"
    );
}

//! A stream of partitions that different brokers lead, by a client that does not split it itself.

use std::collections::BTreeSet;

use millstream_protocol::WireError;
use millstream_protocol::api::fetch::{FetchOpened, FetchPartition, Fetched, OpenFetch};
use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame};
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::limits::MAX_FETCH_BYTES;
use millstream_transport::principal::Role;
use millstream_transport::{Connection, Connector, FrameReceiver, FrameSender, TransportConfig};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::harness::{Cluster, PATIENCE};
use crate::{all_have, create_topic, produce};

/// The partitions, and what is sent at once.
const PARTITIONS: u32 = 6;
const FRAME_BYTES: u32 = 4_096;

async fn open(connection: &Connection, request: Request) -> (FrameSender, FrameReceiver) {
    let (mut sender, receiver) = connection.open_stream().await.unwrap();
    sender
        .send(&RequestFrame::from_client(request))
        .await
        .unwrap();
    (sender, receiver)
}

async fn receive<T: DeserializeOwned>(receiver: &mut FrameReceiver) -> (T, bytes::Bytes) {
    let received = receiver.receive::<Result<T, WireError>>(MAX_FETCH_BYTES);
    let frame = timeout(PATIENCE, received).await.expect("a frame comes");
    let frame = frame.unwrap().expect("the stream goes on");
    (frame.body.unwrap(), frame.payload.freeze())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_brings_what_several_brokers_lead() {
    let cluster = Cluster::start(3).await;
    create_topic(&cluster, PARTITIONS).await;
    let client = cluster.client(0).await;
    produce(&client, (0..600).map(|it| format!("{it:0>50}"))).await;
    all_have(&cluster, 600).await;
    let topic = client.admin().describe_topic("orders").await.unwrap();
    let leaders: BTreeSet<u32> = topic.partitions.iter().map(|it| it.leader).collect();
    assert!(leaders.len() > 1, "{leaders:?}");

    let identity = cluster.identity(Role::Client, "tester");
    let connector = Connector::new(&identity, TransportConfig::client()).unwrap();
    let address = cluster.nodes[0].address.to_string();
    let connection = connector.connect(&address, "localhost").await.unwrap();
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        client_name: "tester".to_owned(),
        software: "test".to_owned(),
    };
    let (_greeting, mut receiver) = open(&connection, Request::Hello(hello)).await;
    let _: (HelloResponse, _) = receive(&mut receiver).await;

    let partitions = (0..PARTITIONS).map(|partition| FetchPartition {
        topic: "orders".to_owned(),
        topic_id: None,
        partition,
        offset: 0,
    });
    let request = OpenFetch {
        partitions: partitions.collect(),
        max_bytes: FRAME_BYTES,
    };
    let (_sender, mut receiver) = open(&connection, Request::OpenFetch(request)).await;
    let (FetchOpened { topic_ids }, _) = receive(&mut receiver).await;
    assert_eq!(topic_ids, vec![topic.topic_id; PARTITIONS as usize]);
    let mut next = [0; PARTITIONS as usize];
    let mut values = BTreeSet::new();
    let mut take = async |values: &mut BTreeSet<String>, until: usize| {
        while values.len() < until {
            let (fetched, mut payload): (Fetched, _) = receive(&mut receiver).await;
            let next = &mut next[fetched.index as usize];
            while let Some(batch) = RecordBatch::parse_next(&mut payload).unwrap() {
                assert_eq!(batch.header().base_offset, *next);
                *next = batch.header().next_offset();
                if batch.header().control {
                    continue;
                }
                for record in batch.records().unwrap().iter() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    assert!(values.insert(String::from_utf8(value).unwrap()), "once");
                }
            }
            assert_eq!(fetched.next_offset, *next);
        }
    };
    take(&mut values, 600).await;
    produce(&client, (600..700).map(|it| format!("{it:0>50}"))).await;
    take(&mut values, 700).await;
    cluster.stop().await;
}

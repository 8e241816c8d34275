//! How fast a follower catches up over loopback, against what QUIC itself carries there: the same
//! bytes over the same transport, turn by turn in one process.
//!
//! ```sh
//! cargo run --release -p millstream-peer --example catch_up -- [MiB] [rounds]
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement fails by panicking, and is printed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use millstream_peer::limits::Limits;
use millstream_peer::{
    Entries, Inbox, Introduction, Links, LinksConfig, Piece, Received, serve_replication, transport,
};
use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::api::peer::Lineage;
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame};
use millstream_protocol::batch::{self, BatchBuilder, Compression};
use millstream_protocol::{Offset, TopicId, TopicPartition, WireError};
use millstream_replication::{BrokerId, Message, Position, Run, Span};
use millstream_transport::identity::Authority;
use millstream_transport::{
    Connection, Connector, FrameReceiver, FrameSender, Identity, Listener, Role, TransportConfig,
};
use tokio::sync::watch;
use uuid::Uuid;

const BATCH_BYTES: usize = 64 << 10;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<usize>());
    let mib = arguments.next().map_or(512, Result::unwrap);
    let rounds = arguments.next().map_or(5, Result::unwrap);
    let log = Arc::new(Log::new((mib << 20) / BATCH_BYTES));
    let authority = Authority::create("catch-up").unwrap();
    let (mut raw, mut replicated) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        raw.push(mib as f64 / over_quic(&authority, &log).await);
        replicated.push(mib as f64 / over_a_link(&authority, &log).await);
        let (raw, replicated) = (raw[round], replicated[round]);
        let ratio = replicated / raw;
        println!("raw QUIC {raw:6.0} MiB/s, catch-up {replicated:6.0} MiB/s, ratio {ratio:.2}");
    }
    let (raw, replicated) = (median(raw), median(replicated));
    let ratio = replicated / raw;
    println!("medians: {raw:.0} and {replicated:.0} MiB/s, ratio {ratio:.2}");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn identity(authority: &Authority, name: &str) -> Identity {
    let issued = authority.issue(Role::Broker, name, &["127.0.0.1"]).unwrap();
    issued.identity().unwrap()
}

fn listen(authority: &Authority) -> Listener {
    let address = "127.0.0.1:0".parse().unwrap();
    let identity = identity(authority, "broker-2");
    Listener::bind(address, &identity, TransportConfig::server()).unwrap()
}

fn connector(authority: &Authority) -> Connector {
    Connector::new(&identity(authority, "broker-1"), transport()).unwrap()
}

/// The seconds that the log's bytes take over a stream of nothing but bytes.
async fn over_quic(authority: &Authority, log: &Log) -> f64 {
    let listener = listen(authority);
    let address = listener.local_addr().to_string();
    let reading = tokio::spawn(async move {
        let connection = listener.accept().await.unwrap().accept().await.unwrap();
        let (mut sender, mut receiver) = connection.accept_raw().await.unwrap();
        while receiver.read().await.unwrap().is_some() {}
        sender.write(Bytes::from_static(&[1])).await.unwrap();
        connection.closed().await;
    });
    let connection = connector(authority)
        .connect(&address, "127.0.0.1")
        .await
        .unwrap();
    let (mut sender, mut receiver) = connection.open_raw().await.unwrap();
    let begun = Instant::now();
    for batch in &log.batches {
        sender.write(batch.clone()).await.unwrap();
    }
    sender.finish().unwrap();
    receiver.read().await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    connection.close(millstream_transport::CloseCode::Done, "");
    reading.await.unwrap();
    seconds
}

/// The seconds that a follower takes to catch up with the log.
async fn over_a_link(authority: &Authority, log: &Arc<Log>) -> f64 {
    let progress = Arc::new(Progress {
        until: watch::Sender::new(0),
        linked: watch::Sender::new(false),
    });
    let listener = listen(authority);
    let address = listener.local_addr().to_string();
    let inbox = Arc::clone(&progress);
    tokio::spawn(async move {
        let connection = listener.accept().await.unwrap().accept().await.unwrap();
        serve(connection, inbox).await;
    });
    let config = LinksConfig {
        introduction: introduction(1),
        connector: connector(authority),
        limits: Limits::default(),
    };
    let links = Links::start(config, Arc::clone(&progress) as Arc<dyn Inbox>);
    links.set_peers(BTreeMap::from([(2, address)]));
    let mut linked = progress.linked.subscribe();
    linked.wait_for(|linked| *linked).await.unwrap();

    let begun = Instant::now();
    let end = log.batches.len() as u64;
    let message = Message::Append {
        epoch: 1,
        span: Span {
            prev: Position::default(),
            runs: vec![Run { epoch: 1, start: 0 }],
            until: end,
            from_start: true,
        },
        high_watermark: 0,
        deleted: 0,
        asks: true,
    };
    let partition = TopicPartition {
        topic_id: TopicId(Uuid::nil()),
        partition: 0,
    };
    links.send(2, partition, message, Some(Arc::clone(log) as _));
    let mut until = progress.until.subscribe();
    until.wait_for(|until| *until == end).await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    links.close().await;
    seconds
}

fn introduction(broker_id: BrokerId) -> Introduction {
    Introduction {
        cluster_id: Uuid::nil(),
        broker_id,
        directory_id: Uuid::nil(),
        incarnation: 1,
        lineage: Lineage::new(Uuid::from_u128(9)),
    }
}

async fn serve(connection: Connection, inbox: Arc<Progress>) {
    while let Ok((sender, receiver)) = connection.accept_stream().await {
        tokio::spawn(answer(sender, receiver, Arc::clone(&inbox)));
    }
}

async fn answer(mut sender: FrameSender, mut receiver: FrameReceiver, inbox: Arc<Progress>) {
    let frame = receiver.receive::<RequestFrame>(0).await.unwrap().unwrap();
    if let Request::OpenReplication(request) = frame.body.request {
        let from = request.introduction.broker_id;
        // It ends with the connection.
        let _ = serve_replication(from, &mut sender, &mut receiver, &*inbox).await;
        return;
    }
    let hello = HelloResponse {
        version: PROTOCOL_VERSION,
        cluster_id: Uuid::nil(),
        broker_id: 2,
        software: String::new(),
        principal: String::new(),
        max_batch_bytes: 1 << 20,
        fetch_streams: 1,
    };
    sender.send(&Ok::<_, WireError>(hello)).await.unwrap();
}

/// How far the follower is.
struct Progress {
    until: watch::Sender<Offset>,
    linked: watch::Sender<bool>,
}

impl Inbox for Progress {
    fn received(&self, received: Received) {
        if let Message::Append { span, .. } = received.message {
            self.until.send_replace(span.until);
        }
    }

    fn linked(&self, _: BrokerId) {
        self.linked.send_replace(true);
    }

    fn unlinked(&self, _: BrokerId, _: String) {}
}

/// A log in memory, of batches of one record each.
struct Log {
    batches: Vec<Bytes>,
}

impl Log {
    fn new(batches: usize) -> Self {
        let mut builder = BatchBuilder::new(Compression::None, BATCH_BYTES);
        let value = vec![0x5a; BATCH_BYTES - 100];
        builder.append(1, None, Some(&value), &[]).unwrap();
        let template = builder.finish(None).unwrap();
        let batch = |offset| {
            let mut batch = BytesMut::from(&template[..]);
            batch::assign(&mut batch, offset, 1).unwrap();
            batch.freeze()
        };
        let batches = (0..batches as u64).map(batch).collect();
        Self { batches }
    }
}

impl Entries for Log {
    fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        let fits = (max_bytes / BATCH_BYTES) as u64;
        let next_offset = until.min(from + fits.max(1));
        let batches = self.batches.get(from as usize..next_offset as usize)?;
        Some(Piece {
            batches: batches.to_vec(),
            next_offset,
        })
    }

    fn read_cached(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        self.read(from, until, max_bytes)
    }
}

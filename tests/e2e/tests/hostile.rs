//! Bytes that no client of ours would send: each costs its own stream and nothing else.

use std::net::{Ipv4Addr, UdpSocket};

use bytes::Bytes;
use millstream::{Error, ErrorCode, Position, ProduceRecord, TopicSelection};
use millstream_e2e::patience::{until, within};
use millstream_e2e::random::Random;
use millstream_e2e::siege::{Siege, TARGET, throw_damaged};
use millstream_e2e::wire::{StreamEnd, Wire, WireStream, frame_claiming, frame_of, hello};
use millstream_protocol::api::fetch::{Fetch, FetchOpened, FetchPartition, OpenFetch};
use millstream_protocol::api::group::{CoordinatorMessage, MemberMessage, OffsetCommit, OpenGroup};
use millstream_protocol::api::hello::DescribeBroker;
use millstream_protocol::api::produce::{
    InitProducer, OpenProduce, ProduceAck, ProduceBatch, ProduceOpened,
};
use millstream_protocol::api::topic::{CreateTopic, DescribeTopics, TopicConfig, TopicDetail};
use millstream_protocol::api::{MAX_HOPS, Request, RequestFrame};
use millstream_protocol::batch::{BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::limits::{
    MAX_BATCH_BYTES, MAX_BODY_BYTES, MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS, MAX_ITEMS_PER_REQUEST,
    MAX_PARTITIONS_PER_FETCH_STREAM, MAX_STREAMS_PER_CONNECTION,
};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, WireError};
use millstream_transport::{RawReceiver, RawSender};

/// A valid batch of three records.
fn good_batch(stamp: Option<ProducerStamp>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    for value in [&b"a"[..], b"bb", b"ccc"] {
        builder
            .append(1_700_000_000_000, Some(b"key"), Some(value), &[])
            .expect("room");
    }
    builder.finish(stamp).expect("a batch").to_vec()
}

/// The checksum made right again.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch with other bytes at a place, and the right checksum.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = good_batch(None);
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(batch)
}

async fn produce_stream(wire: &Wire) -> WireStream {
    let open = OpenProduce {
        topic: TARGET.to_owned(),
        topic_id: None,
        partition: 0,
    };
    let mut stream = wire.open(Request::OpenProduce(open)).await;
    let _: ProduceOpened = stream.answer().await.expect("an open produce stream");
    stream
}

fn from(topic: &str, partition: u32, offset: u64) -> FetchPartition {
    FetchPartition {
        topic: topic.to_owned(),
        topic_id: None,
        partition,
        offset,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_are_refused_by_name() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let too_large = u32::try_from(MAX_BODY_BYTES + 1).unwrap();
    let request = RequestFrame::from_client(DescribeBroker {}.into());
    let whole = frame_of(&request, &[]);
    let hops = RequestFrame {
        hops: MAX_HOPS + 1,
        request: request.request.clone(),
    };
    let topics: Request = DescribeTopics {
        topics: TopicSelection::All,
        after: None,
        detail: TopicDetail::Logs,
    }
    .into();
    let cases: Vec<(&str, Bytes, StreamEnd, ErrorCode)> = vec![
        // A claim is refused as it is read: nobody waits for what it announces.
        (
            "body of 4 GiB",
            frame_claiming(u32::MAX, 0, b""),
            StreamEnd::Open,
            ErrorCode::FrameTooLarge,
        ),
        (
            "body above the limit",
            frame_claiming(too_large, 0, b""),
            StreamEnd::Open,
            ErrorCode::FrameTooLarge,
        ),
        (
            "payload of 4 GiB",
            frame_claiming(1, u32::MAX, b""),
            StreamEnd::Open,
            ErrorCode::FrameTooLarge,
        ),
        (
            "half a header",
            Bytes::from_static(&[0, 0, 0]),
            StreamEnd::Finished,
            ErrorCode::MalformedFrame,
        ),
        (
            "half a body",
            whole.slice(..whole.len() - 1),
            StreamEnd::Finished,
            ErrorCode::MalformedFrame,
        ),
        (
            "half a payload",
            frame_claiming(2, 5, b"\x00\x01abc"),
            StreamEnd::Finished,
            ErrorCode::MalformedFrame,
        ),
        (
            "no body",
            frame_claiming(0, 0, b""),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "noise",
            frame_claiming(4, 0, b"\xff\xff\xff\xff"),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "an unknown request",
            frame_of(&(0_u8, 999_u32), &[]),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "bytes behind the body",
            frame_of(&(&request, 0_u8), &[]),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "a string of 2^60 bytes",
            frame_of(&(0_u8, 3_u32, 1_u64 << 60), &[]),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "an unwanted payload",
            frame_of(&RequestFrame::from_client(topics), b"extra"),
            StreamEnd::Open,
            ErrorCode::MalformedFrame,
        ),
        (
            "too many hops",
            frame_of(&hops, &[]),
            StreamEnd::Open,
            ErrorCode::NotLeader,
        ),
    ];
    for (what, bytes, end, expected) in cases {
        let refusal = wire.refusal_of(bytes, end).await;
        assert_eq!(refusal.code, expected, "{what}: {refusal}");
        assert!(!refusal.message.is_empty(), "{what}");
        // The other streams of the very same connection go on.
        wire.ask(DescribeBroker {}).await.expect(what);
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_batches_are_refused_and_nothing_of_them_is_kept() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let mut bad_crc = good_batch(None);
    *bad_crc.last_mut().unwrap() ^= 1;
    let two = [good_batch(None), good_batch(None)].concat();
    let mut claims_billions = good_batch(None);
    claims_billions[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    claims_billions[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let corrupt = ErrorCode::CorruptBatch;
    let mut stamp = FIRST_WORKER_PRODUCER_ID.to_be_bytes().to_vec();
    stamp.extend([0; 6]);
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("nothing", Vec::new(), corrupt),
        ("half a header", good_batch(None)[..40].to_vec(), corrupt),
        (
            "half of its records",
            good_batch(None)[..70].to_vec(),
            corrupt,
        ),
        ("noise", Random::seeded(1).bytes(500), corrupt),
        ("a bad checksum", bad_crc, corrupt),
        ("two batches", two, corrupt),
        ("another magic", with(16, &[1]), corrupt),
        (
            "a length beyond its end",
            with(8, &1_000_i32.to_be_bytes()),
            corrupt,
        ),
        (
            "a length of 2 GiB",
            with(8, &i32::MAX.to_be_bytes()),
            ErrorCode::RecordTooLarge,
        ),
        (
            "a negative length",
            with(8, &(-1_i32).to_be_bytes()),
            corrupt,
        ),
        ("an unknown codec", with(21, &[0, 7]), corrupt),
        ("a reserved attribute", with(21, &[0x80, 0]), corrupt),
        (
            "the control bit",
            with(21, &[0, 0x20]),
            ErrorCode::InvalidRequest,
        ),
        (
            "the transactional bit",
            with(21, &[0, 0x10]),
            ErrorCode::InvalidRequest,
        ),
        (
            "a worker's producer id",
            with(43, &stamp),
            ErrorCode::InvalidRequest,
        ),
        ("two billion records", sealed(claims_billions), corrupt),
        (
            "a count of its own",
            with(57, &2_i32.to_be_bytes()),
            corrupt,
        ),
        ("no record", with(57, &0_i32.to_be_bytes()), corrupt),
        (
            "a negative count",
            with(57, &(-3_i32).to_be_bytes()),
            corrupt,
        ),
        (
            "a negative offset",
            with(0, &(-5_i64).to_be_bytes()),
            corrupt,
        ),
        (
            "the newest timestamp of a year to come",
            with(35, &i64::MAX.to_be_bytes()),
            corrupt,
        ),
        ("a record longer than the batch", with(61, &[0xfe]), corrupt),
        ("a record of negative length", with(61, &[0x01]), corrupt),
    ];
    for (what, batch, expected) in cases {
        let mut stream = produce_stream(&wire).await;
        stream.send(&ProduceBatch {}, batch).await;
        let refusal = stream.refusal().await;
        assert_eq!(refusal.code, expected, "{what}: {refusal}");
        assert!(refusal.message.contains("target-0"), "{what}: {refusal}");
    }
    let mut stream = produce_stream(&wire).await;
    stream
        .send(&ProduceBatch {}, vec![0; MAX_BATCH_BYTES + 1])
        .await;
    assert_eq!(stream.refusal().await.code, ErrorCode::FrameTooLarge);
    assert_eq!(siege.high_watermark().await, 0, "something of it was kept");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_refused_batch_nothing_of_its_stream_is_appended() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let mut stream = produce_stream(&wire).await;
    let mut bad = good_batch(None);
    *bad.last_mut().unwrap() ^= 1;
    for batch in [good_batch(None), good_batch(None), bad, good_batch(None)] {
        stream.send(&ProduceBatch {}, batch).await;
    }
    let first: ProduceAck = stream.answer().await.unwrap();
    let second: ProduceAck = stream.answer().await.unwrap();
    assert_eq!((first.base_offset, second.base_offset), (0, 3));
    assert_eq!(stream.refusal().await.code, ErrorCode::CorruptBatch);
    assert_eq!(siege.high_watermark().await, 6);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_that_do_not_follow_are_refused() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let producer = wire.ask(InitProducer {}).await.unwrap();
    let stamped = |producer_epoch, first_sequence| {
        good_batch(Some(ProducerStamp {
            producer_id: producer.producer_id,
            producer_epoch,
            first_sequence,
        }))
    };
    let cases = [
        ("the first", stamped(0, 0), Ok(0)),
        ("the next", stamped(0, 3), Ok(3)),
        ("the first again", stamped(0, 0), Ok(0)),
        ("a gap", stamped(0, 9), Err(ErrorCode::OutOfOrderSequence)),
        (
            "a part of one before",
            stamped(0, 4),
            Err(ErrorCode::OutOfOrderSequence),
        ),
        ("the next epoch", stamped(1, 0), Ok(6)),
        (
            "the epoch before",
            stamped(0, 6),
            Err(ErrorCode::ProducerFenced),
        ),
    ];
    for (what, batch, expected) in cases {
        let mut stream = produce_stream(&wire).await;
        stream.send(&ProduceBatch {}, batch).await;
        let acked: Result<ProduceAck, WireError> = stream.answer().await;
        assert_eq!(
            acked.map(|ack| ack.base_offset).map_err(|error| error.code),
            expected,
            "{what}"
        );
    }
    assert_eq!(siege.high_watermark().await, 9);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_batch_that_lies_costs_its_readers_one_error() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    // The broker does not inflate what it stores: this says lz4 and is none.
    let mut stream = produce_stream(&wire).await;
    stream.send(&ProduceBatch {}, with(21, &[0, 3])).await;
    let _: ProduceAck = stream.answer().await.unwrap();
    let producer = siege.client.producer(TARGET).build().await.unwrap();
    producer
        .send(ProduceRecord::new("behind"))
        .await
        .unwrap()
        .await
        .unwrap();

    let builder = siege
        .client
        .consumer()
        .topics([TARGET])
        .start(Position::Earliest);
    let mut consumer = builder.build().await.unwrap();
    let error = within("an error", consumer.next()).await.unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { offset: 0, .. }),
        "{error:?}"
    );
    consumer.seek(TARGET, 0, Position::Offset(3)).await.unwrap();
    let record = within("a record", consumer.next()).await.unwrap();
    assert_eq!(
        (record.offset, record.value.as_deref()),
        (3, Some(&b"behind"[..]))
    );
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_what_is_not_there_are_refused_by_name() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let many = |count: usize| vec![from(TARGET, 0, 0); count];
    let open = |partitions, max_bytes| OpenFetch {
        partitions,
        max_bytes,
    };
    let beyond_fetch = u32::try_from(MAX_FETCH_BYTES + 1).unwrap();
    let fetches = [
        (
            open(vec![from("nowhere", 0, 0)], 1),
            ErrorCode::UnknownTopic,
        ),
        (
            open(vec![from(TARGET, 7, 0)], 1),
            ErrorCode::UnknownPartition,
        ),
        (
            open(vec![from(TARGET, 0, 1)], 1),
            ErrorCode::OffsetOutOfRange,
        ),
        (
            open(vec![from(TARGET, 0, u64::MAX)], 1),
            ErrorCode::OffsetOutOfRange,
        ),
        (open(Vec::new(), 1), ErrorCode::InvalidRequest),
        (
            open(many(MAX_PARTITIONS_PER_FETCH_STREAM + 1), 1),
            ErrorCode::InvalidRequest,
        ),
        (open(many(1), 0), ErrorCode::InvalidRequest),
        (open(many(1), beyond_fetch), ErrorCode::InvalidRequest),
    ];
    for (request, expected) in fetches {
        let what = format!(
            "{} partitions, {} bytes",
            request.partitions.len(),
            request.max_bytes
        );
        let refusal = wire.open(Request::OpenFetch(request)).await.refusal().await;
        assert_eq!(refusal.code, expected, "{what}: {refusal}");
    }
    let long = Fetch {
        partitions: many(1),
        min_bytes: 1,
        max_bytes: 1,
        max_wait_ms: MAX_FETCH_WAIT_MS + 1,
    };
    assert_eq!(
        wire.ask(long).await.unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    let names = vec!["x".to_owned(); MAX_ITEMS_PER_REQUEST + 1];
    let describe = DescribeTopics {
        topics: TopicSelection::Named(names),
        after: None,
        detail: TopicDetail::Logs,
    };
    assert_eq!(
        wire.ask(describe).await.unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    let huge = CreateTopic {
        name: "huge".to_owned(),
        partitions: u32::MAX,
        config: TopicConfig::default(),
    };
    assert_eq!(
        wire.ask(huge).await.unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    for (topic, partition, expected) in [
        ("nowhere", 0, ErrorCode::UnknownTopic),
        (TARGET, 7, ErrorCode::UnknownPartition),
    ] {
        let open = OpenProduce {
            topic: topic.to_owned(),
            topic_id: None,
            partition,
        };
        assert_eq!(
            wire.open(Request::OpenProduce(open))
                .await
                .refusal()
                .await
                .code,
            expected,
            "{topic}-{partition}"
        );
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_breaks_the_rules_loses_its_membership_alone() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let commit = |generation, partition| MemberMessage::Commit {
        generation,
        offsets: vec![OffsetCommit {
            topic: TARGET.to_owned(),
            partition,
            offset: 0,
            metadata: String::new(),
        }],
    };
    let member = async || {
        let open = OpenGroup {
            group: "hostile".to_owned(),
            member_name: "m".to_owned(),
            topics: vec![TARGET.to_owned()],
            start: Position::Earliest,
        };
        let mut stream = wire.open(Request::OpenGroup(open)).await;
        let joined: CoordinatorMessage = stream.answer().await.expect("a member");
        assert!(
            matches!(joined, CoordinatorMessage::Joined { .. }),
            "{joined:?}"
        );
        stream
    };
    // What it does not own is refused in the answer, and it stays.
    let mut stream = member().await;
    stream.send(&commit(0, 7), Bytes::new()).await;
    loop {
        match stream
            .answer::<CoordinatorMessage>()
            .await
            .expect("a message")
        {
            CoordinatorMessage::Committed(outcome) => break assert!(outcome.is_err()),
            _ => continue,
        }
    }
    // A generation that never was, and bytes that are no message, end the membership.
    stream.send(&commit(u32::MAX, 0), Bytes::new()).await;
    assert_eq!(stream.refusal().await.code, ErrorCode::InvalidRequest);
    let mut stream = member().await;
    stream.send(&(9_u32, 9_u32), Bytes::new()).await;
    assert_eq!(stream.refusal().await.code, ErrorCode::MalformedFrame);
    until("a group without members", async || {
        let group = siege
            .client
            .admin()
            .describe_group("hostile")
            .await
            .expect("a group");
        group.members.is_empty().then_some(())
    })
    .await;
    siege.end().await;
}

/// Opens a stream, unless the broker lets a whole exchange on another connection pass first.
async fn open_unless_held_back(wire: &Wire, other: &Wire) -> Option<(RawSender, RawReceiver)> {
    tokio::select! {
        biased;
        opened = wire.0.open_raw() => Some(opened.expect("a stream")),
        answered = other.ask(DescribeBroker {}) => {
            answered.expect("an answer on another connection");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_streams_cost_one_connection_its_own() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    // As many as it lets open, each with a claim of a megabyte of which one byte comes.
    let claim = frame_claiming(u32::try_from(MAX_BODY_BYTES).unwrap(), 0, b"x");
    let other = siege.wire().await;
    let mut held = Vec::new();
    while let Some((mut sender, receiver)) = open_unless_held_back(&wire, &other).await {
        sender.write(claim.clone()).await.unwrap();
        held.push((sender, receiver));
        assert!(
            held.len() <= MAX_STREAMS_PER_CONNECTION as usize,
            "there is no limit"
        );
    }
    assert!(
        held.len() > MAX_STREAMS_PER_CONNECTION as usize / 2,
        "only {} streams",
        held.len()
    );
    // What ends makes room.
    drop(held);
    // And thousands that come and go.
    for _ in 0..3_000 {
        let refusal = wire
            .refusal_of(frame_claiming(u32::MAX, 0, b""), StreamEnd::Open)
            .await;
        assert_eq!(refusal.code, ErrorCode::FrameTooLarge);
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_requests_never_reach_beyond_their_stream() {
    let siege = Siege::begin().await;
    let wire = siege.wire().await;
    let requests: Vec<Request> = vec![
        hello().into(),
        DescribeTopics {
            topics: TopicSelection::AllWithInternal,
            after: None,
            detail: TopicDetail::Logs,
        }
        .into(),
        Request::OpenProduce(OpenProduce {
            topic: TARGET.to_owned(),
            topic_id: None,
            partition: 0,
        }),
        Request::OpenFetch(OpenFetch {
            partitions: vec![from(TARGET, 0, 0)],
            max_bytes: 1,
        }),
        Fetch {
            partitions: vec![from(TARGET, 0, 0)],
            min_bytes: 0,
            max_bytes: 1,
            max_wait_ms: 0,
        }
        .into(),
    ];
    throw_damaged(&wire, &requests, &mut Random::seeded(7)).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_are_no_quic_and_silent_connections_do_no_harm() {
    let siege = Siege::begin().await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut random = Random::seeded(3);
    for _ in 0..5_000 {
        let length = random.between(0..1_400) as usize;
        let mut datagram = random.bytes(length);
        // Half of them look like the beginning of a connection.
        if let Some(first) = datagram.first_mut().filter(|first| **first & 1 == 0) {
            *first |= 0xc0;
        }
        // A full socket buffer takes no more for the moment; others follow.
        let _ = socket.send_to(&datagram, siege.broker.address());
    }
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Wire::connect(&siege.broker).await);
    }
    siege.wire().await.ask(DescribeBroker {}).await.unwrap();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_names_what_is_too_large_out_of_range_or_not_there() {
    let siege = Siege::begin().await;
    let admin = siege.client.admin();
    admin
        .create_topic("small")
        .max_batch_bytes(1_024)
        .await
        .unwrap();
    let producer = siege.client.producer("small").build().await.unwrap();
    let error = producer
        .send(ProduceRecord::new(vec![0; 2_000]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::RecordTooLarge { limit: 1_024, .. }),
        "{error:?}"
    );
    producer
        .send(ProduceRecord::new("fits"))
        .await
        .unwrap()
        .await
        .unwrap();

    let unknown = siege.client.producer("nowhere").build().await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UnknownTopic));
    assert!(unknown.to_string().contains("nowhere"), "{unknown}");
    let beyond = siege
        .client
        .consumer()
        .assign([("small", 0, Position::Offset(2))])
        .build()
        .await;
    let beyond = beyond.unwrap_err();
    assert_eq!(beyond.code(), Some(ErrorCode::OffsetOutOfRange), "{beyond}");
    let partition = siege
        .client
        .consumer()
        .assign([("small", 3, Position::Earliest)])
        .build()
        .await;
    assert_eq!(
        partition.unwrap_err().code(),
        Some(ErrorCode::UnknownPartition)
    );

    // A stream that the broker has no use for is closed by it, and the connection is not.
    let wire = siege.wire().await;
    let fetch = OpenFetch {
        partitions: vec![from("small", 0, 0)],
        max_bytes: 1,
    };
    let mut stream = wire.open(Request::OpenFetch(fetch)).await;
    let _: FetchOpened = stream.answer().await.unwrap();
    admin.delete_topic("small").await.unwrap();
    assert_eq!(stream.refusal().await.code, ErrorCode::UnknownTopic);
    wire.ask(DescribeBroker {}).await.unwrap();
    siege.end().await;
}

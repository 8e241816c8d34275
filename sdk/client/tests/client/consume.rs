//! Consuming without a group.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use millstream::{
    Compression, ConsumedRecord, Consumer, Error, ErrorCode, OutOfRange, Position, ProduceRecord,
};
use millstream_protocol::api::Request;

use crate::broker::{Broker, PATIENCE, batch, error, named, offsets};

async fn next(consumer: &mut Consumer) -> ConsumedRecord {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a record comes")
        .unwrap()
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(next(consumer).await);
    }
    records
}

fn values(records: &[ConsumedRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap())
        .collect()
}

/// A broker with `orders`, one partition, holding the batches a b c, d e, f.
async fn broker_with_orders() -> Broker {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker.append("orders", 0, ["a", "b", "c"]);
    broker.append("orders", 0, ["d", "e"]);
    broker.append("orders", 0, ["f"]);
    broker
}

async fn consumer_at(broker: &Broker, position: Position) -> Consumer {
    broker
        .client()
        .await
        .consumer()
        .assign([("orders", 0, position)])
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn records_come_as_they_were_produced() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let producer = client.producer("orders").build().await.unwrap();
    let record = ProduceRecord::new("value")
        .key("key")
        .header("trace", "1")
        .timestamp_ms(77);
    producer.send(record).await.unwrap();
    producer
        .send(ProduceRecord::tombstone("key").timestamp_ms(78))
        .await
        .unwrap();
    producer.flush().await.unwrap();

    let mut consumer = client
        .consumer()
        .topics(["orders"])
        .start(Position::Earliest)
        .build()
        .await
        .unwrap();
    let record = next(&mut consumer).await;
    assert_eq!(
        (
            &*record.topic,
            record.partition,
            record.offset,
            record.timestamp_ms
        ),
        ("orders", 0, 0, 77)
    );
    assert_eq!(
        (record.key.as_deref(), record.value.as_deref()),
        (Some(&b"key"[..]), Some(&b"value"[..]))
    );
    assert_eq!(
        (
            &record.headers[0].name[..],
            record.headers[0].value.as_deref()
        ),
        (&b"trace"[..], Some(&b"1"[..]))
    );
    let tombstone = next(&mut consumer).await;
    assert_eq!((tombstone.offset, tombstone.value), (1, None));
}

#[tokio::test]
async fn positions_say_where_to_start() {
    let broker = broker_with_orders().await;
    let mut earliest = consumer_at(&broker, Position::Earliest).await;
    assert_eq!(
        values(&take(&mut earliest, 6).await),
        ["a", "b", "c", "d", "e", "f"]
    );

    // In the middle of a batch, which the broker never cuts.
    let mut within = consumer_at(&broker, Position::Offset(1)).await;
    let records = take(&mut within, 3).await;
    assert_eq!(
        (records[0].offset, values(&records)),
        (1, vec!["b".into(), "c".into(), "d".into()])
    );

    let mut latest = consumer_at(&broker, Position::Latest).await;
    assert!(latest.next().now_or_never().is_none());
    broker.append("orders", 0, ["new"]);
    assert_eq!(values(&take(&mut latest, 1).await), ["new"]);
}

#[tokio::test]
async fn batches_come_whole_and_mix_with_records() {
    let broker = broker_with_orders().await;
    let mut consumer = consumer_at(&broker, Position::Offset(1)).await;
    assert_eq!(next(&mut consumer).await.offset, 1);
    let rest = consumer.next_batch().await.unwrap();
    assert_eq!(
        (rest.len(), rest.next_offset(), rest.high_watermark()),
        (1, 3, 6)
    );
    let whole = consumer.next_batch().await.unwrap();
    assert_eq!((whole.partition(), whole.len()), (0, 2));
    assert_eq!(
        whole.iter().map(|record| record.offset).collect::<Vec<_>>(),
        [3, 4]
    );
    assert_eq!(
        values(&whole.into_records().collect::<Vec<_>>()),
        ["d", "e"]
    );
    assert_eq!(next(&mut consumer).await.offset, 5);
    assert_eq!(consumer.position("orders", 0), Some(6));
    assert_eq!(consumer.high_watermark("orders", 0), Some(6));
}

#[tokio::test]
async fn a_consumer_is_a_stream() {
    let broker = broker_with_orders().await;
    let consumer = consumer_at(&broker, Position::Earliest).await;
    let records: Vec<_> = consumer.take(6).map(Result::unwrap).collect().await;
    assert_eq!(values(&records), ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn topics_without_a_group_are_read_whole() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 3);
    broker.create_topic("payments", 1);
    for partition in 0..3 {
        broker.append("orders", partition, ["order"]);
    }
    broker.append("payments", 0, ["payment"]);
    let client = broker.client().await;
    let builder = client
        .consumer()
        .topics(["orders", "payments"])
        .start(Position::Earliest);
    let mut consumer = builder.build().await.unwrap();
    let expected = [
        named("orders", 0),
        named("orders", 1),
        named("orders", 2),
        named("payments", 0),
    ];
    assert_eq!(consumer.assignment(), expected);
    let mut seen: Vec<_> = take(&mut consumer, 4)
        .await
        .iter()
        .map(|r| (r.topic.to_string(), r.partition))
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        expected.map(|partition| (partition.topic, partition.partition))
    );
    assert!(
        matches!(consumer.commit().await, Err(Error::InvalidArgument(_))),
        "nowhere to commit to"
    );
}

#[tokio::test]
async fn what_brokers_write_for_themselves_is_passed_over() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker.append("orders", 0, ["a"]);
    broker.append_raw("orders", 0, control_batch());
    broker.append("orders", 0, ["b"]);
    broker.append_raw("orders", 0, control_batch());
    let mut consumer = consumer_at(&broker, Position::Earliest).await;
    let records = take(&mut consumer, 2).await;
    assert_eq!(
        records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [0, 2]
    );
    // The last one has nothing to hand out, and still moves the position.
    assert!(consumer.next().now_or_never().is_none());
    assert_eq!(consumer.position("orders", 0), Some(4));
}

/// A batch with the control bit, its checksum right.
fn control_batch() -> Bytes {
    let mut bytes = BytesMut::from(batch(["marker"]));
    bytes[22] |= 1 << 5;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

#[tokio::test]
async fn a_damaged_batch_is_told_once_and_the_others_go_on() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    broker.append("orders", 0, ["good"]);
    let mut damaged = BytesMut::from(batch(["damaged"]));
    *damaged.last_mut().unwrap() ^= 1;
    broker.append_raw("orders", 0, damaged.freeze());
    broker.append("orders", 0, ["behind"]);
    let client = broker.client().await;
    let mut consumer = client
        .consumer()
        .topics(["orders"])
        .start(Position::Earliest)
        .build()
        .await
        .unwrap();

    assert_eq!(values(&take(&mut consumer, 1).await), ["good"]);
    let told = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            told,
            Error::Corrupt {
                partition: 0,
                offset: 1,
                ..
            }
        ),
        "{told:?}"
    );
    broker.append("orders", 1, ["other"]);
    assert_eq!(values(&take(&mut consumer, 1).await), ["other"]);
    consumer
        .seek("orders", 0, Position::Offset(2))
        .await
        .unwrap();
    assert_eq!(values(&take(&mut consumer, 1).await), ["behind"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_batches_are_read() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    for compression in [Compression::Lz4, Compression::Zstd] {
        let producer = client
            .producer("orders")
            .compression(compression)
            .build()
            .await
            .unwrap();
        for number in 0..500 {
            producer
                .send(ProduceRecord::new(format!("the number {number}")))
                .await
                .unwrap();
        }
        producer.close().await.unwrap();
    }
    let mut consumer = consumer_at(&broker, Position::Earliest).await;
    let records = take(&mut consumer, 1000).await;
    assert_eq!(
        records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        offsets(1000)
    );
    assert_eq!(values(&records[999..]), ["the number 499"]);
}

#[tokio::test]
async fn a_seek_drops_what_was_fetched() {
    let broker = broker_with_orders().await;
    let mut consumer = consumer_at(&broker, Position::Earliest).await;
    assert_eq!(values(&take(&mut consumer, 4).await), ["a", "b", "c", "d"]);
    consumer
        .seek("orders", 0, Position::Earliest)
        .await
        .unwrap();
    assert_eq!(values(&take(&mut consumer, 2).await), ["a", "b"]);
    consumer
        .seek("orders", 0, Position::Offset(5))
        .await
        .unwrap();
    assert_eq!(values(&take(&mut consumer, 1).await), ["f"]);
    let elsewhere = consumer.seek("orders", 1, Position::Earliest).await;
    assert!(matches!(elsewhere, Err(Error::InvalidArgument(_))));
}

#[tokio::test]
async fn a_paused_partition_waits_and_loses_nothing() {
    let broker = broker_with_orders().await;
    let mut consumer = consumer_at(&broker, Position::Earliest).await;
    assert_eq!(values(&take(&mut consumer, 2).await), ["a", "b"]);
    // In the middle of a batch, with more behind it.
    consumer.pause("orders", 0).unwrap();
    assert!(consumer.next().now_or_never().is_none());
    broker.append("orders", 0, ["g"]);
    assert!(consumer.next().now_or_never().is_none());
    consumer.resume("orders", 0).unwrap();
    assert_eq!(
        values(&take(&mut consumer, 5).await),
        ["c", "d", "e", "f", "g"]
    );
}

#[tokio::test]
async fn a_lost_connection_loses_and_doubles_nothing() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    let client = broker.client().await;
    let mut consumer = client
        .consumer()
        .topics(["orders"])
        .start(Position::Earliest)
        .build()
        .await
        .unwrap();
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for round in 0..20 {
        for partition in 0..2 {
            broker.append(
                "orders",
                partition,
                (0..10).map(|number| format!("{round}-{number}")),
            );
        }
        for record in take(&mut consumer, 15).await {
            seen.entry(record.partition)
                .or_default()
                .push(record.offset);
        }
        broker.kill_connections();
    }
    for record in take(&mut consumer, 100).await {
        seen.entry(record.partition)
            .or_default()
            .push(record.offset);
    }
    assert_eq!(seen, BTreeMap::from([(0, offsets(200)), (1, offsets(200))]));
}

#[tokio::test]
async fn partitions_share_streams_beyond_the_limit() {
    let broker = Broker::start().await;
    broker.state().fetch_streams = 2;
    broker.create_topic("wide", 7);
    let client = broker.client().await;
    let mut consumer = client
        .consumer()
        .topics(["wide"])
        .start(Position::Earliest)
        .build()
        .await
        .unwrap();
    for round in 0..3 {
        for partition in 0..7 {
            broker.append("wide", partition, [format!("{round}")]);
        }
    }
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for record in take(&mut consumer, 21).await {
        seen.entry(record.partition)
            .or_default()
            .push(record.offset);
    }
    assert_eq!(
        seen,
        (0..7).map(|partition| (partition, offsets(3))).collect()
    );
    let widths = |broker: &Broker| {
        let mut widths: Vec<_> = broker
            .state()
            .open_fetches
            .iter()
            .map(|open| open.partitions.len())
            .collect();
        widths.sort_unstable();
        widths
    };
    assert_eq!(widths(&broker), [3, 4]);

    // A second consumer on the connection has to have one all the same.
    let other = client.consumer().topics(["wide"]).build().await.unwrap();
    broker
        .until("the other's stream is open", |state| {
            (state.open_fetches.len() == 3).then_some(())
        })
        .await;
    assert_eq!(widths(&broker), [3, 4, 7]);
    drop(other);
    broker
        .until("it is closed", |state| {
            (state.open_fetches.len() == 2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_paused_partition_does_not_hold_up_its_stream() {
    let broker = Broker::start().await;
    broker.state().fetch_streams = 1;
    broker.create_topic("wide", 2);
    let builder = broker
        .client()
        .await
        .consumer()
        .topics(["wide"])
        .start(Position::Earliest);
    let mut consumer = builder.buffer_bytes(10_000).build().await.unwrap();
    consumer.pause("wide", 0).unwrap();
    // Far more than the buffer takes, and than QUIC does.
    for _ in 0..60 {
        broker.append("wide", 0, [vec![b'x'; 100_000]]);
    }
    for number in 0..10 {
        broker.append("wide", 1, [format!("{number}")]);
        assert_eq!(values(&take(&mut consumer, 1).await), [format!("{number}")]);
    }
    consumer.resume("wide", 0).unwrap();
    assert_eq!(take(&mut consumer, 60).await.last().unwrap().offset, 59);
}

#[tokio::test]
async fn a_partition_that_is_not_read_holds_up_no_other() {
    let broker = Broker::start().await;
    broker.create_topic("wide", 2);
    let builder = broker
        .client()
        .await
        .consumer()
        .topics(["wide"])
        .start(Position::Earliest);
    let mut consumer = builder.buffer_bytes(200_000).build().await.unwrap();
    consumer.pause("wide", 0).unwrap();
    for _ in 0..100 {
        broker.append("wide", 0, [vec![b'x'; 100_000]]);
    }
    for number in 0..100 {
        broker.append("wide", 1, [format!("{number:01000}")]);
    }
    assert_eq!(take(&mut consumer, 100).await.last().unwrap().offset, 99);
}

#[tokio::test]
async fn a_slow_application_bounds_what_is_fetched() {
    const BOUND: usize = 1 << 20;
    let broker = Broker::start().await;
    broker.create_topic("wide", 4);
    // 40 MB: more than the buffer takes and QUIC's windows hold.
    for number in 0..400 {
        broker.append("wide", number % 4, [vec![b'x'; 100_000]]);
    }
    let builder = broker
        .client()
        .await
        .consumer()
        .topics(["wide"])
        .start(Position::Earliest);
    let mut consumer = builder.buffer_bytes(BOUND).build().await.unwrap();
    let mut most = 0;
    for _ in 0..400 {
        next(&mut consumer).await;
        most = most.max(consumer.buffered_bytes());
    }
    // Each of the four streams may hold one frame more than its share.
    assert!(
        most > BOUND / 4 && most <= BOUND + 4 * BOUND / 8 + 4 * 101_000,
        "{most}"
    );
}

#[tokio::test]
async fn offsets_that_were_deleted_are_passed_over_or_told() {
    let broker = broker_with_orders().await;
    let mut nearest = consumer_at(&broker, Position::Offset(0)).await;
    let client = broker.client().await;
    let strict = client
        .consumer()
        .assign([("orders", 0, Position::Offset(0))])
        .on_out_of_range(OutOfRange::Fail);
    let mut strict = strict.build().await.unwrap();
    assert_eq!(next(&mut nearest).await.offset, 0);
    assert_eq!(next(&mut strict).await.offset, 0);

    for consumer in [&mut nearest, &mut strict] {
        consumer.pause("orders", 0).unwrap();
        consumer
            .seek("orders", 0, Position::Offset(0))
            .await
            .unwrap();
    }
    client.admin().delete_records("orders", 0, 4).await.unwrap();
    broker.kill_connections();
    nearest.resume("orders", 0).unwrap();
    nearest
        .seek("orders", 0, Position::Offset(0))
        .await
        .unwrap();
    assert_eq!(
        next(&mut nearest).await.offset,
        3,
        "the batch that holds the first one left"
    );

    strict.resume("orders", 0).unwrap();
    strict.seek("orders", 0, Position::Offset(0)).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, strict.next())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(told.code(), Some(ErrorCode::OffsetOutOfRange));
    strict.seek("orders", 0, Position::Latest).await.unwrap();
    broker.append("orders", 0, ["g"]);
    assert_eq!(values(&take(&mut strict, 1).await), ["g"]);
}

#[tokio::test]
async fn refusals_that_may_pass_are_overcome() {
    let broker = broker_with_orders().await;
    let passing = [ErrorCode::NotReady, ErrorCode::NotLeader, ErrorCode::Busy];
    broker.faults(|faults| {
        faults
            .refuse_fetch
            .extend(passing.map(|code| error(code, "not now")))
    });
    let mut consumer = consumer_at(&broker, Position::Earliest).await;
    assert_eq!(take(&mut consumer, 6).await.len(), 6);
    assert_eq!(
        broker
            .state()
            .count(|request| matches!(request, Request::OpenFetch(_))),
        4
    );
}

#[tokio::test]
async fn one_deleted_topic_on_a_shared_stream_spares_the_others() {
    let broker = Broker::start().await;
    broker.state().fetch_streams = 1;
    broker.create_topic("orders", 1);
    broker.create_topic("payments", 1);
    let builder = broker
        .client()
        .await
        .consumer()
        .topics(["orders", "payments"]);
    let mut consumer = builder.start(Position::Earliest).build().await.unwrap();
    broker.append("orders", 0, ["a"]);
    assert_eq!(values(&take(&mut consumer, 1).await), ["a"]);
    broker
        .client()
        .await
        .admin()
        .delete_topic("orders")
        .await
        .unwrap();
    let told = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(told.code(), Some(ErrorCode::UnknownTopic));
    broker.append("payments", 0, ["p"]);
    assert_eq!(values(&take(&mut consumer, 1).await), ["p"]);
}

#[tokio::test]
async fn a_closed_client_ends_its_consumers() {
    let broker = broker_with_orders().await;
    let client = broker.client().await;
    let mut consumer = client.consumer().topics(["orders"]).build().await.unwrap();
    client.close();
    for _ in 0..2 {
        let ended = tokio::time::timeout(PATIENCE, consumer.next())
            .await
            .unwrap();
        assert!(
            matches!(ended, Err(Error::Closed { what: "client" })),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_dropped_consumer_closes_its_streams() {
    let broker = broker_with_orders().await;
    let consumer = consumer_at(&broker, Position::Earliest).await;
    broker
        .until("the stream is open", |state| {
            (state.open_fetches.len() == 1).then_some(())
        })
        .await;
    drop(consumer);
    broker
        .until("the stream is closed", |state| {
            state.open_fetches.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn offsets_are_kept_under_a_groups_name() {
    let broker = broker_with_orders().await;
    let client = broker.client().await;
    let assigned = client
        .consumer()
        .group("billing")
        .assign([("orders", 0, Position::Earliest)]);
    let mut consumer = assigned.clone().build().await.unwrap();
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    assert_eq!(
        broker.state().groups["billing"].committed("orders", 0),
        Some(4)
    );

    let mut automatic = assigned
        .auto_commit(Duration::from_secs(3600))
        .build()
        .await
        .unwrap();
    take(&mut automatic, 5).await;
    automatic.leave().await.unwrap();
    assert_eq!(
        broker.state().groups["billing"].committed("orders", 0),
        Some(5)
    );
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let broker = broker_with_orders().await;
    let client = broker.client().await;
    let assigned = || {
        client
            .consumer()
            .assign([("orders", 0, Position::Earliest)])
    };
    let wrong = [
        client.consumer(),
        assigned().topics(["orders"]),
        assigned().buffer_bytes(0),
        assigned().auto_commit(Duration::from_secs(1)),
        assigned().group("billing").auto_commit(Duration::ZERO),
    ];
    for builder in wrong {
        assert!(matches!(
            builder.build().await,
            Err(Error::InvalidArgument(_))
        ));
    }
    let unknown = client
        .consumer()
        .assign([("orders", 7, Position::Earliest)])
        .build()
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UnknownPartition));
}

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_spares_the_others_on_its_stream() {
    let broker = Broker::start().await;
    broker.state().fetch_streams = 1;
    broker.create_topic("wide", 2);
    broker.append_raw("wide", 0, undecodable_batch());
    let builder = broker.client().await.consumer().topics(["wide"]);
    let mut consumer = builder.start(Position::Earliest).build().await.unwrap();
    let told = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            told,
            Error::Corrupt {
                partition: 0,
                offset: 0,
                ..
            }
        ),
        "{told:?}"
    );
    for number in 0..3 {
        broker.append("wide", 0, ["behind"]);
        broker.append("wide", 1, [format!("{number}")]);
        assert_eq!(values(&take(&mut consumer, 1).await), [format!("{number}")]);
    }
}

/// A batch that says it is compressed and is not, its checksum right.
fn undecodable_batch() -> Bytes {
    let mut bytes = BytesMut::from(batch(["not zstd at all"]));
    bytes[22] |= 4;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

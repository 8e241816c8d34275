//! Topics, their settings, and where records go in them and come out again.

use std::time::Duration;

use millstream::{
    Admin, Cleanup, Client, Compression, Durability, ErrorCode, Header, PartitionIndex,
    Partitioner, Position, ProduceRecord, Producer, TopicConfig, TopicDescription,
};
use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::patience::{until, within};

const TOPIC: &str = "orders";

/// Small segments, and a record that has one of its own.
const SEGMENT_BYTES: u32 = 128 << 10;
const LARGE_RECORD_BYTES: usize = 100_000;

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.client().await;
    let admin = client.admin();
    (broker, client, admin)
}

async fn store(producer: &Producer, record: ProduceRecord<'_>) -> (PartitionIndex, u64) {
    let stored = within(
        "an acknowledgement",
        producer.send(record).await.expect("a record taken"),
    );
    let stored = stored.await.expect("a stored record");
    (stored.partition, stored.offset)
}

fn code<T: std::fmt::Debug>(outcome: millstream::Result<T>) -> Option<ErrorCode> {
    outcome.expect_err("a refusal").code()
}

#[tokio::test]
async fn a_topic_is_made_shown_changed_and_deleted() {
    let (_broker, _client, admin) = start().await;
    let made = admin
        .create_topic(TOPIC)
        .partitions(2)
        .durability(Durability::Relaxed)
        .retention(Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(made.partitions.len(), 2);
    assert_eq!(made.config.durability, Durability::Relaxed);
    assert_eq!(
        admin.list_topics().await.unwrap(),
        std::slice::from_ref(&made)
    );
    assert_eq!(admin.describe_topic(TOPIC).await.unwrap(), made);
    assert_eq!(
        code(admin.create_topic(TOPIC).await),
        Some(ErrorCode::TopicExists)
    );
    for name in ["", "a b", "a/b", "__mine", &"x".repeat(250)] {
        let refused = code(admin.create_topic(name).await);
        assert_eq!(refused, Some(ErrorCode::InvalidRequest), "{name:?}");
    }
    assert_eq!(
        code(admin.create_topic("x").partitions(0).await),
        Some(ErrorCode::InvalidRequest)
    );

    let altered = admin
        .alter_topic(TOPIC)
        .partitions(5)
        .durability(Durability::Sync)
        .retention(None)
        .retention_bytes(1 << 20)
        .max_batch_bytes(64 << 10)
        .await
        .unwrap();
    assert_eq!(
        (altered.topic_id, altered.partitions.len()),
        (made.topic_id, 5)
    );
    let config = &altered.config;
    assert_eq!(config.durability, Durability::Sync);
    assert_eq!(
        (config.retention_ms, config.retention_bytes),
        (None, Some(1 << 20))
    );
    assert_eq!(config.max_batch_bytes, 64 << 10);
    let fewer = admin.alter_topic(TOPIC).partitions(4).await;
    assert_eq!(code(fewer), Some(ErrorCode::InvalidRequest));

    admin.delete_topic(TOPIC).await.unwrap();
    assert!(admin.list_topics().await.unwrap().is_empty());
    assert_eq!(
        code(admin.describe_topic(TOPIC).await),
        Some(ErrorCode::UnknownTopic)
    );
    assert_eq!(
        code(admin.delete_topic(TOPIC).await),
        Some(ErrorCode::UnknownTopic)
    );
    assert_eq!(
        code(admin.alter_topic(TOPIC).partitions(9).await),
        Some(ErrorCode::UnknownTopic)
    );
}

#[tokio::test]
async fn topics_and_their_settings_survive_a_kill() {
    let (mut broker, _client, admin) = start().await;
    let mut made = admin
        .create_topic(TOPIC)
        .partitions(3)
        .cleanup(Cleanup::Compact)
        .await
        .unwrap();
    admin.create_topic("gone").await.unwrap();
    admin.delete_topic("gone").await.unwrap();
    broker.kill();
    broker.restart();
    let listed = broker.client().await.admin().list_topics().await.unwrap();
    let epochs = |topic: &TopicDescription| -> Vec<u32> {
        topic
            .partitions
            .iter()
            .map(|partition| partition.leader_epoch)
            .collect()
    };
    assert_eq!(listed.len(), 1);
    // A start is a new leadership, and nothing else has changed.
    assert!(
        epochs(&listed[0])
            .iter()
            .zip(epochs(&made))
            .all(|(now, before)| *now > before)
    );
    for (partition, now) in made.partitions.iter_mut().zip(&listed[0].partitions) {
        partition.leader_epoch = now.leader_epoch;
    }
    assert_eq!(listed, [made]);
}

#[tokio::test]
async fn new_partitions_are_used_by_producers_and_groups_that_are_there_already() {
    let (_broker, client, admin) = start().await;
    admin.create_topic(TOPIC).partitions(1).await.unwrap();
    let producer = client
        .producer(TOPIC)
        .topic_refresh(Duration::from_millis(50))
        .build()
        .await
        .unwrap();
    let builder = client
        .consumer()
        .group("g")
        .topics([TOPIC])
        .start(Position::Earliest);
    let mut consumer = builder.build().await.unwrap();
    admin.alter_topic(TOPIC).partitions(2).await.unwrap();
    until("a producer that knows both partitions", async || {
        (producer.partitions() == 2).then_some(())
    })
    .await;
    assert_eq!(
        store(&producer, ProduceRecord::new("new").partition(1)).await,
        (1, 0)
    );
    let record = within("a record", consumer.next()).await.unwrap();
    assert_eq!((record.partition, record.offset), (1, 0));
}

#[tokio::test]
async fn a_topic_of_the_same_name_is_another_topic() {
    let (_broker, client, admin) = start().await;
    let first = admin.create_topic(TOPIC).await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    assert_eq!(store(&producer, ProduceRecord::new("old")).await, (0, 0));
    let group = || {
        client
            .consumer()
            .group("g")
            .topics([TOPIC])
            .start(Position::Earliest)
    };
    let mut consumer = group().manual_commit().build().await.unwrap();
    within("a record", consumer.next()).await.unwrap();
    consumer.commit().await.unwrap();
    within("leaving", consumer.leave()).await.unwrap();

    admin.delete_topic(TOPIC).await.unwrap();
    let second = admin.create_topic(TOPIC).await.unwrap();
    assert_ne!(first.topic_id, second.topic_id);
    assert_eq!(
        second.partitions[0].known_log().unwrap().high_watermark,
        0,
        "it has the old one's records"
    );

    // Who knows the old one does not write into the new one.
    let late = producer.send(ProduceRecord::new("late")).await.unwrap();
    assert_eq!(
        code(within("a refusal", late).await),
        Some(ErrorCode::UnknownTopic)
    );
    assert_eq!(
        admin.describe_topic(TOPIC).await.unwrap().partitions[0]
            .known_log()
            .unwrap()
            .high_watermark,
        0
    );

    // The group's offset was the old one's: of the new one it reads everything.
    let producer = client.producer(TOPIC).build().await.unwrap();
    assert_eq!(store(&producer, ProduceRecord::new("new")).await, (0, 0));
    let record = within("a record", group().build().await.unwrap().next())
        .await
        .unwrap();
    assert_eq!(record.value.as_deref(), Some(&b"new"[..]));
}

/// Stores records that fill a segment each.
async fn fill(client: &Client, topic: &str, keys: &[&str], timestamp_ms: Option<i64>) {
    let producer = client.producer(topic).build().await.expect("a producer");
    let filler = vec![b'x'; LARGE_RECORD_BYTES];
    for key in keys {
        let mut record = ProduceRecord::new(&filler).key(*key);
        if let Some(timestamp_ms) = timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        store(&producer, record).await;
    }
}

#[tokio::test]
async fn old_surplus_and_superseded_records_go() {
    let (mut broker, client, admin) = start().await;
    let topics = [
        ("by-size", Cleanup::Delete),
        ("by-time", Cleanup::Delete),
        ("compacted", Cleanup::Compact),
    ];
    for (topic, cleanup) in topics {
        let config = TopicConfig {
            cleanup,
            retention_ms: None,
            segment_bytes: SEGMENT_BYTES.into(),
            max_batch_bytes: SEGMENT_BYTES,
            ..TopicConfig::default()
        };
        admin.create_topic(topic).config(config).await.unwrap();
    }
    let keys = ["a", "b", "a", "b", "c"];
    fill(&client, "by-size", &keys, None).await;
    fill(&client, "by-time", &keys, Some(1_600_000_000_000)).await;
    fill(&client, "compacted", &keys, None).await;
    admin
        .alter_topic("by-size")
        .retention_bytes(LARGE_RECORD_BYTES as u64 * 5 / 2)
        .await
        .unwrap();
    admin
        .alter_topic("by-time")
        .retention(Duration::from_secs(60))
        .await
        .unwrap();

    until("retention and compaction", async || {
        let described = admin
            .describe_topics(["by-size", "by-time", "compacted"])
            .await
            .unwrap();
        let [by_size, by_time, compacted] =
            [0, 1, 2].map(|topic| described[topic].partitions[0].known_log().unwrap().clone());
        let done = by_size.log_start_offset > 0
            && by_time.log_start_offset == 5
            && compacted.size_bytes < LARGE_RECORD_BYTES as u64 * 4;
        done.then_some(())
    })
    .await;
    assert!(
        !History::read(&client, "by-size").await.is_empty(),
        "retention by size left nothing"
    );
    assert!(History::read(&client, "by-time").await.is_empty());

    // A new process has nothing of what went in its memory.
    broker.kill();
    broker.restart();
    let client = broker.client().await;
    let builder = client
        .consumer()
        .topics(["compacted"])
        .start(Position::Earliest);
    let mut consumer = builder.build().await.unwrap();
    let mut latest = Vec::new();
    while consumer.position("compacted", 0) != Some(5) {
        let record = within("a record", consumer.next()).await.unwrap();
        latest.push((record.offset, record.key.expect("a key")));
    }
    assert_eq!(
        latest,
        [(2, "a"), (3, "b"), (4, "c")].map(|(offset, key)| (offset, key.into()))
    );
}

#[tokio::test]
async fn deleted_records_are_gone_and_stay_gone() {
    let (mut broker, client, admin) = start().await;
    admin.create_topic(TOPIC).await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    for number in 0..10 {
        store(&producer, ProduceRecord::new(number.to_string())).await;
    }
    assert_eq!(admin.delete_records(TOPIC, 0, 4).await.unwrap(), 4);
    assert_eq!(
        code(admin.delete_records(TOPIC, 0, 11).await),
        Some(ErrorCode::OffsetOutOfRange)
    );
    assert_eq!(
        code(admin.delete_records(TOPIC, 7, 1).await),
        Some(ErrorCode::UnknownPartition)
    );
    broker.kill();
    broker.restart();
    let client = broker.client().await;
    let left = History::read(&client, TOPIC).await;
    let offsets: Vec<u64> = left.records().map(|record| record.offset).collect();
    assert_eq!(offsets, [4, 5, 6, 7, 8, 9]);
    let earliest = client
        .admin()
        .offset(TOPIC, 0, Position::Earliest)
        .await
        .unwrap();
    assert_eq!(
        (
            earliest.offset,
            earliest.log_start_offset,
            earliest.high_watermark
        ),
        (4, 4, 10)
    );
    let deleted = client.admin().offset(TOPIC, 0, Position::Offset(3)).await;
    assert_eq!(code(deleted), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn keys_land_where_kafkas_clients_put_them() {
    // From org.apache.kafka.common.utils.UtilsTest.
    let murmur2: [(&[u8], i32); 7] = [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        (b"abc", 479_470_107),
        (b"", 275_646_681),
    ];
    let (_broker, client, admin) = start().await;
    admin.create_topic(TOPIC).partitions(7).await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    for (key, hash) in murmur2 {
        let expected = (hash & 0x7fff_ffff) as u32 % 7;
        let (partition, _) = store(&producer, ProduceRecord::new("v").key(key)).await;
        assert_eq!(partition, expected, "{}", String::from_utf8_lossy(key));
    }
}

#[tokio::test]
async fn key_ranges_turns_and_named_partitions() {
    let (_broker, client, admin) = start().await;
    admin.create_topic(TOPIC).partitions(2).await.unwrap();
    let ranges = Partitioner::key_ranges(["N"]).unwrap();
    let producer = client
        .producer(TOPIC)
        .partitioner(ranges)
        .build()
        .await
        .unwrap();
    for (key, expected) in [
        ("Abel", 0),
        ("M", 0),
        ("Mzzz", 0),
        ("N", 1),
        ("Nora", 1),
        ("Zoe", 1),
    ] {
        let (partition, _) = store(&producer, ProduceRecord::new("v").key(key)).await;
        assert_eq!(partition, expected, "{key}");
        let (partition, _) = store(&producer, ProduceRecord::new("v").key(key).partition(1)).await;
        assert_eq!(partition, 1, "{key}");
    }
    let turns = client
        .producer(TOPIC)
        .partitioner(Partitioner::round_robin())
        .build()
        .await
        .unwrap();
    let mut partitions = Vec::new();
    for _ in 0..4 {
        // A batch of its own each time: the one before is acknowledged.
        turns.flush().await.unwrap();
        partitions.push(store(&turns, ProduceRecord::new("v").key("k")).await.0);
    }
    assert!(
        partitions.contains(&0) && partitions.contains(&1),
        "{partitions:?}"
    );
    let unknown = producer.send(ProduceRecord::new("v").partition(2)).await;
    assert!(unknown.unwrap_err().to_string().contains("no partition 2"));
}

#[tokio::test]
async fn records_come_out_as_they_went_in_whatever_the_codec() {
    let (_broker, client, admin) = start().await;
    let header = |name: &'static str, value: Option<&'static [u8]>| Header {
        name: name.into(),
        value: value.map(Into::into),
    };
    let headers = || {
        [
            header("trace", Some(b"4bf9")),
            header("trace", None),
            header("", Some(b"\xff")),
        ]
    };
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let topic = codec.to_string();
        admin.create_topic(&topic).await.unwrap();
        let producer = client
            .producer(&topic)
            .compression(codec)
            .build()
            .await
            .unwrap();
        let large = vec![7; 100_000];
        let records = || {
            [
                ProduceRecord::new("plain"),
                ProduceRecord::new(b"\x00\xff")
                    .key(b"\xfe\x00")
                    .headers(headers())
                    .timestamp_ms(-1),
                ProduceRecord::new("").key(""),
                ProduceRecord::tombstone("k").timestamp_ms(1_700_000_000_000),
                ProduceRecord::new(&large),
            ]
        };
        for (offset, record) in records().into_iter().enumerate() {
            assert_eq!(
                store(&producer, record).await,
                (0, offset as u64),
                "{codec}"
            );
        }
        let history = History::read(&client, &topic).await;
        assert_eq!(history.len(), 5, "{codec}");
        for (sent, got) in records().iter().zip(history.records()) {
            assert_eq!(sent.key_bytes(), got.key.as_deref(), "{codec}");
            assert_eq!(sent.value(), got.value.as_deref(), "{codec}");
        }
        let got: Vec<_> = history.records().collect();
        assert_eq!(
            (got[1].timestamp_ms, got[1].headers.as_slice()),
            (-1, &headers()[..]),
            "{codec}"
        );
        assert_eq!(got[3].timestamp_ms, 1_700_000_000_000, "{codec}");
    }
    for codec in [Compression::Gzip, Compression::Snappy] {
        let refused = client.producer("none").compression(codec).build().await;
        assert!(
            refused.unwrap_err().to_string().contains("only read"),
            "{codec}"
        );
    }
}

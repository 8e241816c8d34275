//! Topics, made.

use millstream_metadata::partition::FIRST_LEADER_EPOCH;
use millstream_metadata::{Actor, Command};
use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
use millstream_protocol::{ErrorCode, TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, create, topic};

const ID: TopicId = TopicId(Uuid::from_u128(0xFFFF));

#[test]
fn a_topic_is_found_by_name_and_by_identity() {
    let mut cluster = Cluster::with_brokers(1);
    let config = TopicConfig {
        retention_ms: None,
        ..TopicConfig::default()
    };
    cluster.run(create(
        ID,
        CreateTopic {
            config: config.clone(),
            ..topic("orders", 3)
        },
    ));
    let topic = cluster.image.topic("orders").unwrap();
    assert_eq!(
        (topic.topic_id, &topic.config, topic.partitions.len()),
        (ID, &config, 3)
    );
    assert_eq!(cluster.image.topic_by_id(ID), Some(topic));
    let partition = |partition| TopicPartition {
        topic_id: ID,
        partition,
    };
    assert_eq!(
        cluster.image.partition(partition(2)).unwrap().leader_epoch,
        FIRST_LEADER_EPOCH
    );
    assert_eq!(cluster.image.partition(partition(3)), None);
}

#[test]
fn names_are_checked() {
    let mut cluster = Cluster::with_brokers(1);
    let long = "x".repeat(250);
    for (name, says) in [
        ("", "the topic's name is empty"),
        (".", "a topic cannot be named \".\""),
        ("..", "a topic cannot be named \"..\""),
        (
            "a/b",
            "the topic's name \"a/b\" has '/' in it: letters, digits, '.', '_' and '-' may be",
        ),
        (
            "naïve",
            "the topic's name \"naïve\" has 'ï' in it: letters, digits, '.', '_' and '-' may be",
        ),
        (
            "a b",
            "the topic's name \"a b\" has ' ' in it: letters, digits, '.', '_' and '-' may be",
        ),
        (&long, "the topic's name has 250 bytes, more than 249"),
        (
            "__offsets",
            "topic __offsets is the broker's own: names that begin with __ are reserved",
        ),
    ] {
        cluster.refused(create(ID, topic(name, 1)), ErrorCode::InvalidRequest, says);
    }
    for name in ["a", "_a", "...", "A-b_c.9", &long[1..]] {
        cluster.create(name, 1);
    }
}

#[test]
fn the_broker_may_use_its_own_names() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(Command::CreateTopic {
        topic_id: ID,
        topic: topic("__offsets", 1),
        actor: Actor::Broker,
    });
    assert!(cluster.image.topic("__offsets").is_some());
}

#[test]
fn names_and_identities_are_unique() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(create(ID, topic("orders", 1)));
    let other = TopicId(Uuid::from_u128(0xFFFE));
    let again = create(other, topic("orders", 1));
    cluster.refused(
        again,
        ErrorCode::TopicExists,
        "a topic is named orders already",
    );
    let says = format!("a topic has the identity {ID} already");
    cluster.refused(
        create(ID, topic("other", 1)),
        ErrorCode::InvalidRequest,
        &says,
    );
}

#[test]
fn partitions_and_topics_are_bounded() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.refused(
        create(ID, topic("a", 0)),
        ErrorCode::InvalidRequest,
        "partitions is 0, and must be from 1 to 10000",
    );
    cluster.refused(
        create(ID, topic("a", 10_001)),
        ErrorCode::InvalidRequest,
        "partitions is 10001, and must be from 1 to 10000",
    );
    cluster.limits.partitions = 10_000;
    cluster.create("a", 9_999);
    let two = create(ID, topic("b", 2));
    cluster.refused(
        two,
        ErrorCode::InvalidRequest,
        "more than 10000 partitions in the cluster",
    );
    cluster.create("b", 1);
    cluster.limits.topics = 2;
    cluster.refused(
        create(ID, topic("c", 1)),
        ErrorCode::InvalidRequest,
        "more than 2 topics",
    );
}

#[test]
fn settings_are_checked() {
    let cluster = Cluster::with_brokers(1);
    let config = TopicConfig::default;
    for (config, says) in [
        (
            TopicConfig {
                segment_bytes: 65_535,
                ..config()
            },
            "segment_bytes is 65535, and must be from 65536 to 2147483648",
        ),
        (
            TopicConfig {
                segment_bytes: (2 << 30) + 1,
                ..config()
            },
            "segment_bytes is 2147483649, and must be from 65536 to 2147483648",
        ),
        (
            TopicConfig {
                segment_bytes: 65_536,
                ..config()
            },
            "max_batch_bytes is 8388608, more than segment_bytes, which is 65536",
        ),
        (
            TopicConfig {
                max_batch_bytes: 1_023,
                ..config()
            },
            "max_batch_bytes is 1023, and must be from 1024 to 8388608",
        ),
        (
            TopicConfig {
                max_batch_bytes: (8 << 20) + 1,
                ..config()
            },
            "max_batch_bytes is 8388609, and must be from 1024 to 8388608",
        ),
        (
            TopicConfig {
                segment_ms: 999,
                ..config()
            },
            "segment_ms is 999, and must be from 1000 to 4611686018427387903",
        ),
        (
            TopicConfig {
                retention_ms: Some(0),
                ..config()
            },
            "retention_ms is 0, and must be from 1 to 4611686018427387903",
        ),
        (
            TopicConfig {
                retention_bytes: Some(0),
                ..config()
            },
            "retention_bytes is 0, and must be from 1 to 18446744073709551615",
        ),
        (
            TopicConfig {
                tombstone_retention_ms: u64::MAX,
                ..config()
            },
            "tombstone_retention_ms is 18446744073709551615, and must be from 0 to 4611686018427387903",
        ),
        (
            TopicConfig {
                replication_factor: 0,
                ..config()
            },
            "replication_factor is 0, and must be 1, 2, 3 or 5 (4 survive no more failures than 3)",
        ),
        (
            TopicConfig {
                replication_factor: 4,
                ..config()
            },
            "replication_factor is 4, and must be 1, 2, 3 or 5 (4 survive no more failures than 3)",
        ),
    ] {
        let create = create(
            ID,
            CreateTopic {
                config,
                ..topic("a", 1)
            },
        );
        cluster.refused(create, ErrorCode::InvalidRequest, says);
    }
}

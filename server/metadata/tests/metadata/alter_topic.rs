//! Topics, changed.

use millstream_metadata::{Actor, Command};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::topic::{AlterTopic, Cleanup, Durability, TopicConfig};

use super::cluster::{Cluster, topic};

fn alter(change: AlterTopic) -> Command {
    Command::AlterTopic {
        change: AlterTopic {
            name: "orders".into(),
            ..change
        },
        actor: Actor::User,
    }
}

#[test]
fn what_is_named_changes_and_the_rest_stays() {
    let mut cluster = Cluster::with_topics(&["orders"]);
    cluster.run(alter(AlterTopic {
        retention_ms: Some(None),
        ..AlterTopic::default()
    }));
    let expected = TopicConfig {
        retention_ms: None,
        ..TopicConfig::default()
    };
    assert_eq!(cluster.image.topic("orders").unwrap().config, expected);

    cluster.run(alter(AlterTopic {
        durability: Some(Durability::Relaxed),
        cleanup: Some(Cleanup::Compact),
        retention_bytes: Some(Some(1 << 30)),
        segment_bytes: Some(1 << 20),
        segment_ms: Some(60_000),
        max_batch_bytes: Some(1 << 16),
        tombstone_retention_ms: Some(5),
        ..AlterTopic::default()
    }));
    let expected = TopicConfig {
        durability: Durability::Relaxed,
        cleanup: Cleanup::Compact,
        retention_ms: None,
        retention_bytes: Some(1 << 30),
        segment_bytes: 1 << 20,
        segment_ms: 60_000,
        max_batch_bytes: 1 << 16,
        tombstone_retention_ms: 5,
        replication_factor: 1,
    };
    let topic = cluster.image.topic("orders").unwrap();
    assert_eq!((&topic.config, topic.partitions.len()), (&expected, 3));
}

#[test]
fn partitions_are_added_behind_those_there_are() {
    let mut cluster = Cluster::with_topics(&["orders"]);
    let before = cluster.image.topic("orders").unwrap().clone();
    cluster.join(super::cluster::registration(2));
    cluster.run(alter(AlterTopic {
        partitions: Some(5),
        ..AlterTopic::default()
    }));
    let after = cluster.image.topic("orders").unwrap();
    assert_eq!(after.partitions[..3], before.partitions);
    assert_eq!(
        after.partitions[3..]
            .iter()
            .map(|partition| partition.leader)
            .collect::<Vec<_>>(),
        [2, 2]
    );
    assert_eq!(after.topic_id, before.topic_id);
}

#[test]
fn what_is_so_already_is_granted() {
    let cluster = Cluster::with_topics(&["orders"]);
    cluster.nothing(alter(AlterTopic::default()));
    let retention_ms = Some(TopicConfig::default().retention_ms);
    cluster.nothing(alter(AlterTopic {
        partitions: Some(3),
        retention_ms,
        ..AlterTopic::default()
    }));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_topics(&["orders"]);
    cluster.refused(
        alter(AlterTopic {
            partitions: Some(2),
            ..AlterTopic::default()
        }),
        ErrorCode::InvalidRequest,
        "topic orders has 3 partitions, and cannot have fewer (2)",
    );
    cluster.refused(
        alter(AlterTopic {
            partitions: Some(u32::MAX),
            ..AlterTopic::default()
        }),
        ErrorCode::InvalidRequest,
        "partitions is 4294967295, and must be from 1 to 10000",
    );
    cluster.refused(
        alter(AlterTopic {
            segment_bytes: Some(1 << 20),
            ..AlterTopic::default()
        }),
        ErrorCode::InvalidRequest,
        "max_batch_bytes is 8388608, more than segment_bytes, which is 1048576",
    );
    let unknown = AlterTopic {
        name: "nothing".into(),
        ..AlterTopic::default()
    };
    cluster.refused(
        Command::AlterTopic {
            change: unknown,
            actor: Actor::User,
        },
        ErrorCode::UnknownTopic,
        "no topic is named nothing",
    );
    cluster.limits.partitions = 3;
    cluster.refused(
        alter(AlterTopic {
            partitions: Some(4),
            ..AlterTopic::default()
        }),
        ErrorCode::InvalidRequest,
        "more than 3 partitions in the cluster",
    );
}

#[test]
fn the_brokers_own_topics_are_not_a_users() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = millstream_protocol::TopicId(cluster.next_id());
    cluster.run(Command::CreateTopic {
        topic_id,
        topic: topic("__offsets", 1),
        actor: Actor::Broker,
    });
    let change = AlterTopic {
        name: "__offsets".into(),
        partitions: Some(2),
        ..AlterTopic::default()
    };
    cluster.refused(
        Command::AlterTopic {
            change: change.clone(),
            actor: Actor::User,
        },
        ErrorCode::InvalidRequest,
        "topic __offsets is the broker's own: names that begin with __ are reserved",
    );
    cluster.run(Command::AlterTopic {
        change,
        actor: Actor::Broker,
    });
}

//! The cluster's making; registration and fencing.

use millstream_metadata::{BrokerState, Command, FEATURE_LEVEL, Image};
use millstream_protocol::ErrorCode;
use uuid::Uuid;

use super::cluster::{Cluster, register, topic};

#[test]
fn nothing_is_done_before_the_cluster_is_formed_and_it_is_formed_once() {
    let mut cluster = Cluster::default();
    cluster.refused(
        register(1),
        ErrorCode::NotReady,
        "the cluster is not formed yet",
    );
    assert_eq!(
        (cluster.image.cluster_id(), cluster.image.feature_level()),
        (None, 0)
    );
    let cluster_id = Uuid::from_u128(9);
    cluster.run(Command::FormCluster { cluster_id });
    assert_eq!(cluster.image.cluster_id(), Some(cluster_id));
    assert_eq!(cluster.image.feature_level(), FEATURE_LEVEL);
    cluster.refused(
        Command::FormCluster {
            cluster_id: Uuid::from_u128(10),
        },
        ErrorCode::InvalidRequest,
        "the cluster was formed before, as 00000000-0000-0000-0000-000000000009",
    );
}

#[test]
fn a_broker_registers_again_with_what_has_changed() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.nothing(register(1));
    let directory_id = Uuid::from_u128(77);
    cluster.run(Command::RegisterBroker {
        broker_id: 1,
        directory_id,
        address: "moved:1".into(),
    });
    let broker = cluster.image.broker(1).unwrap();
    assert_eq!(
        (broker.directory_id, broker.address.as_str()),
        (directory_id, "moved:1")
    );
    assert_eq!(cluster.image.brokers().count(), 2);
}

#[test]
fn a_fenced_broker_takes_no_partitions_until_it_registers() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.run(Command::FenceBroker { broker_id: 1 });
    assert_eq!(cluster.image.broker(1).unwrap().state, BrokerState::Fenced);
    cluster.nothing(Command::FenceBroker { broker_id: 1 });
    cluster.create("a", 2);
    assert_eq!(leaders(&cluster.image, "a"), [2, 2]);
    cluster.run(register(1));
    cluster.create("b", 3);
    assert_eq!(leaders(&cluster.image, "b"), [1, 1, 1]);
}

#[test]
fn new_partitions_go_to_the_broker_that_leads_the_fewest() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("a", 4);
    assert_eq!(leaders(&cluster.image, "a"), [1, 2, 3, 1]);
    cluster.create("b", 4);
    assert_eq!(leaders(&cluster.image, "b"), [2, 3, 1, 2]);
}

#[test]
fn without_a_broker_there_is_no_place() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(Command::FenceBroker { broker_id: 1 });
    let id = millstream_protocol::TopicId(cluster.next_id());
    let create = super::cluster::create(id, topic("a", 1));
    cluster.refused(
        create,
        ErrorCode::NotReady,
        "no broker is there to take a partition",
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_brokers(1);
    let at = |address: &str| Command::RegisterBroker {
        broker_id: 7,
        directory_id: Uuid::nil(),
        address: address.into(),
    };
    for address in ["", "a\nb", &"x".repeat(256)] {
        let says = "the address of broker 7 is empty, too long or has control characters";
        cluster.refused(at(address), ErrorCode::InvalidRequest, says);
    }
    let fence = Command::FenceBroker { broker_id: 7 };
    cluster.refused(fence, ErrorCode::InvalidRequest, "there is no broker 7");
    cluster.limits.brokers = 1;
    cluster.refused(at("b:1"), ErrorCode::InvalidRequest, "more than 1 brokers");
    cluster.run(Command::RegisterBroker {
        broker_id: 1,
        directory_id: Uuid::nil(),
        address: "b:1".into(),
    });
}

fn leaders(image: &Image, topic: &str) -> Vec<u32> {
    let partitions = &image.topic(topic).unwrap().partitions;
    assert!(
        partitions
            .iter()
            .all(|partition| partition.replicas == [partition.leader])
    );
    partitions
        .iter()
        .map(|partition| partition.leader)
        .collect()
}

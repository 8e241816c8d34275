//! The cluster's making; brokers that come, go and are emptied.

use millstream_metadata::{BrokerState, Command, FEATURE_LEVEL, Image, Registration, Start};
use millstream_protocol::ErrorCode;
use uuid::Uuid;

use super::cluster::{Cluster, at, fence, reassign, register, registration, start, topic};

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
fn a_fenced_broker_takes_no_partitions_until_it_registers() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.fence(1);
    assert_eq!(cluster.image.broker(1).unwrap().state, BrokerState::Fenced);
    cluster.nothing(fence(&cluster.image, 1));
    cluster.create("a", 2);
    assert_eq!(leaders(&cluster.image, "a"), [2, 2]);
    cluster.run(register(1));
    cluster.create("b", 3);
    assert_eq!(leaders(&cluster.image, "b"), [1, 1, 1]);
}

#[test]
fn a_start_that_is_over_is_not_fenced_in_the_next_one() {
    let mut cluster = Cluster::with_brokers(1);
    let first = fence(&cluster.image, 1);
    let registration = Registration {
        incarnation: 2,
        ..registration(1)
    };
    cluster.run(Command::RegisterBroker { registration });
    cluster.nothing(first);
    let other_directory = Start {
        directory_id: Uuid::max(),
        ..start(1, 2)
    };
    cluster.nothing(Command::FenceBroker {
        broker_id: 1,
        start: other_directory,
    });
    cluster.run(Command::FenceBroker {
        broker_id: 1,
        start: start(1, 2),
    });
}

#[test]
fn a_draining_broker_takes_no_partitions_and_stays_so_when_it_was_away() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.run(Command::DrainBroker { broker_id: 1 });
    cluster.nothing(Command::DrainBroker { broker_id: 1 });
    let state = |cluster: &Cluster| cluster.image.broker(1).unwrap().state;
    assert_eq!(state(&cluster), BrokerState::Draining);
    assert!(state(&cluster).is_live() && !state(&cluster).takes_new());
    cluster.create("a", 2);
    assert_eq!(leaders(&cluster.image, "a"), [2, 2]);
    cluster.fence(1);
    assert_eq!(state(&cluster), BrokerState::FencedDraining);
    assert!(!state(&cluster).is_live() && state(&cluster).is_draining());
    cluster.run(register(1));
    assert_eq!(state(&cluster), BrokerState::Draining);
    cluster.run(Command::UndrainBroker { broker_id: 1 });
    assert_eq!(state(&cluster), BrokerState::Live);
    cluster.nothing(Command::UndrainBroker { broker_id: 1 });
    cluster.create("b", 1);
    assert_eq!(leaders(&cluster.image, "b"), [1]);
}

#[test]
fn a_broker_is_removed_when_it_keeps_nothing() {
    let mut cluster = Cluster::with_brokers(2);
    let partition = at(cluster.create("a", 1), 0);
    let remove = |broker_id| Command::RemoveBroker { broker_id };
    let says = |broker_id| {
        format!("broker {broker_id} has 1 replicas: drain it, and remove it when it has none")
    };
    cluster.refused(remove(1), ErrorCode::InvalidRequest, &says(1));
    cluster.run(reassign(partition, &[2]));
    // It has its replica until the new one has everything, and the new one is to come.
    cluster.refused(remove(1), ErrorCode::InvalidRequest, &says(1));
    cluster.refused(remove(2), ErrorCode::InvalidRequest, &says(2));
    cluster.run(Command::FinaliseReassignment {
        partition,
        epoch: 1,
        version: 2,
    });
    cluster.run(remove(1));
    assert_eq!(cluster.image.broker(1), None);
    cluster.refused(remove(1), ErrorCode::InvalidRequest, "there is no broker 1");
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
    cluster.fence(1);
    let id = millstream_protocol::TopicId(cluster.next_id());
    let create = super::cluster::create(id, topic("a", 1));
    cluster.refused(
        create,
        ErrorCode::NotReady,
        "a partition with replication factor 1 has no place: 0 of 1 brokers take replicas now; start more, \
         or ask for fewer replicas",
    );
}

#[test]
fn who_is_not_known_is_not_changed() {
    let cluster = Cluster::with_brokers(1);
    let broker_id = 7;
    for command in [
        fence(&cluster.image, broker_id),
        Command::DrainBroker { broker_id },
        Command::UndrainBroker { broker_id },
        Command::RemoveBroker { broker_id },
    ] {
        cluster.refused(command, ErrorCode::InvalidRequest, "there is no broker 7");
    }
}

fn leaders(image: &Image, topic: &str) -> Vec<u32> {
    let partitions = &image.topic(topic).unwrap().partitions;
    assert!(
        partitions
            .iter()
            .all(|partition| partition.brokers() == [partition.leader])
    );
    partitions
        .iter()
        .map(|partition| partition.leader)
        .collect()
}

//! Losses that an operator accepts.

use millstream_metadata::partition::AcceptedLoss;
use millstream_metadata::{Command, Partition, Record, Registration, Replica};
use millstream_protocol::{ErrorCode, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, at, reassign, registration};

pub(crate) fn accept(partition: TopicPartition, broker_id: u32) -> Command {
    Command::AcceptLoss {
        partition,
        broker_id,
        by: "operator".into(),
        at_ms: 77,
    }
}

fn nothing_lost(partition: TopicPartition) -> String {
    format!(
        "{partition} needs to lose nothing: a majority of its replicas is there and whole; wait for a leader"
    )
}

#[test]
fn a_partition_goes_on_with_one_replica_and_it_is_kept_who_said_so() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    cluster.fence(1);
    let says = nothing_lost(partition);
    cluster.refused(accept(partition, 3), ErrorCode::InvalidRequest, &says);
    cluster.fence(2);
    let directory = cluster.partition(partition).member(3).unwrap().directory;
    let record = cluster.run(accept(partition, 3));
    let Record::LossAccepted { by, at_ms, .. } = &record else {
        panic!("{record:?}")
    };
    assert_eq!((by.as_str(), *at_ms), ("operator", 77));
    let expected = Partition {
        leader: 3,
        leader_directory: directory,
        leader_epoch: 2,
        version: 2,
        replicas: vec![Replica::new(3, directory)],
        next: Vec::new(),
        accepted_loss: Some(AcceptedLoss {
            by: "operator".into(),
            at_ms: 77,
            leader_epoch: 2,
        }),
    };
    assert_eq!(cluster.partition(partition), &expected);
}

#[test]
fn what_is_alone_and_was_wiped_is_trusted_again() {
    let mut cluster = Cluster::with_brokers(1);
    let partition = at(cluster.create("orders", 1), 0);
    let says = nothing_lost(partition);
    cluster.refused(accept(partition, 1), ErrorCode::InvalidRequest, &says);
    cluster.fence(1);
    cluster.run(Command::RegisterBroker {
        registration: Registration {
            directory_id: Uuid::from_u128(0xD15C),
            ..registration(1)
        },
    });
    assert!(!cluster.partition(partition).replicas[0].trusted);
    cluster.run(accept(partition, 1));
    let now = cluster.partition(partition);
    assert!(now.replicas[0].trusted && now.leader_is_as_appointed());
}

#[test]
fn those_that_are_there_but_were_wiped_are_no_majority() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    for broker_id in [1, 2] {
        let partitions = vec![partition];
        cluster.run(Command::RegisterReplicas {
            broker_id,
            partitions,
        });
    }
    cluster.run(accept(partition, 3));
    assert_eq!(cluster.partition(partition).brokers(), [3]);
}

#[test]
fn while_the_set_changes_either_may_be_lost() {
    let mut cluster = Cluster::with_brokers(4);
    let partition = at(cluster.create("orders", 1), 0);
    cluster.run(reassign(partition, &[2, 3, 4]));
    let says = nothing_lost(partition);
    cluster.refused(accept(partition, 1), ErrorCode::InvalidRequest, &says);
    cluster.fence(3);
    cluster.refused(accept(partition, 1), ErrorCode::InvalidRequest, &says);
    cluster.fence(4);
    cluster.run(accept(partition, 2));
    let now = cluster.partition(partition);
    assert_eq!((now.brokers(), now.is_changing()), (vec![2], false));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 2), 0);
    cluster.fence(2);
    let says = "broker 2 is gone: start it, or go on with a replica on a live broker";
    cluster.refused(accept(partition, 2), ErrorCode::InvalidRequest, says);
    let says = format!("broker 3 keeps no replica of {partition}");
    cluster.refused(accept(partition, 3), ErrorCode::InvalidRequest, &says);
    let says = "there is no broker 9";
    cluster.refused(accept(partition, 9), ErrorCode::InvalidRequest, says);
    let nowhere = at(partition.topic_id, 9);
    let says = format!("there is no partition {nowhere}");
    cluster.refused(accept(nowhere, 1), ErrorCode::UnknownPartition, &says);
    let command = Command::AcceptLoss {
        partition,
        broker_id: 1,
        by: "x".repeat(256),
        at_ms: 77,
    };
    let says = "more than 255 bytes of a principal's name";
    cluster.refused(command, ErrorCode::InvalidRequest, says);
}

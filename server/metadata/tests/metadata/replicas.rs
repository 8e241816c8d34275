//! Replicas that begin anew, and those that are trusted again.

use millstream_metadata::{Command, DirectoryNumber, Record, RegisteredReplica};
use millstream_protocol::{ErrorCode, TopicPartition};

use super::cluster::{Cluster, appoint, at, reassign};

fn anew(broker_id: u32, partitions: &[TopicPartition]) -> Command {
    Command::RegisterReplicas {
        broker_id,
        partitions: partitions.to_vec(),
    }
}

fn trust(broker_id: u32, partition: TopicPartition, directory: DirectoryNumber) -> Command {
    Command::TrustReplicas {
        broker_id,
        replicas: vec![(partition, directory)],
    }
}

#[test]
fn a_replica_begins_anew_with_a_greater_number_and_the_newest_epoch() {
    let mut cluster = Cluster::with_brokers(3);
    let topic_id = cluster.create_replicated("orders", 2, 3);
    let partition = |it| at(topic_id, it);
    cluster.run(appoint(&cluster.image, &[(partition(1), 3)]));
    let next = cluster.image.next_directory();
    assert_eq!(next, DirectoryNumber(7), "six are handed out");
    let record = cluster.run(anew(2, &[partition(1), partition(0)]));
    let registered = |it, directory, leader_epoch| RegisteredReplica {
        partition: partition(it),
        directory: DirectoryNumber(directory),
        leader_epoch,
    };
    let expected = Record::ReplicasRegistered {
        broker_id: 2,
        replicas: vec![registered(1, 7, 2), registered(0, 8, 1)],
    };
    assert_eq!(record, expected);
    assert_eq!(cluster.image.next_directory(), DirectoryNumber(9));
    let now = cluster.partition(partition(1));
    let member = now.member(2).unwrap();
    assert_eq!((member.directory.0, member.trusted), (7, false));
    assert_eq!((now.leader_epoch, now.version), (2, 3), "no new epoch");
    // Asked again, because the answer was lost: another number, and the last one counts.
    cluster.run(anew(2, &[partition(1)]));
    assert_eq!(
        cluster
            .partition(partition(1))
            .member(2)
            .unwrap()
            .directory
            .0,
        9
    );
    cluster.nothing(anew(2, &[]));
}

#[test]
fn a_leader_that_begins_anew_leads_no_more() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    assert!(cluster.partition(partition).leader_is_as_appointed());
    cluster.run(anew(1, &[partition]));
    assert!(!cluster.partition(partition).leader_is_as_appointed());
    cluster.run(appoint(&cluster.image, &[(partition, 1)]));
    assert!(cluster.partition(partition).leader_is_as_appointed());
}

#[test]
fn a_replica_is_trusted_by_its_directory() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    cluster.run(anew(2, &[partition]));
    let old = cluster.partition(partition).member(2).unwrap().directory;
    cluster.run(anew(2, &[partition]));
    cluster.nothing(trust(2, partition, old));
    let new = cluster.partition(partition).member(2).unwrap().directory;
    cluster.run(trust(2, partition, new));
    let now = cluster.partition(partition);
    assert!(now.member(2).unwrap().trusted);
    assert_eq!(now.version, 4);
    cluster.nothing(trust(2, partition, new));
    cluster.nothing(trust(2, at(partition.topic_id, 9), new));
    let nobody = trust(9, partition, new);
    cluster.refused(nobody, ErrorCode::InvalidRequest, "there is no broker 9");
}

#[test]
fn records_about_an_older_directory_change_nothing() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    let old = cluster.partition(partition).member(2).unwrap().directory;
    cluster.run(anew(2, &[partition]));
    let before = cluster.image.clone();
    cluster.image.apply(&Record::ReplicasTrusted {
        broker_id: 2,
        replicas: vec![(partition, old)],
    });
    assert_eq!(cluster.image, before);
    cluster.image.apply(&Record::ReplicasRegistered {
        broker_id: 2,
        replicas: vec![RegisteredReplica {
            partition,
            directory: old,
            leader_epoch: 1,
        }],
    });
    assert_eq!(cluster.image, before);
}

#[test]
fn while_the_set_changes_both_sets_know_of_it() {
    let mut cluster = Cluster::with_brokers(4);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    cluster.run(reassign(partition, &[2, 3, 4]));
    for broker_id in [2, 4] {
        cluster.run(anew(broker_id, &[partition]));
        let now = cluster.partition(partition);
        let directories: Vec<_> = [&now.replicas, &now.next]
            .into_iter()
            .flatten()
            .filter(|it| it.broker_id == broker_id)
            .map(|it| (it.directory, it.trusted))
            .collect();
        let expected = (now.member(broker_id).unwrap().directory, false);
        assert!(directories.iter().all(|it| *it == expected));
        assert_eq!(directories.len(), if broker_id == 2 { 2 } else { 1 });
    }
}

#[test]
fn what_a_broker_keeps_no_longer_holds_nothing_else_up() {
    let mut cluster = Cluster::with_brokers(3);
    let topic_id = cluster.create_replicated("orders", 1, 2);
    let partition = at(topic_id, 0);
    cluster.nothing(anew(3, &[partition]));
    let before = cluster.partition(partition).member(1).unwrap().directory;
    cluster.run(anew(1, &[at(topic_id, 1), partition]));
    let now = cluster.partition(partition).member(1).unwrap();
    assert!(now.directory > before && !now.trusted);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_brokers(3);
    let topic_id = cluster.create_replicated("orders", 1, 2);
    let partition = at(topic_id, 0);
    let says = format!("{partition} is named twice");
    let twice = anew(1, &[partition, partition]);
    cluster.refused(twice, ErrorCode::InvalidRequest, &says);
    let says = "there is no broker 9";
    cluster.refused(anew(9, &[partition]), ErrorCode::InvalidRequest, says);
    let says = "more than 10000 replicas at once";
    let many = anew(1, &vec![partition; 10_001]);
    cluster.refused(many, ErrorCode::InvalidRequest, says);
}

//! Other replicas for a partition.

use millstream_metadata::{Appointment, Command, DirectoryNumber, Record};
use millstream_protocol::{ErrorCode, TopicPartition};

use super::cluster::{Cluster, appoint, at, reassign, register};

fn finalise(partition: TopicPartition, epoch: u32, version: u64) -> Command {
    Command::FinaliseReassignment {
        partition,
        epoch,
        version,
    }
}

/// Five brokers, and a partition on the first three.
fn cluster() -> (Cluster, TopicPartition) {
    let mut cluster = Cluster::with_brokers(5);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    assert_eq!(cluster.partition(partition).brokers(), [1, 2, 3]);
    (cluster, partition)
}

#[test]
fn the_new_set_stands_beside_the_old_one_until_it_has_everything() {
    let (mut cluster, partition) = cluster();
    let before = cluster.partition(partition).clone();
    cluster.run(reassign(partition, &[4, 2, 1]));
    let now = cluster.partition(partition).clone();
    assert_eq!((now.leader, now.leader_epoch, now.version), (1, 1, 2));
    assert_eq!(now.replicas, before.replicas);
    let next: Vec<_> = now
        .next
        .iter()
        .map(|it| (it.broker_id, it.directory.0))
        .collect();
    assert_eq!(
        next,
        [(4, 4), (2, 2), (1, 1)],
        "who stays keeps the directory"
    );
    let members: Vec<_> = now.members().map(|it| it.broker_id).collect();
    assert_eq!(members, [1, 2, 3, 4]);
    assert_eq!(cluster.image.next_directory(), DirectoryNumber(5));

    let record = cluster.run(finalise(partition, 1, 2));
    let appointment = None;
    let expected = Record::ReassignmentFinished {
        partition,
        appointment,
    };
    assert_eq!(record, expected, "its leader is one of them");
    let after = cluster.partition(partition);
    assert_eq!((&after.replicas, after.is_changing()), (&now.next, false));
    assert_eq!((after.leader, after.leader_epoch, after.version), (1, 1, 3));
}

#[test]
fn a_leader_that_is_to_go_hands_over_in_the_same_record() {
    let (mut cluster, partition) = cluster();
    cluster.run(reassign(partition, &[4, 5, 3]));
    cluster.fence(4);
    let record = cluster.run(finalise(partition, 1, 2));
    let Record::ReassignmentFinished { appointment, .. } = record else {
        panic!("{record:?}")
    };
    let expected = Appointment {
        partition,
        leader: 5,
        directory: DirectoryNumber(5),
        leader_epoch: 2,
    };
    assert_eq!(appointment, Some(expected), "the first that is there");
    let after = cluster.partition(partition);
    assert_eq!((after.leader, after.leader_epoch, after.version), (5, 2, 3));
    assert_eq!(after.brokers(), [4, 5, 3]);
}

#[test]
fn a_leader_is_rather_one_that_is_trusted_and_not_draining() {
    let (mut cluster, partition) = cluster();
    cluster.run(reassign(partition, &[4, 5, 3]));
    let partitions = vec![partition];
    cluster.run(Command::RegisterReplicas {
        broker_id: 4,
        partitions,
    });
    cluster.run(Command::DrainBroker { broker_id: 5 });
    let (epoch, version) = (1, cluster.partition(partition).version);
    cluster.run(finalise(partition, epoch, version));
    assert_eq!(cluster.partition(partition).leader, 3);
}

#[test]
fn a_change_is_final_only_as_its_leader_has_seen_it() {
    let (mut cluster, partition) = cluster();
    cluster.refused(
        finalise(partition, 1, 1),
        ErrorCode::InvalidRequest,
        &format!("the replicas of {partition} are not being changed"),
    );
    cluster.run(reassign(partition, &[4, 2, 3]));
    let stale = |epoch, version, epoch_now, version_now| {
        format!(
            "{partition} is in epoch {epoch_now} and version {version_now}, not in epoch {epoch} and version \
             {version} as its leader has it"
        )
    };
    cluster.refused(
        finalise(partition, 1, 1),
        ErrorCode::NotReady,
        &stale(1, 1, 1, 2),
    );
    cluster.run(appoint(&cluster.image, &[(partition, 2)]));
    cluster.refused(
        finalise(partition, 1, 2),
        ErrorCode::NotReady,
        &stale(1, 2, 2, 3),
    );
    cluster.refused(
        finalise(partition, 1, 3),
        ErrorCode::NotReady,
        &stale(1, 3, 2, 3),
    );
    cluster.run(finalise(partition, 2, 3));
    // Asked again, because the answer was lost.
    cluster.refused(
        finalise(partition, 2, 3),
        ErrorCode::NotReady,
        &stale(2, 3, 2, 4),
    );
}

#[test]
fn one_change_at_a_time() {
    let (mut cluster, partition) = cluster();
    cluster.run(reassign(partition, &[4, 2, 3]));
    cluster.nothing(reassign(partition, &[4, 2, 3]));
    let says = format!(
        "the replicas of {partition} are being changed already: try again when that is done"
    );
    cluster.refused(reassign(partition, &[1, 2, 3]), ErrorCode::NotReady, &says);
    cluster.run(finalise(partition, 1, 2));
    cluster.nothing(reassign(partition, &[4, 2, 3]));
    cluster.run(reassign(partition, &[3, 2, 4]));
}

#[test]
fn the_survivor_of_two_goes_on_alone() {
    let mut cluster = Cluster::with_brokers(2);
    let partition = at(cluster.create_replicated("orders", 1, 2), 0);
    cluster.fence(1);
    cluster.run(appoint(&cluster.image, &[(partition, 2)]));
    cluster.run(reassign(partition, &[2]));
    cluster.run(finalise(partition, 2, 3));
    assert_eq!(cluster.partition(partition).brokers(), [2]);
}

#[test]
fn a_replica_that_comes_back_later_is_another() {
    let (mut cluster, partition) = cluster();
    cluster.run(reassign(partition, &[1]));
    cluster.run(finalise(partition, 1, 2));
    cluster.run(reassign(partition, &[1, 2, 3]));
    let next: Vec<_> = cluster
        .partition(partition)
        .next
        .iter()
        .map(|it| it.directory.0)
        .collect();
    assert_eq!(next, [1, 4, 5]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut cluster, partition) = cluster();
    let refused = |cluster: &Cluster, brokers: &[u32], says: &str| {
        cluster.refused(
            reassign(partition, brokers),
            ErrorCode::InvalidRequest,
            says,
        );
    };
    for (brokers, given) in [(&[][..], 0), (&[1, 2, 3, 4], 4), (&[1, 2, 3, 4, 5, 5], 6)] {
        let says = format!(
            "{partition} cannot have {given} replicas: 1, 2, 3 or 5 may be (4 survive no more failures than 3)"
        );
        refused(&cluster, brokers, &says);
    }
    let says = format!("broker 4 is given twice for {partition}");
    refused(&cluster, &[4, 4], &says);
    refused(&cluster, &[1, 2, 9], "there is no broker 9");

    let takes_nothing = format!(
        "broker 4 takes no replica of {partition}: it is not there, or draining; choose another"
    );
    cluster.run(Command::DrainBroker { broker_id: 4 });
    refused(&cluster, &[1, 2, 4], &takes_nothing);
    cluster.run(Command::UndrainBroker { broker_id: 4 });
    cluster.fence(4);
    refused(&cluster, &[1, 2, 4], &takes_nothing);

    cluster.fence(2);
    cluster.fence(3);
    let says = format!(
        "of the 3 new replicas of {partition}, 1 are on live brokers: it takes more than half to commit"
    );
    refused(&cluster, &[2, 3, 5], &says);
    let says = format!(
        "of the 2 new replicas of {partition}, 1 are on live brokers: it takes more than half to commit"
    );
    refused(&cluster, &[1, 2], &says);
    cluster.run(register(2));
    cluster.run(reassign(partition, &[2, 3, 5]));

    let nowhere = at(partition.topic_id, 9);
    let says = format!("there is no partition {nowhere}");
    cluster.refused(reassign(nowhere, &[1]), ErrorCode::UnknownPartition, &says);
    cluster.refused(finalise(nowhere, 1, 1), ErrorCode::UnknownPartition, &says);
    let twice = Command::ReassignPartitions {
        reassignments: vec![(partition, vec![2, 3, 5]); 2],
    };
    let says = format!("{partition} is named twice");
    cluster.refused(twice, ErrorCode::InvalidRequest, &says);
    let many = Command::ReassignPartitions {
        reassignments: vec![(partition, vec![1]); 1_001],
    };
    let says = "more than 1000 partitions to reassign at once";
    cluster.refused(many, ErrorCode::InvalidRequest, says);
}

#[test]
fn without_anybody_to_lead_it_the_new_set_waits() {
    let mut cluster = Cluster::with_brokers(2);
    let partition = at(cluster.create("orders", 1), 0);
    cluster.run(reassign(partition, &[2]));
    cluster.fence(2);
    let says = format!("none of the new replicas of {partition} is on a live broker to lead it");
    cluster.refused(finalise(partition, 1, 2), ErrorCode::NotReady, &says);
}

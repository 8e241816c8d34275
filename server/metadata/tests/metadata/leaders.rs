//! Leaders and their epochs.

use millstream_metadata::{Appointment, Command, DirectoryNumber, Record};
use millstream_protocol::{ErrorCode, TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, appoint, at, register};

#[test]
fn every_appointment_is_a_new_epoch() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 2);
    let at = |partition| at(topic_id, partition);
    let record = cluster.run(appoint(&[(at(0), 1), (at(1), 1)]));
    let Record::LeadersAppointed { appointments } = record else {
        panic!("{record:?}")
    };
    let epochs: Vec<_> = appointments
        .iter()
        .map(|appointment| appointment.leader_epoch)
        .collect();
    assert_eq!(epochs, [2, 2]);
    cluster.run(appoint(&[(at(1), 1)]));
    assert_eq!(cluster.image.partition(at(0)).unwrap().leader_epoch, 2);
    assert_eq!(cluster.image.partition(at(1)).unwrap().leader_epoch, 3);
    cluster.nothing(appoint(&[]));
}

#[test]
fn an_older_epoch_changes_nothing() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 1);
    let partition = TopicPartition {
        topic_id,
        partition: 0,
    };
    cluster.run(appoint(&[(partition, 1)]));
    let before = cluster.image.clone();
    for leader_epoch in [0, 1, 2] {
        let appointments = vec![Appointment {
            partition,
            leader: 9,
            directory: DirectoryNumber(9),
            leader_epoch,
        }];
        cluster
            .image
            .apply(&Record::LeadersAppointed { appointments });
        assert_eq!(cluster.image, before);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_brokers(2);
    let topic_id = cluster.create("orders", 1);
    let at = |partition| at(topic_id, partition);
    let says = format!("there is no partition {}", at(1));
    cluster.refused(
        appoint(&[(at(0), 1), (at(1), 1)]),
        ErrorCode::UnknownPartition,
        &says,
    );
    let nowhere = TopicPartition {
        topic_id: TopicId(Uuid::max()),
        partition: 0,
    };
    let says = format!("there is no partition {nowhere}");
    cluster.refused(appoint(&[(nowhere, 1)]), ErrorCode::UnknownPartition, &says);
    cluster.refused(
        appoint(&[(at(0), 7)]),
        ErrorCode::InvalidRequest,
        "there is no broker 7",
    );
    let says = format!("broker 2 keeps no replica of {}", at(0));
    cluster.refused(appoint(&[(at(0), 2)]), ErrorCode::InvalidRequest, &says);
    let says = format!("{} is named twice", at(0));
    cluster.refused(
        appoint(&[(at(0), 1), (at(0), 1)]),
        ErrorCode::InvalidRequest,
        &says,
    );
    let many = vec![(at(0), 1); 10_001];
    cluster.refused(
        appoint(&many),
        ErrorCode::InvalidRequest,
        "more than 10000 leaders to appoint at once",
    );
    cluster.run(Command::FenceBroker { broker_id: 1 });
    cluster.refused(
        appoint(&[(at(0), 1)]),
        ErrorCode::NotReady,
        "broker 1 is fenced",
    );
}

#[test]
fn the_last_epoch_is_not_passed() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 1);
    let partition = TopicPartition {
        topic_id,
        partition: 0,
    };
    let appointments = vec![Appointment {
        partition,
        leader: 1,
        directory: DirectoryNumber(1),
        leader_epoch: u32::MAX,
    }];
    cluster
        .image
        .apply(&Record::LeadersAppointed { appointments });
    let says = format!("{partition} has no leader epoch left");
    cluster.refused(appoint(&[(partition, 1)]), ErrorCode::Internal, &says);
}

#[test]
fn a_leader_is_appointed_with_the_directory_that_it_has() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    let now = cluster.partition(partition).clone();
    assert_eq!(
        (now.leader, now.leader_directory),
        (1, now.replicas[0].directory)
    );
    cluster.run(appoint(&[(partition, 2)]));
    let appointed = cluster.partition(partition);
    assert_eq!((appointed.leader, appointed.leader_epoch), (2, 2));
    assert_eq!(appointed.leader_directory, now.replicas[1].directory);
    assert_eq!(appointed.version, now.version + 1);
    assert_eq!(
        appointed.replicas, now.replicas,
        "the preferred leader stays the same"
    );
}

#[test]
fn one_that_is_being_emptied_leads_only_what_nobody_else_can() {
    let mut cluster = Cluster::with_brokers(2);
    let partition = at(cluster.create_replicated("orders", 1, 2), 0);
    cluster.run(Command::DrainBroker { broker_id: 2 });
    let says = format!(
        "broker 2 is draining and takes no new leadership: appoint another replica of {partition}"
    );
    cluster.refused(appoint(&[(partition, 2)]), ErrorCode::InvalidRequest, &says);
    cluster.fence(1);
    cluster.run(appoint(&[(partition, 2)]));
    cluster.run(register(1));
    // After a start it goes on with what it leads.
    cluster.run(appoint(&[(partition, 2)]));
    cluster.run(appoint(&[(partition, 1)]));
    cluster.refused(appoint(&[(partition, 2)]), ErrorCode::InvalidRequest, &says);
}

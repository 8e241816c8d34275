//! Leaders and their epochs.

use millstream_metadata::plan::elections;
use millstream_metadata::{Appointment, Command, DirectoryNumber, Record, Registration};
use millstream_protocol::{ErrorCode, TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, appoint, at, fence, register, registration};

#[test]
fn every_appointment_is_a_new_epoch() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 2);
    let at = |partition| at(topic_id, partition);
    let record = cluster.run(appoint(&cluster.image, &[(at(0), 1), (at(1), 1)]));
    let Record::LeadersAppointed { appointments } = record else {
        panic!("{record:?}")
    };
    let epochs: Vec<_> = appointments
        .iter()
        .map(|appointment| appointment.leader_epoch)
        .collect();
    assert_eq!(epochs, [2, 2]);
    cluster.run(appoint(&cluster.image, &[(at(1), 1)]));
    assert_eq!(cluster.image.partition(at(0)).unwrap().leader_epoch, 2);
    assert_eq!(cluster.image.partition(at(1)).unwrap().leader_epoch, 3);
    cluster.nothing(appoint(&cluster.image, &[]));
}

#[test]
fn an_older_epoch_changes_nothing() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 1);
    let partition = TopicPartition {
        topic_id,
        partition: 0,
    };
    cluster.run(appoint(&cluster.image, &[(partition, 1)]));
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
        appoint(&cluster.image, &[(at(0), 1), (at(1), 1)]),
        ErrorCode::UnknownPartition,
        &says,
    );
    let nowhere = TopicPartition {
        topic_id: TopicId(Uuid::max()),
        partition: 0,
    };
    let says = format!("there is no partition {nowhere}");
    cluster.refused(
        appoint(&cluster.image, &[(nowhere, 1)]),
        ErrorCode::UnknownPartition,
        &says,
    );
    cluster.refused(
        appoint(&cluster.image, &[(at(0), 7)]),
        ErrorCode::InvalidRequest,
        "there is no broker 7",
    );
    let says = format!("broker 2 keeps no replica of {}", at(0));
    cluster.refused(
        appoint(&cluster.image, &[(at(0), 2)]),
        ErrorCode::InvalidRequest,
        &says,
    );
    let says = format!("{} is named twice", at(0));
    cluster.refused(
        appoint(&cluster.image, &[(at(0), 1), (at(0), 1)]),
        ErrorCode::InvalidRequest,
        &says,
    );
    let many = vec![(at(0), 1); 10_001];
    cluster.refused(
        appoint(&cluster.image, &many),
        ErrorCode::InvalidRequest,
        "more than 10000 leaders to appoint at once",
    );
    cluster.run(fence(&cluster.image, 1));
    cluster.refused(
        appoint(&cluster.image, &[(at(0), 1)]),
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
    cluster.refused(
        appoint(&cluster.image, &[(partition, 1)]),
        ErrorCode::Internal,
        &says,
    );
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
    cluster.run(appoint(&cluster.image, &[(partition, 2)]));
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
    cluster.refused(
        appoint(&cluster.image, &[(partition, 2)]),
        ErrorCode::InvalidRequest,
        &says,
    );
    cluster.fence(1);
    cluster.run(appoint(&cluster.image, &[(partition, 2)]));
    cluster.run(register(1));
    // After a start it goes on with what it leads.
    cluster.run(appoint(&cluster.image, &[(partition, 2)]));
    cluster.run(appoint(&cluster.image, &[(partition, 1)]));
    cluster.refused(
        appoint(&cluster.image, &[(partition, 2)]),
        ErrorCode::InvalidRequest,
        &says,
    );
}

#[test]
fn a_broker_that_has_started_again_leads_on_in_new_epochs() {
    let mut cluster = Cluster::with_brokers(3);
    let topic_id = cluster.create_replicated("orders", 4, 3);
    let led = |cluster: &Cluster| {
        let at = |partition| cluster.partition(at(topic_id, partition));
        [0, 1, 2, 3].map(|it| (at(it).leader, at(it).leader_epoch, at(it).version))
    };
    assert_eq!(led(&cluster), [(1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 1, 1)]);
    // The same process goes on in the epoch in which it is.
    cluster.fence(1);
    cluster.run(register(1));
    assert_eq!(led(&cluster), [(1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 1, 1)]);
    let registration = Registration {
        incarnation: 2,
        ..registration(1)
    };
    cluster.run(Command::RegisterBroker { registration });
    assert_eq!(led(&cluster), [(1, 2, 2), (2, 1, 1), (3, 1, 1), (1, 2, 2)]);
    assert_eq!(elections(&cluster.image), []);
}

#[test]
fn another_data_directory_does_not_lead_on() {
    let mut cluster = Cluster::with_brokers(2);
    let partition = at(cluster.create_replicated("orders", 1, 2), 0);
    cluster.fence(1);
    let registration = Registration {
        directory_id: Uuid::max(),
        ..registration(1)
    };
    cluster.run(Command::RegisterBroker { registration });
    assert_eq!(cluster.partition(partition).leader_epoch, 1);
    let expected = appoint(&cluster.image, &[(partition, 2)]);
    assert_eq!(elections(&cluster.image), [expected]);
}

#[test]
fn what_was_decided_meanwhile_is_passed_over() {
    let mut cluster = Cluster::with_brokers(2);
    let topic_id = cluster.create_replicated("orders", 2, 2);
    let (first, second) = (at(topic_id, 0), at(topic_id, 1));
    let both = appoint(&cluster.image, &[(first, 2), (second, 1)]);
    cluster.run(appoint(&cluster.image, &[(first, 2)]));
    let record = cluster.run(both.clone());
    let Record::LeadersAppointed { appointments } = record else {
        panic!("{record:?}")
    };
    let partitions: Vec<_> = appointments.iter().map(|it| it.partition).collect();
    assert_eq!(partitions, [second]);
    cluster.nothing(both);
}

//! Leaders and their epochs.

use millstream_metadata::{Appointment, Command, Record};
use millstream_protocol::{ErrorCode, TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::Cluster;

fn appoint(appointments: &[(TopicPartition, u32)]) -> Command {
    Command::AppointLeaders {
        appointments: appointments.to_vec(),
    }
}

#[test]
fn every_appointment_is_a_new_epoch() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 2);
    let at = |partition| TopicPartition {
        topic_id,
        partition,
    };
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
    let at = |partition| TopicPartition {
        topic_id,
        partition,
    };
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
        leader_epoch: u32::MAX,
    }];
    cluster
        .image
        .apply(&Record::LeadersAppointed { appointments });
    let says = format!("{partition} has no leader epoch left");
    cluster.refused(appoint(&[(partition, 1)]), ErrorCode::Internal, &says);
}

//! Who may take a broker's number.

use millstream_metadata::{
    BrokerState, Command, DirectoryNumber, FeatureRange, Record, Registration, Replica,
};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::peer::{Lineage, RegisteredStart};
use uuid::Uuid;

use super::cluster::{Cluster, at, register, registration};

/// Registers broker 1, otherwise than at its first start.
fn again(change: impl FnOnce(&mut Registration)) -> Command {
    let mut registration = registration(1);
    change(&mut registration);
    Command::RegisterBroker { registration }
}

const ELSEWHERE: Uuid = Uuid::from_u128(0xD15C);

#[test]
fn a_broker_registers_again_with_what_has_changed() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.nothing(register(1));
    cluster.fence(1);
    cluster.run(again(|it| {
        it.incarnation = 2;
        it.address = "moved:1".into();
        it.rack = Some("r1".into());
    }));
    let broker = cluster.image.broker(1).unwrap();
    assert_eq!(
        (broker.incarnation, broker.address.as_str()),
        (2, "moved:1")
    );
    assert_eq!(broker.rack.as_deref(), Some("r1"));
    assert_eq!(cluster.image.brokers().count(), 2);
}

#[test]
fn a_process_that_was_fenced_is_taken_back() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.fence(1);
    cluster.run(register(1));
    assert_eq!(cluster.image.broker(1).unwrap().state, BrokerState::Live);
}

#[test]
fn an_old_process_is_refused() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(again(|it| it.incarnation = 5));
    let says = "broker 1 at b1:9092 runs start 5 of this data directory, and this is start 4: it is an old \
                process or an old copy of the directory; stop it";
    let old = || again(|it| it.incarnation = 4);
    cluster.refused(old(), ErrorCode::InvalidRequest, says);
    cluster.fence(1);
    cluster.refused(old(), ErrorCode::InvalidRequest, says);
}

#[test]
fn a_copied_data_directory_is_refused_while_the_other_is_live() {
    let mut cluster = Cluster::with_brokers(2);
    let says = "broker 1 is live at b1:9092 with the same data directory as the one at copy:1: one of them is a copy; \
                stop it, and start it with an empty directory and a number of its own. If the broker was only moved, \
                start it again once `cluster status` calls it gone";
    for incarnation in [1, 2, 9] {
        let copy = || {
            again(|it| {
                it.incarnation = incarnation;
                it.address = "copy:1".into();
            })
        };
        cluster.refused(copy(), ErrorCode::InvalidRequest, says);
    }
    cluster.fence(1);
    cluster.run(again(|it| {
        it.incarnation = 2;
        it.address = "moved:1".into();
    }));
}

#[test]
fn a_broker_without_others_may_start_elsewhere_at_any_time() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(again(|it| {
        it.incarnation = 2;
        it.address = "moved:1".into();
    }));
}

#[test]
fn an_old_copy_of_a_data_directory_is_refused_for_ever() {
    let mut cluster = Cluster::with_brokers(2);
    let first = registration(1).lineage;
    let second = Lineage {
        registered: Some(RegisteredStart {
            incarnation: 1,
            run: first.run,
        }),
        ..Lineage::new(Uuid::from_u128(10))
    };
    let start = |incarnation, lineage| {
        again(|it| {
            it.incarnation = incarnation;
            it.lineage = lineage;
        })
    };
    cluster.run(start(2, second));
    // It was not noted that this one is registered, as after a crash.
    cluster.run(start(3, second));
    cluster.fence(1);
    let says = "this is an old copy of the data directory of broker 1, which was started since (last as start 3, at \
                b1:9092): it lacks what the broker has acknowledged meanwhile; start the broker with its own directory \
                or, if that is lost, let it in under a new number with a ticket of its own and an empty directory, and \
                remove broker 1";
    let copy = Lineage {
        run: Uuid::from_u128(11),
        ..second
    };
    // However often it is tried.
    for incarnation in 3..9 {
        cluster.refused(start(incarnation, copy), ErrorCode::InvalidRequest, says);
        cluster.refused(
            start(incarnation, first_copy(first)),
            ErrorCode::InvalidRequest,
            says,
        );
    }
    cluster.run(start(4, second));
}

/// A copy that was made before any start was registered.
fn first_copy(of: Lineage) -> Lineage {
    let run = Uuid::from_u128(of.run.as_u128() + 100);
    Lineage { run, ..of }
}

#[test]
fn a_number_that_is_in_use_is_refused_to_another_data_directory() {
    let mut cluster = Cluster::with_brokers(1);
    let other = || {
        again(|it| {
            it.directory_id = ELSEWHERE;
            it.address = "other:1".into();
            it.incarnation = 9;
        })
    };
    let says = "broker 1 is live at b1:9092 with another data directory: give this one another number, or \
                stop the other first if this one is to take its place";
    cluster.refused(other(), ErrorCode::InvalidRequest, says);
    cluster.run(Command::DrainBroker { broker_id: 1 });
    cluster.refused(other(), ErrorCode::InvalidRequest, says);
    cluster.fence(1);
    cluster.run(other());
}

#[test]
fn software_that_is_older_or_much_newer_than_the_cluster_is_refused() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.image.apply(&Record::ClusterFormed {
        cluster_id: Uuid::from_u128(1),
        feature_level: 5,
    });
    let with = |min, max| {
        again(|it| {
            it.incarnation = 2;
            it.features = FeatureRange { min, max };
        })
    };
    cluster.refused(
        with(1, 4),
        ErrorCode::InvalidRequest,
        "broker 1 understands feature levels up to 4, and the cluster is at 5: start it with a version at \
         least as new as that of the other brokers",
    );
    cluster.refused(
        with(6, 9),
        ErrorCode::InvalidRequest,
        "broker 1 understands feature levels from 6 on, and the cluster is at 5: start it with an older \
         version, and bring the whole cluster to that one first",
    );
    let says = "broker 1 claims to understand feature levels from 6 to 5";
    cluster.refused(with(6, 5), ErrorCode::InvalidRequest, says);
    cluster.run(with(5, 5));
}

#[test]
fn another_data_directory_makes_every_replica_begin_anew() {
    let mut cluster = Cluster::with_brokers(3);
    let orders = cluster.create_replicated("orders", 2, 3);
    let other = cluster.create("other", 3);
    let before = cluster.image.clone();
    cluster.fence(1);
    let record = cluster.run(again(|it| {
        it.directory_id = ELSEWHERE;
        it.incarnation = 1;
    }));
    // Two of three, and one of the three with one replica.
    let first = before.next_directory();
    let Record::BrokerRegistered { renewed, .. } = record else {
        panic!("{record:?}")
    };
    assert_eq!(renewed, Some(first));
    assert_eq!(cluster.image.next_directory(), DirectoryNumber(first.0 + 3));
    let mut number = first.0;
    for (id, partition) in cluster.image.partitions() {
        let was = before.partition(id).unwrap();
        let Some(here) = partition.member(1) else {
            assert_eq!(partition, was, "the others do not change");
            continue;
        };
        let expected = Replica {
            broker_id: 1,
            directory: DirectoryNumber(number),
            trusted: false,
        };
        assert_eq!((*here, partition.version), (expected, was.version + 1));
        assert!(here.directory > was.member(1).unwrap().directory);
        number += 1;
    }
    let led = cluster.partition(at(orders, 0));
    assert!(led.leader == 1 && !led.leader_is_as_appointed());
    assert!(cluster.partition(at(orders, 1)).leader_is_as_appointed());
    assert_eq!(cluster.partition(at(other, 0)).leader, 3);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::with_brokers(1);
    let at = |address: &str| again(|it| it.address = address.into());
    for address in ["", "a\nb", &"x".repeat(256)] {
        let says = "the address of broker 1 is empty, too long or has control characters";
        cluster.refused(at(address), ErrorCode::InvalidRequest, says);
    }
    for rack in ["", "a\nb", &"x".repeat(256)] {
        let says = "the rack of broker 1 is empty, too long or has control characters";
        let command = again(|it| it.rack = Some(rack.into()));
        cluster.refused(command, ErrorCode::InvalidRequest, says);
    }
    cluster.limits.brokers = 1;
    cluster.refused(
        register(7),
        ErrorCode::InvalidRequest,
        "more than 1 brokers",
    );
    cluster.run(again(|it| it.incarnation = 2));
}

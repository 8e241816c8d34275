//! Plans: what they say for a given cluster.

use millstream_metadata::limits::{MAX_APPOINTMENTS, MAX_CHANGES_UNDER_WAY};
use millstream_metadata::plan::{
    Outage, drain, elections, imbalance, offline, rebalance, under_replicated, widen,
};
use millstream_metadata::{Actor, Command, Partition, Registration};
use millstream_protocol::{TopicId, TopicPartition};

use super::cluster::{Cluster, appoint, at, reassign, register, registration, topic};
use super::loss::accept;

/// Far more rounds than any of these clusters needs.
const ROUNDS: usize = 200;

/// The leaders of a topic's partitions.
fn leaders(cluster: &Cluster, topic: &str) -> Vec<u32> {
    let partitions = &cluster.image.topic(topic).unwrap().partitions;
    partitions.iter().map(|it| it.leader).collect()
}

/// The replicas of a topic's partitions, in a line.
fn replicas(cluster: &Cluster, topic: &str) -> String {
    let partitions = &cluster.image.topic(topic).unwrap().partitions;
    let brokers: Vec<_> = partitions.iter().map(Partition::brokers).collect();
    format!("{brokers:?}")
}

pub(crate) fn carry_out(cluster: &mut Cluster, commands: Vec<Command>) {
    for command in commands {
        cluster.run(command);
    }
}

/// Has every change that is under way come to its end.
pub(crate) fn finish(cluster: &mut Cluster) -> usize {
    let changing = cluster
        .image
        .partitions()
        .filter(|(_, it)| it.is_changing());
    let commands: Vec<_> = changing
        .map(|(partition, it)| Command::FinaliseReassignment {
            partition,
            epoch: it.leader_epoch,
            version: it.version,
        })
        .collect();
    let count = commands.len();
    carry_out(cluster, commands);
    count
}

/// Carries plans out until there are none.
pub(crate) fn until_done(cluster: &mut Cluster, plan: impl Fn(&Cluster) -> Vec<Command>) {
    for _ in 0..ROUNDS {
        let commands = plan(cluster);
        if commands.is_empty() {
            return;
        }
        carry_out(cluster, commands);
        assert!(finish(cluster) <= MAX_CHANGES_UNDER_WAY);
    }
    panic!("it comes to no end: {:?}", cluster.image);
}

pub(crate) fn elect(cluster: &mut Cluster) {
    let commands = elections(&cluster.image);
    carry_out(cluster, commands);
}

#[test]
fn what_a_fenced_broker_led_is_shared_by_the_others() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create_replicated("orders", 6, 3);
    assert_eq!(leaders(&cluster, "orders"), [1, 2, 3, 1, 2, 3]);
    assert_eq!(elections(&cluster.image), []);
    cluster.fence(1);
    elect(&mut cluster);
    // Both have [1, 2, 3].
    assert_eq!(leaders(&cluster, "orders"), [2, 2, 3, 3, 2, 3]);
    assert_eq!(elections(&cluster.image), []);
}

#[test]
fn a_broker_that_comes_back_leads_what_nobody_could() {
    let mut cluster = Cluster::with_brokers(2);
    let topic_id = cluster.create_replicated("orders", 2, 2);
    cluster.fence(1);
    elect(&mut cluster);
    cluster.fence(2);
    assert_eq!(elections(&cluster.image), [], "nobody is there");
    assert_eq!(leaders(&cluster, "orders"), [2, 2]);
    cluster.run(register(1));
    let both = [(at(topic_id, 0), 1), (at(topic_id, 1), 1)];
    assert_eq!(elections(&cluster.image), [appoint(&cluster.image, &both)]);
}

#[test]
fn the_trusted_go_before_the_wiped_and_the_staying_before_the_draining() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    let next = |cluster: &Cluster| match elections(&cluster.image).as_slice() {
        [Command::AppointLeaders { nominations }] => nominations[0].leader,
        other => panic!("{other:?}"),
    };
    cluster.run(Command::RegisterReplicas {
        broker_id: 1,
        partitions: vec![partition],
    });
    assert_eq!(next(&cluster), 2, "its leader was wiped");
    cluster.run(Command::DrainBroker { broker_id: 2 });
    assert_eq!(next(&cluster), 3);
    cluster.fence(3);
    assert_eq!(next(&cluster), 2);
    elect(&mut cluster);
    cluster.fence(2);
    // The one that was wiped is better than none: it may find what it lacks.
    assert_eq!(
        elections(&cluster.image),
        [appoint(&cluster.image, &[(partition, 1)])]
    );
}

#[test]
fn appointments_come_in_commands_of_a_bounded_size() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_replicated("large", 10_000, 2);
    cluster.create_replicated("small", 4, 2);
    cluster.fence(1);
    elect(&mut cluster);
    cluster.fence(2);
    cluster.run(register(1));
    let commands = elections(&cluster.image);
    let sizes: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::AppointLeaders { nominations } => nominations.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [MAX_APPOINTMENTS, 4]);
    carry_out(&mut cluster, commands);
}

#[test]
fn leaderships_go_back_to_those_that_are_preferred() {
    let mut cluster = Cluster::with_brokers(3);
    let topic_id = cluster.create_replicated("orders", 3, 3);
    cluster.fence(1);
    elect(&mut cluster);
    assert_eq!(rebalance(&cluster.image), []);
    cluster.run(register(1));
    let back = vec![appoint(&cluster.image, &[(at(topic_id, 0), 1)])];
    assert_eq!(rebalance(&cluster.image), back);
    cluster.run(Command::RegisterReplicas {
        broker_id: 1,
        partitions: vec![at(topic_id, 0)],
    });
    assert_eq!(
        rebalance(&cluster.image),
        [],
        "it has not got everything yet"
    );
    let directory = cluster
        .partition(at(topic_id, 0))
        .member(1)
        .unwrap()
        .directory;
    cluster.run(Command::TrustReplicas {
        broker_id: 1,
        replicas: vec![(at(topic_id, 0), directory)],
    });
    carry_out(&mut cluster, back);
    assert_eq!(rebalance(&cluster.image), []);
}

#[test]
fn preference_is_shared_where_one_is_preferred_too_often() {
    let mut cluster = Cluster::with_brokers(2);
    let topic_id = cluster.create_replicated("orders", 2, 2);
    cluster.run(reassign(at(topic_id, 1), &[1, 2]));
    finish(&mut cluster);
    assert_eq!(replicas(&cluster, "orders"), "[[1, 2], [1, 2]]");
    let expected = [
        appoint(&cluster.image, &[(at(topic_id, 1), 1)]),
        reassign(at(topic_id, 0), &[2, 1]),
    ];
    assert_eq!(rebalance(&cluster.image), expected);
    until_done(&mut cluster, |it| rebalance(&it.image));
    assert_eq!(replicas(&cluster, "orders"), "[[2, 1], [1, 2]]");
    assert_eq!(leaders(&cluster, "orders"), [2, 1]);
}

#[test]
fn a_new_broker_takes_its_share() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_replicated("orders", 6, 2);
    cluster.join(registration(3));
    until_done(&mut cluster, |it| rebalance(&it.image));
    assert_eq!(
        replicas(&cluster, "orders"),
        "[[3, 1], [3, 2], [1, 3], [2, 3], [1, 2], [2, 1]]"
    );
    assert_eq!(leaders(&cluster, "orders"), [3, 3, 1, 2, 1, 2]);
}

#[test]
fn replicas_do_not_move_closer_together() {
    let mut cluster = Cluster::with_racks(&["a", "b"]);
    cluster.create_replicated("orders", 4, 2);
    cluster.join(Registration {
        rack: Some("a".into()),
        ..registration(3)
    });
    until_done(&mut cluster, |it| rebalance(&it.image));
    // The one in rack b keeps one of each.
    for partition in &cluster.image.topic("orders").unwrap().partitions {
        assert!(partition.member(2).is_some(), "{partition:?}");
    }
    assert_eq!(cluster.image.replicas_on(3), 2);
}

#[test]
fn what_has_lost_replicas_for_good_gets_others() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create_replicated("orders", 1, 3), 0);
    cluster.create("alone", 1);
    cluster.fence(1);
    cluster.fence(2);
    cluster.run(accept(partition, 3));
    assert_eq!(replicas(&cluster, "orders"), "[[3]]");
    cluster.run(register(1));
    assert_eq!(
        rebalance(&cluster.image),
        [],
        "with two it would be no safer"
    );
    cluster.run(register(2));
    assert!(imbalance(&cluster.image, 8) > 0);
    until_done(&mut cluster, |it| rebalance(&it.image));
    assert_eq!(replicas(&cluster, "orders"), "[[3, 1, 2]]");
    let alone = &cluster.image.topic("alone").unwrap().partitions[0];
    assert_eq!(alone.replicas.len(), 1);
    assert_eq!(imbalance(&cluster.image, 8), 0);
}

#[test]
fn changes_under_way_are_bounded() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = cluster.create("orders", 300);
    cluster.join(registration(2));
    let moved = |cluster: &Cluster| match rebalance(&cluster.image).as_slice() {
        [] => 0,
        [Command::ReassignPartitions { reassignments }] => reassignments.len(),
        other => panic!("{other:?}"),
    };
    cluster.run(reassign(at(topic_id, 299), &[2]));
    assert_eq!(moved(&cluster), MAX_CHANGES_UNDER_WAY - 1);
    assert_eq!(imbalance(&cluster.image, 1_000), 149);
    assert_eq!(imbalance(&cluster.image, 100), 100);
    let commands = rebalance(&cluster.image);
    carry_out(&mut cluster, commands);
    assert_eq!(moved(&cluster), 0);
    assert_eq!(imbalance(&cluster.image, 1_000), 149 - 63);
    assert_eq!(drain(&cluster.image, 1).commands, []);
    finish(&mut cluster);
    assert_eq!(moved(&cluster), MAX_CHANGES_UNDER_WAY);
}

#[test]
fn a_broker_is_emptied_and_removed() {
    let mut cluster = Cluster::with_racks(&["a", "b", "a", "b"]);
    cluster.create_replicated("orders", 4, 2);
    cluster.create("alone", 4);
    cluster.run(Command::DrainBroker { broker_id: 1 });
    let first = drain(&cluster.image, 1);
    assert_eq!((first.commands.len(), first.stuck.len()), (2, 0));
    until_done(&mut cluster, |it| drain(&it.image, 1).commands);
    assert_eq!(cluster.image.replicas_on(1), 0);
    for partition in &cluster.image.topic("orders").unwrap().partitions {
        let far = |it: &u32| it.is_multiple_of(2);
        let brokers = partition.brokers();
        assert_eq!(
            brokers.iter().filter(|it| far(it)).count(),
            1,
            "{brokers:?}"
        );
    }
    cluster.run(Command::RemoveBroker { broker_id: 1 });
}

#[test]
fn what_has_nowhere_to_go_is_told() {
    let mut cluster = Cluster::with_brokers(3);
    let orders = cluster.create_replicated("orders", 1, 3);
    let alone = cluster.create("alone", 3);
    let plan = drain(&cluster.image, 1);
    assert_eq!(plan.stuck, [at(orders, 0)]);
    // Before it is marked as draining as well, nothing is planned to come to it.
    let on_one: Vec<_> = (0..3)
        .map(|it| at(alone, it))
        .filter(|it| cluster.partition(*it).leader == 1)
        .collect();
    let moved = on_one.iter().map(|it| (*it, vec![2])).collect();
    let expected = [
        appoint(&cluster.image, &[(at(orders, 0), 2)]),
        Command::ReassignPartitions {
            reassignments: moved,
        },
    ];
    assert_eq!(plan.commands, expected);
}

#[test]
fn a_dead_broker_is_emptied_where_a_majority_is_left() {
    let mut cluster = Cluster::with_brokers(4);
    let three = at(cluster.create_replicated("three", 1, 3), 0);
    let alone = at(cluster.create("alone", 1), 0);
    cluster.run(reassign(alone, &[1]));
    let version = cluster.partition(alone).version;
    cluster.run(Command::FinaliseReassignment {
        partition: alone,
        epoch: 1,
        version,
    });
    cluster.fence(1);
    elect(&mut cluster);
    let plan = drain(&cluster.image, 1);
    assert_eq!(plan.commands, [reassign(three, &[4, 2, 3])]);
    assert_eq!(plan.stuck, [alone], "there is nothing to copy it from");
}

fn check_status(cluster: &Cluster, down: &[(TopicPartition, Outage)], lacking: &[TopicPartition]) {
    assert_eq!(offline(&cluster.image).collect::<Vec<_>>(), down);
    assert_eq!(
        under_replicated(&cluster.image).collect::<Vec<_>>(),
        lacking
    );
}

#[test]
fn what_stands_still_and_what_lacks_replicas_is_told() {
    let mut cluster = Cluster::with_brokers(3);
    let three = at(cluster.create_replicated("three", 1, 3), 0);
    let two = at(cluster.create_replicated("two", 1, 2), 0);
    assert_eq!(cluster.partition(two).brokers(), [2, 3]);
    check_status(&cluster, &[], &[]);
    cluster.fence(1);
    check_status(&cluster, &[(three, Outage::NoLeader)], &[three]);
    elect(&mut cluster);
    check_status(&cluster, &[], &[three]);
    cluster.fence(3);
    elect(&mut cluster);
    let no_majority = |it| (it, Outage::NoMajority);
    check_status(
        &cluster,
        &[no_majority(three), no_majority(two)],
        &[three, two],
    );
    cluster.run(register(3));
    cluster.run(register(1));
    check_status(&cluster, &[], &[]);
    // A leader that was wiped does not lead, and those that were do not count.
    cluster.run(Command::RegisterReplicas {
        broker_id: cluster.partition(two).leader,
        partitions: vec![two],
    });
    check_status(&cluster, &[(two, Outage::NoLeader)], &[two]);
    let leader = cluster.partition(two).leader;
    cluster.run(appoint(&cluster.image, &[(two, leader)]));
    check_status(&cluster, &[no_majority(two)], &[two]);
    // A set that is to come commits in the place of the old one.
    cluster.run(reassign(three, &[1]));
    cluster.fence(1);
    let leader = cluster.partition(three).leader;
    assert_ne!(leader, 1);
    check_status(
        &cluster,
        &[no_majority(three), no_majority(two)],
        &[three, two],
    );
}

#[test]
fn who_is_to_go_is_missed_until_the_change_is_done() {
    let mut cluster = Cluster::with_brokers(3);
    let two = at(cluster.create_replicated("two", 1, 2), 0);
    cluster.fence(2);
    cluster.run(reassign(two, &[1, 3]));
    check_status(&cluster, &[], &[two]);
    finish(&mut cluster);
    check_status(&cluster, &[], &[]);
}

#[test]
fn internal_topics_get_more_replicas_when_there_are_brokers() {
    let mut cluster = Cluster::with_brokers(1);
    let topic_id = TopicId(cluster.next_id());
    cluster.run(Command::CreateTopic {
        topic_id,
        topic: topic("__groups", 2),
        actor: Actor::Broker,
    });
    cluster.create("orders", 1);
    assert_eq!(widen(&cluster.image), None, "there is nobody else");
    cluster.join(registration(2));
    assert_eq!(widen(&cluster.image), None, "two are no safer than one");
    cluster.join(registration(3));
    cluster.join(registration(4));
    let command = widen(&cluster.image).unwrap();
    cluster.run(command);
    assert_eq!(widen(&cluster.image), None, "it is under way");
    assert_eq!(finish(&mut cluster), 2);
    assert_eq!(replicas(&cluster, "__groups"), "[[1, 2, 3], [1, 4, 2]]");
    assert_eq!(replicas(&cluster, "orders"), "[[1]]");
    assert_eq!(widen(&cluster.image), None);
    cluster.fence(3);
    assert_eq!(widen(&cluster.image), None, "who is away is not replaced");
}

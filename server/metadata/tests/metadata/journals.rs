//! Journals: topics whose partitions are kept and led where those of their inputs are.

use millstream_metadata::limits::{
    BALANCE_PAUSE_MS, CALM_MS, INTERNAL_REPLICAS, MAX_CHANGES_UNDER_WAY,
};
use millstream_metadata::names::{
    is_internal, is_journal, is_journal_of, journal_input, journal_topic,
};
use millstream_metadata::plan::{drain, elections, follow, imbalance, rebalance, widen};
use millstream_metadata::{Actor, Command, DeploymentId, Partition};
use millstream_protocol::api::topic::{AlterTopic, Durability};
use millstream_protocol::{TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, appoint, at, reassign, register, registration, topic};
use super::plans::{carry_out, elect, finish, until_done};
use super::steward::Office;

/// Brokers, and a topic with journals.
fn orders(brokers: u32, partitions: u32, factor: u8) -> (Cluster, TopicId, TopicId) {
    let mut cluster = Cluster::with_brokers(brokers);
    let input = cluster.create_replicated("orders", partitions, factor);
    let journal = cluster.create_journal(input);
    (cluster, input, journal)
}

/// Leaders and replicas of each partition, in a line.
fn shown(cluster: &Cluster, topic_id: TopicId) -> String {
    let topic = cluster.image.topic_by_id(topic_id).unwrap();
    let shown = topic.partitions.iter().map(|it| (it.leader, it.brokers()));
    format!("{:?}", shown.collect::<Vec<_>>())
}

fn are_together(cluster: &Cluster) {
    assert!(cluster.journals().count() > 0);
    for (at, journal, input) in cluster.journals() {
        assert_eq!(journal.brokers(), input.brokers(), "{at}");
        assert_eq!(journal.leader, input.leader, "{at}");
    }
}

fn change(cluster: &Cluster, topic_id: TopicId, change: AlterTopic) -> Command {
    let name = cluster.image.topic_by_id(topic_id).unwrap().name.clone();
    let change = AlterTopic { name, ..change };
    let actor = Actor::Broker;
    Command::AlterTopic { change, actor }
}

/// This replica begins anew.
fn wipe(cluster: &mut Cluster, broker_id: u32, partition: TopicPartition) {
    let partitions = vec![partition];
    cluster.run(Command::RegisterReplicas {
        broker_id,
        partitions,
    });
}

fn trust(cluster: &mut Cluster, broker_id: u32, partition: TopicPartition) {
    let member = cluster.partition(partition).member(broker_id);
    let replicas = vec![(partition, member.unwrap().directory)];
    cluster.run(Command::TrustReplicas {
        broker_id,
        replicas,
    });
}

#[test]
fn a_name_says_whose_journals_a_topic_holds_and_of_what() {
    let (deployment, input) = (Uuid::from_u128(7), Uuid::from_u128(9));
    let name = journal_topic(DeploymentId(deployment), TopicId(input));
    assert!(is_journal(&name) && is_internal(&name));
    assert_eq!(journal_input(&name), Some(TopicId(input)));
    assert!(is_journal_of(&name, DeploymentId(deployment)));
    assert!(!is_journal_of(&name, DeploymentId(input)));
    for other in ["__journals", "journal.a.b", "__journal", "__groups"] {
        assert!(!is_journal(other), "{other}");
    }
    for other in [
        "__journal.",
        "__journal.a.b",
        &format!("{name}.x"),
        &name[2..],
    ] {
        assert_eq!(journal_input(other), None, "{other}");
    }
}

#[test]
fn journals_are_made_beside_their_input_with_as_many_replicas() {
    let mut cluster = Cluster::with_brokers(3);
    let input = cluster.create_replicated("orders", 3, 2);
    cluster.fence(1);
    elect(&mut cluster);
    let journal = cluster.create_journal(input);
    assert_eq!(
        shown(&cluster, input),
        "[(2, [1, 2]), (3, [3, 1]), (2, [2, 3])]"
    );
    assert_eq!(shown(&cluster, journal), shown(&cluster, input));
    let made = cluster.image.topic_by_id(journal).unwrap();
    assert_eq!(made.config.replication_factor, 2);
    let mut directories: Vec<_> = cluster
        .image
        .partitions()
        .flat_map(|(_, it)| it.members().map(|it| it.directory))
        .collect();
    directories.sort();
    directories.dedup();
    assert_eq!(directories.len(), 12, "each has its own");

    // They grow beside it, and what has nothing beside it goes anywhere.
    let more = |count| AlterTopic {
        partitions: Some(count),
        ..AlterTopic::default()
    };
    cluster.run(change(&cluster, input, more(5)));
    cluster.run(change(&cluster, journal, more(6)));
    let [of_input, of_journal] = [input, journal].map(|it| shown(&cluster, it));
    assert!(
        of_journal.starts_with(of_input.trim_end_matches(']')),
        "{of_journal}"
    );
    assert_eq!(cluster.partition(at(journal, 5)).replicas.len(), 2);
    cluster.nothing(change(&cluster, journal, AlterTopic::default()));
    cluster.run(change(
        &cluster,
        journal,
        AlterTopic {
            durability: Some(Durability::Relaxed),
            ..AlterTopic::default()
        },
    ));
}

#[test]
fn a_home_is_where_a_partition_is_led_by_somebody_who_is_there() {
    let (mut cluster, input, _) = orders(2, 1, 2);
    let home = |cluster: &Cluster| cluster.image.home(input, 0);
    assert_eq!(home(&cluster), Some(1));
    cluster.fence(1);
    assert_eq!(home(&cluster), None);
    elect(&mut cluster);
    assert_eq!(home(&cluster), Some(2));
    wipe(&mut cluster, 2, at(input, 0));
    assert_eq!(home(&cluster), None, "it has lost what it was to lead with");
    assert_eq!(cluster.image.home(input, 1), None);
    assert_eq!(cluster.image.home(TopicId(Uuid::max()), 0), None);
}

#[test]
fn journals_are_elected_with_their_input() {
    let (mut cluster, input, journal) = orders(3, 4, 3);
    // Of the other two the one leads more than the other.
    cluster.create_replicated("more", 5, 3);
    cluster.fence(1);
    elect(&mut cluster);
    are_together(&cluster);
    // Where the journal's replica has not got everything, another one leads it.
    let (of_input, of_journal) = (at(input, 1), at(journal, 1));
    wipe(&mut cluster, 3, of_journal);
    assert_eq!(cluster.partition(of_input).leader, 2);
    cluster.run(register(1));
    cluster.fence(2);
    cluster.run(appoint(&cluster.image, &[(of_input, 3)]));
    elect(&mut cluster);
    assert_eq!(cluster.partition(of_journal).leader, 1);
    // And if the input has a leader, the journal gets the same.
    let (of_input, of_journal) = (at(input, 2), at(journal, 2));
    let leader = cluster.partition(of_input).leader;
    let other = 4 - leader;
    cluster.run(appoint(&cluster.image, &[(of_journal, other)]));
    wipe(&mut cluster, other, of_journal);
    let expected = [appoint(&cluster.image, &[(of_journal, leader)])];
    assert_eq!(elections(&cluster.image), expected);
}

#[test]
fn a_draining_leader_does_not_get_a_journal_that_another_can_lead() {
    let (mut cluster, input, journal) = orders(2, 1, 2);
    wipe(&mut cluster, 2, at(input, 0));
    cluster.run(appoint(&cluster.image, &[(at(journal, 0), 2)]));
    cluster.run(Command::DrainBroker { broker_id: 1 });
    // Both lose their leaders at the same time: what is granted of one is not seen by the other.
    wipe(&mut cluster, 1, at(input, 0));
    trust(&mut cluster, 1, at(input, 0));
    cluster.fence(2);
    cluster.run(register(2));
    wipe(&mut cluster, 2, at(journal, 0));
    trust(&mut cluster, 2, at(journal, 0));
    elect(&mut cluster);
    let leaders = [input, journal].map(|it| cluster.partition(at(it, 0)).leader);
    assert_eq!(leaders, [1, 2]);
    // It gets it when it leads what is beside it.
    cluster.run(appoint(&cluster.image, &[(at(journal, 0), 1)]));
}

#[test]
fn the_steward_has_journals_led_where_their_input_is() {
    let (cluster, input, journal) = orders(3, 40, 3);
    let mut office = Office::settled(cluster);
    let all: Vec<_> = (0..40).map(|it| (at(journal, it), 3)).collect();
    office.run(appoint(&office.cluster.image, &all[..1]));
    office.lead_all();
    let back = [appoint(&office.cluster.image, &[(at(journal, 0), 1)])];
    assert_eq!(office.pass(2 * BALANCE_PAUSE_MS, &[1, 2, 3]), back);
    // Not while nobody leads the one or the other, and few at a time.
    let astray = all
        .iter()
        .filter(|(it, leader)| office.cluster.partition(*it).leader != *leader);
    let astray: Vec<_> = astray.copied().collect();
    office.run(appoint(&office.cluster.image, &astray));
    assert_eq!(office.pass(1_000, &[1, 2, 3]), []);
    office.lead_all();
    let mut sizes = Vec::new();
    for _ in 0..40 {
        for command in office.pass(100, &[1, 2, 3]) {
            let Command::AppointLeaders { nominations } = command else {
                panic!("{command:?}")
            };
            sizes.push(nominations.len());
        }
        office.lead_all();
    }
    assert_eq!(sizes.iter().sum::<usize>(), astray.len());
    assert!(sizes.len() > 1);
    are_together(&office.cluster);
    // One whose replica there has not got everything waits for that.
    let (of_input, of_journal) = (at(input, 0), at(journal, 0));
    wipe(&mut office.cluster, 1, of_journal);
    office.revision += 1;
    office.pass(100, &[1, 2, 3]);
    office.lead_all();
    assert_ne!(office.cluster.partition(of_journal).leader, 1);
    assert_eq!(office.cluster.partition(of_input).leader, 1);
    assert_eq!(office.pass(2 * CALM_MS, &[1, 2, 3]), []);
    trust(&mut office.cluster, 1, of_journal);
    office.revision += 1;
    let back = [appoint(&office.cluster.image, &[(of_journal, 1)])];
    assert_eq!(office.pass(2 * BALANCE_PAUSE_MS, &[1, 2, 3]), back);
}

#[test]
fn leaderships_go_back_together_or_not_at_all() {
    let (cluster, input, journal) = orders(3, 3, 3);
    let mut office = Office::settled(cluster);
    office.pass(1_000, &[1, 3]);
    office.lead_all();
    office.pass(200, &[1, 3]);
    are_together(&office.cluster);
    wipe(&mut office.cluster, 2, at(journal, 1));
    office.run(register(2));
    office.lead_all();
    assert_eq!(office.pass(2 * CALM_MS, &[1, 2, 3]), []);
    trust(&mut office.cluster, 2, at(journal, 1));
    office.revision += 1;
    let both = [(at(input, 1), 2), (at(journal, 1), 2)];
    let expected = [appoint(&office.cluster.image, &both)];
    assert_eq!(rebalance(&office.cluster.image), expected);
    assert_eq!(office.pass(BALANCE_PAUSE_MS, &[1, 2, 3]), expected);
}

#[test]
fn journals_follow_when_the_input_gets_other_replicas() {
    let (cluster, input, journal) = orders(4, 1, 2);
    let mut office = Office::settled(cluster);
    office.run(reassign(at(input, 0), &[4, 3]));
    let expected = [reassign(at(journal, 0), &[4, 3])];
    assert_eq!(office.pass(100, &[1, 2, 3, 4]), expected);
    assert_eq!(finish(&mut office.cluster), 2);
    office.revision += 1;
    office.lead_all();
    office.pass(2_000, &[1, 2, 3, 4]);
    are_together(&office.cluster);
    // What was moved by itself comes back, also to who takes nothing else.
    office.run(reassign(at(journal, 0), &[1, 2]));
    finish(&mut office.cluster);
    office.cluster.fence(3);
    office.run(Command::DrainBroker { broker_id: 3 });
    assert_eq!(
        follow(&office.cluster.image),
        None,
        "one of two is no majority"
    );
    office.cluster.run(register(3));
    assert_eq!(
        follow(&office.cluster.image),
        Some(reassign(at(journal, 0), &[4, 3]))
    );
    // Nor is it moved, widened or balanced when its input is not.
    assert_eq!(widen(&office.cluster.image), None);
    let command = follow(&office.cluster.image).unwrap();
    office.cluster.run(command);
    assert_eq!(follow(&office.cluster.image), None, "it is on its way");
}

#[test]
fn few_follow_at_a_time() {
    let (mut cluster, input, _) = orders(2, 200, 1);
    let led_by_one: Vec<_> = (0..200)
        .map(|it| at(input, it))
        .filter(|it| cluster.partition(*it).leader == 1)
        .collect();
    let reassignments = led_by_one.iter().map(|it| (*it, vec![2])).collect();
    cluster.run(Command::ReassignPartitions { reassignments });
    assert_eq!(follow(&cluster.image), None, "as many change as may");
    finish(&mut cluster);
    until_done(&mut cluster, |it| follow(&it.image).into_iter().collect());
    are_together(&cluster);
    let under_way = |cluster: &Cluster| {
        let changing = cluster.image.partitions();
        changing.filter(|(_, it)| it.is_changing()).count()
    };
    assert_eq!(under_way(&cluster), 0);
    let planned = drain(&cluster.image, 2).commands;
    carry_out(&mut cluster, planned);
    assert_eq!(under_way(&cluster), MAX_CHANGES_UNDER_WAY);
}

#[test]
fn journals_do_not_count_and_go_with_what_does() {
    let (mut cluster, input, _) = orders(2, 6, 1);
    cluster.create_journal(input);
    cluster.join(registration(3));
    // Two of six are moved, each with two.
    assert_eq!(imbalance(&cluster.image, 1_000), 6);
    until_done(&mut cluster, |it| rebalance(&it.image));
    are_together(&cluster);
    assert_eq!(cluster.image.replicas_on(3), 6);
    let placed = cluster.create("next", 3);
    assert_eq!(shown(&cluster, placed), "[(1, [1]), (2, [2]), (3, [3])]");
}

#[test]
fn a_broker_is_emptied_of_journals_with_their_inputs() {
    let (mut cluster, input, journal) = orders(3, 6, 2);
    cluster.run(Command::DrainBroker { broker_id: 1 });
    until_done(&mut cluster, |it| {
        let commands = drain(&it.image, 1).commands;
        if commands.is_empty() {
            return follow(&it.image).into_iter().collect();
        }
        commands
    });
    are_together(&cluster);
    assert_eq!(cluster.image.replicas_on(1), 0);
    // With two left, both are stuck on both.
    let plan = drain(&cluster.image, 2);
    let mut stuck: Vec<_> = [input, journal]
        .into_iter()
        .flat_map(|topic_id| (0..6).map(move |it| at(topic_id, it)))
        .collect();
    stuck.sort();
    let mut told = plan.stuck.clone();
    told.sort();
    assert_eq!(told, stuck);
    carry_out(&mut cluster, plan.commands);
    are_together(&cluster);
    assert!(cluster.image.partitions().all(|(_, it)| it.leader == 3));
    cluster.run(Command::RemoveBroker { broker_id: 1 });
}

#[test]
fn journals_of_a_topic_that_is_gone_are_internal_topics_like_others() {
    let (mut cluster, _, journal) = orders(3, 1, 1);
    assert_eq!(widen(&cluster.image), None);
    cluster.run(Command::DeleteTopic {
        topic: "orders".into(),
        actor: Actor::User,
    });
    let command = widen(&cluster.image).unwrap();
    cluster.run(command);
    finish(&mut cluster);
    assert_eq!(
        cluster.partition(at(journal, 0)).replicas.len(),
        INTERNAL_REPLICAS
    );
    assert_eq!(follow(&cluster.image), None);
    // Journals have no journals.
    let name = journal_topic(DeploymentId(Uuid::nil()), journal);
    let topic_id = TopicId(cluster.next_id());
    cluster.run(Command::CreateTopic {
        topic_id,
        topic: topic(&name, 1),
        actor: Actor::Broker,
    });
    assert_eq!(cluster.partition(at(topic_id, 0)).replicas.len(), 1);
    let brokers = cluster.image.topics().flat_map(|it| &it.partitions);
    assert_eq!(brokers.map(Partition::brokers).count(), 2);
}

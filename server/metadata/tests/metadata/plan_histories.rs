//! Plans, carried out in random histories: all that they say is granted, and they come to an end.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use millstream_metadata::names::is_journal;
use millstream_metadata::plan::{drain, offline, rebalance, under_replicated};
use millstream_metadata::{Command, Partition, Registration};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::cluster::{Cluster, fence, registration};
use super::plans::{carry_out, elect, finish, until_done};

/// How far apart the most and the least frequent of `all` are.
fn spread<T: Ord>(items: impl IntoIterator<Item = T>, all: impl IntoIterator<Item = T>) -> usize {
    let mut counts: BTreeMap<T, usize> = all.into_iter().map(|it| (it, 0)).collect();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    let (least, most) = (counts.values().min(), counts.values().max());
    most.unwrap_or(&0) - least.unwrap_or(&0)
}

#[derive(Clone, Debug)]
enum Event {
    Create(u32, u8),
    /// A topic gets journals, in a topic of their own.
    Journal(usize),
    Join(Option<&'static str>),
    Fence(u32),
    Return(u32),
    Drain(u32),
    Undrain(u32),
    Wipe(u32),
    Rebalance,
    Finish,
}

fn event() -> impl Strategy<Value = Event> {
    let broker = || 1u32..8;
    let factor = prop::sample::select(&[1u8, 2, 3, 5][..]);
    let rack = prop::option::of(prop::sample::select(&["a", "b", "c"][..]));
    prop_oneof![
        4 => (1u32..12, factor).prop_map(|(count, factor)| Event::Create(count, factor)),
        2 => (0usize..20).prop_map(Event::Journal),
        3 => rack.prop_map(Event::Join),
        2 => broker().prop_map(Event::Fence),
        3 => broker().prop_map(Event::Return),
        1 => broker().prop_map(Event::Drain),
        2 => broker().prop_map(Event::Undrain),
        1 => broker().prop_map(Event::Wipe),
        3 => Just(Event::Rebalance),
        3 => Just(Event::Finish),
    ]
}

/// Runs a command if it is granted and changes something.
fn attempt(cluster: &mut Cluster, command: Command) {
    if let Ok(Some(record)) = cluster.image.validate(&command, &cluster.limits) {
        cluster.image.apply(&record);
    }
}

/// What happens. Everything that a plan says must be granted.
fn happen(cluster: &mut Cluster, event: Event) {
    let brokers = cluster.image.brokers().count() as u32;
    match event {
        Event::Create(count, factor) => {
            let takers = cluster.image.brokers().filter(|it| it.state.takes_new());
            if takers.count() >= factor.into() {
                let name = format!("t{}", cluster.image.topics().count());
                cluster.create_replicated(&name, count, factor);
            }
        }
        Event::Journal(nth) => {
            let topics = cluster.image.topics().filter(|it| !is_journal(&it.name));
            let topics: Vec<_> = topics.map(|it| it.topic_id).collect();
            if let Some(input) = topics.get(nth % topics.len().max(1)) {
                cluster.create_journal(*input);
            }
        }
        Event::Join(rack) if brokers < 7 => {
            cluster.join(Registration {
                rack: rack.map(str::to_owned),
                ..registration(brokers + 1)
            });
        }
        Event::Join(_) => {}
        Event::Fence(broker_id) => {
            let command = fence(&cluster.image, broker_id);
            attempt(cluster, command);
            elect(cluster);
        }
        Event::Return(broker_id) => {
            if let Some(known) = cluster.image.broker(broker_id) {
                let registration = Registration {
                    incarnation: known.incarnation + 1,
                    rack: known.rack.clone(),
                    ..registration(broker_id)
                };
                cluster.run(Command::RegisterBroker { registration });
                elect(cluster);
            }
        }
        Event::Drain(broker_id) => {
            attempt(cluster, Command::DrainBroker { broker_id });
            let commands = drain(&cluster.image, broker_id).commands;
            carry_out(cluster, commands);
        }
        Event::Undrain(broker_id) => attempt(cluster, Command::UndrainBroker { broker_id }),
        Event::Wipe(broker_id) => {
            let partitions = cluster.image.partitions();
            let kept = partitions.filter(|(_, it)| it.member(broker_id).is_some());
            let partitions = kept.map(|(at, _)| at).collect();
            attempt(
                cluster,
                Command::RegisterReplicas {
                    broker_id,
                    partitions,
                },
            );
            elect(cluster);
        }
        Event::Rebalance => {
            let commands = rebalance(&cluster.image);
            carry_out(cluster, commands);
        }
        Event::Finish => {
            let partitions: Vec<_> = cluster
                .image
                .partitions()
                .map(|(at, it)| (at, it.clone()))
                .collect();
            for (partition, it) in partitions {
                let (epoch, version) = (it.leader_epoch, it.version);
                attempt(
                    cluster,
                    Command::FinaliseReassignment {
                        partition,
                        epoch,
                        version,
                    },
                );
            }
        }
    }
    for (_, partition) in cluster.image.partitions() {
        let can_lead = partition
            .members()
            .any(|it| cluster.image.is_live(it.broker_id));
        assert_eq!(
            can_lead,
            cluster.image.is_live(partition.leader),
            "who can lead does: {partition:?}"
        );
    }
}

/// What a run has exercised.
#[derive(Clone, Copy, Debug, Default)]
struct Exercised {
    rebalanced: usize,
    emptied: usize,
    stuck: usize,
    journals: usize,
}

/// Journals are kept and led where their inputs are.
fn check_journals(cluster: &Cluster) {
    for (at, journal, input) in cluster.journals() {
        assert_eq!(journal.brokers(), input.brokers(), "{at}");
        assert_eq!(journal.leader, input.leader, "{at}");
    }
}

fn until_even(cluster: &mut Cluster, exercised: &mut Exercised) {
    // Everybody comes back, and has everything.
    let brokers: Vec<_> = cluster.image.brokers().cloned().collect();
    for broker in &brokers {
        let broker_id = broker.broker_id;
        happen(cluster, Event::Return(broker_id));
        attempt(cluster, Command::UndrainBroker { broker_id });
        let partitions = cluster.image.partitions();
        let kept = partitions.filter_map(|(at, it)| Some((at, it.member(broker_id)?.directory)));
        let replicas = kept.collect();
        attempt(
            cluster,
            Command::TrustReplicas {
                broker_id,
                replicas,
            },
        );
    }
    finish(cluster);
    exercised.rebalanced += rebalance(&cluster.image).len();
    until_done(cluster, |it| rebalance(&it.image));
    let racks: BTreeSet<_> = brokers.iter().map(|it| &it.rack).collect();
    if racks.len() == 1 {
        let all = brokers.iter().map(|it| it.broker_id);
        let topics = cluster.image.topics().filter(|it| !is_journal(&it.name));
        let partitions = topics.flat_map(|it| &it.partitions);
        let kept = partitions.flat_map(Partition::brokers);
        assert!(spread(kept, all) <= 1);
    }
    for (_, partition) in cluster.image.partitions() {
        assert_eq!(partition.leader, partition.replicas[0].broker_id);
    }
    check_journals(cluster);
    assert_eq!(offline(&cluster.image).count(), 0);
    assert_eq!(under_replicated(&cluster.image).count(), 0);
}

/// Any broker can be emptied, but for what needs it.
fn until_empty(cluster: &mut Cluster, broker_id: u32, exercised: &mut Exercised) {
    cluster.run(Command::DrainBroker { broker_id });
    exercised.emptied += cluster.image.replicas_on(broker_id);
    until_done(cluster, |it| drain(&it.image, broker_id).commands);
    let stuck = drain(&cluster.image, broker_id).stuck.len();
    assert_eq!(cluster.image.replicas_on(broker_id), stuck);
    exercised.stuck += stuck;
    exercised.journals += cluster.journals().count();
    check_journals(cluster);
    for (_, partition) in cluster.image.partitions() {
        assert!(partition.leader != broker_id || partition.replicas.len() == 1);
    }
}

#[test]
fn plans_are_granted_and_come_to_an_end() {
    let exercised = Cell::new(Exercised::default());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    });
    let result = runner.run(&prop::collection::vec(event(), 1..40), |events| {
        let mut cluster = Cluster::with_brokers(2);
        for event in events {
            happen(&mut cluster, event);
        }
        let mut counts = exercised.get();
        until_even(&mut cluster, &mut counts);
        let last = cluster.image.brokers().count() as u32;
        until_empty(&mut cluster, last, &mut counts);
        exercised.set(counts);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let Exercised {
        rebalanced,
        emptied,
        stuck,
        journals,
    } = exercised.get();
    assert!(
        rebalanced >= 100 && emptied >= 1_000 && stuck >= 10 && journals >= 1_000,
        "{exercised:?}"
    );
}

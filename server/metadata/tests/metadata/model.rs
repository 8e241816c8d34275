//! Random commands: whatever is granted keeps the image whole, and the records make it again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use millstream_metadata::{
    Actor, BrokerState, Command, DeploymentId, Image, Limits, OnExisting, Record,
};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{AlterTopic, CreateTopic, TopicConfig};
use millstream_protocol::{LeaderEpoch, ProducerId, TopicId, TopicPartition};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::cluster::{plugin, spec};

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "__own"];
const DEPLOYMENTS: [&str; 4] = ["k", "l", "m", "n"];

/// A command whose identities are drawn from few, so that they meet.
fn command() -> impl Strategy<Value = Command> {
    let id = || (1u128..12).prop_map(Uuid::from_u128);
    let topic = || prop::sample::select(&TOPICS).prop_map(str::to_owned);
    let deployment = || prop::sample::select(&DEPLOYMENTS).prop_map(str::to_owned);
    let live = || prop::sample::select(&DEPLOYMENTS[..2]).prop_map(str::to_owned);
    let shadow = || prop::sample::select(&DEPLOYMENTS[2..]).prop_map(str::to_owned);
    let actor = || prop_oneof![4 => Just(Actor::User), 1 => Just(Actor::Broker)];
    let some_topics = || prop::collection::vec(prop::sample::select(&TOPICS[..4]), 0..3);
    let appointment = (id(), 0u32..4, 1u32..5).prop_map(|(id, partition, leader)| {
        (
            TopicPartition {
                topic_id: TopicId(id),
                partition,
            },
            leader,
        )
    });
    prop_oneof![
        1 => id().prop_map(|cluster_id| Command::FormCluster { cluster_id }),
        3 => (1u32..5, id()).prop_map(|(broker_id, directory_id)| {
            Command::RegisterBroker { broker_id, directory_id, address: "b:1".into() }
        }),
        1 => (1u32..5).prop_map(|broker_id| Command::FenceBroker { broker_id }),
        8 => (id(), topic(), 0u32..6, actor()).prop_map(|(id, name, partitions, actor)| {
            let topic = CreateTopic { name, partitions, config: TopicConfig::default() };
            Command::CreateTopic { topic_id: TopicId(id), topic, actor }
        }),
        3 => (topic(), prop::option::of(0u32..9), prop::option::of(0u64..3), actor()).prop_map(
            |(name, partitions, retention, actor)| {
                let retention_ms = retention.map(Some);
                Command::AlterTopic { change: AlterTopic { name, partitions, retention_ms, ..AlterTopic::default() }, actor }
            }
        ),
        2 => (topic(), actor()).prop_map(|(topic, actor)| Command::DeleteTopic { topic, actor }),
        6 => prop::collection::vec(appointment, 0..3)
            .prop_map(|appointments| Command::AppointLeaders { appointments }),
        2 => (0u32..2_000).prop_map(|count| Command::AllocateProducerIds { count }),
        6 => (id(), deployment(), some_topics(), some_topics(), any::<bool>()).prop_map(
            |(id, name, inputs, outputs, replace)| Command::PutDeployment {
                deployment_id: DeploymentId(id),
                spec: spec(&name, &inputs, &outputs),
                plugin: plugin(),
                deployed_at_ms: 7,
                on_existing: if replace { OnExisting::Replace } else { OnExisting::Refuse },
                by: "operator".into(),
                change: RevisionChange::Upgraded,
                replay: None,
            }
        ),
        2 => deployment().prop_map(|name| Command::RemoveDeployment { name }),
        8 => (id(), shadow(), live(), some_topics()).prop_map(|(id, name, of, inputs)| {
            let (inputs_replayed, outputs, since_ms, before_ms) = (Vec::new(), Vec::new(), None, None);
            Command::PutDeployment {
                deployment_id: DeploymentId(id),
                spec: spec(&name, &inputs, &[]),
                plugin: plugin(),
                deployed_at_ms: 7,
                on_existing: OnExisting::Refuse,
                by: "operator".into(),
                change: RevisionChange::Deployed,
                replay: Some(Box::new(Replay { of, inputs: inputs_replayed, outputs, since_ms, before_ms })),
            }
        }),
        12 => (live(), shadow()).prop_map(|(name, shadow)| {
            Command::Promote { name, shadow, at_ms: 8, by: "operator".into() }
        }),
        2 => (deployment(), any::<bool>()).prop_map(|(name, paused)| {
            let activity = if paused { Activity::Paused } else { Activity::Active };
            Command::SetActivity { name, activity }
        }),
    ]
}

/// What must not fall back, over the whole history.
#[derive(Default)]
struct Heights {
    epochs: BTreeMap<TopicPartition, LeaderEpoch>,
    next_producer_id: ProducerId,
    /// By name: what was a shadow takes up the count of the deployment in whose place it comes.
    revisions: BTreeMap<String, u32>,
}

fn check(image: &Image, heights: &mut Heights) {
    let mut ids = BTreeSet::new();
    for topic in image.topics() {
        assert_eq!(image.topic(&topic.name), Some(topic));
        assert_eq!(image.topic_by_id(topic.topic_id), Some(topic));
        assert!(ids.insert(topic.topic_id) && !topic.partitions.is_empty());
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert!(image.broker(partition.leader).is_some());
            assert!(partition.replicas.contains(&partition.leader));
            let at = TopicPartition {
                topic_id: topic.topic_id,
                partition: index,
            };
            assert!(*heights.epochs.entry(at).or_default() <= partition.leader_epoch);
            heights.epochs.insert(at, partition.leader_epoch);
        }
    }
    heights.epochs.retain(|at, _| ids.contains(&at.topic_id));
    assert!(heights.next_producer_id <= image.next_producer_id());
    heights.next_producer_id = image.next_producer_id();

    let deployments: BTreeMap<_, _> = image
        .deployments()
        .map(|deployment| (deployment.deployment_id, deployment))
        .collect();
    assert_eq!(
        deployments.len(),
        image.deployments().count(),
        "identities are unique"
    );
    for deployment in deployments.values() {
        assert!(
            heights
                .revisions
                .insert(deployment.spec.name.clone(), deployment.revision)
                .unwrap_or(0)
                <= deployment.revision
        );
        let outputs = deployment.spec.outputs.iter().map(|output| &output.topic);
        for topic in deployment.spec.inputs.iter().chain(outputs) {
            assert!(image.topic(topic).is_some(), "what is in use is there");
        }
    }
    for deployment in image.deployments() {
        let history = image.history(&deployment.spec.name).iter();
        let revisions: Vec<_> = history.map(|it| it.revision).collect();
        assert!(revisions.len() <= Limits::default().history);
        assert!(revisions.is_sorted() && revisions.last() < Some(&deployment.revision));
    }
    heights
        .revisions
        .retain(|name, _| image.deployment(name).is_some());
    assert_acyclic(image);
}

/// Takes away, again and again, the deployments whose inputs nobody left writes.
fn assert_acyclic(image: &Image) {
    let mut left: Vec<_> = image
        .deployments()
        .map(|deployment| &deployment.spec)
        .collect();
    loop {
        let written: BTreeSet<_> = left
            .iter()
            .flat_map(|spec| &spec.outputs)
            .map(|output| &output.topic)
            .collect();
        let before = left.len();
        left.retain(|spec| spec.inputs.iter().any(|input| written.contains(input)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "a loop of {left:?}");
}

/// What a record did, beyond keeping the image whole.
fn check_record(before: &Image, record: &Record, after: &Image) {
    match record {
        Record::TopicCreated { topic } => {
            let live = |id| {
                before
                    .broker(id)
                    .is_some_and(|broker| broker.state == BrokerState::Live)
            };
            assert!(
                topic
                    .partitions
                    .iter()
                    .all(|partition| live(partition.leader))
            );
            let led = |id| {
                let partitions = after.topics().flat_map(|topic| &topic.partitions);
                partitions
                    .filter(|partition| partition.leader == id)
                    .count()
            };
            let least = after
                .brokers()
                .filter(|broker| live(broker.broker_id))
                .map(|broker| led(broker.broker_id))
                .min();
            for partition in &topic.partitions {
                assert!(
                    led(partition.leader) <= least.unwrap() + 1,
                    "the least loaded takes it"
                );
            }
        }
        Record::LeadersAppointed { appointments } => {
            for appointment in appointments {
                let epoch =
                    |image: &Image| image.partition(appointment.partition).unwrap().leader_epoch;
                assert_eq!(epoch(after), epoch(before) + 1);
            }
        }
        Record::ProducerIdsAllocated { first, count } => {
            assert_eq!(*first, before.next_producer_id());
            assert_eq!(after.next_producer_id(), first + u64::from(*count));
        }
        Record::TopicAltered {
            topic_id, added, ..
        } => {
            let count = |image: &Image| image.topic_by_id(*topic_id).unwrap().partitions.len();
            assert_eq!(count(after), count(before) + added.len());
        }
        _ => {}
    }
}

fn kind(record: &Record) -> usize {
    usize::from(record.encode().unwrap()[1])
}

#[test]
fn random_commands_keep_the_image_whole() {
    let granted = RefCell::new([0u32; 12]);
    let refused = RefCell::new(0u32);
    let limits = Limits {
        topics: 4,
        partitions: 20,
        ..Limits::default()
    };
    // So many that the rarest record, a promotion, is met some dozens of times.
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 2_048,
        failure_persistence: None,
        ..Default::default()
    });
    let result = runner.run(&prop::collection::vec(command(), 1..100), |commands| {
        let (mut image, mut replayed) = (Image::default(), Image::default());
        let mut heights = Heights::default();
        let form = Command::FormCluster {
            cluster_id: Uuid::from_u128(1),
        };
        let register = Command::RegisterBroker {
            broker_id: 1,
            directory_id: Uuid::nil(),
            address: "b:1".into(),
        };
        for command in [form, register].into_iter().chain(commands) {
            let Ok(record) = image.validate(&command, &limits) else {
                *refused.borrow_mut() += 1;
                continue;
            };
            let Some(record) = record else { continue };
            let before = image.clone();
            image.apply(&record);
            assert_ne!(before, image, "a record changes something: {record:?}");
            granted.borrow_mut()[kind(&record)] += 1;
            check(&image, &mut heights);
            check_record(&before, &record, &image);

            replayed.apply(&Record::decode(&record.encode().unwrap()).unwrap());
            assert_eq!(replayed, image);
            assert_eq!(Image::decode(&image.encode().unwrap()).as_ref(), Ok(&image));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (granted, refused) = (granted.take(), refused.take());
    assert!(
        granted.iter().all(|&count| count >= 5) && refused >= 1_000,
        "{granted:?} {refused}"
    );
}

#[test]
fn records_about_what_is_not_there_change_nothing() {
    let (topic_id, broker_id) = (TopicId(Uuid::from_u128(1)), 1);
    let partition = TopicPartition {
        topic_id,
        partition: 0,
    };
    let appointment = millstream_metadata::Appointment {
        partition,
        leader: 1,
        leader_epoch: 1,
    };
    let mut image = Image::default();
    for record in [
        Record::BrokerFenced { broker_id },
        Record::TopicAltered {
            topic_id,
            config: TopicConfig::default(),
            added: Vec::new(),
        },
        Record::TopicDeleted { topic_id },
        Record::LeadersAppointed {
            appointments: vec![appointment],
        },
        Record::DeploymentRemoved { name: "k".into() },
    ] {
        image.apply(&record);
        assert_eq!(image, Image::default());
    }
}

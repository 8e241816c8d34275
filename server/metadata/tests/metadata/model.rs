//! Random commands: whatever is granted keeps the image whole, and the records make it again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use millstream_metadata::{BrokerState, DirectoryNumber, Image, Limits, Partition, Record};
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{ProducerId, TopicId, TopicPartition};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::commands::{beginning, resolve, steps};

/// What must not fall back, over the whole history.
#[derive(Default)]
struct Heights {
    partitions: BTreeMap<TopicPartition, Partition>,
    next_directory: DirectoryNumber,
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
            check_partition(image, topic.at(index), partition, heights);
        }
    }
    heights
        .partitions
        .retain(|at, _| ids.contains(&at.topic_id));
    assert!(heights.next_directory <= image.next_directory());
    heights.next_directory = image.next_directory();
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

fn check_partition(
    image: &Image,
    at: TopicPartition,
    partition: &Partition,
    heights: &mut Heights,
) {
    assert!(
        partition.member(partition.leader).is_some(),
        "{partition:?}"
    );
    assert!([1, 2, 3, 5].contains(&partition.replicas.len()));
    let mut directories = BTreeSet::new();
    for set in [&partition.replicas, &partition.next] {
        let brokers: BTreeSet<_> = set.iter().map(|it| it.broker_id).collect();
        assert_eq!(brokers.len(), set.len(), "no two replicas on one broker");
        for replica in set {
            assert!(image.broker(replica.broker_id).is_some());
            assert_eq!(
                partition.member(replica.broker_id),
                Some(replica),
                "one in both sets"
            );
            assert!(replica.directory < image.next_directory());
            directories.insert(replica.directory);
        }
    }
    assert_eq!(directories.len(), partition.members().count());
    assert!(partition.leader_directory < image.next_directory());
    let Some(before) = heights.partitions.insert(at, partition.clone()) else {
        return;
    };
    assert!(before.leader_epoch <= partition.leader_epoch);
    let leads = |it: &Partition| (it.leader, it.leader_directory);
    assert!(before.leader_epoch < partition.leader_epoch || leads(&before) == leads(partition));
    assert!(before.version < partition.version || before == *partition);
    for (now, was) in partition
        .members()
        .filter_map(|it| Some((it, before.member(it.broker_id)?)))
    {
        assert!(was.directory <= now.directory, "a later number is greater");
    }
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
            let live = |id| before.takes_new(id);
            assert!(
                topic
                    .partitions
                    .iter()
                    .flat_map(Partition::brokers)
                    .all(live)
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
        Record::BrokerRegistered {
            broker, redeemed, ..
        } => {
            let known = before.broker(broker.broker_id).is_some();
            let first = before.brokers().count() == 0;
            assert_eq!(redeemed.is_some(), !known && !first);
            assert!(after.is_live(broker.broker_id));
            let known = before.broker(broker.broker_id);
            let has_restarted = known.is_some_and(|it| {
                it.directory_id == broker.directory_id && it.incarnation < broker.incarnation
            });
            for ((_, was), (at, now)) in before.partitions().zip(after.partitions()) {
                let leads_on =
                    has_restarted && was.leader == broker.broker_id && was.leader_is_as_appointed();
                let epochs = u32::from(leads_on);
                assert_eq!(was.leader_epoch + epochs, now.leader_epoch, "{at}");
            }
        }
        Record::BrokerRemoved { broker_id } => assert_eq!(before.replicas_on(*broker_id), 0),
        Record::ReassignmentFinished { partition, .. } => {
            let (was, now) = (before.partition(*partition), after.partition(*partition));
            let (was, now) = (was.unwrap(), now.unwrap());
            assert_eq!(was.next, now.replicas);
            let stays = now.brokers().contains(&was.leader);
            assert_eq!(stays, was.leader_epoch == now.leader_epoch);
        }
        Record::LossAccepted { appointment, .. } => {
            let now = after.partition(appointment.partition).unwrap();
            assert_eq!(now.brokers(), [appointment.leader]);
            assert!(now.replicas[0].trusted && after.is_live(now.leader));
        }
        _ => {}
    }
}

fn kind(record: &Record) -> usize {
    usize::from(record.encode().unwrap()[1])
}

#[test]
fn random_commands_keep_the_image_whole() {
    let granted = RefCell::new([0u32; 19]);
    let refused = RefCell::new(0u32);
    let limits = Limits {
        topics: 4,
        partitions: 20,
        ..Limits::default()
    };
    // So many that the rarest record, a promotion, is met some dozens of times.
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1_024,
        failure_persistence: None,
        ..Default::default()
    });
    let result = runner.run(&steps(), |steps| {
        let (mut image, mut replayed) = (Image::default(), Image::default());
        let mut heights = Heights::default();
        for step in beginning().into_iter().chain(steps) {
            let Some(command) = resolve(step, &image) else {
                continue;
            };
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
        directory: DirectoryNumber(1),
        leader_epoch: 1,
    };
    let mut image = Image::default();
    for record in [
        Record::BrokerStateSet {
            broker_id,
            state: BrokerState::Fenced,
        },
        Record::BrokerRemoved { broker_id },
        Record::ReplicasTrusted {
            broker_id,
            replicas: vec![(partition, DirectoryNumber(1))],
        },
        Record::ReassignmentFinished {
            partition,
            appointment: Some(appointment),
        },
        Record::LossAccepted {
            appointment,
            by: "operator".into(),
            at_ms: 1,
        },
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

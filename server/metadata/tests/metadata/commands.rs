//! Random commands, for the model.

use millstream_metadata::{
    Actor, Command, DeploymentId, FeatureRange, Image, Join, Limits, OnExisting, Registration,
};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::peer::Lineage;
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{AlterTopic, CreateTopic, TopicConfig};
use millstream_protocol::{TopicId, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

use super::cluster::{NOW_MS, appoint, fence, hash, issue, plugin, register, registration, spec};

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "__own"];
const DEPLOYMENTS: [&str; 4] = ["k", "l", "m", "n"];

/// A command, or one that is made up from the image: at random it would hardly ever meet.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Run(Box<Command>),
    /// These are to lead, after the epochs that there are.
    Appoint(Vec<(TopicPartition, u32)>),
    /// This broker is fenced, in its last start.
    Fence(u32),
    /// This one, of the replicas that are not trusted, is.
    Trust(usize),
    /// This one, of the changes under way, is at its end.
    Finalise(usize),
    /// This one, of the replicas with which a partition may go on alone, is chosen.
    Accept(usize),
}

/// A history of which the most is about brokers and replicas, or about deployments.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mostly = prop_oneof![1 => Just((4, 0)), 2 => Just((1, 4))];
    mostly.prop_flat_map(|(replicas, deployments)| {
        let step = prop_oneof![
            replicas => about_brokers(),
            replicas => about_replicas(),
            1 + deployments => about_deployments(),
            2 => about_topics().prop_map(run),
        ];
        prop::collection::vec(step, 1..100)
    })
}

fn run(command: Command) -> Step {
    Step::Run(Box::new(command))
}

fn id() -> impl Strategy<Value = Uuid> {
    (1u128..12).prop_map(Uuid::from_u128)
}

fn broker() -> impl Strategy<Value = u32> {
    1u32..6
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (1u128..6, 0u32..3).prop_map(|(id, partition)| TopicPartition {
        topic_id: TopicId(Uuid::from_u128(id)),
        partition,
    })
}

/// How far a token is from the one that was made for a broker.
fn slip() -> impl Strategy<Value = u32> {
    prop::sample::select(&[0, 0, 0, 1, 2][..])
}

fn about_brokers() -> impl Strategy<Value = Step> {
    let directory = prop::sample::select(&[0u128, 0, 0, 100][..]);
    let drawn = (broker(), directory, 1u64..4, 1u32..3, slip());
    let registration = drawn.prop_map(|(broker_id, directory, incarnation, address, slip)| {
        let join = Join {
            token: hash(broker_id + slip),
            now_ms: NOW_MS,
        };
        let registration = Registration {
            broker_id,
            directory_id: Uuid::from_u128(directory + u128::from(broker_id)),
            incarnation,
            lineage: Lineage::new(Uuid::from_u128(9)),
            address: format!("b{address}:1"),
            rack: (broker_id > 2).then(|| "far".into()),
            features: FeatureRange::CURRENT,
            join: (slip < 2).then_some(join),
        };
        Command::RegisterBroker { registration }
    });
    let command = prop_oneof![
        1 => id().prop_map(|cluster_id| Command::FormCluster { cluster_id }),
        24 => registration,
        12 => (broker(), slip(), 0i64..3).prop_map(|(broker_id, slip, life)| {
            issue(broker_id, hash(broker_id + slip), NOW_MS + life)
        }),
        1 => broker().prop_map(|broker_id| Command::DrainBroker { broker_id }),
        2 => broker().prop_map(|broker_id| Command::UndrainBroker { broker_id }),
        1 => broker().prop_map(|broker_id| Command::RemoveBroker { broker_id }),
    ];
    prop_oneof![
        41 => command.prop_map(run),
        3 => broker().prop_map(Step::Fence),
    ]
}

fn about_replicas() -> impl Strategy<Value = Step> {
    let appointments = prop::collection::vec((partition(), broker()), 0..3);
    let partitions = prop::collection::vec(partition(), 0..3);
    let brokers = prop::collection::vec(broker(), 1..4);
    let command = prop_oneof![
        (broker(), partitions).prop_map(|(broker_id, partitions)| Command::RegisterReplicas {
            broker_id,
            partitions
        }),
        (partition(), brokers).prop_map(|it| Command::ReassignPartitions {
            reassignments: vec![it]
        }),
    ];
    prop_oneof![
        3 => command.prop_map(run),
        1 => appointments.prop_map(Step::Appoint),
        1 => (0usize..50).prop_map(Step::Trust),
        1 => (0usize..50).prop_map(Step::Finalise),
        1 => (0usize..50).prop_map(Step::Accept),
    ]
}

fn topic() -> impl Strategy<Value = String> {
    prop::sample::select(&TOPICS).prop_map(str::to_owned)
}

/// What concerns topics, and producer ids.
fn about_topics() -> impl Strategy<Value = Command> {
    let actor = || prop_oneof![4 => Just(Actor::User), 1 => Just(Actor::Broker)];
    let created = (id(), topic(), 0u32..4, actor(), 1u8..4);
    let created = created.prop_map(|(id, name, partitions, actor, replication_factor)| {
        let config = TopicConfig {
            replication_factor,
            ..TopicConfig::default()
        };
        let topic = CreateTopic {
            name,
            partitions,
            config,
        };
        let topic_id = TopicId(id);
        Command::CreateTopic {
            topic_id,
            topic,
            actor,
        }
    });
    let retention = prop::option::of(0u64..3);
    let altered = (topic(), prop::option::of(0u32..9), retention, actor());
    let altered = altered.prop_map(|(name, partitions, retention, actor)| {
        let change = AlterTopic {
            name,
            partitions,
            retention_ms: retention.map(Some),
            ..AlterTopic::default()
        };
        Command::AlterTopic { change, actor }
    });
    prop_oneof![
        8 => created,
        3 => altered,
        2 => (topic(), actor()).prop_map(|(topic, actor)| Command::DeleteTopic { topic, actor }),
        2 => (0u32..2_000).prop_map(|count| Command::AllocateProducerIds { count }),
    ]
}

fn about_deployments() -> impl Strategy<Value = Step> {
    let deployment = || prop::sample::select(&DEPLOYMENTS).prop_map(str::to_owned);
    let live = || prop::sample::select(&DEPLOYMENTS[..2]).prop_map(str::to_owned);
    let shadow = || prop::sample::select(&DEPLOYMENTS[2..]).prop_map(str::to_owned);
    let some_topics = || prop::collection::vec(prop::sample::select(&TOPICS[..4]), 0..3);
    let command = prop_oneof![
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
    ];
    command.prop_map(run)
}

/// The command of a step, if there is one for this image.
pub(crate) fn resolve(step: Step, image: &Image) -> Option<Command> {
    let replicas = || {
        let partitions = image.partitions();
        partitions.flat_map(|(at, it)| it.members().map(move |replica| (at, *replica)))
    };
    let nth = |nth, mut all: Vec<Command>| {
        let count = all.len();
        (count > 0).then(|| all.swap_remove(nth % count))
    };
    match step {
        Step::Run(command) => Some(*command),
        Step::Appoint(leaders) => Some(appoint(image, &leaders)),
        Step::Fence(broker_id) => Some(fence(image, broker_id)),
        Step::Trust(n) => {
            let untrusted = replicas().filter(|(_, it)| !it.trusted);
            let trust = untrusted.map(|(at, it)| Command::TrustReplicas {
                broker_id: it.broker_id,
                replicas: vec![(at, it.directory)],
            });
            nth(n, trust.collect())
        }
        Step::Finalise(n) => {
            let changing = image.partitions().filter(|(_, it)| it.is_changing());
            let finalise = changing.map(|(partition, it)| Command::FinaliseReassignment {
                partition,
                epoch: it.leader_epoch,
                version: it.version,
            });
            nth(n, finalise.collect())
        }
        Step::Accept(n) => {
            let accept = replicas().map(|(partition, it)| Command::AcceptLoss {
                partition,
                broker_id: it.broker_id,
                by: "operator".into(),
                at_ms: 9,
            });
            let allowed = accept.filter(|it| image.validate(it, &Limits::default()).is_ok());
            nth(n, allowed.collect())
        }
    }
}

/// Four brokers, and a topic on three of them.
pub(crate) fn beginning() -> Vec<Step> {
    let mut commands = vec![
        Command::FormCluster {
            cluster_id: Uuid::from_u128(1),
        },
        register(1),
    ];
    for broker_id in 2..=4 {
        let token = hash(broker_id);
        commands.push(issue(broker_id, token, NOW_MS + 1));
        commands.push(Command::RegisterBroker {
            registration: Registration {
                join: Some(Join {
                    token,
                    now_ms: NOW_MS,
                }),
                ..registration(broker_id)
            },
        });
    }
    let config = TopicConfig {
        replication_factor: 3,
        ..TopicConfig::default()
    };
    commands.push(Command::CreateTopic {
        topic_id: TopicId(Uuid::from_u128(1)),
        topic: CreateTopic {
            name: "a".into(),
            partitions: 3,
            config,
        },
        actor: Actor::User,
    });
    commands.into_iter().map(run).collect()
}

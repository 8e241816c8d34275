//! A cluster in the making: commands that must succeed, and commands that must not.

use millstream_metadata::names::{journal_input, journal_topic};
use millstream_metadata::{
    Actor, Broker, Command, CommandError, DeploymentId, FeatureRange, Image, Join, JoinToken,
    Limits, Nomination, OnExisting, Partition, Plugin, Record, Registration, Start, TokenHash,
};
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::peer::Lineage;
use millstream_protocol::api::plugin::{DeploymentSpec, OutputSpec};
use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
use millstream_protocol::{ErrorCode, TimestampMs, TopicId, TopicPartition};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) image: Image,
    pub(crate) limits: Limits,
    ids: u128,
}

impl Cluster {
    /// A formed cluster with these brokers.
    pub(crate) fn with_brokers(count: u32) -> Self {
        let mut cluster = Self::default();
        cluster.run(Command::FormCluster {
            cluster_id: Uuid::from_u128(1),
        });
        for broker_id in 1..=count {
            cluster.join(registration(broker_id));
        }
        cluster
    }

    /// A formed cluster with a broker in each of these racks, as often as the rack is named.
    pub(crate) fn with_racks(racks: &[&str]) -> Self {
        let mut cluster = Self::with_brokers(0);
        for (broker_id, rack) in (1..).zip(racks) {
            cluster.join(Registration {
                rack: Some((*rack).into()),
                ..registration(broker_id)
            });
        }
        cluster
    }

    /// Lets a new broker in, with a token unless it is the first.
    pub(crate) fn join(&mut self, registration: Registration) -> Record {
        let join = (self.image.brokers().count() > 0).then(|| {
            let token = hash(registration.broker_id);
            self.run(issue(registration.broker_id, token, NOW_MS + 1_000));
            Join {
                token,
                now_ms: NOW_MS,
            }
        });
        self.run(Command::RegisterBroker {
            registration: Registration {
                join,
                ..registration
            },
        })
    }

    /// One broker and these topics, of 3 partitions each.
    pub(crate) fn with_topics(names: &[&str]) -> Self {
        let mut cluster = Self::with_brokers(1);
        for name in names {
            cluster.create(name, 3);
        }
        cluster
    }

    pub(crate) fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Runs a command that is granted and changes something.
    pub(crate) fn run(&mut self, command: Command) -> Record {
        let record = self
            .image
            .validate(&command, &self.limits)
            .unwrap()
            .unwrap();
        self.image.apply(&record);
        record
    }

    /// Asserts that a command is granted and changes nothing.
    pub(crate) fn nothing(&self, command: Command) {
        assert_eq!(self.image.validate(&command, &self.limits), Ok(None));
    }

    /// Asserts that a command is refused, and how this reads.
    pub(crate) fn refused(&self, command: Command, code: ErrorCode, says: &str) -> CommandError {
        let error = self.image.validate(&command, &self.limits).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, says));
        assert_eq!(error.to_wire().message, says);
        error
    }

    pub(crate) fn create(&mut self, name: &str, partitions: u32) -> TopicId {
        let topic_id = TopicId(self.next_id());
        self.run(create(topic_id, topic(name, partitions)));
        topic_id
    }

    /// As [`Self::create`], with this many replicas.
    pub(crate) fn create_replicated(&mut self, name: &str, partitions: u32, factor: u8) -> TopicId {
        let topic_id = TopicId(self.next_id());
        let config = TopicConfig {
            replication_factor: factor,
            ..TopicConfig::default()
        };
        let topic = CreateTopic {
            config,
            ..topic(name, partitions)
        };
        self.run(create(topic_id, topic));
        topic_id
    }

    /// A topic for a deployment's journals of this one, asked for with one replica.
    pub(crate) fn create_journal(&mut self, input: TopicId) -> TopicId {
        let name = journal_topic(DeploymentId(self.next_id()), input);
        let partitions = self.image.topic_by_id(input).unwrap().partitions.len();
        let topic_id = TopicId(self.next_id());
        self.run(Command::CreateTopic {
            topic_id,
            topic: topic(&name, partitions as u32),
            actor: Actor::Broker,
        });
        topic_id
    }

    /// Journals with their inputs, partition by partition.
    pub(crate) fn journals(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, &Partition, &Partition)> {
        self.image.partitions().filter_map(|(at, journal)| {
            let name = &self.image.topic_by_id(at.topic_id)?.name;
            let input = TopicPartition {
                topic_id: journal_input(name)?,
                ..at
            };
            Some((at, journal, self.image.partition(input)?))
        })
    }

    pub(crate) fn partition(&self, at: TopicPartition) -> &Partition {
        self.image.partition(at).unwrap()
    }

    pub(crate) fn fence(&mut self, broker_id: u32) {
        self.run(fence(&self.image, broker_id));
    }

    pub(crate) fn deploy(&mut self, spec: DeploymentSpec) -> Record {
        let deployment_id = DeploymentId(self.next_id());
        self.run(put(deployment_id, spec))
    }
}

/// What a broker says of itself at its first start.
pub(crate) fn registration(broker_id: u32) -> Registration {
    Registration {
        broker_id,
        directory_id: Uuid::from_u128(u128::from(broker_id)),
        incarnation: 1,
        lineage: Lineage::new(Uuid::from_u128(9)),
        address: format!("b{broker_id}:9092"),
        rack: None,
        features: FeatureRange::CURRENT,
        join: None,
    }
}

pub(crate) fn register(broker_id: u32) -> Command {
    let registration = registration(broker_id);
    Command::RegisterBroker { registration }
}

/// The time at which tokens are issued and redeemed.
pub(crate) const NOW_MS: TimestampMs = 1_700_000_000_000;

/// The hash of a token.
pub(crate) fn hash(token: u32) -> TokenHash {
    let mut hash = [7; 32];
    hash[..4].copy_from_slice(&token.to_be_bytes());
    TokenHash(hash)
}

/// Lets this broker in with that token.
pub(crate) fn issue(broker_id: u32, hash: TokenHash, expires_at_ms: TimestampMs) -> Command {
    let token = JoinToken {
        hash,
        broker_id,
        issued_at_ms: NOW_MS,
        expires_at_ms,
        issued_by: "operator".into(),
    };
    Command::IssueJoinToken { token }
}

pub(crate) fn at(topic_id: TopicId, partition: u32) -> TopicPartition {
    TopicPartition {
        topic_id,
        partition,
    }
}

/// Appoints these, each after the epoch that its partition is in.
pub(crate) fn appoint(image: &Image, leaders: &[(TopicPartition, u32)]) -> Command {
    let nominate = |(partition, leader): &(TopicPartition, u32)| Nomination {
        partition: *partition,
        leader: *leader,
        after: image.partition(*partition).map_or(0, |it| it.leader_epoch),
    };
    Command::AppointLeaders {
        nominations: leaders.iter().map(nominate).collect(),
    }
}

/// Fences a broker as it has registered last.
pub(crate) fn fence(image: &Image, broker_id: u32) -> Command {
    let known = image.broker(broker_id);
    let start = known.map_or_else(|| start(broker_id, 1), Broker::start);
    Command::FenceBroker { broker_id, start }
}

/// A start on a broker's first data directory.
pub(crate) fn start(broker_id: u32, incarnation: u64) -> Start {
    Start {
        directory_id: Uuid::from_u128(u128::from(broker_id)),
        incarnation,
    }
}

pub(crate) fn reassign(partition: TopicPartition, brokers: &[u32]) -> Command {
    Command::ReassignPartitions {
        reassignments: vec![(partition, brokers.to_vec())],
    }
}

pub(crate) fn topic(name: &str, partitions: u32) -> CreateTopic {
    CreateTopic {
        name: name.into(),
        partitions,
        config: TopicConfig::default(),
    }
}

pub(crate) fn create(topic_id: TopicId, topic: CreateTopic) -> Command {
    Command::CreateTopic {
        topic_id,
        topic,
        actor: Actor::User,
    }
}

pub(crate) fn spec(name: &str, inputs: &[&str], outputs: &[&str]) -> DeploymentSpec {
    let output = |topic: &&str| OutputSpec {
        name: format!("to-{topic}"),
        topic: (*topic).into(),
    };
    DeploymentSpec {
        inputs: inputs.iter().map(|&input| input.into()).collect(),
        outputs: outputs.iter().map(output).collect(),
        config: vec![("threshold".into(), "4.5".into())],
        ..DeploymentSpec::new(name)
    }
}

pub(crate) fn plugin() -> Plugin {
    Plugin {
        digest: "0123456789abcdef".repeat(4),
        component_bytes: 70_000,
        imports: vec!["wasi:logging/logging".into()],
    }
}

pub(crate) fn put(deployment_id: DeploymentId, spec: DeploymentSpec) -> Command {
    Command::PutDeployment {
        deployment_id,
        spec,
        plugin: plugin(),
        deployed_at_ms: 1_700_000_000_000,
        on_existing: OnExisting::Refuse,
        by: "operator".into(),
        change: RevisionChange::Deployed,
        replay: None,
    }
}

//! A cluster in the making: commands that must succeed, and commands that must not.

use millstream_metadata::{
    Actor, Command, CommandError, DeploymentId, Image, Limits, OnExisting, Plugin, Record,
};
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::plugin::{DeploymentSpec, OutputSpec};
use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
use millstream_protocol::{ErrorCode, TopicId};
use uuid::Uuid;

#[derive(Default)]
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
            cluster.run(register(broker_id));
        }
        cluster
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

    pub(crate) fn deploy(&mut self, spec: DeploymentSpec) -> Record {
        let deployment_id = DeploymentId(self.next_id());
        self.run(put(deployment_id, spec))
    }
}

pub(crate) fn register(broker_id: u32) -> Command {
    let directory_id = Uuid::from_u128(u128::from(broker_id));
    Command::RegisterBroker {
        broker_id,
        directory_id,
        address: format!("b{broker_id}:9092"),
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

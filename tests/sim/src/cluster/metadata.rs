//! The metadata quorum, as one node that does not fail, with the very image, rules and steward that
//! brokers have.

use std::collections::BTreeMap;

use millstream_metadata::beat::{Leads, Report};
use millstream_metadata::steward::Patience;
use millstream_metadata::{
    Actor, BeatAnswer, Command, FeatureRange, Image, Join, JoinToken, Limits, Partition, Record,
    Registration, Session, Start, Steward, TokenHash,
};
use millstream_protocol::api::peer::Lineage;
use millstream_protocol::api::topic::{self, CreateTopic, TopicConfig};
use millstream_protocol::{LeaderEpoch, TopicPartition};
use millstream_replication::{Appointment, BrokerId, DirectoryId, Durability, ReplicaSet};
use uuid::Uuid;

use super::dice::Dice;
use super::layout::Layout;
use super::packet::{Assigned, Beat, Decision, Standing};

#[derive(Debug)]
pub(crate) struct Metadata {
    dice: Dice,
    image: Image,
    /// How often the image has changed.
    revision: u64,
    steward: Steward,
    durability: Durability,
    pub(crate) finalised: u64,
}

impl Metadata {
    /// Brokers register with their disks, and the partitions are made.
    pub(crate) fn new(
        dice: Dice,
        layout: Layout,
        disks: &BTreeMap<BrokerId, u64>,
        replication_factor: u8,
        durability: Durability,
    ) -> Self {
        let mut metadata = Self {
            dice,
            image: Image::default(),
            revision: 0,
            steward: steward(),
            durability,
            finalised: 0,
        };
        metadata.execute(Command::FormCluster {
            cluster_id: Uuid::from_u128(1),
        });
        for (broker, disk) in disks {
            let hash = TokenHash([*broker as u8; 32]);
            metadata.execute(Command::IssueJoinToken {
                token: JoinToken {
                    hash,
                    broker_id: *broker,
                    issued_at_ms: 0,
                    expires_at_ms: 1,
                    issued_by: "operator".to_owned(),
                },
            });
            let join = Join {
                token: hash,
                now_ms: 0,
            };
            metadata.register_broker(*broker, 0, *disk, Some(join));
        }
        let durability = match durability {
            Durability::Sync => topic::Durability::Sync,
            Durability::Relaxed => topic::Durability::Relaxed,
        };
        for (topic_id, name, partitions) in layout.topics() {
            let made = metadata.execute(Command::CreateTopic {
                topic_id,
                topic: CreateTopic {
                    name,
                    partitions,
                    config: TopicConfig {
                        durability,
                        replication_factor,
                        ..TopicConfig::default()
                    },
                },
                actor: Actor::Broker,
            });
            assert!(made, "a topic is made");
        }
        metadata
    }

    /// Carries a command out, if it is granted. `false` if nothing has changed.
    fn execute(&mut self, command: Command) -> bool {
        let Ok(Some(record)) = self.image.validate(&command, &Limits::default()) else {
            return false;
        };
        let read_back = record.encode().and_then(|bytes| Record::decode(&bytes));
        assert!(read_back.as_ref() == Ok(&record), "a record is read back");
        self.image.apply(&record);
        self.revision += 1;
        true
    }

    /// Does what the steward says, until it has nothing more to say.
    fn decide(&mut self, now_us: u64) {
        loop {
            let commands = self
                .steward
                .decide(now_us / 1_000, self.revision, &self.image);
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let granted = self.execute(command.clone());
                assert!(granted, "what is decided is granted: {command:?}");
            }
        }
    }

    fn partition(&self, at: TopicPartition) -> Option<&Partition> {
        self.image.partition(at)
    }

    pub(crate) fn leader(&self, at: TopicPartition) -> BrokerId {
        self.partition(at).map_or(1, |it| it.leader)
    }

    /// A partition's replicas.
    pub(crate) fn replicas(&self, at: TopicPartition) -> ReplicaSet {
        let brokers = |replicas: &[millstream_metadata::Replica]| -> Vec<BrokerId> {
            replicas.iter().map(|it| it.broker_id).collect()
        };
        let set = self.partition(at).and_then(|partition| {
            let (current, next) = (brokers(&partition.replicas), brokers(&partition.next));
            match next.is_empty() {
                true => ReplicaSet::new(&current),
                false => ReplicaSet::changing(&current, &next),
            }
        });
        set.unwrap_or_default()
    }

    fn decision_for(&self, broker: BrokerId, at: TopicPartition) -> Option<Decision> {
        let partition = self.partition(at)?;
        let directories = partition.members();
        let directories = directories.map(|it| (it.broker_id, DirectoryId(it.directory.0)));
        let appointment = Appointment {
            version: partition.version,
            epoch: partition.leader_epoch,
            leader: partition.leader,
            replicas: self.replicas(at),
            directories: directories.collect(),
            durability: self.durability,
            accepted: None,
        };
        Some(Decision {
            at,
            registered: self.registered(broker)?,
            appointment,
            assigned: self.assigned(broker, at),
        })
    }

    /// The start and the disk with which a broker is registered.
    pub(crate) fn registered(&self, broker: BrokerId) -> Option<(u64, u64)> {
        let known = self.image.broker(broker)?;
        Some((known.incarnation - 1, known.directory_id.as_u128() as u64))
    }

    fn assigned(&self, broker: BrokerId, at: TopicPartition) -> Option<Assigned> {
        let partition = self.partition(at)?;
        let replica = partition.member(broker)?;
        // Who is appointed with this very directory has nobody's promise to remember but its own.
        let is_leader =
            partition.leader == broker && partition.leader_directory == replica.directory;
        Some(Assigned {
            directory: DirectoryId(replica.directory.0),
            epoch: partition.leader_epoch - LeaderEpoch::from(is_leader),
            replaces: !replica.trusted,
        })
    }

    fn register_broker(&mut self, broker: BrokerId, boot: u64, disk: u64, join: Option<Join>) {
        let start = start(boot, disk);
        self.execute(Command::RegisterBroker {
            registration: Registration {
                broker_id: broker,
                directory_id: start.directory_id,
                incarnation: start.incarnation,
                lineage: Lineage::new(Uuid::from_u128(9)),
                address: address(broker),
                rack: None,
                features: FeatureRange::CURRENT,
                join,
            },
        });
    }

    /// Whether a broker is known as it says that it is.
    fn is_as_known(&self, broker: BrokerId, beat: &Beat) -> bool {
        let known = self.image.broker(broker);
        self.image.is_live(broker)
            && known.is_some_and(|known| known.start() == start(beat.boot, beat.disk))
    }

    /// A broker is alive. What it does not know yet is the answer.
    pub(crate) fn beat(&mut self, broker: BrokerId, beat: &Beat, now_us: u64) -> Vec<Decision> {
        if !self.is_as_known(broker, beat) {
            self.register_broker(broker, beat.boot, beat.disk, None);
        }
        if !self.hears(broker, beat, now_us) {
            return Vec::new();
        }
        for standing in &beat.standings {
            self.trust(broker, standing);
        }
        self.decide(now_us);
        let news = beat.standings.iter().filter_map(|standing| {
            let version = self.partition(standing.at)?.version;
            (standing.version < version)
                .then(|| self.decision_for(broker, standing.at))
                .flatten()
        });
        news.collect()
    }

    /// A replica says that it counts again.
    fn trust(&mut self, broker: BrokerId, standing: &Standing) {
        let Some(directory) = standing.trusted else {
            return;
        };
        let directory = millstream_metadata::DirectoryNumber(directory.0);
        let replica = self.partition(standing.at).and_then(|it| it.member(broker));
        if replica.is_some_and(|it| it.directory == directory && !it.trusted) {
            self.execute(Command::TrustReplicas {
                broker_id: broker,
                replicas: vec![(standing.at, directory)],
            });
        }
    }

    /// Tells the steward of a beat. Whether it is the broker's that is known.
    fn hears(&mut self, broker: BrokerId, beat: &Beat, now_us: u64) -> bool {
        let leads = beat.standings.iter().map(|standing| {
            let leads = standing.leads.map(|epoch| Leads {
                epoch,
                is_whole: false,
            });
            (standing.at, leads)
        });
        let beat = millstream_metadata::Beat {
            broker_id: broker,
            start: start(beat.boot, beat.disk),
            address: address(broker),
            number: beat.number,
            revision: self.revision,
            is_full: false,
            report: Some(Report {
                since: None,
                leads: leads.collect(),
                has_more: false,
            }),
        };
        let answer = self.steward.beat(now_us / 1_000, &self.image, &beat);
        matches!(answer, BeatAnswer::Heard { .. })
    }

    /// A replica's directory is lost. Asking twice gives the same answer.
    pub(crate) fn register(
        &mut self,
        broker: BrokerId,
        at: TopicPartition,
        instead_of: Option<DirectoryId>,
        now_us: u64,
    ) -> Option<Assigned> {
        let known = self.assigned(broker, at)?;
        let was_answered = known.replaces && instead_of.is_none_or(|lost| lost < known.directory);
        if !was_answered {
            self.execute(Command::RegisterReplicas {
                broker_id: broker,
                partitions: vec![at],
            });
            self.decide(now_us);
        }
        self.assigned(broker, at)
    }

    /// Looks after the cluster.
    pub(crate) fn watch(&mut self, now_us: u64) {
        self.decide(now_us);
    }

    /// Appoints a broker that is live, this one if it can be.
    pub(crate) fn appoint(&mut self, at: TopicPartition, wish: Option<BrokerId>) {
        let members = self.replicas(at);
        let live: Vec<BrokerId> = members
            .members()
            .filter(|it| self.image.is_live(*it))
            .collect();
        let wish = wish.filter(|it| live.contains(it));
        if let Some(leader) = wish.or_else(|| self.dice.pick(&live)) {
            let nomination = self.partition(at).map(|it| it.nominate(at, leader));
            self.execute(Command::AppointLeaders {
                nominations: nomination.into_iter().collect(),
            });
        }
    }

    /// Other replicas are to take the place of these.
    pub(crate) fn reassign(&mut self, at: TopicPartition, to: &[BrokerId]) {
        self.execute(Command::ReassignPartitions {
            reassignments: vec![(at, to.to_vec())],
        });
    }

    /// A leader says that the new replicas have everything.
    pub(crate) fn finalise(&mut self, partition: TopicPartition, epoch: LeaderEpoch, version: u64) {
        let done = self.execute(Command::FinaliseReassignment {
            partition,
            epoch,
            version,
        });
        self.finalised += u64::from(done);
    }
}

/// It is on a node that is no broker.
fn steward() -> Steward {
    Steward::new(0, start(0, 0), Session(1), Patience::default(), 0)
}

fn start(boot: u64, disk: u64) -> Start {
    Start {
        directory_id: Uuid::from_u128(disk.into()),
        incarnation: boot + 1,
    }
}

fn address(broker: BrokerId) -> String {
    format!("10.0.0.{broker}:9092")
}

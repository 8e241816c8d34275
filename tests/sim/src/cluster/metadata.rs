//! The metadata quorum, as one node that does not fail, with the very image and rules that brokers
//! have: it watches brokers, has leaders appointed and replicas changed.

use std::collections::BTreeMap;

use millstream_metadata::plan::elections;
use millstream_metadata::{
    Actor, Command, FeatureRange, Image, Join, JoinToken, Limits, Partition, Record, Registration,
    TokenHash,
};
use millstream_protocol::LeaderEpoch;
use millstream_protocol::api::topic::{self, CreateTopic, TopicConfig};
use millstream_replication::{Appointment, BrokerId, DirectoryId, Durability, ReplicaSet};
use uuid::Uuid;

use super::broker::PARTITION;
use super::dice::Dice;
use super::packet::{Assigned, Beat, Decision};

/// A broker that is silent for longer is taken for dead.
const DEAD_AFTER_US: u64 = 500_000;

/// A leader that does not lead by then is replaced.
const ACTIVE_WITHIN_US: u64 = 700_000;

#[derive(Debug)]
pub(crate) struct Metadata {
    dice: Dice,
    image: Image,
    /// When each broker was last heard of.
    heard_us: BTreeMap<BrokerId, u64>,
    now_us: u64,
    appointed_at_us: u64,
    /// The leader of the newest epoch leads.
    active: bool,
    durability: Durability,
    pub(crate) finalised: u64,
}

impl Metadata {
    /// Brokers register with their disks, and the partition is made.
    pub(crate) fn new(
        dice: Dice,
        disks: &BTreeMap<BrokerId, u64>,
        replication_factor: u8,
        durability: Durability,
    ) -> Self {
        let mut metadata = Self {
            dice,
            image: Image::default(),
            heard_us: BTreeMap::new(),
            now_us: 0,
            appointed_at_us: 0,
            active: false,
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
        metadata.execute(Command::CreateTopic {
            topic_id: PARTITION.topic_id,
            topic: CreateTopic {
                name: "events".to_owned(),
                partitions: 1,
                config: TopicConfig {
                    durability,
                    replication_factor,
                    ..TopicConfig::default()
                },
            },
            actor: Actor::User,
        });
        metadata
    }

    /// Carries a command out, if it is granted. `false` if nothing has changed.
    fn execute(&mut self, command: Command) -> bool {
        let Ok(Some(record)) = self.image.validate(&command, &Limits::default()) else {
            return false;
        };
        let read_back = record.encode().and_then(|bytes| Record::decode(&bytes));
        assert!(read_back.as_ref() == Ok(&record), "a record is read back");
        let epoch = self.epoch();
        self.image.apply(&record);
        if self.epoch() > epoch {
            self.appointed_at_us = self.now_us;
            self.active = false;
        }
        true
    }

    fn execute_all(&mut self, commands: Vec<Command>) {
        for command in commands {
            self.execute(command);
        }
    }

    fn partition(&self) -> Option<&Partition> {
        self.image.partition(PARTITION)
    }

    fn epoch(&self) -> LeaderEpoch {
        self.partition().map_or(0, |it| it.leader_epoch)
    }

    pub(crate) fn leader(&self) -> BrokerId {
        self.partition().map_or(1, |it| it.leader)
    }

    /// The partition's replicas.
    pub(crate) fn replicas(&self) -> ReplicaSet {
        let brokers = |replicas: &[millstream_metadata::Replica]| -> Vec<BrokerId> {
            replicas.iter().map(|it| it.broker_id).collect()
        };
        let set = self.partition().and_then(|partition| {
            let (current, next) = (brokers(&partition.replicas), brokers(&partition.next));
            match next.is_empty() {
                true => ReplicaSet::new(&current),
                false => ReplicaSet::changing(&current, &next),
            }
        });
        set.unwrap_or_default()
    }

    fn decision_for(&self, broker: BrokerId) -> Option<Decision> {
        let partition = self.partition()?;
        let directories = partition.members();
        let directories = directories.map(|it| (it.broker_id, DirectoryId(it.directory.0)));
        let appointment = Appointment {
            version: partition.version,
            epoch: partition.leader_epoch,
            leader: partition.leader,
            replicas: self.replicas(),
            directories: directories.collect(),
            durability: self.durability,
        };
        Some(Decision {
            registered: self.registered(broker)?,
            appointment,
            assigned: self.assigned(broker),
        })
    }

    /// The start and the disk with which a broker is registered.
    pub(crate) fn registered(&self, broker: BrokerId) -> Option<(u64, u64)> {
        let known = self.image.broker(broker)?;
        Some((known.incarnation - 1, known.directory_id.as_u128() as u64))
    }

    fn assigned(&self, broker: BrokerId) -> Option<Assigned> {
        let partition = self.partition()?;
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
        let registered = self.execute(Command::RegisterBroker {
            registration: Registration {
                broker_id: broker,
                directory_id: Uuid::from_u128(disk.into()),
                incarnation: boot + 1,
                address: format!("10.0.0.{broker}:9092"),
                rack: None,
                features: FeatureRange::CURRENT,
                join,
            },
        });
        if registered {
            self.execute_all(elections(&self.image));
        }
    }

    /// Whether a broker is known as it says that it is.
    fn is_as_known(&self, broker: BrokerId, beat: &Beat) -> bool {
        self.image.is_live(broker)
            && self.image.broker(broker).is_some_and(|known| {
                known.incarnation == beat.boot + 1
                    && known.directory_id == Uuid::from_u128(beat.disk.into())
            })
    }

    /// A broker is alive. What it does not know yet is the answer.
    pub(crate) fn beat(&mut self, broker: BrokerId, beat: Beat, now_us: u64) -> Option<Decision> {
        self.now_us = now_us;
        if !self.is_as_known(broker, &beat) {
            self.register_broker(broker, beat.boot, beat.disk, None);
            if !self.is_as_known(broker, &beat) {
                return None;
            }
        }
        self.heard_us.insert(broker, now_us);
        if let Some(directory) = beat.trusted {
            let directory = millstream_metadata::DirectoryNumber(directory.0);
            let replica = self.partition().and_then(|it| it.member(broker));
            if replica.is_some_and(|it| it.directory == directory && !it.trusted) {
                self.execute(Command::TrustReplicas {
                    broker_id: broker,
                    replicas: vec![(PARTITION, directory)],
                });
            }
        }
        if broker == self.leader() {
            let leads = beat.leads == Some(self.epoch());
            if self.active && !leads {
                // It led, and does not any more.
                self.appointed_at_us = 0;
            }
            self.active = leads;
        }
        let version = self.partition()?.version;
        (beat.version < version)
            .then(|| self.decision_for(broker))
            .flatten()
    }

    /// A replica's directory is lost. Asking twice gives the same answer.
    pub(crate) fn register(
        &mut self,
        broker: BrokerId,
        instead_of: Option<DirectoryId>,
        now_us: u64,
    ) -> Option<Assigned> {
        self.now_us = now_us;
        let known = self.assigned(broker)?;
        let was_answered = known.replaces && instead_of.is_none_or(|lost| lost < known.directory);
        if !was_answered {
            self.execute(Command::RegisterReplicas {
                broker_id: broker,
                partitions: vec![PARTITION],
            });
            self.execute_all(elections(&self.image));
        }
        self.assigned(broker)
    }

    /// Fences brokers that are silent, and replaces a leader that does not get to lead.
    pub(crate) fn watch(&mut self, now_us: u64) {
        self.now_us = now_us;
        let known = self.image.brokers();
        let known: Vec<_> = known.map(|it| (it.broker_id, it.start())).collect();
        for (broker, start) in known {
            let heard_us = self.heard_us.get(&broker).copied().unwrap_or(0);
            if self.image.is_live(broker) && heard_us + DEAD_AFTER_US < now_us {
                self.execute(Command::FenceBroker {
                    broker_id: broker,
                    start,
                });
                self.execute_all(elections(&self.image));
            }
        }
        if !self.active && self.appointed_at_us + ACTIVE_WITHIN_US < now_us {
            self.appoint(now_us, None);
        }
    }

    /// Appoints a broker that is live, this one if it can be.
    pub(crate) fn appoint(&mut self, now_us: u64, wish: Option<BrokerId>) {
        self.now_us = now_us;
        let members = self.replicas();
        let live: Vec<BrokerId> = members
            .members()
            .filter(|it| self.image.is_live(*it))
            .collect();
        let wish = wish.filter(|it| live.contains(it));
        if let Some(leader) = wish.or_else(|| self.dice.pick(&live)) {
            let nomination = self.partition().map(|it| it.nominate(PARTITION, leader));
            self.execute(Command::AppointLeaders {
                nominations: nomination.into_iter().collect(),
            });
        }
    }

    /// Other replicas are to take the place of these.
    pub(crate) fn reassign(&mut self, to: &[BrokerId], now_us: u64) {
        self.now_us = now_us;
        self.execute(Command::ReassignPartitions {
            reassignments: vec![(PARTITION, to.to_vec())],
        });
    }

    /// A leader says that the new replicas have everything.
    pub(crate) fn finalise(&mut self, epoch: LeaderEpoch, version: u64, now_us: u64) {
        self.now_us = now_us;
        let partition = PARTITION;
        let done = self.execute(Command::FinaliseReassignment {
            partition,
            epoch,
            version,
        });
        self.finalised += u64::from(done);
    }
}

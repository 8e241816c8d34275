//! Partitions: their replicas, and who leads them.

use millstream_protocol::{LeaderEpoch, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerId;
use crate::image::Image;

/// The epoch of a partition's first leadership. 0 stands for none.
pub const FIRST_LEADER_EPOCH: LeaderEpoch = 1;

/// The version of a partition that was just made.
pub const FIRST_VERSION: u64 = 1;

/// The number of the directory that holds a replica. The image hands them out, a later one is
/// greater, and none twice: a directory that was emptied, replaced or damaged gets another.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct DirectoryNumber(pub u64);

impl DirectoryNumber {
    /// The one that is handed out first.
    pub const FIRST: Self = Self(1);

    /// The one that is handed out behind it.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Takes this one.
    pub(crate) fn take(&mut self) -> Self {
        let taken = *self;
        *self = taken.next();
        taken
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The broker that leads it.
    pub leader: BrokerId,
    /// The directory with which it was appointed. If its replica has another one by now, it does
    /// not lead.
    pub leader_directory: DirectoryNumber,
    /// The epoch of its leadership; rises with every appointment.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of the partition.
    pub version: u64,
    /// The replicas, the preferred leader first.
    pub replicas: Vec<Replica>,
    /// Those that are to take their place, the preferred leader first; empty if the set does not
    /// change. A broker that is in both sets has the same replica in both.
    pub next: Vec<Replica>,
    /// The last loss that an operator has accepted for it.
    pub accepted_loss: Option<AcceptedLoss>,
}

/// One replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The broker that keeps it.
    pub broker_id: BrokerId,
    /// The directory that it is in.
    pub directory: DirectoryNumber,
    /// Whether all that it has ever acknowledged is there, as far as the metadata knows. A new
    /// directory in the place of another is not trusted until it has what it lacks.
    pub trusted: bool,
}

/// An operator's word that a partition goes on without what its other replicas had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// Who.
    pub by: String,
    /// When.
    pub at_ms: TimestampMs,
    /// The epoch in which the partition went on.
    pub leader_epoch: LeaderEpoch,
}

impl Replica {
    /// A replica of a new partition, or one more of an old one.
    pub fn new(broker_id: BrokerId, directory: DirectoryNumber) -> Self {
        Self {
            broker_id,
            directory,
            trusted: true,
        }
    }

    pub(crate) fn renew(&mut self, directory: DirectoryNumber) {
        self.directory = directory;
        self.trusted = false;
    }
}

impl Partition {
    /// A new partition, led by the first of its replicas. `None` if there are none.
    pub fn new(replicas: Vec<Replica>) -> Option<Self> {
        let leader = *replicas.first()?;
        Some(Self {
            leader: leader.broker_id,
            leader_directory: leader.directory,
            leader_epoch: FIRST_LEADER_EPOCH,
            version: FIRST_VERSION,
            replicas,
            next: Vec::new(),
            accepted_loss: None,
        })
    }

    /// Whether its replicas change.
    pub fn is_changing(&self) -> bool {
        !self.next.is_empty()
    }

    /// The replicas that it has once no change is under way, the preferred leader first. A
    /// majority of them commits.
    pub fn target(&self) -> &[Replica] {
        if self.is_changing() {
            &self.next
        } else {
            &self.replicas
        }
    }

    /// All replicas of both sets, each once.
    pub fn members(&self) -> impl Iterator<Item = &Replica> {
        let is_new = |new: &&Replica| !has(&self.replicas, new.broker_id);
        self.replicas.iter().chain(self.next.iter().filter(is_new))
    }

    /// The replica that this broker keeps, in either set.
    pub fn member(&self, broker_id: BrokerId) -> Option<&Replica> {
        self.members().find(|it| it.broker_id == broker_id)
    }

    /// Whether its leader still has the directory with which it was appointed.
    pub fn leader_is_as_appointed(&self) -> bool {
        let leader = self.member(self.leader);
        leader.is_some_and(|it| it.directory == self.leader_directory)
    }

    /// Changes this broker's replica, in both sets. Whether there is one.
    pub(crate) fn change_member(
        &mut self,
        broker_id: BrokerId,
        change: impl Fn(&mut Replica),
    ) -> bool {
        let members = self.replicas.iter_mut().chain(&mut self.next);
        let mut found = false;
        for member in members.filter(|it| it.broker_id == broker_id) {
            change(member);
            found = true;
        }
        if found {
            self.touch();
        }
        found
    }

    /// It has changed.
    pub(crate) fn touch(&mut self) {
        self.version = self.version.saturating_add(1);
    }
}

impl Image {
    /// All partitions, by their topics' identities.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.topics.values().flat_map(|topic| {
            (0..)
                .zip(&topic.partitions)
                .map(|(partition, it)| (topic.at(partition), it))
        })
    }

    /// Whether a partition's leader is there, with the directory with which it was appointed.
    /// Whether it leads by now, only the leader knows.
    pub fn has_leader(&self, partition: &Partition) -> bool {
        self.is_live(partition.leader) && partition.leader_is_as_appointed()
    }

    /// Whether so many replicas of a partition are there and whole that a leader can seal: half of
    /// each set.
    pub fn can_be_sealed(&self, partition: &Partition) -> bool {
        let half = |set: &[Replica]| {
            let whole = set.iter().filter(|it| self.is_whole(it)).count();
            whole * 2 >= set.len()
        };
        half(&partition.replicas) && half(&partition.next)
    }

    pub(crate) fn partition_mut(&mut self, at: TopicPartition) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&at.topic_id)?;
        topic.partitions.get_mut(at.partition as usize)
    }

    /// Those of the members for which `counts` says so are a majority of each of the sets.
    pub(crate) fn is_majority(partition: &Partition, counts: impl Fn(&Replica) -> bool) -> bool {
        let majority = |set: &[Replica]| set.iter().filter(|it| counts(it)).count() * 2 > set.len();
        majority(&partition.replicas) && (!partition.is_changing() || majority(&partition.next))
    }

    /// Notes that the directory numbers of these replicas are handed out.
    pub(crate) fn hand_out<'a>(&mut self, replicas: impl IntoIterator<Item = &'a Replica>) {
        let highest = replicas.into_iter().map(|it| it.directory.next()).max();
        self.next_directory = self.next_directory.max(highest.unwrap_or_default());
    }
}

/// Whether this broker is in the set.
pub(crate) fn has(set: &[Replica], broker_id: BrokerId) -> bool {
    set.iter().any(|it| it.broker_id == broker_id)
}

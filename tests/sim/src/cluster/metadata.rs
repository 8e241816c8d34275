//! The metadata quorum, as one node that does not fail: it watches brokers, appoints leaders and
//! changes replicas.

use std::collections::BTreeMap;

use millstream_protocol::LeaderEpoch;
use millstream_replication::{Appointment, BrokerId, DirectoryId, Durability, ReplicaSet};

use super::dice::Dice;
use super::packet::{Assigned, Beat, Decision};

/// A broker that is silent for longer is taken for dead.
const DEAD_AFTER_US: u64 = 500_000;

/// A leader that does not lead by then is replaced.
const ACTIVE_WITHIN_US: u64 = 700_000;

#[derive(Debug)]
struct Known {
    beat: Beat,
    at_us: u64,
}

#[derive(Debug)]
pub(crate) struct Metadata {
    dice: Dice,
    version: u64,
    epoch: LeaderEpoch,
    leader: BrokerId,
    /// Which start of the leader's process was appointed.
    leader_boot: u64,
    appointed_at_us: u64,
    active: bool,
    pub(crate) replicas: ReplicaSet,
    assigned: BTreeMap<BrokerId, Assigned>,
    next_directory: u64,
    brokers: BTreeMap<BrokerId, Known>,
    durability: Durability,
    pub(crate) appointments: u64,
    pub(crate) finalised: u64,
    /// For how long no leader was active at a time, microseconds.
    pub(crate) gaps_us: Vec<u64>,
    inactive_since_us: Option<u64>,
}

impl Metadata {
    /// The partition is made: `disks` has the identities of the brokers' disks.
    pub(crate) fn new(
        dice: Dice,
        replicas: ReplicaSet,
        disks: &BTreeMap<BrokerId, u64>,
        durability: Durability,
    ) -> Self {
        let mut metadata = Self {
            dice,
            version: 1,
            epoch: 0,
            leader: 0,
            leader_boot: 0,
            appointed_at_us: 0,
            active: false,
            replicas,
            assigned: BTreeMap::new(),
            next_directory: 1,
            brokers: BTreeMap::new(),
            durability,
            appointments: 0,
            finalised: 0,
            gaps_us: Vec::new(),
            inactive_since_us: Some(0),
        };
        let members: Vec<BrokerId> = metadata.replicas.members().collect();
        for broker in members {
            metadata.assign(
                broker,
                disks.get(&broker).copied().unwrap_or_default(),
                false,
            );
        }
        metadata
    }

    fn assign(&mut self, broker: BrokerId, disk: u64, replaces: bool) -> Assigned {
        let assigned = Assigned {
            directory: DirectoryId(self.next_directory),
            disk,
            epoch: self.epoch,
            replaces,
        };
        self.next_directory += 1;
        self.version += 1;
        self.assigned.insert(broker, assigned);
        assigned
    }

    pub(crate) fn decision_for(&self, broker: BrokerId) -> Decision {
        let assigned = self.assigned.get(&broker).copied();
        Decision {
            appointment: Appointment {
                version: self.version,
                epoch: self.epoch,
                leader: self.leader,
                replicas: self.replicas.clone(),
                directories: self
                    .assigned
                    .iter()
                    .map(|(broker, assigned)| (*broker, assigned.directory))
                    .collect(),
                durability: self.durability,
            },
            assigned: assigned.filter(|_| self.replicas.contains(broker)),
        }
    }

    /// A broker is alive. What it does not know yet is the answer.
    pub(crate) fn beat(&mut self, broker: BrokerId, beat: Beat, now_us: u64) -> Option<Decision> {
        let known = self.brokers.get(&broker);
        if known.is_some_and(|known| known.beat.boot > beat.boot) {
            return None;
        }
        let at_us = now_us;
        self.brokers.insert(broker, Known { beat, at_us });
        if broker == self.leader && beat.leads != Some(self.epoch) && self.active {
            // It led, and does not any more.
            self.active = false;
            self.appointed_at_us = 0;
        }
        if broker == self.leader && beat.leads == Some(self.epoch) && !self.active {
            self.active = true;
            if let Some(since_us) = self.inactive_since_us.take() {
                self.gaps_us.push(now_us - since_us);
            }
        }
        (beat.version < self.version).then(|| self.decision_for(broker))
    }

    /// A directory is new. Asking twice gives the same answer.
    pub(crate) fn register(
        &mut self,
        broker: BrokerId,
        instead_of: Option<DirectoryId>,
        disk: u64,
    ) -> Option<Assigned> {
        let known = self.assigned.get(&broker).copied()?;
        let was_answered = known.replaces
            && known.disk == disk
            && instead_of.is_none_or(|old| old < known.directory);
        let assigned = match was_answered {
            true => known,
            false => self.assign(broker, disk, true),
        };
        // The newest epoch, not the one of the first answer: it may have risen since.
        let epoch = self.epoch;
        Some(Assigned { epoch, ..assigned })
    }

    /// Replaces a leader that is dead, was started again or does not get to lead.
    pub(crate) fn watch(&mut self, now_us: u64) -> Option<()> {
        let leader = self.brokers.get(&self.leader);
        let lost = leader.is_none_or(|known| {
            known.at_us + DEAD_AFTER_US < now_us || known.beat.boot != self.leader_boot
        });
        let late = !self.active && self.appointed_at_us + ACTIVE_WITHIN_US < now_us;
        if lost || late {
            self.appoint(now_us, None)
        } else {
            None
        }
    }

    /// Appoints a broker that is alive, this one if it can be.
    pub(crate) fn appoint(&mut self, now_us: u64, wish: Option<BrokerId>) -> Option<()> {
        let is_alive = |broker: &BrokerId| {
            let known = self.brokers.get(broker);
            known.is_some_and(|known| known.at_us + DEAD_AFTER_US >= now_us)
        };
        let alive: Vec<BrokerId> = self.replicas.members().filter(is_alive).collect();
        let wish = wish.filter(|it| alive.contains(it));
        let leader = wish.or_else(|| self.dice.pick(&alive))?;
        self.epoch += 1;
        self.version += 1;
        self.leader = leader;
        self.leader_boot = self.brokers.get(&leader).map_or(0, |it| it.beat.boot);
        self.appointed_at_us = now_us;
        self.active = false;
        self.inactive_since_us.get_or_insert(now_us);
        self.appointments += 1;
        Some(())
    }

    /// Other replicas are to take the place of these.
    pub(crate) fn reassign(&mut self, to: &[BrokerId], disks: &BTreeMap<BrokerId, u64>) {
        if !self.replicas.next().is_empty() {
            return;
        }
        let current = self.replicas.current().to_vec();
        if let Some(changing) = ReplicaSet::changing(&current, to) {
            self.replicas = changing;
            self.version += 1;
            for broker in to.iter().filter(|it| !current.contains(it)) {
                self.assign(
                    *broker,
                    disks.get(broker).copied().unwrap_or_default(),
                    false,
                );
            }
        }
    }

    /// A leader says that the new replicas have everything.
    pub(crate) fn finalise(&mut self, epoch: LeaderEpoch, version: u64, now_us: u64) {
        let holds = epoch == self.epoch && version == self.version;
        if !holds || self.replicas.next().is_empty() {
            return;
        }
        if let Some(replicas) = ReplicaSet::new(self.replicas.next()) {
            self.replicas = replicas;
            self.version += 1;
            self.finalised += 1;
            let replicas = &self.replicas;
            self.assigned.retain(|broker, _| replicas.contains(*broker));
            if !self.replicas.contains(self.leader) {
                self.appoint(now_us, None);
            }
        }
    }

    pub(crate) fn leader(&self) -> BrokerId {
        self.leader
    }
}

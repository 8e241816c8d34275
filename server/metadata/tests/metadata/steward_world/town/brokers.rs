//! The brokers' side: they start, register, seal, lead and beat.

use std::collections::BTreeMap;
use std::rc::Rc;

use millstream_metadata::beat::Leads;
use millstream_metadata::steward::Reporter;
use millstream_metadata::{Beat, Command, Image, Partition, Registration, Replica, Start};
use millstream_protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

use super::post::Mail;
use super::{TICK_MS, Town};
use crate::cluster::registration;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) directory_id: Uuid,
    pub(super) incarnation: u64,
    pub(super) process: Option<Process>,
    /// Those that should have ended.
    pub(super) outlived: Vec<Process>,
    pub(super) is_cut: bool,
    pub(super) is_sick: bool,
    pub(super) starts_ms: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) start: Start,
    pub(super) address: String,
    pub(super) is_registered: bool,
    pub(super) reporter: Reporter,
    pub(super) image: Rc<Image>,
    pub(super) roles: BTreeMap<TopicPartition, Role>,
    /// Epochs that it has led, or promised to somebody: it leads in none of them any more.
    pub(super) promised: BTreeMap<TopicPartition, LeaderEpoch>,
    pub(super) beats_ms: u64,
}

/// A partition that it is to lead, and when it has sealed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Role {
    pub(super) epoch: LeaderEpoch,
    pub(super) seals_ms: u64,
    pub(super) is_active: bool,
}

impl Machine {
    pub(super) fn new(broker_id: u32) -> Self {
        Self {
            directory_id: registration(broker_id).directory_id,
            incarnation: 0,
            process: None,
            outlived: Vec::new(),
            is_cut: false,
            is_sick: false,
            starts_ms: 0,
        }
    }
}

impl Process {
    pub(super) fn gives_up(&mut self, at: TopicPartition) {
        if let Some(role) = self.roles.remove(&at) {
            let promised = self.promised.entry(at).or_default();
            *promised = role.epoch.max(*promised);
        }
        self.reporter.leads(at, None);
    }

    pub(super) fn beat(&mut self, broker_id: u32, now_ms: u64, revision: u64) -> Beat {
        self.beats_ms = now_ms + 2 * TICK_MS;
        let (number, report) = self.reporter.beat();
        Beat {
            broker_id,
            start: self.start,
            address: self.address.clone(),
            number,
            revision,
            is_full: false,
            report,
        }
    }
}

impl Town {
    pub(super) fn starts(&mut self, broker_id: u32) {
        let image = Rc::clone(&self.image);
        let machine = self.machines.get_mut(&broker_id).unwrap();
        if machine.process.is_none() && machine.starts_ms <= self.now_ms {
            machine.incarnation += 1;
            machine.process = Some(Process {
                start: Start {
                    directory_id: machine.directory_id,
                    incarnation: machine.incarnation,
                },
                address: registration(broker_id).address,
                is_registered: false,
                reporter: Reporter::new(),
                image,
                roles: BTreeMap::new(),
                promised: BTreeMap::new(),
                beats_ms: 0,
            });
        }
    }

    /// Whether a broker and the steward reach each other.
    pub(super) fn reaches_steward(&self, broker_id: u32) -> bool {
        let own_id = self.steward.as_ref().map(|it| it.0);
        own_id.is_some_and(|it| it == broker_id || self.are_linked(it, broker_id))
    }

    pub(super) fn are_linked(&self, one: u32, other: u32) -> bool {
        let is_there = |it: u32| {
            let machine = &self.machines[&it];
            machine.process.is_some() && !machine.is_cut
        };
        is_there(one) && is_there(other)
    }

    pub(super) fn registers(&mut self, broker_id: u32) {
        if !self.reaches_steward(broker_id) {
            return;
        }
        let image = Rc::clone(&self.image);
        let Some(process) = self.process(broker_id) else {
            return;
        };
        process.image = image;
        if process.is_registered {
            return;
        }
        let registration = Registration {
            directory_id: process.start.directory_id,
            incarnation: process.start.incarnation,
            ..registration(broker_id)
        };
        if self
            .execute(&Command::RegisterBroker { registration })
            .is_some()
        {
            let image = Rc::clone(&self.image);
            let process = self.process(broker_id).unwrap();
            process.is_registered = true;
            process.image = image;
        }
    }

    /// What it is to lead, it seals if half of the replicas are there; what others lead, it gives up.
    pub(super) fn leads(&mut self, broker_id: u32) {
        let seals_ms = self.now_ms + self.dice.within(0, 400);
        let Some(process) = self.process(broker_id) else {
            return;
        };
        let image = Rc::clone(&process.image);
        let is_own = process.is_registered
            && image
                .broker(broker_id)
                .is_some_and(|it| it.start() == process.start);
        let roles: Vec<_> = process.roles.keys().copied().collect();
        for at in roles {
            let partition = image.partition(at);
            let epoch = process.roles[&at].epoch;
            if partition.is_none_or(|it| it.leader_epoch != epoch || it.leader != broker_id) {
                process.gives_up(at);
            }
        }
        if !is_own {
            return;
        }
        for (at, partition) in image.partitions() {
            if partition.leader == broker_id && partition.leader_is_as_appointed() {
                let epoch = partition.leader_epoch;
                let promised = process.promised.get(&at).copied().unwrap_or(0);
                if promised < epoch && !process.roles.contains_key(&at) {
                    let role = Role {
                        epoch,
                        seals_ms,
                        is_active: false,
                    };
                    process.roles.insert(at, role);
                }
            }
        }
        let roles: Vec<_> = process.roles.iter().map(|(at, it)| (*at, *it)).collect();
        for (at, role) in roles {
            let partition = image.partition(at).unwrap();
            let can_seal = role.seals_ms <= self.now_ms && !self.machines[&broker_id].is_sick;
            if !role.is_active
                && can_seal
                && self.has(partition, broker_id, |count, of| count * 2 >= of)
            {
                self.seals(broker_id, at, role.epoch);
            }
            if role.is_active {
                self.tends(broker_id, at, partition, role.epoch);
            }
        }
    }

    /// Whether so many of each of a partition's sets are there, whole, and reached by a broker.
    pub(super) fn has(
        &self,
        partition: &Partition,
        broker_id: u32,
        enough: impl Fn(usize, usize) -> bool,
    ) -> bool {
        let is_there = |it: &&Replica| {
            let same = it.broker_id == broker_id;
            it.trusted && (same || self.are_linked(broker_id, it.broker_id))
        };
        let enough = |set: &[Replica]| enough(set.iter().filter(is_there).count(), set.len());
        enough(&partition.replicas) && enough(&partition.next)
    }

    /// Those that promise give up what they led. Whoever has promised more stops it.
    pub(super) fn seals(&mut self, broker_id: u32, at: TopicPartition, epoch: LeaderEpoch) {
        let members = self
            .image
            .partition(at)
            .into_iter()
            .flat_map(Partition::members);
        let members: Vec<_> = members.map(|it| it.broker_id).collect();
        let others = members.into_iter().filter(|it| *it != broker_id);
        let others: Vec<_> = others
            .filter(|it| self.are_linked(broker_id, *it))
            .collect();
        for other in &others {
            let process = self.process(*other).unwrap();
            if process.promised.get(&at).is_some_and(|it| *it > epoch) {
                return self.process(broker_id).unwrap().gives_up(at);
            }
        }
        for other in others {
            let process = self.process(other).unwrap();
            process.gives_up(at);
            process.promised.insert(at, epoch);
        }
        let process = self.process(broker_id).unwrap();
        process.roles.get_mut(&at).unwrap().is_active = true;
        let is_whole = false;
        process.reporter.leads(at, Some(Leads { epoch, is_whole }));
    }

    /// An active leader: its replicas catch up, changes come to an end.
    pub(super) fn tends(
        &mut self,
        broker_id: u32,
        at: TopicPartition,
        partition: &Partition,
        epoch: LeaderEpoch,
    ) {
        let whole = self.has(partition, broker_id, |count, of| count == of);
        let process = self.process(broker_id).unwrap();
        let leads = Leads {
            epoch,
            is_whole: whole,
        };
        process.reporter.leads(at, Some(leads));
        if !self.dice.happens(100) || !self.reaches_steward(broker_id) {
            return;
        }
        let lacking = partition.members().filter(|it| !it.trusted);
        let lacking: Vec<_> = lacking.copied().collect();
        for replica in lacking {
            if replica.broker_id == broker_id || self.are_linked(broker_id, replica.broker_id) {
                self.execute(&Command::TrustReplicas {
                    broker_id: replica.broker_id,
                    replicas: vec![(at, replica.directory)],
                });
            }
        }
        if partition.is_changing()
            && self.has(partition, broker_id, |count, of| count * 2 > of || of == 0)
        {
            self.execute(&Command::FinaliseReassignment {
                partition: at,
                epoch,
                version: partition.version,
            });
        }
    }

    pub(super) fn beats(&mut self, broker_id: u32) {
        let (now_ms, revision) = (self.now_ms, self.revision);
        let machine = self.machines.get_mut(&broker_id).unwrap();
        let processes = machine.process.iter_mut().chain(&mut machine.outlived);
        let due = processes.filter(|it| it.is_registered && it.beats_ms <= now_ms);
        let beats: Vec<_> = due.map(|it| it.beat(broker_id, now_ms, revision)).collect();
        let session = self.steward.as_ref().map(|it| it.1);
        if let Some(session) = session.filter(|_| self.reaches_steward(broker_id)) {
            for beat in beats {
                self.send(Mail::Beat(session, beat));
            }
        }
    }
}

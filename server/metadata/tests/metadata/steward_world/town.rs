//! Brokers as the steward sees them: they register, beat, seal and lead.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millstream_metadata::beat::Leads;
use millstream_metadata::plan::offline;
use millstream_metadata::steward::{Patience, Reporter};
use millstream_metadata::{
    Beat, BeatAnswer, Command, Image, Partition, Registration, Replica, Session, Start, Steward,
};
use millstream_protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

use super::Event;
use crate::cluster::{Cluster, registration};

const TICK_MS: u64 = 50;
const BROKERS: u32 = 5;

/// What a run has exercised.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exercised {
    pub(crate) fenced: usize,
    pub(crate) elected: usize,
    pub(crate) retried: usize,
    pub(crate) balanced: usize,
    pub(crate) drained: usize,
    pub(crate) stopped: usize,
    /// Commands that were proposed long after they were given, and those of them that did nothing.
    pub(crate) late: usize,
    pub(crate) too_late: usize,
}

impl Exercised {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            fenced: self.fenced + other.fenced,
            elected: self.elected + other.elected,
            retried: self.retried + other.retried,
            balanced: self.balanced + other.balanced,
            drained: self.drained + other.drained,
            stopped: self.stopped + other.stopped,
            late: self.late + other.late,
            too_late: self.too_late + other.too_late,
        }
    }
}

#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.next() % 1_000 < per_mille
    }
}

#[derive(Debug)]
struct Machine {
    directory_id: Uuid,
    incarnation: u64,
    process: Option<Process>,
    /// Those that should have ended.
    outlived: Vec<Process>,
    is_cut: bool,
    is_sick: bool,
    starts_ms: u64,
}

#[derive(Debug)]
struct Process {
    start: Start,
    address: String,
    is_registered: bool,
    reporter: Reporter,
    image: Rc<Image>,
    roles: BTreeMap<TopicPartition, Role>,
    /// Epochs that it has led, or promised to somebody: it leads in none of them any more.
    promised: BTreeMap<TopicPartition, LeaderEpoch>,
    beats_ms: u64,
}

/// A partition that it is to lead, and when it has sealed it.
#[derive(Clone, Copy, Debug)]
struct Role {
    epoch: LeaderEpoch,
    seals_ms: u64,
    is_active: bool,
}

#[derive(Clone, Debug)]
enum Mail {
    Beat(Session, Beat),
    Answer(Start, u32, BeatAnswer),
}

#[derive(Debug)]
pub(crate) struct Town {
    cluster: Cluster,
    image: Rc<Image>,
    revision: u64,
    now_ms: u64,
    dice: Dice,
    machines: BTreeMap<u32, Machine>,
    steward: Option<(u32, Session, Steward)>,
    /// When somebody leads the metadata quorum again.
    office_ms: u64,
    sleeps_until_ms: u64,
    decides_ms: u64,
    mail: Vec<(u64, Mail)>,
    late: Vec<(u64, Command)>,
    is_calm: bool,
    disturbances: u32,
    pub(crate) given: Vec<(u64, Command)>,
    pub(crate) exercised: Exercised,
}

fn address(broker_id: u32) -> String {
    registration(broker_id).address
}

impl Town {
    pub(crate) fn new(seed: u64) -> Self {
        let mut cluster = Cluster::with_brokers(BROKERS);
        cluster.create_replicated("three", 4, 3);
        cluster.create_replicated("two", 2, 2);
        cluster.create("one", 2);
        let image = Rc::new(cluster.image.clone());
        let machine = |broker_id| Machine {
            directory_id: registration(broker_id).directory_id,
            incarnation: 0,
            process: None,
            outlived: Vec::new(),
            is_cut: false,
            is_sick: false,
            starts_ms: 0,
        };
        Self {
            cluster,
            image,
            revision: 1,
            now_ms: 0,
            dice: Dice(seed),
            machines: (1..=BROKERS).map(|it| (it, machine(it))).collect(),
            steward: None,
            office_ms: 0,
            sleeps_until_ms: 0,
            decides_ms: 0,
            mail: Vec::new(),
            late: Vec::new(),
            is_calm: false,
            disturbances: 0,
            given: Vec::new(),
            exercised: Exercised::default(),
        }
    }

    /// Runs a command as the metadata quorum would. Whether something has changed; `None`: refused.
    fn execute(&mut self, command: &Command) -> Option<bool> {
        let decided = self.cluster.image.validate(command, &self.cluster.limits);
        let Some(record) = decided.ok()? else {
            return Some(false);
        };
        let before: Vec<_> = self.cluster.image.partitions().map(epoch_of).collect();
        self.cluster.image.apply(&record);
        self.revision += 1;
        self.image = Rc::new(self.cluster.image.clone());
        let after: BTreeMap<_, _> = self.cluster.image.partitions().map(epoch_of).collect();
        for (at, epoch) in before {
            let rise = after.get(&at).map_or(0, |after| after - epoch);
            assert!(rise <= 1, "{command:?}");
        }
        Some(true)
    }

    fn process(&mut self, broker_id: u32) -> Option<&mut Process> {
        self.machines.get_mut(&broker_id)?.process.as_mut()
    }

    pub(crate) fn happen(&mut self, event: &Event) {
        self.disturbances += u32::from(!matches!(event, Event::Pass(_)));
        match *event {
            Event::Kill(broker) => self.kill(broker),
            Event::Outlive(broker) => {
                let machine = self.machines.get_mut(&broker).unwrap();
                if let Some(process) = machine.process.take().filter(|it| it.is_registered) {
                    machine.outlived.push(process);
                }
                machine.starts_ms = self.now_ms;
            }
            Event::Wipe(broker) => {
                self.kill(broker);
                let directory_id = Uuid::from_u128(self.dice.next().into());
                let machine = self.machines.get_mut(&broker).unwrap();
                machine.outlived.clear();
                machine.directory_id = directory_id;
                machine.incarnation = 0;
            }
            Event::Cut(broker) => self.machines.get_mut(&broker).unwrap().is_cut = true,
            Event::Mend => self.mend(),
            Event::Sicken(broker) => self.machines.get_mut(&broker).unwrap().is_sick = true,
            Event::Damage(broker_id, nth) => {
                let kept = self.image.partitions();
                let kept = kept.filter(|(_, it)| it.member(broker_id).is_some());
                let kept: Vec<_> = kept.map(|(at, _)| at).collect();
                if let Some(at) = kept.get(nth % kept.len().max(1)) {
                    if let Some(process) = self.process(broker_id) {
                        process.gives_up(*at);
                    }
                    let partitions = vec![*at];
                    self.execute(&Command::RegisterReplicas {
                        broker_id,
                        partitions,
                    });
                }
            }
            Event::Drain(broker_id) => {
                self.execute(&Command::DrainBroker { broker_id });
            }
            Event::Undrain(broker_id) => {
                self.execute(&Command::UndrainBroker { broker_id });
            }
            Event::Reassign(nth, dice) => {
                let all: Vec<_> = self.image.partitions().collect();
                let (at, partition) = all[nth % all.len()];
                let mut brokers: Vec<_> = (1..=BROKERS).collect();
                brokers.rotate_left((dice % u64::from(BROKERS)) as usize);
                brokers.truncate(partition.replicas.len());
                let reassignments = vec![(at, brokers)];
                self.execute(&Command::ReassignPartitions { reassignments });
            }
            Event::Depose => self.depose(),
            Event::Sleep(ms) => self.sleeps_until_ms = self.now_ms + ms,
            Event::Create(count, factor) => {
                let takers = self.image.brokers().filter(|it| it.state.takes_new());
                if takers.count() >= factor.into() {
                    let name = format!("t{}", self.image.topics().count());
                    self.cluster.create_replicated(&name, count, factor);
                    self.revision += 1;
                    self.image = Rc::new(self.cluster.image.clone());
                }
            }
            Event::Pass(ms) => self.pass(ms),
        }
    }

    fn depose(&mut self) {
        self.steward = None;
        self.office_ms = self.now_ms + self.dice.within(300, 900);
    }

    fn kill(&mut self, broker: u32) {
        let starts_ms = self.now_ms + self.dice.within(50, 5_000);
        let machine = self.machines.get_mut(&broker).unwrap();
        machine.process = None;
        machine.starts_ms = starts_ms;
        if self.steward.as_ref().is_some_and(|it| it.0 == broker) {
            self.depose();
        }
    }

    fn mend(&mut self) {
        for machine in self.machines.values_mut() {
            machine.is_cut = false;
        }
    }

    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += TICK_MS;
            self.takes_office();
            for broker_id in 1..=BROKERS {
                self.starts(broker_id);
                self.registers(broker_id);
                self.leads(broker_id);
                self.beats(broker_id);
            }
            self.delivers();
            self.proposes_late();
            if self.now_ms >= self.decides_ms && self.now_ms >= self.sleeps_until_ms {
                self.decides_ms = self.now_ms + self.dice.within(TICK_MS, 2 * TICK_MS);
                self.decides();
            }
        }
    }

    /// Somebody who is there takes office if nobody is in it.
    fn takes_office(&mut self) {
        if self.steward.is_some() || self.now_ms < self.office_ms {
            return;
        }
        let machines = self.machines.iter();
        let there = machines.filter(|(_, it)| it.process.is_some() && !it.is_cut);
        let there: Vec<_> = there.map(|(broker_id, _)| *broker_id).collect();
        if !there.is_empty() {
            let own_id = there[self.dice.next() as usize % there.len()];
            let session = Session(self.dice.next());
            let start = self.process(own_id).unwrap().start;
            let patience = Patience::default();
            let steward = Steward::new(own_id, start, session, patience, self.now_ms);
            self.steward = Some((own_id, session, steward));
        }
    }

    fn starts(&mut self, broker_id: u32) {
        let image = Rc::clone(&self.image);
        let machine = self.machines.get_mut(&broker_id).unwrap();
        if machine.process.is_none() && machine.starts_ms <= self.now_ms {
            machine.incarnation += 1;
            machine.process = Some(Process {
                start: Start {
                    directory_id: machine.directory_id,
                    incarnation: machine.incarnation,
                },
                address: address(broker_id),
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
    fn reaches_steward(&self, broker_id: u32) -> bool {
        let own_id = self.steward.as_ref().map(|it| it.0);
        own_id.is_some_and(|it| it == broker_id || self.are_linked(it, broker_id))
    }

    fn are_linked(&self, one: u32, other: u32) -> bool {
        let is_there = |it: u32| {
            let machine = &self.machines[&it];
            machine.process.is_some() && !machine.is_cut
        };
        is_there(one) && is_there(other)
    }

    fn registers(&mut self, broker_id: u32) {
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
    fn leads(&mut self, broker_id: u32) {
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
    fn has(
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
    fn seals(&mut self, broker_id: u32, at: TopicPartition, epoch: LeaderEpoch) {
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
    fn tends(
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

    fn beats(&mut self, broker_id: u32) {
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

    fn send(&mut self, mail: Mail) {
        let (lost, repeated, slow) = match self.is_calm {
            true => (0, 0, 0),
            false => (20, 20, 20),
        };
        let times = match (self.dice.happens(lost), self.dice.happens(repeated)) {
            (true, _) => 0,
            (_, true) => 2,
            _ => 1,
        };
        for _ in 0..times {
            let most_ms = match self.dice.happens(slow) {
                true => 2_000,
                false => 60,
            };
            let due_ms = self.now_ms + self.dice.within(0, most_ms);
            self.mail.push((due_ms, mail.clone()));
        }
    }

    fn delivers(&mut self) {
        let now_ms = self.now_ms;
        let (mut due, later): (Vec<_>, Vec<_>) = self
            .mail
            .drain(..)
            .partition(|(due_ms, _)| *due_ms <= now_ms);
        self.mail = later;
        due.sort_by_key(|(due_ms, _)| *due_ms);
        for (due_ms, mail) in due {
            match mail {
                // It is read when the steward is awake.
                Mail::Beat(..) if now_ms < self.sleeps_until_ms => self.mail.push((due_ms, mail)),
                Mail::Beat(session, beat) => self.hears(session, &beat),
                Mail::Answer(start, broker_id, answer) => self.is_told(start, broker_id, &answer),
            }
        }
    }

    fn hears(&mut self, to: Session, beat: &Beat) {
        let Some((_, session, steward)) = &mut self.steward else {
            return;
        };
        if *session != to {
            return;
        }
        let answer = steward.beat(self.now_ms, &self.image, beat);
        if let BeatAnswer::Stop(_) = &answer {
            // Nobody is stopped who is the one that is known.
            let known = self.image.broker(beat.broker_id).unwrap();
            assert_ne!(known.start(), beat.start);
        }
        self.send(Mail::Answer(beat.start, beat.broker_id, answer));
    }

    fn is_told(&mut self, start: Start, broker_id: u32, answer: &BeatAnswer) {
        let machine = self.machines.get_mut(&broker_id).unwrap();
        if matches!(answer, BeatAnswer::Stop(_)) {
            let before = machine.outlived.len();
            machine.outlived.retain(|it| it.start != start);
            self.exercised.stopped += before - machine.outlived.len();
        }
        let Some(process) = machine.process.as_mut().filter(|it| it.start == start) else {
            return;
        };
        match answer {
            BeatAnswer::Heard { .. } => process.reporter.answered(answer),
            BeatAnswer::Register => process.is_registered = false,
            BeatAnswer::Stop(reason) => panic!("{broker_id} is to stop: {reason}"),
        }
    }

    /// What was given long ago, and not known to have failed, is proposed yet.
    fn proposes_late(&mut self) {
        let now_ms = self.now_ms;
        let late = std::mem::take(&mut self.late);
        let (due, later) = late.into_iter().partition(|(due_ms, _)| *due_ms <= now_ms);
        self.late = later;
        let due: Vec<(u64, Command)> = due;
        for (_, command) in due {
            self.exercised.late += 1;
            let did = self.execute(&command) == Some(true);
            self.exercised.too_late += usize::from(!did);
        }
    }

    fn decides(&mut self) {
        let Some((_, _, steward)) = &mut self.steward else {
            return;
        };
        let commands = steward.decide(self.now_ms, self.revision, &self.image);
        // A decision holds as a whole, and one after the other.
        let mut then = self.cluster.image.clone();
        let mut idle = 0;
        for command in &commands {
            match then.validate(command, &self.cluster.limits) {
                Ok(Some(record)) => then.apply(&record),
                Ok(None) => idle += 1,
                Err(error) => panic!("{command:?}: {error}"),
            }
        }
        assert!(idle <= 1, "{commands:?}");
        for command in commands {
            self.counts(&command);
            self.given.push((self.now_ms, command.clone()));
            if !self.is_calm && self.dice.happens(50) {
                let due_ms = self.now_ms + self.dice.within(0, 3_000);
                self.late.push((due_ms, command));
            } else {
                self.execute(&command);
            }
        }
    }

    fn counts(&mut self, command: &Command) {
        let image = Rc::clone(&self.image);
        let it = &mut self.exercised;
        match command {
            Command::FenceBroker { .. } => it.fenced += 1,
            Command::ReassignPartitions { reassignments } => it.drained += reassignments.len(),
            Command::AppointLeaders { nominations } => {
                for nomination in nominations {
                    let partition = image.partition(nomination.partition).unwrap();
                    let is_preferred = partition.replicas[0].broker_id == nomination.leader;
                    if !image.has_leader(partition) {
                        it.elected += 1;
                    } else if is_preferred && partition.leader != nomination.leader {
                        it.balanced += 1;
                    } else {
                        it.retried += 1;
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// All is well from here on: so everything is led before long, few epochs are used, and what is
    /// preferred leads in the end.
    pub(crate) fn calms(&mut self) {
        self.mend();
        self.is_calm = true;
        for machine in self.machines.values_mut() {
            machine.is_sick = false;
            machine.starts_ms = machine.starts_ms.min(self.now_ms);
        }
        let epochs = self.epochs();
        let began_ms = self.now_ms;
        self.pass(30_000);
        self.check_led();
        assert!(self.machines.values().all(|it| it.outlived.is_empty()));
        // While it went on, each disturbance may have cost a few, and each back-off one.
        let most = 4 * self.disturbances + (began_ms / 6_000) as u32 + 4;
        for (at, epoch) in &epochs {
            assert!(*epoch <= most, "{at}: {epoch} epochs in {most}");
        }
        let settled = self.epochs();
        for (at, epoch) in &settled {
            let before = epochs.get(at).copied().unwrap_or_default();
            assert!(epoch - before <= 5, "{at}: from {before} to {epoch}");
        }
        let is_draining = |image: &Image| image.brokers().any(|it| it.state.is_draining());
        if is_draining(&self.image) {
            return;
        }
        self.pass(330_000);
        self.check_led();
        for (at, epoch) in &self.epochs() {
            assert!(
                epoch - settled[at] <= 1,
                "{at}: from {} to {epoch}",
                settled[at]
            );
        }
        for (at, partition) in self.image.partitions() {
            if partition.members().all(|it| it.trusted) && !partition.is_changing() {
                assert_eq!(partition.leader, partition.replicas[0].broker_id, "{at}");
            }
        }
    }

    fn epochs(&self) -> BTreeMap<TopicPartition, LeaderEpoch> {
        self.image.partitions().map(epoch_of).collect()
    }

    /// What can be led is led, in the newest epoch, and the steward knows.
    fn check_led(&self) {
        let (_, _, steward) = self.steward.as_ref().unwrap();
        let status = steward.status(self.now_ms, &self.image);
        let without = status.offline.first.iter().map(|it| it.partition);
        let without: BTreeSet<_> = without.collect();
        for (at, partition) in self.image.partitions() {
            let can_be_led = self.has(partition, partition.leader, |count, of| count * 2 >= of);
            if !can_be_led {
                continue;
            }
            let process = self.machines[&partition.leader].process.as_ref().unwrap();
            let role = process.roles.get(&at);
            assert!(
                role.is_some_and(|it| it.is_active && it.epoch == partition.leader_epoch),
                "{at}: {partition:?} {role:?}"
            );
            let has_majority = self.has(partition, partition.leader, |count, of| {
                count * 2 > of || of == 0
            });
            assert!(
                !has_majority || !without.contains(&at),
                "{at}: {partition:?}"
            );
        }
        assert!(offline(&self.image).all(|(at, _)| without.contains(&at)));
        assert!(self.image.brokers().all(|it| it.state.is_live()));
    }
}

fn epoch_of((at, partition): (TopicPartition, &Partition)) -> (TopicPartition, LeaderEpoch) {
    (at, partition.leader_epoch)
}

impl Process {
    fn gives_up(&mut self, at: TopicPartition) {
        if let Some(role) = self.roles.remove(&at) {
            let promised = self.promised.entry(at).or_default();
            *promised = role.epoch.max(*promised);
        }
        self.reporter.leads(at, None);
    }

    fn beat(&mut self, broker_id: u32, now_ms: u64, revision: u64) -> Beat {
        self.beats_ms = now_ms + 2 * TICK_MS;
        let (number, report) = self.reporter.beat();
        Beat {
            broker_id,
            start: self.start,
            address: self.address.clone(),
            number,
            revision,
            report,
        }
    }
}

//! Brokers as the steward sees them: they register, beat, seal and lead.

mod brokers;
mod post;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millstream_metadata::plan::{offline, rebalance};
use millstream_metadata::steward::Patience;
use millstream_metadata::{Command, Image, Partition, Replica, Session, Steward};
use millstream_protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

use super::Event;
use crate::cluster::Cluster;
use brokers::{Machine, Process};
use post::Mail;

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
    /// Journals that were compared with their inputs in the end, and before that: those that were
    /// to get the inputs' replicas, and those that were led elsewhere and were to get their leaders.
    pub(crate) journals: usize,
    pub(crate) followed: usize,
    pub(crate) aligned: usize,
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
            journals: self.journals + other.journals,
            followed: self.followed + other.followed,
            aligned: self.aligned + other.aligned,
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

impl Town {
    pub(crate) fn new(seed: u64) -> Self {
        let mut cluster = Cluster::with_brokers(BROKERS);
        let three = cluster.create_replicated("three", 4, 3);
        let two = cluster.create_replicated("two", 2, 2);
        let one = cluster.create("one", 2);
        for input in [three, three, two, one] {
            cluster.create_journal(input);
        }
        let image = Rc::new(cluster.image.clone());
        Self {
            cluster,
            image,
            revision: 1,
            now_ms: 0,
            dice: Dice(seed),
            machines: (1..=BROKERS).map(|it| (it, Machine::new(it))).collect(),
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
            Event::Stumble(broker_id, nth) => {
                if let Some(process) = self.process(broker_id) {
                    let roles: Vec<_> = process.roles.keys().copied().collect();
                    if let Some(at) = roles.get(nth % roles.len().max(1)) {
                        process.gives_up(*at);
                    }
                }
            }
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
            Event::Rebalance => {
                for command in rebalance(&self.image) {
                    assert_eq!(self.execute(&command), Some(true), "{command:?}");
                }
            }
            Event::Depose => self.depose(),
            Event::Sleep(ms) => self.sleeps_until_ms = self.now_ms + ms,
            Event::Create(count, factor) => {
                let takers = self.image.brokers().filter(|it| it.state.takes_new());
                if takers.count() >= factor.into() {
                    let name = format!("t{}", self.image.topics().count());
                    let topic_id = self.cluster.create_replicated(&name, count, factor);
                    if count == 2 {
                        self.cluster.create_journal(topic_id);
                    }
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
        let inputs = self.cluster.journals();
        let inputs: BTreeMap<_, _> = inputs.map(|(at, _, input)| (at, input.leader)).collect();
        let it = &mut self.exercised;
        match command {
            Command::FenceBroker { .. } => it.fenced += 1,
            Command::ReassignPartitions { reassignments } => {
                it.drained += reassignments.len();
                let is_journal = |at| inputs.contains_key(at);
                let followed = reassignments.iter().filter(|(at, _)| is_journal(at));
                it.followed += followed.count();
            }
            Command::AppointLeaders { nominations } => {
                for nomination in nominations {
                    let beside = inputs.get(&nomination.partition);
                    let partition = image.partition(nomination.partition).unwrap();
                    let is_preferred = partition.replicas[0].broker_id == nomination.leader;
                    if !image.has_leader(partition) {
                        it.elected += 1;
                    } else if partition.leader != nomination.leader
                        && beside == Some(&nomination.leader)
                    {
                        it.aligned += 1;
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
        // What had trouble is left alone for a while before it is led where its input is.
        self.pass(60_000);
        self.check_led();
        self.check_journals();
        let settled = self.epochs();
        for (at, epoch) in &settled {
            let before = epochs.get(at).copied().unwrap_or_default();
            assert!(epoch - before <= 5, "{at}: from {before} to {epoch}");
        }
        let is_draining = self.image.brokers().any(|it| it.state.is_draining());
        if is_draining || self.dice.happens(500) {
            return;
        }
        self.pass(330_000);
        self.check_led();
        self.check_journals();
        for (at, epoch) in &self.epochs() {
            assert!(
                epoch - settled[at] <= 1,
                "{at}: from {} to {epoch}",
                settled[at]
            );
        }
        // Journals are where their inputs are, also where one of these has lost too much to move.
        let journals: BTreeSet<_> = self.cluster.journals().map(|it| it.0).collect();
        let partitions = self.image.partitions();
        for (at, partition) in partitions.filter(|(at, _)| !journals.contains(at)) {
            if partition.members().all(|it| it.trusted) && !partition.is_changing() {
                assert_eq!(partition.leader, partition.replicas[0].broker_id, "{at}");
            }
        }
    }

    /// Journals that are kept or led elsewhere than their inputs.
    fn astray(&self) -> impl Iterator<Item = TopicPartition> {
        self.cluster.journals().filter_map(|(at, journal, input)| {
            let is_beside = journal.brokers() == input.brokers() && journal.leader == input.leader;
            (!is_beside).then_some(at)
        })
    }

    /// Journals are kept and led where their inputs are, unless one of the two has lost so much that
    /// nobody but an operator can have it go on.
    fn check_journals(&mut self) {
        let goes_on = |it: &&Partition| {
            let half =
                |set: &[Replica]| set.iter().filter(|it| it.trusted).count() * 2 >= set.len();
            let most = it.target().iter().filter(|it| it.trusted).count() * 2;
            half(&it.replicas) && most > it.target().len()
        };
        let astray: BTreeSet<_> = self.astray().collect();
        let mut compared = 0;
        for (at, journal, input) in self.cluster.journals() {
            if [journal, input].iter().all(goes_on) {
                compared += 1;
                assert!(!astray.contains(&at), "{at}: {journal:?} beside {input:?}");
            }
        }
        self.exercised.journals += compared;
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

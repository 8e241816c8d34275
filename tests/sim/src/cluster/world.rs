//! A run: brokers, clients, the metadata quorum, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_log::ReadError;
use millstream_log::storage::SyncBehaviour;
use millstream_replication::{BrokerId, Durability, Input};

use super::broker::{Broker, Clock, NOTHING, Trouble};
use super::client::{Consumer, Kind, Producer};
use super::dice::Dice;
use super::env::Env;
use super::metadata::Metadata;
use super::network::{Network, Weather};
use super::oracle::Oracle;
use super::packet::{Node, Packet};
use super::plan::{Fault, Plan, Whom};
use super::queue::{Event, Queue};
use super::report::Report;
use super::run::{MIN_ACKED, Options};

/// How often the metadata quorum looks after its brokers.
const WATCH_US: u64 = 50_000;

/// When all is well again, everything must be done within this.
const HEALED_WITHIN_US: u64 = 20_000_000;

/// When a broker starts again that is to be the last one.
const COMES_LATE_US: u64 = 2_500_000;

/// How often a broker that says that it is alive also lets old records go.
const RETAINS_PER_MILLE: u64 = 200;

/// How often it notes what is committed.
const REMEMBERS_PER_MILLE: u64 = 300;

/// How long producers go on when all is well again.
const GOES_ON_US: u64 = 1_500_000;

/// How much of a log is compared at once.
const COMPARED_BYTES: usize = 64 * 1024;

/// How often it is looked whether everything is done.
const LOOK_US: u64 = 100_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    plan: Plan,
    brokers: Vec<Broker>,
    metadata: Metadata,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    /// Replicas whose disk has lost or may lose something: no more than a minority at a time.
    spoilt: BTreeSet<BrokerId>,
    /// Brokers whose syncs do nothing.
    lying: BTreeSet<BrokerId>,
    next_disk: u64,
    hunts_until_us: u64,
    /// Until then only that goes wrong which a [`Fault::Fork`] consists of.
    forks_until_us: u64,
    /// What happens to brokers once they lead.
    doomed: BTreeMap<BrokerId, Vec<(u64, Fault)>>,
    /// After how long brokers start again, each time that they are killed.
    restarts_us: BTreeMap<BrokerId, VecDeque<u64>>,
    healed: bool,
    deadline_us: u64,
    over: bool,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed);
        let plan = match options.fail_over {
            false => Plan::new(&mut dice.split()),
            true => Plan::fail_over(&mut dice.split()),
        };
        let mut clocks = dice.split();
        let brokers: Vec<Broker> = (1..=plan.brokers)
            .map(|id| {
                let clock = Clock {
                    offset_us: clocks.below(1 << 40),
                    per_mille: clocks.within(950, 1050),
                };
                Broker::new(id, clock, plan.durability, plan.retention)
            })
            .collect();
        let disks = brokers.iter().map(|it| (it.id, it.disk)).collect();
        let factor = plan.replication_factor;
        let metadata = Metadata::new(dice.split(), &disks, factor, plan.durability);
        let mut env = Env {
            queue: Queue::default(),
            network: Network::new(dice.split(), plan.weather.clone()),
            dice: dice.split(),
            oracle: Oracle::default(),
            report: Report::default(),
            sync_us: plan.sync_us,
            message_bytes: plan.message_bytes,
            activated: None,
            died: None,
            cuts_at_promise: None,
            hash: 0xcbf2_9ce4_8422_2325,
            tracing: options.tracing,
        };
        for broker in &brokers {
            let (broker, boot) = (broker.id, broker.boot);
            env.queue.push(0, Event::Starts { broker, boot });
        }
        env.queue.push(WATCH_US, Event::Watches);
        let producers: Vec<Producer> = (0..plan.producers + plan.workers)
            .map(|number| {
                let kind = match number < plan.producers {
                    true => Kind::Client,
                    false => Kind::Worker,
                };
                Producer::new(number, kind, plan.pace_us)
            })
            .collect();
        let consumers = vec![Consumer::new(0, 40_000), Consumer::new(1, 90_000)];
        for number in 0..plan.producers + plan.workers {
            env.queue.push(0, Event::Wakes(Node::Producer(number)));
        }
        for number in 0..2 {
            env.queue.push(0, Event::Wakes(Node::Consumer(number)));
        }
        for (at_us, fault) in &plan.faults {
            env.queue.push(*at_us, Event::Fails(*fault));
        }
        env.queue.push(plan.faults_until_us, Event::Heals);
        env.trace(|| format!("{plan:?}"));
        Self {
            env,
            plan,
            brokers,
            metadata,
            producers,
            consumers,
            spoilt: BTreeSet::new(),
            lying: BTreeSet::new(),
            next_disk: 1_000,
            hunts_until_us: 0,
            forks_until_us: 0,
            doomed: BTreeMap::new(),
            restarts_us: BTreeMap::new(),
            healed: false,
            deadline_us: u64::MAX,
            over: false,
        }
    }

    /// Handles one event. `false` when the run is over.
    pub(crate) fn step(&mut self) -> bool {
        if self.over || !self.env.oracle.violations.is_empty() {
            return false;
        }
        let Some(event) = self.env.queue.pop() else {
            return false;
        };
        self.env.report.steps += 1;
        self.handle(event);
        self.hunt();
        if !self.env.report.gaps_us.is_empty() {
            self.finish();
        }
        true
    }

    /// Kills who has begun to lead.
    fn hunt(&mut self) {
        let Some(leader) = self.env.activated.take() else {
            return;
        };
        for (delay_us, fault) in self.doomed.remove(&leader).into_iter().flatten() {
            self.env.queue.push(delay_us, Event::Fails(fault));
        }
        if self.env.queue.now_us < self.hunts_until_us {
            let longest_us = self
                .env
                .dice
                .pick(&[1_000, 10_000, 250_000])
                .unwrap_or(1_000);
            let delay_us = self.env.dice.within(100, longest_us);
            let mended_us = delay_us + self.env.dice.within(20_000, 500_000);
            self.env
                .queue
                .push(delay_us, Event::Fails(Fault::Die(leader)));
            self.env.queue.push(mended_us, Event::Fails(Fault::Mend));
        }
    }

    fn broker_ids(&self) -> Vec<BrokerId> {
        self.brokers.iter().map(|it| it.id).collect()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrives { from, to, packet } => self.arrives(from, to, *packet),
            Event::Starts { broker, boot } => {
                self.with(broker, boot, |broker, env| match broker.process {
                    None => broker.start(env),
                    Some(_) => Ok(()),
                })
            }
            Event::Persists { broker, boot } => self.with_process(
                Event::Persists { broker, boot },
                broker,
                boot,
                Broker::persisted,
            ),
            Event::Flushes { broker, boot } => {
                self.with_process(
                    Event::Flushes { broker, boot },
                    broker,
                    boot,
                    Broker::flushed,
                );
            }
            Event::Ticks { broker, boot } => {
                self.with_process(Event::Ticks { broker, boot }, broker, boot, Broker::ticked);
            }
            Event::Beats { broker, boot } => {
                self.with_process(
                    Event::Beats { broker, boot },
                    broker,
                    boot,
                    |broker, env| {
                        broker.beat(env);
                        if env.dice.happens(REMEMBERS_PER_MILLE) {
                            broker.step(env, Input::Remember, &NOTHING)?;
                        }
                        match env.dice.happens(RETAINS_PER_MILLE) {
                            true => broker.retain(env),
                            false => Ok(()),
                        }
                    },
                );
            }
            Event::Watches => {
                let now_us = self.env.queue.now_us;
                self.metadata.watch(now_us);
                self.forgive();
                self.env.queue.push(WATCH_US, Event::Watches);
            }
            Event::Wakes(node) => self.wakes(node),
            Event::Fails(fault) => self.fails(fault),
            Event::Heals => self.heals(),
            Event::Ends => self.looks(),
        }
    }

    /// Runs something on a broker, if it was not restarted since.
    fn with(
        &mut self,
        broker: BrokerId,
        boot: u64,
        act: impl FnOnce(&mut Broker, &mut Env) -> Result<(), Trouble>,
    ) {
        let Some(broker) = self.brokers.get_mut(broker as usize - 1) else {
            return;
        };
        if broker.boot == boot
            && let Err(trouble) = act(broker, &mut self.env)
        {
            broker.trouble(&mut self.env, trouble);
        }
    }

    /// The same, for a process that may be paused: what comes meanwhile waits.
    fn with_process(
        &mut self,
        event: Event,
        broker: BrokerId,
        boot: u64,
        act: impl FnOnce(&mut Broker, &mut Env) -> Result<(), Trouble>,
    ) {
        let paused_until_us = self.broker(broker).map_or(0, |it| it.paused_until_us);
        let now_us = self.env.queue.now_us;
        if paused_until_us > now_us {
            self.env.queue.push(paused_until_us - now_us, event);
        } else {
            self.with(broker, boot, act);
        }
    }

    fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(id as usize - 1)
    }

    fn arrives(&mut self, from: Node, to: Node, packet: Packet) {
        if !self.env.network.delivers(from, to) {
            return;
        }
        let now_us = self.env.queue.now_us;
        match (to, packet) {
            (Node::Broker(id), packet) => {
                let boot = self.broker(id).map_or(0, |it| it.boot);
                let paused_until_us = self.broker(id).map_or(0, |it| it.paused_until_us);
                if paused_until_us > now_us {
                    let packet = Box::new(packet);
                    let event = Event::Arrives { from, to, packet };
                    return self.env.queue.push(paused_until_us - now_us, event);
                }
                self.with(id, boot, |broker, env| match broker.process {
                    Some(_) => broker.receive(env, from, packet),
                    None => Ok(()),
                });
            }
            (Node::Metadata, packet) => {
                let Node::Broker(broker) = from else { return };
                match packet {
                    Packet::Beat(beat) => {
                        if let Some(decision) = self.metadata.beat(broker, beat, now_us) {
                            self.env.send(to, from, Packet::Decided(decision));
                        }
                    }
                    Packet::Register { instead_of } => {
                        if let Some(assigned) = self.metadata.register(broker, instead_of, now_us) {
                            let registered = self.metadata.registered(broker).unwrap_or_default();
                            self.env
                                .send(to, from, Packet::Registered(registered, assigned));
                        }
                    }
                    Packet::Finalise { epoch, version } => {
                        self.metadata.finalise(epoch, version);
                    }
                    _ => {}
                }
            }
            (Node::Producer(number), Packet::Produced { request, result }) => {
                if let Node::Broker(from) = from
                    && let Some(producer) = self.producers.get_mut(number as usize)
                {
                    producer.receive(&mut self.env, from, request, result);
                }
            }
            (Node::Consumer(number), Packet::Begins { request, start }) => {
                if let Some(consumer) = self.consumers.get_mut(number as usize) {
                    consumer.begins(&mut self.env, request, start);
                }
            }
            (
                Node::Consumer(number),
                Packet::Records {
                    request,
                    batches,
                    next_offset,
                },
            ) => {
                if let Some(consumer) = self.consumers.get_mut(number as usize) {
                    consumer.receive(&mut self.env, request, batches, next_offset);
                }
            }
            _ => {}
        }
    }

    fn wakes(&mut self, node: Node) {
        let brokers = self.broker_ids();
        match node {
            Node::Producer(number) => {
                if let Some(producer) = self.producers.get_mut(number as usize) {
                    producer.wake(&mut self.env, &brokers);
                }
            }
            Node::Consumer(number) => {
                if let Some(consumer) = self.consumers.get_mut(number as usize) {
                    consumer.wake(&mut self.env, &brokers);
                }
            }
            Node::Metadata | Node::Broker(_) => {}
        }
    }

    fn whom(&mut self, whom: Whom) -> BrokerId {
        let leading = self
            .brokers
            .iter()
            .find(|it| it.is_leading())
            .map(|it| it.id);
        match whom {
            Whom::This(broker) => broker,
            Whom::Leader => leading.unwrap_or_else(|| self.metadata.leader().max(1)),
            Whom::Anyone => {
                let brokers = self.broker_ids();
                self.env.dice.pick(&brokers).unwrap_or(1)
            }
        }
    }

    /// Replicas whose disks are sound may lose them as long as a majority is left, or half of an
    /// even number: what seals.
    fn may_spoil(&self, broker: BrokerId) -> bool {
        let replicas = self.metadata.replicas();
        let spoilt = |it: &&BrokerId| self.spoilt.contains(it) || **it == broker;
        let is_left = |set: &[BrokerId]| set.iter().filter(spoilt).count() <= set.len() / 2;
        is_left(replicas.current()) && is_left(replicas.next())
    }

    /// Replicas that count again are spoilt no longer, nor is who is none any more, once metadata knows
    /// its disk: until then it may be made one because of the disk that is gone.
    fn forgive(&mut self) {
        let (brokers, lying) = (&self.brokers, &self.lying);
        let replicas = self.metadata.replicas();
        self.spoilt.retain(|id| {
            let broker = brokers.get(*id as usize - 1);
            let is_sound = broker.is_some_and(|it| it.is_trusted() && it.flipped_in.is_none());
            let disk = self.metadata.registered(*id).map(|(_, disk)| disk);
            let is_known = broker.map(|it| it.disk) == disk;
            lying.contains(id) || !is_known || (replicas.contains(*id) && !is_sound)
        });
    }

    fn note_hit(&mut self, id: BrokerId) {
        if self.broker(id).is_some_and(Broker::is_leading) {
            self.env.report.leaders_hit += 1;
        }
    }

    fn restart_later(&mut self, id: BrokerId) {
        let any_us = self.env.dice.within(30_000, 1_200_000);
        let delay_us = self.restarts_us.get_mut(&id).and_then(VecDeque::pop_front);
        let delay_us = delay_us.unwrap_or(any_us);
        self.restart_after(id, delay_us);
    }

    fn restart_after(&mut self, id: BrokerId, delay_us: u64) {
        let boot = self.broker(id).map_or(0, |it| it.boot);
        self.env
            .queue
            .push(delay_us, Event::Starts { broker: id, boot });
    }

    fn cut_power(&mut self, id: BrokerId, comes_late: bool) {
        let loses_disk = self.lying.remove(&id);
        let seed = self.env.dice.next();
        let relaxed = self.plan.durability == Durability::Relaxed;
        if (loses_disk || relaxed) && self.metadata.replicas().contains(id) {
            self.spoilt.insert(id);
        }
        let disk = self.next_disk;
        let Some(broker) = self.brokers.get_mut(id as usize - 1) else {
            return;
        };
        if loses_disk {
            // What was never on it cannot be told from what was: the disk is not used again.
            self.next_disk += 1;
            broker.replace_disk(disk);
        } else {
            broker.cut_power(seed);
        }
        match comes_late {
            false => self.restart_later(id),
            true => self.restart_after(id, COMES_LATE_US),
        }
    }

    fn fails(&mut self, fault: Fault) {
        self.env.trace(|| format!("*** {fault:?}"));
        let is_part = matches!(
            fault,
            Fault::Die(_) | Fault::Return(_) | Fault::Silence(_) | Fault::Crash(Whom::This(_))
        );
        if self.healed || (self.env.queue.now_us < self.forks_until_us && !is_part) {
            return;
        }
        match fault {
            Fault::Crash(whom) => {
                let id = self.whom(whom);
                self.note_hit(id);
                if let Some(broker) = self.brokers.get_mut(id as usize - 1)
                    && broker.process.is_some()
                {
                    self.env.report.crashes += 1;
                    broker.kill();
                    self.restart_later(id);
                }
            }
            Fault::Fork => self.fork(),
            Fault::LastDeath => {
                let leader = self.whom(Whom::Leader);
                self.env.died = Some((leader, self.env.queue.now_us));
                self.restarts_us.insert(leader, [u64::MAX / 2].into());
                self.fails(Fault::Crash(Whom::This(leader)));
            }
            Fault::Return(id) => {
                self.env.network.cut.clear();
                self.metadata.appoint(Some(id));
            }
            Fault::Silence(id) => {
                for other in self.broker_ids() {
                    let link = (Node::Broker(id), Node::Broker(other));
                    self.env.network.cut.insert(link);
                }
            }
            Fault::Die(id) => {
                self.cut_off(id);
                self.fails(Fault::Crash(Whom::This(id)));
            }
            Fault::PowerCut(whom) => {
                let id = self.whom(whom);
                let relaxed = self.plan.durability == Durability::Relaxed;
                if (relaxed || self.lying.contains(&id)) && !self.may_spoil(id) {
                    return;
                }
                self.note_hit(id);
                self.env.report.power_cuts += 1;
                self.cut_power(id, false);
            }
            Fault::PowerCutAll => {
                // Who led may be the last one to come back, so that the others have to do without.
                let late = self.env.dice.happens(500).then(|| self.whom(Whom::Leader));
                for id in self.broker_ids() {
                    self.note_hit(id);
                    self.env.report.power_cuts += 1;
                    self.cut_power(id, late == Some(id));
                }
            }
            Fault::Pause(whom) => {
                let id = self.whom(whom);
                self.note_hit(id);
                self.env.report.pauses += 1;
                let until_us = self.env.queue.now_us + self.env.dice.within(50_000, 2_500_000);
                if let Some(broker) = self.brokers.get_mut(id as usize - 1) {
                    broker.paused_until_us = until_us;
                }
            }
            Fault::Isolate(whom) => {
                let id = self.whom(whom);
                self.env.report.partitions += 1;
                self.cut_off(id);
                if self.env.dice.happens(500) {
                    let links = [
                        (Node::Broker(id), Node::Metadata),
                        (Node::Metadata, Node::Broker(id)),
                    ];
                    self.env.network.cut.extend(links);
                }
            }
            Fault::OneWay => {
                let (from, to) = (self.whom(Whom::Anyone), self.whom(Whom::Anyone));
                self.env.report.partitions += 1;
                let cut = (Node::Broker(from), Node::Broker(to));
                self.env.network.cut.insert(cut);
            }
            Fault::Mend => self.env.network.cut.clear(),
            Fault::SyncFails(whom) => {
                let id = self.whom(whom);
                if self.lying.contains(&id) {
                    return;
                }
                self.env.report.bad_syncs += 1;
                if let Some(broker) = self.broker(id) {
                    broker.set_sync(SyncBehaviour::FailingOnce);
                }
            }
            Fault::SyncLies => {
                let id = self.whom(Whom::Anyone);
                if self.may_spoil(id) && self.metadata.replicas().contains(id) {
                    self.env.report.bad_syncs += 1;
                    self.spoilt.insert(id);
                    self.lying.insert(id);
                    if let Some(broker) = self.broker(id) {
                        broker.set_sync(SyncBehaviour::Lying);
                    }
                }
            }
            Fault::Flip => self.flip(),
            Fault::Wipe => {
                let id = self.whom(Whom::Anyone);
                if self.may_spoil(id) && self.metadata.replicas().contains(id) {
                    self.note_hit(id);
                    self.env.report.wipes += 1;
                    self.spoilt.insert(id);
                    self.lying.remove(&id);
                    let disk = self.next_disk;
                    self.next_disk += 1;
                    if let Some(broker) = self.brokers.get_mut(id as usize - 1) {
                        broker.replace_disk(disk);
                    }
                    self.restart_later(id);
                }
            }
            Fault::Fill(whom) => {
                let id = self.whom(whom);
                self.env.report.full_disks += 1;
                let slack = self.env.dice.below(3_000);
                if let Some(broker) = self.broker(id) {
                    let capacity = broker.storage.used_bytes() + slack;
                    broker.storage.set_capacity(Some(capacity));
                }
            }
            Fault::Empty => {
                for broker in &self.brokers {
                    broker.storage.set_capacity(None);
                }
            }
            Fault::Reassign => {
                let mut brokers = self.broker_ids();
                let count = self.metadata.replicas().current().len();
                let count = match (self.env.dice.below(4), count) {
                    (0, 2 | 3) => count - 1,
                    (0, 5) => 3,
                    (1, 1 | 2) => count + 1,
                    (1, 3) => 5,
                    _ => count,
                };
                while brokers.len() > count {
                    let gone = self.env.dice.below(brokers.len() as u64) as usize;
                    brokers.remove(gone);
                }
                // A disk that is spoilt is not chosen, and none of a set that has one.
                if self.spoilt.is_empty() && brokers != self.metadata.replicas().current() {
                    self.metadata.reassign(&brokers);
                    // Who joins may have lost its disk before, and has to show first that it counts.
                    let counts = |id: &BrokerId| self.broker(*id).is_some_and(Broker::is_trusted);
                    let joining: Vec<_> = brokers.into_iter().filter(|id| !counts(id)).collect();
                    self.spoilt.extend(joining);
                }
            }
            Fault::Hunt => {
                // It begins with a leader that has what no other one has.
                let leader = self.whom(Whom::Leader);
                self.cut_off(leader);
                let delay_us = self.env.dice.within(50_000, 300_000);
                let crash = Fault::Crash(Whom::This(leader));
                self.env.queue.push(delay_us, Event::Fails(crash));
                self.env.queue.push(delay_us, Event::Fails(Fault::Mend));
                let hunts_us = self.env.dice.within(1_000_000, 4_000_000);
                self.hunts_until_us = self.env.queue.now_us + hunts_us;
            }
            Fault::PowerCutAtPromise => {
                // The old leader does not get to know of the new one.
                let old = self.metadata.leader();
                let replicas = self.metadata.replicas();
                let replicas = replicas.members();
                let others: Vec<BrokerId> = replicas.filter(|it| *it != old).collect();
                let Some(new) = self.env.dice.pick(&others) else {
                    return;
                };
                for other in [Node::Metadata, Node::Broker(new)] {
                    self.env.network.cut.insert((Node::Broker(old), other));
                    self.env.network.cut.insert((other, Node::Broker(old)));
                }
                self.env.cuts_at_promise = Some(new);
                self.metadata.appoint(Some(new));
            }
            Fault::Move => {
                self.env.report.moves += 1;
                let wish = self.whom(Whom::Anyone);
                self.metadata.appoint(Some(wish));
            }
        }
    }

    /// See [`Fault::Fork`].
    fn fork(&mut self) {
        let first = self.whom(Whom::Leader);
        let replicas = self.metadata.replicas();
        let others: Vec<BrokerId> = replicas.members().filter(|it| *it != first).collect();
        let Some(second) = self.env.dice.pick(&others) else {
            return;
        };
        // What else goes wrong mostly keeps it from taking its course.
        if self.env.dice.happens(500) {
            self.forks_until_us = self.env.queue.now_us + 2_800_000;
            self.hunts_until_us = 0;
        }
        self.env.message_bytes = 200;
        self.cut_off(first);
        for (at_us, fault) in [
            (150_000, Fault::Die(first)),
            (151_000, Fault::Return(second)),
        ] {
            self.env.queue.push(at_us, Event::Fails(fault));
        }
        // Its third packet is about to arrive: a part of what the other one has been found to lack.
        let (_, delay_us) = self.env.network.weather.delay_us;
        let partly_us = self.env.dice.within(delay_us, delay_us * 3);
        self.doomed = BTreeMap::from([
            (
                second,
                vec![(0, Fault::Die(second)), (250_000, Fault::Return(first))],
            ),
            (
                first,
                vec![
                    (partly_us, Fault::Silence(first)),
                    (60_000, Fault::Die(first)),
                    (2_000_000, Fault::Return(second)),
                ],
            ),
        ]);
        // The first one is away when the second one is back: nobody tells it what it does not have.
        self.restarts_us = BTreeMap::from([
            (first, [250_000, 3_000_000].into()),
            (second, [2_000_000].into()),
        ]);
    }

    /// Cuts the links between a broker and all others.
    fn cut_off(&mut self, id: BrokerId) {
        for other in self.broker_ids().into_iter().filter(|it| *it != id) {
            let links = [(id, other), (other, id)];
            let links = links.map(|(from, to)| (Node::Broker(from), Node::Broker(to)));
            self.env.network.cut.extend(links);
        }
    }

    fn flip(&mut self) {
        let id = self.whom(Whom::Anyone);
        if !self.may_spoil(id) || !self.metadata.replicas().contains(id) {
            return;
        }
        let chance = self.env.dice.next();
        let Some(broker) = self.brokers.get_mut(id as usize - 1) else {
            return;
        };
        if broker.flip(chance) {
            self.env.trace(|| format!("   in {id}"));
            self.env.report.flips += 1;
            self.spoilt.insert(id);
        }
    }

    /// No more faults: everything must get well.
    fn heals(&mut self) {
        self.env.trace(|| "*** all is well".to_owned());
        self.healed = true;
        self.env.network.cut.clear();
        self.env.cuts_at_promise = None;
        self.hunts_until_us = 0;
        self.doomed.clear();
        self.env.network.weather = Weather::calm();
        for consumer in self.consumers.iter_mut().take(1) {
            consumer.start_over();
        }
        for consumer in &mut self.consumers {
            consumer.goes_back = false;
        }
        let now_us = self.env.queue.now_us;
        self.deadline_us = now_us + HEALED_WITHIN_US;
        for broker in &mut self.brokers {
            broker.storage.set_capacity(None);
            broker.paused_until_us = broker.paused_until_us.min(now_us);
            if broker.process.is_none() {
                let (broker, boot) = (broker.id, broker.boot);
                self.env.queue.push(0, Event::Starts { broker, boot });
            }
        }
        self.env.queue.push(GOES_ON_US, Event::Ends);
    }

    /// Whether everything is done.
    fn looks(&mut self) {
        let shown = self.env.report.acked >= MIN_ACKED;
        for producer in &mut self.producers {
            producer.stopped = shown;
        }
        let end = self.settled();
        let now_us = self.env.queue.now_us;
        if let Some(end) = end {
            self.env.oracle.read_all(end);
            self.compare(end);
            self.finish();
        } else if now_us > self.deadline_us {
            let brokers = self.brokers.iter().map(|it| {
                let partition = it.partition();
                let replica = partition.map(|it| {
                    let replica = &it.replica;
                    let (role, durable) = (replica.role(), replica.durable());
                    format!(
                        "{role:?} {durable:?} {:?} hw {}",
                        replica.log().tip(),
                        replica.high_watermark()
                    )
                });
                format!("{}: {replica:?}", it.id)
            });
            let brokers: Vec<String> = brokers.collect();
            let open = self.producers.iter().filter(|it| !it.is_done()).count();
            let read: Vec<u64> = self.consumers.iter().map(|it| it.position).collect();
            self.env.oracle.violated(format!(
                "stuck: {open} producers wait, consumers at {read:?}, replicas {:?}; {}",
                self.metadata.replicas(),
                brokers.join("; ")
            ));
        } else {
            self.env.queue.push(LOOK_US, Event::Ends);
        }
    }

    /// The end of the log, once all producers have their answers, all replicas have everything and
    /// are trusted, no change of the replicas is under way, and consumers have read it all.
    fn settled(&self) -> Option<u64> {
        let leader = self.broker(self.metadata.leader())?.partition()?;
        leader.replica.leading()?;
        let end = leader.replica.log().end();
        let replicas = self.metadata.replicas();
        let done = replicas.next().is_empty()
            && self.producers.iter().all(|it| it.stopped)
            && self.producers.iter().all(Producer::is_done)
            && self.consumers.iter().all(|it| it.position == end)
            && replicas.members().all(|id| {
                self.broker(id)
                    .filter(|it| it.is_trusted())
                    .and_then(Broker::partition)
                    .is_some_and(|it| {
                        it.replica.log().tip() == leader.replica.log().tip()
                            && it.replica.high_watermark() == end
                            && it.log.flushed_offset() == end
                            && it.log.log_start_offset() >= leader.replica.hidden()
                    })
            });
        done.then_some(end)
    }

    /// All replicas have the same batches, byte by byte.
    fn compare(&mut self, end: u64) {
        let oracle = &mut self.env.oracle;
        for id in self.metadata.replicas().members() {
            let Some(broker) = self.brokers.get(id as usize - 1) else {
                continue;
            };
            let Some(log) = broker.partition().map(|it| &it.log) else {
                continue;
            };
            let mut offset = log.log_start_offset();
            let (deleted, retained) = oracle.borders();
            if offset < deleted || offset > retained {
                oracle.violated(format!(
                    "{id} begins at {offset}: all below {deleted} is deleted, and below {retained} was to be at most"
                ));
            }
            while offset < end {
                match log.reader().read(offset, end, COMPARED_BYTES) {
                    Ok(read) => {
                        let batches = read.batches.into_iter();
                        batches.for_each(|batch| oracle.held(id, batch));
                        offset = read.next_offset;
                    }
                    // It was flipped, and nobody has read it since.
                    Err(ReadError::Damaged(_)) if broker.flipped_in.is_some() => break,
                    Err(error) => return oracle.violated(format!("{id} cannot be read: {error}")),
                }
            }
        }
    }

    fn finish(&mut self) {
        self.over = true;
        let report = &mut self.env.report;
        report.seeds = 1;
        report.simulated_us = self.env.queue.now_us;
        report.reassignments = self.metadata.finalised;
        report.packets = self.env.network.sent;
        report.lost_packets = self.env.network.lost;
        report.repeated_packets = self.env.network.repeated;
    }
}

//! A run: brokers, clients, the metadata quorum, and what goes wrong.

mod end;
mod faults;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use millstream_protocol::TopicPartition;
use millstream_replication::{BrokerId, Input};

use super::broker::{Broker, Clock, NOTHING, Trouble};
use super::client::{Consumer, Kind, Producer};
use super::dice::Dice;
use super::env::Env;
use super::layout::FIRST;
use super::member::Member;
use super::metadata::Metadata;
use super::network::Network;
use super::oracle::Oracles;
use super::packet::{Node, Packet};
use super::plan::{Fault, Plan};
use super::queue::{Event, Queue};
use super::report::Report;
use super::run::Options;

/// How often the metadata quorum looks after its brokers.
const WATCH_US: u64 = 50_000;

/// How often a broker that says that it is alive also lets old records go.
const RETAINS_PER_MILLE: u64 = 200;

/// How often it notes what is committed.
const REMEMBERS_PER_MILLE: u64 = 300;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    plan: Plan,
    /// The run's partitions.
    partitions: Rc<[TopicPartition]>,
    brokers: Vec<Broker>,
    metadata: Metadata,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    members: Vec<Member>,
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
        let written: Vec<TopicPartition> = plan.layout.events().collect();
        let partitions: Rc<[TopicPartition]> = plan.layout.partitions().into();
        let mut clocks = dice.split();
        let brokers: Vec<Broker> = (1..=plan.brokers)
            .map(|id| {
                let clock = Clock {
                    offset_us: clocks.below(1 << 40),
                    per_mille: clocks.within(950, 1050),
                };
                let partitions = Rc::clone(&partitions);
                Broker::new(id, clock, partitions, plan.durability, plan.retention)
            })
            .collect();
        let disks = brokers.iter().map(|it| (it.id, it.disk)).collect();
        let (factor, durability) = (plan.replication_factor, plan.durability);
        let metadata = Metadata::new(dice.split(), plan.layout, &disks, factor, durability);
        let mut env = Env {
            queue: Queue::default(),
            network: Network::new(dice.split(), plan.weather.clone()),
            dice: dice.split(),
            oracles: Oracles::new(&partitions),
            report: Report::default(),
            sync_us: plan.sync_us,
            message_bytes: plan.message_bytes,
            activated: None,
            died: None,
            cuts_at_promise: None,
            hash: 0xcbf2_9ce4_8422_2325,
            brokers: plan.brokers,
            events: written.len() as u32,
            numbered: 0,
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
                let at = written
                    .get(number as usize % written.len())
                    .copied()
                    .unwrap_or(FIRST);
                Producer::new(number, at, kind, plan.pace_us)
            })
            .collect();
        let paces_us = written.iter().flat_map(|at| [(*at, 40_000), (*at, 90_000)]);
        let consumers = (0..).zip(paces_us);
        let consumers: Vec<Consumer> = consumers
            .map(|(number, (at, pace_us))| Consumer::new(number, at, pace_us))
            .collect();
        for number in 0..plan.producers + plan.workers {
            env.queue.push(0, Event::Wakes(Node::Producer(number)));
        }
        for number in 0..consumers.len() as u32 {
            env.queue.push(0, Event::Wakes(Node::Consumer(number)));
        }
        let members: Vec<Member> = (0..plan.members).map(Member::new).collect();
        for number in 0..plan.members {
            env.queue.push(0, Event::Wakes(Node::Member(number)));
        }
        for (at_us, fault) in &plan.faults {
            env.queue.push(*at_us, Event::Fails(*fault));
        }
        env.queue.push(plan.faults_until_us, Event::Heals);
        env.trace(|| format!("{plan:?}"));
        Self {
            env,
            plan,
            partitions,
            brokers,
            metadata,
            producers,
            consumers,
            members,
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
        if self.over || self.env.oracles.found_something() {
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
            Event::Persists { broker, boot, at } => {
                let event = Event::Persists { broker, boot, at };
                self.with_process(event, broker, boot, |broker, env| broker.persisted(env, at));
            }
            Event::Flushes { broker, boot, at } => {
                let event = Event::Flushes { broker, boot, at };
                self.with_process(event, broker, boot, |broker, env| broker.flushed(env, at));
            }
            Event::Ticks { broker, boot, at } => {
                let event = Event::Ticks { broker, boot, at };
                self.with_process(event, broker, boot, |broker, env| broker.ticked(env, at));
            }
            Event::Beats { broker, boot } => {
                let partitions = Rc::clone(&self.partitions);
                let event = Event::Beats { broker, boot };
                self.with_process(event, broker, boot, |broker, env| {
                    broker.beat(env);
                    broker.look_after(env)?;
                    for at in partitions.iter().copied() {
                        if env.dice.happens(REMEMBERS_PER_MILLE) {
                            broker.step(env, at, Input::Remember, &NOTHING)?;
                        }
                        if env.dice.happens(RETAINS_PER_MILLE) {
                            broker.retain(env, at)?;
                        }
                    }
                    Ok(())
                });
            }
            Event::Works {
                broker,
                boot,
                partition,
                number,
            } => {
                let event = Event::Works {
                    broker,
                    boot,
                    partition,
                    number,
                };
                self.with_process(event, broker, boot, |broker, env| {
                    broker.works(env, partition, number)
                });
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
                        for decision in self.metadata.beat(broker, &beat, now_us) {
                            self.env.send(to, from, Packet::Decided(decision));
                        }
                    }
                    Packet::Register { at, instead_of } => {
                        let assigned = self.metadata.register(broker, at, instead_of, now_us);
                        if let Some(assigned) = assigned {
                            let registered = self.metadata.registered(broker).unwrap_or_default();
                            let packet = Packet::Registered(registered, at, assigned);
                            self.env.send(to, from, packet);
                        }
                    }
                    Packet::Finalise { at, epoch, version } => {
                        self.metadata.finalise(at, epoch, version);
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
            (Node::Member(number), packet) => {
                if let Some(member) = self.members.get_mut(number as usize) {
                    member.gets(&mut self.env, packet);
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
            Node::Member(number) => {
                if let Some(member) = self.members.get_mut(number as usize) {
                    member.wake(&mut self.env, &brokers);
                }
            }
            Node::Metadata | Node::Broker(_) => {}
        }
    }
}

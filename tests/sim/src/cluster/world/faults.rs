//! What goes wrong, and when it is over.

use std::collections::{BTreeMap, VecDeque};

use millstream_log::storage::SyncBehaviour;
use millstream_protocol::TopicPartition;
use millstream_replication::{BrokerId, Durability};

use super::World;
use super::end::{GOES_ON_US, HEALED_WITHIN_US};
use crate::cluster::broker::Broker;
use crate::cluster::layout::FIRST;
use crate::cluster::network::Weather;
use crate::cluster::packet::Node;
use crate::cluster::plan::{Fault, Whom};
use crate::cluster::queue::Event;

/// When a broker starts again that is to be the last one.
const COMES_LATE_US: u64 = 2_500_000;

impl World {
    /// A partition that something happens to.
    fn any_partition(&mut self) -> TopicPartition {
        match self.partitions.len() {
            1 => FIRST,
            _ => self.env.dice.pick(&self.partitions).unwrap_or(FIRST),
        }
    }

    fn whom(&mut self, whom: Whom) -> BrokerId {
        match whom {
            Whom::This(broker) => broker,
            Whom::Leader => {
                let at = self.any_partition();
                self.leader_of(at)
            }
            Whom::Anyone => {
                let brokers = self.broker_ids();
                self.env.dice.pick(&brokers).unwrap_or(1)
            }
        }
    }

    /// Who leads a partition, or is to lead it.
    fn leader_of(&self, at: TopicPartition) -> BrokerId {
        let leading = self.brokers.iter().find(|it| it.leads(at));
        let leading = leading.map(|it| it.id);
        leading.unwrap_or_else(|| self.metadata.leader(at).max(1))
    }

    /// Replicas whose disks are sound may lose them as long as a majority is left, or half of an
    /// even number: what seals.
    fn may_spoil(&self, broker: BrokerId) -> bool {
        let spoilt = |it: &&BrokerId| self.spoilt.contains(it) || **it == broker;
        let is_left = |set: &[BrokerId]| set.iter().filter(spoilt).count() <= set.len() / 2;
        self.partitions.iter().all(|at| {
            let replicas = self.metadata.replicas(*at);
            is_left(replicas.current()) && is_left(replicas.next())
        })
    }

    /// Whether a broker has a replica of any partition, or is to have one.
    fn keeps_something(&self, broker: BrokerId) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|at| self.metadata.replicas(*at).contains(broker))
    }

    /// Replicas that count again are spoilt no longer, nor is who is none any more, once metadata knows
    /// its disk: until then it may be made one because of the disk that is gone.
    pub(super) fn forgive(&mut self) {
        let (brokers, metadata, lying) = (&self.brokers, &self.metadata, &self.lying);
        let partitions = &self.partitions;
        self.spoilt.retain(|id| {
            let broker = brokers.get(*id as usize - 1);
            let is_sound = |at: &TopicPartition| {
                broker.is_some_and(|it| it.is_trusted(*at) && it.flipped.is_empty())
            };
            let kept = partitions.iter();
            let mut kept = kept.filter(|at| metadata.replicas(**at).contains(*id));
            let disk = metadata.registered(*id).map(|(_, disk)| disk);
            let is_known = broker.map(|it| it.disk) == disk;
            lying.contains(id) || !is_known || !kept.all(is_sound)
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
        if (loses_disk || relaxed) && self.keeps_something(id) {
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

    pub(super) fn fails(&mut self, fault: Fault) {
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
                for at in self.partitions.iter() {
                    self.metadata.appoint(*at, Some(id));
                }
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
                if self.may_spoil(id) && self.keeps_something(id) {
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
                if self.may_spoil(id) && self.keeps_something(id) {
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
                let at = self.any_partition();
                let mut brokers = self.broker_ids();
                let count = self.metadata.replicas(at).current().len();
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
                if self.spoilt.is_empty() && brokers != self.metadata.replicas(at).current() {
                    self.metadata.reassign(at, &brokers);
                    // Who joins may have lost its disk before, and has to show first that it counts.
                    let counts =
                        |id: &BrokerId| self.broker(*id).is_some_and(|it| it.is_trusted(at));
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
                let at = self.any_partition();
                let old = self.metadata.leader(at);
                let replicas = self.metadata.replicas(at);
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
                self.metadata.appoint(at, Some(new));
            }
            Fault::Move => {
                self.env.report.moves += 1;
                let wish = self.whom(Whom::Anyone);
                let at = self.any_partition();
                self.metadata.appoint(at, Some(wish));
                if let Some(beside) = self.plan.layout.beside(at) {
                    self.metadata.appoint(beside, Some(wish));
                }
            }
        }
    }

    /// See [`Fault::Fork`].
    fn fork(&mut self) {
        let first = self.leader_of(FIRST);
        let replicas = self.metadata.replicas(FIRST);
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
        if !self.may_spoil(id) || !self.keeps_something(id) {
            return;
        }
        let at = self.any_partition();
        let chance = self.env.dice.next();
        let Some(broker) = self.brokers.get_mut(id as usize - 1) else {
            return;
        };
        if broker.flip(at, chance) {
            self.env.trace(|| format!("   in {id}"));
            self.env.report.flips += 1;
            self.spoilt.insert(id);
        }
    }

    /// No more faults: everything must get well.
    pub(super) fn heals(&mut self) {
        self.env.trace(|| "*** all is well".to_owned());
        self.healed = true;
        self.env.network.cut.clear();
        self.env.cuts_at_promise = None;
        self.hunts_until_us = 0;
        self.doomed.clear();
        self.env.network.weather = Weather::calm();
        for consumer in self.consumers.iter_mut().step_by(2) {
            consumer.start_over();
        }
        for consumer in &mut self.consumers {
            consumer.goes_back = false;
        }
        for member in &mut self.members {
            member.is_well = true;
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
}

//! Replicas to other brokers, for balance or to empty a broker.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::TopicPartition;

use super::beside::leaders_astray;
use super::elections::{appoint, successor};
use crate::broker::BrokerId;
use crate::command::Command;
use crate::companions::{Companion, Companions};
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::{MAX_APPOINTMENTS, MAX_CHANGES_UNDER_WAY};
use crate::load::Load;
use crate::names::is_internal;
use crate::partition::{Partition, has};

/// How to empty a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// What to do now.
    pub commands: Vec<Command>,
    /// Partitions whose replica can go nowhere: no other broker takes one, or too few of their
    /// replicas are there and whole for it to be copied.
    pub stuck: Vec<TopicPartition>,
}

/// The next step to an even load: leaderships back to the preferred leaders, further replicas for partitions that have
/// lost some for good, replicas from the
/// brokers that keep the most to those that keep the fewest, and other preferred leaders where a
/// broker is that of too many partitions. Replicas never move closer together within racks. No more
/// than [`MAX_CHANGES_UNDER_WAY`] partitions change at a time. Empty when all is even, or waits.
pub fn rebalance(image: &Image) -> Vec<Command> {
    let companions = Companions::of(image);
    let mut leaders = Vec::new();
    for together in back_to_preferred(image, &companions) {
        if leaders.len() >= MAX_APPOINTMENTS {
            break;
        }
        leaders.extend(together);
    }
    let going: BTreeSet<_> = leaders.iter().map(|it| it.partition).collect();
    let astray = leaders_astray(image, &companions);
    let astray = astray.filter(|(it, _)| !going.contains(&it.at) && !going.contains(&it.input_at));
    leaders.extend(astray.map(|(_, nomination)| nomination));
    let mut commands = appoint(&leaders);
    let mut moves = Moves::new(image, &companions, Load::of(image));
    moves.even_out();
    commands.extend(moves.into_command());
    commands
}

/// How many partitions are to change for an even load, as far as it can be seen now, and no more than
/// `limit`: those that [`rebalance`] takes several steps for are all counted, and those that change
/// already are not.
pub fn imbalance(image: &Image, limit: usize) -> usize {
    let companions = Companions::of(image);
    let mut moves = Moves::new(image, &companions, Load::of(image));
    moves.room = limit;
    moves.under_way = 0;
    moves.even_out();
    moves.planned.len()
}

/// The next step to a broker that keeps nothing: what it leads goes to other live replicas, what it
/// keeps to other brokers, in other racks first and to the least loaded second. No more than
/// [`MAX_CHANGES_UNDER_WAY`] partitions change at a time. Nothing more is to be done when there are
/// no commands, no change is under way, and nothing is stuck.
pub fn drain(image: &Image, broker_id: BrokerId) -> Drain {
    let companions = Companions::of(image);
    let mut load = Load::of(image);
    load.retire(broker_id);
    let mut leaders = Vec::new();
    for (at, partition) in companions.independent() {
        if partition.leader != broker_id || leaders.len() >= MAX_APPOINTMENTS {
            continue;
        }
        let next = successor(image, &load, partition, Some(broker_id));
        let takes = |next: &BrokerId| {
            let mut old = partition.replicas.iter();
            old.any(|it| it.broker_id == *next && it.trusted) && image.takes_new(*next)
        };
        if let Some(next) = next.filter(takes) {
            load.yield_lead(broker_id);
            load.lead(next);
            leaders.push(partition.nominate(at, next));
            let beside = companions.beside(at).filter(|(_, it)| it.leader != next);
            let beside = beside.filter(|(_, it)| it.can_go_to(next));
            leaders.extend(beside.map(|(at, it)| it.nominate(at, next)));
        }
    }
    let mut drain = Drain {
        commands: appoint(&leaders),
        stuck: Vec::new(),
    };
    let mut moves = Moves::new(image, &companions, load);
    for (at, partition) in companions.independent() {
        if partition.is_changing() || partition.member(broker_id).is_none() {
            continue;
        }
        let mut others = partition.brokers();
        others.retain(|it| *it != broker_id);
        let to = moves.load.further(&others);
        let next = to.map(|to| moves.replaced(partition, broker_id, to));
        match next.filter(|next| may_become(image, partition, next)) {
            None => {
                drain.stuck.push(at);
                let beside = companions.beside(at);
                let beside = beside.filter(|(_, it)| it.member(broker_id).is_some());
                drain.stuck.extend(beside.map(|(at, _)| at));
            }
            Some(next) if moves.has_room() => moves.plan(at, partition, next),
            Some(_) => {}
        }
    }
    // What has been left behind.
    let gone = |it: &Companion<'_>| {
        let is_kept = it.partition.member(broker_id).is_some();
        is_kept && !has(it.input.target(), broker_id)
    };
    drain.stuck.extend(moves.follow(gone));
    drain.commands.extend(moves.into_command());
    drain
}

/// Leaderships for the preferred leaders that are there and do not lead, each with those of the
/// companions that go with it. None goes where a companion that works cannot go.
pub(crate) fn back_to_preferred<'a>(
    image: &'a Image,
    companions: &Companions<'a>,
) -> impl Iterator<Item = Vec<Nomination>> {
    let settled = companions.independent();
    let settled = settled.filter(|(_, it)| !it.is_changing());
    settled.filter_map(|(at, it)| {
        let preferred = it.replicas.first()?;
        let leads = preferred.broker_id == it.leader;
        let may = preferred.trusted && image.takes_new(preferred.broker_id);
        let epochs = it.leader_epoch.checked_add(1).is_some();
        if leads || !may || !epochs {
            return None;
        }
        let mut together = vec![it.nominate(at, preferred.broker_id)];
        for (at, it) in companions.beside(at) {
            let is_there = it.leader == preferred.broker_id;
            if is_there || !image.can_be_sealed(it) {
                continue;
            }
            if !it.can_go_to(preferred.broker_id) {
                return None;
            }
            together.push(it.nominate(at, preferred.broker_id));
        }
        Some(together)
    })
}

/// Whether the change can begin and come to an end with the brokers that are there: half of the
/// old replicas to make sure of what is committed, most of the new ones to commit.
pub(super) fn may_become(image: &Image, partition: &Partition, next: &[BrokerId]) -> bool {
    let old = partition.replicas.iter();
    let whole = old.filter(|it| image.is_whole(it));
    let live = next.iter().filter(|it| image.is_live(**it));
    whole.count() * 2 >= partition.replicas.len() && live.count() * 2 > next.len()
}

/// Changes of replicas that are planned.
struct Moves<'a> {
    image: &'a Image,
    companions: &'a Companions<'a>,
    /// The load as it will be.
    load: Load<'a>,
    /// Partitions that could change, by those that keep them.
    kept: BTreeMap<BrokerId, Vec<(TopicPartition, &'a Partition)>>,
    under_way: usize,
    /// How many may be under way and planned.
    room: usize,
    planned: Vec<(TopicPartition, Vec<BrokerId>)>,
    seen: BTreeSet<TopicPartition>,
}

impl<'a> Moves<'a> {
    fn new(image: &'a Image, companions: &'a Companions<'a>, load: Load<'a>) -> Self {
        let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut under_way = 0;
        for (at, partition) in image.partitions() {
            if partition.is_changing() {
                under_way += 1;
                continue;
            }
            if companions.has(at) {
                continue;
            }
            for replica in &partition.replicas {
                kept.entry(replica.broker_id)
                    .or_default()
                    .push((at, partition));
            }
        }
        Self {
            image,
            companions,
            load,
            kept,
            under_way,
            room: MAX_CHANGES_UNDER_WAY,
            planned: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way + self.planned.len() < self.room
    }

    /// Plans moves and other preferred leaders until all is even, or there is no room.
    fn even_out(&mut self) {
        self.fill_up();
        while self.has_room() && self.move_one() {}
        self.share_preference();
        self.follow(|_| true);
    }

    /// Plans as many replicas as their topic is to have for partitions that have fewer, as after a loss that was
    /// accepted, once there are brokers for all of them. Internal topics are widened.
    fn fill_up(&mut self) {
        let (image, companions) = (self.image, self.companions);
        for topic in image.topics().filter(|it| !is_internal(&it.name)) {
            let wanted = usize::from(topic.config.replication_factor);
            for (number, partition) in (0..).zip(&topic.partitions) {
                let at = topic.at(number);
                let has_enough = partition.replicas.len() >= wanted;
                if has_enough || partition.is_changing() || companions.has(at) || !self.has_room() {
                    continue;
                }
                let mut next = partition.brokers();
                while next.len() < wanted
                    && let Some(further) = self.load.further(&next)
                {
                    next.push(further);
                }
                if next.len() == wanted && may_become(image, partition, &next) {
                    self.plan(at, partition, next);
                }
            }
        }
    }

    /// Plans a change, and that of companions for which there is room: the others follow later.
    fn plan(&mut self, at: TopicPartition, partition: &Partition, next: Vec<BrokerId>) {
        self.load.give_away(&partition.brokers());
        self.load.keep(&next);
        self.seen.insert(at);
        self.planned.push((at, next.clone()));
        for (at, it) in self.companions.beside(at) {
            let is_other = !it.is_changing() && it.brokers() != next;
            if is_other && self.has_room() && may_become(self.image, it, &next) {
                self.planned.push((at, next.clone()));
            }
        }
    }

    /// Plans that these companions follow inputs that have gone before. Those that cannot.
    fn follow(&mut self, is_meant: impl Fn(&Companion<'_>) -> bool) -> Vec<TopicPartition> {
        let mut stuck = Vec::new();
        let astray = self.companions.all().filter(|it| is_meant(it));
        for it in astray.filter(|it| !it.partition.is_changing()) {
            let Some(next) = it.astray().filter(|_| !self.seen.contains(&it.input_at)) else {
                continue;
            };
            if !may_become(self.image, it.partition, &next) {
                stuck.push(it.at);
            } else if self.has_room() {
                self.planned.push((it.at, next));
            }
        }
        stuck
    }

    /// The replicas with `to` in the place of `from`, or first if it is the preferred leader of
    /// fewer partitions than the one that is.
    fn replaced(&self, partition: &Partition, from: BrokerId, to: BrokerId) -> Vec<BrokerId> {
        let mut next = partition.brokers();
        let is_first = next.first() == Some(&from);
        for broker in next.iter_mut().filter(|it| **it == from) {
            *broker = to;
        }
        let first = next.first().copied().unwrap_or(to);
        // The one that is first is so of this partition as well.
        if !is_first && self.load.preferred(to) + 1 < self.load.preferred(first) {
            to_front(&mut next, to);
        }
        next
    }

    /// Plans to move one replica, from a broker to one that keeps at least two fewer. Whether there
    /// is such a move.
    fn move_one(&mut self) -> bool {
        let mut brokers: Vec<_> = self.load.takers().collect();
        brokers.sort_by_key(|it| (self.load.kept(*it), *it));
        for &from in brokers.iter().rev() {
            for &to in &brokers {
                if self.load.kept(from) < self.load.kept(to) + 2 {
                    break;
                }
                if let Some((at, partition)) = self.best(from, to) {
                    let next = self.replaced(partition, from, to);
                    self.plan(at, partition, next);
                    return true;
                }
            }
        }
        false
    }

    /// The partition that is best moved: the one whose replicas come farthest apart by it, one that
    /// `from` does not lead before one that it leads.
    fn best(&self, from: BrokerId, to: BrokerId) -> Option<(TopicPartition, &'a Partition)> {
        let mut best = None;
        for &(at, partition) in self.kept.get(&from).into_iter().flatten() {
            if self.seen.contains(&at) || partition.member(to).is_some() {
                continue;
            }
            let now = partition.brokers();
            let mut next = now.clone();
            next.retain(|it| *it != from);
            next.push(to);
            let (crowding, before) = (self.load.crowding(&next), self.load.crowding(&now));
            if crowding > before || !may_become(self.image, partition, &next) {
                continue;
            }
            let key = (before - crowding, partition.leader != from);
            if best.is_none_or(|(best, _)| key > best) {
                best = Some((key, (at, partition)));
            }
        }
        best.map(|(_, found)| found)
    }

    /// Plans other preferred leaders where two replicas of a partition are on brokers of which one
    /// is that of at least two partitions more.
    fn share_preference(&mut self) {
        let (image, companions) = (self.image, self.companions);
        for (at, partition) in companions.independent() {
            if partition.is_changing() || self.seen.contains(&at) {
                continue;
            }
            let mut next = partition.brokers();
            let takers = next.iter().filter(|it| image.takes_new(**it));
            let least = takers.min_by_key(|it| self.load.preferred(**it)).copied();
            let (Some(least), Some(first)) = (least, next.first()) else {
                continue;
            };
            if self.load.preferred(least) + 1 < self.load.preferred(*first)
                && may_become(image, partition, &next)
                && self.has_room()
            {
                to_front(&mut next, least);
                self.plan(at, partition, next);
            }
        }
    }

    fn into_command(self) -> Option<Command> {
        let reassignments = self.planned;
        (!reassignments.is_empty()).then_some(Command::ReassignPartitions { reassignments })
    }
}

/// Makes one of the brokers the first, and leaves the others in their order.
fn to_front(brokers: &mut Vec<BrokerId>, broker_id: BrokerId) {
    brokers.retain(|it| *it != broker_id);
    brokers.insert(0, broker_id);
}

//! Replicas to other brokers, for balance or to empty a broker.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::TopicPartition;

use super::elections::{appoint, successor};
use crate::broker::BrokerId;
use crate::command::Command;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::{MAX_APPOINTMENTS, MAX_CHANGES_UNDER_WAY};
use crate::load::Load;
use crate::partition::Partition;

/// How to empty a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// What to do now.
    pub commands: Vec<Command>,
    /// Partitions whose replica can go nowhere: no other broker takes one, or too few of their
    /// replicas are there and whole for it to be copied.
    pub stuck: Vec<TopicPartition>,
}

/// The next step to an even load: leaderships back to the preferred leaders, replicas from the
/// brokers that keep the most to those that keep the fewest, and other preferred leaders where a
/// broker is that of too many partitions. Replicas never move closer together within racks. No more
/// than [`MAX_CHANGES_UNDER_WAY`] partitions change at a time. Empty when all is even, or waits.
pub fn rebalance(image: &Image) -> Vec<Command> {
    let leaders: Vec<_> = back_to_preferred(image).take(MAX_APPOINTMENTS).collect();
    let mut commands = appoint(&leaders);
    let mut moves = Moves::new(image, Load::of(image));
    moves.even_out();
    commands.extend(moves.into_command());
    commands
}

/// How many partitions are to change for an even load, as far as it can be seen now, and no more than
/// `limit`: those that [`rebalance`] takes several steps for are all counted, and those that change
/// already are not.
pub fn imbalance(image: &Image, limit: usize) -> usize {
    let mut moves = Moves::new(image, Load::of(image));
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
    let mut load = Load::of(image);
    load.retire(broker_id);
    let mut leaders = Vec::new();
    for (at, partition) in image.partitions() {
        if partition.leader != broker_id || leaders.len() == MAX_APPOINTMENTS {
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
        }
    }
    let mut drain = Drain {
        commands: appoint(&leaders),
        stuck: Vec::new(),
    };
    let mut moves = Moves::new(image, load);
    for (at, partition) in image.partitions() {
        if partition.is_changing() || partition.member(broker_id).is_none() {
            continue;
        }
        let mut others = partition.brokers();
        others.retain(|it| *it != broker_id);
        let to = moves.load.further(&others);
        let next = to.map(|to| moves.replaced(partition, broker_id, to));
        match next.filter(|next| moves.may_become(partition, next)) {
            None => drain.stuck.push(at),
            Some(next) if moves.has_room() => moves.plan(at, partition, next),
            Some(_) => {}
        }
    }
    drain.commands.extend(moves.into_command());
    drain
}

/// Leaderships for the preferred leaders that are there and do not lead.
pub(crate) fn back_to_preferred(image: &Image) -> impl Iterator<Item = Nomination> {
    let settled = image.partitions().filter(|(_, it)| !it.is_changing());
    settled.filter_map(|(at, it)| {
        let preferred = it.replicas.first()?;
        let leads = preferred.broker_id == it.leader;
        let may = preferred.trusted && image.takes_new(preferred.broker_id);
        let epochs = it.leader_epoch.checked_add(1).is_some();
        (!leads && may && epochs).then(|| it.nominate(at, preferred.broker_id))
    })
}

/// Changes of replicas that are planned.
struct Moves<'a> {
    image: &'a Image,
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
    fn new(image: &'a Image, load: Load<'a>) -> Self {
        let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut under_way = 0;
        for (at, partition) in image.partitions() {
            if partition.is_changing() {
                under_way += 1;
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
        while self.has_room() && self.move_one() {}
        self.share_preference();
    }

    /// Whether the change can begin and come to an end with the brokers that are there: half of the
    /// old replicas to make sure of what is committed, most of the new ones to commit.
    fn may_become(&self, partition: &Partition, next: &[BrokerId]) -> bool {
        let old = partition.replicas.iter();
        let whole = old.filter(|it| it.trusted && self.image.is_live(it.broker_id));
        let live = next.iter().filter(|it| self.image.is_live(**it));
        whole.count() * 2 >= partition.replicas.len() && live.count() * 2 > next.len()
    }

    fn plan(&mut self, at: TopicPartition, partition: &Partition, next: Vec<BrokerId>) {
        self.load.give_away(&partition.brokers());
        self.load.keep(&next);
        self.seen.insert(at);
        self.planned.push((at, next));
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
            if crowding > before || !self.may_become(partition, &next) {
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
        let image = self.image;
        for (at, partition) in image.partitions() {
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
                && self.may_become(partition, &next)
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

//! The partitions as they are being shared out: what is kept, given up and filled in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Component, Demand, Owners};

/// How much a member may take by preference, before it takes only because it has the least.
pub(super) struct Quota {
    /// Per member (by index): partitions that it may always take.
    share: Vec<usize>,
    /// How many members may have one more than that.
    extras: usize,
}

/// A partition that its member may have to give up. In this order: first those that another member
/// is preferred for; then by falling number, so that a number goes in several topics together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Surplus {
    stays: bool,
    partition: Reverse<u32>,
    topic: usize,
}

/// The state of an assignment in the making.
pub(super) struct Shares<'a> {
    demand: &'a Demand<'a>,
    owners: Owners,
    /// Per member, per topic: its partitions.
    held: Vec<BTreeMap<usize, BTreeSet<u32>>>,
    /// Per member: how many partitions it has.
    load: Vec<usize>,
    /// Per topic: its subscribers, ascending.
    subscribers: Vec<Vec<usize>>,
}

impl<'a> Shares<'a> {
    /// Everyone keeps what it has and still subscribes to.
    pub(super) fn kept(demand: &'a Demand<'a>) -> Self {
        let members = demand.subscriptions.len();
        let mut subscribers = vec![Vec::new(); demand.partitions.len()];
        for (member, topics) in demand.subscriptions.iter().enumerate() {
            for &topic in topics {
                subscribers[topic].push(member);
            }
        }
        let mut shares = Self {
            demand,
            owners: demand
                .partitions
                .iter()
                .map(|&count| vec![None; count as usize])
                .collect(),
            held: vec![BTreeMap::new(); members],
            load: vec![0; members],
            subscribers,
        };
        for (topic, &count) in demand.partitions.iter().enumerate() {
            for partition in 0..count {
                let owner = at(demand.current, topic, partition);
                if let Some(member) = owner.filter(|&member| shares.subscribes(member, topic)) {
                    shares.give(topic, partition, member);
                }
            }
        }
        shares
    }

    /// The result.
    pub(super) fn into_owners(self) -> Owners {
        self.owners
    }

    /// How many partitions a member has.
    pub(super) fn load(&self, member: usize) -> usize {
        self.load[member]
    }

    /// The topics in which a member has partitions, ascending.
    pub(super) fn topics_of(&self, member: usize) -> impl Iterator<Item = usize> {
        self.held[member].keys().copied()
    }

    /// The members that subscribe to a topic, ascending.
    pub(super) fn subscribers(&self, topic: usize) -> &[usize] {
        &self.subscribers[topic]
    }

    /// Moves one partition of `topic` between two members: one that the taker is preferred for, or
    /// else the highest.
    pub(super) fn shift(&mut self, topic: usize, from: usize, to: usize) {
        let Some(partitions) = self.held[from].get(&topic) else {
            return;
        };
        let preferred =
            |&&partition: &&u32| at(self.demand.preferred, topic, partition) == Some(to);
        let Some(&partition) = partitions.iter().find(preferred).or(partitions.last()) else {
            return;
        };
        self.take(topic, partition);
        self.give(topic, partition, to);
    }

    /// In a component where all subscribe to the same topics: takes from each member what exceeds
    /// its exact quota, and returns the quotas.
    ///
    /// Of the members above the even share, as many as there are partitions left over keep one
    /// more: those first that have the most which no one else is preferred for.
    pub(super) fn trim(&mut self, component: &Component) -> Quota {
        let total: usize = component
            .topics
            .iter()
            .map(|&topic| self.owners[topic].len())
            .sum();
        let share = total / component.members.len();
        let extras = total % component.members.len();

        let above = component
            .members
            .iter()
            .filter(|&&member| self.load[member] > share);
        let mut above: Vec<(usize, Vec<Surplus>)> = above
            .map(|&member| (member, self.giving_order(member)))
            .collect();
        above.sort_by_key(|(member, order)| {
            let own = order.iter().filter(|surplus| surplus.stays).count();
            (Reverse(own), *member)
        });
        for (rank, (_, order)) in above.iter().enumerate() {
            let keeps = share + usize::from(rank < extras);
            for surplus in order.iter().take(order.len() - keeps) {
                self.take(surplus.topic, surplus.partition.0);
            }
        }
        Quota {
            share: vec![share; self.load.len()],
            extras: extras.saturating_sub(above.len()),
        }
    }

    /// A member's partitions in the order in which it gives them up.
    fn giving_order(&self, member: usize) -> Vec<Surplus> {
        let held = self.held[member].iter();
        let held =
            held.flat_map(|(&topic, partitions)| partitions.iter().map(move |&at| (topic, at)));
        let mut order: Vec<Surplus> = held
            .map(|(topic, partition)| {
                let wanted = at(self.demand.preferred, topic, partition);
                let stays = wanted.is_none_or(|wanted| wanted == member);
                Surplus {
                    stays,
                    partition: Reverse(partition),
                    topic,
                }
            })
            .collect();
        order.sort_unstable();
        order
    }

    /// In a component of different subscriptions: each member's share if every topic were divided
    /// evenly among its subscribers, rounded down.
    pub(super) fn fair_shares(&self, component: &Component) -> Quota {
        const SCALE: usize = 1 << 16;
        let mut share = vec![0; self.load.len()];
        for &topic in &component.topics {
            let subscribers = &self.subscribers[topic];
            for &member in subscribers {
                share[member] += self.owners[topic].len() * SCALE / subscribers.len();
            }
        }
        Quota {
            share: share.into_iter().map(|scaled| scaled / SCALE).collect(),
            extras: 0,
        }
    }

    /// Gives every partition without an owner to a subscriber: the one preferred for it, or one
    /// that has the same partition of a topic of the same size, as far as `quota` goes; else the
    /// one with the least.
    pub(super) fn fill(&mut self, component: &Component, mut quota: Quota) {
        // Topics of the same size are filled together, number by number.
        let mut peers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &topic in &component.topics {
            peers
                .entry(self.demand.partitions[topic])
                .or_default()
                .push(topic);
        }
        for (count, topics) in peers {
            for partition in 0..count {
                for &topic in &topics {
                    if self.owners[topic][partition as usize].is_some() {
                        continue;
                    }
                    let preferred = at(self.demand.preferred, topic, partition);
                    let aligned = topics
                        .iter()
                        .filter_map(|&peer| self.owners[peer][partition as usize]);
                    let chosen = preferred
                        .into_iter()
                        .chain(aligned)
                        .find(|&member| {
                            self.subscribes(member, topic)
                                && quota.admits(member, self.load[member])
                        })
                        .or_else(|| self.least_loaded(topic));
                    if let Some(member) = chosen {
                        quota.count(member, self.load[member]);
                        self.give(topic, partition, member);
                    }
                }
            }
        }
    }

    fn least_loaded(&self, topic: usize) -> Option<usize> {
        self.subscribers[topic]
            .iter()
            .copied()
            .min_by_key(|&member| self.load[member])
    }

    fn subscribes(&self, member: usize, topic: usize) -> bool {
        self.demand
            .subscriptions
            .get(member)
            .is_some_and(|topics| topics.contains(&topic))
    }

    fn give(&mut self, topic: usize, partition: u32, member: usize) {
        self.owners[topic][partition as usize] = Some(member);
        self.held[member]
            .entry(topic)
            .or_default()
            .insert(partition);
        self.load[member] += 1;
    }

    fn take(&mut self, topic: usize, partition: u32) {
        let Some(member) = self.owners[topic][partition as usize].take() else {
            return;
        };
        if let Some(partitions) = self.held[member].get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.held[member].remove(&topic);
            }
        }
        self.load[member] -= 1;
    }
}

impl Quota {
    /// Whether a member with this load may take one more by preference.
    fn admits(&self, member: usize, load: usize) -> bool {
        load < self.share[member] || (load == self.share[member] && self.extras > 0)
    }

    /// A member with this load takes one more.
    fn count(&mut self, member: usize, load: usize) {
        if load >= self.share[member] {
            self.extras = self.extras.saturating_sub(1);
        }
    }
}

fn at(owners: &Owners, topic: usize, partition: u32) -> Option<usize> {
    *owners.get(topic)?.get(partition as usize)?
}

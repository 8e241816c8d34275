//! What each broker carries.

use std::collections::BTreeMap;

use crate::broker::{Broker, BrokerId, BrokerState};
use crate::companions::Companions;
use crate::image::Image;
use crate::partition::{Partition, Replica};

/// What all brokers carry, and would carry. Companions go with what is counted, and are not.
pub(crate) struct Load<'a> {
    brokers: BTreeMap<BrokerId, Carries<'a>>,
}

/// What one broker carries.
struct Carries<'a> {
    state: BrokerState,
    rack: Option<&'a str>,
    /// Partitions that it leads.
    led: usize,
    /// Partitions of which it is the preferred leader.
    preferred: usize,
    /// Replicas that it has once no change is under way.
    kept: usize,
}

impl<'a> Load<'a> {
    pub(crate) fn of(image: &'a Image) -> Self {
        let carries = |broker: &'a Broker| Carries {
            state: broker.state,
            rack: broker.rack.as_deref(),
            led: 0,
            preferred: 0,
            kept: 0,
        };
        let brokers = image.brokers();
        let mut load = Self {
            brokers: brokers.map(|it| (it.broker_id, carries(it))).collect(),
        };
        for (_, partition) in Companions::of(image).independent() {
            load.lead(partition.leader);
            load.keep(&brokers_of(partition.target()));
        }
        load
    }

    /// A broker takes nothing more.
    pub(crate) fn retire(&mut self, broker_id: BrokerId) {
        if let Some(it) = self.brokers.get_mut(&broker_id) {
            it.state = BrokerState::Draining;
        }
    }

    /// The brokers that take new replicas, by number.
    pub(crate) fn takers(&self) -> impl Iterator<Item = BrokerId> {
        let takers = self.brokers.iter().filter(|(_, it)| it.state.takes_new());
        takers.map(|(broker_id, _)| *broker_id)
    }

    pub(crate) fn led(&self, broker_id: BrokerId) -> usize {
        self.brokers.get(&broker_id).map_or(0, |it| it.led)
    }

    pub(crate) fn preferred(&self, broker_id: BrokerId) -> usize {
        self.brokers.get(&broker_id).map_or(0, |it| it.preferred)
    }

    pub(crate) fn kept(&self, broker_id: BrokerId) -> usize {
        self.brokers.get(&broker_id).map_or(0, |it| it.kept)
    }

    /// A broker leads one partition more.
    pub(crate) fn lead(&mut self, broker_id: BrokerId) {
        if let Some(it) = self.brokers.get_mut(&broker_id) {
            it.led += 1;
        }
    }

    /// A broker leads one partition less.
    pub(crate) fn yield_lead(&mut self, broker_id: BrokerId) {
        if let Some(it) = self.brokers.get_mut(&broker_id) {
            it.led = it.led.saturating_sub(1);
        }
    }

    /// Brokers, the preferred leader first, keep one partition more.
    pub(crate) fn keep(&mut self, brokers: &[BrokerId]) {
        for (place, broker_id) in brokers.iter().enumerate() {
            if let Some(it) = self.brokers.get_mut(broker_id) {
                it.kept += 1;
                it.preferred += usize::from(place == 0);
            }
        }
    }

    /// Brokers, the preferred leader first, keep one partition less.
    pub(crate) fn give_away(&mut self, brokers: &[BrokerId]) {
        for (place, broker_id) in brokers.iter().enumerate() {
            if let Some(it) = self.brokers.get_mut(broker_id) {
                it.kept = it.kept.saturating_sub(1);
                it.preferred = it.preferred.saturating_sub(usize::from(place == 0));
            }
        }
    }

    /// How many of `brokers` share the rack of this one. Those without a rack share one.
    pub(crate) fn sharing_rack(&self, broker_id: BrokerId, brokers: &[BrokerId]) -> usize {
        let rack = |broker_id: &BrokerId| self.brokers.get(broker_id).map(|it| it.rack);
        let here = rack(&broker_id);
        brokers.iter().filter(|it| rack(it) == here).count()
    }

    /// How many pairs of `brokers` share a rack: the fewer, the better they are spread.
    pub(crate) fn crowding(&self, brokers: &[BrokerId]) -> usize {
        let pairs = brokers
            .iter()
            .enumerate()
            .map(|(place, it)| self.sharing_rack(*it, &brokers[..place]));
        pairs.sum()
    }

    /// Who is to keep a further replica beside those that `brokers` keep: in the rack with the
    /// fewest of them, the one that keeps the least, the next in the order of numbers behind the
    /// first of them.
    pub(crate) fn further(&self, brokers: &[BrokerId]) -> Option<BrokerId> {
        let first = brokers.first().copied().unwrap_or_default();
        let free = self.takers().filter(|it| !brokers.contains(it));
        free.min_by_key(|it| {
            let crowd = self.sharing_rack(*it, brokers);
            (crowd, self.kept(*it), *it < first, *it)
        })
    }
}

/// The replicas' brokers, in the same order.
pub(crate) fn brokers_of(replicas: &[Replica]) -> Vec<BrokerId> {
    replicas.iter().map(|it| it.broker_id).collect()
}

impl Partition {
    /// The brokers that keep it, the preferred leader first.
    pub fn brokers(&self) -> Vec<BrokerId> {
        brokers_of(&self.replicas)
    }
}

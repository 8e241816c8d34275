//! Workers that own what their brokers lead.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::PartitionIndex;
use millstream_protocol::api::group::{MemberKind, NamedPartition};
use millstream_protocol::api::offsets::Position;

use crate::effect::Turn;
use crate::group::Group;
use crate::member::MemberHandle;
use crate::slot::Target;
use crate::topics::{Topic, Topics};

/// The members that consume one topic, by their homes.
struct Hosts<'a> {
    topic: &'a Topic,
    by_home: BTreeMap<u32, (MemberHandle, Position)>,
    /// Where the oldest member starts: where nobody is at home, it is the group's start.
    start: Position,
}

impl<'a> Hosts<'a> {
    /// `None`: no member consumes the topic.
    fn of(group: &Group, topic: &'a Topic) -> Option<Self> {
        let consumers = group.members.iter();
        let mut consumers = consumers
            .filter(|(_, member)| member.topics.contains(&topic.name))
            .peekable();
        let start = consumers.peek()?.1.start;
        // Of two with one home the later one is the newer one.
        let by_home = consumers
            .filter_map(|(handle, member)| Some((member.home?, (*handle, member.start))))
            .collect();
        Some(Self {
            topic,
            by_home,
            start,
        })
    }

    fn target(&self, partition: PartitionIndex) -> Target {
        let leader = self.topic.leader(partition);
        let host = leader.and_then(|leader| self.by_home.get(&leader)).copied();
        Target {
            member: host.map(|(member, _)| member),
            topic_id: self.topic.topic_id,
            start: host.map_or(self.start, |(_, start)| start),
        }
    }
}

impl Group {
    /// Whether partitions go to members by their homes.
    pub(crate) fn is_by_home(&self) -> bool {
        let mut members = self.members.values();
        // All are of one kind, and deployments have a member on each broker and no more.
        members
            .next()
            .is_some_and(|first| first.kind == MemberKind::Worker)
            && self.members.values().any(|member| member.home.is_some())
    }

    /// Who shall own what where it is led.
    pub(crate) fn plan_by_home(&self, topics: &Topics) -> BTreeMap<NamedPartition, Target> {
        let names: BTreeSet<&String> = self
            .members
            .values()
            .flat_map(|member| &member.topics)
            .collect();
        let topics = names.into_iter().filter_map(|name| topics.get(name));
        let mut targets = BTreeMap::new();
        for hosts in topics.filter_map(|topic| Hosts::of(self, topic)) {
            for partition in 0..hosts.topic.partitions {
                let topic = hosts.topic.name.clone();
                targets.insert(NamedPartition { topic, partition }, hosts.target(partition));
            }
        }
        targets
    }

    /// Other brokers lead these partitions from now on.
    pub(crate) fn follow_leaders(
        &mut self,
        topic: &Topic,
        moved: &[PartitionIndex],
        turn: &mut Turn,
    ) {
        if !self.is_by_home() {
            return;
        }
        let Some(hosts) = Hosts::of(self, topic) else {
            return;
        };
        let mut changed = BTreeSet::new();
        for &partition in moved {
            let topic = topic.name.clone();
            let named = NamedPartition { topic, partition };
            let target = Some(hosts.target(partition));
            let slot = self.slots.get_mut(&named);
            if let Some(slot) = slot.filter(|slot| slot.target != target) {
                slot.target = target;
                changed.insert(named);
            }
        }
        if !changed.is_empty() {
            self.next_generation(turn);
            self.settle_these(&changed, turn);
        }
    }
}

//! A group's plan: the assignment function applied to its members and topics.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::api::offsets::Position;

use crate::assign::{Demand, Owners, assign};
use crate::group::Group;
use crate::member::MemberHandle;
use crate::slot::Target;
use crate::topics::{Topic, Topics};

impl Group {
    /// Who shall own what. Partitions that `returning` left behind go back to it where they can.
    pub(crate) fn plan(
        &self,
        topics: &Topics,
        returning: Option<MemberHandle>,
    ) -> BTreeMap<NamedPartition, Target> {
        if self.is_by_home() {
            return self.plan_by_home(topics);
        }
        let indexes = Indexes::new(self, topics);
        let mut current = indexes.nobody();
        for (at, slot) in &self.slots {
            if let Some(member) = slot.target.and_then(|target| target.member) {
                indexes.put(&mut current, at, member);
            }
        }
        let mut preferred = indexes.nobody();
        if let Some((handle, member)) =
            returning.and_then(|handle| self.members.get_key_value(&handle))
        {
            for (at, _) in self
                .departed
                .iter()
                .filter(|(_, departed)| **departed == member.member_name)
            {
                indexes.put(&mut preferred, at, *handle);
            }
        }
        let partitions: Vec<u32> = indexes
            .topics
            .iter()
            .map(|topic| topic.partitions)
            .collect();
        let subscriptions = indexes.subscriptions(self);
        indexes.targets(assign(&Demand {
            partitions: &partitions,
            subscriptions: &subscriptions,
            current: &current,
            preferred: &preferred,
        }))
    }
}

/// The indexes by which the assignment knows topics and members: their ranks in name and join
/// order.
struct Indexes<'a> {
    topics: Vec<&'a Topic>,
    members: Vec<(MemberHandle, Position)>,
}

impl<'a> Indexes<'a> {
    fn new(group: &Group, topics: &'a Topics) -> Self {
        let names: BTreeSet<&String> = group
            .members
            .values()
            .flat_map(|member| &member.topics)
            .collect();
        Self {
            topics: names
                .into_iter()
                .filter_map(|name| topics.get(name))
                .collect(),
            members: group
                .members
                .iter()
                .map(|(handle, member)| (*handle, member.start))
                .collect(),
        }
    }

    fn topic(&self, name: &str) -> Option<usize> {
        self.topics
            .binary_search_by(|topic| topic.name.as_str().cmp(name))
            .ok()
    }

    /// Per member, the topics that it subscribes to and that exist.
    fn subscriptions(&self, group: &Group) -> Vec<BTreeSet<usize>> {
        let members = group.members.values();
        members
            .map(|member| {
                member
                    .topics
                    .iter()
                    .filter_map(|name| self.topic(name))
                    .collect()
            })
            .collect()
    }

    fn nobody(&self) -> Owners {
        self.topics
            .iter()
            .map(|topic| vec![None; topic.partitions as usize])
            .collect()
    }

    /// Writes an owner down. One who is no member any more, or a partition that is of no more
    /// concern, is passed over.
    fn put(&self, owners: &mut Owners, at: &NamedPartition, member: MemberHandle) {
        let row = self
            .topic(&at.topic)
            .and_then(|topic| owners.get_mut(topic));
        if let Some(owner) = row.and_then(|row| row.get_mut(at.partition as usize)) {
            *owner = self
                .members
                .binary_search_by_key(&member, |(handle, _)| *handle)
                .ok();
        }
    }

    fn targets(&self, owners: Owners) -> BTreeMap<NamedPartition, Target> {
        let mut targets = BTreeMap::new();
        for (topic, row) in self.topics.iter().zip(owners) {
            let topic_id = topic.topic_id;
            for (partition, owner) in (0..).zip(row) {
                if let Some(&(member, start)) = owner.and_then(|index| self.members.get(index)) {
                    let topic = topic.name.clone();
                    let target = Target {
                        member: Some(member),
                        topic_id,
                        start,
                    };
                    targets.insert(NamedPartition { topic, partition }, target);
                }
            }
        }
        targets
    }
}

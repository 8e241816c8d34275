//! One group: its members, and the way of every partition to its target.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::api::group::{CoordinatorMessage, Generation, GroupState, NamedPartition};
use millstream_protocol::{Offset, PartitionIndex, TopicId, TopicPartition};

use crate::durable::Durable;
use crate::effect::{ResolvedStart, StartWanted, Turn};
use crate::member::{Member, MemberHandle};
use crate::moves::Moves;
use crate::record::{CommittedOffset, Record};
use crate::slot::{Hold, Slot, Target};
use crate::topics::{Topic, Topics};

/// A group. `durable` is what the log says; all else is gone with the coordinator.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) durable: Durable,
    pub(crate) members: BTreeMap<MemberHandle, Member>,
    pub(crate) slots: BTreeMap<NamedPartition, Slot>,
    /// The names of departed members that last had, or were to have, a partition.
    pub(crate) departed: BTreeMap<NamedPartition, String>,
}

impl Group {
    /// A group of which nothing is known but its name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            durable: Durable::default(),
            members: BTreeMap::new(),
            slots: BTreeMap::new(),
            departed: BTreeMap::new(),
        }
    }

    /// What the group is doing.
    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.slots.values().all(Slot::is_settled) {
            GroupState::Stable
        } else {
            GroupState::Rebalancing
        }
    }

    /// Whether a member consumes the topic of this name.
    pub(crate) fn subscribes(&self, topic: &str) -> bool {
        self.members
            .values()
            .any(|member| member.topics.contains(topic))
    }

    /// Takes in a member and gives it its share.
    pub(crate) fn add_member(
        &mut self,
        handle: MemberHandle,
        member: Member,
        topics: &Topics,
        turn: &mut Turn,
    ) {
        let name = member.member_name.clone();
        let member_id = member.member_id.clone();
        self.members.insert(handle, member);
        let plan = self.plan(topics, Some(handle));
        self.departed.retain(|_, departed| *departed != name);
        self.adopt(plan, turn);

        let generation = self.durable.generation();
        turn.send(
            handle,
            CoordinatorMessage::Joined {
                member_id,
                generation,
            },
        );
        if !self.slots.values().any(|slot| slot.is_meant_for(handle)) {
            turn.send(
                handle,
                CoordinatorMessage::Assign {
                    generation,
                    partitions: Vec::new(),
                },
            );
        }
        self.settle(turn);
    }

    /// Lets a member go: what it had is free at once.
    pub(crate) fn remove_member(&mut self, handle: MemberHandle, topics: &Topics, turn: &mut Turn) {
        let Some(member) = self.members.remove(&handle) else {
            return;
        };
        for (partition, slot) in &mut self.slots {
            if slot.owner().is_some_and(|(owner, _)| owner == handle) {
                slot.hold = Hold::Free;
            }
            // One with a home gets back what its broker leads.
            if member.home.is_none() && slot.is_meant_for(handle) {
                self.departed
                    .insert(partition.clone(), member.member_name.clone());
            }
        }
        self.rebalance(topics, turn);
    }

    /// Shares the partitions anew among the members there are.
    pub(crate) fn rebalance(&mut self, topics: &Topics, turn: &mut Turn) {
        let plan = self.plan(topics, None);
        self.adopt(plan, turn);
        self.settle(turn);
    }

    /// A revoked partition is released by its owner. What was not asked for in `generation` or
    /// before is no answer to a request of ours, and changes nothing.
    pub(crate) fn release(
        &mut self,
        handle: MemberHandle,
        generation: Generation,
        partitions: &[NamedPartition],
        turn: &mut Turn,
    ) {
        let mut released = BTreeSet::new();
        for partition in partitions {
            let Some(slot) = self.slots.get_mut(partition) else {
                continue;
            };
            if matches!(slot.hold, Hold::Revoking { member, asked, .. } if member == handle && asked <= generation)
            {
                slot.hold = Hold::Free;
                released.insert(partition.clone());
            }
        }
        self.settle_these(&released, turn);
    }

    /// The starts that were asked for: each becomes the group's first committed offset, so that
    /// nothing is skipped when its owner dies before it commits.
    pub(crate) fn start(&mut self, starts: Vec<ResolvedStart>, turn: &mut Turn) {
        let mut started = BTreeSet::new();
        for ResolvedStart { wanted, offset } in starts {
            let StartWanted {
                topic,
                topic_id,
                partition,
                position,
            } = wanted;
            let named = NamedPartition { topic, partition };
            let Some(slot) = self.slots.get(&named) else {
                continue;
            };
            if slot.hold == (Hold::Resolving { topic_id, position }) {
                self.commit_start(&named, topic_id, offset, "", turn);
                started.insert(named);
            }
        }
        self.settle_these(&started, turn);
    }

    /// The topic has `topic.partitions` partitions from now on, of which those from `born` on are
    /// new. A group that consumes it begins at their beginning, wherever its members want to start
    /// in what was there before them.
    pub(crate) fn topic_grew(
        &mut self,
        topic: &Topic,
        born: PartitionIndex,
        topics: &Topics,
        turn: &mut Turn,
    ) {
        let subscribes = self.subscribes(&topic.name);
        if !subscribes && self.durable.partitions_of(topic.topic_id).next().is_none() {
            return;
        }
        for partition in born..topic.partitions {
            if self.durable.offset(topic.topic_id, partition).is_none() {
                let named = NamedPartition {
                    topic: topic.name.clone(),
                    partition,
                };
                self.commit_start(&named, topic.topic_id, 0, "", turn);
            }
        }
        if subscribes {
            self.rebalance(topics, turn);
        }
    }

    /// The topic is gone, and so are the group's offsets in it.
    pub(crate) fn topic_deleted(&mut self, topic: &Topic, topics: &Topics, turn: &mut Turn) {
        let partitions: Vec<_> = self.durable.partitions_of(topic.topic_id).collect();
        self.forget(&partitions, turn);
        self.departed
            .retain(|partition, _| partition.topic != topic.name);
        if self.subscribes(&topic.name) {
            self.rebalance(topics, turn);
        }
    }

    /// Forgets committed offsets.
    pub(crate) fn forget(&mut self, partitions: &[TopicPartition], turn: &mut Turn) {
        for &partition in partitions {
            let record = Record::Offset {
                group: self.name.clone(),
                partition,
                committed: None,
            };
            turn.write(&mut self.durable, record);
        }
    }

    /// Commits one offset, whoever may have said so.
    pub(crate) fn commit_offset(
        &mut self,
        topic_id: TopicId,
        partition: PartitionIndex,
        committed: CommittedOffset,
        turn: &mut Turn,
    ) {
        let partition = TopicPartition {
            topic_id,
            partition,
        };
        let record = Record::Offset {
            group: self.name.clone(),
            partition,
            committed: Some(committed),
        };
        turn.write(&mut self.durable, record);
    }

    /// Commits an offset that no consumer has said, with this beside it.
    pub(crate) fn commit_start(
        &mut self,
        named: &NamedPartition,
        topic_id: TopicId,
        offset: Offset,
        metadata: &str,
        turn: &mut Turn,
    ) {
        let committed_at_ms = turn.now_ms();
        let topic = named.topic.clone();
        let committed = CommittedOffset {
            topic,
            offset,
            metadata: metadata.to_owned(),
            committed_at_ms,
        };
        self.commit_offset(topic_id, named.partition, committed, turn);
    }

    /// Raises the generation.
    pub(crate) fn next_generation(&mut self, turn: &mut Turn) {
        // Saturates after 2^32 changes of one group, which is past any group's life.
        let generation = self.durable.generation().saturating_add(1);
        let record = Record::Group {
            group: self.name.clone(),
            generation: Some(generation),
        };
        turn.write(&mut self.durable, record);
    }

    /// Makes `plan` the target, in a new generation if it is another than before.
    fn adopt(&mut self, mut plan: BTreeMap<NamedPartition, Target>, turn: &mut Turn) {
        let mut changed = false;
        for (partition, slot) in &mut self.slots {
            let target = plan.remove(partition);
            changed |= slot.target != target;
            slot.target = target;
        }
        changed |= !plan.is_empty();
        for (partition, target) in plan {
            self.slots.insert(
                partition,
                Slot {
                    target: Some(target),
                    ..Slot::free()
                },
            );
        }
        if changed {
            self.next_generation(turn);
        }
    }

    /// Brings every partition one step nearer to its target.
    fn settle(&mut self, turn: &mut Turn) {
        let mut moves = Moves::default();
        let Self { durable, slots, .. } = self;
        slots.retain(|partition, slot| moves.settle(partition, slot, durable));
        moves.send(&self.name, self.durable.generation(), turn);
    }

    /// Brings some partitions one step nearer to their target.
    pub(crate) fn settle_these(&mut self, partitions: &BTreeSet<NamedPartition>, turn: &mut Turn) {
        let mut moves = Moves::default();
        for partition in partitions {
            let Some(slot) = self.slots.get_mut(partition) else {
                continue;
            };
            if !moves.settle(partition, slot, &self.durable) {
                self.slots.remove(partition);
            }
        }
        moves.send(&self.name, self.durable.generation(), turn);
    }
}

//! What a group's members are told when partitions move.

use std::collections::BTreeMap;

use millstream_protocol::api::group::{
    AssignedPartition, CoordinatorMessage, Generation, NamedPartition,
};

use crate::durable::Durable;
use crate::effect::{StartWanted, Turn};
use crate::limits::PARTITIONS_PER_MESSAGE;
use crate::member::MemberHandle;
use crate::slot::{Slot, Step};

/// Gathers the steps of many partitions, so that a member gets one message for all of its own.
#[derive(Default)]
pub(crate) struct Moves {
    revoked: BTreeMap<MemberHandle, Vec<NamedPartition>>,
    assigned: BTreeMap<MemberHandle, Vec<AssignedPartition>>,
    wanted: Vec<StartWanted>,
}

impl Moves {
    /// Settles one slot. Returns whether it is to be kept.
    pub(crate) fn settle(
        &mut self,
        named: &NamedPartition,
        slot: &mut Slot,
        durable: &Durable,
    ) -> bool {
        let NamedPartition { topic, partition } = named;
        let committed = slot
            .target
            .and_then(|target| durable.offset(target.topic_id, *partition));
        match slot.settle(
            durable.generation(),
            committed.map(|committed| committed.offset),
        ) {
            Step::Stay => {}
            Step::Drop => return false,
            Step::Revoke { member } => self.revoked.entry(member).or_default().push(named.clone()),
            Step::Assign {
                member,
                topic_id,
                offset,
            } => {
                let assigned = AssignedPartition {
                    topic: topic.clone(),
                    topic_id,
                    partition: *partition,
                    offset,
                };
                self.assigned.entry(member).or_default().push(assigned);
            }
            Step::Resolve { target } => {
                let (topic, topic_id, position) = (topic.clone(), target.topic_id, target.start);
                self.wanted.push(StartWanted {
                    topic,
                    topic_id,
                    partition: *partition,
                    position,
                });
            }
        }
        true
    }

    /// Sends what has come together, revocations first.
    pub(crate) fn send(self, group: &str, generation: Generation, turn: &mut Turn) {
        for (member, partitions) in self.revoked {
            for partitions in partitions.chunks(PARTITIONS_PER_MESSAGE) {
                turn.send(
                    member,
                    CoordinatorMessage::Revoke {
                        generation,
                        partitions: partitions.to_vec(),
                    },
                );
            }
        }
        for (member, partitions) in self.assigned {
            for partitions in partitions.chunks(PARTITIONS_PER_MESSAGE) {
                turn.send(
                    member,
                    CoordinatorMessage::Assign {
                        generation,
                        partitions: partitions.to_vec(),
                    },
                );
            }
        }
        turn.resolve(group, self.wanted);
    }
}
